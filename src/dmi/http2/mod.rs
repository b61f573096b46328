//! HTTP/2 (RFC 9113) as a server of unary gRPC calls, without any IO: bytes in,
//! requests out; answers in, bytes out. Whatever the bytes are, nothing panics
//! and memory is bounded.
//!
//! `frame` cuts bytes into frames, `headers` reads and writes their header
//! blocks, `connection` keeps the streams.

mod connection;
mod frame;
mod headers;
#[cfg(test)]
mod tests;

pub use connection::{Budget, Connection, MAX_STREAMS, Request, Status};

/// Largest message taken, as Go's servers have it.
pub const MAX_MESSAGE: usize = 4 << 20;
