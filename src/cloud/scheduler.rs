//! Gives pods to nodes, as the default scheduler does: by readiness, taints,
//! node selector and host ports. A pod that fits nowhere stays Pending, and its
//! condition PodScheduled says why.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/>

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::{self, Name, Objects};
use crate::wire::resource::kind;
use crate::wire::rfc3339;

/// Binds each pod without a node to the node with the fewest pods.
pub fn bind(objects: &mut Objects, wall: i64) {
    let is_unbound = |pod: &Value| pod["spec"]["nodeName"].is_null() && !is_over(pod);
    let unbound: Vec<(Name, Value)> = objects.of(kind::POD).filter(|(_, pod)| is_unbound(pod)).map(|(name, pod)| (name.clone(), pod.clone())).collect();
    for (name, pod) in unbound {
        let outcome = choose(objects, &pod["spec"]);
        let _ = objects.update(&name, |pod| match outcome {
            Ok(node) => {
                pod["spec"]["nodeName"] = node.into();
                pod["status"]["conditions"] = json!([scheduled(wall, "True")]);
            }
            Err(why) => say_why(pod, wall, &why),
        });
    }
}

/// A pod that is being deleted, or has ended, needs no node.
pub fn is_over(pod: &Value) -> bool {
    objects::has_ended(pod) || pod["metadata"]["deletionTimestamp"].is_string()
}

fn scheduled(wall: i64, status: &str) -> Value {
    json!({ "type": "PodScheduled", "status": status, "lastProbeTime": null, "lastTransitionTime": rfc3339::seconds(wall) })
}

/// The time of the condition is that of the first attempt.
fn say_why(pod: &mut Value, wall: i64, why: &str) {
    let before = &pod["status"]["conditions"][0];
    let mut condition = if before["type"] == "PodScheduled" { before.clone() } else { scheduled(wall, "False") };
    condition["reason"] = "Unschedulable".into();
    condition["message"] = why.into();
    pod["status"]["conditions"] = json!([condition]);
}

/// The node for a pod, or why there is none, in the scheduler's words.
fn choose(objects: &Objects, spec: &Value) -> Result<String, String> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut fitting: Vec<&str> = Vec::new();
    for (name, node) in objects.of(kind::NODE) {
        match obstacle(objects, spec, &name.2, node) {
            None => fitting.push(&name.2),
            Some(reason) => *reasons.entry(reason).or_default() += 1,
        }
    }
    let load = |node: &str| objects.of(kind::POD).filter(|(_, pod)| pod["spec"]["nodeName"] == node).count();
    if let Some(node) = fitting.into_iter().min_by_key(|node| load(node)) {
        return Ok(node.to_owned());
    }
    let total: usize = reasons.values().sum();
    if total == 0 {
        return Err("no nodes available to schedule pods".to_owned());
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    Err(format!("0/{total} nodes are available: {}.", reasons.join(", ")))
}

/// Why a node cannot take a pod.
fn obstacle(objects: &Objects, spec: &Value, own: &str, node: &Value) -> Option<&'static str> {
    let labels = &node["metadata"]["labels"];
    let mut selector = spec["nodeSelector"].as_object().into_iter().flatten();
    let tolerated = |taint: &Value| taint["effect"] == "PreferNoSchedule" || tolerations(spec).any(|toleration| tolerates(toleration, taint));
    if objects::condition(node, "Ready") != Some("True") {
        return Some("node(s) were not ready");
    }
    if node["spec"]["unschedulable"] == true {
        return Some("node(s) were unschedulable");
    }
    if !node["spec"]["taints"].as_array().into_iter().flatten().all(tolerated) {
        return Some("node(s) had untolerated taint(s)");
    }
    if !selector.all(|(key, value)| labels[key] == *value) {
        return Some("node(s) didn't match Pod's node affinity/selector");
    }
    ports_taken(objects, spec, own).then_some("node(s) didn't have free ports for the requested pod ports")
}

fn tolerations(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["tolerations"].as_array().into_iter().flatten()
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let key = toleration["key"].is_null() || toleration["key"] == taint["key"];
    let value = toleration["operator"] == "Exists" || toleration["value"].as_str().unwrap_or_default() == taint["value"].as_str().unwrap_or_default();
    let effect = toleration["effect"].is_null() || toleration["effect"] == taint["effect"];
    key && value && effect
}

/// Whether a pod of the node has one of these host ports. A pod that is being
/// deleted keeps its ports until it is gone; one that has ended does not.
fn ports_taken(objects: &Objects, spec: &Value, node: &str) -> bool {
    let wanted: Vec<HostPort<'_>> = host_ports(spec).collect();
    let mut others = objects.of(kind::POD).filter(|(_, pod)| pod["spec"]["nodeName"] == node && !objects::has_ended(pod));
    !wanted.is_empty() && others.any(|(_, pod)| host_ports(&pod["spec"]).any(|port| wanted.iter().any(|own| own.conflicts(&port))))
}

