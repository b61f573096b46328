//! URLs of HTTP: what a reference means at the place where it stands, and how
//! path and query are written in a request.
//!
//! Source: RFC 3986, 5.2.

use std::fmt;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// The port, if it is written.
    pub port: Option<u16>,
    /// Path and query as a request line has them.
    pub target: String,
}

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The URL it stands for.
    pub url: Url,
    /// It names a scheme and does not depend on where it stands.
    pub is_absolute: bool,
}

impl Url {
    /// A URL of its parts; an IPv6 address may be in brackets.
    pub fn new(tls: bool, host: &str, port: u16, path: &str) -> Self {
        Self { tls, host: bare(host).to_owned(), port: Some(port), target: target(path) }
    }

    /// The port, or the one of the scheme.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// Host and port as they are written in URLs and `Host`.
    pub fn authority(&self) -> String {
        let host = bracketed(&self.host);
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// The path without the query.
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Resolves a reference that stands at this URL: the value of `Location`.
    ///
    /// # Errors
    ///
    /// It leads to no HTTP server, with the reason.
    pub fn resolve(&self, reference: &str) -> Result<Reference, String> {
        let reference = reference.split('#').next().unwrap_or_default();
        let (scheme, rest) = split_scheme(reference);
        let is_absolute = scheme.is_some();
        let tls = match scheme.map(str::to_ascii_lowercase).as_deref() {
            None => self.tls,
            Some("http") => false,
            Some("https") => true,
            Some(other) => return Err(format!("unsupported protocol scheme {other:?}")),
        };
        if let Some(rest) = rest.strip_prefix("//") {
            let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let (host, port) = split_authority(authority)?;
            let url = Self { tls, host: host.to_owned(), port, target: normal(target) };
            return Ok(Reference { url, is_absolute });
        }
        if is_absolute {
            return Err("no host in request URL".to_owned());
        }
        let target = match rest.chars().next() {
            None => self.target.clone(),
            Some('/') => rest.to_owned(),
            Some('?') => format!("{}{rest}", self.path()),
            Some(_) => {
                let folder = self.path().rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{rest}")
            }
        };
        Ok(Reference { url: Self { target: normal(&target), ..self.clone() }, is_absolute })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

/// An IPv6 address needs brackets where a port follows.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// An IPv6 address may be written in brackets.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// A path as a request line takes it: it begins with a slash, has no fragment,
/// and what no URL may contain is written with percent signs.
pub fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut target = slash.to_owned();
    for (at, byte) in path.bytes().enumerate() {
        let is_allowed = match byte {
            b'%' => is_escape(&path.as_bytes()[at..]),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            _ => byte.is_ascii_graphic(),
        };
        match is_allowed {
            true => target.push(char::from(byte)),
            false => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

/// Whether the bytes begin with `%` and two digits.
fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// [`target`] without the steps `.` and `..`.
fn normal(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut steps: Vec<&str> = Vec::new();
    let mut parts = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    steps.pop();
                }
                if is_last {
                    steps.push("");
                }
            }
            _ => steps.push(part),
        }
    }
    target(&format!("/{}{query}", steps.join("/")))
}

fn split_scheme(reference: &str) -> (Option<&str>, &str) {
    let is_scheme = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        Some(_) | None => (None, reference),
    }
}

/// Host and port; who logs in is of no matter.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), String> {
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        Some(_) | None => (place, None),
    };
    let invalid = |port: &str| format!("invalid port {port:?} in {authority:?}");
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().map_err(|_| invalid(port))?),
    };
    if host.is_empty() {
        return Err("no host in request URL".to_owned());
    }
    Ok((bare(host), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url { tls: false, host: "10.0.0.1".into(), port: Some(81), target: "/a/b?q".into() }
    }

    #[test]
    fn a_target_is_one_word_that_servers_can_read() {
        for (path, expected) in [
            ("", "/"),
            ("a", "/a"),
            ("/a b?c=d e", "/a%20b?c=d%20e"),
            ("/\u{e9}%20%C3", "/%C3%A9%20%C3"),
            ("/100%", "/100%25"),
            ("/100%2", "/100%252"),
            ("/a\r\nX: b", "/a%0D%0AX:%20b"),
            ("/a#b", "/a"),
            ("?a=b", "/?a=b"),
        ] {
            assert_eq!(target(path), expected, "{path:?}");
        }
    }

    #[test]
    fn references_are_resolved_where_they_stand() {
        for (reference, expected) in [
            ("/c", "http://10.0.0.1:81/c"),
            ("c?d", "http://10.0.0.1:81/a/c?d"),
            ("?d", "http://10.0.0.1:81/a/b?d"),
            ("", "http://10.0.0.1:81/a/b?q"),
            ("#top", "http://10.0.0.1:81/a/b?q"),
            ("./c", "http://10.0.0.1:81/a/c"),
            ("../c/./d/..", "http://10.0.0.1:81/c/"),
            ("../../../c", "http://10.0.0.1:81/c"),
            ("/c?to=https://x/../y", "http://10.0.0.1:81/c?to=https://x/../y"),
            ("/a b#c", "http://10.0.0.1:81/a%20b"),
            ("//other/c", "http://other/c"),
            ("//other", "http://other/"),
            ("http://other:82", "http://other:82/"),
            ("http://other:82?q", "http://other:82/?q"),
            ("https://other/c", "https://other/c"),
            ("HTTP://me:pw@[::1]:82/c", "http://[::1]:82/c"),
            ("http://[::1]/c", "http://[::1]/c"),
            ("http://other:/c", "http://other/c"),
        ] {
            let url = base().resolve(reference).map(|reference| reference.url.to_string());
            assert_eq!(url.as_deref(), Ok(expected), "{reference}");
        }
    }

    #[test]
    fn what_leads_nowhere_says_why() {
        let refused = |reference: &str| base().resolve(reference).expect_err(reference);
        assert_eq!(refused("ftp://x/"), "unsupported protocol scheme \"ftp\"");
        assert_eq!(refused("http:c"), "no host in request URL");
        assert_eq!(refused("http:///c"), "no host in request URL");
        assert_eq!(refused("http://x:y/c"), "invalid port \"y\" in \"x:y\"");
        assert_eq!(refused("http://x:65536/c"), "invalid port \"65536\" in \"x:65536\"");
    }

    #[test]
    fn only_a_scheme_makes_a_reference_absolute() {
        let is_absolute = |reference: &str| base().resolve(reference).map(|it| it.is_absolute);
        assert_eq!(is_absolute("http://10.0.0.1:81/"), Ok(true));
        assert_eq!(is_absolute("//10.0.0.1:81/"), Ok(false));
        assert_eq!(is_absolute("/c"), Ok(false));
    }

    #[test]
    fn ports_are_those_of_the_scheme_unless_written() {
        let port = |reference: &str| base().resolve(reference).map(|it| it.url.port());
        assert_eq!(port("/"), Ok(81));
        assert_eq!(port("//x"), Ok(80));
        assert_eq!(port("https://x"), Ok(443));
    }
}
