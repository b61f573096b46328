//! The node and the shell for HTTP, over real loopback sockets: what the real
//! ServiceBus did in `data/servicebus.json` is done again, and what it did badly
//! is done better.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_lite::future;
use selvedge::config::file;
use selvedge::host::clock;
use selvedge::host::tasks::Executor;
use selvedge::node::ids::Session;
use selvedge::node::input::{Input, LinkEnd};
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::store::{Change, Key, Row, Rows};
use selvedge::node::{Node, Restored, link};
use selvedge::servicebus::{self, ServiceBus};
use selvedge::wire::message::{Header, Message, Route, null, raw, string};
use serde_json::{Value, json};
use smol::channel::{self, Receiver};
use smol::{Timer, unblock};

/// No step takes so long; one that does has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

/// Node and shell, and a cloud that answers "cloud says hi".
struct Bench {
    node: Node,
    shell: ServiceBus,
    inputs: Receiver<Input>,
    session: Option<Session>,
    started: Duration,
    /// What came up from the shell's side.
    up: Vec<Message>,
    stored: Vec<Change>,
    answers: bool,
    sent: u64,
}

impl Bench {
    fn new(executor: &Executor, port: u16, more: &str, rows: Vec<(Key, Row)>) -> Self {
        let text = format!("[node]\nname = \"edge\"\n[servicebus]\nenabled = true\nlisten = \"127.0.0.1:{port}\"\n{more}\n");
        let config = file::parse(&text, "edge").expect("a configuration");
        let (inbox, inputs) = channel::bounded(64);
        let shell = servicebus::open(config.servicebus.clone(), inbox, executor);
        let now = Now { mono: Mono(1), wall: Wall(1_795_346_000_000) };
        let node = Node::new(config, Restored { rows: Rows::new(rows).expect("rows of their tables"), ..Restored::default() }, 7, now);
        let mut bench = Self { node, shell, inputs, session: None, started: clock::monotonic(), up: Vec::new(), stored: Vec::new(), answers: true, sent: 0 };
        bench.hand_out();
        bench
    }

    fn now(&self) -> Now {
        let passed = clock::monotonic() - self.started;
        Now { mono: Mono(1 + u64::try_from(passed.as_nanos()).expect("soon")), wall: Wall(1_795_346_000_000) }
    }

    fn take(&mut self, input: Input) {
        let now = self.now();
        self.node.handle(now, input);
        self.hand_out();
    }

    fn hand_out(&mut self) {
        while let Some(batch) = self.node.poll_store() {
            self.stored.extend(batch.changes.into_iter().filter(|change| matches!(change.key, Key::Target(_))));
            let now = self.now();
            self.node.handle(now, Input::Stored(batch.ticket));
        }
        while let Some(order) = self.node.poll_service() {
            self.shell.hand(order);
        }
        while let Some(order) = self.node.poll_cloud() {
            match order {
                link::Order::Dial(session) => {
                    self.session = Some(session);
                    self.take(Input::LinkUp(session));
                }
                link::Order::Send(_, message) if message.route.source == "servicebus" => {
                    let asked = self.answers && message.header.parent_msg_id.is_empty() && !message.route.resource.contains("noreply");
                    let header = Header { msg_id: "hi".to_owned(), parent_msg_id: message.header.msg_id.clone(), ..Header::default() };
                    let route = Route { operation: "response".to_owned(), ..message.route.clone() };
                    self.up.push(*message);
                    if asked {
                        self.hear(Message { header, route, content: string("cloud says hi") });
                    }
                }
                link::Order::Send(..) | link::Order::HangUp(_) => {}
            }
        }
    }

    /// The cloud says something.
    fn hear(&mut self, message: Message) {
        let session = self.session.expect("a session");
        self.take(Input::Received(session, Box::new(message)));
    }

