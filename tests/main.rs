//! Stories and rules about the whole agent, in one binary.

mod architecture;
#[cfg(all(feature = "broker", feature = "edgehub"))]
#[path = "live/broker.rs"]
mod broker;
#[cfg(feature = "cloud")]
mod calls;
mod cli;
#[cfg(feature = "cloud")]
mod cloud;
#[cfg(feature = "cloud")]
mod devices;
#[cfg(feature = "edged")]
mod doctor;
#[cfg(feature = "cloud")]
mod endings;
#[cfg(feature = "cloud")]
mod events;
#[cfg(feature = "cloud")]
mod eviction;
#[cfg(all(feature = "cloud", feature = "edged", feature = "eventbus", feature = "broker", feature = "servicebus", feature = "dmi"))]
#[path = "fuzz/replay.rs"]
mod fuzz;
#[cfg(feature = "cloud")]
mod initialization;
#[cfg(feature = "cloud")]
mod limits;
#[cfg(all(feature = "cloud", feature = "edged"))]
mod link;
#[cfg(all(feature = "cloud", feature = "edged"))]
mod live;
#[cfg(feature = "cloud")]
mod offline;
#[cfg(feature = "cloud")]
mod pod_fields;
#[cfg(feature = "cloud")]
mod probes;
#[cfg(feature = "cloud")]
mod random;
#[cfg(feature = "cloud")]
mod recovery;
#[cfg(feature = "cloud")]
mod registration;
#[cfg(feature = "cloud")]
mod requests;
#[cfg(feature = "cloud")]
mod restarts;
#[cfg(feature = "servicebus")]
mod servicebus;
#[cfg(feature = "cloud")]
mod sim;
#[cfg(all(feature = "cloud", feature = "edged", feature = "eventbus", feature = "broker", feature = "servicebus", feature = "dmi"))]
#[path = "fuzz/targets/mod.rs"]
mod targets;
#[cfg(feature = "cloud")]
mod termination;
mod unit;
#[cfg(feature = "cloud")]
mod updates;
mod vectors;
#[cfg(feature = "edgehub")]
mod wire;
