//! TLS as the cloud needs it: its own CA and nothing else, our certificate, no
//! ALPN.

use std::sync::Arc;

use futures_rustls::pki_types::CertificateDer;
use futures_rustls::rustls;
use futures_rustls::rustls::client::Resumption;
use futures_rustls::rustls::{ClientConfig, Error, RootCertStore};

use super::identity::Identity;
use crate::host::tls::provider;

/// Both sides show certificates of the same CA.
pub fn mutual(identity: &Identity) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(rustls::DEFAULT_VERSIONS)?;
    let mut config = builder.with_root_certificates(roots(&identity.ca)?).with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.resumption = Resumption::in_memory_sessions(2);
    Ok(Arc::new(config))
}

/// Only the server shows one.
pub fn server_only(ca: &CertificateDer<'static>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(rustls::DEFAULT_VERSIONS)?;
    Ok(Arc::new(builder.with_root_certificates(roots(ca)?).with_no_client_auth()))
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(roots)
}