    fn say(&mut self, source: &str, operation: &str, resource: &str, content: Box<serde_json::value::RawValue>) -> String {
        self.sent += 1;
        let header = Header { msg_id: format!("request-{}", self.sent), ..Header::default() };
        let id = header.msg_id.clone();
        let route =
            Route { source: source.to_owned(), group: "user".to_owned(), operation: operation.to_owned(), resource: resource.to_owned(), ..Route::default() };
        self.hear(Message { header, route, content });
        id
    }

    fn call(&mut self, resource: &str, content: &Value) -> String {
        self.say("router_servicebus", "GET", resource, raw(content))
    }

    /// Lets the node live until `done` is so.
    async fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            let wait = self.node.deadline().map_or(LIMIT, |(at, _)| at.since(self.now().mono));
            let input = future::or(async { self.inputs.recv().await.ok() }, async {
                Timer::after(wait).await;
                None
            })
            .await;
            match input {
                Some(input) => self.take(input),
                None => {
                    let now = self.now();
                    self.node.on_deadline(now);
                    self.hand_out();
                }
            }
        }
    }

    /// The next message up.
    async fn answer(&mut self) -> Message {
        self.until(|bench| if bench.up.is_empty() { None } else { Some(bench.up.remove(0)) }).await
    }

    /// Lets the node live while something else goes on.
    async fn during<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let work = unblock(work);
        future::or(work, async {
            self.until(|_| None::<()>).await;
            unreachable!("it never ends")
        })
        .await
    }

    /// Status and content of the answer to a call.
    async fn called(&mut self, resource: &str, content: &Value) -> (u64, String, Value) {
        let id = self.call(resource, content);
        let message = self.answer().await;
        assert_eq!((message.header.parent_msg_id.as_str(), message.route.operation.as_str()), (id.as_str(), "upload"));
        let content: Value = serde_json::from_str(message.content.get()).expect("JSON");
        let body = STANDARD.decode(content["body"].as_str().expect("base64")).expect("base64");
        (content["status_code"].as_u64().expect("a status"), String::from_utf8_lossy(&body).into_owned(), content["header"].clone())
    }

    /// An app asks: status line with content type, and body; or why it could not.
    async fn asks(&mut self, port: u16, body: String) -> Result<(String, Value), String> {
        self.during(move || ask(port, &body)).await
    }

    /// The listener opens in a task of its own.
    async fn listening(&mut self, port: u16) {
        self.during(move || {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                std::thread::yield_now();
            }
        })
        .await;
    }
}

fn live(test: impl AsyncFnOnce(Executor)) {
    let executor = Executor::default();
    executor.block_on(future::or(test(executor.clone()), async {
        Timer::after(LIMIT * 2).await;
        panic!("it hangs");
    }));
}

fn ask(port: u16, body: &str) -> Result<(String, Value), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|why| why.kind().to_string())?;
    let head = format!("POST /anything HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(|why| why.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|why| why.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default();
    Ok((format!("{line} {kind}"), serde_json::from_str(body).map_err(|why| why.to_string())?))
}

/// An app as the recording had it; also `/hang`, `/loop`, `/large`, `/broken`.
fn app() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("somebody");
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let mut piece = [0; 4096];
                let (head, body) = loop {
                    let count = stream.read(&mut piece).expect("a request");
                    text.extend(&piece[..count]);
                    let all = String::from_utf8_lossy(&text).into_owned();
                    let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok()).unwrap_or(0);
                    if body.len() >= length {
                        break (head.to_owned(), body.to_owned());
                    }
                };
                let mut lines = head.lines();
                let line = lines.next().expect("a line").trim_end_matches(" HTTP/1.1").to_owned();
                let headers: serde_json::Map<String, Value> = lines
                    .filter_map(|line| line.split_once(": "))
                    .filter(|(name, _)| *name != "Host")
                    .map(|(name, value)| (name.to_owned(), json!([value])))
                    .collect();
                let echo = format!("{line} body={body} hdr={}", Value::Object(headers));
                let path = line.split(' ').nth(1).expect("a path").to_owned();
                let answer = |status: &str, more: &str, body: &str| {
                    format!(
                        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nDate: now\r\nx-echo: 1\r\n{more}\r\n{body}",
                        body.len()
                    )
                };
                let text = match path.as_str() {
                    "/teapot" => answer("418 I'm a teapot", "", &echo),
                    "/redir" => answer("302 Found", "Location: /final\r\n", ""),
                    "/loop" => answer("302 Found", "Location: /loop\r\n", ""),
                    "/away" => answer("302 Found", "Location: http://192.0.2.1/\r\n", ""),
                    "/large" => answer("200 OK", "", &"x".repeat(5_000_001)),
                    "/broken" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned(),
                    // Until the caller goes away.
                    "/hang" => {
                        let _ = stream.read(&mut piece);
                        return;
                    }
                    _ => answer("200 OK", "", &echo),
                };
                let _ = stream.write_all(text.as_bytes());
            });
        }
    });
    port
}

