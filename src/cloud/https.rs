//! Port 10002: the CA, certificates for nodes, whether a node is there. One
//! request a connection.
//!
//! Source: cloud-protocol.md 1.2 and 1.5.

use std::io;
use std::rc::Rc;

use futures_lite::AsyncWriteExt;
use futures_rustls::server::TlsStream;
use smol::net::TcpStream;

use super::Stand;
use crate::edgehub::x509;
use crate::host::clock;
use crate::host::http1::{self, Headers, Incoming, header, request_length};
use crate::wire::resource::kind;

/// Largest body of a request, bytes.
const LARGEST: usize = 1 << 20;

struct Request {
    path: String,
    headers: Headers,
    body: Vec<u8>,
}

/// Answers one request. One that is none, or is too large, is not answered.
pub async fn serve(stand: Rc<Stand>, stream: TlsStream<TcpStream>) -> io::Result<()> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|certificate| certificate.to_vec());
    let mut incoming = Incoming::new(stream);
    let Some(request) = read(&mut incoming).await? else { return Ok(()) };
    let (status, body) = answer(&stand, &request, shown.as_deref());
    let response = http1::response(status, &[], &body).map_err(io::Error::other)?;
    incoming.stream.write_all(&response).await?;
    incoming.stream.close().await
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
        header(&self.headers, name)
    }
}

/// Reads a request with its body; `None` when the peer is gone before it sent one.
async fn read(incoming: &mut Incoming<TlsStream<TcpStream>>) -> io::Result<Option<Request>> {
    let head = match incoming.request().await {
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let body = incoming.body(request_length(&head)?, LARGEST, |_| Ok(())).await?;
    if body.cut {
        return Err(io::Error::other("the request is too large"));
    }
    Ok(Some(Request { path: head.start.target, headers: head.headers, body: body.bytes }))
}
