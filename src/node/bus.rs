//! What the node asks of the broker's client, and what it hears by it. The shell
//! is `eventbus`.

use super::ids::Packet;

/// Something for the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Have these filters sent to us, with QoS 1. The shell leaves out those
    /// that the broker has already.
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
    /// The broker kept it and sends it because of a new subscription: it is the
    /// last one of its topic and may be old (MQTT 3.1.1, 3.3.1.3).
    pub retained: bool,
}
