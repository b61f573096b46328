//! What we and the broker owe each other: packets that wait for the socket, our
//! messages without an acknowledgement, the broker's without ours. It outlives
//! connections and knows neither socket nor clock.
//!
//! Towards the broker a message is acknowledged when the node says it is safe.
//! A message of QoS 2 that was acknowledged is not handed over again while this
//! process lives; one that was not comes again with the next connection.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BytesMut};

use super::codec::{self, Message, QoS, Said, Step};
use crate::node::bus::{Order, Publication};
use crate::node::ids::Packet;

/// Bytes that may wait for the socket or for an acknowledgement.
const ROOM: usize = 1 << 20;
/// Messages of QoS 2 on their way at once. mosquitto takes 20 (its
/// `max_inflight_messages`) and of those beyond acknowledges every step, but
/// delivers none.
const WINDOW: usize = 16;
/// What a message costs besides its packet; with it, numbers never run out.
const OVERHEAD: usize = 64;
/// A buffer that grew beyond this is given back.
const BUFFER: usize = 64 << 10;

/// How messages are published.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// With which QoS.
    pub qos: QoS,
    /// The broker keeps the last one of a topic.
    pub retain: bool,
    /// Largest packet either way.
    pub max_packet: usize,
}

/// What somebody should know, once.
#[derive(Debug, PartialEq, Eq)]
pub enum Remark {
    /// There is no broker: this went nowhere.
    Unheard,
    /// Nothing can be published or subscribed there.
    NoTopic(String),
    /// Our own message is too large: topic and bytes.
    TooLargeToSend(String, usize),
    /// The broker's message is too large: topic and bytes.
    TooLargeToTake(String, usize),
    /// The broker does not give us this.
    FilterRefused(String),
}

/// One message of ours that is not acknowledged.
#[derive(Debug)]
struct Sent {
    order: u64,
    weight: usize,
    /// `None` when the broker has it and must only forget its number (QoS 2).
    message: Option<Message>,
}

/// The state of both sides.
#[derive(Debug)]
pub struct Session {
    manner: Manner,
    connection: u64,
    up: bool,
    out: BytesMut,
    remarks: Vec<Remark>,
    sent: BTreeMap<u16, Sent>,
    /// Weights of `sent` together.
    sent_weight: usize,
    /// Messages ever sent.
    count: u64,
    last_id: u16,
    /// Filters of a SUBSCRIBE without an answer.
    asked: BTreeMap<u16, Vec<String>>,
    /// Filters that the broker has taken and, as long as it keeps our session,
    /// has. To subscribe one again would bring every retained message again.
    /// Not on disk: a process that does not know what the broker has subscribes
    /// all, for a retained message that comes again does no harm, and a filter
    /// that is missing loses everything.
    subscribed: BTreeSet<String>,
    /// Filters that were given up without a connection.
    unwanted: BTreeSet<String>,
    /// The broker's QoS 2 messages that are in the node's hands.
    taken: BTreeSet<u16>,
    /// And those that are safe, until the broker forgets their numbers.
    safe: BTreeSet<u16>,
    /// Bytes of a too large packet still to come.
    skip: usize,
    /// Something came since the last `tick`.
    heard: bool,
    /// The oldest of `sent` at the last `tick`.
    oldest: Option<u64>,
}