/// A port of the node that a pod asks for.
struct HostPort<'a> {
    ip: &'a str,
    protocol: &'a str,
    port: i64,
}

impl HostPort<'_> {
    /// All addresses, which is what no address means, overlap with each.
    fn conflicts(&self, other: &Self) -> bool {
        let is_any = |ip: &str| matches!(ip, "" | "0.0.0.0");
        let overlap = self.ip == other.ip || is_any(self.ip) || is_any(other.ip);
        overlap && self.protocol == other.protocol && self.port == other.port
    }
}

/// Ports of containers and sidecars; init containers end before these begin.
fn host_ports(spec: &Value) -> impl Iterator<Item = HostPort<'_>> {
    let list = |key: &str| spec[key].as_array().into_iter().flatten();
    let sidecars = list("initContainers").filter(|container| container["restartPolicy"] == "Always");
    let ports = list("containers").chain(sidecars).flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.filter_map(|port| {
        let number = port["hostPort"].as_i64().filter(|number| *number > 0)?;
        Some(HostPort { ip: port["hostIP"].as_str().unwrap_or_default(), protocol: port["protocol"].as_str().unwrap_or("TCP"), port: number })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::objects::name;

    fn pod(ports: &Value) -> Value {
        json!({ "spec": { "containers": [{ "name": "c", "ports": ports }] } })
    }

    /// What a second pod is told beside a first one.
    fn second(first: &Value, ports: &Value, phase: &str) -> Option<String> {
        let mut objects = Objects::default();
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        objects.create(0, name(kind::NODE, "", "edge"), ready).expect("it is new");
        let (one, two) = (name(kind::POD, "default", "one"), name(kind::POD, "default", "two"));
        objects.create(0, one.clone(), pod(first)).expect("it is new");
        bind(&mut objects, 0);
        objects.update(&one, |pod| pod["status"]["phase"] = phase.into()).expect("it is there");
        objects.create(0, two.clone(), pod(ports)).expect("it is new");
        bind(&mut objects, 5000);
        bind(&mut objects, 9000);
        let pod = objects.get(&two).expect("it is there");
        let condition = &pod["status"]["conditions"][0];
        assert_eq!(condition["lastTransitionTime"], "1970-01-01T00:00:05Z", "{condition}");
        pod["spec"]["nodeName"].is_null().then(|| format!("{}: {}", condition["reason"], condition["message"]))
    }

    #[test]
    fn a_host_port_is_given_once_for_each_address_and_protocol() {
        let web = json!([{ "containerPort": 80, "hostPort": 8080 }]);
        let taken = second(&web, &web, "Running").expect("it waits");
        assert_eq!(taken, "\"Unschedulable\": \"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.\"");
        for (other, fits) in [
            (json!([{ "containerPort": 80 }]), true),
            (json!([{ "containerPort": 80, "hostPort": 8081 }]), true),
            (json!([{ "containerPort": 80, "hostPort": 8080, "protocol": "UDP" }]), true),
            (json!([{ "containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1" }]), false),
        ] {
            assert_eq!(second(&web, &other, "Running").is_none(), fits, "{other}");
        }
        let local = |ip: &str| json!([{ "containerPort": 80, "hostPort": 8080, "hostIP": ip }]);
        assert_eq!(second(&local("127.0.0.1"), &local("127.0.0.2"), "Running"), None);
        assert_eq!(second(&web, &web, "Succeeded"), None, "a pod that has ended gives its ports back");
    }

    #[test]
    fn a_pod_that_fits_nowhere_says_why() {
        let mut objects = Objects::default();
        let own = name(kind::POD, "default", "p");
        objects.create(0, own.clone(), json!({ "spec": { "nodeSelector": { "site": "hall" } } })).expect("it is new");
        let why = |objects: &mut Objects| {
            bind(objects, 0);
            objects.get(&own).expect("it is there")["status"]["conditions"][0]["message"].as_str().map(str::to_owned)
        };
        assert_eq!(why(&mut objects).as_deref(), Some("no nodes available to schedule pods"));
        let node = name(kind::NODE, "", "edge");
        objects.create(0, node.clone(), json!({})).expect("it is new");
        assert_eq!(why(&mut objects).as_deref(), Some("0/1 nodes are available: 1 node(s) were not ready."));
        let ready = |node: &mut Value| node["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        objects.update(&node, ready).expect("it is there");
        assert_eq!(why(&mut objects).as_deref(), Some("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."));
        objects.update(&node, |node| node["metadata"]["labels"] = json!({ "site": "hall" })).expect("it is there");
        why(&mut objects);
        assert_eq!(objects.get(&own).expect("it is there")["spec"]["nodeName"], "edge");
    }
}
