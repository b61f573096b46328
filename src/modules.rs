//! The doors of the modules: which shells this build has. What is not built
//! answers "not in this build", and the node decides the same without it.

use std::path::Path;

use smol::channel::Sender;

use crate::config;
use crate::host::socket::Visitors;
use crate::host::tasks::Executor;
use crate::node::Restored;
#[cfg(not(feature = "eventbus"))]
use crate::node::bus;
#[cfg(not(feature = "dmi"))]
use crate::node::dmi;
use crate::node::input::Input;
#[cfg(not(feature = "edgehub"))]
use crate::node::link;
#[cfg(not(feature = "edged"))]
use crate::node::runtime;
use crate::node::runtime::RuntimeInfo;
#[cfg(not(feature = "servicebus"))]
use crate::node::service;
use crate::node::store::Batch;

#[cfg(feature = "broker")]
pub use crate::broker::{Broker, open as open_broker};
#[cfg(feature = "dmi")]
pub use crate::dmi::{Dmi, open as open_dmi};
#[cfg(feature = "edged")]
pub use crate::edged::{Edged, open as open_edged};
#[cfg(feature = "edgehub")]
pub use crate::edgehub::{EdgeHub, open as open_edgehub};
#[cfg(feature = "eventbus")]
pub use crate::eventbus::EventBus;
#[cfg(feature = "servicebus")]
pub use crate::servicebus::{ServiceBus, open as open_servicebus};

/// The disk's shell.
pub struct Store {
    #[cfg(feature = "metamanager")]
    writer: crate::metamanager::Writer,
    #[cfg(not(feature = "metamanager"))]
    inbox: Sender<Input>,
}

/// Opens the store and its thread; `now` in seconds since the epoch.
#[cfg(feature = "metamanager")]
pub fn open_store(config: &config::MetaManager, now: i64, inbox: Sender<Input>) -> Result<(Store, Restored), Box<dyn std::error::Error>> {
    let (store, restored) = crate::metamanager::open(config, now)?;
    Ok((Store { writer: store.start(inbox)? }, restored))
}

#[cfg(feature = "metamanager")]
impl Store {
    /// Another batch may be handed over.
    pub fn room(&self) -> bool {
        self.writer.room()
    }

    /// Hands a batch over.
    pub fn put(&self, batch: Batch) {
        if let Err(batch) = self.writer.put(batch) {
            log::error!(target: "metamanager", "batch {} found no room", batch.ticket);
        }
    }
}

/// Without a store everything is "on disk" at once, and gone with the process.
#[cfg(not(feature = "metamanager"))]
pub fn open_store(_: &config::MetaManager, _: i64, inbox: Sender<Input>) -> Result<(Store, Restored), Box<dyn std::error::Error>> {
    log::warn!(target: "metamanager", "not in this build: nothing survives a restart");
    Ok((Store { inbox }, Restored::default()))
}

#[cfg(not(feature = "metamanager"))]
impl Store {
    /// Another batch may be handed over.
    pub fn room(&self) -> bool {
        !self.inbox.is_full()
    }

    /// Forgets a batch.
    pub fn put(&self, batch: Batch) {
        let _ = self.inbox.try_send(Input::Stored(batch.ticket));
    }
}

/// The link of a build without one.
#[cfg(not(feature = "edgehub"))]
pub struct EdgeHub(Sender<Input>);

/// Opens a link that never comes up.
#[cfg(not(feature = "edgehub"))]
pub fn open_edgehub(_: config::EdgeHub, _: &str, inbox: Sender<Input>, _: &Executor) -> EdgeHub {
    EdgeHub(inbox)
}

#[cfg(not(feature = "edgehub"))]
impl EdgeHub {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        !self.0.is_full()
    }

    /// There is always room.
    pub async fn freed(&self) {
        futures_lite::future::pending().await
    }

    /// Answers that there is no link.
    pub fn hand(&mut self, order: link::Order) {
        if let link::Order::Dial(session) = order {
            let end = crate::node::input::LinkEnd::Unusable("edgehub: not in this build".to_owned());
            let _ = self.0.try_send(Input::LinkDown { session, end });
        }
    }
}

/// The runtime of a build without one.
#[cfg(not(feature = "edged"))]
pub struct Edged;

/// Opens a runtime that never comes up.
#[cfg(not(feature = "edged"))]
pub fn open_edged(_: config::Edged, inbox: Sender<Input>, _: &Executor) -> Edged {
    let _ = inbox.try_send(Input::RuntimeDown("edged: not in this build".to_owned()));
    Edged
}

#[cfg(not(feature = "edged"))]
impl Edged {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        true
    }

    /// Drops an order: nothing is ordered of a runtime that is down.
    pub fn hand(&self, _: runtime::Order) {}
}

/// Opens the broker's client; `local` is the way to the agent's own broker.
#[cfg(feature = "eventbus")]
pub fn open_eventbus(config: config::EventBus, node: &str, inbox: Sender<Input>, executor: &Executor, local: Option<Visitors>) -> EventBus {
    crate::eventbus::open(config, node, inbox, executor, local)
}

