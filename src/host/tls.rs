//! TLS on streams: files read, the handshake of a client, the configuration of
//! a server. Whom to believe is for those who connect to say.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use futures_rustls::client::TlsStream;
use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use futures_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use futures_rustls::rustls::crypto::{CryptoProvider, ring};
use futures_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
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

/// A TLS stream of either side. Its errors speak of the peer: those of the library
/// point to the pages of its manual.
#[derive(Debug)]
pub struct Secured<S>(pub S);

/// An error in words of our own.
fn told(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return io::Error::new(error.kind(), "the peer closed the connection without ending TLS");
    }
    error
}

impl<S: AsyncRead + Unpin> AsyncRead for Secured<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer).map_err(told)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Secured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes).map_err(told)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(told)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(told)
    }
}

/// Does the handshake of a client with `HOST:PORT`.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(stream: S, peer: &str, config: Arc<ClientConfig>) -> io::Result<Secured<TlsStream<S>>> {
    let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| io::Error::other(format!("'{host}' is no host name")))?;
    TlsConnector::from(config).connect(name, stream).await.map(Secured).map_err(told)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_lite::future;
    use futures_rustls::rustls::{ClientConnection, Connection};

    use super::*;

    #[test]
    fn no_error_points_to_a_page_of_a_library() {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .expect("our own")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.enable_sni = false;
        let name = ServerName::try_from("a").expect("a name");
        let mut connection = Connection::from(ClientConnection::new(Arc::new(config), name).expect("a client"));
        // The peer is gone before it has said anything.
        connection.read_tls(&mut io::empty()).expect("nothing is read");
        let cut = connection.reader().read(&mut [0]).expect_err("the end of the stream");
        assert!(cut.to_string().contains("https://"), "there is nothing to mend any more: {cut}");
        assert_eq!(told(cut).to_string(), "the peer closed the connection without ending TLS");
        let mut whole = Secured(&b"whole"[..]);
        let mut text = String::new();
        future::block_on(futures_lite::AsyncReadExt::read_to_string(&mut whole, &mut text)).expect("it is there");
        assert_eq!(text, "whole");
    }
}

/// A client of whoever answers: for probes, which ask whether and not who, and for
/// fetching what is checked by its hash afterwards.
pub fn unverified() -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(rustls::DEFAULT_VERSIONS)?.dangerous();
    let anyone = Arc::new(Anyone(provider()));
    Ok(Arc::new(builder.with_custom_certificate_verifier(anyone).with_no_client_auth()))
}

/// Looks at no signature either: probes are content with certificates of X.509
/// version 1, too.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
