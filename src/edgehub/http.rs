//! One HTTPS request and its answer; all that joining and renewing need.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use futures_rustls::rustls::ClientConfig;
use smol::Timer;

use super::dial::connect;
use super::enrol::EnrolError;
use crate::host::http1::{request, response_length};
use crate::host::{http1, tls::handshake};

const LIMIT: Duration = Duration::from_secs(30);
/// Largest body of an answer, bytes.
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
    let failed = |why: &dyn Display| EnrolError::Server { server: peer.to_owned(), why: why.to_string() };
    let length = body.len().to_string();
    let own = [("Content-Length", length.as_str()), ("Connection", "close")];
    let exchange = async {
        let headers = [&[("Host", peer)], headers, &own].concat();
        let mut request = request("GET", path, &headers).map_err(|why| failed(&why))?;
        request.extend_from_slice(body);
        let stream = connect(peer, proxy).await.map_err(|why| failed(&why))?;
        let stream = handshake(stream, peer, tls).await.map_err(|why| failed(&format!("TLS: {why}")))?;
        let (head, mut incoming) = http1::exchange(stream, &request).await.map_err(|why| failed(&why))?;
        let length = response_length("GET", &head).map_err(|why| failed(&why))?;
        let body = incoming.body(length, LARGEST, |_| Ok(())).await.map_err(|why| failed(&why))?;
        if body.cut {
            return Err(failed(&format!("the answer has more than {LARGEST} bytes")));
        }
        Ok(Answer { status: head.start, body: body.bytes })
    };
    future::or(exchange, async {
        Timer::after(LIMIT).await;
        Err(EnrolError::Server { server: peer.to_owned(), why: format!("no answer within {} s", LIMIT.as_secs()) })
    })
    .await
}
