//! The broker over real sockets: mosquitto's own clients as processes, and bare
//! ones of rumqttc's codec where a client must be slow, quick or rude.

// Figures are shown with --nocapture.
#![allow(clippy::print_stdout)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Publish, Subscribe};
use selvedge::host::socket::Visitors;
use selvedge::host::tasks::Executor;
use selvedge::{broker, config};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Topic of a message that is kept for all who subscribe.
const PROBE: &str = "probe";

/// A broker on a thread of its own, as the agent runs it.
struct Stand {
    port: u16,
    dir: PathBuf,
    visitors: Visitors,
    stop: smol::channel::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Stand {
    /// Starts one; `{port}` and `{dir}` in the text are filled in.
    fn up(name: &str, text: &str) -> Self {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("selvedge-broker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let text = format!("[broker]\n{text}").replace("{port}", &port.to_string()).replace("{dir}", dir.to_str().expect("text"));
        let config = config::file::parse(&text, "h").expect("it is right");
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let (told, visitors) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let executor = Executor::default();
            let broker = broker::open(&config, &executor).expect("it starts");
            told.send(broker.visitors()).expect("somebody waits");
            let _ = executor.block_on(stopped.recv());
        });
        let stand = Self { port, dir, visitors: visitors.recv().expect("it runs"), stop, thread: Some(thread) };
        let mut probe = Publish::new(PROBE, QoS::AtLeastOnce, "here");
        (probe.pkid, probe.retain) = (1, true);
        let mut agent = stand.visit("probe");
        agent.say(&Packet::Publish(probe));
        assert!(matches!(agent.hear(), Packet::PubAck(_)));
        stand
    }

    fn plain(name: &str) -> Self {
        Self::up(name, "listen = ['127.0.0.1:{port}']")
    }

    fn connect(&self) -> TcpStream {
        until("the broker listens", || TcpStream::connect(("127.0.0.1", self.port)).ok())
    }

    fn client(&self, name: &str) -> Bare<TcpStream> {
        let stream = self.connect();
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Bare::hello(stream, name)
    }

