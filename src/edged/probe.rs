//! Trying something on a container: probes, and hooks, which are the same
//! things with another meaning. What a failure means is the node's matter.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use futures_lite::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::Timer;
use smol::net::TcpStream;

use super::grpc::{Code, Error};
use super::{Shell, health};
use crate::node::ids::ContainerId;
use crate::node::input::Input;
use crate::node::runtime::{Action, Probe, ProbeResult};

/// What is read of an answer, and kept of a command's output.
const ANSWER: u64 = 10 << 10;
pub(super) const AGENT: &str = "kube-probe/1.32";

/// What a probe asks for and a hook does not, and the other way round.
struct Manner {
    /// Good answers of an HTTP server.
    good: RangeInclusive<u16>,
    /// A server that has no TLS is asked without.
    falls_back: bool,
}

const PROBE: Manner = Manner { good: 200..=399, falls_back: false };
/// Any answer will do.
const HOOK: Manner = Manner { good: 100..=999, falls_back: true };

/// Runs a probe and answers it.
pub(super) async fn run(shell: Rc<Shell>, probe: Probe) {
    let result = {
        let _turn = shell.probes.acquire().await;
        attempt(&shell, &probe.container, &probe.action, probe.timeout, &PROBE).await
    };
    log::trace!(target: "edged", "{:?} probe of container '{}': {result:?}", probe.kind, probe.container);
    shell.tell(Input::Probed { pod: probe.pod, container: probe.container, kind: probe.kind, result }).await;
}

/// Runs a hook.
pub(super) async fn hook(shell: &Shell, container: &ContainerId, hook: &Action, limit: Duration) -> ProbeResult {
    attempt(shell, container, hook, limit, &HOOK).await
}

async fn attempt(shell: &Shell, container: &ContainerId, action: &Action, limit: Duration, manner: &Manner) -> ProbeResult {
    let talk = async {
        match action {
            Action::Exec(command) => exec(shell, container, command, limit).await,
            Action::Tcp { host, port } => match TcpStream::connect((bare(host), *port)).await {
                Ok(_) => ProbeResult::Success,
                Err(cause) => ProbeResult::Failure(format!("cannot connect to '{host}' port {port}: {cause}")),
            },
            Action::Http { host, port, path, tls, headers } => {
                let mut answer = get(host, *port, path, *tls, headers).await;
                if manner.falls_back && matches!(answer, Err(Trouble::NoTls(_))) {
                    log::info!(target: "edged", "hook of container '{container}': '{host}' port {port} has no TLS, it is asked without");
                    let open: Vec<_> = headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("authorization")).cloned().collect();
                    answer = get(host, *port, path, false, &open).await;
                }
                match answer {
                    Ok(status) if manner.good.contains(&status) => ProbeResult::Success,
                    Ok(status) => ProbeResult::Failure(format!("HTTP probe failed with statuscode: {status}")),
                    Err(Trouble::Failed(why) | Trouble::NoTls(why)) => ProbeResult::Failure(format!("cannot get '{path}' from '{host}' port {port}: {why}")),
                    Err(Trouble::Unable(why)) => ProbeResult::Unknown(why),
                }
            }
            Action::Grpc { host, port, service } => health::check(bare(host), *port, service).await,
            Action::Sleep(time) => {
                Timer::after(*time).await;
                ProbeResult::Success
            }
        }
    };
    // A command is ended by the runtime, which needs a moment for that.
    let patience = if matches!(action, Action::Exec(_)) { limit.saturating_add(Duration::from_secs(30)) } else { limit };
    let late = async {
        Timer::after(patience).await;
        ProbeResult::Failure(format!("no answer within {} ms", limit.as_millis()))
    };
    or(talk, late).await
}

async fn exec(shell: &Shell, container: &ContainerId, command: &[String], limit: Duration) -> ProbeResult {
    match shell.client.exec_sync(container.as_str(), command, limit).await {
        Ok(answer) if answer.exit_code == 0 => ProbeResult::Success,
        Ok(answer) => {
            let output: Vec<u8> = answer.stdout.into_iter().chain(answer.stderr).take(usize::try_from(ANSWER).unwrap_or(usize::MAX)).collect();
            ProbeResult::Failure(format!("exit code {}: {}", answer.exit_code, String::from_utf8_lossy(&output).trim_end()))
        }
        Err(cause) if is_late(&cause) => ProbeResult::Failure(format!("command did not end within {} s", limit.as_secs().max(1))),
        Err(cause) => ProbeResult::Unknown(without_exec_id(&cause.to_string())),
    }
}

