//! HTTP CONNECT: a tunnel through a proxy, `http://[USER:PASSWORD@]HOST:PORT`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smol::net::TcpStream;

use super::dial::{DialError, tcp};
use crate::host::http1::{exchange, request};

/// A connection to `peer` through the proxy.
pub async fn connect(url: &str, peer: &str) -> Result<TcpStream, DialError> {
    let bare = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (login, address) = bare.rsplit_once('@').map_or((None, bare), |(login, address)| (Some(login), address));
    let failed = |why: String| DialError::Proxy { peer: address.to_owned(), why };
    let login = login.map(|login| format!("Basic {}", STANDARD.encode(plain(login))));
    let mut headers = vec![("Host", peer)];
    headers.extend(login.iter().map(|login| ("Proxy-Authorization", login.as_str())));
    let request = request("CONNECT", peer, &headers).map_err(|why| failed(why.to_string()))?;
    let stream = tcp(address).await?;
    let answered = exchange(stream.clone(), &request).await;
    let (head, incoming) = answered.map_err(|why| failed(why.to_string()))?;
    match head.start {
        // Behind the proxy is TLS, whose servers do not speak first.
        200..=299 if incoming.ahead().is_empty() => Ok(stream),
        200..=299 => Err(failed("it sent more than its answer".to_owned())),
        status => Err(failed(format!("HTTP status {status}"))),
    }
}

/// A login as it was before it was put into a URL: `%40` is an `@`.
fn plain(login: &str) -> Vec<u8> {
    let mut parts = login.split('%');
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_may_be_escaped() {
        for (url, login) in
            [("node:secret", "node:secret"), ("node:a%40b%3A%25", "node:a@b:%"), ("n:100%", "n:100%"), ("n:%zz%4", "n:%zz%4"), ("%c3%A4:", "ä:")]
        {
            assert_eq!(plain(url), login.as_bytes(), "{url}");
        }
    }
}
