//! What EdgeCore answers, step by step, asked of this node: every step of
//! `data/device-vectors.json`. Where the node answers otherwise on purpose, the
//! step stands in [`DIFFERENCES`] with the reason and with what it answers.

use std::collections::BTreeMap;

use selvedge::config::file;
use selvedge::node::bus::{Order, Publication};
use selvedge::node::ids::{Packet, Session};
use selvedge::node::input::{Input, LinkEnd};
use selvedge::node::machine::Facts;
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::store::{Key, Row, Rows};
use selvedge::node::{Node, Restored, link};
use selvedge::wire::message::{Message, operation};
use serde_json::{Value, json};

mod broker;
mod differences;
mod mappers;

use differences::{DIFFERENCES, Says};

const VECTORS: &str = include_str!("../data/device-vectors.json");

/// The node, and a cloud and a broker that hear everything at once.
struct Edge {
    node: Node,
    millis: u64,
    filters: Vec<String>,
    packets: u16,
    said: Said,
    /// A session that waits for the network.
    dialed: Option<Session>,
    session: Session,
    offline: bool,
    disk: BTreeMap<Key, Row>,
}

/// What a step led to.
#[derive(Debug, Default)]
struct Said {
    mqtt: Vec<(String, Value)>,
    cloud: Vec<Message>,
    acked: usize,
}

impl Edge {
    fn new() -> Self {
        Self::started(BTreeMap::new())
    }