impl Session {
    /// Nobody owes anything.
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            connection: 0,
            up: false,
            out: BytesMut::new(),
            remarks: Vec::new(),
            sent: BTreeMap::new(),
            sent_weight: 0,
            count: 0,
            last_id: 0,
            asked: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            taken: BTreeSet::new(),
            safe: BTreeSet::new(),
            skip: 0,
            heard: false,
            oldest: None,
        }
    }

    /// Another order may be handed over. Without a connection orders lead
    /// nowhere, and there is always room for that.
    pub fn room(&self) -> bool {
        let is_open = self.manner.qos != QoS::ExactlyOnce || self.sent.len() < WINDOW;
        !self.up || is_open && self.out.len() + self.sent_weight < ROOM
    }

    /// The broker let us in. What it may not have got is sent again.
    pub fn up(&mut self, kept: bool) {
        self.connection += 1;
        (self.up, self.heard, self.oldest) = (true, true, None);
        let unwanted = std::mem::take(&mut self.unwanted);
        if kept {
            unwanted.into_iter().for_each(|filter| self.unsubscribe(filter));
        } else {
            self.subscribed.clear();
            self.safe.clear();
            self.sent.retain(|_, sent| sent.message.is_some());
            self.sent_weight = self.sent.values().map(|sent| sent.weight).sum();
        }
        let mut again: Vec<(&u16, &mut Sent)> = self.sent.iter_mut().collect();
        again.sort_by_key(|(_, sent)| sent.order);
        for (&id, sent) in again {
            match &mut sent.message {
                Some(message) => codec::publish(&mut self.out, message, id, kept),
                None => codec::step(&mut self.out, Step::Release, id),
            }
        }
    }

    /// The connection is gone; whether there was one.
    pub fn down(&mut self) -> bool {
        self.out = BytesMut::new();
        self.asked.clear();
        self.taken.clear();
        self.skip = 0;
        std::mem::take(&mut self.up)
    }

    /// Takes an order of the node.
    pub fn hand(&mut self, order: Order) {
        match order {
            Order::Publish { .. } if !self.up => self.remarks.push(Remark::Unheard),
            Order::Publish { topic, payload } => self.publish(topic, payload),
            Order::Ack(packet) if self.up && packet.connection == self.connection => self.acknowledge(packet.id),
            Order::Subscribe(filters) if self.up => self.subscribe(filters),
            Order::Unsubscribe(filter) if !codec::is_filter(&filter) => {}
            Order::Unsubscribe(filter) if self.up => self.unsubscribe(filter),
            Order::Unsubscribe(filter) => drop(self.unwanted.insert(filter)),
            // With the next connection the node says all of this anew.
            Order::Ack(_) | Order::Subscribe(_) => {}
        }
    }

    fn unsubscribe(&mut self, filter: String) {
        self.subscribed.remove(&filter);
        // Its SUBACK, if that is still to come, is about nothing.
        self.asked.values_mut().flatten().filter(|asked| **asked == filter).for_each(String::clear);
        let id = self.next_id();
        codec::unsubscribe(&mut self.out, id, filter);
    }

    fn publish(&mut self, topic: String, payload: Vec<u8>) {
        let Some(mut message) = Message::new(topic.clone(), payload, self.manner.qos, self.manner.retain) else {
            return self.remarks.push(Remark::NoTopic(topic));
        };
        let size = message.size();
        if size > self.manner.max_packet {
            return self.remarks.push(Remark::TooLargeToSend(topic, size));
        }
        if self.manner.qos == QoS::AtMostOnce {
            return codec::publish(&mut self.out, &mut message, 0, false);
        }
        let id = self.next_id();
        codec::publish(&mut self.out, &mut message, id, false);
        self.count += 1;
        self.sent_weight += size + OVERHEAD;
        self.sent.insert(id, Sent { order: self.count, weight: size + OVERHEAD, message: Some(message) });
    }

    /// A number nobody uses; at most `ROOM / OVERHEAD` are taken.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.sent.contains_key(&self.last_id) && !self.asked.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// One SUBSCRIBE, or as many as the largest packet makes of it.
    fn subscribe(&mut self, mut filters: Vec<String>) {
        filters.retain(|filter| !self.subscribed.contains(filter));
        let (filters, wrong): (Vec<_>, Vec<_>) = filters.into_iter().partition(|filter| codec::is_filter(filter));
        self.remarks.extend(wrong.into_iter().map(Remark::NoTopic));
        let mut packet = Vec::new();
        let mut size = 0;
        for filter in filters {
            size += codec::filter_size(&filter);
            if size + 8 > self.manner.max_packet && !packet.is_empty() {
                size = codec::filter_size(&filter);
                self.ask_for(std::mem::take(&mut packet));
            }
            packet.push(filter);
        }
        if !packet.is_empty() {
            self.ask_for(packet);
        }
    }

    fn ask_for(&mut self, filters: Vec<String>) {
        let id = self.next_id();
        codec::subscribe(&mut self.out, id, &filters);
        self.asked.insert(id, filters);
    }

    fn acknowledge(&mut self, id: u16) {
        if self.taken.remove(&id) {
            self.safe.insert(id);
            codec::step(&mut self.out, Step::Received, id);
        } else {
            codec::step(&mut self.out, Step::Ack, id);
        }
    }

    /// The next message of what came; `None` when all is read. What needs no
    /// node is answered here.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Publication>, String> {
        loop {
            let skipped = self.skip.min(buffer.len());
            buffer.advance(skipped);
            self.skip -= skipped;
            if self.skip > 0 {
                return Ok(None);
            }
            let Some(said) = codec::read(buffer, self.manner.max_packet)? else { return Ok(None) };
            self.heard = true;
            match said {
                Said::Publish { topic, payload, qos, id, retained } => {
                    if let Some(packet) = self.take(qos, id) {
                        return Ok(Some(Publication { topic, payload, packet, retained }));
                    }
                }
                Said::TooLarge { topic, qos, id, size, rest } => {
                    self.skip = rest;
                    self.remarks.push(Remark::TooLargeToTake(topic, size));
                    if self.take(qos, id).flatten().is_some() {
                        self.acknowledge(id);
                    }
                }
                Said::Step(step, id) => self.stepped(step, id),
                Said::Subscribed(id, taken) => {
                    for (filter, taken) in self.asked.remove(&id).unwrap_or_default().into_iter().zip(taken) {
                        if filter.is_empty() {
                            continue;
                        } else if taken {
                            self.subscribed.insert(filter);
                        } else {
                            self.remarks.push(Remark::FilterRefused(filter));
                        }
                    }
                }
                Said::Unsubscribed(_) | Said::Pong => {}
                Said::Welcome { .. } | Said::Denied(_) => return Err("a second CONNACK".to_owned()),
            }
        }
    }

    /// What the node must acknowledge of a message; `None` when it has or had
    /// the message already.
    fn take(&mut self, qos: QoS, id: u16) -> Option<Option<Packet>> {
        let packet = Packet { connection: self.connection, id };
        match qos {
            QoS::AtMostOnce => Some(None),
            QoS::AtLeastOnce => Some(Some(packet)),
            QoS::ExactlyOnce if self.safe.contains(&id) => {
                codec::step(&mut self.out, Step::Received, id);
                None
            }
            QoS::ExactlyOnce => self.taken.insert(id).then_some(Some(packet)),
        }
    }

    fn stepped(&mut self, step: Step, id: u16) {
        match step {
            Step::Ack | Step::Complete => {
                if let Some(sent) = self.sent.remove(&id) {
                    self.sent_weight -= sent.weight;
                }
            }
            Step::Received => {
                if let Some(sent) = self.sent.get_mut(&id) {
                    self.sent_weight -= sent.weight - OVERHEAD;
                    (sent.weight, sent.message) = (OVERHEAD, None);
                }
                codec::step(&mut self.out, Step::Release, id);
            }
            Step::Release => {
                self.safe.remove(&id);
                codec::step(&mut self.out, Step::Complete, id);
            }
        }
    }

    /// A keepalive interval is over: asks for a sign of life. What is wrong,
    /// when the last one was not answered.
    pub fn tick(&mut self) -> Result<(), &'static str> {
        if !std::mem::take(&mut self.heard) {
            return Err("it does not answer");
        }
        let oldest = self.sent.values().map(|sent| sent.order).min();
        if oldest.is_some() && oldest == self.oldest {
            return Err("it does not acknowledge");
        }
        self.oldest = oldest;
        codec::ping(&mut self.out);
        Ok(())
    }

    /// Whether something waits for the socket.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// What waits for the socket, for an empty buffer.
    pub fn output(&mut self, written: &mut BytesMut) {
        if written.capacity() > BUFFER {
            *written = BytesMut::new();
        }
        written.clear();
        std::mem::swap(&mut self.out, written);
    }

    /// What somebody should know.
    pub fn remarks(&mut self) -> impl Iterator<Item = Remark> + use<> {
        std::mem::take(&mut self.remarks).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(qos: QoS) -> Session {
        let mut session = Session::new(Manner { qos, retain: false, max_packet: 64 });
        session.up(false);
        session
    }

    fn written(session: &mut Session) -> Vec<u8> {
        let mut output = BytesMut::new();
        session.output(&mut output);
        output.to_vec()
    }

    fn heard(session: &mut Session, bytes: &[u8]) -> Vec<Publication> {
        let mut buffer = BytesMut::from(bytes);
        let all = std::iter::from_fn(|| session.next(&mut buffer).expect("it is right")).collect();
        assert!(buffer.is_empty());
        all
    }

    fn publish(session: &mut Session, topic: &str) {
        session.hand(Order::Publish { topic: topic.to_owned(), payload: b"x".to_vec() });
    }

    fn remarks(session: &mut Session) -> Vec<Remark> {
        session.remarks().collect()
    }

    const A1: &[u8] = b"\x32\x06\x00\x01a\x00\x01x";
    const A2: &[u8] = b"\x34\x06\x00\x01a\x00\x01x";

    #[test]
    fn a_message_is_acknowledged_when_the_node_says_so() {
        let mut session = session(QoS::AtLeastOnce);
        let packet = Packet { connection: 1, id: 1 };
        let publication = Publication { topic: "a".to_owned(), payload: b"x".to_vec(), packet: Some(packet), retained: false };
        assert_eq!(heard(&mut session, A1), [publication]);
        assert!(written(&mut session).is_empty());
        session.hand(Order::Ack(packet));
        assert_eq!(written(&mut session), b"\x40\x02\x00\x01");
    }

    #[test]
    fn an_ack_dies_with_its_connection() {
        let mut session = session(QoS::AtLeastOnce);
        let packet = heard(&mut session, A1)[0].packet.expect("QoS 1");
        assert!(session.down() && !session.down());
        session.hand(Order::Ack(packet));
        session.up(true);
        session.hand(Order::Ack(packet));
        assert!(written(&mut session).is_empty());
    }

    #[test]
    fn qos_2_is_handed_over_once() {
        let mut session = session(QoS::AtLeastOnce);
        let packet = heard(&mut session, A2)[0].packet.expect("QoS 2");
        assert!(heard(&mut session, A2).is_empty(), "the node has it");
        session.hand(Order::Ack(packet));
        assert_eq!(written(&mut session), b"\x50\x02\x00\x01");
        session.down();
        session.up(true);
        assert!(heard(&mut session, A2).is_empty(), "it is safe, also after the connection");
        assert_eq!(written(&mut session), b"\x50\x02\x00\x01");
        assert!(heard(&mut session, b"\x62\x02\x00\x01").is_empty());
        assert_eq!(written(&mut session), b"\x70\x02\x00\x01");
        assert_eq!(heard(&mut session, A2).len(), 1, "the number is free again");
        session.down();
        session.up(true);
        assert_eq!(heard(&mut session, A2).len(), 1, "without an ack it comes again");
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let mut session = session(QoS::AtLeastOnce);
        session.last_id = u16::MAX - 1;
        ["a", "b", "c"].iter().for_each(|topic| publish(&mut session, topic));
        assert_eq!(written(&mut session), b"\x32\x06\x00\x01a\xff\xffx\x32\x06\x00\x01b\x00\x01x\x32\x06\x00\x01c\x00\x02x");
        heard(&mut session, b"\x40\x02\x00\x01");
        session.down();
        session.up(true);
        assert_eq!(written(&mut session), b"\x3a\x06\x00\x01a\xff\xffx\x3a\x06\x00\x01c\x00\x02x");
        session.down();
        session.up(false);
        assert_eq!(written(&mut session), b"\x32\x06\x00\x01a\xff\xffx\x32\x06\x00\x01c\x00\x02x", "a broker that forgot us has it not");
        heard(&mut session, b"\x40\x02\xff\xff\x40\x02\x00\x02\x40\x02\x00\x09");
        assert_eq!((session.sent.len(), session.sent_weight), (0, 0));
    }

    #[test]
    fn qos_2_of_ours_goes_its_four_steps() {
        let mut session = session(QoS::ExactlyOnce);
        publish(&mut session, "a");
        assert_eq!(written(&mut session), A2);
        heard(&mut session, b"\x50\x02\x00\x01");
        assert_eq!(written(&mut session), b"\x62\x02\x00\x01");
        session.down();
        session.up(true);
        assert_eq!(written(&mut session), b"\x62\x02\x00\x01");
        heard(&mut session, b"\x70\x02\x00\x01");
        assert_eq!((session.sent.len(), session.sent_weight), (0, 0));
    }

    #[test]
    fn room_ends_with_what_the_broker_does_not_take() {
        let mut session = session(QoS::AtLeastOnce);
        let mut count = 0;
        while session.room() {
            publish(&mut session, "a");
            written(&mut session);
            count += 1;
            assert!(count < 20_000, "numbers would run out");
        }
        heard(&mut session, b"\x40\x02\x00\x01");
        assert!(session.room());
        publish(&mut session, "a");
        assert!(!session.room());
        session.down();
        assert!(session.room(), "nobody is there to wait for");
        publish(&mut session, "a");
        assert_eq!((remarks(&mut session), session.sent.len()), (vec![Remark::Unheard], count));
    }

    #[test]
    fn of_qos_2_few_are_on_their_way_at_once() {
        let mut session = session(QoS::ExactlyOnce);
        (0..WINDOW).for_each(|_| publish(&mut session, "a"));
        assert!(!session.room());
        heard(&mut session, b"\x50\x02\x00\x01");
        assert!(!session.room(), "it is not complete");
        heard(&mut session, b"\x70\x02\x00\x01");
        assert!(session.room());
    }

    #[test]
    fn numbers_in_use_are_left_out() {
        let mut session = session(QoS::AtLeastOnce);
        publish(&mut session, "a");
        session.hand(Order::Subscribe(vec!["b".to_owned()]));
        session.last_id = u16::MAX;
        assert_eq!(session.next_id(), 3);
    }

    #[test]
    fn a_too_large_message_is_skipped_and_acknowledged() {
        let mut session = session(QoS::AtLeastOnce);
        let mut buffer = BytesMut::from(&b"\x32\xff\x01\x00\x01a\x00\x07"[..]);
        for _ in 0..25 {
            buffer.extend_from_slice(&[0; 10]);
            assert_eq!(session.next(&mut buffer), Ok(None));
            assert!(buffer.is_empty());
        }
        // 255 bytes: 5 were topic and number.
        assert_eq!(heard(&mut session, A1).len(), 1);
        assert_eq!(written(&mut session), b"\x40\x02\x00\x07");
        assert_eq!(remarks(&mut session), [Remark::TooLargeToTake("a".to_owned(), 258)]);
    }

    #[test]
    fn what_cannot_be_said_is_told_and_left_out() {
        let mut session = session(QoS::AtMostOnce);
        publish(&mut session, "a/#");
        session.hand(Order::Publish { topic: "a".to_owned(), payload: vec![0; 64] });
        session.hand(Order::Subscribe(vec!["a/#/b".to_owned()]));
        session.hand(Order::Unsubscribe("a/#/b".to_owned()));
        assert!(written(&mut session).is_empty());
        let no_topic = |topic: &str| Remark::NoTopic(topic.to_owned());
        assert_eq!(remarks(&mut session), [no_topic("a/#"), Remark::TooLargeToSend("a".to_owned(), 71), no_topic("a/#/b")]);
    }

    #[test]
    fn filters_share_a_packet_and_refused_ones_are_named() {
        let mut session = session(QoS::AtLeastOnce);
        session.hand(Order::Subscribe(vec!["a".to_owned(), "b".repeat(30), "c".repeat(30)]));
        let mut expected = b"\x82\x27\x00\x01\x00\x01a\x01\x00\x1e".to_vec();
        expected.extend([b"b".repeat(30).as_slice(), b"\x01\x82\x23\x00\x02\x00\x1e", b"c".repeat(30).as_slice(), b"\x01"].concat());
        assert_eq!(written(&mut session), expected);
        heard(&mut session, b"\x90\x04\x00\x01\x80\x01\x90\x03\x00\x02\x80");
        assert_eq!(remarks(&mut session), [Remark::FilterRefused("a".to_owned()), Remark::FilterRefused("c".repeat(30))]);
    }

    #[test]
    fn a_broker_that_kept_the_session_is_asked_only_for_what_it_has_not() {
        let subscribe = |session: &mut Session, filters: &[&str]| {
            session.hand(Order::Subscribe(filters.iter().map(|filter| (*filter).to_owned()).collect()));
            written(session)
        };
        let mut session = session(QoS::AtLeastOnce);
        subscribe(&mut session, &["a", "b", "c"]);
        heard(&mut session, b"\x90\x05\x00\x01\x01\x80\x01");
        session.down();
        session.hand(Order::Unsubscribe("c".to_owned()));
        session.up(true);
        assert_eq!(written(&mut session), b"\xa2\x05\x00\x02\x00\x01c", "a rule that went meanwhile");
        assert_eq!(subscribe(&mut session, &["a", "b", "d"]), b"\x82\x0a\x00\x03\x00\x01b\x01\x00\x01d\x01");
        session.down();
        session.up(true);
        let unanswered = subscribe(&mut session, &["a", "b", "d"]);
        assert_eq!(unanswered, b"\x82\x0a\x00\x04\x00\x01b\x01\x00\x01d\x01", "no SUBACK, no subscription");
        session.down();
        session.up(false);
        assert_eq!(subscribe(&mut session, &["a"]), b"\x82\x06\x00\x05\x00\x01a\x01", "a broker that forgot us has none");
    }

    #[test]
    fn a_mute_broker_is_noticed() {
        let mut session = session(QoS::AtLeastOnce);
        assert_eq!(session.tick(), Ok(()));
        assert_eq!(written(&mut session), b"\xc0\x00");
        heard(&mut session, b"\xd0\x00");
        publish(&mut session, "a");
        assert_eq!(session.tick(), Ok(()));
        heard(&mut session, b"\xd0\x00");
        assert_eq!(session.tick(), Err("it does not acknowledge"));
        assert_eq!(session.tick(), Err("it does not answer"));
    }
}
