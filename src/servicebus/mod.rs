//! HTTP between apps on the node and the cloud: calls apps for the cloud, and
//! hears apps that ask it. What is allowed and who waits for what is the node's
//! business.

mod budget;
mod client;
mod server;
mod tls;

use std::path::PathBuf;
use std::rc::Rc;

use smol::channel::{self, Sender};

use self::budget::Budget;
use self::server::Desk;
use crate::config;
use crate::host::tasks::{Executor, Tasks};
use crate::node::input::Input;
use crate::node::service::Order;

/// Bytes of all bodies that are under way, both ways.
const BODIES: usize = 16 << 20;

/// Why apps cannot be heard.
#[derive(Debug)]
pub enum ServiceError {
    /// The certificate or its key cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The port cannot be had.
    Listen {
        /// The address.
        address: String,
        /// Why.
        why: std::io::Error,
    },
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Listen { address, why } => write!(f, "{address}: {why}"),
        }
    }
}

impl std::error::Error for ServiceError {}

/// Both directions, as the agent's loop sees them.
#[derive(Debug)]
pub struct ServiceBus {
    config: Rc<config::ServiceBus>,
    inbox: Sender<Input>,
    budget: Budget,
    desk: Rc<Desk>,
    executor: Executor,
    calls: Tasks,
    servers: Tasks,
    /// Dropped to close the listener.
    open: Option<Sender<()>>,
}

/// Opens the shell; it hears nobody before it is told to.
pub fn open(config: config::ServiceBus, inbox: Sender<Input>, executor: &Executor) -> ServiceBus {
    let budget = Budget::new(BODIES);
    ServiceBus {
        config: Rc::new(config),
        desk: Rc::new(Desk::new(inbox.clone(), budget.clone())),
        inbox,
        budget,
        executor: executor.clone(),
        calls: Tasks::new(executor),
        servers: Tasks::new(executor),
        open: None,
    }
}

impl ServiceBus {
    /// Another order may be handed over: the node bounds what is under way.
    pub fn room(&self) -> bool {
        true
    }

    /// Carries an order out.
    pub fn hand(&mut self, order: Order) {
        match order {
            Order::Listen => {
                let (open, close) = channel::bounded(1);
                self.open = Some(open);
                self.servers.spawn(server::serve(self.config.clone(), self.desk.clone(), self.executor.clone(), close));
            }
            Order::Close => self.open = None,
            Order::Reply(id, reply) => self.desk.reply(id, reply),
            Order::Call(id, call) => {
                let (config, inbox, budget) = (self.config.clone(), self.inbox.clone(), self.budget.clone());
                self.calls.spawn(async move {
                    let called = client::call(*call, &config, &budget).await;
                    // A closed inbox means the agent ends.
                    let _ = inbox.send(Input::ServiceAnswered { id, called }).await;
                });
            }
        }
    }
}
