//! Frames of HTTP/2, RFC 9113 section 4 and 6.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest payload, both ways: the least that everybody takes.
pub const MAX_FRAME: usize = 16_384;
const HEAD: usize = 9;

/// Flag: the last of its stream; of SETTINGS and PING: the answer.
pub const END_STREAM: u8 = 0x1;
/// Flag: an answer.
pub const ACK: u8 = 0x1;
/// Flag: no CONTINUATION follows.
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Types of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of a message.
    Data,
    /// The begin of headers or trailers.
    Headers,
    /// Outdated; ignored.
    Priority,
    /// A stream is given up.
    Reset,
    /// What the sender can take.
    Settings,
    /// Never from a client.
    PushPromise,
    /// Is anybody there.
    Ping,
    /// No new streams.
    GoAway,
    /// More may be sent.
    WindowUpdate,
    /// More of a header block.
    Continuation,
    /// Something newer; ignored.
    Other(u8),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: Kind,
    /// What its type says they are.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// The rest.
    pub payload: Bytes,
}

/// Why a connection or a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// HTTP/2's number.
    pub code: u32,
    /// For the log.
    pub why: &'static str,
}

/// HTTP/2's error codes, RFC 9113 section 7.
pub mod code {
    /// None.
    pub const NO_ERROR: u32 = 0;
    /// The peer breaks a rule.
    pub const PROTOCOL: u32 = 1;
    /// It sends more than it may, or allows more than there is.
    pub const FLOW_CONTROL: u32 = 3;
    /// It goes on after the end.
    pub const STREAM_CLOSED: u32 = 5;
    /// A length that cannot be.
    pub const FRAME_SIZE: u32 = 6;
    /// Too many streams; nothing was done.
    pub const REFUSED_STREAM: u32 = 7;
    /// A header block that cannot be read.
    pub const COMPRESSION: u32 = 9;
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

impl Fault {
    /// The peer breaks a rule.
    pub fn protocol(why: &'static str) -> Self {
        Self { code: code::PROTOCOL, why }
    }
}

impl Kind {
    fn from(number: u8) -> Self {
        let known = [
            Self::Data,
            Self::Headers,
            Self::Priority,
            Self::Reset,
            Self::Settings,
            Self::PushPromise,
            Self::Ping,
            Self::GoAway,
            Self::WindowUpdate,
            Self::Continuation,
        ];
        known.get(usize::from(number)).copied().unwrap_or(Self::Other(number))
    }

    fn number(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::Reset => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Other(number) => number,
        }
    }
}

/// Cuts a whole frame from what came.
pub fn cut(buffer: &mut BytesMut) -> Result<Option<Frame>, Fault> {
    let Some(&[l1, l2, l3, kind, flags, s1, s2, s3, s4]) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(Fault { code: code::FRAME_SIZE, why: "a frame is longer than 16384 bytes" });
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    // The first bit of the stream means nothing.
    let stream = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]);
    Ok(Some(Frame { kind: Kind::from(kind), flags, stream, payload: buffer.split_to(length).freeze() }))
}

/// Writes a frame; `payload` is not longer than [`MAX_FRAME`].
pub fn put(out: &mut BytesMut, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    out.reserve(HEAD + payload.len());
    out.put_slice(&length.to_be_bytes()[1..]);
    out.put_u8(kind.number());
    out.put_u8(flags);
    out.put_u32(stream);
    out.put_slice(payload);
}

impl Frame {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The content of DATA or HEADERS, without padding and priority.
    pub fn content(&self) -> Result<Bytes, Fault> {
        let mut content = self.payload.clone();
        let mut padding = 0;
        if self.has(PADDED) {
            padding = usize::from(content.try_get_u8().map_err(|_| Fault { code: code::FRAME_SIZE, why: "no length of padding" })?);
        }
        if self.kind == Kind::Headers && self.has(PRIORITY) {
            if content.len() < 5 {
                return Err(Fault { code: code::FRAME_SIZE, why: "no whole priority" });
            }
            content.advance(5);
        }
        let length = content.len().checked_sub(padding).ok_or(Fault::protocol("more padding than payload"))?;
        content.truncate(length);
        Ok(content)
    }

    /// A payload of four bytes: of RST_STREAM and WINDOW_UPDATE.
    pub fn number(&self) -> Result<u32, Fault> {
        let bytes: [u8; 4] = (&self.payload[..]).try_into().map_err(|_| Fault { code: code::FRAME_SIZE, why: "four bytes were expected" })?;
        Ok(u32::from_be_bytes(bytes))
    }
}
