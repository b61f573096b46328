//! Stories and rules about the whole agent, in one binary.

#[cfg(feature = "cloud")]
mod offline;
#[cfg(feature = "cloud")]
mod random;
#[cfg(feature = "cloud")]
mod sim;