    /// With what an earlier one has on disk.
    fn started(disk: BTreeMap<Key, Row>) -> Self {
        let config = file::parse("[node]\nname = \"edge1\"\n", "edge1").expect("a configuration");
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_800_000_000_000) };
        let restored = Restored { rows: Rows::new(disk.clone().into_iter().collect()).expect("rows of their tables"), ..Restored::default() };
        let node = Node::new(config, restored, 7, now);
        let mut edge =
            Self { node, millis: 1000, filters: Vec::new(), packets: 0, said: Said::default(), dialed: None, session: Session(0), offline: false, disk };
        edge.tell(Input::Facts(Box::new(Facts { cpus: 1, memory: 1 << 30, ..Facts::default() })));
        edge.tell(Input::BusUp { kept: false });
        edge
    }

    fn now(&mut self) -> Now {
        self.millis += 1;
        Now { mono: Mono(self.millis * 1_000_000), wall: Wall(1_800_000_000_000 + i64::try_from(self.millis).expect("small")) }
    }

    fn tell(&mut self, input: Input) {
        let now = self.now();
        self.node.handle(now, input);
        while let Some(input) = self.next() {
            let now = self.now();
            self.node.handle(now, input);
        }
    }

    /// Takes one thing the node wants done, and does it.
    fn next(&mut self) -> Option<Input> {
        if let Some(batch) = self.node.poll_store() {
            for change in batch.changes {
                match change.row {
                    Some(row) => drop(self.disk.insert(change.key, row)),
                    None => drop(self.disk.remove(&change.key)),
                }
            }
            return Some(Input::Stored(batch.ticket));
        }
        let now = Now { mono: Mono(self.millis * 1_000_000), wall: Wall(1_800_000_000_000 + i64::try_from(self.millis).expect("small")) };
        while let Some(order) = self.node.poll_bus(now) {
            match order {
                Order::Subscribe(filters) => self.filters.extend(filters),
                Order::Unsubscribe(filter) => self.filters.retain(|known| *known != filter),
                Order::Publish { topic, payload } => {
                    let payload = serde_json::from_slice(&payload).unwrap_or_else(|_| String::from_utf8_lossy(&payload).into_owned().into());
                    self.said.mqtt.push((topic, payload));
                }
                Order::Ack(_) => self.said.acked += 1,
            }
        }
        match self.node.poll_cloud()? {
            link::Order::Dial(session) if self.offline => {
                self.dialed = Some(session);
                None
            }
            link::Order::Dial(session) => Some(self.up(session)),
            link::Order::HangUp(_) => panic!("the cloud answers everything"),
            link::Order::Send(session, message) => self.cloud_hears(*message).map(|answer| Input::Received(session, Box::new(answer))).or_else(|| self.next()),
        }
    }

    fn up(&mut self, session: Session) -> Input {
        self.session = session;
        Input::LinkUp(session)
    }

    /// The network goes, or is back.
    fn network(&mut self, up: bool) {
        self.offline = true;
        if !up {
            self.tell(Input::LinkDown { session: self.session, end: LinkEnd::Closed("cut".to_owned()) });
            return;
        }
        let now = self.now();
        self.node.on_deadline(now);
        let _ = self.next();
        if let Some(session) = self.dialed.take() {
            self.offline = false;
            let input = self.up(session);
            self.tell(input);
        }
    }

    fn cloud_hears(&mut self, message: Message) -> Option<Message> {
        let answer = |content: Value| {
            let mut answer = message.ack("a".to_owned(), 0);
            answer.content = selvedge::wire::message::raw(&content);
            Some(answer)
        };
        let kind = message.route.resource.split('/').nth(1).unwrap_or_default().to_owned();
        match (message.route.source.as_str(), message.route.operation.as_str(), kind.as_str()) {
            ("edged", operation::QUERY, "node") => answer(json!({"metadata": {"name": "edge1", "uid": "n"}})),
            ("edged", operation::QUERY, "lease") => answer(json!({"metadata": {"name": "edge1"}, "spec": {}})),
            ("edged", operation::PATCH | operation::UPDATE, _) => answer(json!({"Object": {"metadata": {"name": "edge1"}}, "Err": null})),
            ("twin", ..) => {
                let confirmation = answer(json!("OK"));
                self.said.cloud.push(message);
                confirmation
            }
            ("bus", ..) => {
                self.said.cloud.push(message);
                None
            }
            _ => None,
        }
    }

    fn publish(&mut self, topic: &str, payload: &str) {
        self.packets += 1;
        let packet = Some(Packet { connection: 1, id: self.packets });
        self.tell(Input::Published(Publication { topic: topic.to_owned(), payload: payload.into(), packet, retained: false }));
        assert_eq!(self.said.acked, 1, "every packet is acknowledged once: {topic}");
    }

    fn receive(&mut self, source: &str, group: &str, operation: &str, resource: &str, content: &str) {
        let content: Value = serde_json::from_str(content).unwrap_or_else(|_| content.into());
        let message = json!({
            "header": {"msg_id": format!("m{}", self.millis), "timestamp": 1},
            "route": {"source": source, "group": group, "operation": operation, "resource": resource},
            "content": content,
        });
        self.tell(Input::Received(self.session, Box::new(Message::parse(&message.to_string()).expect("a message"))));
    }

    /// Does what a step of the vectors says; `None` when it is about something
    /// that this test does not play.
    fn step(&mut self, step: &Value) -> Option<Said> {
        let input = &step["in"];
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        if input["mqtt_topic"].is_string() {
            self.publish(&text("mqtt_topic"), &text("payload"));
        } else if input["mqtt_publish"].is_string() {
            let topic = text("mqtt_publish");
            if self.filters.iter().any(|filter| matches(filter, &topic)) {
                self.publish(&topic, &text("payload"));
            }
        } else if matches!(text("kind").as_str(), "cloud->edge message" | "cloud->edge (router)" | "metamanager->twin") {
            let (source, group) = match text("kind").as_str() {
                "metamanager->twin" => ("devicecontroller".to_owned(), "resource".to_owned()),
                _ => (text("source"), text("group")),
            };
            self.receive(&source, &group, &text("operation"), &text("resource"), &text("content"));
        } else if text("kind") == "edgehub connection event" {
            self.millis += 60_000;
            self.network(text("content") == "cloud_connected");
        } else if text("kind") != "cloud ack" {
            return None;
        }
        Some(std::mem::take(&mut self.said))
    }
}

