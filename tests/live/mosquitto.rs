//! What must hold between the broker's client and a real mosquitto.

use std::time::Duration;

use futures_lite::future;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rumqttc::mqttbytes::QoS;
use selvedge::config::file;
use selvedge::eventbus::{self, EventBus};
use selvedge::host::tasks::Executor;
use selvedge::node::bus::{Order, Publication};
use selvedge::node::input::Input;
use smol::Timer;
use smol::channel::{self, Receiver};

use super::beside::Mosquitto;

/// The shell without a node.
struct Agent {
    executor: Executor,
    bus: EventBus,
    inputs: Receiver<Input>,
}

impl Agent {
    fn start(settings: &str) -> Self {
        let config = file::parse(&format!("[eventbus]\n{settings}\n"), "edge-1").expect("it is right").eventbus;
        let executor = Executor::default();
        let (inbox, inputs) = channel::bounded(64);
        let bus = eventbus::open(config, "edge-1", inbox, &executor, None);
        Self { executor, bus, inputs }
    }

    /// With QoS 0, so that what comes back needs no ack.
    fn at(broker: &Mosquitto) -> Self {
        Self::start(&format!("qos = 0\nserver = \"{}\"", broker.unix()))
    }

    fn input(&self) -> Input {
        let late = async {
            Timer::after(Duration::from_secs(30)).await;
            panic!("nothing comes");
        };
        self.executor.block_on(future::or(async { self.inputs.recv().await.expect("the shell lives") }, late))
    }

    fn up(&self) -> bool {
        let input = self.input();
        if let Input::BusUp { kept } = input { kept } else { panic!("{input:?}") }
    }

    fn down(&self) -> String {
        let input = self.input();
        if let Input::BusDown(why) = input { why } else { panic!("{input:?}") }
    }

    fn published(&self) -> Publication {
        let input = self.input();
        if let Input::Published(publication) = input { publication } else { panic!("{input:?}") }
    }

    /// The next message is this one.
    fn hears(&self, payload: &str) -> Publication {
        let publication = self.published();
        assert_eq!(String::from_utf8_lossy(&publication.payload), payload);
        publication
    }

    fn hand(&self, order: Order) {
        while !self.bus.room() {
            self.executor.block_on(self.bus.freed());
        }
        self.bus.hand(order);
    }

    fn ack(&self, publication: &Publication) {
        self.hand(Order::Ack(publication.packet.expect("QoS 1")));
    }

    /// Waits until the broker has read all that was handed over: what it sends
    /// back to us went behind that.
    fn settle(&self) {
        self.hand(Order::Subscribe(vec!["settled".to_owned()]));
        self.hand(Order::Publish { topic: "settled".to_owned(), payload: Vec::new() });
        let back = self.published();
        assert_eq!(back.topic, "settled");
        back.packet.into_iter().for_each(|packet| self.hand(Order::Ack(packet)));
    }

    /// A new subscription brings what the broker kept.
    fn subscribe_and_hear(&self, filter: &str, payload: &str) {
        self.hand(Order::Subscribe(vec![filter.to_owned()]));
        let kept = self.hears(payload);
        assert!(kept.retained);
        kept.packet.into_iter().for_each(|packet| self.hand(Order::Ack(packet)));
        self.settle();
    }

