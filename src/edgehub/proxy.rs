//! HTTP CONNECT: a tunnel through a proxy, `http://[USER:PASSWORD@]HOST:PORT`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use super::dial::{DialError, tcp};

/// A connection to `peer` through the proxy.
pub async fn connect(url: &str, peer: &str) -> Result<TcpStream, DialError> {
    let bare = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let (login, address) = bare.rsplit_once('@').map_or((None, bare), |(login, address)| (Some(login), address));
    let failed = |why: String| DialError::Proxy { peer: address.to_owned(), why };
    let mut stream = tcp(address).await?;
    let login = login.map_or(String::new(), |login| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(plain(login))));
    let request = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|why| failed(why.to_string()))?;
    let answer = head(&mut stream).await.map_err(|why| failed(why.to_string()))?;
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') { Ok(stream) } else { Err(failed(answer.lines().next().unwrap_or("no answer").to_owned())) }
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

/// The head of an answer, byte by byte so that nothing of the tunnel is read.
async fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() > 8192 {
            return Err(std::io::Error::other("the answer is too long"));
        }
        stream.read_exact(&mut byte).await?;
        bytes.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
