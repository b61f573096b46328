//! Whether a new pod fits beside those that are here.
//!
//! Source: edge-node.md 1.16.

use std::collections::BTreeSet;

use super::World;
use super::affinity::is_allowed;
use super::render::{Qos, app_armor_profile, qos, requested, sysctl_forbidden};
use super::worker::EVICTED;
use crate::node::allocatable::Allocatable;
use crate::node::pressure::Pressure;
use crate::wire::kube::{AppArmorKind, AppArmorProfile, GroupsPolicy, Pod};

/// Pods of this priority and above keep the node alive.
const CRITICAL: i32 = 2_000_000_000;
/// Taint of a node that runs out of memory.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// Why a pod is not let in: one word and a sentence.
pub type Rejection = (&'static str, String);

/// Lets a pod in, or says why not.
pub fn admit(pod: &Pod, others: &[&Pod], world: &World<'_>) -> Result<(), Rejection> {
    security(pod, world)?;
    if pod.spec.os.as_ref().is_some_and(|os| !os.name.is_empty() && os.name != "linux") {
        return Err(("PodOSNotSupported", "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS".to_owned()));
    }
    // Before the node's object was read once its labels are not known.
    if !world.labels.is_empty() && !is_allowed(pod, world.node, world.labels) {
        return Err(("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned()));
    }
    resources(pod, others, world)?;
    ports(pod, others)
}

/// New pods stay away while others have to make room.
pub fn pressure(pod: &Pod, pressure: Pressure) -> Result<(), Rejection> {
    let tolerated = || pod.spec.tolerations.iter().any(|toleration| toleration.key.is_empty() || toleration.key == MEMORY_PRESSURE);
    let condition = if is_critical(pod) {
        return Ok(());
    } else if pressure.disk {
        "DiskPressure"
    } else if pressure.memory && qos(pod) == Qos::BestEffort && !tolerated() {
        "MemoryPressure"
    } else {
        return Ok(());
    };
    Err((EVICTED, format!("Pod was rejected: The node had condition: [{condition}]. ")))
}

/// A pod the node cannot do without.
pub fn is_critical(pod: &Pod) -> bool {
    pod.spec.priority.is_some_and(|priority| priority >= CRITICAL)
}

/// What the node's kernel and runtime have to enforce.
fn security(pod: &Pod, world: &World<'_>) -> Result<(), Rejection> {
    if let Some(name) = sysctl_forbidden(pod, world.config) {
        return Err(("SysctlForbidden", format!("Pod was rejected: forbidden sysctl: \"{name}\" not allowlisted")));
    }
    let policy = pod.spec.security_context.supplemental_groups_policy;
    if policy == GroupsPolicy::Strict && !world.strict_groups {
        let message = "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(("SupplementalGroupsPolicyNotSupported", message.to_owned()));
    }
    let app_armor = |why: &str| Err(("AppArmor", format!("Pod was rejected: Cannot enforce AppArmor: {why}")));
    let profiles = || pod.all_containers().filter_map(|container| app_armor_profile(pod, container));
    let shared = pod.spec.security_context.app_armor_profile.iter();
    if !world.facts.app_armor && shared.chain(profiles()).any(|profile| profile.kind != AppArmorKind::Unconfined) {
        return app_armor("AppArmor is not enabled on the host");
    }
    let is_nameless = |profile: &AppArmorProfile| profile.localhost_profile.trim().is_empty();
    if profiles().any(|profile| profile.kind == AppArmorKind::Localhost && is_nameless(profile)) {
        return app_armor("invalid empty AppArmor profile name: \"\"");
    }
    Ok(())
}

fn resources(pod: &Pod, others: &[&Pod], world: &World<'_>) -> Result<(), Rejection> {
    let allocatable = Allocatable::new(world.facts, world.config);
    let pods = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let fits = |name: &str, wanted: i64, used: i64| match allocatable.get(name) {
        Some(capacity) if wanted > 0 && used.saturating_add(wanted) > capacity => {
            Err((out_of(name), format!("Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}")))
        }
        Some(_) | None => Ok(()),
    };
    fits("pods", 1, pods)?;
    let hugepages = allocatable.hugepages.keys().map(String::as_str);
    for name in ["cpu", "memory", "ephemeral-storage"].into_iter().chain(hugepages) {
        let used = others.iter().map(|other| requested(other, name)).fold(0, i64::saturating_add);
        fits(name, requested(pod, name), used)?;
    }
    Ok(())
}

/// kubelet's word for too little of a resource.
fn out_of(resource: &str) -> &'static str {
    match resource {
        "pods" => "OutOfpods",
        "cpu" => "OutOfcpu",
        "memory" => "OutOfmemory",
        "ephemeral-storage" => "OutOfephemeral-storage",
        "hugepages-2Mi" => "OutOfhugepages-2Mi",
        "hugepages-1Gi" => "OutOfhugepages-1Gi",
        _ => "OutOfhugepages",
    }
}

/// Ports of the node that a pod takes: port, protocol, address.
fn host_ports(pod: &Pod) -> BTreeSet<(i32, &str, &str)> {
    let of = |port: i32| if pod.spec.host_network { port } else { 0 };
    pod.spec
        .containers
        .iter()
        .flat_map(|container| &container.ports)
        .map(|port| {
            (
                if port.host_port > 0 { port.host_port } else { of(port.container_port) },
                if port.protocol.is_empty() { "TCP" } else { &port.protocol },
                port.host_ip.as_str(),
            )
        })
        .filter(|(port, _, _)| *port > 0)
        .collect()
}

fn ports(pod: &Pod, others: &[&Pod]) -> Result<(), Rejection> {
    let everywhere = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    let mine = host_ports(pod);
    let taken = others.iter().flat_map(|other| host_ports(other)).find(|(port, protocol, ip)| {
        mine.iter().any(|(own, own_protocol, own_ip)| own == port && own_protocol == protocol && (own_ip == ip || everywhere(own_ip) || everywhere(ip)))
    });
    match taken {
        Some((port, _, _)) => {
            Err(("NodePorts", format!("Pod was rejected: Predicate NodePorts failed: node didn't have free ports for the requested pod ports ({port})")))
        }
        None => Ok(()),
    }
}
