//! The store as a whole: kept, upgraded, spoilt, on a disk that fails.

mod basics;
mod faults;
mod health;
mod load;
mod spoilt;
mod upgrade;

use std::path::PathBuf;

use super::medium::Directory;
use super::{Store, StoreError};
use crate::node::Restored;
use crate::node::ids::Ticket;
use crate::node::store::{Batch, Change, Key, Row};

/// A directory of its own that is not there yet.
fn dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("selvedge-store-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

fn open(dir: &std::path::Path) -> Result<(Store, Restored), StoreError> {
    Store::open(Directory::new(dir, 64 << 10))
}

fn batch(ticket: u64, name: &str, size: usize) -> Batch {
    Batch { ticket: Ticket(ticket), changes: vec![Change::set(Key::Object(name.into()), Row::Object("x".repeat(size)))] }
}
