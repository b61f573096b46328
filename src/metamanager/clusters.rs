//! Which rows stand together in redb's tree, and where.
//!
//! A *cluster* is the rows of one object, or of one device; others have the one cluster
//! of all. It has a number, which stands before the keys of its rows, and a new one has
//! the highest: what comes first is appended to the tree, in whatever order names come.
//! Inserted by name, each of many new devices would have redb write a page of its own
//! anew at each checkpoint, and leave pages half empty.
//!
//! The numbers are on disk in the keys alone. In memory each cluster takes 16 bytes.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

use crate::node::store::Key;

/// What a cluster is found by: a hash of whom its rows belong to. If two share one,
/// they share their cluster, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(u64);

/// The clusters that have rows.
#[derive(Debug, Default)]
pub struct Clusters {
    all: HashMap<Owner, Cluster, BuildHasherDefault<Identity>>,
    /// Number of the newest.
    newest: u32,
}

#[derive(Debug, Clone, Copy)]
struct Cluster {
    number: u32,
    rows: u32,
}

impl Owner {
    const NOBODY: Self = Self(0);

    /// Whom a row belongs to.
    pub fn of(key: &Key) -> Self {
        let owner = match key {
            Key::Object(name) | Key::Version(name) => (0, name.as_str()),
            Key::Device(id) | Key::Property(id, _) => (1, id.as_str()),
            // They come later, all at once.
            Key::Confirmed(id, _) => (2, id.as_str()),
            Key::Token(_) | Key::Registration | Key::StoreLost | Key::Upload(_) | Key::Subscription(_) => return Self::NOBODY,
            Key::Target(_) | Key::Mapper(_) | Key::Event(_) | Key::PodRecord(_) | Key::ObeyedPod(_) => return Self::NOBODY,
        };
        Self(BuildHasherDefault::<DefaultHasher>::default().hash_one(owner))
    }
}

impl Clusters {
    /// The number of an owner's cluster; a new one if there is none.
    pub fn number(&mut self, owner: Owner) -> u32 {
        if owner == Owner::NOBODY {
            return 0;
        }
        let next = self.newest.saturating_add(1);
        let cluster = self.all.entry(owner).or_insert(Cluster { number: next, rows: 0 });
        self.newest = self.newest.max(cluster.number);
        cluster.number
    }

    /// A row was read; whether it stands where it belongs.
    pub fn found(&mut self, owner: Owner, number: u32) -> bool {
        if owner == Owner::NOBODY {
            return number == 0;
        }
        self.newest = self.newest.max(number);
        let cluster = self.all.entry(owner).or_insert(Cluster { number, rows: 0 });
        cluster.rows += 1;
        cluster.number == number
    }

    /// A row more.
    pub fn added(&mut self, owner: Owner) {
        if let Some(cluster) = self.all.get_mut(&owner) {
            cluster.rows += 1;
        }
    }

    /// A row less; a cluster without rows is forgotten.
    pub fn removed(&mut self, owner: Owner, was_there: bool) {
        if let Some(cluster) = self.all.get_mut(&owner) {
            cluster.rows -= u32::from(was_there);
            if cluster.rows == 0 {
                self.all.remove(&owner);
            }
        }
    }
}

/// A key of redb.
pub fn join(number: u32, key: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), key].concat()
}

/// The number of a key of redb, and what stands behind it.
pub fn split(key: &[u8]) -> Option<(u32, &[u8])> {
    let (number, key) = key.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), key))
}

/// A hash need not be hashed.
#[derive(Debug, Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
