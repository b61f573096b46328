//! Where a body ends, and its bytes apart from those around them.

use httparse::{EMPTY_HEADER, Status};

use super::Malformed;
use super::head::{Head, RequestLine, values};

/// Longest line that says how large a chunk is, bytes.
const CHUNK_LINE: usize = 1 << 10;
/// Longest trailers, bytes.
const TRAILERS: usize = 16 << 10;
/// Most of them.
const TRAILER_COUNT: usize = 64;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As many bytes as Content-Length says.
    Bytes(u64),
    /// In chunks, each with its own length (`Transfer-Encoding: chunked`).
    Chunked,
    /// Until the peer closes.
    UntilEnd,
}

/// How long the body of a request is.
///
/// # Errors
///
/// The headers contradict each other, or name an encoding whose end is not known:
/// a body that two readers may cut at different places is not read (RFC 9112, 6.3).
pub fn request_length(head: &Head<RequestLine>) -> Result<Length, Malformed> {
    let length = content_length(head)?;
    match (is_chunked(head)?, length) {
        (Some(true), None) if !head.is_http10 => Ok(Length::Chunked),
        (None, length) => Ok(Length::Bytes(length.unwrap_or(0))),
        (Some(_), _) => Err(Malformed::TransferEncoding),
    }
}

/// How long the body of a response to `method` is.
///
/// # Errors
///
/// `Content-Length` is no length.
pub fn response_length(method: &str, head: &Head<u16>) -> Result<Length, Malformed> {
    let is_tunnel = method == "CONNECT" && (200..300).contains(&head.start);
    if method == "HEAD" || matches!(head.start, 100..=199 | 204 | 304) || is_tunnel {
        return Ok(Length::Bytes(0));
    }
    // An encoding in HTTP/1.0 is none, as Go reads it.
    match is_chunked(head)?.filter(|_| !head.is_http10) {
        Some(true) => Ok(Length::Chunked),
        Some(false) => Ok(Length::UntilEnd),
        None => Ok(content_length(head)?.map_or(Length::UntilEnd, Length::Bytes)),
    }
}

/// Whether the last transfer encoding is `chunked`; `None` without any.
fn is_chunked<T>(head: &Head<T>) -> Result<Option<bool>, Malformed> {
    let codings = || {
        let all = values(&head.headers, "transfer-encoding").flat_map(|value| value.split(','));
        all.map(str::trim).filter(|coding| !coding.is_empty())
    };
    let is_chunked = |coding: &str| coding.eq_ignore_ascii_case("chunked");
    match codings().filter(|coding| is_chunked(coding)).count() {
        0 | 1 => Ok(codings().last().map(is_chunked)),
        _ => Err(Malformed::TransferEncoding),
    }
}

/// The one length; several that are alike are one (RFC 9110, 8.6).
fn content_length<T>(head: &Head<T>) -> Result<Option<u64>, Malformed> {
    let all = values(&head.headers, "content-length").flat_map(|value| value.split(','));
    let mut lengths = all.map(str::trim);
    let Some(first) = lengths.next() else { return Ok(None) };
    let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || lengths.any(|other| other != first) {
        return Err(Malformed::ContentLength);
    }
    first.parse().map(Some).map_err(|_| Malformed::ContentLength)
}

/// Takes a body apart, from the bytes after the head on.
#[derive(Debug)]
pub struct BodyDecoder(Part);

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// As many bytes of the body.
    Counted(u64),
    /// Bytes of the body until the stream ends.
    UntilEnd,
    ChunkSize,
    /// As many bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Nothing,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// As many bytes of the body.
    Data(usize),
    /// As many bytes that are not of the body.
    Framing(usize),
    /// It takes more bytes to say.
    Incomplete,
    /// The body is over.
    End,
}

impl BodyDecoder {
    /// A body of which nothing was read.
    pub fn new(length: Length) -> Self {
        Self(match length {
            Length::Bytes(0) => Part::Nothing,
            Length::Bytes(count) => Part::Counted(count),
            Length::Chunked => Part::ChunkSize,
            Length::UntilEnd => Part::UntilEnd,
        })
    }

    /// Whether the body is whole when the stream ends here.
    pub fn may_end(&self) -> bool {
        matches!(self.0, Part::UntilEnd | Part::Nothing)
    }

    /// Looks at the bytes that come next; those of the step are done with.
    ///
    /// # Errors
    ///
    /// The bytes are no chunks, or what is around the chunks has no end.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        match self.0 {
            Part::Nothing => Ok(Step::End),
            Part::Counted(_) | Part::UntilEnd | Part::Chunk(_) if bytes.is_empty() => Ok(Step::Incomplete),
            Part::UntilEnd => Ok(Step::Data(bytes.len())),
            Part::Counted(left) => Ok(self.data(left, bytes, Part::Counted, Part::Nothing)),
            Part::Chunk(left) => Ok(self.data(left, bytes, Part::Chunk, Part::ChunkEnd)),
            Part::ChunkSize => self.chunk_size(bytes),
            Part::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => Ok(self.framing(2, Part::ChunkSize)),
                [] | [b'\r'] => Ok(Step::Incomplete),
                _ => Err(Malformed::Chunk),
            },
            Part::Trailers => self.trailers(bytes),
        }
    }

    fn data(&mut self, left: u64, bytes: &[u8], rest: fn(u64) -> Part, after: Part) -> Step {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.0 = if left == 0 { after } else { rest(left) };
        Step::Data(here)
    }

    fn framing(&mut self, length: usize, next: Part) -> Step {
        self.0 = next;
        Step::Framing(length)
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        match httparse::parse_chunk_size(bytes).map_err(|_| Malformed::Chunk)? {
            Status::Complete((length, 0)) => Ok(self.framing(length, Part::Trailers)),
            Status::Complete((length, size)) => Ok(self.framing(length, Part::Chunk(size))),
            Status::Partial if bytes.len() > CHUNK_LINE => Err(Malformed::Chunk),
            Status::Partial => Ok(Step::Incomplete),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let mut trailers = [EMPTY_HEADER; TRAILER_COUNT];
        match httparse::parse_headers(bytes, &mut trailers).map_err(|_| Malformed::Chunk)? {
            Status::Complete((length, _)) => Ok(self.framing(length, Part::Nothing)),
            Status::Partial if bytes.len() > TRAILERS => Err(Malformed::Chunk),
            Status::Partial => Ok(Step::Incomplete),
        }
    }
}
