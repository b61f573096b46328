//! The broker itself, pure: who is connected, who wants what, and what goes to
//! whom. No clock, no socket: time is an argument, bytes are taken by `fill`.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{ConnectReturnCode, SubAck, Subscribe, SubscribeReasonCode};

use super::access::Access;
use super::clients::Clients;
use super::packet::{self, Answer, Connect, Fault, Packet, Publication};
use super::peer::{ANSWERS, Peer, State};
use super::retained::Retained;
use super::session::{Place, lower};
use super::{Client, Connection};

/// Connections that may wait for their first packet besides all clients.
const STRANGERS: usize = 16;
/// Written at once to a client.
const CHUNK: usize = 16 << 10;
/// Branches of topics looked at for kept messages before others have their
/// turn: well below a millisecond.
const STEPS: usize = 4096;
/// Lines about clients at fault in a minute; anybody can cause them.
const LINES: u32 = 20;

/// Bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Clients, those away included.
    pub clients: usize,
    /// Bytes that wait for a client.
    pub queue: usize,
    /// Bytes of retained messages.
    pub retained: usize,
}

/// What the sockets must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Something can be written: `fill`.
    Write(Connection),
    /// Close it, now.
    Close(Connection),
    /// The next deadline may be earlier than it was.
    Rearm,
}

/// The broker.
#[derive(Debug)]
pub struct Router {
    limits: Limits,
    access: Access,
    /// Beginning of names for those who have none.
    seed: u64,
    last: u64,
    peers: BTreeMap<Connection, Peer>,
    clients: Clients,
    retained: Retained,
    orders: VecDeque<Order>,
    found: Vec<(Client, QoS)>,
    lines: (Duration, u32),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By DISCONNECT.
    Wanted,
    /// In any other way.
    Lost,
}

impl Router {
    /// Nobody yet; `seed` keeps generated names apart from those of others.
    pub fn new(limits: Limits, access: Access, seed: u64) -> Self {
        Self {
            limits,
            access,
            seed,
            last: 0,
            peers: BTreeMap::new(),
            clients: Clients::default(),
            retained: Retained::new(limits.retained),
            orders: VecDeque::new(),
            found: Vec::new(),
            lines: (Duration::ZERO, 0),
        }
    }

    /// Somebody connected; `None` when there are too many already.
    pub fn connected(&mut self, now: Duration, trusted: bool) -> Option<Connection> {
        if !trusted && self.peers.len() >= self.limits.clients + STRANGERS {
            self.complain(now, format_args!("{} connections are too many", self.peers.len() + 1));
            return None;
        }
        let connection = Connection(self.number());
        self.peers.insert(connection, Peer::new(now, trusted));
        self.orders.push_back(Order::Rearm);
        Some(connection)
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Keeps a message of the broker's own for who asks.
    pub fn keep(&mut self, message: packet::Message) {
        self.retained.put(&Rc::new(message), QoS::AtMostOnce);
    }

    /// A packet came.
    pub fn received(&mut self, now: Duration, connection: Connection, packet: Packet) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        match (&mut peer.state, packet) {
            (State::Leaving { .. }, _) => {}
            (State::Silent { .. }, Packet::Connect(connect)) => self.connect(now, connection, *connect),
            (State::Silent { .. }, Packet::Foreign(level)) => {
                self.complain(now, format_args!("a client of protocol level {level} is refused: 3.1 and 3.1.1 are spoken here"));
                self.refuse(now, connection, ConnectReturnCode::RefusedProtocolVersion);
            }
            (State::Silent { .. }, _) => self.faulty(now, connection, &Fault::Malformed("the first packet is no CONNECT".to_owned())),
            (State::Live { client, heard, .. }, packet) => {
                *heard = now;
                let client = *client;
                self.said(now, connection, client, packet);
            }
        }
    }

    fn said(&mut self, now: Duration, connection: Connection, client: Client, packet: Packet) {
        let Some(session) = self.clients.get_mut(client) else { return };
        match packet {
            Packet::Publish(publication, id) => self.came(now, connection, client, publication, id),
            Packet::PubAck(id) => {
                session.outbox.acknowledged(id);
                self.stir(connection);
            }
            Packet::PubRec(id) => {
                if let Some(answer) = session.outbox.received(id) {
                    self.answer(connection, answer);
                }
            }
            Packet::PubComp(id) => {
                session.outbox.completed(id);
                self.stir(connection);
            }
            Packet::PubRel(id) => {
                session.released(id);
                self.answer(connection, Answer::PubComp(id));
            }
            Packet::Subscribe(subscribe) => self.subscribe(now, connection, client, &subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                unsubscribe.topics.iter().for_each(|filter| self.clients.unsubscribe(client, filter));
                self.answer(connection, Answer::UnsubAck(unsubscribe.pkid));
            }
            Packet::PingReq => self.answer(connection, Answer::PingResp),
            Packet::Disconnect => self.end(now, connection, End::Wanted),
            Packet::Connect(_) | Packet::Foreign(_) => self.faulty(now, connection, &Fault::Malformed("a second CONNECT".to_owned())),
        }
    }

