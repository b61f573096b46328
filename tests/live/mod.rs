//! Stories on a real containerd, over the real wire: `make live` brings a
//! containerd of its own and names it in `SELVEDGE_CONTAINERD`. And on a real
//! mosquitto, each test with one of its own.

#[cfg(feature = "eventbus")]
mod beside;
mod disk;
mod fields;
mod hostile;
#[cfg(feature = "eventbus")]
mod load;
#[cfg(feature = "dmi")]
mod mapper;
#[cfg(feature = "eventbus")]
mod mosquitto;
mod mounts;
mod probes;
mod registry;
pub mod stand;
mod stories;
mod volumes;