/// An echo without what only Go's client, or only ours, adds.
fn plain(echo: &str) -> String {
    let Some((front, headers)) = echo.split_once(" hdr=") else { return echo.to_owned() };
    let mut headers: Value = serde_json::from_str(headers).expect("JSON");
    for name in ["Accept-Encoding", "User-Agent", "Connection"] {
        headers.as_object_mut().expect("an object").remove(name);
    }
    format!("{front} hdr={headers}")
}

/// The recording's ports are ours here.
fn placed(text: &str, own: u16, app: u16, nobody: u16) -> String {
    text.replace("39060", &own.to_string()).replace("39061", &app.to_string()).replace("39069", &nobody.to_string())
}

#[test]
fn every_recorded_exchange_goes_as_it_went() {
    let recording: Value = serde_json::from_str(include_str!("data/servicebus.json")).expect("JSON");
    let steps = recording["steps"].as_array().expect("a list").clone();
    assert!(steps.len() > 15, "{} steps", steps.len());
    live(async |executor| {
        let (own, app, nobody) = (free_port(), app(), free_port());
        let mut bench = Bench::new(&executor, own, "timeout = \"300ms\"", Vec::new());
        for step in &steps {
            let step: Value = serde_json::from_str(&placed(&step.to_string(), own, app, nobody)).expect("JSON");
            if step["in"]["http"].is_string() { question(&mut bench, &step, own).await } else { message(&mut bench, &step, [own, app, nobody]).await }
        }
    });
}

/// The cloud says something: what goes up, and what is stored.
async fn message(bench: &mut Bench, step: &Value, [own, app, nobody]: [u16; 3]) {
    let (input, id) = (&step["in"], step["id"].as_str().expect("a name"));
    let text = |name: &str| input[name].as_str().expect("text");
    // What is JSON travels as JSON.
    let content = serde_json::from_str::<Value>(text("content")).map_or_else(|_| string(text("content")), |value| raw(&value));
    let content = if text("content").is_empty() { null() } else { content };
    bench.say(text("source"), text("operation"), text("resource"), content);
    for expected in step["expect"]["to_cloud"].as_array().into_iter().flatten() {
        let message = bench.answer().await;
        let ours: Value = serde_json::from_str(message.content.get()).expect("JSON");
        let decoded = |content: &Value| String::from_utf8(STANDARD.decode(content["body"].as_str().expect("base64")).expect("base64")).expect("text");
        assert_eq!((message.route.source.as_str(), message.route.group.as_str(), message.route.resource.as_str()), ("servicebus", "user", ""), "{id}");
        // EdgeCore forgets it in its errors, and the cloud never hears of them.
        assert_eq!(message.route.operation, "upload", "{id}");
        assert_eq!(message.header.parent_msg_id, format!("request-{}", bench.sent), "{id}");
        if id == "sb-colon-in-path" {
            // EdgeCore cannot call such a path.
            assert!(decoded(&ours).starts_with("GET /a:b "), "{}", decoded(&ours));
            continue;
        }
        let theirs = &expected["content"];
        assert_eq!(ours["status_code"], theirs["status_code"], "{id}");
        assert_eq!(plain(&decoded(&ours)), plain(&placed(&decoded(theirs), own, app, nobody)), "{id}");
        for name in ["Server", "X-Echo", "Content-Type"] {
            assert_eq!(ours["header"][name], theirs["header"][name], "{id}: {name}");
        }
    }
    let row = |change: &Change| {
        let Key::Target(path) = &change.key else { panic!("{change:?}") };
        (path.clone(), change.row.is_some())
    };
    let stored: Vec<_> = std::mem::take(&mut bench.stored).iter().map(row).collect();
    let list = |name: &str| step["db_changes"][name].as_array().cloned().unwrap_or_default();
    let set = list("upserted").into_iter().map(|change| (change["row"]["url"].as_str().expect("a url").to_owned(), true));
    let removed = list("deleted").into_iter().map(|change| (change["key"].as_str().expect("a key").to_owned(), false));
    assert_eq!(stored, set.chain(removed).collect::<Vec<_>>(), "{id}");
    assert!(bench.up.is_empty(), "{id}: {:?}", bench.up);
    match id {
        "sb-start" => bench.listening(own).await,
        // The listener closes in a task of its own; connections are refused then.
        "sb-stop2" => bench.during(move || while TcpStream::connect(("127.0.0.1", own)).is_ok() {}).await,
        _ => {}
    }
}