    /// A message came. QoS 2 is passed on at once, and known by its id until it
    /// is released.
    fn came(&mut self, now: Duration, connection: Connection, client: Client, publication: Publication, id: u16) {
        match publication.qos {
            QoS::AtMostOnce => self.publish(now, publication),
            QoS::AtLeastOnce => {
                self.publish(now, publication);
                self.answer(connection, Answer::PubAck(id));
            }
            QoS::ExactlyOnce => match self.clients.get_mut(client).and_then(|session| session.came(id)) {
                Some(new) => {
                    if new {
                        self.publish(now, publication);
                    }
                    self.answer(connection, Answer::PubRec(id));
                }
                None => self.faulty(now, connection, &Fault::Malformed("too many messages of QoS 2 without PUBREL".to_owned())),
            },
        }
    }

    /// Passes a message on, once to each client, as surely as its surest filter
    /// wants.
    fn publish(&mut self, now: Duration, publication: Publication) {
        let Publication { message, qos, retain } = publication;
        let message = Rc::new(message);
        if retain && !self.retained.put(&message, qos) {
            self.complain(now, format_args!("broker.retained is full: '{}' is not kept", message.topic.escape_debug()));
        }
        let mut found = std::mem::take(&mut self.found);
        self.clients.wanting(&message.topic, &mut found);
        for (client, wanted) in found.drain(..) {
            self.offer(now, client, &message, lower(qos, wanted));
        }
        self.found = found;
    }

    fn offer(&mut self, now: Duration, client: Client, message: &Rc<packet::Message>, qos: QoS) {
        let Some(session) = self.clients.get_mut(client) else { return };
        let place = session.place;
        if qos == QoS::AtMostOnce && matches!(place, Place::Away(_)) {
            return;
        }
        let dropped = session.outbox.put(message.clone(), qos, false);
        if let Some(all) = session.note_dropped(now, dropped) {
            let name = session.name.clone();
            self.complain(now, format_args!("client '{}' is too slow or away: {all} messages for it dropped so far", shown(&name)));
        }
        if let Place::On(connection) = place {
            self.stir(connection);
        }
    }

    fn subscribe(&mut self, now: Duration, connection: Connection, client: Client, subscribe: &Subscribe) {
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for wanted in &subscribe.filters {
            let taken = self.clients.subscribe(client, &wanted.path, wanted.qos);
            if let Err(why) = taken {
                let name = self.client_of(connection);
                self.complain(now, format_args!("client {name} may not subscribe '{}': {why}", shown(&wanted.path)));
            }
            codes.push(taken.map_or(SubscribeReasonCode::Failure, |()| SubscribeReasonCode::Success(wanted.qos)));
        }
        if let Some(peer) = self.peers.get_mut(&connection) {
            packet::write_suback(&mut peer.answers, &SubAck::new(subscribe.pkid, codes));
        }
        self.stir(connection);
    }

    fn connect(&mut self, now: Duration, connection: Connection, connect: Connect) {
        let trusted = self.peers.get(&connection).is_some_and(|peer| peer.trusted);
        if let Err(code) = if trusted { Ok(()) } else { self.access.check(&connect) } {
            self.complain(now, format_args!("client '{}' is refused: no such user and password", shown(&connect.client)));
            return self.refuse(now, connection, code);
        }
        let Some(name) = self.name(&connect) else { return self.refuse(now, connection, ConnectReturnCode::BadClientId) };
        if let Some(Place::On(other)) = self.clients.named(&name).map(|session| session.place) {
            if !trusted && self.peers.get(&other).is_some_and(|peer| peer.trusted) {
                self.complain(now, format_args!("client '{}' is refused: the agent has that name", shown(&name)));
                return self.refuse(now, connection, ConnectReturnCode::BadClientId);
            }
            log::debug!(target: "broker", "client '{}' came again by another connection", shown(&name));
            self.end(now, other, End::Lost);
        }
        if connect.clean {
            self.clients.forget(&name);
        }
        let present = self.clients.named(&name).is_some();
        if !present && !trusted && self.clients.count() >= self.limits.clients && !self.make_room(now) {
            self.complain(now, format_args!("client '{}' is refused: there are broker.max_clients already", shown(&name)));
            return self.refuse(now, connection, ConnectReturnCode::ServiceUnavailable);
        }
        let client = self.clients.enter(name, connect.clean, connection, self.limits.queue);
        if let Some(peer) = self.peers.get_mut(&connection) {
            // 3.1 has no bit for the session.
            packet::write_connack(&mut peer.answers, ConnectReturnCode::Success, present && !connect.old);
            peer.live(now, client, connect.keepalive, connect.will);
        }
        self.orders.push_back(Order::Rearm);
        self.stir(connection);
    }

    /// The client's name, or one made for it if nothing shall outlive the
    /// connection anyway.
    fn name(&mut self, connect: &Connect) -> Option<String> {
        if !connect.client.is_empty() {
            return Some(connect.client.clone());
        }
        let number = self.number();
        (connect.clean && !connect.old).then(|| format!("auto-{:016x}-{number}", self.seed))
    }

