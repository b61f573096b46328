//! Messages written, and a request with the answer to it.

use std::cell::Cell;
use std::fmt;
use std::io;

use futures_lite::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, split};
use futures_lite::{future, pin};

use super::head::Head;
use super::incoming::Incoming;

/// A header that cannot be sent: it would be another one, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidHeader {
    /// Its name is no token (RFC 9110, 5.6.2).
    Name(String),
    /// The value of the header of this name has control characters.
    Value(String),
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "invalid header field name {name:?}"),
            Self::Value(name) => write!(f, "invalid header field value for {name:?}"),
        }
    }
}

impl std::error::Error for InvalidHeader {}

/// The bytes of a request without its body. `target` is path and query, escaped.
///
/// # Errors
///
/// A header that cannot be sent.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, InvalidHeader> {
    head(&format!("{method} {target} HTTP/1.1"), headers)
}

/// The bytes of a response with its body, after which the connection ends.
///
/// # Errors
///
/// A header that cannot be sent.
pub fn response(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<u8>, InvalidHeader> {
    let length = body.len().to_string();
    let own = [("Content-Length", length.as_str()), ("Connection", "close")];
    let mut bytes = head(&format!("HTTP/1.1 {status}"), &[headers, &own].concat())?;
    bytes.extend_from_slice(body);
    Ok(bytes)
}

fn head(first_line: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, InvalidHeader> {
    let mut text = format!("{first_line}\r\n");
    for (name, value) in headers {
        if !is_token(name) {
            return Err(InvalidHeader::Name((*name).to_owned()));
        }
        if !value.chars().all(|c| c == '\t' || !c.is_ascii_control()) {
            return Err(InvalidHeader::Value((*name).to_owned()));
        }
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

/// Sends a request and reads the head of its response; the body can be read then.
/// A peer may answer before it has read the request, or without: its answer counts
/// whatever became of the rest.
///
/// # Errors
///
/// No response came.
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: S, request: &[u8]) -> io::Result<(Head<u16>, Incoming<ReadHalf<S>>)> {
    let (reader, mut writer) = split(stream);
    let mut incoming = Incoming::new(reader);
    let unsent = Cell::new(None);
    let answer = {
        let send = async {
            let sent = async {
                writer.write_all(request).await?;
                writer.flush().await
            };
            if let Err(why) = sent.await {
                unsent.set(Some(why));
            }
            future::pending().await
        };
        pin!(send);
        future::or(incoming.response(), send).await
    };
    match (answer, unsent.take()) {
        (Ok(head), _) => Ok((head, incoming)),
        // That the peer is gone was told to the one who wrote.
        (Err(why), Some(unsent)) if why.kind() == io::ErrorKind::UnexpectedEof => Err(unsent),
        (Err(why), _) => Err(why),
    }
}
