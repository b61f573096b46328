//! A small MQTT broker in the agent, for machines that shall need no other:
//! MQTT 3.1 and 3.1.1 with QoS 0 to 2, retained messages, wills and sessions, all
//! in memory. It knows nothing of devices or topics of KubeEdge: the agent is a
//! client of it like any other (`eventbus`), only by a socket of its own.
//!
//! `router` decides everything and is pure, and so is all it is made of:
//! `packet`, `access`, `peer`, `clients`, `session`, `outbox`, `retained`,
//! `topic`. `listen` and `line` move bytes.

pub mod access;
mod clients;
mod line;
mod listen;
mod outbox;
pub mod packet;
mod peer;
mod retained;
pub mod router;
mod session;
pub mod topic;

use std::path::PathBuf;

use smol::channel;

use self::access::Access;
use self::line::Hub;
use self::packet::Message;
use self::router::{Limits, Router};
use crate::config::Config;
use crate::host::chance;
use crate::host::socket::Visitors;
use crate::host::tasks::{Executor, Tasks};

/// Connections of the agent itself that wait to be taken.
const VISITORS: usize = 4;
/// Where brokers say what they are.
const VERSION: &str = "$SYS/broker/version";

/// Number of a connection since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(pub u64);

/// Number of a client since the start, one as long as its session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub u64);

/// Why there is no broker. An address that somebody else holds is no reason: it
/// is tried again.
#[derive(Debug)]
pub struct BrokerError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for BrokerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "broker: {}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for BrokerError {}

/// The running broker. It ends when this is dropped.
#[derive(Debug)]
pub struct Broker {
    visitors: Visitors,
    _tasks: Tasks,
}

/// Starts the broker; it listens as soon as its addresses are free.
pub fn open(config: &Config, executor: &Executor) -> Result<Broker, BrokerError> {
    let broker = &config.broker;
    let limits = Limits { clients: broker.max_clients, queue: broker.queue, retained: broker.retained };
    let access = Access { anonymous: broker.allow_anonymous, users: broker.users.clone() };
    let mut router = Router::new(limits, access, chance::seed());
    router.keep(Message { topic: VERSION.to_owned(), payload: concat!("selvedge ", env!("CARGO_PKG_VERSION")).as_bytes().into() });
    let hub = Hub::new(router, config.eventbus.max_packet, executor);
    let mut tasks = Tasks::new(executor);
    tasks.spawn(line::keep_time(hub.clone()));
    let (visitors, arrivals) = channel::bounded(VISITORS);
    tasks.spawn(listen::receive(hub.clone(), arrivals));
    for address in &broker.listen {
        tasks.spawn(listen::plain(hub.clone(), address.clone()));
    }
    if !broker.listen_tls.is_empty() {
        let acceptor = listen::acceptor(&broker.certificate, &broker.key)?;
        for address in &broker.listen_tls {
            tasks.spawn(listen::encrypted(hub.clone(), address.clone(), acceptor.clone(), executor.clone()));
        }
    }
    Ok(Broker { visitors, _tasks: tasks })
}

impl Broker {
    /// Takes connections of the agent itself; they need no password.
    pub fn visitors(&self) -> Visitors {
        self.visitors.clone()
    }
}