/// The broker's client of a build without one.
#[cfg(not(feature = "eventbus"))]
#[derive(Debug)]
pub struct EventBus;

/// Opens a client that never gets a broker.
#[cfg(not(feature = "eventbus"))]
pub fn open_eventbus(_: config::EventBus, _: &str, inbox: Sender<Input>, _: &Executor, _: Option<Visitors>) -> EventBus {
    let _ = inbox.try_send(Input::BusDown("eventbus: not in this build".to_owned()));
    EventBus
}

#[cfg(not(feature = "eventbus"))]
impl EventBus {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        true
    }

    /// There is always room.
    pub async fn freed(&self) {
        futures_lite::future::pending().await
    }

    /// Drops an order: nobody is there to hear.
    pub fn hand(&self, _: bus::Order) {}
}

/// HTTP of a build without it.
#[cfg(not(feature = "servicebus"))]
#[derive(Debug)]
pub struct ServiceBus(Sender<Input>);

/// Opens a shell that hears nobody.
#[cfg(not(feature = "servicebus"))]
pub fn open_servicebus(_: config::ServiceBus, inbox: Sender<Input>, _: &Executor) -> ServiceBus {
    ServiceBus(inbox)
}

#[cfg(not(feature = "servicebus"))]
impl ServiceBus {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        !self.0.is_full()
    }

    /// Answers that no app can be called.
    pub fn hand(&mut self, order: service::Order) {
        if let service::Order::Call(id, _) = order {
            let called = service::Called::Unreachable("servicebus: not in this build".to_owned());
            let _ = self.0.try_send(Input::ServiceAnswered { id, called });
        }
    }
}

/// The mappers' door of a build without one.
#[cfg(not(feature = "dmi"))]
#[derive(Debug)]
pub struct Dmi;

/// Opens a door nobody comes by.
#[cfg(not(feature = "dmi"))]
pub fn open_dmi(_: config::Dmi, _: Sender<Input>, _: &Executor) -> Dmi {
    Dmi
}

#[cfg(not(feature = "dmi"))]
impl Dmi {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        true
    }

    /// Drops an order: what another build knew of mappers stays as it is.
    pub fn hand(&self, _: dmi::Order) {}
}

/// The broker of a build without one.
#[cfg(not(feature = "broker"))]
#[derive(Debug)]
pub struct Broker;

/// Says that there is none; nothing listens.
#[cfg(not(feature = "broker"))]
pub fn open_broker(_: &config::Config, _: &Executor) -> Result<Broker, std::convert::Infallible> {
    log::error!(target: "broker", "not in this build: eventbus.mode = \"internal\" has no broker");
    Ok(Broker)
}

#[cfg(not(feature = "broker"))]
impl Broker {
    /// Whoever is sent here is not received.
    pub fn visitors(&self) -> Visitors {
        smol::channel::bounded(1).0
    }
}

/// Which modules this build has, for `--version`.
pub fn built() -> Vec<&'static str> {
    let all = [
        ("edgehub", cfg!(feature = "edgehub")),
        ("metamanager", cfg!(feature = "metamanager")),
        ("edged", cfg!(feature = "edged")),
        ("eventbus", cfg!(feature = "eventbus")),
        ("servicebus", cfg!(feature = "servicebus")),
        ("dmi", cfg!(feature = "dmi")),
        ("broker", cfg!(feature = "broker")),
        ("cloud", cfg!(feature = "cloud")),
    ];
    all.into_iter().filter(|(_, built)| *built).map(|(name, _)| name).collect()
}

/// Controllers that pods' limits need and that are missing; whether the node
/// has cgroup v2.
pub fn cgroups() -> (Vec<String>, bool) {
    #[cfg(feature = "edged")]
    return (crate::edged::cgroup::missing_controllers(), crate::edged::cgroup::is_v2());
    #[cfg(not(feature = "edged"))]
    return (Vec::new(), false);
}

/// Why the runtime did not say how it is.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody who would is reached, and why.
    Down(String),
    /// Somebody is, and does not know CRI v1.
    NoCri,
    /// This build does not ask.
    NotBuilt,
}

/// How the runtime at a socket is, and whether it has the image of its
/// sandboxes.
#[cfg(feature = "edged")]
pub fn ask_runtime(socket: &Path) -> Result<(RuntimeInfo, bool), NoAnswer> {
    crate::edged::ask(socket).map_err(|cause| if cause.is_unimplemented() { NoAnswer::NoCri } else { NoAnswer::Down(cause.to_string()) })
}

/// How the runtime at a socket is: not in this build.
#[cfg(not(feature = "edged"))]
pub fn ask_runtime(_: &Path) -> Result<(RuntimeInfo, bool), NoAnswer> {
    Err(NoAnswer::NotBuilt)
}
