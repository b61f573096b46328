//! Probes and hooks against servers of every shape.

use std::cell::RefCell;

use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

/// What a server does with a connection whose request was read.
enum Serve {
    /// Says this and closes.
    Close(String),
    /// Says this and keeps the connection open.
    Keep(String),
}

/// What came of trying an action on a server at a port of this machine, and the
/// heads of the requests that the server saw. `serve` is given the first line.
fn against(action: impl FnOnce(u16) -> Action, (limit, purpose): (Duration, Purpose), serve: impl Fn(u16, &str) -> Serve) -> (ProbeResult, Vec<String>) {
    let executor = crate::host::tasks::Executor::default();
    executor.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = RefCell::new(Vec::new());
        let server = async {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                let first = head.lines().next().unwrap_or_default().to_owned();
                seen.borrow_mut().push(head);
                let (Serve::Close(text) | Serve::Keep(text)) = &serve(port, &first);
                let _ = stream.write_all(text.as_bytes()).await;
                if matches!(serve(port, &first), Serve::Keep(_)) {
                    open.push(stream);
                }
            }
            ProbeResult::Unknown("the server ended".into())
        };
        let config = crate::config::file::parse("", "h").unwrap().edged;
        let (inbox, _inputs) = smol::channel::bounded(1);
        let shell = Shell::new(config, inbox, &executor);
        let (container, action) = (ContainerId::from("c"), action(port));
        let probed = attempt(&shell, &container, &action, limit, purpose);
        let result = or(probed, server).await;
        (result, seen.take())
    })
}

/// The head of a request, or what came in its place.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    while !bytes.ends_with(b"\r\n\r\n") && (bytes.is_empty() || bytes.starts_with(b"GET")) {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(path: &str, headers: &[(&str, &str)]) -> impl FnOnce(u16) -> Action {
    let path = path.to_owned();
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    move |port| Action::Http { host: "127.0.0.1".into(), port, path, tls: false, headers }
}

const PROBE: (Duration, Purpose) = (LIMIT, Purpose::Probe);
const HOOK: (Duration, Purpose) = (LIMIT, Purpose::Hook);

/// A probe of a server that answers each request so; ports in the text are `PORT`.
fn probed(text: &str) -> ProbeResult {
    against(get("/", &[]), PROBE, |port, _| Serve::Close(text.replace("PORT", &port.to_string()))).0
}

fn failed(why: &str) -> ProbeResult {
    ProbeResult::Failure(why.to_owned())
}

fn redirected_away(body: &str) -> ProbeResult {
    ProbeResult::Warning(format!("Probe terminated redirects, Response body: {body}"))
}

/// The head without its lines of the connection, whose ports differ.
fn lines(head: &str) -> Vec<&str> {
    head.trim_end().split("\r\n").collect()
}

#[test]
fn a_status_decides() {
    assert_eq!(probed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), ProbeResult::Success);
    assert_eq!(probed("HTTP/1.0 204 No Content\r\n\r\n"), ProbeResult::Success);
    assert_eq!(probed("HTTP/1.1 299 ?\r\n\r\nto the end"), ProbeResult::Success);
    assert_eq!(probed("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), ProbeResult::Success);
    for status in [400, 404, 500, 503, 999, 101] {
        let why = format!("HTTP probe failed with statuscode: {status}");
        assert_eq!(probed(&format!("HTTP/1.1 {status} X\r\nContent-Length: 1\r\n\r\nx")), failed(&why));
    }
    // Not followed, so told.
    assert_eq!(probed("HTTP/1.1 304 Not Modified\r\nLocation: /x\r\n\r\n"), redirected_away(""));
    assert_eq!(probed("HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\n\r\none or two"), redirected_away("one or two"));
    assert_eq!(probed("HTTP/1.1 302 Found\r\n\r\nwhere?"), redirected_away("where?"));
}

/// Answers in full, whether or not the connection is open afterwards.
#[test]
fn a_whole_answer_is_enough() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    ] {
        let keep = |_: u16, _: &str| Serve::Keep(text.to_owned());
        assert_eq!(against(get("/", &[]), PROBE, keep).0, ProbeResult::Success, "{text}");
        assert_eq!(probed(text), ProbeResult::Success, "{text}");
    }
    let keep = |_: u16, _: &str| Serve::Keep("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned());
    assert_eq!(against(get("/", &[]), PROBE, keep).0, redirected_away(""));
    // More than is read of a body, and then the connection stays open.
    let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(2 * ANSWER));
    let keep = |_: u16, _: &str| Serve::Keep(long.clone());
    assert_eq!(against(get("/", &[]), PROBE, keep).0, ProbeResult::Success);
}

