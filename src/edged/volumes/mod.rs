//! Volumes of pods on this machine: directories, tmpfs, files swapped in as a
//! whole; and their end, which never follows a mount.
//!
//! Source: edge-node.md 1.14.

mod atomic;
mod host_path;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::node::runtime::{VolumeSetup, VolumeSource};

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

/// Makes a pod's directories and volumes ready; repeated, it brings changed
/// contents in and touches nothing else.
pub fn setup(root: &Path, uid: &str, volumes: &[VolumeSetup]) -> Result<(), Error> {
    let pod = pod_dir(root, uid);
    for dir in [&pod, &pod.join("volumes"), &pod.join("plugins")] {
        make(dir, 0o750).map_err(|why| Error { volume: dir.display().to_string(), why })?;
    }
    volumes.iter().try_for_each(|volume| one(&pod, volume).map_err(|why| Error { volume: volume.name.clone(), why }))
}

/// `ROOT/pods/UID`.
fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join("pods").join(uid)
}

fn make(dir: &Path, mode: u32) -> io::Result<()> {
    if !dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(mode).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn one(pod: &Path, volume: &VolumeSetup) -> io::Result<()> {
    match &volume.source {
        VolumeSource::HostPath { path, kind } => host_path::check(Path::new(path), *kind),
        VolumeSource::EmptyDir { memory } => {
            let dir = pod.join("volumes").join(EMPTY_DIR).join(&volume.name);
            let new = !dir.is_dir();
            make(&dir, 0o777)?;
            if let Some(size) = memory {
                tmpfs(&dir, *size, 0o777)?;
            }
            if new { own(&dir, volume.fs_group) } else { Ok(()) }
        }
        VolumeSource::Files { plugin, files, secret } => {
            let dir = pod.join("volumes").join(plugin).join(&volume.name);
            make(&dir, 0o755)?;
            if *secret {
                tmpfs(&dir, 0, 0o755)?;
            }
            atomic::write(&dir, files, volume.fs_group)
        }
    }
}

/// A tmpfs on a directory, once; 0 is no limit.
fn tmpfs(dir: &Path, size: u64, mode: u32) -> io::Result<()> {
    if is_mount_point(dir) {
        return Ok(());
    }
    let limit = if size > 0 { format!(",size={size}") } else { String::new() };
    let data = std::ffi::CString::new(format!("mode={mode:o}{limit}"))?;
    Ok(rustix::mount::mount("tmpfs", dir, "tmpfs", MountFlags::empty(), data.as_c_str())?)
}

/// Gives a new directory to the pod's group.
fn own(dir: &Path, group: Option<u32>) -> io::Result<()> {
    if group.is_none() {
        return Ok(());
    }
    chown(dir, None, group)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    fs::set_permissions(dir, fs::Permissions::from_mode(mode | 0o2770))
}

/// Whether something is mounted on a directory: it lies on another device than
/// its parent.
pub fn is_mount_point(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let (Ok(own), Some(Ok(parent))) = (fs::symlink_metadata(path), path.parent().map(fs::symlink_metadata)) else { return false };
    own.dev() != parent.dev() || mounts().iter().any(|mount| *mount == *text)
}

/// Takes a pod's volumes and directories away.
pub fn remove(root: &Path, uid: &str) -> Result<(), Error> {
    take_away(&pod_dir(root, uid))
}

/// Takes only a pod's volumes away.
pub fn empty(root: &Path, uid: &str) -> Result<(), Error> {
    take_away(&pod_dir(root, uid).join("volumes"))
}

fn take_away(dir: &Path) -> Result<(), Error> {
    let failed = |why| Error { volume: dir.display().to_string(), why };
    if !dir.exists() {
        return Ok(());
    }
    unmount_below(dir).map_err(failed)?;
    remove_tree(dir, fs::metadata(dir).map_err(failed)?.dev()).map_err(failed)
}

/// Where the emptyDir volumes of a pod are.
pub fn empty_dirs(root: &Path, uid: &str) -> PathBuf {
    pod_dir(root, uid).join("volumes").join(EMPTY_DIR)
}

/// Unmounts everything at and below a directory, the innermost first. What is
/// busy is detached: its last user frees it.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let prefix = format!("{}/", dir.display());
    let mut inside: Vec<String> = mounts().into_iter().filter(|mount| mount.starts_with(&prefix) || Path::new(mount) == dir).collect();
    inside.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
    for mount in inside {
        match rustix::mount::unmount(mount.as_str(), UnmountFlags::NOFOLLOW) {
            Err(rustix::io::Errno::BUSY) => rustix::mount::unmount(mount.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?,
            other => other?,
        }
    }
    Ok(())
}

/// Removes a tree without crossing into another file system, and so never
/// through a mount into what belongs to somebody else.
fn remove_tree(dir: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = fs::symlink_metadata(&path)?;
        if meta.dev() != device {
            return Err(io::Error::other(format!("{} is still mounted", path.display())));
        }
        if meta.is_dir() { remove_tree(&path, device)? } else { fs::remove_file(&path)? }
    }
    fs::remove_dir(dir)
}

/// Where something is mounted.
fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::runtime::File;
    use std::collections::BTreeMap;

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
        setup(&root, "u", &[volume("one"), scratch.clone()]).expect("root may");
        let dir = root.join("pods/u/volumes/kubernetes.io~secret/s");
        assert!(is_mount_point(&dir) && is_mount_point(&root.join("pods/u/volumes/kubernetes.io~empty-dir/e")));
        let meta = fs::metadata(dir.join("a/b")).expect("it is there");
        assert_eq!((meta.mode() & 0o777, meta.gid()), (0o440, 7));
        let before = fs::read_link(dir.join("..data")).expect("a link");
        setup(&root, "u", &[volume("one"), scratch]).expect("again");
        assert_eq!(fs::read_link(dir.join("..data")).expect("a link"), before, "nothing changed, nothing is touched");
        setup(&root, "u", &[volume("two")]).expect("again");
        assert_eq!(fs::read_to_string(dir.join("a/b")).expect("it is there"), "two");
        remove(&root, "u").expect("all of it");
        assert!(!root.join("pods/u").exists());
        fs::remove_dir_all(&root).expect("it is ours");
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\9"), r"/a\9");
    }
}
