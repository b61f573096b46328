//! A broker that keeps the node's session, what the node has not acknowledged
//! and retained messages, and writes down what the node says.

use std::collections::{BTreeMap, BTreeSet};

use selvedge::node::bus::{Order, Publication};
use selvedge::node::ids::Packet;
use selvedge::node::input::Input;
use serde_json::Value;

use crate::vectors::matches;

#[derive(Debug, Default)]
pub struct Broker {
    pub down: bool,
    connection: u64,
    last: u16,
    /// By the order they came.
    kept: BTreeMap<u64, Kept>,
    counted: u64,
    /// Filters of the node's session; `None` when there is no session.
    session: Option<BTreeSet<String>>,
    retained: BTreeMap<String, String>,
    /// What the node published, in order.
    pub heard: Vec<(String, Value)>,
    /// Messages that the node acknowledged, by the order they came.
    pub acked: Vec<u64>,
    /// Orders of the node that it reads in a millisecond; all when not told.
    pub pace: Option<usize>,
    /// And how many of them it has read in this one.
    read: usize,
}

/// A message for the node.
#[derive(Debug)]
struct Kept {
    /// The number of the packet it travels in now.
    packet: u16,
    topic: String,
    payload: Vec<u8>,
    retained: bool,
}

impl Broker {
    /// The node connects: what it must be told.
    pub fn connected(&mut self) -> Vec<Input> {
        self.connection += 1;
        self.read = 0;
        let mut inputs = vec![Input::BusUp { kept: self.session.is_some() }];
        self.session.get_or_insert_default();
        let all: Vec<u64> = self.kept.keys().copied().collect();
        inputs.extend(all.into_iter().map(|number| self.deliver(number)));
        inputs
    }

    /// It forgets the node, but not what it retains.
    pub fn forget_session(&mut self) {
        self.session = None;
        self.kept.clear();
    }

    /// A client publishes with QoS 1: its number, and what to tell the node.
    pub fn publish(&mut self, topic: &str, payload: &str) -> (u64, Input) {
        let number = self.keep(topic, payload, false);
        (number, self.deliver(number))
    }

    /// The broker shall keep the last message of a topic; empty: none.
    pub fn retain(&mut self, topic: &str, payload: &str) {
        self.retained.remove(topic);
        if !payload.is_empty() {
            self.retained.insert(topic.to_owned(), payload.to_owned());
        }
    }

    fn keep(&mut self, topic: &str, payload: &str, retained: bool) -> u64 {
        self.counted += 1;
        self.kept.insert(self.counted, Kept { packet: 0, topic: topic.to_owned(), payload: payload.into(), retained });
        self.counted
    }

    fn deliver(&mut self, number: u64) -> Input {
        self.last = self.last.wrapping_add(1);
        let kept = self.kept.get_mut(&number).expect("it is kept");
        kept.packet = self.last;
        let packet = Some(Packet { connection: self.connection, id: self.last });
        Input::Published(Publication { topic: kept.topic.clone(), payload: kept.payload.clone(), packet, retained: kept.retained })
    }

    /// Whether it reads another order now.
    pub fn reads(&self) -> bool {
        self.pace.is_none_or(|pace| self.read < pace)
    }

    /// It has read one; whether it must be reminded to read again.
    pub fn has_read(&mut self) -> bool {
        self.read += 1;
        self.pace == Some(self.read)
    }

    /// A millisecond is over.
    pub fn read_again(&mut self) {
        self.read = 0;
    }

    /// The node wants something; what it must be told.
    pub fn obey(&mut self, order: Order) -> Vec<Input> {
        match order {
            Order::Publish { topic, payload } => self.heard.push((topic, serde_json::from_slice(&payload).unwrap_or_default())),
            Order::Ack(packet) if packet.connection == self.connection => {
                if let Some(number) = self.kept.iter().find(|(_, kept)| kept.packet == packet.id).map(|(number, _)| *number) {
                    self.kept.remove(&number);
                    self.acked.push(number);
                }
            }
            Order::Subscribe(filters) => return self.subscribe(filters),
            Order::Unsubscribe(filter) => drop(self.session.as_mut().map(|session| session.remove(&filter))),
            Order::Ack(_) => {}
        }
        Vec::new()
    }

    /// A subscription brings what is retained, whether it is a new one or not.
    fn subscribe(&mut self, filters: Vec<String>) -> Vec<Input> {
        let retained: Vec<(String, String)> = self.retained.clone().into_iter().collect();
        let wanted = retained.into_iter().filter(|(topic, _)| filters.iter().any(|filter| matches(filter, topic)));
        let numbers: Vec<u64> = wanted.map(|(topic, payload)| self.keep(&topic, &payload, true)).collect();
        self.session.get_or_insert_default().extend(filters);
        numbers.into_iter().map(|number| self.deliver(number)).collect()
    }

    /// Messages the node has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }
}
