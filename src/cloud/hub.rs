//! Sessions and reliable delivery as CloudHub does them: one object in flight
//! per node, repeated until acknowledged, coalesced by uid, compared every 5 s
//! with what the node acknowledged. It knows objects only by uid and version.
//!
//! Source: cloud-protocol.md 5 and 6.3.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::objects::{self, Name, Objects};
use crate::wire::message::{Header, Message, RESOURCE, Route, operation, raw};

/// Without a keepalive for so long, a session ends. Milliseconds, as all here.
const KEEPALIVE: i64 = 30_000;
/// An object that is not acknowledged is sent again after this.
const REPEAT: i64 = 5_000;
/// So often; then the next object has its turn.
const TRIES: u32 = 5;
/// How often what nodes acknowledged is compared with what there is.
const RESYNC: i64 = 5_000;

/// What is remembered of a node that was deleted is gone after this, unless
/// there is a new node of its name by then.
const CLEAN_UP: i64 = 5_000;

/// A connection of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session(pub u64);

/// What the sockets must do.
#[derive(Debug)]
pub enum Order {
    /// Send a message.
    Send(Session, Box<Message>),
    /// Close a connection.
    Close(Session),
}

/// All nodes that ever had an object.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Hub {
    nodes: BTreeMap<String, Peer>,
    /// Nodes that were deleted, and when what is remembered of them is gone.
    #[serde(skip)]
    deleted: BTreeMap<String, i64>,
    /// Nodes of which something is remembered that belongs to a deleted one.
    #[serde(skip)]
    leftover: BTreeSet<String>,
    #[serde(skip)]
    last: u64,
    #[serde(skip)]
    resync: i64,
    #[serde(skip)]
    orders: VecDeque<Order>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Peer {
    /// What the node acknowledged, by uid (ObjectSync).
    #[serde(with = "objects::pairs")]
    known: BTreeMap<String, (Name, u64)>,
    #[serde(skip)]
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    session: Session,
    pulse: i64,
    queue: VecDeque<Parcel>,
    flight: Option<Flight>,
}

/// An object on its way.
#[derive(Debug)]
struct Parcel {
    uid: String,
    version: u64,
    name: Name,
    gone: bool,
    message: Box<Message>,
}

#[derive(Debug)]
struct Flight {
    parcel: Parcel,
    sent: i64,
    tries: u32,
}

/// A message of a controller about an object.
pub fn message(id: String, wall: i64, source: &str, verb: &str, name: &Name, object: &Value) -> Message {
    let (kind, namespace, name) = name;
    Message {
        header: Header {
            msg_id: id,
            timestamp: wall,
            resourceversion: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            ..Header::default()
        },
        route: Route {
            source: source.to_owned(),
            group: RESOURCE.to_owned(),
            operation: verb.to_owned(),
            resource: format!("{namespace}/{kind}/{name}"),
            ..Route::default()
        },
        content: raw(object),
    }
}

impl Hub {
    /// The node of a session that is still its newest.
    pub fn node(&self, session: Session) -> Option<&str> {
        self.nodes.iter().find(|(_, peer)| peer.live.as_ref().is_some_and(|live| live.session == session)).map(|(name, _)| name.as_str())
    }

    /// The session of a node that is connected.
    pub fn session(&self, node: &str) -> Option<Session> {
        self.nodes.get(node)?.live.as_ref().map(|live| live.session)
    }

