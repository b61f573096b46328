//! Cgroups of pods.

use crate::node::runtime::Cgroup;

/// Why a cgroup is not as wanted.
pub type Error = std::io::Error;

/// Makes a pod's cgroup.
pub fn ensure(_cgroup: &Cgroup, _systemd: bool) -> Result<(), Error> {
    Ok(())
}

/// Removes it.
pub fn remove(_parent: &str, _systemd: bool) -> Result<(), Error> {
    Ok(())
}