#[test]
fn an_answer_that_does_not_end_in_time() {
    let soon = (Duration::from_millis(50), Purpose::Probe);
    let keep = |text: &'static str| move |_: u16, _: &str| Serve::Keep(text.to_owned());
    let (result, _) = against(get("/", &[]), soon, keep(""));
    let late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
    assert!(matches!(&result, ProbeResult::Failure(why) if why.ends_with(late)), "{result:?}");
    // The server is there: as kubelet has it, nothing is known of its health.
    let late = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
    for text in ["HTTP/1.1 200 OK\r\n\r\nand", "HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nand"] {
        assert_eq!(against(get("/", &[]), soon, keep(text)).0, ProbeResult::Unknown(late.into()));
    }
    // Any answer will do for a hook.
    let soon = (Duration::from_millis(50), Purpose::Hook);
    assert_eq!(against(get("/", &[]), soon, keep("HTTP/1.1 500 X\r\n\r\nand")).0, ProbeResult::Success);
}

#[test]
fn what_is_no_answer_says_so() {
    let why = |text: &str| {
        let result = probed(text);
        let ProbeResult::Failure(why) = &result else { panic!("{text:?}: {result:?}") };
        why.split_once("/\": ").unwrap().1.to_owned()
    };
    assert_eq!(why(""), "EOF");
    assert_eq!(why("HTTP/1.1 200 OK\r\nX-A: 1\r\n"), "EOF");
    assert_eq!(why("SSH-2.0-OpenSSH\r\n"), "malformed HTTP response \"SSH-2.0-OpenSSH\"");
    assert_eq!(why(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000))), "headers exceeded 65536 bytes");
    assert_eq!(why("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi"), "bad Content-Length");
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi";
    assert_eq!(probed(short), ProbeResult::Unknown("unexpected EOF".into()));
}

#[test]
fn nobody_who_listens_is_refused_in_gos_words() {
    let executor = crate::host::tasks::Executor::default();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
    let url = || Url::new(false, "127.0.0.1", port, "/healthz?a=b c");
    let url_text = format!("Get \"http://127.0.0.1:{port}/healthz?a=b%20c\": {refused}");
    executor.block_on(async {
        assert_eq!(probe_by_get(url(), &[], LIMIT).await, failed(&url_text));
        assert_eq!(hook_by_get(&ContainerId::from("c"), url(), &[], LIMIT).await, failed(&url_text));
        assert_eq!(dial("127.0.0.1", port).await.map(drop), Err(refused));
        let refused = dial("[::1]", port).await.map(drop).expect_err("nobody listens");
        assert!(refused.starts_with(&format!("dial tcp [::1]:{port}: connect: ")), "{refused}");
    });
}

/// The connection is reset after the answer, which came before the request was read.
#[test]
fn an_answer_counts_although_the_connection_breaks() {
    let executor = crate::host::tasks::Executor::default();
    executor.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
            ProbeResult::Unknown("the server ended".into())
        };
        let headers = [("X-Large".to_owned(), "x".repeat(1 << 20))];
        let url = Url::new(false, "127.0.0.1", port, "/");
        let result = or(probe_by_get(url, &headers, LIMIT), server).await;
        assert_eq!(result, ProbeResult::Success);
    });
}

