//! Trees that containers made: as deep and as wide as they like, and changing
//! while they are gone through. One directory is open at a time; the way back is
//! `..`, believed only when it leads to the directory that was left.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{DIRECTORY, Dir, kind_of, mount_of};

/// A block, whatever the file system's own is.
const BLOCK: u64 = 512;

impl Dir {
    /// Bytes its tree takes on its own file system, as `du -x` counts them:
    /// blocks, and a file with several names once. Nothing but directories is
    /// opened. What cannot be read, or goes away meanwhile, takes nothing.
    pub fn size(&self) -> u64 {
        let Ok(own) = rustix::fs::fstat(&self.fd) else { return 0 };
        let (mut total, mut linked) = (blocks(&own), HashSet::new());
        let enter = |_: &OwnedFd, _: &CStr, stat: &Stat| {
            let is_dir = kind_of(stat) == FileType::Directory;
            if stat.st_dev != own.st_dev || !is_dir && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
                return Ok(false);
            }
            total += blocks(stat);
            Ok(is_dir)
        };
        if let Err(why) = walk(self, enter, |_, _| Ok(())) {
            log::debug!("not all of '{}' is counted: {why}", self.path.display());
        }
        total
    }

    /// Removes something and all below it; what is missing is removed. Never
    /// goes into what is mounted there.
    ///
    /// # Errors
    /// Something is mounted below, or the file system refuses.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let path = path.as_ref();
        let Some(stat) = self.stat(path)? else { return Ok(()) };
        if kind_of(&stat) != FileType::Directory {
            return self.remove_file(path);
        }
        let (above, name) = self.parent(path)?;
        let top = above.dir(name)?;
        let mount = top.mount()?;
        if mount != above.mount()? {
            return above.at(name, Err(mounted()));
        }
        let enter = |dir: &OwnedFd, name: &CStr, stat: &Stat| {
            if kind_of(stat) != FileType::Directory {
                return removed(rustix::fs::unlinkat(dir, name, AtFlags::empty())).map(|()| false);
            }
            let entered = rustix::fs::openat(dir, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
            if mount_of(entered.as_fd())? == mount { Ok(true) } else { Err(mounted()) }
        };
        let leave = |dir: &OwnedFd, name: &CStr| removed(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR));
        walk(&top, enter, leave)?;
        above.at(name, removed(rustix::fs::unlinkat(&above.fd, name, AtFlags::REMOVEDIR)))
    }
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK
}

fn mounted() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "something is mounted here")
}

fn removed(result: Result<(), Errno>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// A directory that was gone through in part.
struct Level {
    id: Id,
    /// The directory in it that was entered.
    entered: CString,
    /// Those still to be entered.
    rest: Vec<CString>,
}

/// Device and inode.
type Id = (u64, u64);

fn id(dir: &OwnedFd) -> Result<Id, Errno> {
    rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

/// Shows each thing below a directory to `enter`, with the directory it is in;
/// the directories for which that says true are gone through, and then shown to
/// `leave`.
fn walk(
    top: &Dir,
    mut enter: impl FnMut(&OwnedFd, &CStr, &Stat) -> io::Result<bool>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    let mut here = top.fd.try_clone()?;
    let mut rest = named(top, &levels, scan(&here, &mut enter))?;
    loop {
        if let Some(name) = rest.pop() {
            let inside = match rustix::fs::openat(&here, &name, DIRECTORY, Mode::empty()) {
                // It went away, or is a directory no more.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => named(top, &levels, other.map_err(Into::into))?,
            };
            levels.push(Level { id: id(&here)?, entered: name, rest });
            here = inside;
            rest = named(top, &levels, scan(&here, &mut enter))?;
        } else {
            let Some((level, above)) = back(top, &here, &mut levels)? else { return Ok(()) };
            here = above;
            named(top, &levels, leave(&here, &level.entered))?;
            rest = level.rest;
        }
    }
}

/// Shows what is in one directory; the directories to go through.
fn scan(here: &OwnedFd, enter: &mut impl FnMut(&OwnedFd, &CStr, &Stat) -> io::Result<bool>) -> io::Result<Vec<CString>> {
    let mut rest = Vec::new();
    for entry in rustix::fs::Dir::read_from(here)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match rustix::fs::statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if enter(here, name, &stat)? {
            rest.push(name.to_owned());
        }
    }
    Ok(rest)
}

/// The directory above, or the nearest one above that, when directories were
/// moved meanwhile; `None` at the top.
fn back(top: &Dir, here: &OwnedFd, levels: &mut Vec<Level>) -> io::Result<Option<(Level, OwnedFd)>> {
    while let Some(level) = levels.pop() {
        let is_it = |above: &OwnedFd| id(above).is_ok_and(|id| id == level.id);
        let up = rustix::fs::openat(here, c"..", DIRECTORY, Mode::empty());
        if let Some(above) = up.ok().filter(is_it).or_else(|| down(top, levels).ok().filter(is_it)) {
            return Ok(Some((level, above)));
        }
    }
    Ok(None)
}

/// The directory that was entered last, from the top.
fn down(top: &Dir, levels: &[Level]) -> Result<OwnedFd, Errno> {
    let open = |from: &OwnedFd, name: &CStr| rustix::fs::openat(from, name, DIRECTORY, Mode::empty());
    let first = open(&top.fd, c".");
    levels.iter().fold(first, |above, level| open(&above?, &level.entered))
}

/// Says in which directory something went wrong.
fn named<T>(top: &Dir, levels: &[Level], result: io::Result<T>) -> io::Result<T> {
    let place = |level: &Level| PathBuf::from(std::ffi::OsStr::from_bytes(level.entered.to_bytes()));
    result.or_else(|why| top.at(levels.iter().map(place).collect::<PathBuf>(), Err(why)))
}
