//! First line and headers of a message, from bytes.

use httparse::{EMPTY_HEADER, ParserConfig, Status};

use super::Malformed;

/// Largest head, bytes.
pub const LARGEST: usize = 64 << 10;
/// How much of a malformed first line is shown, bytes.
pub const SHOWN: usize = 64;
/// Most headers in it.
const HEADERS: usize = 256;

/// Headers in the order they came.
pub type Headers = Vec<(String, String)>;

/// First line and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<T> {
    /// A [`RequestLine`], or the status of a response.
    pub start: T,
    /// Names and values in the order they came, names as they were written.
    pub headers: Headers,
    /// `HTTP/1.0`: the peer knows no chunks.
    pub is_http10: bool,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The method, such as `GET`.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
}

/// The value of a header, whatever the case of its name.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let is_named = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
    headers.iter().find(is_named).map(|(_, value)| value.as_str())
}

/// All values of a header.
pub(super) fn values<'a>(headers: &'a Headers, name: &'static str) -> impl Iterator<Item = &'a str> {
    let is_named = move |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
    headers.iter().filter(is_named).map(|(_, value)| value.as_str())
}

/// The name of a header as Go writes it: `content-type` is `Content-Type`.
pub fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|letter| {
            let letter = if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            upper = letter == '-';
            letter
        })
        .collect()
}

/// Parses the head of a request, and tells how many bytes it has; `None` when it
/// is not whole yet.
///
/// # Errors
///
/// The bytes begin no request.
pub fn parse_request(bytes: &[u8]) -> Result<Option<(usize, Head<RequestLine>)>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).map_err(|cause| malformed("request", bytes, cause))?;
    let start = RequestLine { method: request.method.unwrap_or_default().to_owned(), target: request.path.unwrap_or_default().to_owned() };
    finish(bytes, status, start, request.version, request.headers)
}

/// Parses the head of a response, as [`parse_request`] does that of a request.
///
/// # Errors
///
/// The bytes begin no response.
pub fn parse_response(bytes: &[u8]) -> Result<Option<(usize, Head<u16>)>, Malformed> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let mut config = ParserConfig::default();
    // RFC 9112, 5.2: who reads a response takes a folded header for one line.
    config.allow_obsolete_multiline_headers_in_responses(true);
    let status = config.parse_response(&mut response, bytes);
    let status = status.map_err(|cause| malformed("response", bytes, cause))?;
    let start = response.code.unwrap_or_default();
    finish(bytes, status, start, response.version, response.headers)
}

fn finish<T>(
    bytes: &[u8],
    status: Status<usize>,
    start: T,
    version: Option<u8>,
    headers: &[httparse::Header<'_>],
) -> Result<Option<(usize, Head<T>)>, Malformed> {
    match status {
        Status::Complete(end) if end > LARGEST => Err(Malformed::HeadTooLarge),
        Status::Partial if bytes.len() > LARGEST => Err(Malformed::HeadTooLarge),
        Status::Partial => Ok(None),
        Status::Complete(end) => {
            let headers = headers.iter().map(owned).collect();
            Ok(Some((end, Head { start, headers, is_http10: version == Some(0) })))
        }
    }
}

fn owned(header: &httparse::Header<'_>) -> (String, String) {
    let value = String::from_utf8_lossy(header.value).replace("\r\n", " ").replace('\n', " ");
    (header.name.to_owned(), value)
}

fn malformed(message: &'static str, bytes: &[u8], cause: httparse::Error) -> Malformed {
    match cause {
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::TooManyHeaders => Malformed::Header(cause),
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let line = &line[..line.len().min(SHOWN)];
            Malformed::FirstLine { message, line: String::from_utf8_lossy(line).into_owned() }
        }
    }
}
