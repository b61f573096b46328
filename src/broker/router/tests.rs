//! Packets in, packets out: the whole router in virtual time.

use std::collections::BTreeMap;

use rumqttc::mqttbytes::v4::{self, SubscribeFilter, Unsubscribe};

use super::*;
use crate::broker::packet::Message;
use crate::config::Secret;

pub(super) const ZERO: QoS = QoS::AtMostOnce;
pub(super) const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

/// A router and what its sockets would have done.
pub(super) struct World {
    pub(super) router: Router,
    pub(super) now: Duration,
    closed: Vec<Connection>,
}

fn world() -> World {
    world_of(Limits { clients: 10, queue: 4096, retained: 4096 }, Access { anonymous: true, users: BTreeMap::new() })
}

pub(super) fn world_of(limits: Limits, access: Access) -> World {
    World { router: Router::new(limits, access, 0xabc), now: Duration::from_secs(100), closed: Vec::new() }
}

pub(super) fn hello(client: &str, clean: bool) -> Connect {
    Connect { old: false, client: client.to_owned(), clean, keepalive: 60, will: None, user: None, password: None }
}

pub(super) fn publication(topic: &str, payload: &str, qos: QoS, retain: bool) -> Publication {
    Publication { message: Message { topic: topic.to_owned(), payload: payload.as_bytes().into() }, qos, retain }
}

impl World {
    pub(super) fn open(&mut self) -> Connection {
        self.router.connected(self.now, false).expect("there is room")
    }

    pub(super) fn say(&mut self, connection: Connection, packet: Packet) {
        self.router.received(self.now, connection, packet);
    }

    /// Connects; the answer.
    fn greet(&mut self, connect: Connect) -> (Connection, Vec<String>) {
        let connection = self.open();
        self.say(connection, Packet::Connect(Box::new(connect)));
        let heard = self.hear(connection);
        (connection, heard)
    }

    /// A client that is let in.
    pub(super) fn client(&mut self, name: &str, clean: bool) -> Connection {
        let (connection, heard) = self.greet(hello(name, clean));
        assert!(heard[0].starts_with("connack Success"), "{heard:?}");
        connection
    }

    pub(super) fn subscribe(&mut self, connection: Connection, filter: &str, qos: QoS) -> Vec<String> {
        self.say(connection, Packet::Subscribe(Subscribe { pkid: 9, filters: vec![SubscribeFilter::new(filter.to_owned(), qos)] }));
        self.hear(connection)
    }

    fn publish(&mut self, connection: Connection, topic: &str, payload: &str, qos: QoS) {
        self.say(connection, Packet::Publish(publication(topic, payload, qos, false), 7));
    }

    pub(super) fn keep(&mut self, connection: Connection, topic: &str, payload: &str) {
        self.say(connection, Packet::Publish(publication(topic, payload, ONE, true), 8));
    }

    /// What a client is sent, in words.
    pub(super) fn hear(&mut self, connection: Connection) -> Vec<String> {
        let mut all = BytesMut::new();
        loop {
            let mut out = BytesMut::new();
            self.router.fill(self.now, connection, &mut out);
            if out.is_empty() {
                break;
            }
            all.extend_from_slice(&out);
        }
        self.settle();
        std::iter::from_fn(|| v4::Packet::read(&mut all, 1 << 20).ok()).map(words).collect()
    }

    fn settle(&mut self) {
        while let Some(order) = self.router.poll() {
            if let Order::Close(connection) = order {
                self.closed.push(connection);
            }
        }
    }

    fn is_closed(&mut self, connection: Connection) -> bool {
        self.settle();
        self.closed.contains(&connection)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.router.on_deadline(self.now);
    }
}

pub(super) fn words(packet: v4::Packet) -> String {
    if let v4::Packet::ConnAck(ack) = packet {
        return format!("connack {:?} {}", ack.code, ack.session_present);
    }
    if let v4::Packet::SubAck(ack) = packet {
        return format!("suback {:?}", ack.return_codes);
    }
    let v4::Packet::Publish(p) = packet else { return format!("{packet:?}").to_lowercase() };
    let marks = format!("{}{}", if p.retain { " kept" } else { "" }, if p.dup { " dup" } else { "" });
    format!("{} {} qos{} #{}{marks}", p.topic, String::from_utf8_lossy(&p.payload), p.qos as u8, p.pkid)
}

