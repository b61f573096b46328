//! Node, cloud, runtime, disk and clock, tied together by one queue of things
//! that happen later.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge::cloud::cluster::{self, Cluster};
use selvedge::cloud::controller::Tokens;
use selvedge::cloud::hub;
use selvedge::cloud::objects::{self, Name, condition};
use selvedge::config::{Config, file};
use selvedge::node::Node;
use selvedge::node::bus::Publication;
use selvedge::node::chance::Chance;
use selvedge::node::dmi;
use selvedge::node::ids::{AskId, CallId, ContainerId, OpId, PodUid, Session};
use selvedge::node::input::{Ask, Input, LinkEnd};
use selvedge::node::link;
use selvedge::node::machine::Facts;
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::runtime::{Failure, Op, Order, Outcome, RuntimeInfo, Step};
use selvedge::node::service::{self, Called};
use selvedge::node::store::{Key, Row};
use selvedge::wire::kube::drop_nulls;
use selvedge::wire::message::{EDGE_CONTROLLER, Message, RESOURCE, operation, raw};
use selvedge::wire::resource::{Resource, kind};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::broker::Broker;
use super::disk::Disk;
use super::mappers::Mappers;
use super::runtime::{Later, Runtime};

/// 2026-11-23 00:00:00 UTC.
const EPOCH: i64 = 1_795_392_000_000;

/// Something that happens later.
enum Event {
    Node(Input),
    Cloud(hub::Session, String),
    Write,
    BrokerReads,
    Dialed(Session),
    Op(Op),
    /// An op that was cancelled takes effect all the same.
    Late(Op),
    /// What a step made does not last.
    EndsSoon(PodUid, &'static str),
    /// Everything in the runtime was read.
    Listed,
    Ends(ContainerId),
}

/// How the network treats the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Well.
    Up,
    /// Nothing can be reached, and connections break.
    Cut,
    /// Connections stay, nothing passes.
    Frozen,
}

/// What a request gets for an answer, other than what the cloud would say.
#[derive(Debug, Clone)]
pub enum Canned {
    /// Nothing.
    Silence,
    /// This content.
    Content(Value),
    /// This content, two times.
    Twice(Value),
    /// This content, as the answer to another request.
    Foreign(Value),
}

pub struct World {
    pub config: Config,
    pub node: Option<Node>,
    pub cloud: Cluster,
    pub runtime: Runtime,
    pub machine: Facts,
    pub disk: Disk,
    pub broker: Broker,
    /// What the last one who asked at the node was answered.
    pub answer: Value,
    pub mappers: Mappers,
    /// The node listens for apps.
    pub listens_for_apps: bool,
    pub network: Network,
    pub chance: Chance,
    millis: u64,
    /// Calendar minus monotonic, milliseconds.
    calendar: i64,
    events: BTreeMap<(u64, u64), Event>,
    counted: u64,
    sessions: BTreeMap<Session, hub::Session>,
    /// What the cloud sent and waits an ack for, by message.
    sent: BTreeMap<String, Sent>,
    /// Messages from the node to the cloud, by operation and type.
    pub traffic: BTreeMap<(String, String), u64>,
    /// How often the node has dialled.
    pub dials: u64,
    /// Answers that are not the cloud's own, by operation and type.
    pub canned: BTreeMap<(&'static str, &'static str), Canned>,
}

/// An object as the cloud sent it.
struct Sent {
    resource: Resource,
    verb: String,
    object: Value,
}

struct NoSecret;

impl Tokens for NoSecret {
    fn token(&self, namespace: &str, account: &str, _: &[Value], expires: i64) -> String {
        format!("{namespace}.{account}.{expires}")
    }
}

