//! What pods run in: the container runtime, the image of its sandboxes, and the
//! network it gives them, each as the runtime itself says where it is.

use std::path::{Path, PathBuf};

use super::{Finding, Fix, Grade};
use crate::config;
use crate::modules::{self, NoAnswer};
use crate::node::runtime::{Cni, RuntimeInfo};

/// Where containerd is unless told; ctr looks there by itself.
const CONTAINERD: &str = "/run/containerd/containerd.sock";
/// Where CNI configurations and plugins are, for a runtime that does not say.
const CNI_CONFIGS: &str = "/etc/cni/net.d";
const CNI_PLUGINS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// CRI-O reads it beside its own configuration.
const CRIO_EVENTS: &str = "/etc/crio/crio.conf.d/10-selvedge.conf";
/// A CNI configuration that serves any single node.
const BRIDGE: &str = r#"{"cniVersion":"0.4.0","name":"selvedge","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.85.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}
"#;

/// Looks at all of it.
pub(super) fn examine(config: &config::Edged) -> Vec<Finding> {
    let socket = &config.runtime;
    match modules::ask_runtime(socket) {
        Ok((info, has_sandbox_image)) => {
            let mut findings = vec![health(socket, &info)];
            findings.extend(sandbox_image(socket, &info, has_sandbox_image));
            findings.push(network(&info.cni, info.network_not_ready.as_deref()));
            findings.extend(events(&info));
            findings.extend(slices(&info));
            findings
        }
        Err(cause) => {
            let other = elsewhere(socket, is_socket);
            vec![silence(socket, cause, other), network(&Cni::default(), None)]
        }
    }
}

fn health(socket: &Path, info: &RuntimeInfo) -> Finding {
    match &info.not_ready {
        None => Finding::ok("runtime", format!("{} {} answers at {}", info.name, info.version, socket.display())),
        Some(why) => Finding::bad(Grade::Fail, "runtime", format!("{} is not ready: {why}", info.name), format!("journalctl -u {}", info.name)),
    }
}

/// Where the runtimes of distributions listen.
const SOCKETS: [&str; 7] = [
    CONTAINERD,
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/cri-dockerd.sock",
];

/// A runtime's socket that is there when the configured one is of no use.
fn elsewhere(configured: &Path, is_socket: impl Fn(&Path) -> bool) -> Option<&'static str> {
    SOCKETS.into_iter().find(|path| Path::new(path) != configured && is_socket(Path::new(path)))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

fn silence(socket: &Path, cause: NoAnswer, other: Option<&str>) -> Finding {
    match cause {
        NoAnswer::NoCri => Finding::bad(
            Grade::Fail,
            "runtime",
            format!(
                "{} answers without CRI v1: its CRI plugin is disabled, as Docker's package ships it, or it is older than containerd 1.6",
                socket.display()
            ),
            "remove \"cri\" from disabled_plugins in /etc/containerd/config.toml, then systemctl restart containerd",
        ),
        NoAnswer::NotBuilt => Finding::bad(Grade::Warn, "runtime", "edged: not in this build", ""),
        NoAnswer::Down(why) if other.is_some() => {
            let other = other.unwrap_or_default();
            let mend = format!("edged.runtime = \"{other}\" in the configuration");
            Finding::bad(Grade::Fail, "runtime", format!("{why}; a runtime listens at {other}, edged.runtime names another"), mend)
        }
        NoAnswer::Down(why) => {
            let installed = ["/usr/bin/containerd", "/usr/local/bin/containerd", "/usr/bin/crio"].iter().any(|path| Path::new(path).exists());
            if !installed {
                return Finding::bad(Grade::Fail, "runtime", why, "apt-get install containerd runc containernetworking-plugins");
            }
            let unit = if socket.ends_with("crio.sock") { "crio" } else { "containerd" };
            let start = ["systemctl", "enable", "--now", unit];
            Finding::bad(Grade::Fail, "runtime", why, start.join(" ")).mended_by(Fix::run(&start))
        }
    }
}

