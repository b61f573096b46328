//! The Node object and its status, from the facts of the machine and the health
//! of the agent's parts.
//!
//! Source: edge-node.md 1.19.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::allocatable::{Allocatable, hugepages};
use super::machine::Facts;
use super::now::Now;
use super::pressure::Pressure;
use super::runtime::ImageSeen;
use crate::config::NodeConfig;
use crate::wire::rfc3339;

/// Version of Kubernetes this node speaks, with the suffix the cloud parses.
pub const KUBELET_VERSION: &str = concat!("v1.32.10-kubeedge-v1.23.0-selvedge-", env!("CARGO_PKG_VERSION"));

/// How the parts of the agent are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// `containerd://1.6.20`, empty before the runtime was reached once.
    pub runtime_version: String,
    /// Why pods cannot run.
    pub not_ready: Vec<String>,
    /// What the machine ran out of.
    pub pressure: Pressure,
    /// Why nothing can be stored.
    pub store: Option<String>,
    /// Images in the runtime, largest first.
    pub images: Rc<[ImageSeen]>,
    /// At most so many of them are listed.
    pub max_images: usize,
    /// What pods may have.
    pub allocatable: Allocatable,
}

/// Conditions that are only there while something is wrong.
const TROUBLE: [&str; 2] = ["StoreProblem", "CgroupProblem"];

/// Labels the node registers with.
pub fn labels(config: &NodeConfig, arch: &str) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    let own = [
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/edge", ""),
        ("node-role.kubernetes.io/agent", ""),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if !arch.is_empty() {
        labels.extend(["kubernetes.io/arch", "beta.kubernetes.io/arch"].map(|key| (key.to_owned(), arch.to_owned())));
    }
    labels
}

/// The object to register with.
pub fn object(config: &NodeConfig, facts: &Facts, health: &Health, now: Now) -> Value {
    let mut annotations = config.annotations.clone();
    annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned());
    let taints: Vec<Value> = config.taints.iter().map(|taint| json!({ "key": taint.key, "value": taint.value, "effect": taint.effect })).collect();
    let mut status = status(config, facts, health, &Value::Null, now);
    // Said once: from then on the port belongs to the cloud's tunnel.
    status["daemonEndpoints"] = json!({ "kubeletEndpoint": { "Port": 10350 } });
    json!({
        "metadata": { "name": config.name, "labels": labels(config, facts.arch), "annotations": annotations },
        "spec": if taints.is_empty() { json!({}) } else { json!({ "taints": taints }) },
        "status": status,
    })
}

/// The status as it is now; conditions that did not turn keep their time.
pub fn status(config: &NodeConfig, facts: &Facts, health: &Health, before: &Value, now: Now) -> Value {
    let (capacity, allocatable) = resources(facts, health);
    let mut addresses: Vec<Value> = facts.ips.iter().map(|ip| json!({ "type": "InternalIP", "address": ip })).collect();
    addresses.push(json!({ "type": "Hostname", "address": config.name }));
    json!({
        "capacity": capacity,
        "allocatable": allocatable,
        "conditions": conditions(facts, health, before, now),
        "addresses": addresses,
        "nodeInfo": {
            "machineID": facts.machine_id, "systemUUID": facts.system_uuid, "bootID": facts.boot_id, "kernelVersion": facts.kernel, "osImage": facts.os_image,
            "containerRuntimeVersion": health.runtime_version, "kubeletVersion": KUBELET_VERSION, "kubeProxyVersion": KUBELET_VERSION,
            "operatingSystem": "linux", "architecture": facts.arch,
        },
        "images": health.images.iter().take(health.max_images).map(|image| json!({ "names": image.names, "sizeBytes": image.size })).collect::<Vec<_>>(),
    })
}