#[test]
fn a_request_is_what_kubelet_sends() {
    let ok = |_: u16, _: &str| Serve::Close("HTTP/1.1 200 OK\r\n\r\n".into());
    let sent = |path: &str, headers: &[(&str, &str)]| {
        let (result, seen) = against(get(path, headers), PROBE, ok);
        assert_eq!(result, ProbeResult::Success);
        let mut sent: Vec<String> = lines(&seen[0]).into_iter().map(str::to_owned).collect();
        let host = sent.iter().position(|line| line.starts_with("Host: 127.0.0.1:"));
        if let Some(host) = host {
            sent.remove(host);
        }
        sent
    };
    assert_eq!(sent("a b?c=\u{e9}#d", &[]), ["GET /a%20b?c=%C3%A9 HTTP/1.1", "User-Agent: kube-probe/1.36", "Accept: */*", "Connection: close"]);
    let given = [("user-agent", "me"), ("accept", "text/html"), ("X-A", "1"), ("x-a", "2"), ("X-B", ""), ("host", "the.host.tld")];
    assert_eq!(
        sent("/", &given),
        ["GET / HTTP/1.1", "Host: the.host.tld", "User-Agent: me", "Accept: text/html", "X-A: 1", "X-A: 2", "X-B: ", "Connection: close"]
    );
    assert_eq!(sent("/", &[("User-Agent", ""), ("Accept", "")]), ["GET / HTTP/1.1", "Connection: close"]);
    let ours = [("Connection", "keep-alive"), ("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Host", "")];
    assert_eq!(sent("/", &ours), ["GET / HTTP/1.1", "User-Agent: kube-probe/1.36", "Accept: */*", "Connection: close"]);
    let (result, seen) = against(get("/", &[("X-A", "1\r\nX-B: 2")]), PROBE, ok);
    assert!(matches!(&result, ProbeResult::Failure(why) if why.ends_with("net/http: invalid header field value for \"X-A\"")), "{result:?}");
    assert!(seen.is_empty());
    let (_, seen) = against(get("/", &[]), HOOK, ok);
    assert!(seen[0].contains("User-Agent: kube-lifecycle/1.36\r\n"), "{seen:?}");
}

