//! Opens the WebSocket: TCP (through a proxy if there is one), TLS with our
//! certificate, upgrade with the headers CloudHub insists on.
//!
//! Source: cloud-protocol.md 2.

use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::HeaderValue;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_lite::future;
use futures_rustls::client::TlsStream;
use smol::Timer;
use smol::net::TcpStream;

use super::{enrol::EnrolError, identity, proxy, tls};
use crate::config;
use crate::host::tls::{Secured, handshake};

/// An open WebSocket.
pub type Socket = WebSocketStream<Secured<TlsStream<TcpStream>>>;

const LIMIT: Duration = Duration::from_secs(30);
const EACH: Duration = Duration::from_secs(10);

/// Why there is no WebSocket.
#[derive(Debug)]
pub enum DialError {
    /// Our certificate cannot be used.
    Identity(EnrolError),
    /// The host is there and listens not.
    Refused {
        /// The address.
        peer: String,
    },
    /// The host cannot be reached.
    Unreachable {
        /// The address.
        peer: String,
        /// Why.
        why: std::io::Error,
    },
    /// The proxy says no.
    Proxy {
        /// Its address.
        peer: String,
        /// Why.
        why: String,
    },
    /// No TLS.
    Tls {
        /// The address.
        peer: String,
        /// Why.
        why: std::io::Error,
    },
    /// TLS, but no WebSocket.
    Upgrade {
        /// The address.
        peer: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    TimedOut {
        /// The address.
        peer: String,
    },
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identity(why) => write!(f, "{why}"),
            Self::Refused { peer } => write!(f, "{peer} refuses the connection"),
            Self::Unreachable { peer, why } => write!(f, "{peer}: {why}"),
            Self::Proxy { peer, why } => write!(f, "proxy {peer}: {why}"),
            Self::Tls { peer, why } => write!(f, "TLS with {peer}: {why}"),
            Self::Upgrade { peer, why } => write!(f, "WebSocket with {peer}: {why}"),
            Self::TimedOut { peer } => write!(f, "{peer} did not answer within {} s", LIMIT.as_secs()),
        }
    }
}

impl std::error::Error for DialError {}

/// Opens a WebSocket; the certificate files are read anew each time.
pub async fn dial(config: &config::EdgeHub, node: &str) -> Result<Socket, DialError> {
    let peer = config.websocket.clone();
    future::or(upgrade(config, node), async move {
        Timer::after(LIMIT).await;
        Err(DialError::TimedOut { peer })
    })
    .await
}

async fn upgrade(config: &config::EdgeHub, node: &str) -> Result<Socket, DialError> {
    let peer = &config.websocket;
    let why = |why: &dyn std::fmt::Display| DialError::Upgrade { peer: peer.clone(), why: why.to_string() };
    let identity = identity::load_aside(config, node).await.map_err(DialError::Identity)?;
    let tls = tls::mutual(&identity).map_err(|error| DialError::Tls { peer: peer.clone(), why: std::io::Error::other(error) })?;
    let stream = connect(peer, config.proxy.as_deref()).await?;
    let stream = handshake(stream, peer, tls).await.map_err(|why| DialError::Tls { peer: peer.clone(), why })?;
    let mut request = format!("wss://{peer}/{}/{node}/events", config.project).into_client_request().map_err(|error| why(&error))?;
    let headers = request.headers_mut();
    for (name, value) in [("node_id", node), ("project_id", config.project.as_str()), ("ConnectionUse", "msg")] {
        headers.insert(name, HeaderValue::from_str(value).map_err(|error| why(&error))?);
    }
    let limits = WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(4 << 10)
        .max_message_size(Some(config.max_message))
        .max_frame_size(Some(config.max_message));
    let (socket, _) = async_tungstenite::client_async_with_config(request, stream, Some(limits)).await.map_err(|error| why(&error))?;
    Ok(socket)
}

/// A TCP connection to `HOST:PORT`, by the first address that answers.
pub async fn connect(peer: &str, proxy: Option<&str>) -> Result<TcpStream, DialError> {
    match proxy {
        Some(url) => proxy::connect(url, peer).await,
        None => tcp(peer).await,
    }
}

/// A TCP connection without a proxy.
pub async fn tcp(peer: &str) -> Result<TcpStream, DialError> {
    let unreachable = |why| DialError::Unreachable { peer: peer.to_owned(), why };
    let mut last = unreachable(std::io::Error::other("the name has no address"));
    for address in smol::net::resolve(peer).await.map_err(unreachable)? {
        let attempt = future::or(TcpStream::connect(address), async {
            Timer::after(EACH).await;
            Err(std::io::ErrorKind::TimedOut.into())
        });
        match attempt.await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionRefused => last = DialError::Refused { peer: peer.to_owned() },
            Err(why) => last = unreachable(why),
        }
    }
    Err(last)
}
