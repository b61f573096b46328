//! What goes to one client: messages that wait, bounded in bytes, and those that
//! are under way until the client has acknowledged them.
//!
//! ```text
//! put -> loose (QoS 0) --------------------------------> written, forgotten
//!     -> firm (QoS 1, 2) -> flight: sent -PUBACK-------> done
//!                                   sent -PUBREC-> released -PUBCOMP-> done
//! ```
//!
//! When it is full, QoS 0 goes first, the oldest first; then the oldest that is
//! not under way. Nobody waits for a slow client.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;

use super::packet::{self, Answer, Carriage, Message};

/// Messages under way at once, as other brokers have it.
const WINDOW: usize = 20;
/// What an entry costs besides topic and payload.
const OVERHEAD: usize = 64;

/// A message for this client.
#[derive(Debug)]
struct Entry {
    message: Rc<Message>,
    qos: QoS,
    retain: bool,
    /// Its place among all that came.
    turn: u64,
}

impl Entry {
    fn cost(&self) -> usize {
        self.message.topic.len() + self.message.payload.len() + OVERHEAD
    }
}

/// A message under way.
#[derive(Debug)]
struct Flight {
    id: u16,
    leg: Leg,
    /// What is next was written on the present connection.
    written: bool,
}

#[derive(Debug)]
enum Leg {
    /// PUBLISH, again with DUP on every connection but the first.
    Out { entry: Entry, dup: bool },
    /// PUBREL.
    Released,
}

/// What goes to one client.
#[derive(Debug)]
pub struct Outbox {
    loose: VecDeque<Entry>,
    firm: VecDeque<Entry>,
    waiting: usize,
    flights: VecDeque<Flight>,
    flying: usize,
    limit: usize,
    last_turn: u64,
    last_id: u16,
}

impl Outbox {
    /// Nothing yet; at most `limit` bytes shall wait, and as many be under way.
    pub fn new(limit: usize) -> Self {
        let (loose, firm, flights) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { loose, firm, waiting: 0, flights, flying: 0, limit, last_turn: 0, last_id: 0 }
    }

    /// Adds a message; returns how many were dropped to make room, itself
    /// perhaps. A single one always has room.
    pub fn put(&mut self, message: Rc<Message>, qos: QoS, retain: bool) -> u64 {
        self.last_turn += 1;
        let entry = Entry { message, qos, retain, turn: self.last_turn };
        let mut dropped = 0;
        while self.waiting > 0 && self.waiting + entry.cost() > self.limit {
            dropped += 1;
            let Some(victim) = self.loose.pop_front().or_else(|| if qos == QoS::AtMostOnce { None } else { self.firm.pop_front() }) else { return dropped };
            self.waiting -= victim.cost();
        }
        self.waiting += entry.cost();
        if qos == QoS::AtMostOnce { &mut self.loose } else { &mut self.firm }.push_back(entry);
        dropped
    }

    /// Less than half full: more may be fetched for it.
    pub fn has_room(&self) -> bool {
        self.waiting < self.limit / 2
    }

    /// Writes the next packet, if there is one that may go.
    pub fn write_next(&mut self, out: &mut BytesMut) -> bool {
        if let Some(flight) = self.flights.iter_mut().find(|flight| !flight.written) {
            flight.write(out);
            return true;
        }
        let firm = self.firm.front().filter(|entry| self.flights.len() < WINDOW && (self.flying == 0 || self.flying + entry.cost() <= self.limit));
        match (self.loose.front(), firm) {
            (None, None) => return false,
            (Some(loose), firm) if firm.is_none_or(|firm| loose.turn < firm.turn) => self.write_loose(out),
            (_, _) => self.depart(out),
        }
        true
    }

    fn write_loose(&mut self, out: &mut BytesMut) {
        if let Some(entry) = self.loose.pop_front() {
            self.waiting -= entry.cost();
            packet::write_publish(out, &entry.message, Carriage { qos: QoS::AtMostOnce, retain: entry.retain, dup: false, id: 0 });
        }
    }

    fn depart(&mut self, out: &mut BytesMut) {
        let id = self.free_id();
        if let Some(entry) = self.firm.pop_front() {
            self.waiting -= entry.cost();
            self.flying += entry.cost();
            let mut flight = Flight { id, leg: Leg::Out { entry, dup: false }, written: false };
            flight.write(out);
            self.flights.push_back(flight);
        }
    }

    /// The next id that is not under way. There are far more ids than flights.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.flights.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// PUBACK came.
    pub fn acknowledged(&mut self, id: u16) {
        self.land(id, |leg| matches!(leg, Leg::Out { entry, .. } if entry.qos == QoS::AtLeastOnce));
    }

    /// PUBCOMP came.
    pub fn completed(&mut self, id: u16) {
        self.land(id, |leg| matches!(leg, Leg::Released));
    }

    fn land(&mut self, id: u16, fits: impl Fn(&Leg) -> bool) {
        if let Some(place) = self.flights.iter().position(|flight| flight.id == id && fits(&flight.leg))
            && let Some(Flight { leg: Leg::Out { entry, .. }, .. }) = self.flights.remove(place)
        {
            self.flying -= entry.cost();
        }
    }

    /// PUBREC came: the message is with the client, and PUBREL is next. An id
    /// that is not known is released as well, so that the client gets done.
    pub fn received(&mut self, id: u16) -> Option<Answer> {
        match self.flights.iter_mut().find(|flight| flight.id == id) {
            Some(Flight { leg: Leg::Out { entry, .. }, .. }) if entry.qos != QoS::ExactlyOnce => None,
            Some(flight) => {
                if let Leg::Out { entry, .. } = std::mem::replace(&mut flight.leg, Leg::Released) {
                    self.flying -= entry.cost();
                }
                Some(Answer::PubRel(id))
            }
            None => Some(Answer::PubRel(id)),
        }
    }

