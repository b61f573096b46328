//! Volumes of a pod on disk.

use std::path::Path;

use crate::node::runtime::VolumeSetup;

/// Why a volume is not ready.
pub type Error = std::io::Error;

/// Makes the volumes ready.
pub fn setup(_root: &Path, _uid: &str, _volumes: &[VolumeSetup]) -> Result<(), Error> {
    Ok(())
}

/// Takes them away.
pub fn remove(_root: &Path, _uid: &str) -> Result<(), Error> {
    Ok(())
}
