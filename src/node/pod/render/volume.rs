//! Volumes of a pod: what must be where, with which content.
//!
//! Source: edge-node.md 1.14.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::allowance::{Allowance, FILES, TOKENS};
use super::env::field_value;
use super::needs::{has_too_many_tokens, token_request};
use super::once::Once;
use super::resource_field::resource_field;
use super::resources::{cgroup, memory_limit};
use super::sandbox::log_directory;
use super::{Context, Wait};
use crate::node::allocatable::Allocatable;
use crate::node::runtime::{File, Prepare, VolumeSetup, VolumeSource};
use crate::wire::kube::{DownwardItem, KeyToPath, Projection, TokenProjection, Volume};
use crate::wire::quantity::Quantity;

/// The files of a volume, while it is put together.
struct Files<'a> {
    files: BTreeMap<String, File>,
    room: &'a mut Allowance,
}

impl Files<'_> {
    fn put(&mut self, path: &str, content: Cow<'_, [u8]>, mode: u32, owner: Option<u32>) -> Result<(), Wait> {
        self.room.take(content.len(), || format!("file \"{path}\""))?;
        self.files.insert(path.to_owned(), File { content: content.into_owned(), mode, owner });
        Ok(())
    }
}

/// Mode of files nobody gave one.
const MODE: u32 = 0o644;

/// Everything a pod must have before it runs.
pub fn prepare(context: &Context<'_>) -> Result<Prepare, Wait> {
    let once = Once::new(context.sources);
    let context = &Context { sources: &once, ..*context };
    if has_too_many_tokens(context.pod) {
        return Err(Wait::Missing(format!("spec.volumes: more than {TOKENS} service account tokens of a pod")));
    }
    let mut room = Allowance::new(FILES, "bytes of files in the volumes of a pod");
    let volumes = &context.pod.spec.volumes;
    let volumes = volumes.iter().filter_map(|volume| setup(context, volume, &mut room).transpose()).collect::<Result<_, _>>()?;
    Ok(Prepare { logs: log_directory(context.config, context.pod), cgroup: cgroup(context), volumes })
}

fn setup(context: &Context<'_>, volume: &Volume, room: &mut Allowance) -> Result<Option<VolumeSetup>, Wait> {
    let of_volume = |wait| match wait {
        Wait::Missing(why) => Wait::Missing(format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name)),
        Wait::Unknown(what) => Wait::Unknown(what),
    };
    let Some(source) = source(context, volume, room).map_err(of_volume)? else { return Ok(None) };
    let owned = !matches!(source, VolumeSource::HostPath { .. });
    let fs_group = context.pod.spec.security_context.fs_group.filter(|_| owned).and_then(|group| u32::try_from(group).ok());
    Ok(Some(VolumeSetup { name: volume.name.clone(), source, fs_group }))
}

fn source(context: &Context<'_>, volume: &Volume, room: &mut Allowance) -> Result<Option<VolumeSource>, Wait> {
    if let Some(empty) = &volume.empty_dir {
        return Ok(Some(VolumeSource::EmptyDir { memory: (empty.medium == "Memory").then(|| memory_size(context, empty.size_limit)) }));
    }
    if let Some(path) = &volume.host_path {
        let within = writable_around(context, &path.path);
        return Ok(Some(VolumeSource::HostPath { path: path.path.clone(), kind: path.kind, within }));
    }
    let mut files = Files { files: BTreeMap::new(), room };
    let (plugin, secret) = if let Some(map) = &volume.config_map {
        config_map(context, &map.name, &map.items, map.default_mode, map.optional, &mut files)?;
        ("kubernetes.io~configmap", false)
    } else if let Some(secret) = &volume.secret {
        secret_files(context, &secret.secret_name, &secret.items, secret.default_mode, secret.optional, &mut files)?;
        ("kubernetes.io~secret", true)
    } else if let Some(downward) = &volume.downward_api {
        downward_files(context, &downward.items, downward.default_mode, &mut files)?;
        ("kubernetes.io~downward-api", false)
    } else if let Some(projected) = &volume.projected {
        for source in &projected.sources {
            projection(context, source, projected.default_mode, &mut files)?;
        }
        ("kubernetes.io~projected", true)
    } else {
        return Ok(None);
    };
    Ok(Some(VolumeSource::Files { plugin, files: files.files, secret }))
}

/// The innermost hostPath of the pod around a path in which a container may
/// write.
fn writable_around(context: &Context<'_>, path: &str) -> Option<String> {
    let pod = context.pod;
    let is_written = |volume: &Volume| {
        let mut mounts = pod.all_containers().flat_map(|container| &container.volume_mounts);
        mounts.any(|mount| mount.name == volume.name && !mount.read_only)
    };
    let paths = pod.spec.volumes.iter().filter_map(|volume| Some((volume, volume.host_path.as_ref()?)));
    let around = paths.filter(|(volume, around)| {
        let is_around = Path::new(path) != Path::new(&around.path) && Path::new(path).starts_with(&around.path);
        is_around && is_written(volume)
    });
    around.map(|(_, around)| around.path.clone()).max_by_key(String::len)
}

