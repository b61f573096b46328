//! A broker that keeps what the node has not acknowledged, and writes down what
//! the node says.

use std::collections::BTreeMap;

use selvedge::node::bus::{Order, Publication};
use selvedge::node::ids::Packet;
use selvedge::node::input::Input;
use serde_json::Value;

#[derive(Debug, Default)]
pub struct Broker {
    pub down: bool,
    connection: u64,
    last: u16,
    /// By the order they came; the number of the packet they travel in now.
    kept: BTreeMap<u64, (u16, String, Vec<u8>)>,
    counted: u64,
    /// What the node published, in order.
    pub heard: Vec<(String, Value)>,
    /// Messages that the node acknowledged, by the order they came.
    pub acked: Vec<u64>,
}

impl Broker {
    /// The node connects: what it must be told.
    pub fn connected(&mut self) -> Vec<Input> {
        self.connection += 1;
        let mut inputs = vec![Input::BusUp { kept: true }];
        let all: Vec<u64> = self.kept.keys().copied().collect();
        inputs.extend(all.into_iter().map(|number| self.deliver(number)));
        inputs
    }

    /// A client publishes with QoS 1: its number, and what to tell the node.
    pub fn publish(&mut self, topic: &str, payload: &str) -> (u64, Input) {
        self.counted += 1;
        self.kept.insert(self.counted, (0, topic.to_owned(), payload.into()));
        (self.counted, self.deliver(self.counted))
    }

    fn deliver(&mut self, number: u64) -> Input {
        self.last = self.last.wrapping_add(1);
        let kept = self.kept.get_mut(&number).expect("it is kept");
        kept.0 = self.last;
        let packet = Some(Packet { connection: self.connection, id: self.last });
        Input::Published(Publication { topic: kept.1.clone(), payload: kept.2.clone(), packet })
    }

    /// The node wants something.
    pub fn obey(&mut self, order: Order) {
        match order {
            Order::Publish { topic, payload } => self.heard.push((topic, serde_json::from_slice(&payload).unwrap_or_default())),
            Order::Ack(packet) if packet.connection == self.connection => {
                if let Some(number) = self.kept.iter().find(|(_, (id, ..))| *id == packet.id).map(|(number, _)| *number) {
                    self.kept.remove(&number);
                    self.acked.push(number);
                }
            }
            Order::Ack(_) | Order::Subscribe(_) | Order::Unsubscribe(_) => {}
        }
    }

    /// Messages the node has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.kept.len()
    }
}
