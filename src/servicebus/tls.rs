//! The certificate that apps are shown, read again at every handshake so that a
//! renewed one is used at once. Apps show none.

use std::sync::Arc;

use futures_rustls::rustls::ServerConfig;

use super::ServiceError;
use crate::config;
use crate::host::tls::{self, BadFile};

/// OIDs as DER writes them: the extension for purposes, and "server".
const PURPOSES: &[u8] = &[0x06, 0x03, 0x55, 0x1d, 0x25];
const SERVER: &[u8] = &[0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// TLS from the files as they are now; `None` when there shall be none. A
/// certificate that is not for servers is refused here, for every client would
/// refuse it.
pub fn config(config: &config::ServiceBus) -> Result<Option<Arc<ServerConfig>>, ServiceError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else { return Ok(None) };
    let chain = tls::chain(certificate)?;
    if !chain.first().is_some_and(|first| is_for_servers(first)) {
        return Err(BadFile::new(certificate, "it is not for servers: extended key usage serverAuth is missing").into());
    }
    Ok(Some(tls::server(chain, key)?))
}

impl From<BadFile> for ServiceError {
    fn from(BadFile { path, why }: BadFile) -> Self {
        Self::File { path, why }
    }
}

fn is_for_servers(der: &[u8]) -> bool {
    let found = |wanted: &[u8], within: &[u8]| within.windows(wanted.len()).position(|window| window == wanted);
    found(PURPOSES, der).is_some_and(|at| found(SERVER, &der[at..]).is_some())
}
