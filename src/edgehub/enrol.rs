//! Joining: the cloud's CA by its hash, a certificate by a token or by the
//! certificate before.
//!
//! Source: cloud-protocol.md 1.

use std::path::PathBuf;

use futures_rustls::pki_types::CertificateDer;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::http::{self, Answer};
use super::identity::Identity;
use super::tls;
use crate::host::tls as host_tls;

/// Why there is no certificate.
#[derive(Debug)]
pub enum EnrolError {
    /// The token is none.
    Token(String),
    /// The CA is not the one the token names.
    WrongCa {
        /// The server.
        server: String,
        /// By the token.
        wanted: String,
        /// By the server.
        found: String,
    },
    /// The server could not be asked.
    Server {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The server said no.
    Refused {
        /// The server.
        server: String,
        /// HTTP status.
        status: u16,
        /// Its own words.
        why: String,
    },
    /// A file cannot be read, written or understood.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A key or a request could not be made.
    Crypto(String),
}

impl std::fmt::Display for EnrolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(why) => write!(f, "the token is not one of keadm's: {why}"),
            Self::WrongCa { server, wanted, found } => {
                write!(f, "{server} shows a CA with hash {found}, the token is for {wanted}: it is another cloud's token, or another cloud")
            }
            Self::Server { server, why } => write!(f, "{server}: {why}"),
            Self::Refused { server, status, why } => write!(f, "{server} refuses ({status}): {}", why.trim()),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Crypto(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EnrolError {}

/// A join token, `CAHASH.JWT`. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    ca_hash: String,
    jwt: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token for CA {}", self.ca_hash)
    }
}

impl Token {
    /// Reads what `keadm gettoken` prints.
    pub fn parse(text: &str) -> Result<Self, EnrolError> {
        let text = text.trim();
        let (ca_hash, jwt) = text.split_once('.').ok_or_else(|| EnrolError::Token("it has no dots".to_owned()))?;
        if jwt.split('.').count() != 3 {
            return Err(EnrolError::Token(format!("it has {} parts instead of 4", text.split('.').count())));
        }
        if ca_hash.len() != 64 || !ca_hash.bytes().all(|byte| byte.is_ascii_hexdigit()) || !text.is_ascii() || text.contains(char::is_whitespace) {
            return Err(EnrolError::Token("it does not begin with a SHA-256 in hex".to_owned()));
        }
        Ok(Self { ca_hash: ca_hash.to_ascii_lowercase(), jwt: jwt.to_owned() })
    }
}

/// How the node proves that it may have a certificate.
#[derive(Debug)]
pub enum Auth<'a> {
    /// It was given a token.
    Token(&'a Token),
    /// It has a certificate.
    Certificate(&'a Identity),
}

/// A new certificate, PEM, and its key, PEM. The key is never printed.
pub struct Issued {
    /// Certificate.
    pub certificate: String,
    /// Key.
    pub key: String,
}

/// SHA-256 in lower-case hex.
pub fn hash(bytes: &[u8]) -> String {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cloud's CA. Whoever answers is not believed before the hash is right.
pub async fn fetch_ca(https: &str, token: &Token, proxy: Option<&str>) -> Result<CertificateDer<'static>, EnrolError> {
    let tls = host_tls::unverified().map_err(|why| EnrolError::Crypto(why.to_string()))?;
    let answer = good(https, http::get(https, proxy, tls, "/ca.crt", &[], &[]).await?)?;
    let found = hash(&answer);
    if found != token.ca_hash {
        return Err(EnrolError::WrongCa { server: https.to_owned(), wanted: token.ca_hash.clone(), found });
    }
    Ok(CertificateDer::from(answer))
}

/// Whether the cluster has a node of this name.
pub async fn node_exists(https: &str, ca: &CertificateDer<'static>, node: &str, proxy: Option<&str>) -> Result<bool, EnrolError> {
    let tls = tls::server_only(ca).map_err(|why| EnrolError::Crypto(why.to_string()))?;
    let answer = http::get(https, proxy, tls, &format!("/node/{node}"), &[], &[]).await?;
    match answer.status {
        200 => Ok(true),
        404 => Ok(false),
        _ => good(https, answer).map(|_| true),
    }
}

/// A certificate for this node.
pub async fn certificate(https: &str, ca: &CertificateDer<'static>, node: &str, auth: Auth<'_>, proxy: Option<&str>) -> Result<Issued, EnrolError> {
    let crypto = |why: &dyn std::fmt::Display| EnrolError::Crypto(why.to_string());
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|why| crypto(&why))?;
    let request = request(node, &key).map_err(|why| crypto(&why))?;
    let (tls, bearer) = match auth {
        Auth::Token(token) => (tls::server_only(ca), Some(format!("Bearer {}", token.jwt))),
        Auth::Certificate(identity) => (tls::mutual(identity), None),
    };
    let tls = tls.map_err(|why| crypto(&why))?;
    let mut headers = vec![("NodeName", node)];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let der = good(https, http::get(https, proxy, tls, "/edge.crt", &headers, &request).await?)?;
    Ok(Issued { certificate: pem("CERTIFICATE", &der), key: key.serialize_pem() })
}

fn request(node: &str, key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn good(server: &str, answer: Answer) -> Result<Vec<u8>, EnrolError> {
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let why: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
    Err(EnrolError::Refused { server: server.to_owned(), status: answer.status, why })
}

/// DER as PEM.
pub fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_four_parts_and_is_never_shown() {
        let hash = "a".repeat(64);
        let token = Token::parse(&format!("{hash}.x.yy.zzz\n")).expect("a token");
        assert_eq!(token.jwt, "x.yy.zzz");
        assert!(!format!("{token:?}").contains("zzz"));
        for bad in ["", "abc", "x.yy.zzz", &format!("{hash}.x.y"), &format!("{hash}.x.y.z.w"), &format!("{}.x.y.z", "g".repeat(64))] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }
}
