//! Files below a directory in which containers can write as well. Everything is
//! done relative to an open directory, and no link that is met on the way is
//! followed: a container may swap a directory for a link at any moment.
//!
//! `openat2` resolves a path in one call (Linux 5.6). An older kernel does not
//! know it and a seccomp filter may refuse it; the path is then walked, one
//! component at a time. Paths with legal links (`locate`) are always walked.
//!
//! Source: openat2(2), path_resolution(7).

mod locate;
#[cfg(test)]
mod tests;
mod tree;

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A directory to be listed, never a link to one.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory. Paths given to it are relative, without `..`, and lie
/// below it; its errors name the whole path.
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
    lookup: Lookup,
}

/// How a path below is opened.
type Lookup = fn(&OwnedFd, &Path, OFlags) -> Result<OwnedFd, Errno>;

/// Names the path that an error is about.
///
/// # Errors
/// The error given.
pub fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|why| io::Error::new(why.kind(), format!("'{}': {why}", path.display())))
}

/// Nothing has that name, or can have it: it is too long for a file.
pub fn is_absent(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename)
}

impl Dir {
    /// Opens a directory that the machine's owner chose; links are followed.
    ///
    /// # Errors
    /// It is missing or no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = at(path, rustix::fs::open(path, flags, Mode::empty()).map_err(Into::into))?;
        Ok(Self { fd, path: path.to_owned(), lookup: by_kernel })
    }

    /// Opens such a directory, made when missing, and the rest of a path below.
    ///
    /// # Errors
    /// It cannot be made, or the path does not lie below it.
    pub fn base<'a>(base: &Path, path: &'a Path) -> io::Result<(Self, &'a Path)> {
        let Ok(rest) = path.strip_prefix(base) else {
            let why = format!("not below '{}'", base.display());
            return at(path, Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
        };
        if !base.is_dir() {
            at(base, DirBuilder::new().recursive(true).mode(0o755).create(base))?;
        }
        Ok((Self::open(base)?, rest))
    }

    /// Where it is, by the kernel: without links.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn real_path(&self) -> io::Result<PathBuf> {
        at(&self.path, fs::read_link(proc_path(&self.fd)))
    }

    /// As it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path by which calls without a directory reach just this one.
    pub fn proc_path(&self) -> PathBuf {
        proc_path(&self.fd)
    }

    /// A directory below.
    ///
    /// # Errors
    /// It is missing, a link or no directory.
    pub fn dir(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Ok(self.child(path, self.resolve(path, DIRECTORY)?))
    }

    fn child(&self, path: &Path, fd: OwnedFd) -> Self {
        Self { fd, path: self.path.join(path), lookup: self.lookup }
    }

    /// A directory below, made with all above it when missing; what is made gets
    /// just this mode.
    ///
    /// # Errors
    /// It cannot be made, or is a link or no directory.
    pub fn make_dir(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let mut dir = self.dir("")?;
        for name in steps(path.as_ref())? {
            let made = dir.mkdir(name, 0o700)?;
            dir = dir.dir(name)?;
            if made {
                dir.set_mode(mode)?;
            }
        }
        Ok(dir)
    }

    /// Makes a directory; false when something has that name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn mkdir(&self, name: impl AsRef<Path>, mode: u32) -> io::Result<bool> {
        let name = name.as_ref();
        match rustix::fs::mkdirat(&self.fd, one(name)?, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => Ok(false),
            other => self.at(name, other).map(|()| true),
        }
    }

    /// Sets its own mode bits.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.at("", rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode)))
    }

    /// Gives it to a group.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn set_group(&self, group: u32) -> io::Result<()> {
        self.at("", rustix::fs::fchown(&self.fd, None, Some(rustix::fs::Gid::from_raw(group))))
    }

    /// Its own mode bits.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn mode(&self) -> io::Result<u32> {
        self.at("", rustix::fs::fstat(&self.fd)).map(|stat| stat.st_mode & 0o7777)
    }

    /// Opens a regular file to read. A pipe is not waited for.
    ///
    /// # Errors
    /// It is missing, a link or no regular file.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.regular(path.as_ref(), OFlags::RDONLY)
    }

    /// Opens a regular file to change it in place.
    ///
    /// # Errors
    /// As `read`.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.regular(path.as_ref(), OFlags::RDWR)
    }

    fn regular(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.resolve(path, flags)?);
        let is_file = file.metadata()?.is_file();
        let why = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        if is_file { Ok(file) } else { self.at(path, Err(why())) }
    }

    /// Makes a new file with just this mode, to write.
    ///
    /// # Errors
    /// Something has that name.
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let (dir, name) = self.parent(path.as_ref())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = dir.at(name, rustix::fs::openat(&dir.fd, name, flags, Mode::from_raw_mode(0o600)))?;
        dir.at(name, rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)))?;
        Ok(File::from(fd))
    }

    /// What has a name, links not followed; `None` when nothing has it.
    ///
    /// # Errors
    /// A directory above cannot be opened.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Option<Stat>> {
        let found = self.parent(path.as_ref()).and_then(|(dir, name)| {
            let stat = rustix::fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW);
            dir.at(name, stat)
        });
        match found {
            Err(why) if is_absent(&why) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Names in it and what they are, in no order.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entries(&self) -> io::Result<Vec<(OsString, FileType)>> {
        let mut found = Vec::new();
        for entry in self.at("", rustix::fs::Dir::read_from(&self.fd))? {
            let entry = self.at("", entry)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let mut kind = entry.file_type();
            // Not every file system tells it here.
            if kind == FileType::Unknown {
                kind = self.stat(name)?.map_or(kind, |stat| kind_of(&stat));
            }
            found.push((name.to_owned(), kind));
        }
        Ok(found)
    }

    /// Where a link in it leads; `None` when there is no such link.
    pub fn read_link(&self, name: impl AsRef<Path>) -> Option<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, one(name.as_ref()).ok()?, Vec::new()).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Makes a link in it.
    ///
    /// # Errors
    /// Something has that name.
    pub fn symlink(&self, target: impl AsRef<Path>, name: impl AsRef<Path>) -> io::Result<()> {
        let name = name.as_ref();
        self.at(name, rustix::fs::symlinkat(target.as_ref(), &self.fd, one(name)?))
    }

    /// Renames something within the directory it is in.
    ///
    /// # Errors
    /// It is missing.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (dir, name) = self.parent(from.as_ref())?;
        let to = one(Path::new(to.as_ref()))?;
        dir.at(name, rustix::fs::renameat(&dir.fd, name, &dir.fd, to))
    }

    /// Removes anything but a directory; what is missing is removed.
    ///
    /// # Errors
    /// It is a directory.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let removed = self.parent(path.as_ref()).and_then(|(dir, name)| {
            let unlinked = rustix::fs::unlinkat(&dir.fd, name, AtFlags::empty());
            dir.at(name, unlinked)
        });
        match removed {
            Err(why) if is_absent(&why) => Ok(()),
            other => other,
        }
    }

    /// The directory something is in, and its name there.
    ///
    /// # Errors
    /// That directory is missing or behind a link.
    pub fn parent<'a>(&self, path: &'a Path) -> io::Result<(Self, &'a OsStr)> {
        let names = steps(path)?;
        let name = *names.last().ok_or_else(|| outside(path))?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// The device of its file system.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn device(&self) -> io::Result<u64> {
        self.at("", rustix::fs::fstat(&self.fd)).map(|stat| stat.st_dev)
    }

    /// The number of the mount it is in.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn mount(&self) -> io::Result<u64> {
        self.at("", mount_of(self.fd.as_fd()))
    }

    /// Opens what a path names, through no link.
    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let names = steps(path)?;
        let all: PathBuf = if names.is_empty() { ".".into() } else { names.iter().collect() };
        self.at(path, (self.lookup)(&self.fd, &all, flags))
    }

    fn at<T, E: Into<io::Error>>(&self, path: impl AsRef<Path>, result: Result<T, E>) -> io::Result<T> {
        let path = path.as_ref();
        let whole = if path == Path::new("") { self.path.clone() } else { self.path.join(path) };
        at(&whole, result.map_err(Into::into))
    }
}

