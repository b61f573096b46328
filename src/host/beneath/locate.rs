//! Paths with links that may lead anywhere in a directory, but not out of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{DIRECTORY, Dir, kind_of};

/// Links on the way at most, as the kernel counts them.
const LINKS: u32 = 40;

impl Dir {
    /// Finds what a path names, with an open file that is good only to be
    /// mounted or asked what it is. Directories that are missing are made with
    /// a mode, if one is given. Links are followed as long as they stay below:
    /// each directory on the way is held open, so `..` cannot be swapped.
    ///
    /// # Errors
    /// The path leads out, or is missing.
    pub fn locate(&self, path: &Path, missing: Option<u32>) -> io::Result<OwnedFd> {
        let mut walk = Walk { top: self, above: Vec::new(), todo: Vec::new(), links: 0 };
        let found = walk.push(path).and_then(|()| walk.run(missing));
        self.at(path, found)
    }
}

struct Walk<'a> {
    top: &'a Dir,
    /// The directories gone through, and the last thing found.
    above: Vec<OwnedFd>,
    /// What is still to be looked up, the next one last.
    todo: Vec<OsString>,
    links: u32,
}

impl Walk<'_> {
    fn push(&mut self, path: &Path) -> io::Result<()> {
        for part in path.components().rev() {
            match part {
                Component::Normal(name) => self.todo.push(name.to_owned()),
                Component::ParentDir => self.todo.push("..".into()),
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => return Err(leads_out()),
            }
        }
        Ok(())
    }

    fn run(mut self, missing: Option<u32>) -> io::Result<OwnedFd> {
        while let Some(name) = self.todo.pop() {
            if name == ".." {
                self.above.pop().ok_or_else(leads_out)?;
                continue;
            }
            let found = self.step(&name, missing)?;
            if kind_of(&rustix::fs::fstat(&found)?) == FileType::Symlink {
                self.follow(&found)?;
            } else {
                self.above.push(found);
            }
        }
        self.above.pop().map_or_else(|| self.top.fd.try_clone(), Ok)
    }

    fn here(&self) -> &OwnedFd {
        self.above.last().unwrap_or(&self.top.fd)
    }

    fn step(&self, name: &OsStr, missing: Option<u32>) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(self.here(), name, flags, Mode::empty());
        match (open(), missing) {
            (Err(Errno::NOENT), Some(mode)) => {
                self.make(name, mode)?;
                Ok(open()?)
            }
            (other, _) => Ok(other?),
        }
    }

    /// The mode is set on what was opened: the name may be a link by then.
    fn make(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        match rustix::fs::mkdirat(self.here(), name, Mode::RWXU) {
            Err(Errno::EXIST) => return Ok(()),
            other => other?,
        }
        let made = rustix::fs::openat(self.here(), name, DIRECTORY, Mode::empty())?;
        Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode(mode))?)
    }

    /// An absolute link is good when it names something below, as people make
    /// them in directories of the machine.
    fn follow(&mut self, link: &OwnedFd) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())?;
        let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
        if !target.is_absolute() {
            return self.push(&target);
        }
        let real = self.top.real_path()?;
        let below = [self.top.path(), &real].iter().find_map(|top| target.strip_prefix(top).ok());
        self.above.clear();
        self.push(below.ok_or_else(leads_out)?)
    }
}

fn leads_out() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the volume")
}
