//! Volumes of pods on this machine: directories, tmpfs, files swapped in as a
//! whole, mount points within them; and their end, which never follows a mount.
//!
//! Containers write in them, so all is done relative to open directories, and no
//! link below the agent's own directory is followed.
//!
//! Source: edge-node.md 1.14.

mod atomic;
mod host_path;
mod mounted;
mod nested;

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use crate::host::beneath::{Dir, at};
use crate::node::runtime::{VolumeSetup, VolumeSource};

pub use mounted::{unmount, unmount_below};
pub use nested::make_mount_point;

/// Why a volume is not ready: its name and the system's words.
#[derive(Debug)]
pub struct Error {
    volume: String,
    why: io::Error,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MountVolume.SetUp failed for volume \"{}\" : {}", self.volume, self.why)
    }
}

impl std::error::Error for Error {}

/// Kubernetes' name for the plugin.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
/// Of directories that only the agent enters.
const PRIVATE: u32 = 0o750;

/// Makes a pod's volumes ready in its directory; repeated, it brings changed
/// contents in and touches nothing else.
///
/// # Errors
/// The first volume that is not ready.
pub fn setup(pod: &Dir, volumes: &[VolumeSetup]) -> Result<(), Error> {
    volumes.iter().try_for_each(|volume| one(pod, volume).map_err(|why| Error { volume: volume.name.clone(), why }))
}

/// `ROOT/pods/UID`, with the directories it always has.
///
/// # Errors
/// One cannot be made.
pub fn pod_dir(root: &Path, uid: &str) -> io::Result<Dir> {
    let path = pod_path(root, uid);
    let (base, rest) = Dir::base(root, &path)?;
    let pod = base.make_dir(rest, PRIVATE)?;
    pod.make_dir("volumes", PRIVATE)?;
    pod.make_dir("plugins", PRIVATE)?;
    Ok(pod)
}

fn pod_path(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

fn one(pod: &Dir, volume: &VolumeSetup) -> io::Result<()> {
    match &volume.source {
        VolumeSource::HostPath { path, kind, within } => host_path::check(Path::new(path), *kind, within.as_deref().map(Path::new)),
        VolumeSource::EmptyDir { memory } => {
            let all = pod.make_dir(Path::new("volumes").join(EMPTY_DIR), PRIVATE)?;
            match memory {
                Some(size) => tmpfs(&all, &volume.name, &empty_dir_options(*size, volume.fs_group)).map(drop),
                None => empty_dir(&all, &volume.name, volume.fs_group),
            }
        }
        VolumeSource::Files { plugin, files, secret } => {
            let all = pod.make_dir(Path::new("volumes").join(plugin), PRIVATE)?;
            let dir = if *secret { tmpfs(&all, &volume.name, "mode=755")? } else { all.make_dir(&volume.name, 0o755)? };
            atomic::write(&dir, files, volume.fs_group)
        }
    }
}

/// Mode of an emptyDir: anybody's, and its group's for what is made in it.
fn empty_dir_mode(group: Option<u32>) -> u32 {
    if group.is_some() { 0o2777 } else { 0o777 }
}

/// That of tmpfs itself, and its group's: nobody removes another's files.
fn memory_mode(group: Option<u32>) -> u32 {
    empty_dir_mode(group) | 0o1000
}

/// Size 0 is no limit.
fn empty_dir_options(size: u64, group: Option<u32>) -> String {
    let mut options = format!("mode={:o}", memory_mode(group));
    if size > 0 {
        options.push_str(&format!(",size={size}"));
    }
    if let Some(group) = group {
        options.push_str(&format!(",gid={group}"));
    }
    options
}

/// A new directory has mode 0 until it is ready; a container may have changed a
/// ready one, which is let be.
fn empty_dir(all: &Dir, name: &str, group: Option<u32>) -> io::Result<()> {
    all.mkdir(name, 0)?;
    let dir = all.dir(name)?;
    if dir.mode()? != 0 {
        return Ok(());
    }
    if let Some(group) = group {
        dir.set_group(group)?;
    }
    dir.set_mode(empty_dir_mode(group))
}

/// A directory with a tmpfs on it, mounted once.
fn tmpfs(all: &Dir, name: &str, options: &str) -> io::Result<Dir> {
    let dir = all.make_dir(name, 0o755)?;
    if dir.mount()? != all.mount()? {
        return Ok(dir);
    }
    let options = std::ffi::CString::new(options)?;
    let mounted = rustix::mount::mount("tmpfs", dir.proc_path(), "tmpfs", MountFlags::empty(), options.as_c_str());
    at(dir.path(), mounted.map_err(Into::into))?;
    all.dir(name)
}

/// Takes a pod's volumes and directories away.
///
/// # Errors
/// What could not be removed.
pub fn remove(root: &Path, uid: &str) -> io::Result<()> {
    take_away(root, &pod_path(Path::new(""), uid))
}

/// Takes only a pod's volumes away.
///
/// # Errors
/// What could not be removed of them.
pub fn empty(root: &Path, uid: &str) -> io::Result<()> {
    take_away(root, &pod_path(Path::new(""), uid).join("volumes"))
}

fn take_away(root: &Path, path: &Path) -> io::Result<()> {
    let removed = Dir::open(root).and_then(|base| {
        let (above, name) = base.parent(path)?;
        unmount_below(&above.dir(name)?)?;
        above.remove_tree(name)
    });
    match removed {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where the emptyDir volumes of a pod are.
pub fn empty_dirs(root: &Path, uid: &str) -> PathBuf {
    pod_path(root, uid).join("volumes").join(EMPTY_DIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::runtime::File;
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_pod_gets_its_volumes_and_leaves_nothing() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let root = std::env::temp_dir().join(format!("selvedge-volumes-{}", std::process::id()));
        let file = |text: &str| File { content: text.as_bytes().to_vec(), mode: 0o400, owner: None };
        let volume = |text: &str| VolumeSetup {
            name: "s".into(),
            source: VolumeSource::Files { plugin: "kubernetes.io~secret", files: BTreeMap::from([("a/b".to_owned(), file(text))]), secret: true },
            fs_group: Some(7),
        };
        let scratch = VolumeSetup { name: "e".into(), source: VolumeSource::EmptyDir { memory: Some(1 << 20) }, fs_group: None };
        let setup = |volumes: &[VolumeSetup]| setup(&pod_dir(&root, "u").expect("room"), volumes);
        setup(&[volume("one"), scratch.clone()]).expect("root may");
        let dir = root.join("pods/u/volumes/kubernetes.io~secret/s");
        let device = |dir: &Path| fs::metadata(dir).expect("it is there").dev();
        let memory = root.join("pods/u/volumes/kubernetes.io~empty-dir/e");
        assert!([&dir, &memory].iter().all(|mounted| device(mounted) != device(&root)));
        assert_eq!(fs::metadata(&memory).expect("it is there").mode() & 0o7777, 0o1777);
        let meta = fs::metadata(dir.join("a/b")).expect("it is there");
        assert_eq!((meta.mode() & 0o777, meta.gid()), (0o440, 7));
        let before = fs::read_link(dir.join("..data")).expect("a link");
        setup(&[volume("one"), scratch]).expect("again");
        assert_eq!(fs::read_link(dir.join("..data")).expect("a link"), before, "nothing changed, nothing is touched");
        setup(&[volume("two")]).expect("again");
        assert_eq!(fs::read_to_string(dir.join("a/b")).expect("it is there"), "two");
        remove(&root, "u").expect("all of it");
        assert!(!root.join("pods/u").exists());
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
