//! Mounts of a container: its volumes, parts of them, and the files every
//! container has.
//!
//! Source: edge-node.md 1.6 (mounts added implicitly) and 1.14.

use std::collections::BTreeMap;

use super::allowance::{Allowance, PATH, PATHS};
use super::expand::expand_with;
use super::{Context, Wait, pod_dir};
use crate::node::runtime::{MountPoint, SubPath};
use crate::wire::cri;
use crate::wire::kube::{Container, Volume, VolumeMount};

/// The mounts, and what has to be bound before they can be.
pub fn mounts(context: &Context<'_>, container: &Container, env: &BTreeMap<&str, &str>) -> Result<(Vec<cri::Mount>, Vec<SubPath>), Wait> {
    let (mut mounts, mut parts) = (Vec::new(), Vec::new());
    let mut room = Allowance::new(PATHS, "bytes of sub paths");
    for (index, (mount, volume)) in volume_mounts(context, container).enumerate() {
        let root = volume_root(context, volume);
        let part = part(container, mount, env)?;
        room.take(part.len(), || format!("spec.containers{{{}}}.volumeMounts[{index}]", container.name))?;
        mounts.push(cri::Mount {
            container_path: if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) },
            host_path: if part.is_empty() { root.clone() } else { String::new() },
            readonly: mount.read_only || is_read_only(volume),
            selinux_relabel: context.facts.selinux && volume.host_path.is_none(),
            propagation: propagation(mount).into(),
            ..Default::default()
        });
        if !part.is_empty() {
            let target = format!("{}/volume-subpaths/{}/{}/{index}", pod_dir(context), volume.name, container.name);
            parts.push(SubPath { mount: mounts.len() - 1, volume: volume.name.clone(), root, path: part, target });
        }
    }
    Ok((mounts, parts))
}

/// A container's mounts of volumes that the pod has.
fn volume_mounts<'a>(context: &Context<'a>, container: &'a Container) -> impl Iterator<Item = (&'a VolumeMount, &'a Volume)> {
    let volumes = &context.pod.spec.volumes;
    let with_volume = move |mount: &'a VolumeMount| Some((mount, volumes.iter().find(|volume| volume.name == mount.name)?));
    container.volume_mounts.iter().filter_map(with_volume)
}

/// The agent alone writes ConfigMaps, secrets, downwardAPI and projected
/// volumes, whatever the mount says: it could be led astray by what a container
/// puts there.
///
/// Source: kubernetes.io/docs/concepts/storage/volumes, and CVE-2017-1002102.
fn is_read_only(volume: &Volume) -> bool {
    volume.host_path.is_none() && volume.empty_dir.is_none()
}

/// Where a mount lies within a volume of the pod that is read-only: the runtime
/// cannot make the mount point there. On the machine's own paths nothing is
/// made.
pub fn mount_points(context: &Context<'_>, container: &Container, mounts: &[cri::Mount]) -> Vec<MountPoint> {
    let paths: Vec<Vec<&str>> = mounts.iter().map(|mount| steps(&mount.container_path)).collect();
    let is_owned: Vec<bool> = volume_mounts(context, container).map(|(_, volume)| volume.host_path.is_none()).collect();
    let point = |(mount, path): (usize, &Vec<&str>)| {
        let around = paths.iter().enumerate().filter(|(_, around)| around.len() < path.len() && path.starts_with(around));
        let (volume, around) = around.max_by_key(|(_, around)| around.len())?;
        let is_ours = is_owned.get(volume) == Some(&true) && mounts[volume].readonly;
        is_ours.then(|| MountPoint { mount, volume, path: path[around.len()..].join("/") })
    };
    paths.iter().enumerate().filter_map(point).collect()
}

/// The names of an absolute path.
fn steps(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        if name == ".." {
            names.pop();
        } else {
            names.push(name);
        }
    }
    names
}

/// Where a volume is on the node.
fn volume_root(context: &Context<'_>, volume: &Volume) -> String {
    if let Some(host) = &volume.host_path {
        return host.path.clone();
    }
    let plugin = if volume.empty_dir.is_some() {
        "kubernetes.io~empty-dir"
    } else if volume.config_map.is_some() {
        "kubernetes.io~configmap"
    } else if volume.secret.is_some() {
        "kubernetes.io~secret"
    } else if volume.downward_api.is_some() {
        "kubernetes.io~downward-api"
    } else {
        "kubernetes.io~projected"
    };
    format!("{}/volumes/{plugin}/{}", pod_dir(context), volume.name)
}