impl World {
    /// A node that has never run, with everything in order around it.
    pub fn new(seed: u64) -> Self {
        let config = file::parse("[node]\nname = \"edge\"\n", "edge").expect("a configuration");
        let mut world = Self {
            config,
            node: None,
            cloud: Cluster::default().salted(7),
            runtime: Runtime::default(),
            machine: machine(),
            disk: Disk::default(),
            broker: Broker::default(),
            answer: Value::Null,
            mappers: Mappers::default(),
            listens_for_apps: false,
            network: Network::Up,
            chance: Chance::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            millis: 1000,
            calendar: EPOCH,
            events: BTreeMap::new(),
            counted: 0,
            sessions: BTreeMap::new(),
            sent: BTreeMap::new(),
            traffic: BTreeMap::new(),
            dials: 0,
            canned: BTreeMap::new(),
        };
        let now = world.cloud_now();
        world.cloud.set_root_ca(now, "PEM");
        world.start();
        world
    }

    /// A world whose node is registered and ready.
    pub fn ready(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.run(Duration::from_secs(5));
        assert_eq!(world.node_ready(), Some("True"), "the node is ready within 5 s");
        world
    }

    /// CloudCore passes requests on to the API server from now on.
    pub fn enable_dynamic_controller(&mut self) {
        self.cloud = std::mem::take(&mut self.cloud).with_dynamic_controller(true);
    }

