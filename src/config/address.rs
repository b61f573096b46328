//! `HOST:PORT`, as the configuration and the command line have it.

use std::net::{IpAddr, Ipv6Addr};

/// Checks `HOST:PORT`; an IPv6 address stands in brackets.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(text: &str) -> Result<(), String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!("HOST:PORT without '{scheme}://' was expected"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("an IPv6 address stands in brackets: [{text}]:PORT"));
    }
    let Some((host, port)) = text.rsplit_once(':') else { return Err("HOST:PORT was expected, the port is missing".to_owned()) };
    self::host(host)?;
    self::port(port).map(drop)
}

/// Checks a port.
///
/// # Errors
///
/// It is no number from 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port > 0);
    port.ok_or_else(|| format!("HOST:PORT was expected, '{text}' is no port from 1 to 65535"))
}

/// Checks a host: a name, an IPv4 address, or an IPv6 address in brackets.
///
/// # Errors
///
/// What is wrong with it.
pub fn host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("HOST:PORT was expected, the host is missing".to_owned());
    }
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(|inner| inner.split_once('%').map_or(inner, |(address, _)| address));
        let is_v6 = address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return if is_v6 { Ok(()) } else { Err(format!("'{host}' is no IPv6 address in brackets")) };
    }
    let is_numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_numeric {
        return host.parse::<IpAddr>().map(drop).map_err(|_| format!("'{host}' is no IPv4 address"));
    }
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        matches!(label.len(), 1..=63) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!("'{}' is no host name", super::names::head(host)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in
            ["a:1", "cloud.example.com:10000", "cloud.example.com.:1", "192.0.2.1:65535", "[::1]:80", "[fe80::1%eth0]:80", "my_host:1", "localhost:1883"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "port is missing"),
            ("a", "port is missing"),
            (":1", "host is missing"),
            ("a:", "'' is no port"),
            ("a:0", "no port"),
            ("a:65536", "no port"),
            ("a:+1", "no port"),
            ("https://a:1", "without 'https://'"),
            ("::1", "[::1]:PORT"),
            ("2001:db8::1", "[2001:db8::1]:PORT"),
            ("[::1", "no IPv6 address"),
            ("[a]:1", "no IPv6 address"),
            ("::1:x", "no host name"),
            ("a b:1", "no host name"),
            ("a/b:1", "no host name"),
            ("u@a:1", "no host name"),
            ("-a:1", "no host name"),
            ("1.2.3:1", "no IPv4 address"),
            ("256.0.0.1:1", "no IPv4 address"),
            ("a..b:1", "no host name"),
        ] {
            assert!(check(bad).is_err_and(|found| found.contains(why)), "{bad}: {:?}", check(bad));
        }
    }
}