/// No larger than what pods may have of the node, nor than the pod's limit.
fn memory_size(context: &Context<'_>, limit: Option<Quantity>) -> u64 {
    let all = Allocatable::new(context.facts, context.config).memory;
    let own = limit.filter(|limit| !limit.is_zero()).map_or(all, Quantity::units);
    u64::try_from(memory_limit(context.pod).unwrap_or(all).min(own).min(all)).unwrap_or(0)
}

fn projection(context: &Context<'_>, source: &Projection, mode: Option<u32>, files: &mut Files<'_>) -> Result<(), Wait> {
    if let Some(map) = &source.config_map {
        config_map(context, &map.name, &map.items, mode, map.optional, files)?;
    }
    if let Some(secret) = &source.secret {
        secret_files(context, &secret.name, &secret.items, mode, secret.optional, files)?;
    }
    if let Some(downward) = &source.downward_api {
        downward_files(context, &downward.items, mode, files)?;
    }
    if let Some(token) = &source.service_account_token {
        token_file(context, token, mode, files)?;
    }
    Ok(())
}

fn config_map(context: &Context<'_>, name: &str, items: &[KeyToPath], mode: Option<u32>, optional: bool, files: &mut Files<'_>) -> Result<(), Wait> {
    let map = context.sources.config_map(&context.pod.metadata.namespace, name).get(|| format!("configmap \"{name}\""), optional)?.unwrap_or_default();
    let keys = map.data.keys().chain(map.binary_data.keys().filter(|key| !map.data.contains_key(*key)));
    let content = |key: &str| match map.binary_data.get(key) {
        Some(value) => Some(Cow::Owned(STANDARD.decode(value).unwrap_or_default())),
        None => map.data.get(key).map(|value| Cow::Borrowed(value.as_bytes())),
    };
    select("config", keys, content, items, mode, optional, files)
}

fn secret_files(context: &Context<'_>, name: &str, items: &[KeyToPath], mode: Option<u32>, optional: bool, files: &mut Files<'_>) -> Result<(), Wait> {
    let secret = context.sources.secret(&context.pod.metadata.namespace, name).get(|| format!("secret \"{name}\""), optional)?.unwrap_or_default();
    let content = |key: &str| secret.data.get(key).map(|value| Cow::Owned(STANDARD.decode(value).unwrap_or_default()));
    select("secret", secret.data.keys(), content, items, mode, optional, files)
}

/// All keys, or those asked for.
fn select<'a>(
    kind: &str,
    keys: impl Iterator<Item = &'a String>,
    content: impl Fn(&str) -> Option<Cow<'a, [u8]>>,
    items: &[KeyToPath],
    mode: Option<u32>,
    optional: bool,
    files: &mut Files<'_>,
) -> Result<(), Wait> {
    let default = mode.unwrap_or(MODE);
    if items.is_empty() {
        for key in keys {
            files.put(key, content(key).unwrap_or_default(), default, None)?;
        }
        return Ok(());
    }
    for item in items {
        match content(&item.key) {
            Some(bytes) => files.put(&item.path, bytes, item.mode.unwrap_or(default), None)?,
            None if optional => {}
            None => return Err(Wait::Missing(format!("references non-existent {kind} key: {}", item.key))),
        }
    }
    Ok(())
}

fn downward_files(context: &Context<'_>, items: &[DownwardItem], mode: Option<u32>, files: &mut Files<'_>) -> Result<(), Wait> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(context, field).map_err(Wait::Missing)?
        } else if let Some(reference) = &item.resource_field_ref {
            let container = context.pod.container(&reference.container_name);
            let container = container.ok_or_else(|| Wait::Missing(format!("container {} not found", reference.container_name)))?;
            resource_field(context, container, reference).map_err(Wait::Missing)?
        } else {
            String::new()
        };
        files.put(&item.path, text.into_bytes().into(), item.mode.or(mode).unwrap_or(MODE), None)?;
    }
    Ok(())
}

/// A token is readable by its pod only: when all containers run as one user it
/// is that user's, 0600.
fn token_file(context: &Context<'_>, token: &TokenProjection, mode: Option<u32>, files: &mut Files<'_>) -> Result<(), Wait> {
    let pod = context.pod;
    let request = token_request(pod, &token.audience, token.expiration_seconds);
    let content = context.sources.token(&request).get(|| format!("token of service account \"{}\"", request.account), false)?.unwrap_or_default();
    let users: Vec<Option<i64>> = pod
        .spec
        .init_containers
        .iter()
        .chain(&pod.spec.containers)
        .map(|container| container.security_context.run_as_user.or(pod.spec.security_context.run_as_user))
        .collect();
    let one = users.first().copied().flatten().filter(|first| users.iter().all(|user| *user == Some(*first)));
    let owner = one.and_then(|user| u32::try_from(user).ok());
    let private = owner.is_some() || pod.spec.security_context.fs_group.is_some();
    let mode = if private { 0o600 } else { mode.unwrap_or(MODE) };
    files.put(&token.path, content.into_bytes().into(), mode, owner)
}
