//! Files of a volume, swapped in as a whole: a reader sees the old ones or the
//! new ones, never a mixture.
//!
//! ```text
//!   name  -> ..data/name        one link per top-level name
//!   ..data -> ..NUMBER          renamed over the old one
//!   ..NUMBER/name               the files
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use crate::node::runtime::File;

const DATA: &str = "..data";

/// Makes the volume hold exactly these files.
pub fn write(dir: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    let old = fs::read_link(dir.join(DATA)).ok();
    files.keys().try_for_each(|name| check(name))?;
    if old.as_ref().is_some_and(|old| holds(&dir.join(old), files)) {
        return Ok(());
    }
    let new = fresh(dir);
    fill(&dir.join(&new), files, group)?;
    let temporary = dir.join("..data_tmp");
    let _ = fs::remove_file(&temporary);
    symlink(&new, &temporary)?;
    fs::rename(&temporary, dir.join(DATA))?;
    link_names(dir, files)?;
    match old {
        Some(old) if old != new => fs::remove_dir_all(dir.join(old)),
        Some(_) | None => Ok(()),
    }
}

/// A path stays below the volume.
fn check(name: &str) -> io::Result<()> {
    let inside = !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !name.starts_with("..") { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, format!("path '{name}' leads out of the volume"))) }
}

fn holds(dir: &Path, files: &BTreeMap<String, File>) -> bool {
    let same = |(name, file): (&String, &File)| fs::read(dir.join(name)).is_ok_and(|content| content == file.content);
    files.iter().all(same) && count(dir) == files.len()
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

/// A name that is not there yet; a crash may have left some.
fn fresh(dir: &Path) -> PathBuf {
    let taken: BTreeSet<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    (1u64..).map(|number| format!("..{number}")).find(|name| !taken.contains(std::ffi::OsStr::new(name))).map(PathBuf::from).expect("numbers do not end")
}

fn fill(dir: &Path, files: &BTreeMap<String, File>, group: Option<u32>) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for (name, file) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        if file.owner.is_some() || group.is_some() {
            chown(&path, file.owner, group)?;
        }
        let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A link for every name, and none for names that are gone.
fn link_names(dir: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    let tops: BTreeSet<&str> = files.keys().filter_map(|name| name.split('/').next()).collect();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !tops.contains(&*name) {
            fs::remove_file(entry.path())?;
        }
    }
    for top in tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_and_none_leads_out() {
        let dir = std::env::temp_dir().join(format!("selvedge-atomic-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let files =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), File { content: name.as_bytes().to_vec(), mode: 0o644, owner: None })).collect();
        write(&dir, &files(&["a", "b/c"]), None).expect("it is ours");
        write(&dir, &files(&["b/c", "d"]), None).expect("it is ours");
        let mut names: Vec<String> = fs::read_dir(&dir).expect("it is there").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["..2", "..data", "b", "d"]);
        for bad in ["../x", "/x", "a/../../x", "", "..x"] {
            assert!(write(&dir, &files(&[bad]), None).is_err(), "{bad}");
        }
        fs::remove_dir_all(&dir).expect("it is ours");
    }
}
