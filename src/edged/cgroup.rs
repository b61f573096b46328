//! Cgroups of pods: made with the pod's limits before its first container,
//! removed with the pod. cgroup v1 and v2. Under systemd they are slices, which
//! it makes and ends (`slice`); only what it leaves behind is removed here.

use std::io;
use std::path::{Path, PathBuf};

use super::slice;
use crate::node::runtime::Cgroup;

/// Why a cgroup is not as wanted.
pub type Error = io::Error;

/// Where the kernel shows cgroups.
const ROOT: &str = "/sys/fs/cgroup";
/// Controllers that pods' limits need.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Makes the cgroup of a pod, or of a class of pods, and sets its limits. A
/// controller that is missing is left out: the pod runs without that limit, and
/// the node says so.
pub fn ensure(cgroup: &Cgroup, systemd: bool) -> Result<(), Error> {
    if systemd { slice::ensure(cgroup, is_v2()) } else { Tree::of_machine().ensure(cgroup) }
}

/// Removes a pod's cgroup in every hierarchy.
pub fn remove(parent: &str, systemd: bool) -> Result<(), Error> {
    let tree = Tree::of_machine();
    if !systemd {
        return tree.remove(parent);
    }
    let path = slice_path(parent);
    if tree.holds(&path)
        && let Err(why) = slice::stop(parent)
    {
        log::warn!(target: "edged", "slice '{parent}' is only removed: {why}");
    }
    tree.remove(&path)
}

/// Controllers that pods' limits need and the kernel does not give.
pub fn missing_controllers() -> Vec<String> {
    let tree = Tree::of_machine();
    NEEDED.iter().filter(|name| !tree.has(name)).map(|name| (*name).to_owned()).collect()
}

/// Whether the machine has cgroup v2 only.
pub fn is_v2() -> bool {
    Tree::of_machine().v2
}

/// `a-b-c.slice` lives in `a.slice/a-b.slice/`.
fn slice_path(name: &str) -> String {
    let stem = name.strip_suffix(".slice").unwrap_or(name);
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("/{}.slice", &stem[..end])).collect()
}

/// The hierarchies below one directory.
struct Tree {
    base: PathBuf,
    v2: bool,
}

impl Tree {
    fn of_machine() -> Self {
        Self::at(Path::new(ROOT))
    }

    fn at(base: &Path) -> Self {
        Self { base: base.to_owned(), v2: base.join("cgroup.controllers").exists() }
    }

    fn has(&self, controller: &str) -> bool {
        if self.v2 {
            std::fs::read_to_string(self.base.join("cgroup.controllers")).is_ok_and(|all| all.split_whitespace().any(|name| name == controller))
        } else {
            self.base.join(controller).is_dir()
        }
    }

    /// The directories that hold a cgroup: one, or one in each hierarchy.
    fn roots(&self) -> Vec<PathBuf> {
        if self.v2 {
            return vec![self.base.clone()];
        }
        let entries = std::fs::read_dir(&self.base).into_iter().flatten().flatten();
        // `cpu,cpuacct` has links named after each; one is enough.
        entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink() && path.join("cgroup.procs").exists()).collect()
    }

    fn ensure(&self, cgroup: &Cgroup) -> Result<(), Error> {
        let name = cgroup.parent.trim_start_matches('/');
        for root in self.roots() {
            if self.v2 {
                delegate(&root, name);
            }
            std::fs::create_dir_all(root.join(name)).map_err(|why| at(&root.join(name), &why))?;
        }
        for (file, value) in self.limits(cgroup) {
            let path = if self.v2 { self.base.join(name).join(file) } else { self.base.join(file.split('.').next().unwrap_or_default()).join(name).join(file) };
            if path.exists() {
                std::fs::write(&path, &value).map_err(|why| at(&path, &why))?;
            }
        }
        Ok(())
    }

    fn limits(&self, cgroup: &Cgroup) -> Vec<(&'static str, String)> {
        let mut limits = Vec::new();
        if self.v2 {
            limits.push(("cpu.weight", weight(cgroup.cpu_shares).to_string()));
            if cgroup.cpu_quota > 0 {
                limits.push(("cpu.max", format!("{} 100000", cgroup.cpu_quota)));
            }
            if cgroup.memory > 0 {
                limits.push(("memory.max", cgroup.memory.to_string()));
            }
        } else {
            limits.push(("cpu.shares", cgroup.cpu_shares.to_string()));
            if cgroup.cpu_quota > 0 {
                limits.push(("cpu.cfs_period_us", "100000".to_owned()));
                limits.push(("cpu.cfs_quota_us", cgroup.cpu_quota.to_string()));
            }
            if cgroup.memory > 0 {
                limits.push(("memory.limit_in_bytes", cgroup.memory.to_string()));
            }
        }
        limits
    }

    fn holds(&self, name: &str) -> bool {
        self.roots().iter().any(|root| root.join(name.trim_start_matches('/')).is_dir())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let mut result = Ok(());
        for root in self.roots() {
            let dir = root.join(name.trim_start_matches('/'));
            if dir.is_dir()
                && let Err(why) = remove_tree(&dir)
            {
                result = Err(at(&dir, &why));
            }
        }
        result
    }
}

/// Shares of cgroup v1 as a weight of v2, as everybody converts them.
pub(super) fn weight(shares: u64) -> u64 {
    1 + shares.saturating_sub(2) * 9999 / 262_142
}

/// cgroup v2 gives children only the controllers that are passed on to them.
fn delegate(root: &Path, name: &str) {
    let mut dir = root.to_owned();
    for part in name.split('/') {
        for controller in NEEDED {
            // One that is missing, or passed on already, changes nothing.
            let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        dir.push(part);
        let _ = std::fs::create_dir(&dir);
    }
}

/// Cgroup directories are removed from the innermost on; their files go along.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove_tree(&entry.path())?;
    }
    match std::fs::remove_dir(dir) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn at(path: &Path, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_live_in_the_slices_before_their_dashes() {
        assert_eq!(slice_path("kubepods-burstable-pod1_2.slice"), "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice");
    }

    #[test]
    fn limits_are_written_where_the_hierarchy_has_them() {
        let base = std::env::temp_dir().join(format!("selvedge-cgroup-{}", std::process::id()));
        let name = "kubepods/pod1";
        for controller in ["cpu", "memory"] {
            std::fs::create_dir_all(base.join(controller).join(name)).expect("a directory");
            std::fs::write(base.join(controller).join("cgroup.procs"), "").expect("a file");
        }
        std::fs::write(base.join("cpu").join(name).join("cpu.shares"), "").expect("a file");
        let cgroup = Cgroup { parent: "/kubepods/pod1".into(), cpu_shares: 51, cpu_quota: 0, memory: 1 << 20 };
        Tree::at(&base).ensure(&cgroup).expect("it is writable");
        assert_eq!(std::fs::read_to_string(base.join("cpu").join(name).join("cpu.shares")).expect("it is there"), "51");
        assert!(!base.join("memory").join(name).join("memory.limit_in_bytes").exists());
        std::fs::remove_dir_all(&base).expect("it is ours");
    }
}
