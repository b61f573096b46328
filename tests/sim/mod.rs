//! The simulated world: one node, the stand-in's cluster, a runtime, a disk and
//! a clock of its own. Weeks pass in milliseconds, and everything that happens
//! follows from one seed.

pub mod answer;
mod broker;
pub mod disk;
pub mod mappers;
pub mod runtime;
pub mod world;

pub use world::World;
