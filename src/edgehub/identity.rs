//! The node's certificate, its key and the cloud's CA, as files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use futures_rustls::pki_types::pem::PemObject;
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::enrol::{EnrolError, Issued, pem};
use crate::config;
use crate::wire::rfc3339;

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
    if !names(&certificate, &format!("system:node:{node}")) {
        return Err(failed(&config.certificate, &format!("it is not for node '{node}': join again")));
    }
    let (not_before, not_after) = validity(&certificate).ok_or_else(|| failed(&config.certificate, &"its dates cannot be read"))?;
    Ok(Identity { ca, chain: vec![certificate], key, not_before, not_after })
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

/// Whether a certificate (DER) is for this common name: the name stands in it
/// behind its own length.
pub fn names(certificate: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    certificate
        .windows(name.len())
        .enumerate()
        .any(|(at, window)| window == name && certificate.get(at.wrapping_sub(1)).is_some_and(|length| usize::from(*length) == name.len()))
}

/// The two dates of a certificate: the only place in it where two ASN.1 times
/// (UTCTime 0x17, GeneralizedTime 0x18) stand side by side in a sequence.
fn validity(der: &[u8]) -> Option<(i64, i64)> {
    (0..der.len()).find_map(|at| {
        let (first, next) = time_at(der, at)?;
        let (second, end) = time_at(der, next)?;
        (at >= 2 && der[at - 2] == 0x30 && usize::from(der[at - 1]) == end - at).then_some((first, second))
    })
}

/// An ASN.1 time at a place: milliseconds since the epoch, and what follows.
fn time_at(der: &[u8], at: usize) -> Option<(i64, usize)> {
    let (tag, length) = (*der.get(at)?, usize::from(*der.get(at + 1)?));
    let text = std::str::from_utf8(der.get(at + 2..at + 2 + length)?).ok()?;
    let full = match (tag, length) {
        (0x17, 13) => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        (0x18, 15) => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| full.get(from..to);
    let iso = format!("{}-{}-{}T{}:{}:{}Z", part(0, 4)?, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?);
    Some((rfc3339::parse(&iso)?, at + 2 + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_read() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2060, 3, 4);
        let certificate = params.self_signed(&key).expect("a certificate");
        assert_eq!(
            validity(certificate.der()),
            Some((rfc3339::parse("2026-01-02T00:00:00Z").expect("a time"), rfc3339::parse("2060-03-04T00:00:00Z").expect("a time")))
        );
        assert_eq!(validity(b"nothing"), None);
    }
}
