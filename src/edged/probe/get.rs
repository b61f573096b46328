//! A GET with its redirects, as kubelet makes it for probes and hooks.
//!
//! Source: pkg/probe/http of Kubernetes for headers and redirects, Go's net/http
//! for what a client does of itself.

use std::collections::BTreeMap;
use std::io;

use futures_lite::io::{AsyncRead, AsyncWrite, ReadHalf};

use super::ANSWER;
use super::dial::{authority, dial, timed_out, words};
use crate::host::http1::{self, Head, Incoming, canonical, exchange, header, response_length};
use crate::wire::url::{Reference, Url};

/// Requests of one chain of redirects.
const REQUESTS: usize = 10;
/// Headers that are ours to write.
const OURS: [&str; 6] = ["Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer", "Connection"];
/// How Go says that the limit of a whole request has passed.
const NO_HEAD: &str = "(Client.Timeout exceeded while awaiting headers)";
const NO_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// An answer that counts: the last of a chain of redirects.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// At most [`ANSWER`] bytes of it.
    pub body: Vec<u8>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The other side is ill.
    Failed(String),
    /// The other side answers, and not in TLS.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS can find out"))]
    NoTls(String),
    /// It began to answer and did not end.
    NoBody(String),
    /// This build cannot ask.
    #[cfg_attr(feature = "tls", expect(dead_code, reason = "it can with TLS"))]
    Unable(String),
}

/// A GET under way.
#[derive(Debug)]
pub(super) struct Get {
    /// What is asked at present.
    url: Url,
    /// The value of `Host`, if it is not that of the URL.
    host: Option<String>,
    /// Those of every request, in order.
    headers: Vec<(String, String)>,
    referer: Option<String>,
    stage: Stage,
}

/// How far it got.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Connecting,
    AwaitingHead,
    ReadingBody,
}

/// TCP, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type Response = (Head<u16>, Incoming<ReadHalf<Box<dyn Stream>>>);

