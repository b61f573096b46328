//! The disk's shell: what the node wants to survive goes through one
//! preallocated ring (`journal`) and is folded into redb (`store`) rarely. It
//! knows rows and tickets, not what they mean.
//!
//! A ticket is answered by `Stored` when its batch is on disk, in order. While the
//! disk takes nothing, batches are kept and tried again; `StoreHealth` tells.

mod format2;
mod journal;
mod record;
mod store;
mod writer;

use std::path::{Path, PathBuf};

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
                write!(f, "the store {} has format {found}, this build knows up to {}: install the newer agent again", path.display(), store::FORMAT)
            }
            Self::Database { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Corrupt { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {}

/// Opens the store below a directory; a corrupt one is moved aside, named with
/// `now` (seconds since the epoch), and a new one begun.
pub fn open(config: &config::MetaManager, now: i64) -> Result<(Store, Restored), StoreError> {
    match Store::open(&config.dir, config.journal) {
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Database { .. })) => {
            log::error!(target: "metamanager", "the store is corrupt and moved aside: {error}");
            aside(&config.dir, now)?;
            let (store, mut restored) = Store::open(&config.dir, config.journal)?;
            restored.lost = Some(error.to_string());
            Ok((store, restored))
        }
        other => other,
    }
}

/// Files are moved, never deleted.
fn aside(dir: &Path, now: i64) -> Result<(), StoreError> {
    for name in [store::FILE, journal::FILE] {
        let (path, target) = (dir.join(name), dir.join(format!("{name}.corrupt-{now}")));
        match std::fs::rename(&path, target) {
            Ok(()) => {}
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
            Err(why) => return Err(StoreError::Io { path, why }),
        }
    }
    Ok(())
}