fn deep(text: &[&str]) -> Vec<String> {
    text.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_message_comes_as_surely_as_both_sides_want() {
    let mut world = world();
    let (a, b) = (world.client("a", true), world.client("b", true));
    for (wanted, sent, got) in [(ZERO, TWO, 0), (ONE, ZERO, 0), (ONE, TWO, 1), (TWO, ONE, 1), (TWO, TWO, 2)] {
        assert_eq!(world.subscribe(b, "t", wanted), [format!("suback [Success({wanted:?})]")]);
        world.publish(a, "t", "x", sent);
        let heard = world.hear(b);
        assert!(heard.len() == 1 && heard[0].starts_with(&format!("t x qos{got} ")), "{wanted:?} {sent:?}: {heard:?}");
        world.say(a, Packet::PubRel(7));
        world.hear(a);
    }
}

#[test]
fn a_message_comes_once_however_many_filters_match_and_to_its_sender_too() {
    let mut world = world();
    let a = world.client("a", true);
    for (filter, qos) in [("#", ZERO), ("$hw/#", ONE), ("$hw/events/device/+/+/twin/+", ZERO), ("x/+", ONE), ("x/y", TWO)] {
        world.subscribe(a, filter, qos);
    }
    world.publish(a, "$hw/events/device/default/d/twin/update", "{}", TWO);
    assert_eq!(world.hear(a), ["pubrec(pubrec { pkid: 7 })", "$hw/events/device/default/d/twin/update {} qos1 #1"]);
    world.publish(a, "x/y", "", ONE);
    assert_eq!(world.hear(a), ["puback(puback { pkid: 7 })", "x/y  qos1 #2"]);
    world.publish(a, "$other", "", ZERO);
    assert!(world.hear(a).is_empty(), "# is not for topics that begin with $");
    world.say(a, Packet::Unsubscribe(Unsubscribe { pkid: 3, topics: vec!["x/y".to_owned(), "x/+".to_owned(), "#".to_owned(), "never".to_owned()] }));
    world.publish(a, "x/y", "", ONE);
    assert_eq!(world.hear(a), ["unsuback(unsuback { pkid: 3 })", "puback(puback { pkid: 7 })"]);
}

#[test]
fn qos_2_is_passed_on_once_until_it_is_released() {
    let mut world = world();
    let (a, b) = (world.client("a", false), world.client("b", true));
    world.subscribe(b, "t", TWO);
    world.publish(a, "t", "1", TWO);
    world.publish(a, "t", "1", TWO);
    assert_eq!(world.hear(a), ["pubrec(pubrec { pkid: 7 })", "pubrec(pubrec { pkid: 7 })"]);
    world.router.lost(world.now, a);
    let a = world.client("a", false);
    world.publish(a, "t", "1", TWO);
    world.say(a, Packet::PubRel(7));
    world.publish(a, "t", "2", TWO);
    assert_eq!(world.hear(a), ["pubrec(pubrec { pkid: 7 })", "pubcomp(pubcomp { pkid: 7 })", "pubrec(pubrec { pkid: 7 })"]);
    assert_eq!(world.hear(b), ["t 1 qos2 #1", "t 2 qos2 #2"]);
    world.say(b, Packet::PubRec(1));
    assert_eq!(world.hear(b), ["pubrel(pubrel { pkid: 1 })"]);
    world.say(b, Packet::PubComp(1));
    world.say(b, Packet::PubRec(99));
    assert_eq!(world.hear(b), ["pubrel(pubrel { pkid: 99 })"], "what is not known gets done as well");
}

#[test]
fn kept_messages_are_told_to_new_filters_and_go_when_emptied() {
    let mut world = world();
    let a = world.client("a", true);
    world.subscribe(a, "k/#", ONE);
    world.keep(a, "k/1", "one");
    world.keep(a, "k/2", "two");
    assert_eq!(world.hear(a)[2..], ["k/1 one qos1 #1", "k/2 two qos1 #2"], "who was there is told as usual");
    let b = world.client("b", true);
    assert_eq!(world.subscribe(b, "k/+", ZERO), ["suback [Success(AtMostOnce)]", "k/1 one qos0 #0 kept", "k/2 two qos0 #0 kept"]);
    assert_eq!(world.subscribe(b, "k/2", TWO), ["suback [Success(ExactlyOnce)]", "k/2 two qos1 #1 kept"]);
    world.keep(a, "k/1", "");
    assert_eq!(world.hear(b), ["k/1  qos0 #0"]);
    let c = world.client("c", true);
    assert_eq!(world.subscribe(c, "#", ZERO), ["suback [Success(AtMostOnce)]", "k/2 two qos0 #0 kept"]);
    for number in 0..100 {
        world.keep(a, &format!("full/{number:02}"), &"x".repeat(100));
    }
    world.hear(c);
    let told = world.subscribe(c, "full/#", ZERO).len() - 1;
    assert!((10..20).contains(&told), "{told}: bounded in bytes");
}

#[test]
fn a_will_is_published_unless_the_client_takes_leave() {
    let mut world = world();
    let watcher = world.client("watcher", true);
    world.subscribe(watcher, "will/#", ONE);
    let dying = |name: &str| Connect { will: Some(publication(&format!("will/{name}"), "gone", ONE, true)), ..hello(name, true) };
    for (name, how) in [("leaves", 0), ("lost", 1), ("faulty", 2), ("silent", 3), ("taken", 4)] {
        let (connection, _) = world.greet(dying(name));
        match how {
            0 => world.say(connection, Packet::Disconnect),
            1 => world.router.lost(world.now, connection),
            2 => world.router.faulty(world.now, connection, &Fault::TooLarge(1 << 20)),
            3 => {
                world.pass(Duration::from_secs(89));
                world.say(watcher, Packet::PingReq);
                assert!(!world.is_closed(connection));
                world.pass(Duration::from_secs(1));
            }
            _ => drop(world.client(name, true)),
        }
        assert!(world.is_closed(connection), "{name}");
        let heard = world.hear(watcher).into_iter().filter(|word| word.starts_with("will")).count();
        assert_eq!(heard, usize::from(how != 0), "{name}");
    }
    let late = world.client("late", true);
    assert_eq!(world.subscribe(late, "will/lost", ZERO)[1..], ["will/lost gone qos0 #0 kept"]);
}

#[test]
fn a_session_waits_for_its_client_and_goes_on_where_it_was() {
    let mut world = world();
    let (a, b) = (world.client("a", true), world.client("b", false));
    world.subscribe(b, "t", TWO);
    world.publish(a, "t", "one", ONE);
    world.publish(a, "t", "two", TWO);
    assert_eq!(world.hear(b), ["t one qos1 #1", "t two qos2 #2"]);
    world.say(b, Packet::PubRec(2));
    world.router.lost(world.now, b);
    world.say(a, Packet::PubRel(7));
    for (payload, qos) in [("zero", ZERO), ("three", ONE), ("four", TWO)] {
        world.publish(a, "t", payload, qos);
    }
    let (b, heard) = world.greet(hello("b", false));
    let again = ["connack Success true", "t one qos1 #1 dup", "pubrel(pubrel { pkid: 2 })", "t three qos1 #3", "t four qos2 #4"];
    assert_eq!(heard, again, "QoS 0 is not for those who are away");
    world.say(b, Packet::Disconnect);
    let (b, heard) = world.greet(hello("b", true));
    assert_eq!(heard, ["connack Success false"]);
    world.publish(a, "t", "x", ONE);
    assert!(world.hear(b).is_empty(), "a clean session forgets the old one");
    world.say(b, Packet::Disconnect);
    assert_eq!(world.greet(hello("b", false)).1, ["connack Success false"]);
}

#[test]
fn the_newer_connection_of_a_client_takes_over() {
    let mut world = world();
    let old = world.client("a", false);
    world.subscribe(old, "t", ONE);
    let (new, heard) = world.greet(hello("a", false));
    assert!(world.is_closed(old));
    assert_eq!(heard, ["connack Success true"]);
    world.say(old, Packet::Publish(publication("t", "late", ONE, false), 1));
    world.router.lost(world.now, old);
    world.publish(new, "t", "x", ZERO);
    assert_eq!(world.hear(new), ["t x qos0 #0"]);
}

#[test]
fn nobody_takes_the_agents_own_name() {
    let users = BTreeMap::from([("u".to_owned(), Secret("p".to_owned()))]);
    let mut world = world_of(Limits { clients: 1, queue: 4096, retained: 0 }, Access { anonymous: false, users });
    let known = || Connect { user: Some("u".to_owned()), password: Some((*b"p").into()), ..hello("agent", true) };
    world.greet(Connect { client: "other".to_owned(), ..known() });
    let own = world.router.connected(world.now, true).expect("always");
    world.say(own, Packet::Connect(Box::new(hello("agent", true))));
    assert_eq!(world.hear(own), ["connack Success false"], "no password, and beyond max_clients");
    let (thief, heard) = world.greet(known());
    assert_eq!(heard, ["connack BadClientId false"]);
    assert!(world.is_closed(thief) && !world.is_closed(own));
    assert_eq!(world.greet(hello("x", true)).1, ["connack NotAuthorized false"]);
    assert_eq!(world.greet(Connect { password: None, ..known() }).1, ["connack BadUserNamePassword false"]);
}

#[test]
fn names_are_made_for_those_who_leave_nothing_behind() {
    let mut world = world();
    assert_eq!(world.greet(hello("", false)).1, ["connack BadClientId false"]);
    assert_eq!(world.greet(Connect { old: true, ..hello("", true) }).1, ["connack BadClientId false"]);
    let (a, b) = (world.client("", true), world.client("", true));
    world.subscribe(a, "t", ZERO);
    world.publish(b, "t", "x", ZERO);
    assert_eq!(world.hear(a), ["t x qos0 #0"]);
    assert!([a, b].iter().all(|client| world.router.client_of(*client).starts_with("'auto-0000000000000abc-")));
    let (_, heard) = world.greet(Connect { old: true, ..hello("three one", false) });
    assert_eq!(heard, ["connack Success false"]);
}

#[test]
fn what_is_not_spoken_here_is_refused_and_what_is_wrong_ends() {
    let mut world = world();
    let five = world.open();
    world.say(five, Packet::Foreign(5));
    assert_eq!(world.hear(five), ["connack RefusedProtocolVersion false"]);
    assert!(world.is_closed(five));
    let early = world.open();
    world.say(early, Packet::PingReq);
    assert!(world.hear(early).is_empty() && world.is_closed(early));
    let twice = world.client("a", true);
    world.say(twice, Packet::Connect(Box::new(hello("a", true))));
    assert!(world.is_closed(twice));
    let mute = world.open();
    world.pass(Duration::from_millis(9_999));
    assert!(!world.is_closed(mute));
    world.pass(Duration::from_millis(1));
    assert!(world.is_closed(mute));
    let flood = world.client("b", true);
    for id in 1..=5000 {
        world.say(flood, Packet::Publish(publication("t", "", TWO, false), id));
    }
    assert!(world.is_closed(flood), "ids that are never released");
    assert_eq!(world.router.peers.len(), 0);
    assert_eq!((world.router.clients.count(), world.router.deadline()), (0, None));
}

#[test]
fn one_who_does_not_read_his_refusal_is_closed_all_the_same() {
    let mut world = world();
    let refused = world.open();
    world.say(refused, Packet::Foreign(6));
    world.settle();
    assert!(world.closed.is_empty());
    world.pass(Duration::from_secs(5));
    assert!(world.is_closed(refused));
}

#[test]
fn filters_are_checked_and_bounded() {
    let mut world = world();
    let a = world.client("a", true);
    for filter in ["a/#/b", "", "a+", "$share/group/topic"] {
        assert_eq!(world.subscribe(a, filter, ONE), ["suback [Failure]"], "{filter}");
    }
    let long = |number: u32| format!("{number:04}/{}", "x".repeat(1000));
    let taken = (0..100).filter(|number| world.subscribe(a, &long(*number), ONE) == deep(&["suback [Success(AtLeastOnce)]"])).count();
    assert_eq!(taken, 61);
    assert_eq!(world.subscribe(a, &long(0), TWO), ["suback [Success(ExactlyOnce)]"], "it has that one");
}

#[test]
fn clients_are_bounded_and_those_away_longest_go_first() {
    let mut world = world_of(Limits { clients: 3, queue: 4096, retained: 0 }, Access { anonymous: true, users: BTreeMap::new() });
    for name in ["old", "older"] {
        let client = world.client(name, false);
        if name == "older" {
            world.say(client, Packet::Disconnect);
        } else {
            world.pass(Duration::from_secs(1));
        }
    }
    world.pass(Duration::from_secs(1));
    world.client("a", true);
    world.client("b", true);
    assert_eq!(world.greet(hello("c", true)).1, ["connack ServiceUnavailable false"]);
    assert_eq!(world.greet(hello("b", true)).1, ["connack Success false"], "it has its place");
    let known = ["a", "b", "old", "older"].map(|name| world.router.clients.named(name).is_some());
    assert_eq!(known, [true, true, true, false]);
    let strangers = (0..100).map_while(|_| world.router.connected(world.now, false)).count();
    assert_eq!(strangers, STRANGERS);
    assert!(world.router.connected(world.now, true).is_some(), "the agent always comes in");
}

#[test]
fn a_slow_client_loses_the_oldest_and_nobody_else_loses_anything() {
    let mut world = world();
    let (a, slow, quick) = (world.client("a", true), world.client("slow", true), world.client("quick", true));
    world.subscribe(slow, "t", ZERO);
    world.subscribe(quick, "t", ZERO);
    let mut heard = 0;
    for number in 0..5000 {
        world.publish(a, "t", &format!("{number:04}"), ZERO);
        heard += world.hear(quick).len();
    }
    assert_eq!(heard, 5000);
    let rest = world.hear(slow);
    assert_eq!((rest.len(), rest.last().map(String::as_str)), (4096 / 69, Some("t 4999 qos0 #0")));
}

#[test]
fn one_who_reads_no_answers_is_not_heard_on() {
    let mut world = world();
    let a = world.client("a", true);
    for _ in 0..=ANSWERS / 2 {
        assert!(!world.router.is_choked(a));
        world.say(a, Packet::PingReq);
    }
    assert!(world.router.is_choked(a));
    world.hear(a);
    assert!(!world.router.is_choked(a));
}
