//! One stream: a request that comes, the answer that goes. The bytes of all requests
//! together are bounded until they are answered, and those of all answers until they
//! are sent.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::MAX_MESSAGE;
use super::headers::Head;

/// gRPC's prefix: compressed or not, and the length.
const PREFIX: usize = 5;

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where the answer goes.
    pub stream: u32,
    /// The call.
    pub path: String,
    /// The message.
    pub message: Bytes,
}

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// gRPC's number.
    pub code: u32,
    /// For people.
    pub message: String,
}

impl Status {
    /// There is no such call.
    pub fn unimplemented(message: String) -> Self {
        Self { code: 12, message }
    }

    fn internal(message: &str) -> Self {
        Self { code: 13, message: message.to_owned() }
    }

    /// Too much of something.
    pub fn exhausted(message: String) -> Self {
        Self { code: 8, message }
    }
}

/// Bytes that all connections together may hold.
#[derive(Debug, Clone)]
pub struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// So many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// What is not taken, bytes.
    pub fn left(&self) -> usize {
        self.0.get()
    }

    /// Takes nothing yet.
    pub fn claim(&self) -> Claim {
        Claim { bytes: 0, budget: self.clone() }
    }
}

/// Bytes taken from the budget, given back when dropped.
pub struct Claim {
    bytes: usize,
    budget: Budget,
}

impl Claim {
    /// Takes so many bytes more. Whether there were as many.
    pub fn take(&mut self, bytes: usize) -> bool {
        let left = self.budget.0.get().checked_sub(bytes);
        if let Some(left) = left {
            self.budget.0.set(left);
            self.bytes += bytes;
        }
        left.is_some()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.budget.0.set(self.budget.0.get() + self.bytes);
    }
}

/// A request's bytes.
pub struct Body {
    bytes: BytesMut,
    claim: Claim,
}

impl Body {
    /// Without any bytes yet.
    pub fn new(budget: Budget) -> Self {
        Self { bytes: BytesMut::new(), claim: budget.claim() }
    }

    /// More of it; refused as soon as it shows that it cannot be taken.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Status> {
        if !self.claim.take(bytes.len()) {
            return Err(Status::exhausted("too many large messages at once".to_owned()));
        }
        self.bytes.extend_from_slice(bytes);
        match self.prefix() {
            Some((false, length)) if length > MAX_MESSAGE => Err(Status::exhausted(format!("a message of {length} bytes; at most {MAX_MESSAGE} are taken"))),
            Some((false, length)) if self.bytes.len() > PREFIX + length => Err(Status::internal("more than one message")),
            Some((true, _)) => Err(Status::unimplemented("messages are taken uncompressed only".to_owned())),
            Some((false, _)) | None => Ok(()),
        }
    }

    /// The message, now that nothing more comes, and what it takes of the budget.
    pub fn message(self) -> Result<(Bytes, Claim), Status> {
        match self.prefix() {
            Some((_, length)) if self.bytes.len() == PREFIX + length => Ok((self.bytes.freeze().slice(PREFIX..), self.claim)),
            Some(_) | None => Err(Status::internal("a message is not whole")),
        }
    }

    /// Whether it is compressed, and how long it is.
    fn prefix(&self) -> Option<(bool, usize)> {
        let [compressed, length @ ..] = self.bytes.first_chunk::<PREFIX>()?;
        Some((*compressed != 0, usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX)))
    }
}

/// A stream that is not at its end.
pub struct Stream {
    /// What the peer takes of it.
    pub window: i64,
    /// How far it is.
    pub phase: Phase,
}

/// How far a stream is.
pub enum Phase {
    /// The request comes.
    Asking(Head, Body),
    /// It is whole, its answer is not known. Without a claim it is being cut off.
    Asked { _claim: Option<Claim> },
    /// The answer goes out, and the trailers after it.
    Answering { rest: Bytes, _claim: Claim },
}
