//! HTTP/2 (RFC 9113) as a server of unary gRPC calls, without any IO: bytes in,
//! requests out; answers in, bytes out. Whatever the bytes are, nothing panics
//! and memory is bounded.
//!
//! `frame` cuts bytes into frames, `headers` reads and writes their header
//! blocks, `stream` is one call, `connection` keeps them all.

mod connection;
mod frame;
mod headers;
mod stream;
#[cfg(test)]
mod tests;

pub use connection::{Connection, MAX_STREAMS};
pub use stream::{Budget, Request, Status};

/// Largest message taken, as Go's servers have it.
pub const MAX_MESSAGE: usize = 4 << 20;