    /// `mosquitto_pub` that must succeed.
    fn publish(&self, arguments: &[&str]) {
        let output = self.mosquitto("mosquitto_pub", arguments).output().expect("mosquitto_pub");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn mosquitto(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        command
    }

    /// `mosquitto_sub` that has subscribed: it was told what is kept for it.
    fn subscriber(&self, arguments: &[&str]) -> Subscriber {
        let mut command = self.mosquitto("mosquitto_sub", arguments);
        let mut child = command.args(["-F", "%t %q %r %p", "-t", PROBE, "-W", "20"]).stdout(Stdio::piped()).spawn().expect("mosquitto_sub");
        let lines = BufReader::new(child.stdout.take().expect("it is ours"));
        let mut subscriber = Subscriber { child, lines, early: VecDeque::new() };
        loop {
            let line = subscriber.line();
            if line.starts_with(PROBE) {
                return subscriber;
            }
            subscriber.early.push_back(line);
        }
    }

    /// A connection as the agent itself has one.
    fn visit(&self, name: &str) -> Bare<UnixStream> {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let theirs = smol::net::unix::UnixStream::from(smol::Async::new(theirs).expect("a socket"));
        self.visitors.try_send(theirs).expect("there is room");
        Bare::hello(ours, name)
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.stop.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the broker panicked");
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A `mosquitto_sub`.
struct Subscriber {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// What came before it had subscribed.
    early: VecDeque<String>,
}

impl Subscriber {
    fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).expect("text");
        assert!(count > 0, "mosquitto_sub ended");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next message: topic, QoS, retain, payload.
    fn next(&mut self) -> String {
        loop {
            let line = self.early.pop_front().unwrap_or_else(|| self.line());
            if !line.starts_with(PROBE) {
                return line;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client without manners.
struct Bare<S> {
    stream: S,
    input: BytesMut,
}

impl<S: Read + Write> Bare<S> {
    fn hello(stream: S, name: &str) -> Self {
        let mut bare = Self { stream, input: BytesMut::new() };
        bare.say(&Packet::Connect(Connect::new(name)));
        assert!(matches!(bare.hear(), Packet::ConnAck(_)));
        bare
    }

    fn say(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, 1 << 20).expect("it is small");
        self.stream.write_all(&out).expect("the broker reads");
    }

    fn hear(&mut self) -> Packet {
        self.heard().expect("the broker goes on")
    }

    /// The next packet; `None` when the broker closed.
    fn heard(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.input, 1 << 20) {
                return Some(packet);
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk).expect("in time") {
                0 => return None,
                count => self.input.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        let mut subscribe = Subscribe::new(filter, qos);
        subscribe.pkid = 1;
        self.say(&Packet::Subscribe(subscribe));
        assert!(matches!(self.hear(), Packet::SubAck(_)));
    }
}

fn publish(topic: &str, payload: impl Into<Vec<u8>>, qos: QoS, id: u16) -> Packet {
    let mut publish = Publish::new(topic, qos, payload);
    publish.pkid = id;
    Packet::Publish(publish)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Real time, because the clients are real.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    loop {
        if let Some(result) = holds() {
            return result;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// Whether mosquitto's clients are here; says so when not.
fn has_mosquitto(what: &str) -> bool {
    let found = ["mosquitto_sub", "mosquitto_pub"].iter().all(|program| Command::new(program).arg("--help").output().is_ok());
    if !found {
        println!("NOT RUN: {what}: mosquitto_sub and mosquitto_pub are missing (apt-get install mosquitto-clients)");
    }
    found
}

#[test]
fn mosquittos_clients_are_content() {
    if !has_mosquitto("mosquitto's clients and the broker") {
        return;
    }
    let stand = Stand::plain("content");
    drop(stand.connect());
    let mut all = stand.subscriber(&["-t", "#", "-t", "$hw/#", "-q", "2"]);
    for qos in ["0", "1", "2"] {
        stand.publish(&["-t", "a/b", "-m", "x", "-q", qos]);
        assert_eq!(all.next(), format!("a/b {qos} 0 x"));
        stand.publish(&["-t", "$hw/events/device/default/d/twin/update", "-m", "{}", "-q", qos]);
        assert_eq!(all.next(), format!("$hw/events/device/default/d/twin/update {qos} 0 {{}}"));
    }
    stand.publish(&["-V", "mqttv31", "-i", "three-one", "-t", "old", "-m", "x", "-q", "2"]);
    assert_eq!(all.next(), "old 2 0 x");
    // What is kept comes to who comes later, and goes.
    stand.publish(&["-t", "kept", "-m", "1", "-r", "-q", "1"]);
    stand.publish(&["-t", "kept", "-m", "2", "-r", "-q", "1"]);
    assert_eq!((all.next(), all.next()), ("kept 1 0 1".to_owned(), "kept 1 0 2".to_owned()));
    let mut late = stand.subscriber(&["-t", "+", "-q", "1"]);
    assert_eq!(late.next(), "kept 1 1 2");
    stand.publish(&["-t", "kept", "-r", "-n"]);
    assert_eq!(late.next(), "kept 0 0 ");
    // A will, because the process is killed.
    let mut dying = stand.subscriber(&["-t", "nothing", "--will-topic", "will", "--will-payload", "gone", "--will-qos", "1"]);
    dying.child.kill().expect("it runs");
    assert_eq!((all.next(), all.next()), ("kept 0 0 ".to_owned(), "will 1 0 gone".to_owned()));
    // Lines of a file, one connection, QoS 2.
    let mut lines = stand.mosquitto("mosquitto_pub", &["-t", "l", "-l", "-q", "2"]).stdin(Stdio::piped()).spawn().expect("mosquitto_pub");
    let text: String = (0..500).map(|number| format!("{number}\n")).collect();
    lines.stdin.take().expect("ours").write_all(text.as_bytes()).expect("it reads");
    for number in 0..500 {
        assert_eq!(all.next(), format!("l 2 0 {number}"));
    }
    assert!(lines.wait().expect("it ends").success());
}

#[test]
fn a_persistent_session_gets_what_came_while_it_was_away() {
    if !has_mosquitto("mosquitto's sessions and the broker") {
        return;
    }
    let stand = Stand::plain("session");
    drop(stand.connect());
    let persistent = ["-t", "s/#", "-q", "2", "-c", "-i", "stays"];
    drop(stand.subscriber(&persistent));
    for (qos, text) in [("0", "zero"), ("1", "one"), ("2", "two")] {
        stand.publish(&["-t", "s/x", "-m", text, "-q", qos]);
    }
    let mut back = stand.subscriber(&persistent);
    assert_eq!((back.next(), back.next()), ("s/x 1 0 one".to_owned(), "s/x 2 0 two".to_owned()));
    stand.publish(&["-t", "s/x", "-m", "three"]);
    assert_eq!(back.next(), "s/x 0 0 three", "and nothing else");
}

#[test]
fn only_known_users_come_in_and_by_tls_or_a_unix_socket_too() {
    if !has_mosquitto("users, TLS and unix sockets of the broker") {
        return;
    }
    let dir = std::env::temp_dir().join(format!("selvedge-broker-{}-keys", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.join("broker.crt"), dir.join("broker.key"));
    std::fs::write(&certificate, made.cert.pem()).and_then(|()| std::fs::write(&key, made.signing_key.serialize_pem())).expect("room");
    let tls = free_port().to_string();
    let files = format!("certificate = {certificate:?}\nkey = {key:?}\nlisten_tls = ['127.0.0.1:{tls}']\nusers = {{ plant = 'secret' }}");
    let stand = Stand::up("users", &format!("listen = ['127.0.0.1:{{port}}', 'unix://{{dir}}/mqtt.sock']\n{files}"));
    drop(stand.connect());
    let known = ["-u", "plant", "-P", "secret"];
    let mut all = stand.subscriber(&[&known[..], &["-t", "#"]].concat());
    for wrong in [&["-u", "plant", "-P", "wrong"][..], &["-u", "other", "-P", "secret"], &[]] {
        let output = stand.mosquitto("mosquitto_pub", &[wrong, &["-t", "a", "-m", "wrong"]].concat()).output().expect("mosquitto_pub");
        assert!(!output.status.success(), "{wrong:?}");
    }
    stand.publish(&[&known[..], &["-t", "a", "-m", "right"]].concat());
    assert_eq!(all.next(), "a 0 0 right");
    let socket = stand.dir.join("mqtt.sock");
    let run = |program: &mut Command| {
        let output = program.args(known).args(["-t", "a", "-m", "x", "-q", "1"]).output().expect("mosquitto_pub");
        assert!(output.status.success(), "{output:?}");
    };
    run(Command::new("mosquitto_pub").arg("--unix").arg(&socket));
    assert_eq!(all.next(), "a 0 0 x");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).expect("it is there").permissions().mode() & 0o777, 0o660);
    run(Command::new("mosquitto_pub").args(["-h", "localhost", "-p", &tls, "--cafile"]).arg(&certificate));
    assert_eq!(all.next(), "a 0 0 x");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn the_agent_comes_by_a_socket_of_its_own_without_a_password() {
    let stand = Stand::up("visitor", "listen = []\nusers = { plant = 'secret' }");
    let mut agent = stand.visit("selvedge-h");
    agent.subscribe("$SYS/broker/version", QoS::AtMostOnce);
    assert!(matches!(agent.hear(), Packet::Publish(kept) if kept.retain && kept.payload.starts_with(b"selvedge ")));
    agent.subscribe("$hw/#", QoS::AtLeastOnce);
    agent.say(&publish("$hw/x", "y", QoS::AtMostOnce, 0));
    assert!(matches!(agent.hear(), Packet::Publish(publish) if publish.topic == "$hw/x"));
}

#[test]
fn an_address_that_somebody_holds_is_had_when_he_goes() {
    let stand = {
        let port = free_port();
        let holder = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
        let mut stand = Stand::up("held", &format!("listen = ['127.0.0.1:{port}', '127.0.0.1:{{port}}']"));
        drop(stand.connect());
        drop(holder);
        stand.port = port;
        stand
    };
    stand.client("late");
}

#[test]
fn a_rude_client_is_cut_off_and_named() {
    let stand = Stand::plain("rude");
    let mut large = stand.client("large");
    large.stream.write_all(&[0x30, 0x81, 0x80, 0x10]).expect("it reads the length");
    assert!(large.heard().is_none(), "256Ki and one byte");
    let mut other = stand.connect();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
    assert_eq!(other.read(&mut [0; 16]).expect("an end"), 0);
    let mut five = stand.connect();
    five.write_all(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 1, b'c']).expect("it reads");
    let mut answer = Vec::new();
    five.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer, [0x20, 2, 0, 1]);
}

/// One who reads nothing while 5,000 messages come, and one who must not notice.
#[test]
fn a_slow_client_holds_nobody_up() {
    let stand = Stand::up("slow", "listen = ['127.0.0.1:{port}']\nqueue = '64Ki'");
    let (mut slow, mut quick, mut source) = (stand.client("slow"), stand.client("quick"), stand.client("source"));
    slow.subscribe("t/#", QoS::AtMostOnce);
    quick.subscribe("t/#", QoS::AtLeastOnce);
    let text = "x".repeat(4 << 10);
    let begun = now();
    for number in 0..5000u16 {
        source.say(&publish(&format!("t/{number}"), text.clone(), QoS::AtLeastOnce, number + 1));
        assert!(matches!(source.hear(), Packet::PubAck(_)));
        let Packet::Publish(got) = quick.hear() else { panic!("a message") };
        assert_eq!(got.topic, format!("t/{number}"));
        quick.say(&Packet::PubAck(PubAck::new(got.pkid)));
    }
    println!("5,000 messages of 4 KiB beside a client that reads nothing: {:?}", begun.elapsed());
    source.say(&publish("t/end", "", QoS::AtMostOnce, 0));
    let mut count = 0;
    while !matches!(slow.hear(), Packet::Publish(publish) if publish.topic == "t/end") {
        count += 1;
    }
    println!("of these it found {count} in its socket and its queue");
    assert!(count < 5000, "something had to be dropped");
}

/// Messages a second through one subscriber, besides hundreds of filters that do
/// not match, the publisher never more than `AHEAD` in front.
#[test]
fn thousands_a_second_reach_one_subscriber() {
    const COUNT: u32 = 40_000;
    const AHEAD: u32 = 400;
    let stand = Stand::plain("many");
    let mut others: Vec<_> = (0..10).map(|number| stand.client(&format!("other-{number}"))).collect();
    for (number, other) in others.iter_mut().enumerate() {
        (0..30).for_each(|filter| other.subscribe(&format!("$hw/events/device/+/other-{number}-{filter}/twin/+"), QoS::AtMostOnce));
    }
    let mut subscriber = stand.client("subscriber");
    subscriber.subscribe("$hw/events/device/+/+/twin/+", QoS::AtMostOnce);
    let mut source = stand.client("source");
    let mut message = BytesMut::new();
    Publish::from_bytes("$hw/events/device/default/d/twin/update", QoS::AtMostOnce, Bytes::from(vec![b'x'; 200])).write(&mut message).expect("small");
    let batch = message.repeat(usize::try_from(AHEAD / 2).expect("small"));
    let (got, told) = std::sync::mpsc::channel::<()>();
    let begun = now();
    let publisher = std::thread::spawn(move || {
        for round in 0..COUNT / (AHEAD / 2) {
            if round >= 2 {
                told.recv().expect("it is read");
            }
            source.stream.write_all(&batch).expect("it is read");
        }
    });
    for number in 1..=COUNT {
        assert!(matches!(subscriber.hear(), Packet::Publish(_)));
        if number % (AHEAD / 2) == 0 {
            let _ = got.send(());
        }
    }
    let took = begun.elapsed();
    publisher.join().expect("it wrote all");
    println!("{COUNT} messages of 240 bytes to one subscriber, 300 filters beside: {:.0} a second", f64::from(COUNT) / took.as_secs_f64());
}
