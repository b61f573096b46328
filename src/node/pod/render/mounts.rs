//! Mounts of a container: its volumes, parts of them, and the files every
//! container has.
//!
//! Source: edge-node.md 1.6 (mounts added implicitly) and 1.14.

use std::collections::BTreeMap;

use super::expand::expand_with;
use super::{Context, Wait, pod_dir};
use crate::node::runtime::SubPath;
use crate::wire::cri;
use crate::wire::kube::{Container, Volume, VolumeMount};

/// The mounts, and what has to be bound before they can be.
pub fn mounts(context: &Context<'_>, container: &Container, env: &BTreeMap<String, String>) -> Result<(Vec<cri::Mount>, Vec<SubPath>), Wait> {
    let (mut mounts, mut parts) = (Vec::new(), Vec::new());
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let Some(volume) = context.pod.spec.volumes.iter().find(|volume| volume.name == mount.name) else { continue };
        let root = volume_root(context, volume);
        let part = part(mount, env)?;
        mounts.push(cri::Mount {
            container_path: if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) },
            host_path: if part.is_empty() { root.clone() } else { String::new() },
            readonly: mount.read_only,
            propagation: propagation(mount).into(),
            ..Default::default()
        });
        if !part.is_empty() {
            let target = format!("{}/volume-subpaths/{}/{}/{index}", pod_dir(context), volume.name, container.name);
            parts.push(SubPath { mount: mounts.len() - 1, root, path: part, target });
        }
    }
    Ok((mounts, parts))
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
fn part(mount: &VolumeMount, env: &BTreeMap<String, String>) -> Result<String, Wait> {
    let bad = |why: String| Err(Wait::Missing(format!("failed to expand subPathExpr for volume \"{}\": {why}", mount.name)));
    let part = if mount.sub_path_expr.is_empty() {
        mount.sub_path.clone()
    } else {
        let (text, unknown) = expand_with(&mount.sub_path_expr, |name| env.get(name).filter(|value| !value.is_empty()).cloned());
        if !unknown.is_empty() {
            return bad(format!("missing value for {}", unknown.join(", ")));
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
