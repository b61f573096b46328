//! The stand-in's certificate authority: join tokens, certificates of nodes, its
//! own server certificate, tokens of service accounts. Its files live in the
//! state folder, the key 0600.
//!
//! Source: cloud-protocol.md 1.

use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::hmac;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::CloudError;
use super::controller::Tokens;
use crate::edgehub::enrol;
use crate::edgehub::identity::write;

/// How long a join token is good, seconds.
const TOKEN: i64 = 24 * 3600;
/// How long a certificate is good, a node's unless told.
pub const YEAR: Duration = Duration::days(365);

/// CA and keys.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    secret: hmac::Key,
    life: Duration,
}

/// A certificate for the servers, and its key.
pub type Served = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    /// The authority of this folder; a new one if there is none. It gives nodes
    /// certificates for `life`.
    pub fn open(dir: &Path, now: i64, life: Duration) -> Result<Self, CloudError> {
        let (certificate, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        let crypto = |why: rcgen::Error| CloudError::Crypto(why.to_string());
        if !certificate.exists() || !key.exists() {
            let pair = KeyPair::generate().map_err(crypto)?;
            let made = params(now, Duration::days(36_500)).self_signed(&pair).map_err(crypto)?;
            write(&key, &pair.serialize_pem(), 0o600)?;
            write(&certificate, &made.pem(), 0o644)?;
        }
        let file = |path: &Path, why: &dyn std::fmt::Display| CloudError::File { path: path.to_owned(), why: why.to_string() };
        let pair = std::fs::read_to_string(&key).map_err(|why| file(&key, &why)).and_then(|text| KeyPair::from_pem(&text).map_err(|why| file(&key, &why)))?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &pair.serialize_der());
        let certificate = CertificateDer::from_pem_file(&certificate).map_err(|why| file(&certificate, &why))?;
        Ok(Self { certificate, issuer: Issuer::new(params(now, YEAR), pair), secret, life })
    }

    /// The CA itself.
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA as PEM.
    pub fn pem(&self) -> String {
        enrol::pem("CERTIFICATE", &self.certificate)
    }

    /// A token to join with, `CAHASH.JWT`; `now` in milliseconds.
    pub fn join_token(&self, now: i64) -> String {
        format!("{}.{}", enrol::hash(&self.certificate), self.jwt(&json!({ "exp": now / 1000 + TOKEN })))
    }

    fn jwt(&self, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
        let signature = hmac::sign(&self.secret, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// Whether a JWT is ours and still good; the reason if not, in CloudCore's
    /// words.
    pub fn check(&self, jwt: &str, now: i64) -> Result<(), &'static str> {
        let parts: Vec<&str> = jwt.split('.').collect();
        let [head, claims, signature] = parts.as_slice() else { return Err("token is malformed: token contains an invalid number of segments") };
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "token is malformed: could not base64 decode signature")?;
        hmac::verify(&self.secret, format!("{head}.{claims}").as_bytes(), &signature).map_err(|_| "token signature is invalid: signature is invalid")?;
        let claims: Value = URL_SAFE_NO_PAD.decode(claims).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        if claims["exp"].as_i64().is_some_and(|until| until.saturating_mul(1000) > now) { Ok(()) } else { Err("token has invalid claims: token is expired") }
    }

    /// Signs a request of a node; DER both ways.
    pub fn sign(&self, request: &[u8], now: i64) -> Result<Vec<u8>, CloudError> {
        let crypto = |why: rcgen::Error| CloudError::Crypto(why.to_string());
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).map_err(crypto)?;
        dates(&mut request.params, now, self.life);
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(request.signed_by(&self.issuer).map_err(crypto)?.der().to_vec())
    }

    /// A certificate for the servers at these names and addresses.
    pub fn serve(&self, names: &[String], now: i64) -> Result<Served, CloudError> {
        let crypto = |why: rcgen::Error| CloudError::Crypto(why.to_string());
        let key = KeyPair::generate().map_err(crypto)?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(crypto)?;
        params.distinguished_name = subject();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        dates(&mut params, now, YEAR);
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok((certificate.der().clone(), PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))))
    }
}

impl Tokens for Authority {
    fn token(&self, namespace: &str, account: &str, audiences: &[Value], expires: i64) -> String {
        self.jwt(&json!({ "iss": "https://selvedge-cloud", "sub": format!("system:serviceaccount:{namespace}:{account}"), "aud": audiences, "exp": expires }))
    }
}

/// Names a server on this address can be reached by.
pub fn names(listen: &str) -> Vec<String> {
    let own = listen.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified()).map(|address| address.to_string());
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(own).collect();
    names.sort();
    names.dedup();
    names
}

fn subject() -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "KubeEdge");
    name
}

fn params(now: i64, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
    dates(&mut params, now, life);
    params
}

/// Clocks of small machines go behind: a certificate is good a little earlier.
fn dates(params: &mut CertificateParams, now: i64, life: Duration) {
    let now = OffsetDateTime::from_unix_timestamp(now / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - Duration::minutes(5);
    params.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_ours_for_a_day() {
        let dir = std::env::temp_dir().join(format!("selvedge-authority-{}", std::process::id()));
        let now = 1_795_000_000_000;
        let authority = Authority::open(&dir, now, YEAR).expect("a folder that can be written");
        let token = authority.join_token(now);
        let (hash, jwt) = token.split_once('.').expect("four parts");
        assert_eq!(hash, enrol::hash(authority.ca()));
        assert_eq!(Authority::open(&dir, now, YEAR).expect("the same").check(jwt, now), Ok(()));
        assert!(authority.check(jwt, now + (TOKEN + 1) * 1000).is_err_and(|why| why.contains("expired")));
        assert!(authority.check(&format!("{jwt}x"), now).is_err() && authority.check(&token, now).is_err_and(|why| why.contains("segments")));
        std::fs::remove_dir_all(dir).expect("it is ours");
    }
}
