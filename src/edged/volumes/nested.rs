//! Mount points within volumes that containers cannot write: the runtime could
//! not make them, so they are there before.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use crate::host::beneath::{Dir, at, kind_of, proc_path};

/// Makes the place in a volume of the pod where something is going to be
/// mounted: a file for a file, a directory for anything else.
///
/// # Errors
/// Something of the other kind is there, or the path leads out of the volume.
pub fn make_mount_point(root: &Path, volume: &Path, path: &Path, source: &Path) -> io::Result<()> {
    let (base, rest) = Dir::base(root, volume)?;
    let is_dir = std::fs::metadata(source).map_or(true, |source| source.is_dir());
    make(&base.dir(rest)?, path, is_dir)
}

/// What is there stays, links of the volume's own files included.
pub(super) fn make(volume: &Dir, path: &Path, is_dir: bool) -> io::Result<()> {
    let found = match volume.locate(path, is_dir.then_some(0o755)) {
        Err(why) if !is_dir && why.kind() == io::ErrorKind::NotFound => return make_file(volume, path),
        other => kind_of(&rustix::fs::fstat(other?)?),
    };
    if (found == FileType::Directory) == is_dir {
        return Ok(());
    }
    let why = if is_dir { "a directory cannot be mounted on a file" } else { "a file cannot be mounted on a directory" };
    at(&volume.path().join(path), Err(io::Error::new(io::ErrorKind::AlreadyExists, why)))
}

/// Its mode tells it from a file of the volume: nobody reads it, it is covered.
fn make_file(volume: &Dir, path: &Path) -> io::Result<()> {
    let (above, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
    let above = Dir::open(&proc_path(&volume.locate(above, Some(0o755))?))?;
    at(&volume.path().join(path), above.create(name, 0).map(drop))
}

/// Whether a file was made as a mount point.
pub(super) fn is_mount_point(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let stat = dir.stat(name)?;
    Ok(stat.is_some_and(|stat| kind_of(&stat) == FileType::RegularFile && stat.st_mode & 0o7777 == 0 && stat.st_size == 0))
}