    /// The nodes that are connected.
    pub fn connected_nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().filter(|(_, peer)| peer.live.is_some()).map(|(node, _)| node.as_str())
    }

    /// A node connects; an older connection of it is closed, and what was
    /// queued is forgotten.
    pub fn connected(&mut self, mono: i64, node: &str) -> Session {
        self.last += 1;
        let session = Session(self.last);
        let live = Live { session, pulse: mono, queue: VecDeque::new(), flight: None };
        if let Some(old) = self.nodes.entry(node.to_owned()).or_default().live.replace(live) {
            self.orders.push_back(Order::Close(old.session));
        }
        session
    }

    /// A connection ended.
    pub fn disconnected(&mut self, session: Session) {
        if let Some(peer) = self.peer(session) {
            peer.live = None;
        }
    }

    /// The node of a session.
    fn peer(&mut self, session: Session) -> Option<&mut Peer> {
        self.nodes.values_mut().find(|peer| peer.live.as_ref().is_some_and(|live| live.session == session))
    }

    /// What is remembered of an object is lost.
    pub fn forget_object(&mut self, uid: &str) {
        self.nodes.values_mut().for_each(|peer| drop(peer.known.remove(uid)));
    }

    /// A node is made. If what is remembered of an earlier one is still there,
    /// it stays, and each comparison takes this one for the deleted one.
    pub fn made(&mut self, mono: i64, node: &str) {
        if self.deleted.remove(node).is_some_and(|gone| mono < gone) {
            self.leftover.insert(node.to_owned());
        }
    }

    /// Somebody deletes by hand what is left over of a deleted node.
    pub fn remove_leftover(&mut self, node: &str) {
        self.leftover.remove(node);
    }

    /// A node is deleted: its connection is closed, what it had is forgotten.
    pub fn forget(&mut self, mono: i64, node: &str) {
        self.leftover.remove(node);
        self.deleted.insert(node.to_owned(), mono + CLEAN_UP);
        if let Some(live) = self.nodes.remove(node).and_then(|peer| peer.live) {
            self.orders.push_back(Order::Close(live.session));
        }
    }

    /// The pulse of a session.
    pub fn keepalive(&mut self, mono: i64, session: Session) {
        if let Some(live) = self.peer(session).and_then(|peer| peer.live.as_mut()) {
            live.pulse = mono;
        }
    }

    /// A message nobody acknowledges.
    pub fn direct(&mut self, session: Session, message: Message) {
        self.orders.push_back(Order::Send(session, Box::new(message)));
    }

    /// An object for a node, delivered until it is acknowledged. An answer to a
    /// question goes whatever the node knows.
    pub fn offer(&mut self, mono: i64, node: &str, name: &Name, object: &Value, message: Message) {
        let meta = &object["metadata"];
        let parcel = Parcel {
            uid: meta["uid"].as_str().unwrap_or_default().to_owned(),
            version: objects::version(object),
            name: name.clone(),
            gone: message.route.operation == operation::DELETE || meta["deletionTimestamp"].is_string(),
            message: Box::new(message),
        };
        let peer = self.nodes.entry(node.to_owned()).or_default();
        // Nothing is remembered of an object whose end is the first that is told.
        let known = match peer.known.get(&parcel.uid) {
            Some((_, version)) => *version,
            None if parcel.gone => 0,
            None => peer.known.entry(parcel.uid.clone()).or_insert((name.clone(), 0)).1,
        };
        let Some(live) = &mut peer.live else { return };
        if !parcel.gone && parcel.message.route.operation != operation::RESPONSE && parcel.version <= known {
            return;
        }
        match live.queue.iter_mut().find(|other| other.uid == parcel.uid && other.message.route.operation != operation::RESPONSE) {
            Some(other) if other.message.route.operation == operation::DELETE || other.version > parcel.version && !parcel.gone => {}
            Some(other) => *other = parcel,
            None => live.queue.push_back(parcel),
        }
        advance(live, mono, &mut self.orders);
    }

    /// The node acknowledged a message.
    pub fn acknowledged(&mut self, mono: i64, session: Session, id: &str) {
        let Some(peer) = self.nodes.values_mut().find(|peer| peer.live.as_ref().is_some_and(|live| live.session == session)) else { return };
        let Some(live) = &mut peer.live else { return };
        let Some(flight) = live.flight.take_if(|flight| flight.parcel.message.header.msg_id == id) else { return };
        let Parcel { uid, version, name, message, .. } = flight.parcel;
        if message.route.operation == operation::DELETE {
            peer.known.remove(&uid);
        } else {
            peer.known.insert(uid, (name, version));
        }
        advance(live, mono, &mut self.orders);
    }

    /// Nodes that have an object, by uid.
    pub fn holders(&self, uid: &str) -> Vec<String> {
        self.nodes.iter().filter(|(_, peer)| peer.known.contains_key(uid)).map(|(node, _)| node.clone()).collect()
    }

    /// What must be sent or closed.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When to come back.
    pub fn deadline(&self) -> i64 {
        let live = self.nodes.values().filter_map(|peer| peer.live.as_ref());
        live.flat_map(|live| [Some(live.pulse + KEEPALIVE), live.flight.as_ref().map(|flight| flight.sent + REPEAT)]).flatten().fold(self.resync, i64::min)
    }

    /// Repeats, gives up, ends mute sessions; returns what nodes should have
    /// and do not, when it is time to compare.
    pub fn on_deadline(&mut self, mono: i64, objects: &Objects) -> Vec<Missing> {
        for peer in self.nodes.values_mut() {
            if let Some(live) = peer.live.take_if(|live| live.pulse + KEEPALIVE <= mono) {
                self.orders.push_back(Order::Close(live.session));
            }
            if let Some(live) = &mut peer.live {
                repeat(live, mono, &mut self.orders);
            }
        }
        if mono < self.resync {
            return Vec::new();
        }
        self.resync = mono + RESYNC;
        for node in &self.leftover {
            let live = self.nodes.get_mut(node).and_then(|peer| peer.live.take());
            self.orders.extend(live.map(|live| Order::Close(live.session)));
        }
        self.nodes.iter().filter(|(_, peer)| peer.live.is_some()).flat_map(|(node, peer)| missing(node, peer, objects)).collect()
    }
}

