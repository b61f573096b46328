//! TLS on streams: files read, the handshake of a client, the configuration of
//! a server. Whom to believe is for those who connect to say.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::client::TlsStream;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::{self, ClientConfig, ServerConfig};
use futures_rustls::{TlsConnector, pki_types};

/// A certificate or key that cannot be used.
#[derive(Debug)]
pub struct BadFile {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl BadFile {
    /// What is wrong with a file.
    pub fn new(path: &Path, why: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

/// Cryptography by ring, named so that no other is looked for.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates of a PEM file, at least one.
pub fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let all: Result<Vec<_>, pki_types::pem::Error> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all = all.map_err(|why| BadFile::new(path, why))?;
    if all.is_empty() { Err(BadFile::new(path, "it holds no certificate")) } else { Ok(all) }
}

/// The private key of a PEM file.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, BadFile> {
    PrivateKeyDer::from_pem_file(path).map_err(|why| BadFile::new(path, why))
}

/// A server that shows this chain; its clients need no certificate. `key` is
/// named when the two do not fit.
pub fn server(chain: Vec<CertificateDer<'static>>, key: &Path) -> Result<Arc<ServerConfig>, BadFile> {
    let private = self::key(key)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(rustls::DEFAULT_VERSIONS);
    let config = builder.and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    config.map(Arc::new).map_err(|why| BadFile::new(key, why))
}

/// Does the handshake of a client with `HOST:PORT`.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: &str, config: Arc<ClientConfig>) -> io::Result<TlsStream<S>> {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::Error::other(format!("'{host}' is no host name")))?;
    TlsConnector::from(config).connect(name, stream).await
}
