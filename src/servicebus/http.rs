//! HTTP/1.1 read from a stream, as a server and as a client need it: one
//! message, its head bounded, its body bounded and counted. What it means is
//! not known here.
//!
//! Source: RFC 9112.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use futures_lite::{AsyncRead, AsyncReadExt};

/// Largest head.
const HEAD: usize = 64 << 10;
/// Most headers in it.
const HEADERS: usize = 128;
/// What is read at once.
const PIECE: usize = 16 << 10;
/// Longest line that says how large a chunk is.
const CHUNK_LINE: usize = 1 << 10;

/// Headers in the order they came.
pub type Headers = Vec<(String, String)>;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As many bytes.
    Bytes(u64),
    /// In chunks.
    Chunked,
    /// Until the peer closes.
    UntilEnd,
}

/// First line and headers.
#[derive(Debug)]
pub struct Head<T> {
    /// A request's method, a response's status.
    pub start: T,
    /// The headers.
    pub headers: Headers,
}

/// A body, or as much of it as was wanted.
#[derive(Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether there was more.
    pub cut: bool,
}

/// Bytes that all bodies together may still take.
#[derive(Debug, Clone)]
pub struct Budget(Rc<Cell<usize>>);

/// A part of it; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    /// So much.
    pub fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// Nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0 }
    }
}

impl Share {
    /// Takes more, if there is.
    pub fn take(&mut self, bytes: usize) -> io::Result<()> {
        let left = self.budget.0.get().checked_sub(bytes).ok_or_else(|| io::Error::other("too much is under way already"))?;
        self.budget.0.set(left);
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.set(self.budget.0.get() + self.taken);
    }
}

/// The value of a header, whatever the case of its name.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// How long a message's body is by its headers; `absent` when they do not say.
pub fn length(headers: &Headers, absent: Length) -> io::Result<Length> {
    if header(headers, "transfer-encoding").is_some_and(|encoding| encoding.to_ascii_lowercase().trim_end().ends_with("chunked")) {
        return Ok(Length::Chunked);
    }
    let mut lengths = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    let Some(first) = lengths.next() else { return Ok(absent) };
    if lengths.any(|other| other != first) || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("Content-Length is no length"));
    }
    first.parse().map(Length::Bytes).map_err(|_| malformed("Content-Length is no length"))
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
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

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let old = self.ahead.len();
        self.ahead.resize(old + PIECE, 0);
        let read = self.stream.read(&mut self.ahead[old..]).await;
        self.ahead.truncate(old + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads a head; `parse` tells how long it is, once it is whole.
    async fn head<T>(&mut self, parse: impl Fn(&[u8]) -> httparse::Result<(usize, Head<T>)>) -> io::Result<Head<T>> {
        loop {
            match parse(&self.ahead).map_err(|why| malformed(&why.to_string()))? {
                httparse::Status::Complete((end, head)) => {
                    self.ahead.drain(..end);
                    return Ok(head);
                }
                httparse::Status::Partial if self.ahead.len() > HEAD => return Err(malformed("the head is too large")),
                httparse::Status::Partial => self.fill_or_fail().await?,
            }
        }
    }

    /// Reads the head of a request: its method.
    pub async fn request(&mut self) -> io::Result<Head<String>> {
        self.head(|bytes| {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            let status = request.parse(bytes)?;
            let start = request.method.unwrap_or_default().to_owned();
            Ok(whole(status, start, request.headers))
        })
        .await
    }

    /// Reads the head of a response: its status. Interim ones are passed over.
    pub async fn response(&mut self) -> io::Result<Head<u16>> {
        loop {
            let head = self
                .head(|bytes| {
                    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
                    let mut response = httparse::Response::new(&mut headers);
                    let status = response.parse(bytes)?;
                    let start = response.code.unwrap_or_default();
                    Ok(whole(status, start, response.headers))
                })
                .await?;
            if head.start >= 200 {
                return Ok(head);
            }
        }
    }

    /// Reads a body up to `limit`.
    pub async fn body(&mut self, length: Length, limit: usize, share: &mut Share) -> io::Result<Body> {
        let mut body = Body { bytes: Vec::new(), cut: false };
        match length {
            Length::Bytes(count) => self.copy(Some(count), limit, &mut body, share).await?,
            Length::UntilEnd => self.copy(None, limit, &mut body, share).await?,
            Length::Chunked => {
                while let Some(size) = self.chunk().await? {
                    self.copy(Some(size), limit, &mut body, share).await?;
                    if body.cut {
                        break;
                    }
                    while self.ahead.len() < 2 {
                        self.fill_or_fail().await?;
                    }
                    if !self.ahead.starts_with(b"\r\n") {
                        return Err(malformed("a chunk does not end where it should"));
                    }
                    self.ahead.drain(..2);
                }
            }
        }
        Ok(body)
    }

    /// How large the next chunk is; `None` after the last.
    async fn chunk(&mut self) -> io::Result<Option<u64>> {
        loop {
            match httparse::parse_chunk_size(&self.ahead).map_err(|_| malformed("a chunk has no size"))? {
                httparse::Status::Complete((end, size)) => {
                    self.ahead.drain(..end);
                    return Ok(Some(size).filter(|size| *size > 0));
                }
                httparse::Status::Partial if self.ahead.len() > CHUNK_LINE => return Err(malformed("a chunk has no size")),
                httparse::Status::Partial => self.fill_or_fail().await?,
            }
        }
    }

    /// Moves `count` bytes, or all until the end, into the body.
    async fn copy(&mut self, count: Option<u64>, limit: usize, body: &mut Body, share: &mut Share) -> io::Result<()> {
        let mut left = count;
        while left != Some(0) {
            if self.ahead.is_empty() && !self.fill().await? {
                return if left.is_none() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let here = left.map_or(self.ahead.len(), |left| usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead.len()));
            let taken = here.min(limit - body.bytes.len());
            share.take(taken)?;
            body.bytes.extend(self.ahead.drain(..taken));
            if taken < here {
                body.cut = true;
                return Ok(());
            }
            left = left.map(|left| left - taken as u64);
        }
        Ok(())
    }

    /// Reads what still comes and forgets it: a peer that is cut off while it
    /// writes does not read what was answered.
    pub async fn linger(&mut self, most: usize) {
        let mut seen = 0;
        self.ahead.clear();
        while seen < most && matches!(self.fill().await, Ok(true)) {
            seen += self.ahead.len();
            self.ahead.clear();
        }
    }
}