/// Runtimes pull it with the first pod, which needs a registry just then.
fn sandbox_image(socket: &Path, info: &RuntimeInfo, is_here: bool) -> Option<Finding> {
    let image = info.sandbox_image.as_str();
    if image.is_empty() {
        return None;
    }
    if is_here {
        return Some(Finding::ok("image", format!("{image} of the sandboxes is here")));
    }
    let path = socket.to_string_lossy();
    let endpoint = format!("unix://{path}");
    let pull: Vec<&str> = if info.name != "containerd" {
        vec!["crictl", "--runtime-endpoint", &endpoint, "pull", image]
    } else if path == CONTAINERD {
        vec!["ctr", "-n", "k8s.io", "images", "pull", image]
    } else {
        vec!["ctr", "-a", &path, "-n", "k8s.io", "images", "pull", image]
    };
    let why = format!("{image} of the sandboxes is not here: no pod starts before it was pulled, and none without a network");
    Some(Finding::bad(Grade::Warn, "image", why, pull.join(" ")).mended_by(Fix::run(&pull)))
}

fn network(cni: &Cni, not_ready: Option<&str>) -> Finding {
    let plugins = if cni.plugins.is_empty() { CNI_PLUGINS.map(PathBuf::from).to_vec() } else { cni.plugins.clone() };
    if !plugins.iter().any(|dir| entries(dir).next().is_some()) {
        let dirs: Vec<_> = plugins.iter().map(|dir| dir.display().to_string()).collect();
        return Finding::bad(Grade::Fail, "network", format!("no CNI plugins in {}", dirs.join(", ")), "apt-get install containernetworking-plugins");
    }
    let configs = if cni.configs.as_os_str().is_empty() { Path::new(CNI_CONFIGS) } else { &cni.configs };
    let is_config = |path: PathBuf| path.extension().is_some_and(|extension| ["conf", "conflist", "json"].iter().any(|known| extension == *known));
    if !entries(configs).any(is_config) {
        let why = format!("{} has no configuration: pods off the host network get no address", configs.display());
        return Finding::bad(Grade::Warn, "network", why, "selvedge check --fix writes a bridge for this node")
            .mended_by(Fix::Write(configs.join("10-selvedge.conflist"), BRIDGE));
    }
    match not_ready {
        None => Finding::ok("network", format!("CNI plugins and a configuration in {} are there", configs.display())),
        Some(why) => Finding::bad(Grade::Fail, "network", format!("the runtime cannot use {}: {why}", configs.display()), "systemctl restart containerd"),
    }
}

/// CRI-O tells what happens only when it is told to.
fn events(info: &RuntimeInfo) -> Option<Finding> {
    let why = || format!("{} does not tell what happens to containers: it is asked every second", info.name);
    let write = Fix::Write(CRIO_EVENTS.into(), "[crio.runtime]\nenable_pod_events = true\n");
    info.is_silent
        .then(|| Finding::bad(Grade::Warn, "events", why(), format!("selvedge check --fix writes {CRIO_EVENTS}; then systemctl restart crio")).mended_by(write))
}

/// Limits of whole pods are systemd's business where slices are.
fn slices(info: &RuntimeInfo) -> Option<Finding> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&path).any(|dir| dir.join("busctl").exists());
    let is_needed = info.systemd_cgroups == Some(true) && !is_here;
    is_needed.then(|| {
        Finding::bad(Grade::Warn, "slices", "busctl, systemd's own, is not here: only containers have limits, not whole pods", "apt-get install systemd")
    })
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_runtime_is_named() {
        let k3s = "/run/k3s/containerd/containerd.sock";
        assert_eq!(elsewhere(Path::new(CONTAINERD), |path| path == Path::new(k3s)), Some(k3s));
        assert_eq!(elsewhere(Path::new(k3s), |path| path == Path::new(k3s)), None);
        let finding = silence(Path::new(CONTAINERD), NoAnswer::Down("it is away".to_owned()), Some(k3s));
        assert_eq!(finding.mend, format!("edged.runtime = \"{k3s}\" in the configuration"));
        assert!(finding.why.contains("edged.runtime") && finding.fix.is_none(), "{}", finding.why);
    }
}
