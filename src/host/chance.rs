//! A seed from the machine.

use std::hash::{BuildHasher, RandomState};

/// 64 bits nobody can guess well; not for keys.
pub fn seed() -> u64 {
    RandomState::new().hash_one(super::clock::monotonic())
}
