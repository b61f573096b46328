//! placeholder
pub mod ids;
pub mod input;
pub mod link;
pub mod now;
pub mod pod;
pub mod presence;
pub mod runtime;
pub mod store;