/// A head with its length, if it came to its end.
fn whole<T>(status: httparse::Status<usize>, start: T, headers: &[httparse::Header<'_>]) -> httparse::Status<(usize, Head<T>)> {
    let owned = |header: &httparse::Header<'_>| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned());
    match status {
        httparse::Status::Complete(end) => httparse::Status::Complete((end, Head { start, headers: headers.iter().map(owned).collect() })),
        httparse::Status::Partial => httparse::Status::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::io::Cursor;
    use smol::block_on;

    fn incoming(text: &str) -> Incoming<Cursor<Vec<u8>>> {
        Incoming::new(Cursor::new(text.as_bytes().to_vec()))
    }

    /// Status and body of a response.
    fn read(text: &str, limit: usize) -> io::Result<(u16, String, bool)> {
        block_on(async {
            let mut incoming = incoming(text);
            let head = incoming.response().await?;
            let length = length(&head.headers, Length::UntilEnd)?;
            let body = incoming.body(length, limit, &mut Budget::new(1000).share()).await?;
            Ok((head.start, String::from_utf8_lossy(&body.bytes).into_owned(), body.cut))
        })
    }

    #[test]
    fn bodies_come_by_length_in_chunks_or_until_the_end() {
        let ok = |body: &str, cut| (200, body.to_owned(), cut);
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there", 100).expect("a body"), ok("hi", false));
        assert_eq!(read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end", 100).expect("a body"), ok("to the end", false));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n";
        assert_eq!(read(chunks, 100).expect("a body"), ok("hi!", false));
        assert_eq!(read(chunks, 2).expect("a part"), ok("hi", true));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 3).expect("a part"), ok("hel", true));
    }

    #[test]
    fn what_is_no_http_is_an_error_and_never_more_than_that() {
        for wrong in [
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\n",
            "",
        ] {
            assert!(read(wrong, 100).is_err(), "{wrong}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000));
        assert!(read(&endless, 100).is_err());
    }

    #[test]
    fn all_bodies_together_are_bounded_and_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        share.take(10).expect("there is room");
        assert!(budget.share().take(1).is_err());
        drop(share);
        budget.share().take(10).expect("it was given back");
    }

    #[test]
    fn a_request_has_no_body_unless_it_says_so() {
        let mut incoming = incoming("POST /x HTTP/1.1\r\nhost: y\r\nEXPECT: 100-continue\r\n\r\n");
        let head = block_on(incoming.request()).expect("a head");
        assert_eq!((head.start.as_str(), header(&head.headers, "Expect")), ("POST", Some("100-continue")));
        assert_eq!(length(&head.headers, Length::Bytes(0)).expect("none"), Length::Bytes(0));
    }
}
