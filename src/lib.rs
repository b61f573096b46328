//! placeholder
pub mod agent;
pub mod cli;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod config;
#[cfg(feature = "edged")]
pub mod edged;
#[cfg(feature = "edgehub")]
pub mod edgehub;
pub mod host;
#[cfg(feature = "metamanager")]
pub mod metamanager;
pub mod node;
pub mod wire;
