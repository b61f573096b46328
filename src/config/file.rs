//! The TOML file as the whole configuration, or as the list of all its faults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Table;

use super::edit::quoted;
use super::reader::{Faults, Section, nearest};
use super::{
    Broker, BusMode, Config, Control, DeviceTwin, Dmi, EdgeHub, Edged, EmbeddedBroker, EventBus, Eviction, Listen, MetaManager, Secret, ServiceBus, address,
    filter, names,
};
use crate::wire::quantity::Quantity;

/// Tables of the file.
const TABLES: [&str; 11] = ["node", "edgehub", "metamanager", "edged", "devicetwin", "eventbus", "broker", "servicebus", "dmi", "control", "log"];

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// It says things that make no sense.
    Faults {
        /// Which.
        path: PathBuf,
        /// All of them.
        faults: Faults,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Faults { path, faults } => write!(f, "{}:\n  {}", path.display(), faults.0.join("\n  ")),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Io { path: path.to_owned(), why })?;
    parse(&text, &hostname()).map_err(|faults| ConfigError::Faults { path: path.to_owned(), faults })
}

/// The machine's name, as a node's name must be written.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// Reads the text of a file.
pub fn parse(text: &str, hostname: &str) -> Result<Config, Faults> {
    let mut file: Table = toml::from_str(text).map_err(|why: toml::de::Error| Faults(vec![why.to_string().trim_end().to_owned()]))?;
    let mut faults = Faults::default();
    let config = Config {
        node: super::node::read(&mut file, hostname, &mut faults),
        edgehub: edgehub(&mut file, &mut faults),
        metamanager: metamanager(&mut file, &mut faults),
        edged: edged(&mut file, &mut faults),
        devicetwin: devicetwin(&mut file, &mut faults),
        eventbus: eventbus(&mut file, &mut faults),
        servicebus: servicebus(&mut file, &mut faults),
        dmi: dmi(&mut file, &mut faults),
        broker: embedded_broker(&mut file, &mut faults),
        control: control(&mut file, &mut faults),
        log: log(&mut file, &mut faults),
    };
    for key in file.keys() {
        let hint = nearest(key, &TABLES).map(|near| format!(", did you mean [{near}]?")).unwrap_or_default();
        faults.0.push(format!("{key}: unknown table or key{hint}"));
    }
    if faults.0.is_empty() { Ok(config) } else { Err(faults) }
}

fn edgehub(file: &mut Table, faults: &mut Faults) -> EdgeHub {
    let mut section = Section::take(file, "edgehub", faults);
    let config = EdgeHub {
        websocket: section.address("websocket", "127.0.0.1:10000"),
        https: section.address("https", "127.0.0.1:10002"),
        project: section.text("project", "e632aba927ea4ac2b575ec1603d56f10"),
        ca: section.path("ca", "/etc/selvedge/ca.crt"),
        certificate: section.path("certificate", "/etc/selvedge/node.crt"),
        key: section.path("key", "/etc/selvedge/node.key"),
        heartbeat: section.duration("heartbeat", Duration::from_secs(15)),
        max_message: usize::try_from(section.size("max_message", 8 << 20, 64 << 10)).unwrap_or(8 << 20),
        proxy: section.maybe("proxy"),
    };
    if config.heartbeat >= Duration::from_secs(30) {
        section.fault("heartbeat", "the cloud ends a session after 30 s without one");
    }
    if let Some(Err(why)) = config.proxy.as_deref().map(proxy) {
        section.fault("proxy", &format!("http://[USER:PASSWORD@]HOST:PORT was expected: {why}"));
    }
    section.end(faults);
    config
}

/// What is wrong with the URL of a proxy; its password is not shown.
fn proxy(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").ok_or("it does not begin with http://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    address::check(rest.rsplit_once('@').map_or(rest, |(_, address)| address))
}

fn metamanager(file: &mut Table, faults: &mut Faults) -> MetaManager {
    let mut section = Section::take(file, "metamanager", faults);
    let config = MetaManager { dir: section.path("dir", "/var/lib/selvedge"), journal: section.size("journal", 1 << 20, 64 << 10) };
    section.end(faults);
    config
}

/// Runtimes take a cgroup without a slash for one below their own.
fn absolute(cgroup: &str) -> String {
    let name = cgroup.trim_matches('/');
    if name.is_empty() { String::new() } else { format!("/{name}") }
}