/// Whether `found` is what `wanted` says; `<...>` stands for any value.
fn is_like(wanted: &Value, found: &Value, exactly: bool) -> bool {
    match (wanted, found) {
        (Value::String(text), _) if text.starts_with('<') && text.ends_with('>') => !found.is_null() && *found != json!(""),
        (Value::Object(wanted), Value::Object(found)) => {
            (!exactly || wanted.len() == found.len()) && wanted.iter().all(|(name, value)| found.get(name).is_some_and(|found| is_like(value, found, exactly)))
        }
        (Value::Array(wanted), Value::Array(found)) => wanted.len() == found.len() && wanted.iter().zip(found).all(|(a, b)| is_like(a, b, exactly)),
        _ => wanted == found,
    }
}

/// What a step says on MQTT, by the vectors.
fn wanted_mqtt(expect: &Value) -> Vec<(String, Value)> {
    let published = expect["mqtt_published"].as_array().into_iter().flatten();
    published.map(|said| (said["topic"].as_str().unwrap_or_default().to_owned(), said["payload"].clone())).collect()
}

fn check(id: &str, expect: &Value, said: &Said) -> Result<(), String> {
    let wanted = wanted_mqtt(expect);
    let same = wanted.len() == said.mqtt.len() && wanted.iter().zip(&said.mqtt).all(|(wanted, said)| wanted.0 == said.0 && is_like(&wanted.1, &said.1, true));
    if !same {
        return Err(format!("{id}: on MQTT\n  wanted {wanted:?}\n  said   {:?}", said.mqtt));
    }
    for wanted in expect["to_cloud"].as_array().into_iter().flatten() {
        let told = said.cloud.iter().any(|message| tells(message, wanted));
        if !told {
            return Err(format!("{id}: to the cloud\n  wanted {wanted}\n  said   {:?}", said.cloud.iter().map(|message| message.text()).collect::<Vec<_>>()));
        }
    }
    if expect["to_cloud"].is_null() && !said.cloud.is_empty() {
        return Err(format!("{id}: nothing to the cloud was wanted, but {:?}", said.cloud.iter().map(|message| message.text()).collect::<Vec<_>>()));
    }
    Ok(())
}

fn tells(message: &Message, wanted: &Value) -> bool {
    let mut content: Value = serde_json::from_str(message.content.get()).unwrap_or_default();
    if let Some(inner) = content.as_str().and_then(|text| serde_json::from_str(text).ok()) {
        content = inner;
    }
    let route = json!({"source": message.route.source, "group": message.route.group, "resource": message.route.resource, "operation": message.route.operation});
    ["source", "group", "resource", "operation"].iter().all(|part| wanted[*part] == route[*part]) && is_like(&wanted["content"], &content, true)
}

/// What a step that differs says instead.
fn check_difference(id: &str, says: &Says, said: &Said) -> Result<(), String> {
    let topics: Vec<&str> = said.mqtt.iter().map(|(topic, _)| topic.as_str()).collect();
    let wanted: Vec<Value> = says.mqtt.iter().map(|(_, payload)| serde_json::from_str(payload).expect("JSON")).collect();
    let same = topics.len() == says.mqtt.len()
        && topics.iter().zip(says.mqtt).all(|(topic, (tail, _))| topic.ends_with(tail))
        && wanted.iter().zip(&said.mqtt).all(|(wanted, (_, payload))| is_like(wanted, payload, false));
    let cloud = says.cloud.is_none_or(|wanted| match wanted {
        "" => said.cloud.is_empty(),
        wanted => {
            let wanted: Value = serde_json::from_str(wanted).expect("JSON");
            said.cloud.iter().any(|message| {
                let content: Value = serde_json::from_str(message.content.get()).expect("JSON");
                is_like(&wanted, &content["twin"], false)
            })
        }
    });
    if same && cloud {
        return Ok(());
    }
    let told: Vec<String> = said.cloud.iter().map(Message::text).collect();
    Err(format!("{id}: it differs otherwise than told ({})\n  wanted {:?} {:?}\n  said   {:?}\n  cloud  {told:?}", says.why, says.mqtt, says.cloud, said.mqtt))
}