    /// The connection is gone: QoS 0 is forgotten, and what is under way goes
    /// again on the next one.
    pub fn disconnected(&mut self) {
        for entry in self.loose.drain(..) {
            self.waiting -= entry.cost();
        }
        for flight in &mut self.flights {
            if let Leg::Out { dup, .. } = &mut flight.leg {
                *dup |= flight.written;
            }
            flight.written = false;
        }
    }
}

impl Flight {
    fn write(&mut self, out: &mut BytesMut) {
        self.written = true;
        match &self.leg {
            Leg::Out { entry, dup } => {
                packet::write_publish(out, &entry.message, Carriage { qos: entry.qos, retain: entry.retain, dup: *dup, id: self.id });
            }
            Leg::Released => packet::write_answer(out, Answer::PubRel(self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::mqttbytes::v4;

    use super::*;

    fn outbox(limit: usize) -> Outbox {
        Outbox::new(limit)
    }

    fn put(outbox: &mut Outbox, name: &str, qos: QoS) -> u64 {
        outbox.put(Rc::new(Message { topic: name.to_owned(), payload: vec![0; 36 - name.len()].into() }), qos, false)
    }

    /// What is written now: topic, id, `+` for DUP.
    fn written(outbox: &mut Outbox) -> Vec<String> {
        let mut out = BytesMut::new();
        while outbox.write_next(&mut out) {}
        let name = |packet| {
            if let v4::Packet::Publish(publish) = packet {
                return format!("{}{}{}", publish.topic, publish.pkid, if publish.dup { "+" } else { "" });
            }
            let v4::Packet::PubRel(release) = packet else { panic!("{packet:?}") };
            format!("rel{}", release.pkid)
        };
        std::iter::from_fn(|| v4::Packet::read(&mut out, 1 << 20).ok()).map(name).collect()
    }

    const ZERO: QoS = QoS::AtMostOnce;
    const ONE: QoS = QoS::AtLeastOnce;
    const TWO: QoS = QoS::ExactlyOnce;

    #[test]
    fn what_comes_goes_in_order_and_under_way_stays_until_it_is_acknowledged() {
        let mut outbox = outbox(10_000);
        for (name, qos) in [("a", ZERO), ("b", ONE), ("c", TWO), ("d", ZERO)] {
            put(&mut outbox, name, qos);
        }
        assert_eq!(written(&mut outbox), ["a0", "b1", "c2", "d0"]);
        outbox.acknowledged(2);
        assert_eq!(outbox.received(1), None, "it was QoS 1");
        outbox.acknowledged(1);
        assert_eq!(outbox.received(2), Some(Answer::PubRel(2)));
        assert_eq!((outbox.flights.len(), outbox.flying, outbox.waiting), (1, 0, 0));
        outbox.completed(2);
        assert!(outbox.flights.is_empty() && written(&mut outbox).is_empty());
    }

    #[test]
    fn the_next_connection_gets_the_rest_again_in_order() {
        let mut outbox = outbox(10_000);
        for (name, qos) in [("a", ONE), ("b", TWO), ("c", ONE), ("d", ZERO)] {
            put(&mut outbox, name, qos);
        }
        let mut out = BytesMut::new();
        assert!(outbox.write_next(&mut out) && outbox.write_next(&mut out));
        outbox.received(2);
        outbox.disconnected();
        assert_eq!(written(&mut outbox), ["a1+", "rel2", "c3"], "QoS 0 is forgotten");
        outbox.disconnected();
        assert_eq!(written(&mut outbox), ["a1+", "rel2", "c3+"]);
    }

    #[test]
    fn a_full_window_holds_only_what_needs_one() {
        let mut outbox = outbox(1 << 20);
        assert_eq!((0..30).map(|_| put(&mut outbox, "w", ONE)).sum::<u64>(), 0);
        put(&mut outbox, "z", ZERO);
        assert_eq!(written(&mut outbox).len(), WINDOW + 1);
        outbox.acknowledged(7);
        assert_eq!(written(&mut outbox), ["w21"]);
        outbox.last_id = u16::MAX;
        outbox.acknowledged(3);
        assert_eq!(written(&mut outbox), ["w3"], "1 and 2 are under way");
    }

    #[test]
    fn when_it_is_full_qos_0_goes_first_and_the_oldest_of_it() {
        let mut outbox = outbox(4 * 100);
        for (name, qos, dropped) in [("a", ONE, 0), ("b", ZERO, 0), ("c", ZERO, 0), ("d", ONE, 0), ("e", ZERO, 1), ("f", ONE, 1), ("g", ONE, 1), ("h", ONE, 1)]
        {
            assert_eq!(put(&mut outbox, name, qos), dropped, "{name}");
        }
        assert_eq!(put(&mut outbox, "i", ZERO), 1, "nothing is less than it");
        assert_eq!(outbox.waiting, 400);
        assert_eq!(written(&mut outbox), ["d1", "f2", "g3", "h4"]);
        assert_eq!(outbox.waiting, 0);
    }

    #[test]
    fn one_larger_than_all_room_goes_alone() {
        let mut outbox = outbox(100);
        let large = |size: usize| Rc::new(Message { topic: "t".to_owned(), payload: vec![0; size].into() });
        assert_eq!(outbox.put(large(1000), ONE, false), 0);
        assert_eq!(outbox.put(large(1000), ONE, false), 1);
        assert_eq!(written(&mut outbox), ["t1"]);
        outbox.put(large(1000), ONE, false);
        assert!(written(&mut outbox).is_empty(), "as many bytes are under way as may be");
        outbox.acknowledged(1);
        assert_eq!(written(&mut outbox), ["t2"]);
    }
}
