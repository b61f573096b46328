//! What the agent is told to do: typed, complete, checked. `file` reads the
//! TOML; this page is what the rest of the agent sees.

pub mod address;
pub mod edit;
pub mod file;
mod filter;
pub mod names;
mod node;
mod reader;

pub use file::{ConfigError, load};
pub use reader::{Faults, time};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration. Every field has a value: what the file does not
/// say is a default, and what it says wrong never gets here.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// The link to the cloud.
    pub edgehub: EdgeHub,
    /// The store.
    pub metamanager: MetaManager,
    /// Pods.
    pub edged: Edged,
    /// What devices say.
    pub devicetwin: DeviceTwin,
    /// MQTT.
    pub eventbus: EventBus,
    /// HTTP between apps and the cloud.
    pub servicebus: ServiceBus,
    /// Mappers.
    pub dmi: Dmi,
    /// The agent's own broker.
    pub broker: EmbeddedBroker,
    /// The local socket.
    pub control: Control,
    /// Filter of the log, as env_logger reads it.
    pub log: String,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Name of the Node object; the host name unless told.
    pub name: String,
    /// Labels given at registration.
    pub labels: BTreeMap<String, String>,
    /// Annotations given at registration.
    pub annotations: BTreeMap<String, String>,
    /// Taints given at registration.
    pub taints: Vec<Taint>,
    /// InternalIP; the address of the default route unless told.
    pub ip: Option<String>,
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// The link to the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeHub {
    /// `HOST:PORT` of CloudHub's WebSocket (10000).
    pub websocket: String,
    /// `HOST:PORT` of CloudHub's HTTPS server (10002).
    pub https: String,
    /// First part of the URL; the cloud ignores it.
    pub project: String,
    /// CA certificate, PEM.
    pub ca: PathBuf,
    /// Client certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM, 0600.
    pub key: PathBuf,
    /// Between keepalives.
    pub heartbeat: Duration,
    /// Largest message taken, bytes.
    pub max_message: usize,
    /// `http://[USER:PASSWORD@]HOST:PORT`; CONNECT is used.
    pub proxy: Option<String>,
}

/// The store.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaManager {
    /// Directory of store and journal, 0700.
    pub dir: PathBuf,
    /// Size of the journal, bytes.
    pub journal: u64,
}

/// Pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Edged {
    /// CRI socket.
    pub runtime: PathBuf,
    /// Pod directories.
    pub root: PathBuf,
    /// Log directories of pods.
    pub pod_logs: PathBuf,
    /// Links to the logs of containers.
    pub container_logs: PathBuf,
    /// `None`: ask the runtime.
    pub systemd_cgroups: Option<bool>,
    /// Where `kubepods` hangs.
    pub cgroup_root: String,
    /// Addresses of the cluster's DNS.
    pub cluster_dns: Vec<String>,
    /// Its domain.
    pub cluster_domain: String,
    /// The node's resolver file; empty for none.
    pub resolv_conf: PathBuf,
    /// At most so many pods.
    pub max_pods: u32,
    /// Kept from pods: milli-CPU.
    pub reserved_cpu: i64,
    /// Kept from pods: bytes.
    pub reserved_memory: i64,
    /// Images listed in the node's status.
    pub max_images: usize,
    /// Send Kubernetes Events.
    pub events: bool,
    /// Largest log file, bytes.
    pub log_max_size: u64,
    /// Log files kept for a container.
    pub log_max_files: u32,
    /// Sysctls beyond the safe ones; a trailing `*` matches.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Disk use in percent at which unused images go.
    pub image_gc_high: u8,
    /// Disk use in percent at which that ends.
    pub image_gc_low: u8,
    /// When pods have to make room.
    pub eviction: Eviction,
    /// With policy Always, a local image is better than none while no registry
    /// can be reached.
    pub use_local_image_offline: bool,
}

/// What must stay free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Bytes of memory, on a small machine a tenth of it; 0 for none.
    pub memory: u64,
    /// Percent of the disk, and half as many of its inodes; 0 for none.
    pub disk: u8,
}

/// What devices say.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceTwin {
    /// At most so many messages a second to the cloud with what devices report.
    pub report_rate: u32,
    /// Topics without a namespace (`$hw/events/device/NAME/...`, KubeEdge up to
    /// 1.16) mean namespace `default`.
    pub legacy_topics: bool,
    /// User messages that wait for the cloud: bytes.
    pub spool_size: u64,
    /// And how long the oldest may wait.
    pub spool_age: Duration,
}

/// MQTT.
#[derive(Debug, Clone, PartialEq)]
pub struct EventBus {
    /// Which broker.
    pub mode: BusMode,
    /// Where an external broker listens.
    pub server: Broker,
    /// Client id; `selvedge-NODE` unless told.
    pub client_id: Option<String>,
    /// User name at an external broker.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
    /// QoS of what the agent publishes: 0, 1 or 2.
    pub qos: u8,
    /// Retain what the agent publishes.
    pub retain: bool,
    /// Between pings.
    pub keepalive: Duration,
    /// Largest packet taken and sent, bytes.
    pub max_packet: usize,
    /// CA of an `ssl://` broker, PEM.
    pub ca: PathBuf,
    /// Client certificate for it, PEM; none when absent.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// Which broker the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusMode {
    /// One that runs beside it.
    External,
    /// Its own.
    Internal,
    /// None: no MQTT.
    Off,
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// `tcp://HOST:PORT`.
    Tcp(String),
    /// `ssl://HOST:PORT`.
    Tls(String),
    /// `unix:///PATH`.
    Unix(PathBuf),
}

/// The agent's own broker, for `BusMode::Internal`.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedBroker {
    /// Where it listens without TLS.
    pub listen: Vec<Listen>,
    /// Where it listens with TLS, `HOST:PORT`.
    pub listen_tls: Vec<String>,
    /// Its certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Nobody needs a user name.
    pub allow_anonymous: bool,
    /// Passwords by user name.
    pub users: BTreeMap<String, Secret>,
    /// At most so many clients, those included that are away.
    pub max_clients: usize,
    /// Bytes that may wait for a client.
    pub queue: usize,
    /// Bytes of retained messages.
    pub retained: usize,
}

/// Where the agent's own broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// `HOST:PORT`.
    Tcp(String),
    /// `unix:///PATH`, 0660.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can come.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => {
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// A text that no log may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// HTTP between apps and the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceBus {
    /// Whether there is any.
    pub enabled: bool,
    /// `HOST:PORT` where apps ask the cloud.
    pub listen: String,
    /// How long the cloud may take for an answer.
    pub timeout: Duration,
    /// How long an app may take for its answer to the cloud.
    pub app_timeout: Duration,
    /// Hosts beside this node whose apps the cloud may call.
    pub hosts: Vec<String>,
    /// Certificate of the listener, PEM; without one it speaks plain HTTP.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// Mappers.
#[derive(Debug, Clone, PartialEq)]
pub struct Dmi {
    /// Mappers are served.
    pub enabled: bool,
    /// The socket they look for.
    pub socket: PathBuf,
    /// How long a call to a mapper may take.
    pub call_timeout: Duration,
    /// A mapper may ask so many times a second, and so many at once.
    pub rate: u32,
}

/// The local socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    /// Its path.
    pub socket: PathBuf,
}
