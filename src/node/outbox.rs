//! What waits for the broker's client, bounded in bytes. Acks and subscriptions
//! always find room; of what is published the oldest goes.

use std::collections::VecDeque;

use super::bus::Order;
use super::ids::Packet;

/// Bytes that may wait.
const ROOM: usize = 4 << 20;

/// Orders for the broker's client.
#[derive(Debug, Default)]
pub struct Outbox {
    orders: VecDeque<Order>,
    bytes: usize,
    /// Publications that found no room, ever since the start.
    pub dropped: u64,
}

fn weight(order: &Order) -> usize {
    match order {
        Order::Publish { topic, payload } => topic.len() + payload.len(),
        Order::Subscribe(_) | Order::Unsubscribe(_) | Order::Ack(_) => 0,
    }
}

impl Outbox {
    /// Adds an order.
    pub fn push(&mut self, order: Order) {
        self.bytes += weight(&order);
        self.orders.push_back(order);
        while self.bytes > ROOM {
            let Some(oldest) = self.orders.iter().position(|order| weight(order) > 0) else { return };
            self.bytes -= self.orders.remove(oldest).as_ref().map_or(0, weight);
            self.dropped += 1;
        }
    }

    /// Adds an ack, if one is waited for.
    pub fn push_ack(&mut self, packet: Option<Packet>) {
        self.orders.extend(packet.map(Order::Ack));
    }

    /// The next order.
    pub fn poll(&mut self) -> Option<Order> {
        let order = self.orders.pop_front()?;
        self.bytes -= weight(&order);
        Some(order)
    }

    /// Acks and subscriptions die with the connection; a filter that is given up
    /// may stand in a session that the broker keeps.
    pub fn connection_lost(&mut self) {
        self.orders.retain(|order| matches!(order, Order::Publish { .. } | Order::Unsubscribe(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_publication_goes_and_no_ack() {
        let mut outbox = Outbox::default();
        outbox.push(Order::Ack(Packet { connection: 1, id: 1 }));
        for number in 0..9u8 {
            outbox.push(Order::Publish { topic: "t".into(), payload: vec![number; 800 << 10] });
        }
        assert_eq!(outbox.dropped, 4);
        assert!(matches!(outbox.poll(), Some(Order::Ack(_))));
        assert!(matches!(outbox.poll(), Some(Order::Publish { payload, .. }) if payload[0] == 4));
    }
}