fn edged(file: &mut Table, faults: &mut Faults) -> Edged {
    let mut section = Section::take(file, "edged", faults);
    let systemd_cgroups = match section.text("cgroup_driver", "auto").as_str() {
        "auto" => None,
        "cgroupfs" => Some(false),
        "systemd" => Some(true),
        _ => {
            section.fault("cgroup_driver", "auto, cgroupfs or systemd was expected");
            None
        }
    };
    let quantity = |section: &mut Section, key, default: &str, unit: fn(Quantity) -> i64| {
        let text = section.text(key, default);
        Quantity::parse(&text).map(unit).unwrap_or_else(|| {
            section.fault(key, &format!("a quantity was expected, not '{text}'"));
            0
        })
    };
    let config = Edged {
        runtime: section.path("runtime", "/run/containerd/containerd.sock"),
        root: section.path("root", "/var/lib/kubelet"),
        pod_logs: section.path("pod_logs", "/var/log/pods"),
        container_logs: section.path("container_logs", "/var/log/containers"),
        systemd_cgroups,
        cgroup_root: absolute(&section.text("cgroup_root", "")),
        cluster_dns: section.list("cluster_dns"),
        cluster_domain: section.text("cluster_domain", "cluster.local"),
        resolv_conf: section.path("resolv_conf", "/etc/resolv.conf"),
        max_pods: section.number("max_pods", 110, 1, 1000),
        reserved_cpu: quantity(&mut section, "reserved_cpu", "0", Quantity::milli),
        reserved_memory: quantity(&mut section, "reserved_memory", "0", Quantity::units),
        max_images: section.number("max_images", 50u32, 0, 1000) as usize,
        events: section.flag("events", true),
        log_max_size: section.size("log_max_size", 10 << 20, 4 << 10),
        log_max_files: section.number("log_max_files", 5, 2, 100),
        allowed_unsafe_sysctls: section.list("allowed_unsafe_sysctls"),
        image_gc_high: section.number("image_gc_high", 85, 1, 100),
        image_gc_low: section.number("image_gc_low", 80, 0, 99),
        eviction: Eviction { memory: section.size("eviction_memory", 100 << 20, 0), disk: section.number("eviction_disk", 10, 0, 50) },
        use_local_image_offline: section.flag("use_local_image_offline", true),
    };
    for address in config.cluster_dns.iter().filter(|address| address.parse::<std::net::IpAddr>().is_err()) {
        section.fault("cluster_dns", &format!("'{address}' is no IP address"));
    }
    if let Some(Err(why)) = Some(&config.cluster_domain).filter(|domain| !domain.is_empty()).map(|domain| names::subdomain(domain)) {
        section.fault("cluster_domain", &format!("'{}' is no domain: {why}", names::head(&config.cluster_domain)));
    }
    if config.image_gc_low >= config.image_gc_high {
        section.fault("image_gc_low", "it must be below image_gc_high");
    }
    section.end(faults);
    config
}

fn devicetwin(file: &mut Table, faults: &mut Faults) -> DeviceTwin {
    let mut section = Section::take(file, "devicetwin", faults);
    let config = DeviceTwin {
        report_rate: section.number("report_rate", 30, 1, 10_000),
        legacy_topics: section.flag("legacy_topics", false),
        spool_size: section.size("spool_size", 1 << 20, 0),
        spool_age: section.duration("spool_age", Duration::from_secs(7 * 24 * 3600)),
    };
    section.end(faults);
    config
}