fn scenario(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(VECTORS).expect("JSON");
    all["scenarios"].as_array().expect("a list").iter().find(|scenario| scenario["name"] == name).expect("a scenario")["steps"]
        .as_array()
        .expect("a list")
        .clone()
}

/// Replays a scenario from the beginning; the steps that were played.
fn replay(name: &str) -> usize {
    let mut edge = Edge::new();
    edge.said = Said::default();
    replay_on(&mut edge, name)
}

fn replay_on(edge: &mut Edge, name: &str) -> usize {
    let known: BTreeMap<&str, &Says> = DIFFERENCES.iter().map(|says| (says.step, says)).collect();
    let (mut faults, mut played) = (Vec::new(), 0);
    for step in scenario(name) {
        let id = format!("{name}/{}", step["id"].as_str().unwrap_or_default());
        let Some(said) = edge.step(&step) else { continue };
        played += 1;
        let plain = check(&id, &step["expect"], &said);
        match known.get(id.as_str()) {
            None => faults.extend(plain.err()),
            Some(_) if plain.is_ok() => faults.push(format!("{id}: it does not differ any more")),
            Some(says) => faults.extend(check_difference(&id, says, &said).err()),
        }
    }
    assert!(faults.is_empty(), "{} of {played} steps:\n{}", faults.len(), faults.join("\n"));
    played
}

/// The broker of the vectors is EdgeCore's own: only what the agent says is
/// looked at here.
#[test]
fn user_topics_go_up_and_rules_come_down() {
    let mut edge = Edge::new();
    edge.said = Said::default();
    let mut faults = Vec::new();
    for step in scenario("eventbus-internal-broker") {
        let id = format!("eventbus-internal-broker/{}", step["id"].as_str().unwrap_or_default());
        let Some(said) = edge.step(&step) else { continue };
        let up: Vec<&Message> = said.cloud.iter().filter(|message| message.route.source == "bus").collect();
        let wanted: Vec<&Value> = step["expect"]["to_cloud"].as_array().into_iter().flatten().filter(|wanted| wanted["source"] == "bus").collect();
        if up.len() != wanted.len() || !up.iter().zip(&wanted).all(|(message, wanted)| tells(message, wanted)) {
            faults.push(format!("{id}: wanted {wanted:?}, said {up:?}"));
        }
        if step["in"]["operation"] == "publish" {
            let down: Vec<(String, Value)> = step["expect"]["seen_by_mqtt_client"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|seen| (seen["topic"].as_str().expect("a topic").to_owned(), seen["payload"].clone()))
                .collect();
            assert_eq!(down.len(), 1, "the vectors tell of one message");
            if said.mqtt != down {
                faults.push(format!("{id}: wanted {down:?} on MQTT, said {:?}", said.mqtt));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn twins_say_what_edgecore_says() {
    assert_eq!(replay("twin-core"), 79);
}

/// Whether a filter takes a topic, as the MQTT standard says, except that
/// wildcards also stand for a first level with `$`: a rule for `#` means all.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[test]
fn filters_match_by_levels() {
    for (filter, topic) in [("a/+/c", "a/b/c"), ("a/#", "a"), ("a/#", "a/b/c"), ("#", "$hw/x"), ("a/b", "a/b"), ("+/user/#", "x/user")] {
        assert!(matches(filter, topic), "{filter} {topic}");
    }
    for (filter, topic) in [("a/+", "a"), ("a/b", "a/b/c"), ("a/b/c", "a/b"), ("+/user/#", "user/x"), ("a/+", "a/b/c")] {
        assert!(!matches(filter, topic), "{filter} {topic}");
    }
}
