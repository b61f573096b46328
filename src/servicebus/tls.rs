//! The certificate that apps are shown, read again at every handshake so that a
//! renewed one is used at once. Apps show none.

use std::path::Path;
use std::sync::Arc;

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::{self, ServerConfig};

use super::ServiceError;
use crate::config;

/// OIDs as DER writes them: the extension for purposes, and "server".
const PURPOSES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x25];
const SERVER: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// TLS from the files as they are now; `None` when there shall be none. A
/// certificate that is not for servers is refused here, for every client would
/// refuse it.
pub fn config(config: &config::ServiceBus) -> Result<Option<Arc<ServerConfig>>, ServiceError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else { return Ok(None) };
    let failed = |path: &Path, why: String| ServiceError::File { path: path.to_owned(), why };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|why| failed(certificate, why.to_string()))?;
    let first = chain.first().ok_or_else(|| failed(certificate, "it holds no certificate".to_owned()))?;
    if !is_for_servers(first) {
        return Err(failed(certificate, "it is not for servers: extended key usage serverAuth is missing".to_owned()));
    }
    let key_pem = PrivateKeyDer::from_pem_file(key).map_err(|why| failed(key, why.to_string()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let versions = builder.with_protocol_versions(rustls::DEFAULT_VERSIONS).map_err(|why| failed(certificate, why.to_string()))?;
    let made = versions.with_no_client_auth().with_single_cert(chain, key_pem).map_err(|why| failed(key, why.to_string()))?;
    Ok(Some(Arc::new(made)))
}

fn is_for_servers(der: &[u8]) -> bool {
    let found = |wanted: &[u8], within: &[u8]| within.windows(wanted.len()).position(|window| window == wanted);
    found(PURPOSES, der).is_some_and(|at| found(SERVER, &der[at..]).is_some())
}