fn eventbus(file: &mut Table, faults: &mut Faults) -> EventBus {
    let mut section = Section::take(file, "eventbus", faults);
    let mode = match section.text("mode", "external").as_str() {
        "external" => BusMode::External,
        "internal" => BusMode::Internal,
        "off" => BusMode::Off,
        _ => {
            section.fault("mode", "external, internal or off was expected");
            BusMode::Off
        }
    };
    let server = section.text("server", "tcp://127.0.0.1:1883");
    let server = external_broker(&server).unwrap_or_else(|why| {
        section.fault("server", &format!("tcp://HOST:PORT, ssl://HOST:PORT or unix:///PATH was expected, not '{server}': {why}"));
        Broker::Tcp(String::new())
    });
    let config = EventBus {
        mode,
        server,
        client_id: section.maybe("client_id"),
        user: section.maybe("user"),
        password: Secret(section.secret("password")),
        qos: section.number("qos", 1, 0, 2),
        retain: section.flag("retain", false),
        keepalive: section.duration("keepalive", Duration::from_secs(30)),
        max_packet: usize::try_from(section.size("max_packet", 256 << 10, 1 << 10)).unwrap_or(256 << 10),
        ca: section.path("ca", "/etc/selvedge/mqtt-ca.crt"),
        certificate: section.maybe("certificate").map(Into::into),
        key: section.maybe("key").map(Into::into),
    };
    if config.max_packet > 256 << 10 {
        section.fault("max_packet", "at most 256Ki");
    }
    if config.certificate.is_some() != config.key.is_some() {
        section.fault("certificate", "certificate and key belong together");
    }
    if config.user.is_none() && !config.password.0.is_empty() {
        section.fault("password", "a password needs a user");
    }
    if config.keepalive < Duration::from_secs(5) {
        section.fault("keepalive", "at least 5s");
    }
    section.end(faults);
    config
}

fn external_broker(text: &str) -> Result<Broker, String> {
    let (scheme, rest) = text.split_once("://").ok_or("the scheme is missing")?;
    let address = || address::check(rest).map(|()| rest.to_owned());
    match scheme {
        "tcp" | "mqtt" => address().map(Broker::Tcp),
        "ssl" | "tls" | "mqtts" => address().map(Broker::Tls),
        "unix" if rest.starts_with('/') => Ok(Broker::Unix(rest.into())),
        "unix" => Err("the path is not absolute".to_owned()),
        _ => Err(format!("'{scheme}' is no scheme of a broker")),
    }
}

fn servicebus(file: &mut Table, faults: &mut Faults) -> ServiceBus {
    let mut section = Section::take(file, "servicebus", faults);
    let config = ServiceBus {
        enabled: section.flag("enabled", false),
        listen: section.address("listen", "127.0.0.1:9060"),
        timeout: section.duration("timeout", Duration::from_secs(60)),
        app_timeout: section.duration("app_timeout", Duration::from_secs(10)),
        hosts: section.list("hosts"),
        certificate: section.maybe("certificate").map(Into::into),
        key: section.maybe("key").map(Into::into),
    };
    if config.certificate.is_some() != config.key.is_some() {
        section.fault("certificate", "certificate and key belong together");
    }
    section.end(faults);
    config
}

fn embedded_broker(file: &mut Table, faults: &mut Faults) -> EmbeddedBroker {
    let mut section = Section::take(file, "broker", faults);
    let listen: Vec<Listen> = section.list_or("listen", &["127.0.0.1:1883"]).iter().filter_map(|text| listen(&mut section, text)).collect();
    let listen_tls = section.list("listen_tls");
    for (text, why) in listen_tls.iter().filter_map(|text| Some((text, address::check(text).err()?))) {
        section.fault("listen_tls", &format!("'{text}': {why}"));
    }
    let users = section.secrets("users");
    let is_local = listen.iter().all(Listen::is_local) && listen_tls.iter().all(|address| Listen::Tcp(address.clone()).is_local());
    let allow_anonymous = section.flag("allow_anonymous", is_local && users.is_empty());
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let config = EmbeddedBroker {
        listen,
        listen_tls,
        certificate: section.path("certificate", "/etc/selvedge/broker.crt"),
        key: section.path("key", "/etc/selvedge/broker.key"),
        allow_anonymous,
        users,
        max_clients: section.number("max_clients", 100u32, 1, 10_000) as usize,
        queue: size(section.size("queue", 256 << 10, 4 << 10)),
        retained: size(section.size("retained", 1 << 20, 0)),
    };
    if !config.allow_anonymous && config.users.is_empty() {
        section.fault("users", "others than this machine may come: name users, or say allow_anonymous = true");
    }
    section.end(faults);
    config
}

fn dmi(file: &mut Table, faults: &mut Faults) -> Dmi {
    let mut section = Section::take(file, "dmi", faults);
    let config = Dmi {
        enabled: section.flag("enabled", true),
        socket: section.path("socket", "/etc/kubeedge/dmi.sock"),
        call_timeout: section.duration("call_timeout", Duration::from_secs(10)),
        rate: section.number("rate", 1000, 1, 100_000),
    };
    section.end(faults);
    config
}

