//! The node's certificate, its key and the cloud's CA, as files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::enrol::{EnrolError, Issued, pem};
use super::x509;
use crate::config;

/// What the node shows to the cloud, and what it believes the cloud by.
#[derive(Debug)]
pub struct Identity {
    /// The cloud's CA.
    pub ca: CertificateDer<'static>,
    /// Our certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// Our key.
    pub key: PrivateKeyDer<'static>,
    /// Milliseconds since the epoch: from when the certificate is valid.
    pub not_before: i64,
    /// Milliseconds since the epoch: until when.
    pub not_after: i64,
}

/// Reads the files; the certificate must be this node's.
pub fn load(config: &config::EdgeHub, node: &str) -> Result<Identity, EnrolError> {
    let failed = |path: &Path, why: &dyn std::fmt::Display| EnrolError::File { path: path.to_owned(), why: why.to_string() };
    let ca = CertificateDer::from_pem_file(&config.ca).map_err(|why| failed(&config.ca, &why))?;
    let certificate = CertificateDer::from_pem_file(&config.certificate).map_err(|why| failed(&config.certificate, &why))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|why| failed(&config.key, &why))?;
    let x509::Certificate { common_name, not_before, not_after } = x509::read(&certificate).map_err(|why| failed(&config.certificate, &why))?;
    if common_name != Some(&format!("system:node:{node}")) {
        return Err(failed(&config.certificate, &format!("it is not for node '{node}': join again")));
    }
    Ok(Identity { ca, chain: vec![certificate], key, not_before, not_after })
}

/// The same beside the loop's thread: a disk may be slow.
pub async fn load_aside(config: &config::EdgeHub, node: &str) -> Result<Identity, EnrolError> {
    let (config, node) = (config.clone(), node.to_owned());
    smol::unblock(move || load(&config, &node)).await
}

/// Writes the files, the private one first and 0600; each appears whole or not
/// at all.
pub fn save(config: &config::EdgeHub, ca: &CertificateDer<'static>, issued: &Issued) -> Result<(), EnrolError> {
    write(&config.ca, &pem("CERTIFICATE", ca), 0o644)?;
    write(&config.key, &issued.key, 0o600)?;
    write(&config.certificate, &issued.certificate, 0o644)
}

/// Writes a file whole or not at all, into a folder that is made if need be.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), EnrolError> {
    let failed = |why: std::io::Error| EnrolError::File { path: path.to_owned(), why: why.to_string() };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    }
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