/// `subPath`, or `subPathExpr` with its variables, which must all be known.
fn part(container: &Container, mount: &VolumeMount, env: &BTreeMap<&str, &str>) -> Result<String, Wait> {
    let bad = |why: String| {
        let place = format!("volumeMount \"{}\" of container \"{}\"", mount.name, container.name);
        Err(Wait::Missing(format!("failed to prepare subPath for {place}: {why}")))
    };
    let part = if mount.sub_path_expr.is_empty() {
        mount.sub_path.clone()
    } else {
        let value = |name: &str| env.get(name).copied().filter(|value| !value.is_empty());
        let Ok((text, unknown)) = expand_with(&mount.sub_path_expr, PATH, value) else {
            return bad(format!("subPathExpr: a path of more than {PATH} bytes"));
        };
        if !unknown.is_empty() {
            return bad(format!("subPathExpr: missing value for {}", unknown.join(", ")));
        }
        text
    };
    if part.starts_with('/') || part.contains('`') || part.split('/').any(|step| step == "..") {
        return bad(format!("subPath \"{part}\" must be a relative path without '..'"));
    }
    Ok(part)
}

fn propagation(mount: &VolumeMount) -> cri::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => cri::MountPropagation::HostToContainer,
        Some("Bidirectional") => cri::MountPropagation::Bidirectional,
        Some(_) | None => cri::MountPropagation::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::machine::Facts;
    use crate::node::pod::render::tests::rendering;
    use crate::wire::kube::{Pod, read};

    /// Mounts of the only container, and mount points: path inside, path within
    /// the volume around it.
    fn rendered(volumes: &str, volume_mounts: &str) -> (Vec<cri::Mount>, Vec<(String, String)>) {
        let text = format!(r#"{{"spec":{{"volumes":{volumes},"containers":[{{"name":"c","volumeMounts":{volume_mounts}}}]}}}}"#);
        let pod: Pod = read(&text).expect("a pod");
        let container = &pod.spec.containers[0];
        let (mounts, points) = rendering(
            &pod,
            &Facts::default(),
            |_| (),
            |context| {
                let (mounts, _) = mounts(context, container, &BTreeMap::new()).expect("no variables");
                let points = mount_points(context, container, &mounts);
                (mounts, points)
            },
        );
        let inside = |mount: &cri::Mount| mount.container_path.clone();
        let points = points.into_iter().map(|point| (inside(&mounts[point.mount]), point.path)).collect();
        (mounts, points)
    }

    #[test]
    fn volumes_that_the_agent_writes_are_read_only_whatever_the_manifest_says() {
        let volumes = r#"[{"name":"cm","configMap":{"name":"x"}},{"name":"s","secret":{"secretName":"x"}},{"name":"d","downwardAPI":{}},
            {"name":"p","projected":{"sources":[]}},{"name":"e","emptyDir":{}},{"name":"h","hostPath":{"path":"/x"}}]"#;
        let mounts = r#"[{"name":"cm","mountPath":"/cm","readOnly":false},{"name":"cm","mountPath":"/part","subPath":"a"},{"name":"s","mountPath":"/s"},
            {"name":"d","mountPath":"/d"},{"name":"p","mountPath":"/p"},{"name":"e","mountPath":"/e"},{"name":"h","mountPath":"/h"}]"#;
        let (mounts, points) = rendered(volumes, mounts);
        let read_only: Vec<_> = mounts.iter().map(|mount| (mount.container_path.as_str(), mount.readonly)).collect();
        assert_eq!(read_only, [("/cm", true), ("/part", true), ("/s", true), ("/d", true), ("/p", true), ("/e", false), ("/h", false)]);
        assert!(points.is_empty());
    }

    #[test]
    fn a_mount_point_is_made_only_where_the_runtime_cannot() {
        let volumes = r#"[{"name":"cm","configMap":{"name":"x"}},{"name":"e","emptyDir":{}},{"name":"h","hostPath":{"path":"/x"}}]"#;
        let points = |mounts: &str| {
            let (_, points) = rendered(volumes, mounts);
            points.into_iter().map(|(path, within)| format!("{path}: {within}")).collect::<Vec<_>>()
        };
        let inner_first = r#"[{"name":"e","mountPath":"/etc/mesh/a/b/"},{"name":"unknown","mountPath":"/x"},{"name":"cm","mountPath":"/etc/mesh"}]"#;
        assert_eq!(points(inner_first), ["/etc/mesh/a/b/: a/b"]);
        let beside = r#"[{"name":"cm","mountPath":"/etc/mesh"},{"name":"e","mountPath":"/etc/meshes"},{"name":"e","mountPath":"/etc/mesh/"}]"#;
        assert!(points(beside).is_empty());
        let writable = r#"[{"name":"e","mountPath":"/e"},{"name":"cm","mountPath":"/e/in"},{"name":"h","mountPath":"/h","readOnly":true},{"name":"cm","mountPath":"/h/in"}]"#;
        assert!(points(writable).is_empty());
        let read_only = r#"[{"name":"e","mountPath":"/e","readOnly":true},{"name":"cm","mountPath":"//e/./in"}]"#;
        assert_eq!(points(read_only), ["//e/./in: in"]);
        let nearest = r#"[{"name":"cm","mountPath":"/a"},{"name":"e","mountPath":"/a/b"},{"name":"h","mountPath":"/a/b/c"}]"#;
        assert_eq!(points(nearest), ["/a/b: b"]);
    }
}