impl Get {
    /// A GET of `url` with these headers, and with those that are missing.
    pub(super) fn new(url: Url, given: &[(String, String)], agent: &str) -> Self {
        let first = |name: &str| {
            let mut values = given.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.as_str())
        };
        let mut headers = Vec::new();
        match first("User-Agent") {
            None => headers.push(("User-Agent".to_owned(), agent.to_owned())),
            Some("") => {}
            Some(own) => headers.push(("User-Agent".to_owned(), own.to_owned())),
        }
        let mut others: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, value) in given {
            others.entry(canonical(name)).or_default().push(value);
        }
        match first("Accept") {
            None => drop(others.insert("Accept".to_owned(), vec!["*/*"])),
            Some("") => drop(others.remove("Accept")),
            Some(_) => {}
        }
        for (name, values) in others.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
            headers.extend(values.iter().map(|value| (name.clone(), (*value).to_owned())));
        }
        let host = first("Host").filter(|host| !host.is_empty()).map(str::to_owned);
        Self { url, host, headers, referer: None, stage: Stage::Connecting }
    }

    /// Asks, and follows redirects to the same host.
    pub(super) async fn run(&mut self) -> Result<Answer, NoAnswer> {
        let origin = self.url.host.clone();
        let mut requests = 1;
        loop {
            let (head, incoming) = self.ask().await?;
            let Some(location) = redirect(&head).map(str::to_owned) else {
                return self.read(&head, incoming).await;
            };
            let next = self.url.resolve(&location).map_err(|why| self.failed(&why))?;
            if next.url.host != origin {
                return self.read(&head, incoming).await;
            }
            if requests == REQUESTS {
                let why = format!("stopped after {REQUESTS} redirects");
                return Err(NoAnswer::Failed(format!("Get {location:?}: {why}")));
            }
            requests += 1;
            self.turn_to(next);
        }
    }

    /// What a limit that passed while this was under way means.
    pub(super) fn timed_out(&self) -> NoAnswer {
        match self.stage {
            Stage::Connecting => {
                let why = timed_out(&self.url.host, self.url.port());
                self.failed(&format!("{why} {NO_HEAD}"))
            }
            Stage::AwaitingHead => self.failed(&format!("context deadline exceeded {NO_HEAD}")),
            Stage::ReadingBody => NoAnswer::NoBody(NO_BODY.to_owned()),
        }
    }

    fn failed(&self, why: &str) -> NoAnswer {
        NoAnswer::Failed(format!("Get \"{}\": {why}", self.url))
    }

    /// A `Host` that was given is kept as long as locations are relative.
    fn turn_to(&mut self, next: Reference) {
        let authority = self.url.authority();
        self.host = self.host.take().filter(|host| *host != authority && !next.is_absolute);
        // What was asked over TLS is not told to those without.
        let may_know = !self.url.tls || next.url.tls;
        self.referer = may_know.then(|| self.url.to_string());
        self.url = next.url;
    }

    fn request(&self) -> Result<Vec<u8>, NoAnswer> {
        let authority = self.url.authority();
        let mut headers = vec![("Host", self.host.as_deref().unwrap_or(&authority))];
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.trim())));
        let has_referer = self.headers.iter().any(|(name, _)| name == "Referer");
        if let Some(referer) = self.referer.as_ref().filter(|_| !has_referer) {
            headers.push(("Referer", referer));
        }
        headers.push(("Connection", "close"));
        http1::request("GET", &self.url.target, &headers).map_err(|why| self.failed(&format!("net/http: {why}")))
    }

    async fn ask(&mut self) -> Result<Response, NoAnswer> {
        let request = self.request()?;
        self.stage = Stage::Connecting;
        let stream = dial(&self.url.host, self.url.port()).await;
        let stream = stream.map_err(|why| self.failed(&why))?;
        self.stage = Stage::AwaitingHead;
        let stream: Box<dyn Stream> = match self.url.tls {
            true => Box::new(tls::handshake(&self.url, stream).await?),
            false => Box::new(stream),
        };
        exchange(stream, &request).await.map_err(|why| self.failed(&self.broken(&why)))
    }

    /// What a connection that broke is said to be.
    fn broken(&self, why: &io::Error) -> String {
        let address = || authority(&self.url.host, self.url.port());
        if why.kind() == io::ErrorKind::UnexpectedEof {
            "EOF".to_owned()
        } else if why.kind() == io::ErrorKind::InvalidData {
            why.to_string()
        } else {
            format!("read tcp {}: read: {}", address(), words(why))
        }
    }

    /// Reads as much of the body as anybody wants to see.
    async fn read(&mut self, head: &Head<u16>, mut incoming: Incoming<ReadHalf<Box<dyn Stream>>>) -> Result<Answer, NoAnswer> {
        let length = response_length("GET", head).map_err(|why| self.failed(&why.to_string()))?;
        self.stage = Stage::ReadingBody;
        match incoming.body(length, ANSWER, |_| Ok(())).await {
            Ok(body) => Ok(Answer { status: head.start, body: body.bytes }),
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => Err(NoAnswer::NoBody("unexpected EOF".to_owned())),
            Err(why) => Err(NoAnswer::NoBody(self.broken(&why))),
        }
    }
}

/// Where a response sends the client.
fn redirect(head: &Head<u16>) -> Option<&str> {
    let location = header(&head.headers, "Location").filter(|location| !location.is_empty());
    location.filter(|_| matches!(head.start, 301..=303 | 307 | 308))
}

#[cfg(feature = "tls")]
mod tls {
    //! TLS without a look at whom: a probe asks whether, not who.

    use futures_rustls::client::TlsStream;
    use futures_rustls::rustls::{Error, InvalidMessage};
    use smol::net::TcpStream;

    use super::NoAnswer;
    use crate::edged::probe::dial::authority;
    use crate::host::tls::{self, Secured};
    use crate::wire::url::Url;

    pub(super) async fn handshake(url: &Url, stream: TcpStream) -> Result<Secured<TlsStream<TcpStream>>, NoAnswer> {
        let failed = |why: &str| format!("Get \"{url}\": {why}");
        let config = tls::unverified().map_err(|why| NoAnswer::Failed(failed(&why.to_string())))?;
        tls::handshake(stream, &authority(&url.host, url.port()), config).await.map_err(|why| match is_no_tls(&why) {
            true => NoAnswer::NoTls(failed("http: server gave HTTP response to HTTPS client")),
            false => NoAnswer::Failed(failed(&format!("tls: {why}"))),
        })
    }

    /// The first byte of `HTTP/1.1 400` is no kind of TLS message.
    fn is_no_tls(why: &std::io::Error) -> bool {
        let cause = why.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        matches!(cause, Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)))
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    //! This build has no TLS.

    use smol::net::TcpStream;

    use super::NoAnswer;
    use crate::wire::url::Url;

    #[allow(clippy::unused_async, reason = "stands in for one that waits")]
    pub(super) async fn handshake(_: &Url, _: TcpStream) -> Result<TcpStream, NoAnswer> {
        Err(NoAnswer::Unable("this build cannot probe over TLS".into()))
    }
}
