//! What pods use of the machine, when the node asks. Not whether it is too much.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::fs::FileType;

use super::{Shell, seen, volumes};
use crate::host::beneath::Dir;
use crate::node::ids::{PodKey, PodUid};
use crate::node::input::Input;
use crate::node::pod::render::log_directory_of;
use crate::node::runtime::{ContainerUsage, PodUsage};
use crate::wire::cri::{ContainerStats, ListContainerStatsRequest};

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
    let volumes = sizes_in(root, &volumes::empty_dirs(root, uid.as_str()));
    let pod_logs = log_directory_of(logs, &key.namespace, &key.name, uid.as_str());
    let logs = sizes_in(logs, Path::new(&pod_logs));
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
/// What another file system holds, a tmpfs, takes nothing of this one.
fn sizes_in(base: &Path, path: &Path) -> BTreeMap<String, u64> {
    let all = Dir::open(base).and_then(|base| base.dir(path.strip_prefix(base.path()).unwrap_or(path)));
    let Ok(all) = all else { return BTreeMap::new() };
    let names = all.entries().unwrap_or_default().into_iter();
    let dirs = names.filter(|(_, kind)| *kind == FileType::Directory);
    dirs.filter_map(|(name, _)| Some((name.to_str()?.to_owned(), size(&all, Path::new(&name))))).collect()
}

fn size(all: &Dir, name: &Path) -> u64 {
    let Ok(dir) = all.dir(name) else { return 0 };
    let own = dir.device().ok() == all.device().ok();
    if own { dir.size() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::wire::cri::{ContainerAttributes, FilesystemUsage, MemoryUsage, UInt64Value};

    #[test]
    fn directories_are_measured_and_links_are_none() {
        let base = std::env::temp_dir().join(format!("selvedge-usage-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let dir = base.join("volumes");
        fs::create_dir_all(dir.join("a/deep")).expect("room");
        fs::write(dir.join("a/deep/file"), vec![7; 256 << 10]).expect("room");
        fs::create_dir_all(dir.join("b")).expect("room");
        std::os::unix::fs::symlink("a", dir.join("link")).expect("room");
        let sizes = sizes_in(&base, &dir);
        assert_eq!(sizes.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(sizes["a"] >= 256 << 10 && sizes["b"] < 64 << 10, "{sizes:?}");
        std::os::unix::fs::symlink("volumes", base.join("swapped")).expect("room");
        for path in ["none", "swapped", "volumes/link"] {
            assert!(sizes_in(&base, &base.join(path)).is_empty(), "{path}");
        }
        fs::remove_dir_all(&base).expect("it is ours");
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