fn listen(section: &mut Section, text: &str) -> Option<Listen> {
    let listen = match text.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(Listen::Unix(path.into())),
        Some(_) => Err("the path is not absolute".to_owned()),
        None => address::check(text).map(|()| Listen::Tcp(text.to_owned())),
    };
    listen.inspect_err(|why| section.fault("listen", &format!("HOST:PORT or unix:///PATH was expected, not '{text}': {why}"))).ok()
}

fn control(file: &mut Table, faults: &mut Faults) -> Control {
    let mut section = Section::take(file, "control", faults);
    let config = Control { socket: section.path("socket", "/run/selvedge/control.sock") };
    section.end(faults);
    config
}

fn log(file: &mut Table, faults: &mut Faults) -> String {
    let mut section = Section::take(file, "log", faults);
    let filter = section.text("filter", "info");
    if let Err(why) = filter::check(&filter) {
        section.fault("filter", &why);
    }
    section.end(faults);
    filter
}

/// A file for a node that joined: what differs from the defaults.
pub fn render(node: &str, edgehub: &EdgeHub, metamanager: Option<&Path>) -> String {
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let mut text = format!(
        "# Written by 'selvedge join'. All keys: config/selvedge.toml of the release.\n[node]\nname = {}\n\n[edgehub]\nwebsocket = {}\nhttps = {}\nca = {}\ncertificate = {}\nkey = {}\n",
        quoted(node),
        quoted(&edgehub.websocket),
        quoted(&edgehub.https),
        path(&edgehub.ca),
        path(&edgehub.certificate),
        path(&edgehub.key)
    );
    if let Some(dir) = metamanager {
        text.push_str(&format!("\n[metamanager]\ndir = {}\n", path(dir)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_told_in_one_run() {
        let text = "[node]\nname = 'A_b'\nlables = 1\n[edgehub]\nwebsocket = 'nowhere'\nheartbeat = '40s'\n[edged]\nmax_pods = 0\ncgroup_driver = 'x'\nlog_max_size = 'many'\n[edge]\n";
        let Err(Faults(faults)) = parse(text, "h") else { panic!("it is full of faults") };
        for wanted in [
            "node.name",
            "node.lables: unknown key, did you mean 'labels'?",
            "edgehub.websocket: 'nowhere': HOST:PORT",
            "edgehub.heartbeat",
            "edged.max_pods",
            "edged.cgroup_driver",
            "edged.log_max_size",
            "edge: unknown table or key, did you mean [edged]?",
        ] {
            assert!(faults.iter().any(|fault| fault.starts_with(wanted)), "{wanted}: {faults:#?}");
        }
        assert_eq!(faults.len(), 8, "{faults:#?}");
    }

    #[test]
    fn addresses_and_filters_are_checked_and_passwords_never_shown() {
        for (text, wanted) in [
            ("[edgehub]\nwebsocket = 'https://cloud:10000/'", "edgehub.websocket: 'https://cloud:10000/': HOST:PORT without 'https://' was expected"),
            ("[edgehub]\nhttps = '::1'", "edgehub.https: '::1': an IPv6 address stands in brackets: [::1]:PORT"),
            ("[edgehub]\nhttps = 5", "edgehub.https: HOST:PORT was expected, not 5"),
            (
                "[edgehub]\nproxy = 'http://u:geheim@proxy'",
                "edgehub.proxy: http://[USER:PASSWORD@]HOST:PORT was expected: HOST:PORT was expected, the port is missing",
            ),
            ("[edgehub]\nproxy = 'socks://u:geheim@proxy:1'", "edgehub.proxy: http://[USER:PASSWORD@]HOST:PORT was expected: it does not begin with http://"),
            ("[edged]\ncluster_dns = ['10.96.0.10', 'dns']", "edged.cluster_dns: 'dns' is no IP address"),
            ("[edged]\ncluster_domain = 'cluster.local.'", "edged.cluster_domain: 'cluster.local.' is no domain"),
            (
                "[eventbus]\nserver = '127.0.0.1:1883'",
                "eventbus.server: tcp://HOST:PORT, ssl://HOST:PORT or unix:///PATH was expected, not '127.0.0.1:1883': the scheme",
            ),
            (
                "[eventbus]\nserver = 'ws://a:1'",
                "eventbus.server: tcp://HOST:PORT, ssl://HOST:PORT or unix:///PATH was expected, not 'ws://a:1': 'ws' is no scheme",
            ),
            ("[eventbus]\nserver = 'tcp://a:1/x'", "eventbus.server: "),
            ("[eventbus]\nuser = 'u'\npassword = ['geheim']", "eventbus.password: a text was expected, not a list"),
            ("[servicebus]\nlisten = 'a'", "servicebus.listen: 'a': HOST:PORT was expected, the port is missing"),
            ("[log]\nfilter = 'inof'", "log.filter: 'inof' is neither a level nor a module, did you mean 'info'?"),
            ("[log]\nfilter = 3", "log.filter: a text was expected, not 3"),
            ("[log]\nlevel = 'info'", "log.level: unknown key"),
        ] {
            let Err(Faults(faults)) = parse(text, "h") else { panic!("{text}") };
            assert!(faults.len() == 1 && faults[0].starts_with(wanted) && !faults[0].contains("geheim"), "{text}: {faults:?}");
        }
    }

    #[test]
    fn a_broker_that_others_reach_needs_users_or_a_word() {
        let broker = |text: &str| parse(&format!("[broker]\n{text}"), "h").map(|config| config.broker).map_err(|faults| faults.0.join("; "));
        let local = broker("listen = ['127.0.0.1:1883', '[::1]:1883', 'localhost:1884', 'unix:///run/x.sock']").expect("it is right");
        assert!(local.allow_anonymous && local.listen.len() == 4);
        for open in ["listen = ['0.0.0.0:1883']", "listen_tls = ['192.0.2.1:8883']", "allow_anonymous = false"] {
            let fault = broker(open).expect_err("nobody could come");
            assert!(fault.starts_with("broker.users: "), "{open}: {fault}");
        }
        assert!(broker("listen = ['0.0.0.0:1883']\nallow_anonymous = true").is_ok_and(|broker| broker.allow_anonymous));
        let named = broker("listen = ['0.0.0.0:1883']\nusers = { plant = 'secret' }").expect("it is right");
        assert!(!named.allow_anonymous && named.users["plant"].0 == "secret" && !format!("{named:?}").contains("secret"));
        assert_eq!(broker("listen = []").map(|broker| broker.listen), Ok(Vec::new()));
        for (text, wanted) in [
            ("listen = ['nowhere']", "broker.listen: HOST:PORT or unix:///PATH"),
            ("listen = ['unix://x']", "broker.listen: HOST:PORT or unix:///PATH"),
            ("listen_tls = ['x']\nallow_anonymous = true", "broker.listen_tls: 'x': HOST:PORT"),
            ("queue = '1Ki'", "broker.queue: a size of at least 4096"),
            ("max_clients = 0", "broker.max_clients"),
            ("users = { a = ['geheim'] }", "broker.users: a table of NAME = \"PASSWORD\""),
        ] {
            let fault = broker(text).expect_err(text);
            assert!(fault.starts_with(wanted) && !fault.contains("geheim"), "{text}: {fault}");
        }
    }

    #[test]
    fn the_sample_file_is_the_defaults_and_names_every_key() {
        let sample = include_str!("../../config/selvedge.toml");
        let defaults = parse("", "host").expect("nothing is wrong with nothing");
        assert_eq!(parse(sample, "host").expect("the sample is right"), defaults);
        let uncommented: String = sample.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
        for key in ["name", "labels", "annotations", "taints", "ip", "proxy", "users"] {
            assert!(uncommented.contains(&format!("{key} =")), "{key}");
        }
        let keys = include_str!("file.rs")
            .split("section.")
            .skip(1)
            .filter_map(|call| call.split('"').nth(1).filter(|_| call.starts_with(['t', 'p', 'a', 'f', 'n', 's', 'd', 'l', 'm'])));
        for key in keys.filter(|key| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')) {
            assert!(uncommented.contains(&format!("{key} =")), "{key} is not in config/selvedge.toml");
        }
    }

    #[test]
    fn the_minimal_file_is_enough() {
        let config = parse(include_str!("../../config/minimal.toml"), "edge-1").expect("it is right");
        assert_eq!((config.node.name.as_str(), config.edgehub.websocket.as_str()), ("edge-1", "cloud.example.com:10000"));
    }
}
