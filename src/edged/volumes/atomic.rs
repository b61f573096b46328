//! Files of a volume, swapped in as a whole: a reader sees the old ones or the
//! new ones, never a mixture.
//!
//! ```text
//!   name  -> ..data/name        one link per top-level name
//!   ..data -> ..NUMBER          renamed over the old one
//!   ..NUMBER/name               the files
//! ```
//!
//! What else is in the volume is let be: mount points of nested mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Gid, Uid};

use crate::host::beneath::{Dir, at};
use crate::node::runtime::File;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume hold exactly these files.
pub fn write(dir: &Dir, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    files.keys().try_for_each(|name| check(name))?;
    let current = current(dir);
    let holds = current.as_ref().is_some_and(|name| dir.dir(name).is_ok_and(|old| holds(&old, files)));
    if !holds {
        let new = fresh(dir)?;
        fill(dir, &new, files, group)?;
        dir.remove_tree(NEW_DATA)?;
        dir.symlink(&new, NEW_DATA)?;
        dir.rename(NEW_DATA, DATA)?;
    }
    link_names(dir, files)?;
    remove_old(dir, current.as_deref())
}

/// The directory of the files that are in now. A link to anywhere else is none
/// of ours.
fn current(dir: &Dir) -> Option<PathBuf> {
    let name = dir.read_link(DATA)?;
    let ours = name.components().count() == 1 && name.as_os_str().as_encoded_bytes().starts_with(b"..") && name != Path::new("..");
    ours.then_some(name)
}

