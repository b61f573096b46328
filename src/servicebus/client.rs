//! Calls an app for the cloud: one request, one connection, redirects followed.
//!
//! Source: devices.md 5.2; what Go's http.Client does of itself.

use std::io;

use futures_lite::future;
use futures_lite::io::ReadHalf;
use smol::Timer;
use smol::net::TcpStream;

use super::budget::Budget;
use crate::config;
use crate::host::http1::{Head, Headers, Incoming, canonical, exchange, header, request, response_length};
use crate::node::service::{Called, reaches};
use crate::wire::servicebus::{self, Answer, BODY, Call};
use crate::wire::url::{Reference, Url};

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// What we call ourselves.
const AGENT: &str = concat!("selvedge/", env!("CARGO_PKG_VERSION"));
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

/// The URL of the call.
fn url(call: &Call) -> Url {
    Url { tls: false, host: call.host.clone(), port: Some(call.port), target: call.path.clone() }
}

/// Sends the request and reads the head of the response.
async fn ask(call: &Call) -> io::Result<(Head<u16>, Incoming<ReadHalf<TcpStream>>)> {
    let given = |name: &str| call.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
    let is_ours = |name: &str| OURS.contains(&name.to_ascii_lowercase().as_str());
    let authority = url(call).authority();
    let length = call.body.len().to_string();
    let mut headers = vec![("Host", authority.as_str())];
    headers.extend([("Accept", "*/*"), ("User-Agent", AGENT)].into_iter().filter(|(name, _)| !given(name)));
    for (name, values) in call.headers.iter().filter(|(name, _)| !is_ours(name)) {
        headers.extend(values.iter().map(|value| (name.as_str(), value.as_str())));
    }
    if !call.body.is_empty() || matches!(call.method.as_str(), "POST" | "PUT" | "PATCH") {
        headers.push(("Content-Length", &length));
    }
    headers.push(("Connection", "close"));
    let mut request = request(&call.method, &call.path, &headers).map_err(io::Error::other)?;
    request.extend_from_slice(&call.body);
    let stream = TcpStream::connect((call.host.as_str(), call.port)).await?;
    exchange(stream, &request).await
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
    let Ok(Reference { url: next_url, .. }) = url(call).resolve(location) else { return Some(None) };
    if next_url.tls {
        return Some(None);
    }
    let elsewhere = (next_url.host.as_str(), next_url.port()) != (call.host.as_str(), call.port);
    let mut next = Call { port: next_url.port(), host: next_url.host, path: next_url.target, ..call.clone() };
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
    next.headers.insert("Referer".to_owned(), vec![url(call).to_string()]);
    Some(Some(next))
}

/// Reads the body; what is too long is cut.
async fn take(call: &Call, head: Head<u16>, incoming: &mut Incoming<ReadHalf<TcpStream>>, budget: &Budget) -> Called {
    let mut share = budget.share();
    let read = async {
        let length = response_length(&call.method, &head)?;
        incoming.body(length, BODY, |bytes| share.take(bytes)).await
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn a_call() -> Call {
        let headers =
            [("Authorization", "secret"), ("Content-Type", "text/plain"), ("X-A", "1")].map(|(name, value)| (name.to_owned(), vec![value.to_owned()]));
        Call { host: "127.0.0.1".into(), port: 81, path: "/a/b?q".into(), method: "POST".into(), headers: headers.into(), body: b"x".to_vec() }
    }

    #[test]
    fn a_redirect_keeps_what_it_may() {
        let go = |status, location: &str| redirected(&a_call(), &Head { start: status, headers: vec![("Location".into(), location.into())], is_http10: false });
        let next = go(302, "/c").expect("it redirects").expect("to HTTP");
        assert_eq!((next.method.as_str(), next.body.len(), next.headers.contains_key("Content-Type")), ("GET", 0, false));
        assert_eq!((next.headers["Referer"][0].as_str(), next.headers.contains_key("Authorization")), ("http://127.0.0.1:81/a/b?q", true));
        let next = go(307, "http://other:81/c").expect("it redirects").expect("to HTTP");
        assert_eq!((next.method.as_str(), next.body.len(), next.headers.contains_key("Authorization")), ("POST", 1, false));
        assert_eq!(go(302, "https://127.0.0.1:81/c"), Some(None));
        assert_eq!(go(302, "http://127.0.0.1:x/c"), Some(None));
        assert!(go(200, "/c").is_none() && go(302, "").is_none() && go(304, "/c").is_none());
    }

    #[test]
    fn names_of_headers_are_written_as_go_writes_them() {
        let gathered = gathered(vec![("set-cookie".into(), "a".into()), ("SET-COOKIE".into(), "b".into()), ("connection".into(), "close".into())]);
        assert_eq!(gathered, [("Set-Cookie".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into());
    }
}
