//! What pods use of the machine, when the node asks. Not whether it is too much.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Shell, seen, volumes};
use crate::node::ids::{PodKey, PodUid};
use crate::node::input::Input;
use crate::node::pod::render::log_directory_of;
use crate::node::runtime::{ContainerUsage, PodUsage};
use crate::wire::cri::{ContainerStats, ListContainerStatsRequest};

/// A block, whatever the file system's own is.
const BLOCK: u64 = 512;

/// Looks at pods and tells; what cannot be read counts for nothing.
pub(super) async fn measure(shell: &Shell, pods: Vec<(PodUid, PodKey)>) {
    let stats = match shell.client.list_container_stats(&ListContainerStatsRequest {}).await {
        Ok(answer) => answer.stats,
        Err(cause) => {
            shell.odd("cannot read what containers use", &cause);
            Vec::new()
        }
    };
    let (root, logs) = (shell.config.root.clone(), shell.config.pod_logs.clone());
    let on_disk = move || pods.iter().map(|(uid, key)| on_disk(&root, &logs, uid, key)).collect::<Vec<_>>();
    let mut pods = shell.on_disk(on_disk).await;
    for container in stats {
        add(&mut pods, &container);
    }
    shell.tell(Input::Usage(pods)).await;
}

/// What a pod has in directories of the node.
fn on_disk(root: &Path, logs: &Path, uid: &PodUid, key: &PodKey) -> PodUsage {
    let volumes = sizes_in(&volumes::empty_dirs(root, uid.as_str()));
    let logs = sizes_in(Path::new(&log_directory_of(logs, &key.namespace, &key.name, uid.as_str())));
    let containers = logs.into_iter().map(|(name, disk)| (name, ContainerUsage { memory: 0, disk })).collect();
    PodUsage { pod: uid.clone(), containers, volumes }
}

/// And what the runtime says of a container.
fn add(pods: &mut [PodUsage], stats: &ContainerStats) {
    let Some((pod, name)) = stats.attributes.as_ref().and_then(|attributes| seen::owner(&attributes.labels)) else { return };
    let Some(pod) = pods.iter_mut().find(|known| known.pod.as_str() == pod) else { return };
    let usage = pod.containers.entry(name.to_owned()).or_default();
    usage.memory += stats.memory.and_then(|memory| memory.working_set_bytes).map_or(0, |bytes| bytes.value);
    usage.disk += stats.writable_layer.as_ref().and_then(|layer| layer.used_bytes).map_or(0, |bytes| bytes.value);
}

/// The directories in a directory and what each holds; none when there is none.
fn sizes_in(dir: &Path) -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    let one = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, size(entry.path()).unwrap_or(0)));
    entries.flatten().filter_map(one).collect()
}

/// Bytes a tree takes on its file system, as `du -x` counts them.
fn size(tree: PathBuf) -> io::Result<u64> {
    let device = fs::symlink_metadata(tree.parent().unwrap_or(&tree))?.dev();
    let (mut total, mut linked, mut open) = (0, HashSet::new(), vec![tree]);
    while let Some(path) = open.pop() {
        // What goes away meanwhile takes nothing.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.dev() != device || meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino()) {
            continue;
        }
        total += meta.blocks() * BLOCK;
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cri::{ContainerAttributes, FilesystemUsage, MemoryUsage, UInt64Value};

    #[test]
    fn a_tree_is_measured_once_and_links_lead_nowhere() {
        let dir = std::env::temp_dir().join(format!("selvedge-usage-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("a/deep")).expect("room");
        fs::write(dir.join("a/deep/file"), vec![7; 256 << 10]).expect("room");
        fs::hard_link(dir.join("a/deep/file"), dir.join("a/again")).expect("room");
        std::os::unix::fs::symlink("/proc", dir.join("a/away")).expect("room");
        fs::create_dir_all(dir.join("b")).expect("room");
        let sizes = sizes_in(&dir);
        assert!((256 << 10..400 << 10).contains(&sizes["a"]) && sizes["b"] < 64 << 10, "{sizes:?}");
        assert!(sizes_in(&dir.join("none")).is_empty());
        fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    fn layers_and_logs_of_a_container_are_one() {
        let labels = [("io.kubernetes.pod.uid", "u"), ("io.kubernetes.container.name", "c")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let stats = ContainerStats {
            attributes: Some(ContainerAttributes { id: "x".into(), labels: labels.into() }),
            memory: Some(MemoryUsage { working_set_bytes: Some(UInt64Value { value: 5 }) }),
            writable_layer: Some(FilesystemUsage { used_bytes: Some(UInt64Value { value: 7 }), ..Default::default() }),
        };
        let logs = BTreeMap::from([("c".to_owned(), ContainerUsage { memory: 0, disk: 30 })]);
        let mut pods = [PodUsage { pod: PodUid::from("u"), containers: logs, volumes: BTreeMap::new() }];
        add(&mut pods, &stats);
        assert_eq!(pods[0].containers["c"], ContainerUsage { memory: 5, disk: 37 });
    }
}