    /// A number below `limit`.
    pub fn pick(&mut self, limit: u64) -> u64 {
        self.chance.draw() % limit
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono(self.millis * 1_000_000), wall: self.wall() }
    }

    fn wall(&self) -> Wall {
        Wall(self.calendar + i64::try_from(self.millis).expect("small"))
    }

    fn cloud_now(&self) -> cluster::Now {
        let mono = i64::try_from(self.millis).expect("small");
        cluster::Now { mono, wall: EPOCH + mono }
    }

    fn later(&mut self, after: u64, event: Event) {
        self.counted += 1;
        self.events.insert((self.millis + after, self.counted), event);
    }

    /// The agent starts, on whatever its disk holds.
    pub fn start(&mut self) {
        assert!(self.node.is_none(), "one agent at a time");
        let seed = self.chance.draw();
        let mut node = Node::new(self.config.clone(), self.disk.restored(), seed, self.now());
        node.handle(self.now(), Input::Facts(Box::new(self.machine.clone())));
        self.node = Some(node);
        self.runtime_is_reached();
        self.broker_is_reached();
        let directories = self.runtime.directories.iter().map(|(uid, key)| (uid.clone(), key.clone())).collect();
        self.later(8, Event::Node(Input::Directories(directories)));
    }

    fn broker_is_reached(&mut self) {
        if !self.broker.down {
            self.broker.connected().into_iter().for_each(|input| self.later(3, Event::Node(input)));
        }
    }

    /// The broker goes away, or is back.
    pub fn set_broker(&mut self, up: bool) {
        self.broker.down = !up;
        if up {
            self.broker_is_reached();
        } else {
            self.events.retain(|_, event| !matches!(event, Event::Node(Input::Published(_) | Input::BusUp { .. })));
            self.later(1, Event::Node(Input::BusDown("the broker is gone".to_owned())));
        }
    }

    /// A client of the broker publishes with QoS 1; its number at the broker.
    pub fn publish(&mut self, topic: &str, payload: &str) -> u64 {
        let (number, input) = self.broker.publish(topic, payload);
        if self.node.is_some() && !self.broker.down {
            self.later(1, Event::Node(input));
        }
        number
    }

    /// The same, and the broker keeps it for who subscribes later.
    pub fn publish_retained(&mut self, topic: &str, payload: &str) {
        self.broker.retain(topic, payload);
        self.publish(topic, payload);
    }

    /// The same with QoS 0.
    pub fn publish_once(&mut self, topic: &str, payload: &str) {
        let publication = Publication { topic: topic.to_owned(), payload: payload.into(), packet: None, retained: false };
        self.later(1, Event::Node(Input::Published(publication)));
    }

    /// Somebody asks at the node, and is answered.
    pub fn ask(&mut self, ask: Ask) -> &Value {
        self.later(0, Event::Node(Input::Asked(AskId(1), ask)));
        self.run(Duration::from_millis(1));
        &self.answer
    }

    /// The node is told anything.
    #[allow(dead_code, reason = "for the fuzz target of worlds, which needs every module")]
    pub fn tell(&mut self, input: Input) {
        self.later(1, Event::Node(input));
    }

    /// The node hears this from the cloud, if it has a session.
    #[allow(dead_code, reason = "for the fuzz target of worlds, which needs every module")]
    pub fn hear(&mut self, message: Message) {
        if let Some(session) = self.sessions.keys().next_back().copied() {
            self.tell(Input::Received(session, Box::new(message)));
        }
    }

    /// A mapper asks the node.
    pub fn mapper_asks(&mut self, ask: dmi::Ask) {
        self.counted += 1;
        self.later(1, Event::Node(Input::MapperAsked(CallId(self.counted), ask)));
    }

    fn runtime_is_reached(&mut self) {
        let info = RuntimeInfo { name: "containerd".to_owned(), version: "1.6.20".to_owned(), ..RuntimeInfo::default() };
        self.later(5, Event::Node(Input::RuntimeUp(info)));
        self.later(7 + self.runtime.slow, Event::Listed);
    }

    /// The agent is killed; what it was doing may be done, half done or undone.
    pub fn kill(&mut self) {
        self.node = None;
        let kept = usize::try_from(self.pick(4)).expect("small");
        self.disk.power_lost(kept);
        let sessions = std::mem::take(&mut self.sessions);
        let under_way: Vec<(u64, u64)> = self.events.iter().filter(|(_, event)| !matches!(event, Event::Ends(_))).map(|(at, _)| *at).collect();
        for at in under_way {
            match self.events.remove(&at) {
                Some(Event::Op(op)) => self.half_done(&op),
                // What was on the wire may still arrive.
                Some(Event::Cloud(session, text)) if self.pick(2) == 0 => drop(self.events.insert(at, Event::Cloud(session, text))),
                Some(_) | None => {}
            }
        }
        if self.network == Network::Up {
            sessions.values().for_each(|session| self.cloud.disconnected(*session));
        }
    }

    fn half_done(&mut self, op: &Op) {
        match (self.pick(3), &op.step) {
            (0, _) => {}
            (1, Step::Start(start)) => drop(self.runtime.create(&op.pod, start)),
            (_, step) => self.carry_out(&op.pod, step),
        }
    }

    fn carry_out(&mut self, pod: &PodUid, step: &Step) {
        if let (_, Later::End(id, after)) = self.runtime.carry_out(self.wall(), pod, step) {
            self.later(after, Event::Ends(id));
        }
    }

    /// The machine loses power and boots again.
    pub fn reboot(&mut self) {
        self.kill();
        self.events.retain(|_, event| !matches!(event, Event::Ends(_)));
        let wall = self.wall();
        self.runtime.rebooted(wall);
        self.start();
    }

    /// The network changes.
    pub fn set_network(&mut self, network: Network) {
        self.network = network;
        if network == Network::Cut {
            for (session, cloud) in std::mem::take(&mut self.sessions) {
                self.cloud.disconnected(cloud);
                self.later(1, Event::Node(Input::LinkDown { session, end: LinkEnd::Closed("the network is cut".to_owned()) }));
            }
            self.events.retain(|_, event| !matches!(event, Event::Cloud(..) | Event::Node(Input::Received(..))));
        }
    }

    /// The calendar jumps.
    pub fn step_calendar(&mut self, millis: i64) {
        self.calendar += millis;
    }

    /// The disk fills up, or has room again.
    pub fn set_disk_full(&mut self, full: bool) {
        self.disk.full = full;
        let health = if full { Err("No space left on device".to_owned()) } else { Ok(()) };
        self.later(1, Event::Node(Input::StoreHealth(health)));
        self.later(2, Event::Write);
    }

    /// The runtime goes away, or is back.
    pub fn set_runtime(&mut self, up: bool) {
        if up {
            self.runtime_is_reached();
        } else {
            self.events.retain(|_, event| !matches!(event, Event::Op(_) | Event::Late(_) | Event::Listed | Event::Node(Input::Probed { .. })));
            self.later(1, Event::Node(Input::RuntimeDown("no such file".to_owned())));
        }
    }

    /// The machine is looked at, as it is every half a minute.
    pub fn look_at_machine(&mut self) {
        self.later(1, Event::Node(Input::Facts(Box::new(self.machine.clone()))));
    }

    /// A container dies without anybody asking.
    pub fn crash(&mut self, id: &ContainerId) {
        let wall = self.wall();
        if let Some(uid) = self.runtime.end(wall, id, 1) {
            self.tell_seen(&uid);
        }
    }

    fn tell_seen(&mut self, uid: &PodUid) {
        if let Some(seen) = self.runtime.look(uid) {
            self.runtime.is_read(self.millis, uid);
            self.later(2, Event::Node(Input::Seen(seen)));
        }
    }

    /// All sandboxes die without anybody asking.
    pub fn lose_sandboxes(&mut self) {
        let wall = self.wall();
        self.runtime.rebooted(wall);
        let pods: Vec<PodUid> = self.runtime.pods.keys().cloned().collect();
        pods.iter().for_each(|uid| self.tell_seen(uid));
    }

    /// Milliseconds since the machine began.
    pub fn millis(&self) -> u64 {
        self.millis
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.millis + u64::try_from(time.as_millis()).expect("small");
        loop {
            self.drain();
            let event = self.events.keys().next().map(|(at, _)| *at);
            let node = self.node.as_ref().and_then(Node::deadline).map(|(at, _)| at.0.div_ceil(1_000_000));
            let cloud = u64::try_from(self.cloud.deadline(self.cloud_now())).expect("after the start");
            let next = [event, node, Some(cloud)].into_iter().flatten().min().unwrap_or(end).max(self.millis);
            if next >= end {
                self.millis = end;
                return;
            }
            self.millis = next;
            self.step(node, cloud);
        }
    }

    fn step(&mut self, node: Option<u64>, cloud: u64) {
        let due = self.events.first_key_value().map(|(at, _)| *at).filter(|(at, _)| *at <= self.millis);
        if let Some(event) = due.and_then(|at| self.events.remove(&at)) {
            self.happen(event);
        } else if node.is_some_and(|at| at <= self.millis) {
            let now = self.now();
            let before = self.node.as_ref().and_then(Node::deadline);
            if let Some(node) = &mut self.node {
                node.on_deadline(now);
                assert!(node.deadline() != before || before.is_none_or(|(at, _)| at > now.mono), "a deadline that does not move: {before:?}");
            }
        } else if cloud <= self.millis {
            let now = self.cloud_now();
            self.cloud.on_deadline(now);
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Node(Input::Received(..)) if self.network == Network::Frozen => {}
            Event::Node(input) => {
                if let Some(node) = &mut self.node {
                    node.handle(now, input);
                }
            }
            Event::Cloud(session, text) => {
                if self.network == Network::Up {
                    self.cloud_hears(session, &text);
                }
            }
            Event::Write => {
                if let Some(ticket) = self.disk.write() {
                    self.later(0, Event::Node(Input::Stored(ticket)));
                }
            }
            Event::BrokerReads => self.broker.read_again(),
            Event::Dialed(session) => self.dialed(session),
            Event::Op(op) => {
                let result = self.obey(&op);
                let changes = matches!(op.step, Step::MakeSandbox(_) | Step::Start(_) | Step::Stop { .. } | Step::Remove { .. });
                let failed = result.is_err() && !matches!(op.step, Step::EnsureImage(_));
                let looks = changes || failed || matches!(op.step, Step::Look);
                if looks {
                    self.runtime.is_read(self.millis, &op.pod);
                }
                let seen = if looks && !self.runtime.is_unseen(&op.pod) { Some(self.runtime.look(&op.pod).unwrap_or_else(|| nothing(&op.pod))) } else { None };
                self.later(0, Event::Node(Input::Done { op: op.id, pod: op.pod, result, seen }));
            }
            Event::Late(op) => {
                self.carry_out(&op.pod, &op.step);
                self.tell_seen(&op.pod);
            }
            Event::EndsSoon(uid, step) => {
                self.runtime.ends_soon(now.wall, &uid, step);
                self.tell_seen(&uid);
            }
            Event::Listed => {
                let all = self.runtime.pods.values().cloned().collect();
                self.later(0, Event::Node(Input::Relisted(all)));
                self.later(0, Event::Node(Input::Images(self.runtime.images())));
            }
            Event::Ends(id) => {
                if let Some(uid) = self.runtime.end_by_itself(now.wall, &id) {
                    self.tell_seen(&uid);
                }
            }
        }
    }

    fn dialed(&mut self, session: Session) {
        let input = match self.network {
            Network::Up => {
                let now = self.cloud_now();
                let other = self.cloud.connected(now, "edge");
                self.sessions.clear();
                self.sessions.insert(session, other);
                Input::LinkUp(session)
            }
            Network::Cut => Input::LinkDown { session, end: LinkEnd::Refused("cut".to_owned()) },
            Network::Frozen => Input::LinkDown { session, end: LinkEnd::Unreachable("no answer".to_owned()) },
        };
        self.later(0, Event::Node(input));
    }

    fn cloud_hears(&mut self, session: hub::Session, text: &str) {
        let message = Message::parse(text).expect("the node sends JSON");
        if message.route.operation == operation::RESPONSE {
            self.check_ack(&message.header.parent_msg_id);
        }
        let of = message.resource().map_or_else(|| message.route.resource.clone(), |resource| resource.kind);
        let canned = self.canned.iter().find(|((operation, kind), _)| *operation == message.route.operation && *kind == of).map(|(_, canned)| canned.clone());
        *self.traffic.entry((message.route.operation.clone(), of)).or_default() += 1;
        if let Some(canned) = canned {
            return self.answer_canned(session, &message, &canned);
        }
        let now = self.cloud_now();
        self.cloud.received(now, session, &message, &NoSecret);
    }

    fn answer_canned(&mut self, session: hub::Session, request: &Message, canned: &Canned) {
        let Some(own) = self.sessions.iter().find(|(_, other)| **other == session).map(|(own, _)| *own) else { return };
        let (content, times, parent) = match canned {
            Canned::Silence => return,
            Canned::Content(content) => (content, 1, request.header.msg_id.as_str()),
            Canned::Twice(content) => (content, 2, request.header.msg_id.as_str()),
            Canned::Foreign(content) => (content, 1, "nobody"),
        };
        for number in 0..times {
            let mut answer = request.clone();
            answer.header.msg_id = format!("answer {number} to {}", request.header.msg_id);
            parent.clone_into(&mut answer.header.parent_msg_id);
            EDGE_CONTROLLER.clone_into(&mut answer.route.source);
            RESOURCE.clone_into(&mut answer.route.group);
            operation::RESPONSE.clone_into(&mut answer.route.operation);
            answer.content = raw(content);
            self.later(1 + number, Event::Node(Input::Received(own, Box::new(answer))));
        }
    }

    /// Disk before deed: what is acknowledged is on disk.
    fn check_ack(&mut self, id: &str) {
        let Some(Sent { resource, verb, object }) = self.sent.remove(id) else { return };
        if resource.kind != kind::POD {
            return;
        }
        let uid = &object["metadata"]["uid"];
        let stored = self.stored(&resource).filter(|stored| stored["metadata"]["uid"] == *uid);
        if verb == operation::DELETE {
            assert!(stored.is_none(), "the end of '{resource}' was acknowledged before it was on disk");
            return;
        }
        let Some(stored) = stored else {
            let now = self.cloud.objects().get(&objects::name(kind::POD, &resource.namespace, &resource.name));
            let is_gone = now.is_none_or(|pod| pod["metadata"]["uid"] != *uid);
            assert!(is_gone, "'{resource}' was acknowledged before it was on disk");
            return;
        };
        // A later version may be there already.
        if desired(&stored) != desired(&object) {
            let sent = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
            let stored = self.stored_version(&resource);
            assert!(stored > sent, "'{resource}' was acknowledged at version {sent:?} with {stored:?} on disk");
        }
    }

    /// An object as it is on disk.
    fn stored(&self, resource: &Resource) -> Option<Value> {
        let row = self.disk.rows.get(&Key::Object(resource.to_string().into()))?;
        let Row::Object(json) = row else { panic!("{row:?} under the key of an object") };
        serde_json::from_str(json).ok()
    }

    /// The version of an object that is on disk.
    fn stored_version(&self, resource: &Resource) -> Option<u64> {
        let row = self.disk.rows.get(&Key::Version(resource.to_string().into()))?;
        let Row::Version(version) = row else { panic!("{row:?} under the key of a version") };
        Some(*version)
    }

    /// Brings what everybody has to say to whom it is for.
    fn drain(&mut self) {
        while let Some(order) = self.cloud.poll() {
            self.deliver_to_node(order);
        }
        while self.cloud.poll_news().is_some() {}
        let Some(mut node) = self.node.take() else { return };
        while let Some(batch) = node.poll_store() {
            self.disk.waiting.push_back(batch);
            let takes = 2 + self.pick(8);
            self.later(takes, Event::Write);
        }
        while let Some(order) = node.poll_cloud() {
            self.deliver_to_cloud(order);
        }
        while let Some(order) = node.poll_runtime() {
            self.deliver_to_runtime(order);
        }
        while self.broker.reads()
            && let Some(order) = node.poll_bus(self.now())
        {
            if self.broker.has_read() {
                self.later(1, Event::BrokerReads);
            }
            self.broker.obey(order).into_iter().for_each(|input| self.later(1, Event::Node(input)));
        }
        while let Some(order) = node.poll_dmi() {
            if let Some(input) = self.mappers.obey(order) {
                self.later(5, Event::Node(input));
            }
        }
        while let Some(order) = node.poll_service() {
            self.deliver_to_apps(order);
        }
        while let Some((_, answer)) = node.poll_answer() {
            self.answer = answer;
        }
        self.node = Some(node);
    }

    fn deliver_to_node(&mut self, order: hub::Order) {
        let of = |session: hub::Session, sessions: &BTreeMap<Session, hub::Session>| sessions.iter().find(|(_, other)| **other == session).map(|(own, _)| *own);
        match order {
            hub::Order::Send(session, message) => {
                let Some(own) = of(session, &self.sessions) else { return };
                if self.network != Network::Up {
                    return;
                }
                if let Some(resource) = message.resource() {
                    let content: Value = serde_json::from_str(message.content.get()).unwrap_or_default();
                    let sent = Sent { resource, verb: message.route.operation.clone(), object: content };
                    self.sent.insert(message.header.msg_id.clone(), sent);
                }
                let message = Message::parse(&message.text()).expect("the cloud sends JSON");
                self.later(1, Event::Node(Input::Received(own, Box::new(message))));
            }
            hub::Order::Close(session) => {
                if let Some(own) = of(session, &self.sessions) {
                    self.sessions.remove(&own);
                    if self.network == Network::Up {
                        self.later(1, Event::Node(Input::LinkDown { session: own, end: LinkEnd::Closed("the cloud closed it".to_owned()) }));
                    }
                }
            }
        }
    }

    fn deliver_to_cloud(&mut self, order: link::Order) {
        match order {
            link::Order::Dial(session) => {
                self.dials += 1;
                let takes = if self.network == Network::Frozen { 30_000 } else { 3 };
                self.later(takes, Event::Dialed(session));
            }
            link::Order::Send(session, message) => {
                if let Some(other) = self.sessions.get(&session).copied() {
                    self.later(1, Event::Cloud(other, message.text()));
                }
            }
            link::Order::HangUp(session) => {
                if let Some(other) = self.sessions.remove(&session)
                    && self.network == Network::Up
                {
                    self.cloud.disconnected(other);
                }
                self.later(1, Event::Node(Input::LinkDown { session, end: LinkEnd::HungUp }));
            }
        }
    }

    /// No app listens on this node.
    fn deliver_to_apps(&mut self, order: service::Order) {
        match order {
            service::Order::Listen => self.listens_for_apps = true,
            service::Order::Close => self.listens_for_apps = false,
            service::Order::Call(id, _) => {
                let called = Called::Unreachable("connection refused".to_owned());
                self.later(2, Event::Node(Input::ServiceAnswered { id, called }));
            }
            service::Order::Reply(..) => {}
        }
    }

    fn deliver_to_runtime(&mut self, order: Order) {
        match order {
            Order::Op(op) => {
                let own = self.cloud.objects().of(kind::POD).find(|(_, pod)| pod["metadata"]["uid"] == op.pod.as_str());
                let name = own.map(|(name, _)| name.2.clone());
                self.runtime.ask(self.millis, &op.pod, name, &op.step);
                let is_silent = self.runtime.answer_to(&op.pod, op.step.name()) == Some(Answer::Silence);
                let takes = if is_silent { answer::LIMIT } else { self.runtime.takes(&op.step) };
                self.later(takes, Event::Op(op));
            }
            Order::Cancel(id) => self.cancel(id),
            Order::Probe(probe) => {
                let result = self.runtime.answer(&probe);
                let answer = Input::Probed { pod: probe.pod, container: probe.container, kind: probe.kind, result };
                self.later(1, Event::Node(answer));
            }
            Order::Measure(pods) => {
                let usage = pods.iter().map(|(uid, key)| self.runtime.usage(uid, key)).collect();
                self.later(5, Event::Node(Input::Usage(usage)));
            }
            Order::RemoveImage(id) => self.runtime.remove_image(&id),
            Order::Weigh(_) => {}
        }
    }

    /// The runtime does what it is asked, or not.
    fn obey(&mut self, op: &Op) -> Result<Outcome, Failure> {
        let answer = self.runtime.answer_to(&op.pod, op.step.name());
        if answer == Some(Answer::ShortLived) {
            self.later(1000, Event::EndsSoon(op.pod.clone(), op.step.name()));
        }
        let done = answer.is_none_or(Answer::is_done).then(|| {
            let (result, later) = self.runtime.carry_out(self.wall(), &op.pod, &op.step);
            if let Later::End(id, after) = later {
                self.later(after, Event::Ends(id));
            }
            result
        });
        answer.and_then(|answer| answer.result(&op.step)).or(done).expect("it was done or answered")
    }

    /// An op is given up; what makes something may still do so.
    fn cancel(&mut self, id: OpId) {
        let at = self.events.iter().find(|(_, event)| matches!(event, Event::Op(op) if op.id == id)).map(|(at, _)| *at);
        let Some((at, Event::Op(op))) = at.and_then(|at| Some((at, self.events.remove(&at)?))) else { return };
        if matches!(op.step, Step::MakeSandbox(_) | Step::Start(_)) && self.pick(2) == 0 {
            self.events.insert(at, Event::Late(op));
        }
    }

    // ---- what people do and see ----

    /// A pod from its name, its containers' commands and more of its spec.
    pub fn apply_pod(&mut self, name: &str, command: &[&str], more: Value) {
        let mut spec = json!({ "terminationGracePeriodSeconds": 2, "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "busybox:1", "command": command }] });
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        self.apply(json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": spec }));
    }

    pub fn apply(&mut self, manifest: Value) {
        let now = self.cloud_now();
        self.cloud.apply(now, manifest).expect("the stand-in takes it");
    }

    /// As `kubectl annotate pod` does.
    pub fn annotate(&mut self, name: &str) {
        let mut pod = self.pod(name).expect("it is there").clone();
        pod["metadata"]["annotations"]["migrated"] = "1".into();
        self.apply(pod);
    }

    /// Somebody changes a pod in a way that no rule of the API server allows.
    pub fn edit_pod(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let now = self.cloud_now();
        self.cloud.edit(now, &objects::name(kind::POD, "default", name), change).expect("it is there");
    }

    pub fn delete_object(&mut self, kind: &str, name: &str) {
        let now = self.cloud_now();
        let _ = self.cloud.delete(now, &objects::name(kind, "default", name), None);
    }

    /// CloudCore ends or starts again; the API server stays.
    pub fn set_cloudcore(&mut self, up: bool) {
        let now = self.cloud_now();
        if up {
            self.cloud.come_back(now);
            self.set_network(Network::Up);
        } else {
            self.set_network(Network::Cut);
            self.cloud.go_away();
        }
    }

    /// As `kubectl delete node` does.
    pub fn delete_node(&mut self) {
        let now = self.cloud_now();
        self.cloud.delete(now, &objects::name(kind::NODE, "", "edge"), None).expect("it is there");
    }

    /// Somebody else creates the Node object.
    pub fn create_node(&mut self) {
        let now = self.cloud_now();
        let labels = json!({ "node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": "" });
        self.cloud.create_node(now, json!({ "metadata": { "name": "edge", "labels": labels } }));
    }

    /// What the agent warns of, as `selvedge status` shows it.
    pub fn warning(&mut self) -> Option<String> {
        self.ask(Ask::Status)["cloud"]["warning"].as_str().map(str::to_owned)
    }

    pub fn delete(&mut self, name: &str, grace: Option<i64>) {
        let now = self.cloud_now();
        let _ = self.cloud.delete(now, &objects::name(kind::POD, "default", name), grace);
    }

    pub fn pod(&self, name: &str) -> Option<&Value> {
        self.cloud.objects().get(&objects::name(kind::POD, "default", name))
    }

    pub fn phase(&self, name: &str) -> Option<&str> {
        self.pod(name)?["status"]["phase"].as_str()
    }

    pub fn is_ready(&self, name: &str) -> bool {
        self.pod(name).is_some_and(|pod| condition(pod, "Ready") == Some("True"))
    }

    pub fn node_ready(&self) -> Option<&str> {
        condition(self.cloud.objects().get(&objects::name(kind::NODE, "", "edge"))?, "Ready")
    }

    /// Events of a pod that the cloud has, by reason and message, and how often
    /// each happened.
    pub fn events_of(&self, pod: &str) -> BTreeMap<(String, String), i64> {
        let text = |event: &Value, member: &str| event[member].as_str().unwrap_or_default().to_owned();
        let of_pod = |event: &&Value| event["involvedObject"]["name"] == pod;
        let all = self.cloud.objects().of(kind::EVENT).map(|(_, event)| event).filter(of_pod);
        let mut counts = BTreeMap::new();
        for event in all {
            *counts.entry((text(event, "reason"), text(event, "message"))).or_default() += event["count"].as_i64().unwrap_or(0);
        }
        counts
    }

    /// Names of the pods that have directories.
    pub fn directories(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.runtime.directories.values().map(|key| key.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// All pods of the cluster.
    pub fn pods(&self) -> Vec<(Name, Value)> {
        self.cloud.objects().of(kind::POD).map(|(name, pod)| (name.clone(), pod.clone())).collect()
    }
}

/// What an object says of what shall be: all that a node must keep of it.
fn desired(object: &Value) -> [Option<Value>; 5] {
    let member = |of: &Value, name: &str| {
        let mut value = of.get(name)?.clone();
        drop_nulls(&mut value);
        (!value.is_null()).then_some(value)
    };
    let metadata = &object["metadata"];
    let [labels, annotations] = ["labels", "annotations"].map(|name| member(metadata, name));
    [member(object, "spec"), labels, annotations, member(metadata, "deletionTimestamp"), member(metadata, "deletionGracePeriodSeconds")]
}

fn nothing(uid: &PodUid) -> selvedge::node::runtime::PodSeen {
    let key = selvedge::node::ids::PodKey { namespace: String::new(), name: String::new() };
    selvedge::node::runtime::PodSeen { uid: uid.clone(), key, sandboxes: Vec::new(), containers: Vec::new() }
}

fn machine() -> Facts {
    Facts {
        hostname: "edge".to_owned(),
        ips: vec!["192.0.2.7".to_owned()],
        cpus: 4,
        memory: 1 << 30,
        memory_available: 1 << 29,
        disk: 1 << 34,
        disk_available: 1 << 33,
        inodes: 1 << 20,
        inodes_available: 1 << 19,
        pids: 32768,
        pids_used: 100,
        arch: "arm64",
        ..Facts::default()
    }
}
