//! Messages read from a stream one after the other.

use std::io;

use futures_lite::{AsyncRead, AsyncReadExt};

use super::Malformed;
use super::body::{BodyDecoder, Length, Step};
use super::head::{Head, RequestLine, parse_request, parse_response};

/// What is read at once, bytes.
const PIECE: usize = 8 << 10;

/// A body, or as much of it as was wanted.
#[derive(Debug)]
pub struct Body {
    /// Its bytes, decoded if it came in chunks.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
}

/// A stream that is read message by message.
#[derive(Debug)]
pub struct Incoming<S> {
    /// The stream, for writing.
    pub stream: S,
    ahead: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Incoming<S> {
    /// Nothing was read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    /// What was read beyond the last message.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more; the count is 0 at the end. A peer that closes without TLS's
    /// goodbye has said all it had, too.
    async fn fill(&mut self) -> io::Result<usize> {
        let old = self.ahead.len();
        self.ahead.resize(old + PIECE, 0);
        let read = match self.stream.read(&mut self.ahead[old..]).await {
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        };
        self.ahead.truncate(old + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Reads a head. It is parsed when a line came to its end, not for each byte:
    /// a peer that sends it in small pieces costs no more for that.
    async fn head<T>(&mut self, parse: Parse<T>) -> io::Result<Head<T>> {
        let mut new = self.ahead.len();
        loop {
            let from = self.ahead.len() - new;
            if (from == 0 && new > 0) || self.ahead[from..].contains(&b'\n') {
                if let Some((length, head)) = parse(&self.ahead)? {
                    self.ahead.drain(..length);
                    return Ok(head);
                }
            } else if self.ahead.len() > super::head::LARGEST {
                return Err(Malformed::HeadTooLarge.into());
            }
            new = self.fill().await?;
            if new == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the head of a request.
    ///
    /// # Errors
    ///
    /// The stream failed or ended, or no request came.
    pub async fn request(&mut self) -> io::Result<Head<RequestLine>> {
        self.head(parse_request).await
    }

    /// Reads the head of a response. Interim ones are passed over; 101 is none,
    /// for nothing of HTTP follows it.
    ///
    /// # Errors
    ///
    /// The stream failed or ended, or no response came.
    pub async fn response(&mut self) -> io::Result<Head<u16>> {
        loop {
            let head = self.head(parse_response).await?;
            if head.start == 101 || !(100..200).contains(&head.start) {
                return Ok(head);
            }
        }
    }

    /// Reads a body up to `limit`; `admit` may refuse so many bytes more.
    ///
    /// # Errors
    ///
    /// The stream failed or ended too early, the chunks are malformed, or `admit`
    /// refused.
    pub async fn body(&mut self, length: Length, limit: usize, mut admit: impl FnMut(usize) -> io::Result<()>) -> io::Result<Body> {
        let mut body = Body { bytes: Vec::new(), cut: false };
        let mut decoder = BodyDecoder::new(length);
        loop {
            match decoder.step(&self.ahead)? {
                Step::End => return Ok(body),
                Step::Framing(count) => drop(self.ahead.drain(..count)),
                Step::Data(count) => {
                    let taken = count.min(limit - body.bytes.len());
                    admit(taken)?;
                    body.bytes.extend(self.ahead.drain(..taken));
                    if taken < count {
                        body.cut = true;
                        return Ok(body);
                    }
                }
                Step::Incomplete if self.fill().await? > 0 => {}
                Step::Incomplete if decoder.may_end() => return Ok(body),
                Step::Incomplete => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Reads what still comes and forgets it: a peer that is cut off while it
    /// writes does not read what was answered.
    pub async fn linger(&mut self, most: usize) {
        let mut seen = 0;
        self.ahead.clear();
        while seen < most && matches!(self.fill().await, Ok(1..)) {
            seen += self.ahead.len();
            self.ahead.clear();
        }
    }
}

/// Parses a head, see [`parse_request`].
type Parse<T> = fn(&[u8]) -> Result<Option<(usize, Head<T>)>, Malformed>;
