//! What waits for the broker's client, bounded in bytes. Acks and subscriptions
//! always find room, and so do answers to messages that the broker repeats:
//! their acks stand behind them, so the broker sends no more of such messages
//! than it has under way. Of everything else that is published the oldest goes.

use std::collections::VecDeque;

use super::bus::Order;
use super::ids::Packet;

/// Bytes that may wait.
const ROOM: usize = 4 << 20;

/// Orders for the broker's client.
#[derive(Debug, Default)]
pub struct Outbox {
    orders: VecDeque<Waiting>,
    bytes: usize,
    /// Some had to go since it was empty.
    overflows: bool,
    /// Publications that found no room, ever since the start.
    pub dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    order: Order,
    /// It may go when there is no room.
    spare: bool,
}

fn weight(order: &Order) -> usize {
    match order {
        Order::Publish { topic, payload } => topic.len() + payload.len(),
        Order::Subscribe(_) | Order::Unsubscribe(_) | Order::Ack(_) => 0,
    }
}

impl Outbox {
    /// Adds an order that always finds room.
    pub fn push(&mut self, order: Order) {
        self.bytes += weight(&order);
        self.orders.push_back(Waiting { order, spare: false });
    }

    /// Adds a publication that may go when there is no room.
    pub fn push_spare(&mut self, topic: String, payload: Vec<u8>) {
        let order = Order::Publish { topic, payload };
        self.bytes += weight(&order);
        self.orders.push_back(Waiting { order, spare: true });
        while self.bytes > ROOM {
            let Some(oldest) = self.orders.iter().position(|waiting| waiting.spare) else { return };
            self.bytes -= self.orders.remove(oldest).map_or(0, |waiting| weight(&waiting.order));
            self.dropped += 1;
            if !std::mem::replace(&mut self.overflows, true) {
                log::warn!(target: "eventbus", "the broker is too slow: of what waits for it the oldest is dropped");
            }
        }
    }

    /// Adds an ack, if one is waited for.
    pub fn push_ack(&mut self, packet: Option<Packet>) {
        packet.into_iter().for_each(|packet| self.push(Order::Ack(packet)));
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?.order;
        self.bytes -= weight(&order);
        self.overflows &= !self.orders.is_empty();
        Some(order)
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Acks and subscriptions die with the connection; a filter that is given up
    /// may stand in a session that the broker keeps.
    pub fn connection_lost(&mut self) {
        self.orders.retain(|waiting| matches!(waiting.order, Order::Publish { .. } | Order::Unsubscribe(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_spare_publication_goes_and_nothing_else() {
        let mut outbox = Outbox::default();
        outbox.push(Order::Ack(Packet { connection: 1, id: 1 }));
        let large = |number: u8| vec![number; 800 << 10];
        outbox.push(Order::Publish { topic: "t".into(), payload: large(100) });
        for number in 0..9u8 {
            outbox.push_spare("t".into(), large(number));
        }
        assert_eq!(outbox.dropped, 5);
        assert!(matches!(outbox.poll(), Some(Order::Ack(_))));
        for number in [100, 5] {
            assert!(matches!(outbox.poll(), Some(Order::Publish { payload, .. }) if payload[0] == number));
        }
    }
}