fn location(location: &str) -> Serve {
    Serve::Keep(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\nhere"))
}

fn status(status: u16) -> Serve {
    Serve::Keep(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
}

#[test]
fn redirects_to_the_same_host_are_followed() {
    let serve = |port: u16, line: &str| match line.split(' ').nth(1) {
        Some("/cgi/rel") => location("ok"),
        Some("/abs") => location(&format!("http://127.0.0.1:{port}/cgi/ok")),
        Some("/net") => location(&format!("//127.0.0.1:{port}/cgi/ok")),
        Some("/lost") => location("/nope"),
        Some("/two") => location("/cgi/rel?x"),
        Some("/cgi/rel?x") => location("../cgi/./ok"),
        Some("/cgi/ok") => status(200),
        Some(_) | None => status(404),
    };
    for path in ["/cgi/rel", "/abs", "/net", "/two"] {
        assert_eq!(against(get(path, &[]), PROBE, serve).0, ProbeResult::Success, "{path}");
        assert_eq!(against(get(path, &[]), HOOK, serve).0, ProbeResult::Success, "{path}");
    }
    let lost = against(get("/lost", &[]), PROBE, serve).0;
    assert_eq!(lost, failed("HTTP probe failed with statuscode: 404"));
    let (_, seen) = against(get("/two", &[("X-A", "1"), ("Authorization", "a")]), PROBE, serve);
    assert_eq!(seen.len(), 3);
    let last = lines(&seen[2]);
    assert!(last.contains(&"X-A: 1") && last.contains(&"Authorization: a"), "{last:?}");
    assert!(last.iter().any(|line| line.starts_with("Referer: http://127.0.0.1:") && line.ends_with("/cgi/rel?x")), "{last:?}");
}

#[test]
fn ten_requests_are_enough() {
    let left = |line: &str| line.split(['/', ' ']).nth(2).and_then(|left| left.parse::<u32>().ok());
    let countdown = |_: u16, line: &str| match left(line) {
        Some(left @ 1..) => location(&format!("/{}", left - 1)),
        Some(0) | None => status(200),
    };
    assert_eq!(against(get("/9", &[]), PROBE, countdown).0, ProbeResult::Success);
    let (result, seen) = against(get("/10", &[]), PROBE, countdown);
    assert_eq!((result, seen.len()), (failed("Get \"/0\": stopped after 10 redirects"), 10));
    let (result, seen) = against(get("/loop", &[]), HOOK, |_, _| location("/loop"));
    assert_eq!((result, seen.len()), (failed("Get \"/loop\": stopped after 10 redirects"), 10));
}

#[test]
fn a_redirect_elsewhere_is_success_with_a_warning() {
    for elsewhere in ["http://example.invalid/x", "//localhost/x", "https://example.invalid/", "http://127.0.0.2:PORT/"] {
        let away = |port: u16, _: &str| location(&elsewhere.replace("PORT", &port.to_string()));
        let (result, seen) = against(get("/", &[("Host", "example.invalid")]), PROBE, away);
        assert_eq!((result, seen.len()), (redirected_away("here"), 1), "{elsewhere}");
        assert_eq!(against(get("/", &[]), HOOK, away).0, ProbeResult::Success);
    }
    // Without a host in the location there is nowhere to go.
    let (result, _) = against(get("/", &[]), PROBE, |_, _| location("http://:x/"));
    assert!(matches!(&result, ProbeResult::Failure(why) if why.contains("invalid port")), "{result:?}");
    let (result, _) = against(get("/", &[]), PROBE, |_, _| location("mailto:me"));
    assert!(matches!(&result, ProbeResult::Failure(why) if why.contains("unsupported protocol scheme")), "{result:?}");
}

#[test]
fn a_host_that_was_given_is_kept_while_locations_are_relative() {
    let hosts = |first: &'static str| {
        let serve = move |port: u16, line: &str| match line.split(' ').nth(1) {
            Some("/") => location(&first.replace("PORT", &port.to_string())),
            Some("/a") => location("/b"),
            Some(_) | None => status(200),
        };
        let (result, seen) = against(get("/", &[("Host", "the.host.tld")]), PROBE, serve);
        assert_eq!(result, ProbeResult::Success);
        let host = |head: &String| lines(head)[1].to_owned();
        seen.iter().map(host).map(|host| if host.contains("127.0.0.1") { "own".into() } else { host }).collect::<Vec<_>>()
    };
    let given = "Host: the.host.tld";
    assert_eq!(hosts("/a"), [given, given, given]);
    assert_eq!(hosts("//127.0.0.1:PORT/a"), [given, given, given]);
    assert_eq!(hosts("http://127.0.0.1:PORT/a"), [given, "own", "own"]);
}

#[test]
#[cfg(feature = "tls")]
fn a_hook_falls_back_to_plain_http_and_a_probe_does_not() {
    let serve = |_: u16, line: &str| {
        let status = if line.starts_with("GET ") { "200 OK" } else { "400 Bad Request" };
        Serve::Close(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n"))
    };
    let action = |port| {
        let headers = [("Authorization", "Bearer secret"), ("X-A", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Action::Http { host: "127.0.0.1".into(), port, path: "/stop".into(), tls: true, headers }
    };
    let plain = |seen: Vec<String>| seen.into_iter().filter(|head| head.starts_with("GET")).collect::<Vec<_>>();
    let (result, seen) = against(action, HOOK, serve);
    let seen = plain(seen);
    assert_eq!((result, seen.len()), (ProbeResult::Success, 1));
    assert!(seen[0].starts_with("GET /stop ") && seen[0].contains("X-A: 1") && !seen[0].contains("secret"), "{seen:?}");
    let (result, seen) = against(action, PROBE, serve);
    let why = "http: server gave HTTP response to HTTPS client";
    assert!(matches!(&result, ProbeResult::Failure(text) if text.ends_with(why)), "{result:?}");
    assert!(plain(seen).is_empty());
}

#[test]
fn a_command_that_failed_shows_what_it_printed() {
    let command = ["sh".to_owned(), "x".to_owned()];
    assert_eq!(exited(&command, 2, "ill", Purpose::Probe), "ill");
    assert_eq!(exited(&command, 2, "", Purpose::Probe), "exit code 2");
    assert_eq!(exited(&command, 2, "ill", Purpose::Hook), "command 'sh x' exited with 2: ill");
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