/// An app asks the cloud.
async fn question(bench: &mut Bench, step: &Value, own: u16) {
    let id = step["id"].as_str().expect("a name");
    let body = match id {
        "sb-edge2cloud-big" => format!("{{\"targetURL\":\"/my/url\",\"payload\":\"{}\"}}", "a".repeat(5_100_000)),
        _ => step["in"]["body"].as_str().expect("text").to_owned(),
    };
    let answer = bench.asks(own, body).await;
    let expected = &step["expect"]["http_reply"];
    if expected["status_line"] == "http-error" {
        assert_eq!(answer, Err("connection refused".to_owned()), "{id}");
        return;
    }
    let (line, mut reply) = answer.expect("an answer");
    assert_eq!(line, "HTTP/1.1 200 OK text/plain; charset=utf-8", "{id}");
    let sent: Vec<Message> = std::mem::take(&mut bench.up);
    if let Some(message) = sent.first() {
        reply["msg"] = reply["msg"].as_str().expect("text").replace(&message.header.msg_id, "<uuid>").into();
    }
    assert_eq!(reply, expected["body"], "{id}");
    let theirs = step["expect"]["to_cloud"].as_array().cloned().unwrap_or_default();
    assert_eq!(sent.len(), theirs.len(), "{id}");
    for (ours, theirs) in sent.iter().zip(&theirs) {
        assert_eq!(
            json!([ours.route.source, ours.route.group, ours.route.resource, ours.route.operation]),
            json!([theirs["source"], theirs["group"], theirs["resource"], theirs["operation"]]),
            "{id}"
        );
        // The recorder saw bytes; on the WebSocket they are base64.
        let bytes = STANDARD.decode(serde_json::from_str::<String>(ours.content.get()).expect("text")).expect("base64");
        assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), theirs["content"], "{id}");
    }
}

#[test]
fn an_app_that_misbehaves_is_an_answer_all_the_same() {
    live(async |executor| {
        let (own, app) = (free_port(), app());
        let mut bench = Bench::new(&executor, own, "app_timeout = \"500ms\"\nhosts = [\"camera.invalid\"]", Vec::new());
        let get = json!({ "method": "GET" });
        for path in ["hang", "loop", "away"] {
            assert_eq!(bench.called(&format!("{app}:/{path}"), &get).await.1, "error to call service", "{path}");
        }
        let (status, body, _) = bench.called(&format!("{app}:/broken"), &get).await;
        assert_eq!((status, body.starts_with("error to receive response")), (500, true), "{body}");
        let (status, body, _) = bench.called(&format!("{app}:/large"), &get).await;
        assert_eq!((status, body.len()), (200, 5_000_000));
        assert_eq!(bench.called(&format!("localhost:{app}:/x"), &get).await.0, 200);
        assert_eq!(bench.called("192.0.2.1:80:/x", &get).await.0, 403);
        assert_eq!(bench.called("camera.invalid:80:/x", &get).await.0, 404, "it may be called, and does not exist");
    });
}

