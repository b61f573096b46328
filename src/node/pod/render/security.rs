//! Security contexts, the container's over the pod's.
//!
//! Source: edge-node.md 1.13.

use super::Context;
use crate::node::runtime::Image;
use crate::wire::cri;
use crate::wire::kube::{Container, Pod, SeccompProfile};

/// Hidden from containers unless they ask for an unmasked /proc.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Not to be written by containers.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which namespaces are the pod's own.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let mode = |host: bool, otherwise: cri::NamespaceMode| if host { cri::NamespaceMode::Node } else { otherwise };
    let pid = if pod.spec.share_process_namespace { cri::NamespaceMode::Pod } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: mode(pod.spec.host_network, cri::NamespaceMode::Pod).into(),
        pid: mode(pod.spec.host_pid, pid).into(),
        ipc: mode(pod.spec.host_ipc, cri::NamespaceMode::Pod).into(),
        target_id: String::new(),
    }
}

/// Security of the sandbox.
pub fn sandbox(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let context = &pod.spec.security_context;
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.run_as_user.map(|value| cri::Int64Value { value }),
        run_as_group: context.run_as_user.and(context.run_as_group).map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(pod),
        privileged: pod.all_containers().any(|container| container.security_context.privileged),
        seccomp: Some(cri::SecurityProfile { profile_type: cri::ProfileType::RuntimeDefault.into(), localhost_ref: String::new() }),
        ..Default::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    pod.spec.security_context.fs_group.into_iter().chain(pod.spec.security_context.supplemental_groups.iter().copied()).collect()
}

/// Security of a container; the image's user when nobody names one.
pub fn container(context: &Context<'_>, spec: &Container, image: &Image) -> Result<cri::LinuxContainerSecurityContext, String> {
    let (pod, own) = (context.pod, &spec.security_context);
    let shared = &pod.spec.security_context;
    let user = own.run_as_user.or(shared.run_as_user);
    not_root(context, spec, user, image)?;
    let uid = user.or(image.uid);
    let group = own.run_as_group.or(shared.run_as_group);
    let unmasked = own.privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability { add_capabilities: own.capabilities.add.clone(), drop_capabilities: own.capabilities.drop.clone() }),
        privileged: own.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: uid.map(|value| cri::Int64Value { value }),
        run_as_username: if uid.is_none() { image.username.clone() } else { String::new() },
        run_as_group: group.filter(|_| uid.is_some() || !image.username.is_empty()).map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem,
        supplemental_groups: groups(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READONLY),
        seccomp: Some(seccomp(context, own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref()))),
        ..Default::default()
    })
}

fn not_root(context: &Context<'_>, spec: &Container, user: Option<i64>, image: &Image) -> Result<(), String> {
    let pod = context.pod;
    if spec.security_context.run_as_non_root.or(pod.spec.security_context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let whose = format!("(pod: \"{}_{}({})\", container: {})", pod.metadata.name, pod.metadata.namespace, context.uid, spec.name);
    match (user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whose}")),
        (Some(_), _) => Ok(()),
        (None, None) if !image.username.is_empty() => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {whose}", image.username))
        }
        (None, None | Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, Some(_)) => Ok(()),
    }
}

fn seccomp(context: &Context<'_>, profile: Option<&SeccompProfile>) -> cri::SecurityProfile {
    let (kind, localhost_ref) = match profile.map(|profile| profile.kind.as_str()) {
        Some("RuntimeDefault") => (cri::ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.map_or("", |profile| &profile.localhost_profile);
            (cri::ProfileType::Localhost, format!("{}/seccomp/{file}", context.config.root.display()))
        }
        Some(_) | None => (cri::ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}
