//! What the node asks of the broker's client, and what it hears by it. The shell
//! is `eventbus`.

use super::ids::Packet;

/// Something for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Have these filters sent to us, with QoS 1.
    Subscribe(Vec<String>),
    /// And this one no longer.
    Unsubscribe(String),
    /// Publish. Lost when there is no broker: nobody is there to hear it.
    Publish {
        /// The topic.
        topic: String,
        /// The payload.
        payload: Vec<u8>,
    },
    /// What came in this packet is safe; the broker may forget it.
    Ack(Packet),
}

/// A message that came by the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its topic.
    pub topic: String,
    /// Its payload, any bytes.
    pub payload: Vec<u8>,
    /// What to acknowledge; `None` for QoS 0.
    pub packet: Option<Packet>,
}