    fn subscribe(&self, filter: &str) {
        self.hand(Order::Subscribe(vec![filter.to_owned()]));
        self.settle();
    }
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn what_devices_say_while_the_agent_is_away_waits_until_it_is_acknowledged() {
    let broker = Mosquitto::start("away", "");
    let agent = Agent::at(&broker);
    assert!(!agent.up());
    agent.subscribe("$hw/events/device/+/+/twin/+");
    drop(agent);
    let mut device = broker.client("device");
    device.publish("$hw/events/device/default/d/twin/update", b"one", QoS::AtLeastOnce);
    device.publish("$hw/events/device/default/d/twin/update", b"two", QoS::AtLeastOnce);
    for _ in 0..2 {
        let agent = Agent::at(&broker);
        assert!(agent.up(), "the broker kept the session");
        agent.hears("one");
        agent.hears("two");
    }
    let agent = Agent::at(&broker);
    assert!(agent.up());
    let one = agent.hears("one");
    agent.hears("two");
    agent.ack(&one);
    agent.settle();
    drop(agent);
    let agent = Agent::at(&broker);
    assert!(agent.up());
    agent.hears("two");
    device.publish("$hw/events/device/default/d/twin/update", b"three", QoS::AtLeastOnce);
    agent.hears("three");
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn a_broker_that_restarts_is_found_again() {
    for kept in [false, true] {
        let mut broker = Mosquitto::start("restart", "");
        if kept {
            let location = format!("persistence true\npersistence_location {}/\n", broker.dir.display());
            broker.stop();
            broker.add(&location);
            broker.run();
        }
        let agent = Agent::at(&broker);
        assert!(!agent.up());
        agent.subscribe("a/b");
        broker.stop();
        assert!(agent.down().contains("lost"));
        agent.hand(Order::Publish { topic: "a/b".to_owned(), payload: b"nobody hears this".to_vec() });
        assert!(agent.bus.room());
        let why = agent.down();
        assert!(why.contains("refused") || why.contains("No such file"), "{why}");
        broker.run();
        assert_eq!(agent.up(), kept);
        if !kept {
            agent.subscribe("a/b");
        }
        broker.client("device").publish("a/b", b"again", QoS::AtLeastOnce);
        agent.hears("again");
    }
}

/// Who takes part: an agent that lives on, and the broker with its sessions.
#[test]
#[ignore = "needs a mosquitto: make live"]
fn a_retained_message_comes_once_a_process_and_is_marked() {
    let mut broker = Mosquitto::start("retained", "");
    let location = format!("persistence true\npersistence_location {}/\n", broker.dir.display());
    broker.stop();
    broker.add(&location);
    broker.run();
    broker.client("device").retain("a/b", b"77");
    let agent = Agent::at(&broker);
    assert!(!agent.up());
    agent.subscribe_and_hear("a/b", "77");
    broker.client("device").retain("a/b", b"78");
    let live = agent.hears("78");
    assert!(!live.retained, "a subscription that is there makes it a fresh one");
    live.packet.into_iter().for_each(|packet| agent.hand(Order::Ack(packet)));
    agent.settle();
    broker.stop();
    assert!(agent.down().contains("lost"));
    broker.run();
    while !matches!(agent.input(), Input::BusUp { kept: true }) {}
    agent.subscribe("a/b");
    broker.client("device").publish("a/b", b"5", QoS::AtLeastOnce);
    let live = agent.hears("5");
    assert!(!live.retained, "it is not subscribed again, and nothing retained came");
    live.packet.into_iter().for_each(|packet| agent.hand(Order::Ack(packet)));
    agent.settle();
    drop(agent);
    let agent = Agent::at(&broker);
    assert!(agent.up());
    agent.subscribe_and_hear("a/b", "78");
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn every_quality_of_service_arrives_once_both_ways() {
    let broker = Mosquitto::start("qos", "");
    for qos in 0..=2u8 {
        let agent = Agent::start(&format!("server = \"{}\"\nqos = {qos}\nclient_id = \"q{qos}\"", broker.unix()));
        assert!(!agent.up());
        let mut reader = broker.client(&format!("reader{qos}"));
        reader.subscribe("from", QoS::AtLeastOnce);
        agent.subscribe("to");
        let mut writer = broker.client(&format!("writer{qos}"));
        let kind = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
        for number in 0..100 {
            agent.hand(Order::Publish { topic: "from".to_owned(), payload: format!("{number}").into_bytes() });
        }
        for number in 0..100 {
            writer.publish("to", format!("{number}").as_bytes(), kind);
        }
        for number in 0..100 {
            let publication = agent.hears(&number.to_string());
            publication.packet.into_iter().for_each(|packet| agent.hand(Order::Ack(packet)));
        }
        agent.settle();
        for number in 0..100 {
            assert_eq!(reader.message().payload, format!("{number}"));
        }
        writer.publish("from", b"last", QoS::AtLeastOnce);
        assert_eq!(reader.message().payload, "last");
    }
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn a_message_that_is_too_large_is_left_out_and_does_not_come_again() {
    let broker = Mosquitto::start("large", "");
    let settings = format!("server = \"{}\"\nqos = 0\nmax_packet = \"4Ki\"", broker.unix());
    let agent = Agent::start(&settings);
    assert!(!agent.up());
    agent.subscribe("a/b");
    let mut device = broker.client("device");
    device.publish("a/b", &[b'x'; 200_000], QoS::AtLeastOnce);
    device.publish("a/b", b"small", QoS::AtLeastOnce);
    agent.ack(&agent.hears("small"));
    agent.settle();
    drop(agent);
    let agent = Agent::start(&settings);
    assert!(agent.up());
    device.publish("a/b", b"next", QoS::AtLeastOnce);
    agent.hears("next");
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn a_bad_password_is_told_by_name() {
    let mut broker = Mosquitto::start("password", "allow_anonymous false");
    let file = broker.dir.join("users");
    let made = std::process::Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args(["gateway", "right"]).status().expect("mosquitto_passwd");
    assert!(made.success());
    broker.stop();
    broker.add(&format!("password_file {}\n", file.display()));
    broker.run();
    let settings = |password: &str| format!("server = \"{}\"\nuser = \"gateway\"\npassword = \"{password}\"", broker.tcp());
    let why = Agent::start(&settings("wrong")).down();
    assert!(why.contains("not authorized") || why.contains("bad user name"), "{why}");
    assert!(!Agent::start(&settings("right")).up());
}

#[test]
#[ignore = "needs a mosquitto: make live"]
fn tls_goes_with_certificates_of_the_configured_ca_only() {
    let mut broker = Mosquitto::start("tls", "");
    let dir = broker.dir.clone();
    let ca_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).expect("a certificate").pem();
    let issuer = Issuer::new(params, ca_key);
    for (name, host) in [("server", "localhost"), ("client", "gateway")] {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![host.to_owned()]).expect("a name").signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("room");
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("room");
    }
    std::fs::write(dir.join("ca.crt"), ca).expect("room");
    let other = CertificateParams::default().self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
    std::fs::write(dir.join("other.crt"), other.pem()).expect("room");
    broker.stop();
    let path = |name: &str| dir.join(name).display().to_string();
    broker.add(&format!(
        "allow_anonymous true\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        path("ca.crt"),
        path("server.crt"),
        path("server.key")
    ));
    broker.run();
    let server = |host: &str, ca: &str| format!("server = \"ssl://{host}:{}\"\nca = \"{}\"", broker.port, path(ca));
    let ours = format!("certificate = \"{}\"\nkey = \"{}\"", path("client.crt"), path("client.key"));
    let agent = Agent::start(&format!("{}\n{ours}", server("localhost", "ca.crt")));
    assert!(!agent.up());
    agent.subscribe("a");
    for (settings, words) in [
        (server("localhost", "other.crt"), "TLS with broker"),
        (server("127.0.0.1", "ca.crt"), "TLS with broker"),
        (server("localhost", "ca.crt"), "broker localhost"),
    ] {
        let why = Agent::start(&settings).down();
        assert!(why.contains(words), "{why}");
    }
}
