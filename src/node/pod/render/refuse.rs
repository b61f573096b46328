//! What a pod asks that this agent cannot give, by the field's name. A pod is
//! refused as a whole rather than run half obeyed.

use std::collections::BTreeSet;
use std::fmt::Arguments;

use super::sandbox::log_directory_name;
use crate::config;
use crate::wire::kube::{Container, Pod, RestartAction, Volume};

/// Sysctls every pod may set.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Longest name of a file.
const NAME_MAX: usize = 255;

/// The first sysctl a pod may not set.
pub fn sysctl_forbidden(pod: &Pod, config: &config::Edged) -> Option<String> {
    let allowed = |name: &str| {
        SAFE.contains(&name)
            || config.allowed_unsafe_sysctls.iter().any(|pattern| pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix)))
    };
    let shared = |name: &str| pod.spec.host_network && name.starts_with("net.") || pod.spec.host_ipc && name.starts_with("kernel.shm");
    pod.spec.security_context.sysctls.iter().map(|sysctl| sysctl.name.replace('/', ".")).find(|name| !allowed(name) || shared(name))
}

/// Fields that are told by name; of the rest only how many they are.
const TOLD: usize = 10;

/// What of a pod is not supported, by the fields' names; `None` when it can run.
pub fn refusal(pod: &Pod) -> Option<String> {
    let mut fields = refusals(pod);
    if fields.len() > TOLD {
        let more = fields.len() - TOLD;
        fields.truncate(TOLD);
        fields.push(format!("and {more} more"));
    }
    (!fields.is_empty()).then(|| fields.join("; "))
}

/// Fields that are there and not supported; none when the pod can run.
fn refusals(pod: &Pod) -> Vec<String> {
    let spec = &pod.spec;
    let volumes = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let mut list = List(Vec::new());
    list.no(format_args!("spec.ephemeralContainers"), spec.ephemeral_containers.is_some());
    list.no(format_args!("spec.resourceClaims"), spec.resource_claims.is_some());
    let claims = spec.resources.as_ref().and_then(|resources| resources.claims);
    list.no(format_args!("spec.resources.claims"), claims.is_some());
    list.no(format_args!("spec.runtimeClassName"), spec.runtime_class_name.as_ref().is_some_and(|name| !name.is_empty()));
    list.no(format_args!("spec.hostUsers: false"), spec.host_users == Some(false));
    if spec.containers.is_empty() {
        list.say("spec.containers: none".to_owned());
    }
    let logs = log_directory_name(&pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid);
    if logs.len() > NAME_MAX {
        let name = "metadata.name: the pod's log directory NAMESPACE_NAME_UID";
        list.say(format!("{name} would have a name of {} bytes, a file has at most {NAME_MAX}", logs.len()));
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        of_volume(format_args!("spec.volumes[{index}]"), volume, &mut list);
    }
    for (field, containers) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (index, container) in containers.iter().enumerate() {
            of_container(&volumes, format_args!("spec.{field}[{index}]"), container, &mut list);
        }
    }
    list.0
}

struct List(Vec<String>);

impl List {
    fn no(&mut self, field: Arguments<'_>, there: bool) {
        if there {
            self.say(format!("{field}: not supported by this agent"));
        }
    }

    fn say(&mut self, what: String) {
        self.0.push(what);
    }
}

fn of_volume(field: Arguments<'_>, volume: &Volume, list: &mut List) {
    for source in volume.other.keys() {
        list.no(format_args!("{field}.{source}"), true);
    }
    let sources = volume.projected.iter().flat_map(|projected| &projected.sources);
    for (index, source) in sources.enumerate() {
        list.no(format_args!("{field}.projected.sources[{index}].clusterTrustBundle"), source.cluster_trust_bundle.is_some());
        list.no(format_args!("{field}.projected.sources[{index}].podCertificate"), source.pod_certificate.is_some());
    }
    let medium = volume.empty_dir.as_ref().map_or("", |empty| &empty.medium);
    list.no(format_args!("{field}.emptyDir.medium"), !matches!(medium, "" | "Memory"));
}

fn of_container(volumes: &BTreeSet<&str>, field: Arguments<'_>, container: &Container, list: &mut List) {
    list.no(format_args!("{field}.volumeDevices"), container.volume_devices.is_some());
    list.no(format_args!("{field}.resources.claims"), container.resources.claims.is_some());
    let stop_signal = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal);
    list.no(format_args!("{field}.lifecycle.stopSignal"), stop_signal.is_some());
    for (index, rule) in container.restart_policy_rules.iter().enumerate() {
        let all = rule.action == RestartAction::RestartAllContainers;
        list.no(format_args!("{field}.restartPolicyRules[{index}].action: RestartAllContainers"), all);
    }
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        if !volumes.contains(mount.name.as_str()) {
            list.say(format!("{field}.volumeMounts[{index}].name: no volume \"{}\"", mount.name));
        }
        list.no(format_args!("{field}.volumeMounts[{index}].recursiveReadOnly"), mount.recursive_read_only.as_deref() == Some("Enabled"));
    }
    for (index, variable) in container.env.iter().enumerate() {
        list.no(format_args!("{field}.env[{index}].valueFrom.fileKeyRef"), variable.value_from.as_ref().is_some_and(|source| source.file_key_ref.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::kube;

    /// What this thread has used of a processor, whoever else does.
    fn own_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("not negative")
    }

    /// The time for a pod of so many volumes, of the quickest of five tries.
    fn time(volumes: usize) -> Duration {
        let list = |part: &str| (0..volumes).map(|number| format!(r#"{{"name":"v{number}"{part}}}"#)).collect::<Vec<_>>().join(",");
        let (all, mounted) = (list(r#","emptyDir":{}"#), list(r#","mountPath":"/v""#));
        let json = format!(r#"{{"spec":{{"volumes":[{all}],"containers":[{{"name":"c","image":"i:1","volumeMounts":[{mounted}]}}]}}}}"#);
        let pod: Pod = kube::read(&json).expect("a pod");
        let tries = (0..5).map(|_| {
            let begun = own_time();
            assert_eq!(refusal(&pod), None);
            own_time().saturating_sub(begun)
        });
        tries.min().expect("five")
    }

    #[test]
    fn the_time_for_a_pod_is_linear_in_its_volumes() {
        let (few, many) = (time(500), time(4000));
        assert!(many < few * 32, "{few:?} for 500 volumes, {many:?} for 4000");
    }

    #[test]
    fn many_refusals_are_counted() {
        let volumes = (0..25).map(|number| format!(r#"{{"name":"v{number}","nfs":{{}}}}"#)).collect::<Vec<_>>().join(",");
        let json = format!(r#"{{"spec":{{"volumes":[{volumes}],"containers":[{{"name":"c","image":"i:1"}}]}}}}"#);
        let why = refusal(&kube::read(&json).expect("a pod")).expect("nfs is not supported");
        assert!(why.starts_with("spec.volumes[0].nfs: ") && why.ends_with("; and 15 more"), "{why}");
    }
}