fn resources(facts: &Facts, health: &Health) -> (Value, Value) {
    let allocatable = &health.allocatable;
    let mut capacity = Map::new();
    capacity.insert("cpu".into(), facts.cpus.to_string().into());
    capacity.insert("memory".into(), format!("{}Ki", facts.memory >> 10).into());
    capacity.insert("ephemeral-storage".into(), format!("{}Ki", facts.disk >> 10).into());
    capacity.insert("pods".into(), allocatable.pods.to_string().into());
    capacity.extend(facts.hugepages.iter().map(|(size, bytes)| (hugepages(*size), bytes.to_string().into())));
    let mut left = capacity.clone();
    if allocatable.cpu != i64::from(facts.cpus) * 1000 {
        left.insert("cpu".into(), format!("{}m", allocatable.cpu).into());
    }
    left.insert("memory".into(), format!("{}Ki", allocatable.memory >> 10).into());
    left.insert("ephemeral-storage".into(), allocatable.storage.to_string().into());
    (capacity.into(), left.into())
}

fn conditions(facts: &Facts, health: &Health, before: &Value, now: Now) -> Value {
    let Pressure { memory, disk, pids } = health.pressure;
    let mut all = vec![
        pressed(
            "MemoryPressure",
            memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "kubelet has insufficient memory available",
            "kubelet has sufficient memory available",
        ),
        pressed("DiskPressure", disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "kubelet has disk pressure", "kubelet has no disk pressure"),
        pressed(
            "PIDPressure",
            pids,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "kubelet has insufficient PID available",
            "kubelet has sufficient PID available",
        ),
    ];
    if let Some(why) = &health.store {
        all.push(json!({ "type": "StoreProblem", "status": "True", "reason": "StoreFailed", "message": why }));
    }
    if !facts.cgroups_missing.is_empty() {
        all.push(json!({ "type": "CgroupProblem", "status": "True", "reason": "ControllersMissing", "message": format!("limits are not enforced: no cgroup controller {}", facts.cgroups_missing.join(", ")) }));
    }
    all.push(if health.not_ready.is_empty() {
        json!({ "type": "Ready", "status": "True", "reason": "EdgeReady", "message": "edge is posting ready status" })
    } else {
        json!({ "type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": health.not_ready.join(", ") })
    });
    all.into_iter().map(|condition| stamped(condition, before, now)).collect()
}

fn pressed(kind: &str, pressed: bool, bad: &str, good: &str, ill: &str, well: &str) -> Value {
    json!({ "type": kind, "status": if pressed { "True" } else { "False" }, "reason": if pressed { bad } else { good }, "message": if pressed { ill } else { well } })
}

fn stamped(mut condition: Value, before: &Value, now: Now) -> Value {
    let time = rfc3339::seconds(now.wall.0);
    let same = find(before, &condition["type"]).filter(|old| old["status"] == condition["status"]);
    condition["lastTransitionTime"] = same.and_then(|old| old.get("lastTransitionTime").cloned()).unwrap_or_else(|| time.as_str().into());
    condition["lastHeartbeatTime"] = time.into();
    condition
}

fn find<'a>(status: &'a Value, kind: &Value) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| &condition["type"] == kind)
}

/// Whether two statuses differ in more than their heartbeats.
pub fn differs(before: &Value, after: &Value) -> bool {
    let plain = |status: &Value| {
        let mut status = status.clone();
        if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
            for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
                condition.remove("lastHeartbeatTime");
            }
            conditions.sort_by_key(|condition| condition["type"].to_string());
        }
        status
    };
    let (before, after) = (plain(before), plain(after));
    after.as_object().is_none_or(|after| {
        after.iter().any(|(key, value)| {
            before.get(key) != Some(value) && !(key == "images" && value.as_array().is_some_and(Vec::is_empty) && before.get(key).is_none())
        })
    })
}

/// Takes conditions of ours away that no longer hold.
pub fn drop_repaired(before: &Value, after: &Value, change: &mut Value) {
    for kind in TROUBLE.map(Value::from) {
        if find(before, &kind).is_some() && find(after, &kind).is_none() {
            let gone = json!({ "$patch": "delete", "type": kind });
            match change.get_mut("conditions").and_then(Value::as_array_mut) {
                Some(conditions) => conditions.push(gone),
                None => change["conditions"] = json!([gone]),
            }
        }
    }
}
