//! Calls an app for the cloud: one request, one connection, redirects followed.
//!
//! Source: devices.md 5.2; what Go's http.Client does of itself.

use std::io;
use std::net::Ipv6Addr;

use futures_lite::{AsyncWriteExt, future};
use smol::Timer;
use smol::net::TcpStream;

use super::http::{Budget, Head, Headers, Incoming, Length, header, length};
use crate::config;
use crate::node::service::{Called, reaches};
use crate::wire::servicebus::{self, Answer, BODY, Call, target};

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// Headers of the cloud's request that are ours to write.
const OURS: [&str; 7] = ["host", "content-length", "transfer-encoding", "connection", "trailer", "upgrade", "expect"];
/// Headers that are for one host only.
const PRIVATE: [&str; 4] = ["authorization", "cookie", "cookie2", "www-authenticate"];

/// Calls an app; within its time there is an outcome.
pub async fn call(call: Call, config: &config::ServiceBus, budget: &Budget) -> Called {
    let place = format!("{}:{}", call.host, call.port);
    let in_time = async {
        Timer::after(config.app_timeout).await;
        Called::Unreachable(format!("{place}: no answer within {} ms", config.app_timeout.as_millis()))
    };
    future::or(follow(call, config, budget), in_time).await
}

async fn follow(mut call: Call, config: &config::ServiceBus, budget: &Budget) -> Called {
    for _ in 0..=REDIRECTS {
        let place = format!("{}:{}", call.host, call.port);
        let (head, mut incoming) = match ask(&call).await {
            Ok(answered) => answered,
            Err(why) => return Called::Unreachable(format!("{place}: {why}")),
        };
        match redirected(&call, &head) {
            None => return take(&call, head, &mut incoming, budget).await,
            Some(Some(next)) if reaches(&next.host, &config.hosts) => call = next,
            Some(_) => return Called::Unreachable(format!("{place}: it redirects to where this node does not call")),
        }
    }
    Called::Unreachable(format!("{}:{}: it redirects more than {REDIRECTS} times", call.host, call.port))
}

/// `HOST:PORT` as a URL writes it.
fn authority(call: &Call) -> String {
    if call.host.parse::<Ipv6Addr>().is_ok() { format!("[{}]:{}", call.host, call.port) } else { format!("{}:{}", call.host, call.port) }
}

