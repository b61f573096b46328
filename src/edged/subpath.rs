//! Parts of volumes: found or made without a way out of the volume, and bound
//! where a container can mount them.
//!
//! A container may swap a directory for a link between the look and the bind, so
//! what is bound is the file that was found, not its name.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::volumes;
use crate::host::beneath::{Dir, at, kind_of, mount_of, proc_path};
use crate::node::runtime::SubPath;

/// Binds a part of a volume to its target, unless just that is bound there.
///
/// # Errors
/// The part leads out of its volume, or cannot be made or bound.
pub fn bind(root: &Path, part: &SubPath) -> io::Result<()> {
    let volume = volume(root, Path::new(&part.root))?;
    let found = volume.locate(Path::new(&part.path), Some(volume.mode()?))?;
    let stat = rustix::fs::fstat(&found)?;
    let (base, rest) = Dir::base(root, Path::new(&part.target))?;
    let above = base.make_dir(rest.parent().unwrap_or(Path::new("")), 0o750)?;
    let name = Path::new(rest.file_name().unwrap_or_default());
    if is_bound(&above, name, &stat)? {
        return Ok(());
    }
    if kind_of(&stat) == FileType::Directory {
        above.make_dir(name, 0o750)?;
    } else {
        above.create(name, 0o640)?;
    }
    let target = above.locate(name, None)?;
    let bound = rustix::mount::mount_bind(proc_path(&found), proc_path(&target));
    at(&volume.path().join(&part.path), bound.map_err(Into::into))
}

/// A volume of the pod lies below the agent's directory, where no link is
/// followed; any other is the machine's.
fn volume(root: &Path, path: &Path) -> io::Result<Dir> {
    match path.strip_prefix(root) {
        Ok(own) => Dir::open(root)?.dir(own),
        Err(_) => Dir::open(path),
    }
}

/// Whether this is bound there already. What else is there is taken away: files
/// of a volume that were replaced since.
fn is_bound(above: &Dir, name: &Path, stat: &Stat) -> io::Result<bool> {
    let Some(old) = above.stat(name)? else { return Ok(false) };
    let target = above.locate(name, None)?;
    if mount_of(target.as_fd())? != above.mount()? {
        if (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(true);
        }
        drop(target);
        volumes::unmount(above, name)?;
    }
    above.remove_tree(name).map(|()| false)
}

/// Takes all bound parts of a pod away.
///
/// # Errors
/// One stays bound.
pub fn unbind_all(root: &Path, uid: &str) -> io::Result<()> {
    let parts = Path::new("pods").join(uid).join("volume-subpaths");
    match Dir::open(root).and_then(|root| root.dir(parts)) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        parts => volumes::unmount_below(&parts?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_part_is_bound_once_anew_when_it_was_replaced_and_never_from_outside() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let root = std::env::temp_dir().join(format!("selvedge-subpath-{}", std::process::id()));
        let (pod, away) = (root.join("pods/u"), root.join("away"));
        let volume = pod.join("volumes/v");
        let target = pod.join("volume-subpaths/v/c/0");
        for dir in [&volume, &away] {
            fs::create_dir_all(dir).expect("room");
        }
        let text = |path: &Path| path.display().to_string();
        let try_bind = |path: &str| {
            let part = SubPath { mount: 0, volume: "v".into(), root: text(&volume), path: path.into(), target: text(&target) };
            bind(&root, &part)
        };
        let bound = |path: &str| {
            try_bind(path).expect("it is bound");
            fs::read_to_string(&target).unwrap_or_default()
        };
        for (name, data) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(volume.join(name)).expect("room");
            fs::write(volume.join(name).join("key"), data).expect("room");
        }
        symlink("..1", volume.join("..data")).expect("room");
        symlink("..data/key", volume.join("key")).expect("room");
        assert_eq!((bound("key").as_str(), bound("key").as_str()), ("one", "one"));
        fs::remove_file(volume.join("..data")).expect("it is a link");
        symlink("..2", volume.join("..data")).expect("room");
        assert_eq!(bound("key"), "two");
        bound("new/dir");
        fs::write(target.join("file"), "").expect("it is a directory");
        assert!(volume.join("new/dir/file").exists());
        symlink("/etc", volume.join("evil")).expect("room");
        symlink("../../../../away", volume.join("near")).expect("room");
        for path in ["evil", "evil/x", "near", "near/x"] {
            let said = try_bind(path).expect_err("it leads out").to_string();
            assert_eq!(said, format!("'{}/{path}': it leads out of the volume", text(&volume)));
        }
        unbind_all(&root, "u").expect("all of it");
        volumes::remove(&root, "u").expect("nothing is mounted");
        assert!(away.is_dir() && !pod.exists());
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
