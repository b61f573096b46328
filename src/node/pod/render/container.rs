//! One container, ready to be created.
//!
//! Source: edge-node.md 1.6, ContainerConfig and the table of labels and
//! annotations.

use std::collections::BTreeMap;

use serde_json::json;

use super::allowance::{Allowance, PROCESS};
use super::env::environment;
use super::expand::expand;
use super::mounts::{mount_points, mounts};
use super::once::Once;
use super::{Context, Wait, names, pod_dir, resources, sandbox, security};
use crate::node::runtime::{Image, MountPoint, SubPath};
use crate::wire::cri;
use crate::wire::kube::Container;

/// A container, and the files that must be there before it is created.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The container.
    pub config: cri::ContainerConfig,
    /// Path and content of a managed /etc/hosts.
    pub hosts: Option<(String, String)>,
    /// File for the last words.
    pub termination_log: String,
    /// Parts of volumes to bind.
    pub sub_paths: Vec<SubPath>,
    /// Places within volumes to have ready.
    pub mount_points: Vec<MountPoint>,
}

/// Renders a container for its nth start.
pub fn container(context: &Context<'_>, spec: &Container, restarts: u32, image: &Image) -> Result<Rendered, Wait> {
    let once = Once::new(context.sources);
    let context = &Context { sources: &once, ..*context };
    let mut room = Allowance::new(PROCESS, "bytes of arguments and environment");
    let env = environment(context, spec, &mut room)?;
    let known: BTreeMap<&str, &str> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (mut mounts, sub_paths) = mounts(context, spec, &known)?;
    let hosts = hosts(context, spec);
    if let Some((path, _)) = &hosts {
        mounts.push(own_file(context, "/etc/hosts", path));
    }
    let termination_log = format!("{}/containers/{}/{:08x}", pod_dir(context), spec.name, restarts);
    mounts.push(own_file(context, termination_path(spec), &termination_log));
    let mount_points = mount_points(context, spec, &mounts);
    let mut expanded = |field: &str, list: &[String]| -> Result<Vec<String>, Wait> {
        let one = |(index, text): (usize, &String)| {
            let field = || format!("spec.containers{{{}}}.{field}[{index}]", spec.name);
            let text = expand(text, room.left(), |name| known.get(name).copied()).map_err(|_| room.exceeded(field))?;
            room.take(text.len() + 1, field)?;
            Ok(text)
        };
        list.iter().enumerate().map(one).collect()
    };
    let (command, args) = (expanded("command", &spec.command)?, expanded("args", &spec.args)?);
    let config = cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: spec.name.clone(), attempt: restarts }),
        image: Some(cri::ImageSpec { image: image.reference.clone(), user_specified_image: spec.image.clone(), ..Default::default() }),
        command,
        args,
        working_dir: spec.working_dir.clone(),
        envs: env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts,
        labels: sandbox::identity(context)
            .into_iter()
            .chain([("io.kubernetes.container.name", spec.name.clone())])
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
        annotations: annotations(context, spec, restarts),
        log_path: format!("{}/{restarts}.log", spec.name),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::container_resources(context, spec)),
            security_context: Some(security::container(context, spec, image).map_err(Wait::Missing)?),
        }),
    };
    Ok(Rendered { config, hosts, termination_log, sub_paths, mount_points })
}

/// A file that the agent keeps for the container.
fn own_file(context: &Context<'_>, inside: &str, path: &str) -> cri::Mount {
    cri::Mount { container_path: inside.to_owned(), host_path: path.to_owned(), selinux_relabel: context.facts.selinux, ..Default::default() }
}

fn termination_path(spec: &Container) -> &str {
    spec.termination_message_path.as_deref().unwrap_or("/dev/termination-log")
}

/// A managed /etc/hosts, unless the pod brings its own.
fn hosts(context: &Context<'_>, spec: &Container) -> Option<(String, String)> {
    let own = spec.volume_mounts.iter().any(|mount| mount.mount_path == "/etc/hosts");
    (!own).then(|| (format!("{}/etc-hosts", pod_dir(context)), names::hosts(context)))
}

fn annotations(context: &Context<'_>, spec: &Container, restarts: u32) -> BTreeMap<String, String> {
    let pod = context.pod;
    let mut annotations = BTreeMap::from([
        ("io.kubernetes.container.hash".to_owned(), container_hash(spec)),
        ("io.kubernetes.container.restartCount".to_owned(), restarts.to_string()),
        ("io.kubernetes.container.terminationMessagePath".to_owned(), termination_path(spec).to_owned()),
        ("io.kubernetes.container.terminationMessagePolicy".to_owned(), spec.termination_message_policy.clone().unwrap_or_else(|| "File".to_owned())),
        ("io.kubernetes.pod.terminationGracePeriod".to_owned(), pod.spec.termination_grace_period_seconds.unwrap_or(30).to_string()),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        annotations.insert("io.kubernetes.pod.deletionGracePeriod".to_owned(), grace.to_string());
    }
    if let Some(exec) = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()).and_then(|hook| hook.exec.as_ref()) {
        annotations.insert("io.kubernetes.container.preStopHandler".to_owned(), json!({ "exec": { "command": exec.command } }).to_string());
    }
    if !spec.ports.is_empty() {
        let ports: Vec<_> = spec
            .ports
            .iter()
            .map(|port| json!({ "name": port.name, "containerPort": port.container_port, "hostPort": port.host_port, "protocol": port.protocol }))
            .collect();
        annotations.insert("io.kubernetes.container.ports".to_owned(), json!(ports).to_string());
    }
    annotations
}

/// The hash kubelet gives a container: 32-bit FNV-1a over the printed bytes of
/// its name and image as JSON, so that either agent recognises the other's.
pub fn container_hash(container: &Container) -> String {
    let escape = |text: &str| json!(text).to_string();
    let compact = format!("{{\"image\":{},\"name\":{}}}", escape(&container.image), escape(&container.name));
    let bytes: Vec<String> = compact.bytes().map(|byte| byte.to_string()).collect();
    let text = format!("([]uint8)[{}]", bytes.join(" "));
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kubelets() {
        let container = Container { name: "web".into(), image: "nginx:1.27".into(), ..Container::default() };
        assert_eq!(container_hash(&container), "e220f96");
    }
}
