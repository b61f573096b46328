//! Whether a new pod fits beside those that are here.
//!
//! Source: edge-node.md 1.16.

use std::collections::BTreeSet;

use super::World;
use super::render::{Qos, qos, requests, sysctl_forbidden};
use super::worker::EVICTED;
use crate::node::pressure::Pressure;
use crate::wire::kube::Pod;

/// Pods of this priority and above keep the node alive.
const CRITICAL: i32 = 2_000_000_000;
/// Taint of a node that runs out of memory.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// Why a pod is not let in: one word and a sentence.
pub type Rejection = (&'static str, String);

/// Lets a pod in, or says why not.
pub fn admit(pod: &Pod, others: &[&Pod], world: &World<'_>) -> Result<(), Rejection> {
    if let Some(name) = sysctl_forbidden(pod, world.config) {
        return Err(("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted")));
    }
    if pod.spec.os.as_ref().is_some_and(|os| !os.name.is_empty() && os.name != "linux") {
        return Err(("PodOSNotSupported", "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS".to_owned()));
    }
    if let Some((key, value)) = pod.spec.node_selector.iter().find(|(key, value)| world.labels.get(*key) != Some(*value) && !world.labels.is_empty()) {
        return Err(("NodeAffinity", format!("Pod was rejected: Predicate NodeAffinity failed: node didn't match Pod's node affinity/selector {key}={value}")));
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

fn resources(pod: &Pod, others: &[&Pod], world: &World<'_>) -> Result<(), Rejection> {
    let sum = |of: fn(&Pod) -> i64| others.iter().map(|other| of(other)).fold(0i64, i64::saturating_add);
    let pods = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let cpu = world.facts.allocatable_cpu(world.config.reserved_cpu);
    let memory = i64::try_from(world.facts.memory).unwrap_or(i64::MAX).saturating_sub(world.config.reserved_memory);
    let checks = [
        ("OutOfpods", "pods", 1, pods, i64::from(world.config.max_pods)),
        ("OutOfcpu", "cpu", cpu_of(pod), sum(cpu_of), cpu),
        ("OutOfmemory", "memory", memory_of(pod), sum(memory_of), memory),
    ];
    for (reason, name, wanted, used, capacity) in checks {
        if wanted > 0 && used.saturating_add(wanted) > capacity {
            return Err((
                reason,
                format!("Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"),
            ));
        }
    }
    Ok(())
}

fn cpu_of(pod: &Pod) -> i64 {
    requests(pod).0
}

fn memory_of(pod: &Pod) -> i64 {
    requests(pod).1
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