#[test]
fn many_calls_are_answered_each_once() {
    live(async |executor| {
        let app = app();
        let mut bench = Bench::new(&executor, free_port(), "", Vec::new());
        let mut waiting: Vec<String> = (0..100).map(|number| bench.call(&format!("{app}:/{number}"), &json!({}))).collect();
        while !waiting.is_empty() {
            let message = bench.answer().await;
            let at = waiting.iter().position(|id| *id == message.header.parent_msg_id).expect("asked, and not answered before");
            waiting.swap_remove(at);
        }
    });
}

#[test]
fn targets_survive_a_restart_and_a_lost_session_is_told_at_once() {
    live(async |executor| {
        let own = free_port();
        let mut bench = Bench::new(&executor, own, "timeout = \"60s\"", vec![(Key::Target("/my/url".into()), Row::Target)]);
        bench.listening(own).await;
        bench.answers = false;
        let body = r#"{"targetURL":"/my/url"}"#.to_owned();
        let (sender, answered) = mpsc::channel();
        let asked = body.clone();
        std::thread::spawn(move || sender.send(ask(own, &asked)));
        let question = bench.answer().await;
        let session = bench.session.take().expect("a session");
        bench.take(Input::LinkDown { session, end: LinkEnd::Closed("cut".to_owned()) });
        let (_, reply) = bench.during(move || answered.recv().expect("an answer")).await.expect("an answer");
        assert_eq!((reply["code"].as_u64(), reply["msg"].as_str().expect("text").contains(&question.header.msg_id)), (Some(400), true), "{reply}");
    });
}

#[cfg(feature = "edgehub")]
mod secure {
    use std::path::Path;
    use std::sync::Arc;

    use futures_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};

    use super::*;

    /// Writes a certificate that signs itself, and its key.
    fn issue(dir: &Path, purpose: ExtendedKeyUsagePurpose) -> rcgen::Certificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(dir.join("tls.crt"), certificate.pem()).expect("room");
        std::fs::write(dir.join("tls.key"), key.serialize_pem()).expect("room");
        certificate
    }

    /// Asks by HTTPS, believing one certificate.
    fn ask(port: u16, certificate: &rcgen::Certificate) -> Result<String, String> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().expect("versions");
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let client = ClientConnection::new(config, "localhost".try_into().expect("a name")).expect("a client");
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|why| why.to_string())?;
        let mut stream = StreamOwned::new(client, stream);
        stream.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n").map_err(|why| why.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|why| why.to_string())?;
        Ok(answer)
    }

    #[test]
    fn a_renewed_certificate_is_shown_at_once_and_a_wrong_one_never() {
        let dir = std::env::temp_dir().join(format!("selvedge-servicebus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("room");
        let more = format!("certificate = \"{0}/tls.crt\"\nkey = \"{0}/tls.key\"", dir.display());
        let rows = || vec![(Key::Target("/x".into()), Row::Target)];
        live(async |executor| {
            let own = free_port();
            let first = issue(&dir, ExtendedKeyUsagePurpose::ServerAuth);
            let mut bench = Bench::new(&executor, own, &more, rows());
            bench.listening(own).await;
            let answer = bench.during(move || ask(own, &first)).await.expect("an answer");
            assert!(answer.ends_with(r#"{"body":"","code":400,"msg":"invalid params"}"#), "{answer}");
            let second = issue(&dir, ExtendedKeyUsagePurpose::ServerAuth);
            bench.during(move || ask(own, &second)).await.expect("the new one is shown");
            let third = issue(&dir, ExtendedKeyUsagePurpose::ClientAuth);
            bench.during(move || ask(own, &third)).await.expect_err("it is not for servers");
        });
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
