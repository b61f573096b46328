//! Parts of volumes.

use std::path::Path;

/// Why a part cannot be bound.
pub type Error = std::io::Error;

/// Binds a part of a volume to `target`.
pub fn bind(_root_of_volume: &Path, _sub_path: &str, _target: &Path) -> Result<(), Error> {
    Ok(())
}

/// Takes all of a pod away.
pub fn unbind_all(_root: &Path, _uid: &str) -> Result<(), Error> {
    Ok(())
}
