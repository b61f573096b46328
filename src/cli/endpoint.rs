//! The cloud's address as people type it: `HOST`, `HOST:PORT`, or the URL they
//! copied.

use crate::config::address;

/// CloudCore's port for the WebSocket unless told.
const PORT: u16 = 10_000;

/// Where the cloud is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address; one of IPv6 has brackets.
    pub host: String,
    /// Port of the WebSocket.
    pub port: u16,
}

impl Endpoint {
    /// Reads what was typed.
    ///
    /// # Errors
    ///
    /// One sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if ["https", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => rest,
            Some((scheme, _)) => return Err(format!("the cloud is reached by TLS, not by {scheme}://: give HOST[:PORT]")),
        };
        let (rest, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        if !matches!(path, "" | "/") {
            return Err(format!("'{path}' has no meaning here: give HOST[:PORT]"));
        }
        if rest.contains('@') {
            return Err("a user has no meaning here: give HOST[:PORT]".to_owned());
        }
        if rest.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self { host: format!("[{rest}]"), port: PORT });
        }
        let (host, port) = match rest.rsplit_once(':').filter(|_| !rest.ends_with(']')) {
            Some((host, port)) => (host, address::port(port)?),
            None => (rest, PORT),
        };
        address::host(host)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_found_by_any_way_to_write_it() {
        for (typed, host, port) in [
            ("cloud", "cloud", 10_000),
            ("cloud.example.com:10001", "cloud.example.com", 10_001),
            ("https://cloud:10000/", "cloud", 10_000),
            ("https://cloud", "cloud", 10_000),
            ("HTTPS://cloud/", "cloud", 10_000),
            ("wss://cloud:30000", "cloud", 30_000),
            ("192.0.2.1", "192.0.2.1", 10_000),
            ("2001:db8::1", "[2001:db8::1]", 10_000),
            ("[2001:db8::1]", "[2001:db8::1]", 10_000),
            ("[2001:db8::1]:7", "[2001:db8::1]", 7),
            ("https://[::1]:10000/", "[::1]", 10_000),
            (" cloud\n", "cloud", 10_000),
        ] {
            assert_eq!(Endpoint::parse(typed), Ok(Endpoint { host: host.to_owned(), port }), "{typed}");
        }
        for (typed, why) in [
            ("http://cloud:10000", "the cloud is reached by TLS, not by http://: give HOST[:PORT]"),
            ("tcp://cloud", "the cloud is reached by TLS, not by tcp://: give HOST[:PORT]"),
            ("https://cloud:10000/edge", "'/edge' has no meaning here: give HOST[:PORT]"),
            ("cloud?x=1", "'?x=1' has no meaning here: give HOST[:PORT]"),
            ("u:p@cloud", "a user has no meaning here: give HOST[:PORT]"),
            ("cloud:", "HOST:PORT was expected, '' is no port from 1 to 65535"),
            ("cloud:70000", "HOST:PORT was expected, '70000' is no port from 1 to 65535"),
            ("", "HOST:PORT was expected, the host is missing"),
            ("https://", "HOST:PORT was expected, the host is missing"),
            ("my cloud", "'my cloud' is no host name"),
            ("[::1", "'[:' is no IPv6 address in brackets"),
        ] {
            assert_eq!(Endpoint::parse(typed), Err(why.to_owned()), "{typed}");
        }
    }
}
