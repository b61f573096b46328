//! One HTTPS request and its answer; all that joining and renewing need.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use futures_rustls::rustls::ClientConfig;
use smol::Timer;

use super::dial::connect;
use super::enrol::EnrolError;
use crate::host::tls::handshake;

const LIMIT: Duration = Duration::from_secs(30);
const LARGEST: usize = 1 << 20;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// A GET of `path` at `HOST:PORT`; the cloud wants bodies in some of them.
pub async fn get(peer: &str, proxy: Option<&str>, tls: Arc<ClientConfig>, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, EnrolError> {
    let failed = |why: String| EnrolError::Server { server: peer.to_owned(), why };
    let exchange = async {
        let stream = connect(peer, proxy).await.map_err(|error| EnrolError::Server { server: peer.to_owned(), why: error.to_string() })?;
        let mut stream = handshake(stream, peer, tls).await.map_err(|error| failed(format!("TLS: {error}")))?;
        let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {peer}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        stream.write_all(body).await.map_err(|error| failed(error.to_string()))?;
        stream.flush().await.map_err(|error| failed(error.to_string()))?;
        let mut all = Vec::new();
        // A peer that closes without TLS's goodbye has still said all it had.
        if let Err(error) = stream.take(LARGEST as u64).read_to_end(&mut all).await
            && error.kind() != std::io::ErrorKind::UnexpectedEof
        {
            return Err(failed(error.to_string()));
        }
        parse(&all).ok_or_else(|| failed("the answer is no HTTP".to_owned()))
    };
    future::or(exchange, async {
        Timer::after(LIMIT).await;
        Err(EnrolError::Server { server: peer.to_owned(), why: format!("no answer within {} s", LIMIT.as_secs()) })
    })
    .await
}

fn parse(all: &[u8]) -> Option<Answer> {
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&all[..end]).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let chunked = head.lines().any(|line| line.to_ascii_lowercase().replace(' ', "") == "transfer-encoding:chunked");
    let body = &all[end + 4..];
    let length =
        head.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse::<usize>().ok());
    let body = if chunked { unchunk(body)? } else { body[..length.unwrap_or(body.len()).min(body.len())].to_vec() };
    Some(Answer { status, body })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_whole_or_in_chunks() {
        let whole = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").expect("an answer");
        assert_eq!((whole.status, whole.body.as_slice()), (200, &b"hi"[..]));
        let chunks = parse(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n").expect("an answer");
        assert_eq!((chunks.status, chunks.body.as_slice()), (401, &b"hi!"[..]));
        assert!(parse(b"nonsense").is_none() && parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").is_none());
    }
}
