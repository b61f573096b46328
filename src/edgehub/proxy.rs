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
    let login = login.map_or(String::new(), |login| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(login)));
    let request = format!("CONNECT {peer} HTTP/1.1\r\nHost: {peer}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|why| failed(why.to_string()))?;
    let answer = head(&mut stream).await.map_err(|why| failed(why.to_string()))?;
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') { Ok(stream) } else { Err(failed(answer.lines().next().unwrap_or("no answer").to_owned())) }
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
