//! What the real cloud and its own agent said to each other, read and written
//! again: `data/wire.json` are single messages, `data/session.jsonl` is a whole
//! recording.

use std::time::Duration;

use selvedge::config::file;
use selvedge::node::chance::Chance;
use selvedge::node::ids::Session;
use selvedge::node::input::Input;
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::{Node, Restored, link};
use selvedge::wire::application::{ANSWERED, Application, Bytes, DYNAMIC_CONTROLLER, METASERVER, UNTOLD};
use selvedge::wire::message::{Message, operation};
use serde_json::{Value, json};

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/wire.json")).expect("JSON")
}

fn recording() -> Vec<(String, Value)> {
    let lines = include_str!("data/session.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|mut line| (line["dir"].as_str().expect("a direction").to_owned(), line["message"].take())).collect()
}

/// Any Go agent writes the same JSON, members in whatever order.
fn same(text: &str) {
    let message = Message::parse(text).expect("a message");
    let (ours, theirs): (Value, Value) = (serde_json::from_str(&message.text()).expect("JSON"), serde_json::from_str(text).expect("JSON"));
    assert_eq!(ours, theirs);
}

#[test]
fn every_message_is_read_and_written_as_the_real_ones() {
    let vectors = vectors();
    let texts = vectors["vectors"].as_array().expect("a list").iter().map(|vector| vector["payload"].as_str().expect("text").to_owned());
    let recorded = recording().into_iter().map(|(_, message)| message.to_string());
    let all: Vec<String> = texts.chain(recorded).collect();
    assert!(all.len() > 300, "{} messages", all.len());
    all.iter().for_each(|text| same(text));
}

#[test]
fn an_ack_is_the_one_edgecore_sends() {
    let vectors = vectors();
    let of = |name: &str| {
        let found = vectors["vectors"].as_array().expect("a list").iter().find(|vector| vector["name"] == name).expect("the vector");
        Message::parse(found["payload"].as_str().expect("text")).expect("a message")
    };
    let theirs = of("pod-insert-ack");
    let ours = of("pod-insert").ack(theirs.header.msg_id.clone(), theirs.header.timestamp);
    assert_eq!(ours.text(), theirs.text());
}

/// The acks in the recording are those we would send, and no others.
#[test]
fn exactly_what_edgecore_acknowledged_and_the_cloud_waits_for_is_acknowledged() {
    let recording = recording();
    let acked = |id: &str| {
        recording.iter().any(|(dir, message)| dir == "up" && message["header"]["parent_msg_id"] == id && message["route"]["operation"] == "response")
    };
    for (_, message) in recording.iter().filter(|(dir, _)| dir == "down") {
        let parsed = Message::parse(&message.to_string()).expect("a message");
        if parsed.wants_ack() {
            assert!(acked(&parsed.header.msg_id), "EdgeCore did not acknowledge {}", parsed.route.resource);
        }
    }
}

#[test]
fn a_list_is_asked_for_and_read_as_edgecore_does() {
    let vectors = vectors();
    let content = |name: &str| {
        let found = vectors["vectors"].as_array().expect("a list").iter().find(|vector| vector["name"] == name).expect("the vector");
        let message = Message::parse(found["payload"].as_str().expect("text")).expect("a message");
        (message.route, serde_json::from_str::<Value>(message.content.get()).expect("JSON"))
    };
    let (route, theirs) = content("metaserver-list-request");
    assert_eq!([route.source.as_str(), &route.group, &route.operation, &route.resource], [METASERVER, DYNAMIC_CONTROLLER, UNTOLD, UNTOLD]);
    let ours = Application::list(theirs["ID"].as_str().expect("text").to_owned(), "edge-1", "pods", "spec.nodeName=edge-1");
    assert_eq!(ours.option.json(), Some(json!({ "fieldSelector": "spec.nodeName=edge-1" })));
    // Theirs asks for one namespace and without a selector; all else is the same.
    let as_theirs = Application { key: "/core/v1/pods/default/null".to_owned(), option: Bytes::of(&json!({})), ..ours };
    assert_eq!(serde_json::to_value(as_theirs).expect("JSON"), theirs);
    let (route, answer) = content("metaserver-list-response");
    assert_eq!([route.source.as_str(), &route.operation, &route.resource], [DYNAMIC_CONTROLLER, operation::APPLICATION_RESPONSE, ANSWERED]);
    assert_eq!(serde_json::from_value::<Application>(answer).expect("it is one").items(), Ok(Vec::new()));
}

#[test]
fn the_token_names_its_ca() {
    let vectors = vectors();
    let bytes: Vec<u8> = vectors["ca_hex"]
        .as_str()
        .expect("hex")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"))
        .collect();
    let hash = selvedge::edgehub::enrol::hash(&bytes);
    assert_eq!(hash, vectors["ca_sha256"]);
    assert!(vectors["token"].as_str().expect("text").starts_with(&hash));
    assert!(selvedge::edgehub::enrol::Token::parse(vectors["token"].as_str().expect("text")).is_ok());
}

/// A node with a session, and how to hand it messages.
struct Bench {
    node: Node,
    mono: u64,
}

impl Bench {
    fn new() -> Self {
        let config = file::parse("[node]\nname = \"edge-go\"\n", "edge-go").expect("a configuration");
        let mut bench = Self { node: Node::new(config, Restored::default(), 1, now(1000)), mono: 1000 };
        bench.node.on_deadline(now(60_000));
        bench.answer();
        bench.node.handle(now(60_001), Input::LinkUp(Session(1)));
        bench.answer();
        bench
    }

    /// The disk writes at once; ids of the messages that the node acknowledges.
    fn answer(&mut self) -> Vec<String> {
        let mut acknowledged = Vec::new();
        loop {
            while let Some(batch) = self.node.poll_store() {
                self.node.handle(now(self.mono), Input::Stored(batch.ticket));
            }
            match self.node.poll_cloud() {
                Some(link::Order::Send(_, message)) if message.route.operation == operation::RESPONSE => {
                    acknowledged.push(message.header.parent_msg_id.clone());
                }
                Some(link::Order::Send(..)) => {}
                Some(link::Order::Dial(_) | link::Order::HangUp(_)) => {}
                None => return acknowledged,
            }
        }
    }

    fn hear(&mut self, text: &str) -> Vec<String> {
        self.mono += 10;
        let input = match Message::parse(text) {
            Ok(message) => Input::Received(Session(1), Box::new(message)),
            Err(why) => Input::Garbled(Session(1), why.to_string()),
        };
        self.node.handle(now(self.mono), input);
        self.answer()
    }
}

fn now(millis: u64) -> Now {
    Now { mono: Mono(millis * 1_000_000), wall: Wall(1_795_392_000_000 + i64::try_from(millis).expect("small")) }
}

#[test]
fn a_recorded_session_is_survived_and_every_wish_for_an_ack_is_met() {
    let mut bench = Bench::new();
    let mut objects = 0;
    for (_, message) in recording().iter().filter(|(dir, _)| dir == "down") {
        let acknowledged = bench.hear(&message.to_string());
        let sent = Message::parse(&message.to_string()).expect("a message");
        if sent.wants_ack() {
            objects += 1;
            assert_eq!(acknowledged, [sent.header.msg_id], "acks for {}", message["route"]["resource"]);
        }
    }
    assert!(objects > 30, "{objects} objects");
}

/// Whatever is done to a message, the node neither panics nor hangs up.
#[test]
fn garbled_messages_are_survived() {
    let mut bench = Bench::new();
    let mut chance = Chance::new(5);
    let mut pick = |limit: usize| usize::try_from(chance.draw() % limit as u64).expect("small");
    let originals: Vec<Value> = recording().into_iter().filter(|(dir, _)| dir == "down").map(|(_, message)| message).collect();
    for round in 0..4000 {
        let mut message = originals[pick(originals.len())].clone();
        match round % 4 {
            0 => replace(&mut message, &mut pick),
            1 => {
                let mut text = message.to_string().into_bytes();
                let at = pick(text.len());
                text[at] = u8::try_from(32 + pick(90)).expect("ASCII");
                bench.hear(&String::from_utf8_lossy(&text));
                continue;
            }
            2 => {
                let text = message.to_string();
                let end = (0..=pick(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                bench.hear(&text[..end]);
                continue;
            }
            _ => {
                replace(&mut message, &mut pick);
                replace(&mut message, &mut pick);
            }
        }
        bench.hear(&message.to_string());
    }
    bench.node.on_deadline(now(bench.mono + 1));
    assert!(bench.node.deadline().is_some_and(|(at, _)| at.since(Mono(0)) > Duration::ZERO));
}

/// Puts something else in the place of some member.
fn replace(value: &mut Value, pick: &mut impl FnMut(usize) -> usize) {
    let odd = [
        Value::Null,
        Value::from(-1),
        Value::from("x"),
        Value::from(1e300),
        serde_json::json!([]),
        serde_json::json!({}),
        Value::from(true),
        Value::from("9".repeat(40)),
    ];
    *inside(value, pick(7), pick) = odd[pick(odd.len())].clone();
}

/// Some member, at most so deep.
fn inside<'a>(value: &'a mut Value, depth: usize, pick: &mut impl FnMut(usize) -> usize) -> &'a mut Value {
    let members = value.as_object().map_or(0, serde_json::Map::len) + value.as_array().map_or(0, Vec::len);
    if depth == 0 || members == 0 {
        return value;
    }
    let at = pick(members);
    let member = if value.is_object() { value.as_object_mut().and_then(|map| map.values_mut().nth(at)) } else { value.get_mut(at) };
    inside(member.expect("there are so many"), depth - 1, pick)
}