/// A path stays below the volume.
fn check(name: &str) -> io::Result<()> {
    let inside = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !name.starts_with("..") { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path '{name}' leads out of the volume"))) }
}

/// Whether these files are there, and no others.
fn holds(dir: &Dir, files: &BTreeMap<String, File>) -> bool {
    let same = |(name, file): (&String, &File)| has(dir, name, &file.content);
    files.iter().all(same) && has_no_others(dir, Path::new(""), files).unwrap_or(false)
}

fn has(dir: &Dir, name: &str, content: &[u8]) -> bool {
    let Ok(file) = dir.read(name) else { return false };
    let mut found = Vec::new();
    let length = content.len() as u64;
    file.take(length + 1).read_to_end(&mut found).is_ok() && found == content
}

fn has_no_others(dir: &Dir, place: &Path, files: &BTreeMap<String, File>) -> io::Result<bool> {
    for (name, kind) in dir.entries()? {
        let path = place.join(&name);
        let known = if kind == FileType::Directory {
            has_no_others(&dir.dir(&name)?, &path, files)?
        } else {
            path.to_str().is_some_and(|path| files.contains_key(path)) || super::nested::is_mount_point(dir, &name)?
        };
        if !known {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A name that is not there yet; a crash may have left some.
fn fresh(dir: &Dir) -> io::Result<String> {
    let taken: BTreeSet<_> = dir.entries()?.into_iter().map(|(name, _)| name).collect();
    let mut names = (1u64..).map(|number| format!("..{number}"));
    Ok(names.find(|name| !taken.contains(OsStr::new(name))).expect("numbers do not end"))
}

fn fill(volume: &Dir, name: &str, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    let dir = volume.make_dir(name, 0o755)?;
    for (name, file) in files {
        let path = Path::new(name);
        dir.make_dir(path.parent().unwrap_or(Path::new("")), 0o755)?;
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        let mut made = dir.create(path, 0o600)?;
        let written = made.write_all(&file.content).and_then(|()| finish(&made, file.owner, group, mode));
        at(&dir.path().join(path), written)?;
    }
    Ok(())
}

/// Owner first: a change of owner takes mode bits away.
fn finish(file: &std::fs::File, owner: Option<u32>, group: Option<u32>, mode: u32) -> io::Result<()> {
    if owner.is_some() || group.is_some() {
        rustix::fs::fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    Ok(rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(mode))?)
}

/// A link for every name, and none for names that are gone. What is no link is a
/// mount point, and stays.
fn link_names(dir: &Dir, files: &BTreeMap<String, File>) -> io::Result<()> {
    let tops: BTreeSet<&str> = files.keys().filter_map(|name| name.split('/').next()).collect();
    let mut there = BTreeSet::new();
    for (name, kind) in dir.entries()? {
        let text = name.to_string_lossy();
        if text.starts_with("..") {
            continue;
        }
        let is_ours = dir.read_link(&name).is_some_and(|target| target == Path::new(DATA).join(&name));
        if kind != FileType::Symlink || is_ours && tops.contains(&*text) {
            there.insert(text.into_owned());
        } else {
            dir.remove_file(&name)?;
        }
    }
    let mut missing = tops.into_iter().filter(|top| !there.contains(*top));
    missing.try_for_each(|top| dir.symlink(Path::new(DATA).join(top), top))
}

/// Removes the files that were replaced, and what a crash left of others.
fn remove_old(dir: &Dir, replaced: Option<&Path>) -> io::Result<()> {
    let current = current(dir);
    for (name, kind) in dir.entries()? {
        let numbered = name.to_str().and_then(|name| name.strip_prefix("..")).is_some_and(|rest| rest.parse::<u64>().is_ok());
        let is_old = numbered || replaced == Some(Path::new(&name));
        if kind == FileType::Directory && is_old && current.as_deref() != Some(Path::new(&name)) {
            dir.remove_tree(&name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn scratch(name: &str) -> (PathBuf, Dir) {
        let path = std::env::temp_dir().join(format!("selvedge-atomic-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("volume")).expect("a directory");
        (path.clone(), Dir::open(&path.join("volume")).expect("it is there"))
    }

    fn files(names: &[&str]) -> BTreeMap<String, File> {
        let file = |name: &str| File { content: name.as_bytes().to_vec(), mode: 0o644, owner: None };
        names.iter().map(|name| ((*name).to_owned(), file(name))).collect()
    }

    fn names(dir: &Dir) -> Vec<String> {
        let entries = dir.entries().expect("it is there").into_iter();
        let mut names: Vec<String> = entries.map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_come_and_go_and_none_leads_out() {
        let (path, dir) = scratch("names");
        write(&dir, &files(&["a", "b/c"]), None).expect("it is ours");
        write(&dir, &files(&["b/c", "d"]), None).expect("it is ours");
        assert_eq!(names(&dir), ["..2", "..data", "b", "d"]);
        for bad in ["../x", "/x", "a/../../x", "", "..x"] {
            assert!(write(&dir, &files(&[bad]), None).is_err(), "{bad}");
        }
        fs::remove_dir_all(&path).expect("it is ours");
    }

    #[test]
    fn links_that_a_container_made_lead_nowhere() {
        let (path, dir) = scratch("links");
        let (volume, victim) = (path.join("volume"), path.join("victim"));
        fs::create_dir_all(victim.join("sub")).expect("room");
        write(&dir, &files(&["a"]), None).expect("it is ours");
        for target in [victim.as_path(), Path::new("../victim"), Path::new(".."), Path::new("..evil")] {
            fs::remove_file(volume.join("..data")).expect("it is a link");
            symlink(target, volume.join("..data")).expect("room");
            for (name, target) in [("..evil", "../victim"), ("b", "/etc/passwd"), ("..data_tmp", "../victim"), ("..7", "../victim")] {
                let _ = fs::remove_file(volume.join(name));
                symlink(target, volume.join(name)).expect("room");
            }
            write(&dir, &files(&["a", "b"]), None).expect("whatever is there");
            assert_eq!(fs::read_to_string(volume.join("b")).expect("a file"), "b", "{target:?}");
            assert!(victim.join("sub").is_dir() && fs::read_dir(&victim).expect("there").count() == 1);
        }
        fs::remove_dir_all(&path).expect("it is ours");
    }

    #[test]
    fn mount_points_stay_and_hinder_no_update() {
        let (path, dir) = scratch("nested");
        let volume = path.join("volume");
        write(&dir, &files(&["psk", "d/x"]), None).expect("it is ours");
        fs::create_dir(volume.join("config")).expect("room");
        super::super::nested::make(&dir, Path::new("d/file"), false).expect("room");
        write(&dir, &files(&["psk", "d/x"]), None).expect("it is ours");
        assert_eq!(names(&dir), ["..1", "..data", "config", "d", "psk"], "nothing is written anew");
        write(&dir, &files(&["psk", "extra", "config"]), None).expect("a mount point is no hindrance");
        assert_eq!(names(&dir), ["..2", "..data", "config", "extra", "psk"]);
        assert_eq!(fs::read_to_string(volume.join("extra")).expect("a file"), "extra");
        assert!(fs::symlink_metadata(volume.join("config")).expect("it stays").is_dir());
        fs::remove_dir_all(&path).expect("it is ours");
    }

    #[test]
    fn what_a_crash_left_half_done_is_finished() {
        let (path, dir) = scratch("crash");
        let volume = path.join("volume");
        write(&dir, &files(&["a", "b"]), None).expect("it is ours");
        fs::remove_file(volume.join("b")).expect("it is a link");
        fs::create_dir_all(volume.join("..7/half")).expect("room");
        write(&dir, &files(&["a", "b"]), None).expect("it is ours");
        assert_eq!(names(&dir), ["..1", "..data", "a", "b"]);
        fs::remove_dir_all(&path).expect("it is ours");
    }
}