/// containerd names the exec that failed by a random id: without it the same
/// trouble has the same words each time, and is one Event that counts.
fn without_exec_id(cause: &str) -> String {
    const BEFORE: &str = "failed to start exec \"";
    const ID: usize = 64;
    let Some((before, after)) = cause.split_once(BEFORE) else { return cause.to_owned() };
    match after.split_at_checked(ID) {
        Some((id, after)) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}failed to start exec{}", after.strip_prefix('"').unwrap_or(after))
        }
        Some(_) | None => cause.to_owned(),
    }
}

/// The command took too long. containerd 1.6 says so only in words.
fn is_late(cause: &Error) -> bool {
    match cause {
        Error::Refused { code, message, .. } => *code == Code::DEADLINE_EXCEEDED || (message.contains("timeout") && message.contains("exceeded")),
        Error::TimedOut { .. } => true,
        Error::Unreachable { .. } | Error::Broken { .. } | Error::Garbled { .. } => false,
    }
}

enum Trouble {
    /// The other side is ill.
    Failed(String),
    /// The other side answers, and not in TLS.
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "only TLS can find out"))]
    NoTls(String),
    /// This build cannot ask.
    Unable(String),
}

impl From<std::io::Error> for Trouble {
    fn from(cause: std::io::Error) -> Self {
        Self::Failed(cause.to_string())
    }
}

async fn get(host: &str, port: u16, path: &str, tls: bool, headers: &[(String, String)]) -> Result<u16, Trouble> {
    let request = request(host, port, path, headers);
    let stream = TcpStream::connect((bare(host), port)).await?;
    if tls { tls::exchange(bare(host), stream, &request).await } else { exchange(stream, &request).await }
}

/// An IPv6 address may be written in brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Host and port as URLs write them.
pub(super) fn authority(host: &str, port: u16) -> String {
    let host = bare(host);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn request(host: &str, port: u16, path: &str, headers: &[(String, String)]) -> Vec<u8> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut text = format!("GET {slash}{} HTTP/1.1\r\n", path.bytes().map(escaped).collect::<String>());
    let mut add = |name: &str, value: &str| {
        // A value with a line break would be another header.
        let clean = |text: &str| text.replace(['\r', '\n'], " ");
        text.push_str(&format!("{}: {}\r\n", clean(name), clean(value)));
    };
    let own = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let authority = authority(host, port);
    for (name, value) in [("Host", authority.as_str()), ("User-Agent", AGENT), ("Accept", "*/*")] {
        if !own(name) {
            add(name, value);
        }
    }
    headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection")).for_each(|(name, value)| add(name, value));
    add("Connection", "close");
    (text + "\r\n").into_bytes()
}

fn escaped(byte: u8) -> String {
    if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// Sends a request and reads what comes until the other side is done or enough
/// was read; answers the status.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Result<u16, Trouble> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER).read_to_end(&mut answer).await;
    match (status(&answer), read) {
        (Some(status), _) => Ok(status),
        (None, Err(cause)) => Err(cause.into()),
        (None, Ok(_)) => Err(Trouble::Failed("no HTTP answer".into())),
    }
}

/// Status of the last head in `answer`; those below 200 only announce it.
fn status(answer: &[u8]) -> Option<u16> {
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let line = std::str::from_utf8(answer.split(|byte| *byte == b'\r').next()?).ok()?;
    let code: u16 = line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    if (100..200).contains(&code) { status(&answer[head + 4..]) } else { Some(code) }
}

#[cfg(feature = "tls")]
mod tls {
    //! TLS without a look at whom: a probe asks whether, not who.

    use std::sync::Arc;

    use futures_lite::io::{AsyncRead, AsyncWrite};
    use futures_rustls::TlsConnector;
    use futures_rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use futures_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use futures_rustls::rustls::crypto::CryptoProvider;
    use futures_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, InvalidMessage, SignatureScheme};

    use super::Trouble;
    use crate::host::tls::{Secured, provider};

    pub(super) async fn exchange(host: &str, stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Result<u16, Trouble> {
        let unable = |why: String| Trouble::Unable(format!("cannot speak TLS: {why}"));
        let provider = provider();
        let name = ServerName::try_from(host.to_owned()).map_err(|cause| unable(cause.to_string()))?;
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|cause| unable(cause.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth();
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => super::exchange(Secured(stream), request).await,
            Err(cause) if is_no_tls(&cause) => Err(Trouble::NoTls(format!("the answer is no TLS: {cause}"))),
            Err(cause) => Err(cause.into()),
        }
    }

    /// The first byte of `HTTP/1.1 400` is no kind of TLS message.
    fn is_no_tls(cause: &std::io::Error) -> bool {
        let cause = cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        matches!(cause, Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)))
    }

    /// Looks at no signature either: a probe is content with certificates that
    /// joining would not be, X.509 version 1 among them.
    #[derive(Debug)]
    struct Anybody(Arc<CryptoProvider>);

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(not(feature = "tls"))]
mod tls {
    //! This build has no TLS.

