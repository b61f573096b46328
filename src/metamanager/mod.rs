//! The disk's shell: what the node wants to survive goes through one
//! preallocated ring (`journal`) and is folded into redb (`store`) rarely. It
//! knows rows and tickets, not what they mean.
//!
//! What stands on disk is checked when it is read: a record and a row have a checksum
//! that only this store can make, and rows are counted. A store that is not what was
//! written is told as lost, and moved aside.
//!
//! A ticket is answered by `Stored` when its batch is on disk, in order. While the
//! disk takes nothing, batches are kept and tried again; `StoreHealth` tells.

mod clusters;
pub mod format2;
pub mod journal;
pub mod medium;
mod opening;
pub mod record;
pub mod salt;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use medium::Directory;
pub use store::Store;
pub use writer::Writer;

use crate::config;
use crate::node::Restored;

/// Why the store cannot be used at all.
#[derive(Debug)]
pub enum StoreError {
    /// The file system says no.
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// It was written by a newer agent.
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// redb cannot use it.
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: Box<redb::Error>,
    },
    /// What is in it makes no sense.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What.
        what: String,
    },
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Newer { path, found } => {
                write!(f, "the store {} has format {found}, this build knows up to {}: install the newer agent again", path.display(), tree::FORMAT)
            }
            Self::Database { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Corrupt { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// Whether the content is at fault: trying again is no use.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Newer { .. } => false,
            Self::Io { why, .. } => is_content(why),
            Self::Database { why, .. } => is_redb_damage(why),
        }
    }

    /// Whether the file system itself is at fault, and not that it is full.
    fn is_of_file_system(&self) -> bool {
        let of_space = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        self.io().is_some_and(|why| why.raw_os_error().is_some() && !of_space.contains(&why.kind()))
    }

    /// The error of the file system, if it is one.
    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { why, .. } => Some(why),
            Self::Database { why, .. } => {
                if let redb::Error::Io(why) = why.as_ref() {
                    Some(why)
                } else {
                    None
                }
            }
            Self::Newer { .. } | Self::Corrupt { .. } => None,
        }
    }
}

/// redb's errors grow: one that is not known speaks of the content.
fn is_redb_damage(why: &redb::Error) -> bool {
    use redb::Error;
    if let Error::Io(why) = why {
        return is_content(why);
    }
    !matches!(why, Error::PreviousIo | Error::DatabaseClosed | Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch)
}

/// Whether an error of the file system says that a file is not what was written.
fn is_content(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Openings in a row that may crash before the store is taken for damaged.
const CRASHES: usize = 2;

/// Opens the store below a directory; a damaged one is moved aside, named with
/// `now` (seconds since the epoch), and a new one begun. Damaged is also one that
/// cannot be read from its medium, and one that crashed the agent twice while it was
/// opened.
pub fn open(config: &config::MetaManager, now: i64) -> Result<(Store, Restored), StoreError> {
    let directory = || Directory::new(&config.dir, config.journal);
    let opened = match opening::begin(&config.dir) {
        crashes if crashes >= CRASHES => {
            let what = format!("the agent crashed {crashes} times while it was opened");
            Err(StoreError::Corrupt { path: config.dir.join(medium::FILE), what })
        }
        _ => Store::open(directory()),
    };
    let opened = match opened {
        Err(error) if error.is_damage() || is_unreadable(&error) => {
            log::error!(target: "metamanager", "the store is damaged and moved aside: {error}");
            aside(&config.dir, now)?;
            opening::end(&config.dir);
            let (store, mut restored) = Store::open(directory())?;
            restored.lost = Some(error.to_string());
            Ok((store, restored))
        }
        other => other,
    };
    opening::end(&config.dir);
    opened
}

/// The medium itself has lost it.
fn is_unreadable(error: &StoreError) -> bool {
    error.io().and_then(io::Error::raw_os_error) == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Files are moved; of those that were moved earlier none stays, for the flash is
/// small.
fn aside(dir: &Path, now: i64) -> Result<(), StoreError> {
    for name in [medium::FILE, journal::FILE] {
        let (path, target) = (dir.join(name), format!("{name}.damaged-{now}"));
        match std::fs::rename(&path, dir.join(&target)) {
            Ok(()) => remove_older(dir, name, &target),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(StoreError::Io { path, why }),
        }
    }
    Ok(())
}

/// Earlier builds called them corrupt.
fn remove_older(dir: &Path, name: &str, newest: &str) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let is_moved = |found: &str| ["damaged", "corrupt"].iter().any(|word| found.starts_with(&format!("{name}.{word}-")));
        if found.to_str().is_some_and(|found| found != newest && is_moved(found))
            && let Err(why) = std::fs::remove_file(entry.path())
        {
            log::warn!(target: "metamanager", "{}: {why}", entry.path().display());
        }
    }
}