/// Sends the request and reads the head of the response.
async fn ask(call: &Call) -> io::Result<(Head<u16>, Incoming<TcpStream>)> {
    let mut stream = TcpStream::connect((call.host.as_str(), call.port)).await?;
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", call.method, call.path, authority(call));
    let given = |name: &str| call.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    if !given("accept") {
        head.push_str("Accept: */*\r\n");
    }
    if !given("user-agent") {
        head.push_str(concat!("User-Agent: selvedge/", env!("CARGO_PKG_VERSION"), "\r\n"));
    }
    for (name, values) in call.headers.iter().filter(|(name, _)| !OURS.contains(&name.to_ascii_lowercase().as_str())) {
        for value in values {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !call.body.is_empty() || matches!(call.method.as_str(), "POST" | "PUT" | "PATCH") {
        head.push_str(&format!("Content-Length: {}\r\n", call.body.len()));
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut incoming = Incoming::new(stream.clone());
    // An app may answer before it has read everything, and read no more then.
    let write = async {
        let _ = stream.write_all(&call.body).await;
        future::pending().await
    };
    let head = future::or(incoming.response(), write).await?;
    Ok((head, incoming))
}

/// Where the response sends the caller: `None` if nowhere, `Some(None)` to
/// where no plain HTTP is.
fn redirected(call: &Call, head: &Head<u16>) -> Option<Option<Call>> {
    let location = header(&head.headers, "location").filter(|location| !location.is_empty())?;
    let keeps = match head.start {
        301..=303 => false,
        307 | 308 => true,
        _ => return None,
    };
    let Some((host, port, path)) = resolve(call, location) else { return Some(None) };
    let mut next = Call { path: target(&path), ..call.clone() };
    let elsewhere = (&host, port) != (&call.host, call.port);
    (next.host, next.port) = (host, port);
    if !keeps {
        next.body.clear();
        next.headers.retain(|name, _| !name.to_ascii_lowercase().starts_with("content-"));
        if !matches!(next.method.as_str(), "GET" | "HEAD") {
            next.method = "GET".to_owned();
        }
    }
    if elsewhere {
        next.headers.retain(|name, _| !PRIVATE.contains(&name.to_ascii_lowercase().as_str()));
    }
    next.headers.retain(|name, _| !name.eq_ignore_ascii_case("referer"));
    next.headers.insert("Referer".to_owned(), vec![format!("http://{}{}", authority(call), call.path)]);
    Some(Some(next))
}

/// Host, port and path of a location; `None` if it is no plain HTTP.
fn resolve(call: &Call, location: &str) -> Option<(String, u16, String)> {
    let same = |path: String| Some((call.host.clone(), call.port, path));
    let rest = match (location.strip_prefix("//"), location.split_once("://")) {
        (Some(rest), _) => rest,
        (None, Some((scheme, rest))) if !scheme.contains(['/', '?', '#']) => {
            if !scheme.eq_ignore_ascii_case("http") {
                return None;
            }
            rest
        }
        (None, _) if location.starts_with('/') => return same(location.to_owned()),
        (None, _) if location.starts_with('?') => return same(format!("{}{location}", call.path.split('?').next().unwrap_or_default())),
        (None, _) => {
            let path = call.path.split('?').next().unwrap_or_default();
            return same(format!("{}/{location}", path.rsplit_once('/').map_or("", |(folder, _)| folder)));
        }
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        Some(_) | None => (authority, 80),
    };
    Some((host.trim_matches(['[', ']']).to_owned(), port, path.to_owned()))
}

/// Reads the body; what is too long is cut.
async fn take(call: &Call, head: Head<u16>, incoming: &mut Incoming<TcpStream>, budget: &Budget) -> Called {
    let bodiless = call.method == "HEAD" || matches!(head.start, 204 | 304);
    let length = if bodiless { Ok(Length::Bytes(0)) } else { length(&head.headers, Length::UntilEnd) };
    let read = async { incoming.body(length?, BODY, &mut budget.share()).await };
    match read.await {
        Ok(body) => Called::Answered(Answer { status: head.start, headers: gathered(head.headers), body: body.bytes }),
        Err(why) => Called::Broken(why.to_string()),
    }
}

/// Headers by name as Go writes names, without those of the connection.
fn gathered(headers: Headers) -> servicebus::Headers {
    let mut gathered = servicebus::Headers::new();
    for (name, value) in headers.into_iter().filter(|(name, _)| !matches!(name.to_ascii_lowercase().as_str(), "transfer-encoding" | "connection" | "trailer")) {
        gathered.entry(canonical(&name)).or_default().push(value);
    }
    gathered
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|letter| {
            let letter = if upper { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            upper = letter == '-';
            letter
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_call() -> Call {
        let headers =
            [("Authorization", "secret"), ("Content-Type", "text/plain"), ("X-A", "1")].map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        Call { host: "127.0.0.1".into(), port: 81, path: "/a/b?q".into(), method: "POST".into(), headers: headers.into(), body: b"x".to_vec() }
    }

    #[test]
    fn locations_are_resolved_against_the_call() {
        let to = |location: &str| resolve(&a_call(), location);
        let at = |host: &str, port, path: &str| Some((host.to_owned(), port, path.to_owned()));
        assert_eq!(to("/c"), at("127.0.0.1", 81, "/c"));
        assert_eq!(to("c?d"), at("127.0.0.1", 81, "/a/c?d"));
        assert_eq!(to("?d"), at("127.0.0.1", 81, "/a/b?d"));
        assert_eq!(to("http://other:82"), at("other", 82, ""));
        assert_eq!(to("HTTP://[::1]:82/c"), at("::1", 82, "/c"));
        assert_eq!(to("//other/c"), at("other", 80, "/c"));
        assert_eq!(to("/c?to=https://x"), at("127.0.0.1", 81, "/c?to=https://x"));
        assert_eq!(to("https://other/c"), None);
        assert_eq!(to("http://other:x/c"), None);
    }

    #[test]
    fn a_redirect_keeps_what_it_may() {
        let go = |status, location: &str| redirected(&a_call(), &Head { start: status, headers: vec![("Location".into(), location.into())] });
        let next = go(302, "/c").expect("it redirects").expect("to HTTP");
        assert_eq!((next.method.as_str(), next.body.len(), next.headers.contains_key("Content-Type")), ("GET", 0, false));
        assert_eq!((next.headers["Referer"][0].as_str(), next.headers.contains_key("Authorization")), ("http://127.0.0.1:81/a/b?q", true));
        let next = go(307, "http://other:81/c").expect("it redirects").expect("to HTTP");
        assert_eq!((next.method.as_str(), next.body.len(), next.headers.contains_key("Authorization")), ("POST", 1, false));
        assert!(go(200, "/c").is_none() && go(302, "").is_none() && go(304, "/c").is_none());
    }

    #[test]
    fn names_of_headers_are_written_as_go_writes_them() {
        let gathered = gathered(vec![("set-cookie".into(), "a".into()), ("SET-COOKIE".into(), "b".into()), ("connection".into(), "close".into())]);
        assert_eq!(gathered, [("Set-Cookie".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into());
    }
}