    /// Forgets one who is away for one who is here.
    fn make_room(&mut self, now: Duration) -> bool {
        let Some(name) = self.clients.longest_away() else { return false };
        self.complain(now, format_args!("there are broker.max_clients: client '{}', longest away, is forgotten", shown(&name)));
        self.clients.forget(&name);
        true
    }

    fn refuse(&mut self, now: Duration, connection: Connection, code: ConnectReturnCode) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            packet::write_connack(&mut peer.answers, code, false);
            peer.leave(now);
        }
        self.orders.push_back(Order::Rearm);
        self.stir(connection);
    }

    /// What came is no packet of a client: the connection ends.
    pub fn faulty(&mut self, now: Duration, connection: Connection, fault: &Fault) {
        let name = self.client_of(connection);
        self.complain(now, format_args!("client {name} is disconnected: {fault}"));
        self.end(now, connection, End::Lost);
    }

    /// The connection ended by itself.
    pub fn lost(&mut self, now: Duration, connection: Connection) {
        self.end(now, connection, End::Lost);
    }

    fn client_of(&self, connection: Connection) -> String {
        match self.peers.get(&connection).map(|peer| &peer.state) {
            Some(State::Live { client, .. }) => self.clients.get(*client).map_or_else(String::new, |session| format!("'{}'", shown(&session.name))),
            Some(State::Silent { .. } | State::Leaving { .. }) | None => "without a name".to_owned(),
        }
    }

    fn end(&mut self, now: Duration, connection: Connection, end: End) {
        let Some(peer) = self.peers.remove(&connection) else { return };
        self.orders.push_back(Order::Close(connection));
        let State::Live { client, will, .. } = peer.state else { return };
        self.clients.leave(now, client);
        if let Some(will) = will.filter(|_| end == End::Lost) {
            self.publish(now, will);
        }
    }

    fn answer(&mut self, connection: Connection, answer: Answer) {
        if let Some(peer) = self.peers.get_mut(&connection) {
            packet::write_answer(&mut peer.answers, answer);
        }
        self.stir(connection);
    }

    fn stir(&mut self, connection: Connection) {
        if let Some(peer) = self.peers.get_mut(&connection).filter(|peer| !peer.stirred) {
            peer.stirred = true;
            self.orders.push_back(Order::Write(connection));
        }
    }

    /// What the sockets must do next.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Takes what is to be written now; nothing when there is nothing, until
    /// `Order::Write` comes again.
    pub fn fill(&mut self, now: Duration, connection: Connection, out: &mut BytesMut) {
        let Some(peer) = self.peers.get_mut(&connection) else { return };
        peer.stirred = false;
        out.extend_from_slice(&peer.answers);
        peer.answers = BytesMut::new();
        match peer.state {
            State::Live { client, .. } => {
                let Some(session) = self.clients.get_mut(client) else { return };
                session.greet(&self.retained, STEPS);
                while out.len() < CHUNK && session.outbox.write_next(out) {}
                if session.is_greeting() {
                    self.stir(connection);
                }
            }
            State::Leaving { .. } if out.is_empty() => self.end(now, connection, End::Lost),
            State::Leaving { .. } | State::Silent { .. } => {}
        }
    }

    /// So many answers wait that the client must read some before it is heard
    /// again.
    pub fn is_choked(&self, connection: Connection) -> bool {
        self.peers.get(&connection).is_some_and(|peer| peer.answers.len() > ANSWERS)
    }

    /// When to come back. Hearing from a client only moves it on.
    pub fn deadline(&self) -> Option<Duration> {
        self.peers.values().filter_map(Peer::deadline).min()
    }

    /// Ends those who let their time pass.
    pub fn on_deadline(&mut self, now: Duration) {
        let late = |(connection, peer): (&Connection, &Peer)| peer.deadline().is_some_and(|at| at <= now).then_some(*connection);
        for connection in self.peers.iter().filter_map(late).collect::<Vec<_>>() {
            log::debug!(target: "broker", "client {} says nothing", self.client_of(connection));
            self.end(now, connection, End::Lost);
        }
    }

    /// Warns, unless there was too much to warn of in this minute.
    fn complain(&mut self, now: Duration, what: std::fmt::Arguments<'_>) {
        let (since, count) = &mut self.lines;
        if now.saturating_sub(*since) >= Duration::from_secs(60) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        match (*count).cmp(&LINES) {
            std::cmp::Ordering::Less => log::warn!(target: "broker", "{what}"),
            std::cmp::Ordering::Equal => log::warn!(target: "broker", "{what}; more of this minute is not shown"),
            std::cmp::Ordering::Greater => log::debug!(target: "broker", "{what}"),
        }
    }
}

/// A client's name as it may be shown: it can hold anything.
fn shown(name: &str) -> String {
    name.escape_debug().take(64).collect()
}

#[cfg(test)]
mod kept;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
