//! The machine under the agent: clock, chance, tasks, signals, log, facts, the
//! local socket, and files that others may write to. Nothing here knows anything of ours.

pub mod beneath;
pub mod chance;
pub mod clock;
pub mod follow;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(feature = "http1")]
pub mod http1;
pub mod log;
pub mod network;
pub mod notify;
pub mod signal;
pub mod socket;
pub mod tasks;
#[cfg(feature = "tls")]
pub mod tls;
