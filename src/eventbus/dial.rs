//! A stream to the broker: TCP, TLS, a unix socket, or the broker of this very
//! process.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::io::split;
use futures_lite::{AsyncRead, AsyncWrite, future};
use futures_rustls::rustls::{self, ClientConfig, RootCertStore};
use smol::Timer;
use smol::net::unix::UnixStream;

use super::codec::Denial;
use super::prompt::Prompt;
use crate::config::{self, Broker, BusMode};
use crate::host::socket::Visitors;
use crate::host::tls::{self, BadFile};

/// How long a stream may take to open, TLS included.
const LIMIT: Duration = Duration::from_secs(15);

/// An open stream, each way for itself.
pub struct Stream {
    /// What the broker says.
    pub reader: Pin<Box<dyn AsyncRead>>,
    /// What we say.
    pub writer: Pin<Box<dyn AsyncWrite>>,
}

/// Why there is no broker.
#[derive(Debug)]
pub enum BusError {
    /// The broker of this process is not built.
    NotBuilt,
    /// A file of the configuration cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It cannot be reached.
    Unreachable {
        /// Its address.
        peer: String,
        /// Why.
        why: std::io::Error,
    },
    /// No TLS.
    Tls {
        /// Its address.
        peer: String,
        /// Why.
        why: std::io::Error,
    },
    /// It is reached and says nothing.
    TimedOut {
        /// Its address.
        peer: String,
    },
    /// It lets us not in.
    Denied {
        /// Its address.
        peer: String,
        /// Why.
        denial: Denial,
    },
    /// The connection was there and ended.
    Lost {
        /// Its address.
        peer: String,
        /// Why.
        why: String,
    },
    /// It took a message and did not give it back.
    Silent {
        /// Its address.
        peer: String,
        /// On which topic.
        topic: String,
    },
    /// It says what no broker may say.
    Malformed {
        /// Its address.
        peer: String,
        /// What.
        why: String,
    },
}

impl std::fmt::Display for BusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotBuilt => write!(f, "broker: not in this build"),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Unreachable { peer, why } => write!(f, "broker {peer}: {why}"),
            Self::Tls { peer, why } => write!(f, "TLS with broker {peer}: {why}"),
            Self::TimedOut { peer } => write!(f, "broker {peer} does not answer"),
            Self::Denied { peer, denial } => write!(f, "broker {peer} refuses us: {denial}"),
            Self::Lost { peer, why } => write!(f, "broker {peer}: the connection is lost: {why}"),
            Self::Silent { peer, topic } => write!(f, "broker {peer}: a message on '{topic}' does not come back"),
            Self::Malformed { peer, why } => write!(f, "broker {peer} does not speak MQTT 3.1.1: {why}"),
        }
    }
}

impl std::error::Error for BusError {}

impl BusError {
    /// What may mend it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::NotBuilt => "set eventbus.mode to external, and eventbus.server",
            Self::File { .. } => "look at eventbus.ca, certificate and key",
            Self::Unreachable { .. } | Self::TimedOut { .. } => "is it running (systemctl start mosquitto), and is eventbus.server right?",
            Self::Tls { .. } => "is eventbus.ca the CA of the broker, and does its certificate name the host of eventbus.server?",
            Self::Denied { denial: Denial::Password | Denial::NotAuthorized, .. } => "look at eventbus.user and password, and at the broker's users",
            Self::Denied { denial: Denial::ClientId, .. } => "set eventbus.client_id to what the broker allows",
            Self::Denied { denial: Denial::Protocol, .. } | Self::Malformed { .. } => "eventbus.server must name an MQTT 3.1.1 listener",
            Self::Denied { denial: Denial::Unavailable, .. } => "look at the broker's log",
            Self::Lost { .. } => "the broker's log tells why: a listener with TLS wants ssl://",
            Self::Silent { .. } => "may this user publish and subscribe there?",
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Protocol => "it does not speak MQTT 3.1.1",
            Self::ClientId => "it does not take the client id",
            Self::Unavailable => "it is not available",
            Self::Password => "bad user name or password",
            Self::NotAuthorized => "not authorized",
        })
    }
}

/// How people know the broker.
pub fn peer(config: &config::EventBus) -> String {
    match (config.mode, &config.server) {
        (BusMode::Internal | BusMode::Off, _) => "of this process".to_owned(),
        (BusMode::External, Broker::Tcp(address) | Broker::Tls(address)) => address.clone(),
        (BusMode::External, Broker::Unix(path)) => path.display().to_string(),
    }
}

/// Opens a stream; the certificate files are read anew each time.
pub async fn dial(config: &config::EventBus, local: Option<&Visitors>) -> Result<Stream, BusError> {
    future::or(open(config, local), async {
        Timer::after(LIMIT).await;
        Err(BusError::TimedOut { peer: peer(config) })
    })
    .await
}

async fn open(config: &config::EventBus, local: Option<&Visitors>) -> Result<Stream, BusError> {
    let unreachable = |why| BusError::Unreachable { peer: peer(config), why };
    match (config.mode, &config.server) {
        (BusMode::Internal | BusMode::Off, _) => {
            let visitors = local.ok_or(BusError::NotBuilt)?;
            let (ours, theirs) = UnixStream::pair().map_err(unreachable)?;
            visitors.send(theirs).await.map_err(|_| unreachable(std::io::ErrorKind::ConnectionRefused.into()))?;
            Ok(unix(ours))
        }
        (BusMode::External, Broker::Unix(path)) => UnixStream::connect(path).await.map(unix).map_err(unreachable),
        (BusMode::External, Broker::Tcp(address)) => {
            let stream = Prompt::connect(address).await.map_err(unreachable)?;
            Ok(Stream { reader: Box::pin(stream.clone()), writer: Box::pin(stream) })
        }
        (BusMode::External, Broker::Tls(address)) => {
            let client = client(config)?;
            let stream = Prompt::connect(address).await.map_err(unreachable)?;
            let stream = tls::handshake(stream, address, client).await.map_err(|why| BusError::Tls { peer: peer(config), why })?;
            let (reader, writer) = split(stream);
            Ok(Stream { reader: Box::pin(reader), writer: Box::pin(writer) })
        }
    }
}

fn unix(stream: UnixStream) -> Stream {
    Stream { reader: Box::pin(stream.clone()), writer: Box::pin(stream) }
}

/// Believes the CA of the configuration and nothing else.
fn client(config: &config::EventBus) -> Result<Arc<ClientConfig>, BusError> {
    let mut roots = RootCertStore::empty();
    for certificate in tls::chain(&config.ca)? {
        roots.add(certificate).map_err(|why| BadFile::new(&config.ca, why))?;
    }
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(|why| BadFile::new(&config.ca, why))?
        .with_root_certificates(roots);
    let client = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(tls::chain(certificate)?, tls::key(key)?).map_err(|why| BadFile::new(certificate, why))?
        }
        (None, _) | (_, None) => builder.with_no_client_auth(),
    };
    Ok(Arc::new(client))
}

impl From<BadFile> for BusError {
    fn from(BadFile { path, why }: BadFile) -> Self {
        Self::File { path, why }
    }
}
