//! The targets for libFuzzer; see README.md.

#[path = "../sim/mod.rs"]
#[allow(dead_code, missing_docs)]
mod sim;
pub mod targets;
// Its matching of topics is the simulated broker's, too.
#[path = "../vectors/mod.rs"]
#[allow(dead_code, missing_docs, unused_imports)]
mod vectors;
