//! Parts of volumes: found or made without a way out of the volume, and bound
//! where a container can mount them.
//!
//! A container may swap a directory for a link between the look and the bind,
//! so the kernel resolves the path below the volume, and what is bound is the
//! file that was found, not its name.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::volumes;

/// Why a part cannot be bound.
pub type Error = io::Error;

/// Binds a part of a volume to `target`; does nothing when it is bound.
pub fn bind(volume_root: &Path, sub_path: &str, target: &Path) -> Result<(), Error> {
    if volumes::is_mount_point(target) {
        return Ok(());
    }
    let part = open(volume_root, sub_path)?;
    let is_dir = rustix::fs::fstat(&part).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())?;
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if is_dir {
        std::fs::create_dir_all(target)?
    } else {
        drop(std::fs::OpenOptions::new().create(true).append(true).open(target)?)
    }
    let found = PathBuf::from(format!("/proc/self/fd/{}", part.as_raw_fd()));
    rustix::mount::mount_bind(&found, target)?;
    Ok(())
}

/// Takes all bound parts of a pod away.
pub fn unbind_all(root: &Path, uid: &str) -> Result<(), Error> {
    volumes::unmount_below(&root.join("pods").join(uid).join("volume-subpaths"))
}

fn open(volume_root: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = rustix::fs::open(volume_root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve =
        |path: &str| rustix::fs::openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS);
    match resolve(sub_path) {
        Ok(found) => return Ok(found),
        Err(rustix::io::Errno::NOENT) => {}
        Err(why) => return Err(why.into()),
    }
    let mode = std::fs::metadata(volume_root)?.permissions().mode() & 0o7777;
    let mut made = String::new();
    for step in sub_path.split('/').filter(|step| !step.is_empty() && *step != ".") {
        let parent = if made.is_empty() { resolve(".")? } else { resolve(&made)? };
        match rustix::fs::mkdirat(&parent, step, Mode::from_raw_mode(mode)) {
            Ok(()) => rustix::fs::chmodat(&parent, step, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(why) => return Err(why.into()),
        }
        made = if made.is_empty() { step.to_owned() } else { format!("{made}/{step}") };
    }
    Ok(resolve(&made)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_volume_leads_back_into_it() {
        let base = std::env::temp_dir().join(format!("selvedge-subpath-{}", std::process::id()));
        let volume = base.join("volume");
        std::fs::create_dir_all(volume.join("etc")).expect("a directory");
        std::os::unix::fs::symlink("/etc", volume.join("evil")).expect("a link");
        let found = open(&volume, "evil").expect("the volume's own etc");
        let place = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).expect("it is open");
        assert_eq!(place, volume.canonicalize().expect("it is there").join("etc"));
        assert!(open(&volume, "a/b/c").is_ok() && volume.join("a/b/c").is_dir());
        std::fs::remove_dir_all(&base).expect("it is ours");
    }
}