    use super::Trouble;

    #[allow(clippy::unused_async, reason = "stands in for one that waits")]
    pub(super) async fn exchange(_host: &str, _stream: smol::net::TcpStream, _request: &[u8]) -> Result<u16, Trouble> {
        Err(Trouble::Unable("this build cannot probe over TLS".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_request_whatever_it_is_made_of() {
        let headers = [("X-A".to_owned(), "1\r\nX-B: 2".to_owned()), ("host".to_owned(), "other".to_owned())];
        let text = String::from_utf8(request("10.0.0.1", 80, "a b?c=é", &headers)).unwrap();
        assert_eq!(
            text,
            "GET /a%20b?c=%C3%A9 HTTP/1.1\r\nUser-Agent: kube-probe/1.32\r\nAccept: */*\r\nX-A: 1  X-B: 2\r\nhost: other\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn the_same_trouble_of_an_exec_has_the_same_words() {
        let words = |id: &str| {
            without_exec_id(&format!(
                "failed to exec in container: failed to start exec \"{id}\": OCI runtime exec failed: exec: \"/no/such\": no such file or directory"
            ))
        };
        let (one, other) = (words(&"0a".repeat(32)), words(&"f1".repeat(32)));
        assert_eq!(one, other);
        assert!(one.contains("failed to start exec: OCI runtime exec failed: exec: \"/no/such\""), "{one}");
        assert!(words("short").contains("\"short\""));
    }

    #[test]
    fn an_ipv6_address_is_bracketed_for_the_host_header_only() {
        assert!(String::from_utf8(request("fd00::1", 8080, "/", &[])).unwrap().contains("Host: [fd00::1]:8080\r\n"));
        assert_eq!(bare("[fd00::1]"), "fd00::1");
    }

    #[test]
    fn the_status_is_that_of_the_final_head() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\r\n\r\nbusy"), Some(503));
        assert_eq!(status(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), None);
    }

    /// A server that knows no TLS, as Go's answers a handshake; the requests
    /// without TLS it was sent.
    #[cfg(feature = "tls")]
    fn against_plain_http(action: impl FnOnce(u16) -> Action, manner: &Manner) -> (ProbeResult, Vec<String>) {
        let executor = crate::host::tasks::Executor::default();
        executor.block_on(async {
            let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let asked = Rc::new(std::cell::RefCell::new(Vec::new()));
            let seen = asked.clone();
            let server = async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut bytes = [0; 1024];
                    let count = stream.read(&mut bytes).await.unwrap();
                    let status = if bytes.starts_with(b"GET ") {
                        seen.borrow_mut().push(String::from_utf8_lossy(&bytes[..count]).into_owned());
                        "200 OK"
                    } else {
                        "400 Bad Request"
                    };
                    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
                }
                ProbeResult::Unknown("the server ended".into())
            };
            let config = crate::config::file::parse("", "h").unwrap().edged;
            let (inbox, _inputs) = smol::channel::bounded(1);
            let shell = Shell::new(config, inbox, &executor);
            let (container, action) = (ContainerId::from("c"), action(port));
            let result = or(attempt(&shell, &container, &action, Duration::from_secs(10), manner), server).await;
            (result, asked.take())
        })
    }

    #[test]
    #[cfg(feature = "tls")]
    fn a_hook_falls_back_to_plain_http_and_a_probe_does_not() {
        let headers = vec![("Authorization".to_owned(), "Bearer secret".to_owned()), ("X-A".to_owned(), "1".to_owned())];
        let action = |port| Action::Http { host: "127.0.0.1".into(), port, path: "/stop".into(), tls: true, headers: headers.clone() };
        let (result, asked) = against_plain_http(action, &HOOK);
        assert_eq!((result, asked.len()), (ProbeResult::Success, 1));
        assert!(asked[0].starts_with("GET /stop ") && asked[0].contains("X-A: 1") && !asked[0].contains("secret"), "{asked:?}");
        let (result, asked) = against_plain_http(action, &PROBE);
        assert!(matches!(&result, ProbeResult::Failure(why) if why.contains("no TLS")) && asked.is_empty(), "{result:?} {asked:?}");
    }
}
