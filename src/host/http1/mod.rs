//! HTTP/1.1: the one reader and writer of the agent. [`head`] and [`body`] parse
//! bytes and know no stream, [`incoming`] reads messages from a stream by them,
//! [`outgoing`] writes. What a message means is for others to say.
//!
//! Source: RFC 9112.

pub mod body;
pub mod head;
pub mod incoming;
pub mod outgoing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

pub use self::body::{Length, request_length, response_length};
pub use self::head::{Head, Headers, RequestLine, canonical, header};
pub use self::incoming::{Body, Incoming};
pub use self::outgoing::{exchange, request, response};

/// What a peer sent is not HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// The first line; at most [`head::SHOWN`] bytes of it.
    FirstLine {
        /// `request` or `response`.
        message: &'static str,
        /// The line as it came.
        line: String,
    },
    /// A line of the headers.
    Header(httparse::Error),
    /// The head is longer than [`head::LARGEST`].
    HeadTooLarge,
    /// `Content-Length` is no length, or there are different ones.
    ContentLength,
    /// `Transfer-Encoding` does not say where the body ends.
    TransferEncoding,
    /// The size of a chunk, its end, or the trailers.
    Chunk,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstLine { message, line } => write!(f, "malformed HTTP {message} {line:?}"),
            Self::Header(cause) => write!(f, "malformed HTTP header: {cause}"),
            Self::HeadTooLarge => write!(f, "headers exceeded {} bytes", head::LARGEST),
            Self::ContentLength => f.write_str("bad Content-Length"),
            Self::TransferEncoding => f.write_str("unsupported transfer encoding"),
            Self::Chunk => f.write_str("malformed chunked encoding"),
        }
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}