/// Something a node has in another version than there is.
#[derive(Debug)]
pub struct Missing {
    /// The node.
    pub node: String,
    /// The object.
    pub name: Name,
    /// It, or what is left of it.
    pub object: Value,
    /// Whether it is gone.
    pub gone: bool,
}

fn missing(node: &str, peer: &Peer, objects: &Objects) -> Vec<Missing> {
    let queued =
        |uid: &str| peer.live.as_ref().is_some_and(|live| live.flight.iter().map(|flight| &flight.parcel).chain(&live.queue).any(|parcel| parcel.uid == uid));
    let compare = |(uid, (name, version)): (&String, &(Name, u64))| {
        let found = objects.get(name).filter(|object| object["metadata"]["uid"] == uid.as_str());
        let (object, gone) = match found {
            None => (serde_json::json!({ "metadata": { "name": name.2, "namespace": name.1, "uid": uid } }), true),
            Some(object) if objects::version(object) > *version => (object.clone(), false),
            Some(_) => return None,
        };
        (!queued(uid)).then(|| Missing { node: node.to_owned(), name: name.clone(), object, gone })
    };
    peer.known.iter().filter_map(compare).collect()
}

fn advance(live: &mut Live, mono: i64, orders: &mut VecDeque<Order>) {
    if live.flight.is_none()
        && let Some(parcel) = live.queue.pop_front()
    {
        orders.push_back(Order::Send(live.session, parcel.message.clone()));
        live.flight = Some(Flight { parcel, sent: mono, tries: 1 });
    }
}

fn repeat(live: &mut Live, mono: i64, orders: &mut VecDeque<Order>) {
    let Some(flight) = live.flight.as_mut().filter(|flight| flight.sent + REPEAT <= mono) else { return };
    if flight.tries < TRIES {
        flight.tries += 1;
        flight.sent = mono;
        orders.push_back(Order::Send(live.session, flight.parcel.message.clone()));
    } else if let Some(flight) = live.flight.take() {
        live.queue.push_back(flight.parcel);
        advance(live, mono, orders);
    }
}
