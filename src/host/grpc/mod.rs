//! gRPC as a client on unix sockets: framing on an HTTP/2 stream and verdicts
//! here, the connection in [`Channel`], or one call on its own by [`once`]. Nothing here knows what calls mean.

mod channel;
mod fields;
mod once;

pub use channel::Channel;
pub use fields::count_fields;
pub use once::once;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, StatusCode};

/// Largest message taken, as Go's clients have it.
pub const MAX_MESSAGE: usize = 16 << 20;
/// Entries of a list that is an answer. A node has some hundred containers and images,
/// and each takes some hundred bytes however short it is in the message.
const MAX_ENTRIES: usize = 1 << 16;
/// Bytes of headers taken.
const MAX_HEADERS: u32 = 256 << 10;
/// Bytes of a refusal's `grpc-message` that are kept; it goes into logs and statuses.
const MAX_REASON: usize = 8 << 10;

/// Who is called.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What it is, as in `runtime`.
    pub name: &'static str,
    /// Where it listens.
    pub socket: PathBuf,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} at '{}'", self.name, self.socket.display())
    }
}

/// Why a call has no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens on the socket.
    Unreachable {
        /// Who.
        peer: Peer,
        /// Why.
        cause: std::io::Error,
    },
    /// The connection ended or broke.
    Broken {
        /// Who.
        peer: Peer,
        /// Path of the call.
        call: &'static str,
        /// Why.
        cause: h2::Error,
    },
    /// It says no.
    Refused {
        /// Path of the call.
        call: &'static str,
        /// gRPC's status code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// No answer in time.
    TimedOut {
        /// Who.
        peer: Peer,
        /// Path of the call.
        call: &'static str,
        /// Which time.
        limit: Duration,
    },
    /// What came is no answer.
    Garbled {
        /// Who.
        peer: Peer,
        /// Path of the call.
        call: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A status code of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Its own time limit passed.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(5);
    /// Too much of something, or too often.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// It was given up half way.
    pub const ABORTED: Self = Self(10);
    /// There is no such call.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// Not now.
    pub const UNAVAILABLE: Self = Self(14);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        match usize::try_from(self.0).ok().and_then(|at| names.get(at)) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl Error {
    /// Its code, if it answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => None,
        }
    }

    fn garbled(peer: &Peer, call: &'static str, why: impl fmt::Display) -> Self {
        Self::Garbled { peer: peer.clone(), call, why: why.to_string() }
    }

    /// It knows no such thing.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NOT_FOUND)
    }

    /// It has no such call.
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Some(Code::UNIMPLEMENTED)
    }

    /// It is not there, rather than against us.
    pub fn is_down(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { code, .. } => *code == Code::UNAVAILABLE,
            Self::TimedOut { .. } | Self::Garbled { .. } => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |call: &'static str| call.rsplit('/').next().unwrap_or(call);
        match self {
            Self::Unreachable { peer, cause } => write!(f, "cannot reach {peer}: {cause}"),
            Self::Broken { peer, call, cause } => write!(f, "lost {peer} during {}: {cause}", name(call)),
            Self::Refused { call, code, message } => write!(f, "{} failed ({code}): {message}", name(call)),
            Self::TimedOut { peer, call, limit } => write!(f, "{peer} did not answer {} within {} s", name(call), limit.as_secs_f32()),
            Self::Garbled { peer, call, why } => write!(f, "{peer} answered {} with {why}", name(call)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { cause, .. } => Some(cause),
            Self::Broken { cause, .. } => Some(cause),
            Self::Refused { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => None,
        }
    }
}

/// Answers of one call. Dropping it tells the peer to stop.
pub struct Stream {
    peer: Peer,
    call: &'static str,
    state: State,
    /// The peer said how it ended.
    judged: bool,
    /// Largest message taken, bytes.
    limit: usize,
    buffer: BytesMut,
}

enum State {
    Asked(ResponseFuture),
    Answering(RecvStream),
    Ended,
}

impl Stream {
    fn new(peer: &Peer, call: &'static str, response: ResponseFuture) -> Self {
        Self { peer: peer.clone(), call, state: State::Asked(response), judged: false, limit: MAX_MESSAGE, buffer: BytesMut::new() }
    }

    /// Takes messages of so many bytes at most.
    fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The next message; `None` when the peer is done and content. May be
    /// dropped while it waits without losing anything.
    pub async fn next<A: prost::Message + Default>(&mut self) -> Result<Option<A>, Error> {
        match self.message().await? {
            None => Ok(None),
            Some(message) => A::decode(message).map(Some).map_err(|cause| self.garbled(cause)),
        }
    }

    /// The next message, which there must be.
    pub async fn expect<A: prost::Message + Default>(&mut self) -> Result<A, Error> {
        self.next().await?.ok_or_else(|| self.garbled("an end of the stream"))
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match &mut self.state {
                State::Asked(response) => {
                    let response = response.await;
                    self.answered(response.map_err(|cause| self.broken(cause))?)?;
                }
                State::Answering(body) => match body.data().await {
                    Some(Ok(chunk)) => {
                        // Else the peer stops after one window.
                        let released = body.flow_control().release_capacity(chunk.len());
                        self.buffer.extend_from_slice(&chunk);
                        released.map_err(|cause| self.broken(cause))?;
                    }
                    Some(Err(cause)) => return Err(self.broken(cause)),
                    None => {
                        let trailers = body.trailers().await;
                        let trailers = trailers.map_err(|cause| self.broken(cause))?;
                        self.state = State::Ended;
                        if !self.judged {
                            self.verdict(&trailers.unwrap_or_default())?;
                        }
                    }
                },
                State::Ended if self.buffer.is_empty() => return Ok(None),
                State::Ended => return Err(self.garbled("half a message")),
            }
        }
    }

    fn answered(&mut self, response: http::Response<RecvStream>) -> Result<(), Error> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(self.garbled(format!("HTTP status {}", head.status)));
        }
        if head.headers.contains_key("grpc-status") {
            self.verdict(&head.headers)?;
        }
        self.state = State::Answering(body);
        Ok(())
    }

    /// `grpc-status`: in the trailers, or in the head when there is nothing else.
    fn verdict(&mut self, headers: &HeaderMap) -> Result<(), Error> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(&value.as_bytes()[..value.len().min(MAX_REASON)]));
        self.judged = true;
        match text("grpc-status").map(|code| code.parse()) {
            Some(Ok(0)) => Ok(()),
            Some(Ok(code)) => Err(Error::Refused { call: self.call, code: Code(code), message: unescape(&text("grpc-message").unwrap_or_default()) }),
            None | Some(Err(_)) => Err(self.garbled("no status")),
        }
    }

    /// Cuts a whole message from what came.
    fn whole(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(self.garbled("a compressed message"));
        }
        if length > self.limit {
            return Err(self.garbled(format!("a message of {length} bytes; at most {} are taken", self.limit)));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn garbled(&self, why: impl fmt::Display) -> Error {
        Error::garbled(&self.peer, self.call, why)
    }

    fn broken(&self, cause: h2::Error) -> Error {
        Error::Broken { peer: self.peer.clone(), call: self.call, cause }
    }
}

/// A message with its five bytes before it.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(message.len()).expect("no message of ours has 4 GiB").to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// `grpc-message` is percent-encoded.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        match escaped.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
