//! # selvedge
//!
//! One static binary that makes a small machine a Kubernetes edge node of an
//! unmodified KubeEdge cloud. A selvedge is the self-finished edge that keeps a
//! cloth from unravelling: the node keeps working when the cloud is gone.
//!
//! ## The map, in reading order
//!
//! | module | what it is for |
//! |---|---|
//! | [`cli`] | argv to exit code: run, join, check, status, get, describe, logs, twin, mqtt |
//! | [`config`] | the TOML file as typed, complete settings, or all its faults |
//! | [`agent`] | the one loop between the node and its shells |
//! | [`modules`] | which shells this build has; the only place that asks for features |
//! | [`node`] | **all decisions**, pure: link, presence, meta, pods, eviction, events, twins, mappers, spool |
//! | [`wire`] | the cloud's messages, Kubernetes objects, CRI's and DMI's messages, pure |
//! | `edgehub` | shell: joins the cloud, the WebSocket over mTLS |
//! | `metamanager` | shell: what must survive, in a journal folded into redb |
//! | `edged` | shell: pods, through the CRI socket, and their part of the machine |
//! | `eventbus` | shell: the broker's client, MQTT |
//! | `servicebus` | shell: HTTP between apps and the cloud |
//! | `dmi` | shell: mappers, gRPC both ways |
//! | `broker` | an MQTT broker of our own: a pure router and its sockets |
//! | [`host`] | clock, chance, tasks, signals, log, local socket, files below a directory without links, TLS, gRPC; knows nothing of ours |
//! | `cloud` | the stand-in for one bench: CloudHub and a folder of manifests |
//!
//! ## Who may know whom
//!
//! ```text
//! main -> cli -> agent -> modules -> edgehub metamanager edged eventbus servicebus dmi broker
//!                  |                     |   a shell never knows another shell
//!                  v                     v
//!                 node  <----------  wire, node's types, host
//! ```
//!
//! ## What holds everywhere
//!
//! * A star, not a chain: each fact enters the node once, each effect leaves it
//!   once, and nobody waits for an answer from another module.
//! * Disk before deed: what the cloud wants is on disk before it is
//!   acknowledged and before a container is touched.
//! * Want, seen, plan: a pod is driven by comparing what is wanted with what the
//!   runtime shows now; after a restart the same comparison goes on.
//! * Time is an argument: nothing in `node` or `wire` has a clock, a socket, a
//!   task or an await.

pub mod agent;
#[cfg(feature = "broker")]
pub mod broker;
pub mod cli;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod config;
#[cfg(feature = "dmi")]
pub mod dmi;
#[cfg(feature = "edged")]
pub mod edged;
#[cfg(feature = "edgehub")]
pub mod edgehub;
#[cfg(feature = "eventbus")]
pub mod eventbus;
pub mod host;
#[cfg(feature = "metamanager")]
pub mod metamanager;
pub mod modules;
pub mod node;
#[cfg(feature = "servicebus")]
pub mod servicebus;
pub mod wire;
