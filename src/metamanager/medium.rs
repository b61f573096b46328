//! Where the store's two files are: a directory, or in tests memory that fails.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::{Advice, fadvise};

use super::journal::{self, Disk};

/// Name of redb's file.
pub const FILE: &str = "store.redb";

/// Where the store's two files are.
pub trait Medium {
    /// The ring.
    type Ring: Disk;
    /// What is below redb.
    type Tree: StorageBackend;

    /// Opens the ring; a new one has its size and holds zeros.
    fn ring(&self) -> io::Result<Self::Ring>;
    /// Opens what is below redb; a new one is empty.
    fn tree(&self) -> io::Result<Self::Tree>;
    /// An error if what was opened last is not what stands there now: `NotFound` if it
    /// was removed, another one if its file system is not mounted there any more.
    fn check(&self) -> io::Result<()>;
    /// An error if there are not both files.
    fn find(&self) -> io::Result<()>;
    /// Lets the check fail until both files are opened again.
    fn disown(&self);
    /// The path of the ring, for errors.
    fn ring_path(&self) -> PathBuf;
    /// The path of redb's file, for errors.
    fn tree_path(&self) -> PathBuf;
}

/// A directory, 0700, with files of 0600.
#[derive(Debug)]
pub struct Directory {
    dir: PathBuf,
    size: u64,
    ring: std::cell::Cell<Option<Identity>>,
    tree: std::cell::Cell<Option<Identity>>,
    /// Device of the directory, once a file was opened there.
    device: std::cell::Cell<Option<u64>>,
}

/// Device and inode.
type Identity = (u64, u64);

impl Directory {
    /// A directory that need not be there, and the size of a new ring, bytes.
    pub fn new(dir: &Path, size: u64) -> Self {
        Self { dir: dir.to_owned(), size: size.next_multiple_of(4096), ring: None.into(), tree: None.into(), device: None.into() }
    }

    /// Opens or makes a file. What the kernel remembers of it is dropped: after a
    /// failed sync it may remember what the disk does not have.
    fn open(&self, path: &Path) -> io::Result<File> {
        if !self.dir.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        self.device.set(Some(self.device_now()?));
        // A file system that cannot do it keeps nothing, either.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        Ok(file)
    }

    /// Device of the directory, or of where it would be made.
    fn device_now(&self) -> io::Result<u64> {
        let found = self.dir.ancestors().find_map(|dir| dir.metadata().ok());
        found.map(|found| found.dev()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Why a file is not there any more. The directory is looked at only now: whether
    /// the files are there is asked for each batch.
    fn missing(&self, path: &Path) -> io::Error {
        if self.device.get().is_some_and(|opened| self.device_now().ok() != Some(opened)) {
            return io::Error::other(format!("the file system of {} is not mounted any more", self.dir.display()));
        }
        io::Error::new(io::ErrorKind::NotFound, format!("{} was removed while it was in use", path.display()))
    }
}

impl Medium for Directory {
    type Ring = RingFile;
    type Tree = FileBackend;

    fn ring(&self) -> io::Result<RingFile> {
        let mut file = self.open(&self.ring_path())?;
        if file.metadata()?.len() == 0 {
            io::copy(&mut io::Read::take(io::repeat(0), self.size), &mut file)?;
            file.sync_all()?;
            sync_names(&self.dir);
        }
        let data = file.metadata()?;
        self.ring.set(Some((data.dev(), data.ino())));
        Ok(RingFile { file, size: data.len() })
    }

    fn tree(&self) -> io::Result<FileBackend> {
        let file = self.open(&self.tree_path())?;
        let data = file.metadata()?;
        if data.len() == 0 {
            sync_names(&self.dir);
        }
        self.tree.set(Some((data.dev(), data.ino())));
        FileBackend::new(file).map_err(io::Error::other)
    }

    fn check(&self) -> io::Result<()> {
        for (path, opened) in [(self.ring_path(), &self.ring), (self.tree_path(), &self.tree)] {
            let is_same = |opened: Identity| path.symlink_metadata().is_ok_and(|found| (found.dev(), found.ino()) == opened);
            if opened.get().is_some_and(|opened| !is_same(opened)) {
                return Err(self.missing(&path));
            }
        }
        Ok(())
    }

    fn find(&self) -> io::Result<()> {
        [self.ring_path(), self.tree_path()].iter().try_for_each(|path| path.symlink_metadata().map(drop))
    }

    fn disown(&self) {
        self.ring.set(Some((0, 0)));
    }

    fn ring_path(&self) -> PathBuf {
        self.dir.join(journal::FILE)
    }

    fn tree_path(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

/// Best effort: some file systems cannot sync a directory.
fn sync_names(dir: &Path) {
    if let Err(why) = File::open(dir).and_then(|dir| dir.sync_all()) {
        log::debug!(target: "metamanager", "{}: names cannot be synced: {why}", dir.display());
    }
}

/// The ring's file.
#[derive(Debug)]
pub struct RingFile {
    file: File,
    size: u64,
}

impl Disk for RingFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn size(&self) -> u64 {
        self.size
    }
}
