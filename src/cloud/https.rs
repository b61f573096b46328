//! Port 10002: the CA, certificates for nodes, whether a node is there. One
//! request a connection.
//!
//! Source: cloud-protocol.md 1.2 and 1.5.

use std::io;
use std::rc::Rc;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::server::TlsStream;
use smol::net::TcpStream;

use super::Stand;
use crate::edgehub::x509;
use crate::host::clock;
use crate::wire::resource::kind;

/// Largest request.
const LARGEST: usize = 1 << 20;

struct Request {
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Answers one request.
pub async fn serve(stand: Rc<Stand>, mut stream: TlsStream<TcpStream>) -> io::Result<()> {
    let Some(request) = read(&mut stream).await? else { return Ok(()) };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|certificate| certificate.to_vec());
    let (status, body) = answer(&stand, &request, shown.as_deref());
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    stream.close().await
}

fn answer(stand: &Stand, request: &Request, shown: Option<&[u8]>) -> (&'static str, Vec<u8>) {
    let text = |status, text: String| (status, text.into_bytes());
    match request.path.as_str() {
        "/ca.crt" => ("200 OK", stand.authority.ca().to_vec()),
        "/edge.crt" => {
            let node = request.header("nodename").unwrap_or_default();
            if let Err(why) = may_have_one(stand, request, node, shown) {
                return text("401 Unauthorized", why);
            }
            match stand.authority.sign(&request.body, clock::calendar_millis()) {
                Ok(certificate) => ("200 OK", certificate),
                Err(why) => text("500 Internal Server Error", format!("failed to sign certs for edgenode {node}, err: {why}")),
            }
        }
        path => match path.strip_prefix("/node/") {
            Some(node) if stand.cluster.borrow().objects().get(&super::objects::name(kind::NODE, "", node)).is_some() => {
                text("200 OK", "Node found".to_owned())
            }
            Some(_) => text("404 Not Found", "Node not found".to_owned()),
            None => text("404 Not Found", "404 page not found\n".to_owned()),
        },
    }
}

/// A certificate counts more than a token, and only for its own node.
fn may_have_one(stand: &Stand, request: &Request, node: &str, shown: Option<&[u8]>) -> Result<(), String> {
    if let Some(certificate) = shown {
        let name = format!("system:node:{node}");
        return if x509::read(certificate).is_ok_and(|read| read.common_name == Some(&name)) {
            Ok(())
        } else {
            Err(format!("failed to verify the certificate for edgenode: {node}, err: request node name is not match with the certificate"))
        };
    }
    let header = request.header("authorization").unwrap_or_default();
    let jwt = match header.split(' ').collect::<Vec<_>>().as_slice() {
        [""] => return Err("token validation failure, token is empty".to_owned()),
        [_, jwt] => *jwt,
        _ => return Err("token validation failure, token cannot be split".to_owned()),
    };
    stand.authority.check(jwt, clock::calendar_millis()).map_err(|why| format!("token validation failure, err: {why}"))
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a request with its body; `None` if it is none.
async fn read(stream: &mut TlsStream<TcpStream>) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(request) = parse(&bytes) {
            return Ok(Some(request));
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).await?;
        if count == 0 || bytes.len() > LARGEST {
            return Ok(None);
        }
        bytes.extend_from_slice(&more[..count]);
    }
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned())).collect();
    let mut request = Request { path, headers, body: Vec::new() };
    let length: usize = request.header("content-length").map_or(Some(0), |length| length.parse().ok())?;
    request.body = bytes.get(end + 4..(end + 4).checked_add(length)?)?.to_vec();
    Some(request)
}