/// One call; where that is not known or not allowed, many.
fn by_kernel(dir: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(dir, path, flags, Mode::empty(), below) {
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => by_components(dir, path, flags),
        other => other,
    }
}

fn by_components(dir: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut above: Option<OwnedFd> = None;
    let (mut steps, last) = (path.components(), path.file_name().unwrap_or(OsStr::new(".")));
    steps.next_back();
    for step in steps {
        let from = above.as_ref().unwrap_or(dir);
        above = Some(rustix::fs::openat(from, step.as_os_str(), OFlags::PATH | DIRECTORY, Mode::empty())?);
    }
    let from = above.as_ref().unwrap_or(dir);
    rustix::fs::openat(from, last, flags | OFlags::NOFOLLOW, Mode::empty())
}

/// The names of a path that stays below where it begins.
fn steps(path: &Path) -> io::Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside(path)),
        }
    }
    Ok(names)
}

fn one(name: &Path) -> io::Result<&OsStr> {
    match steps(name)?[..] {
        [only] => Ok(only),
        _ => Err(outside(name)),
    }
}

fn outside(path: &Path) -> io::Error {
    let why = format!("path '{}' leads out of its directory", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What a file is.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A path by which calls that take only paths reach an open file.
pub fn proc_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// The number of the mount an open file is in.
///
/// # Errors
/// `/proc` is not mounted.
///
/// Source: proc_pid_fdinfo(5), since Linux 3.15.
pub fn mount_of(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::Error::other("the kernel does not tell the mount"))
}

/// Sets mode and group of a socket that was just bound: who may write in its
/// directory may have put a link in its place.
///
/// # Errors
/// No socket has that name.
pub fn restrict_socket(path: &Path, mode: u32, group: Option<u32>) -> io::Result<()> {
    let above = path.parent().filter(|above| *above != Path::new("")).unwrap_or(Path::new("."));
    let socket = Dir::open(above)?.resolve(Path::new(path.file_name().unwrap_or_default()), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC)?;
    if kind_of(&rustix::fs::fstat(&socket)?) != FileType::Socket {
        return at(path, Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket")));
    }
    let set = || {
        rustix::fs::chmod(proc_path(&socket), Mode::from_raw_mode(mode))?;
        rustix::fs::chown(proc_path(&socket), None, group.map(rustix::fs::Gid::from_raw))
    };
    at(path, set().map_err(Into::into))
}

/// How far below the directory of all pods' logs one is, `POD/CONTAINER/N.log`.
pub const LOG_DEPTH: usize = 3;

/// Opens a container's log.
///
/// # Errors
/// It is missing, behind a link or no regular file.
pub fn open_log(path: &Path) -> io::Result<File> {
    let (base, rest) = split(path, LOG_DEPTH)?;
    base.read(rest)
}

/// The directory that holds the last `depth` names of a path, with links
/// followed, and those names.
///
/// # Errors
/// There is no such directory.
pub fn split(path: &Path, depth: usize) -> io::Result<(Dir, &Path)> {
    let base = path.ancestors().nth(depth).filter(|base| *base != Path::new(""));
    let base = base.unwrap_or(Path::new("/"));
    Ok((Dir::open(base)?, path.strip_prefix(base).unwrap_or(path)))
}

/// The same file under two names, or open twice.
pub fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
