//! What people are told on the local control socket.

use serde_json::{Value, json};

use super::Node;
use super::input::{Ask, LinkEnd};
use super::link::State;
use super::now::Now;
use super::pod::worker::Worker;
use crate::wire::resource::kind;
use crate::wire::rfc3339;

/// The answer to a question: one JSON object, with `error` when there is none.
pub fn answer(node: &Node, ask: &Ask, now: Now) -> Value {
    match ask {
        Ask::Status => status(node, now),
        Ask::Get { kind } => match kind.as_str() {
            "pods" => items(node.pods.iter().filter(|worker| worker.pod.is_some()).map(pod_row)),
            "node" => items(std::iter::once(node_row(node))),
            "configmaps" => items(node.meta.all(kind::CONFIG_MAP).map(|(_, json)| object_row(&json.text()))),
            "secrets" => items(node.meta.all(kind::SECRET).map(|(_, json)| object_row(&json.text()))),
            "devices" => items(node.twins.devices().map(|(id, device)| super::device_answers::row(id, device, node.twins.model_of(device)))),
            "mappers" => items(node.mappers.rows()),
            other => json!({ "error": format!("unknown type '{other}': node, pods, configmaps, secrets, devices or mappers") }),
        },
        Ask::DescribePod { pod } => find(node, pod).map_or_else(|| not_found(pod), |worker| describe(node, worker)),
        Ask::DescribeDevice { device } | Ask::WatchDevice { device, .. } | Ask::SetTwin { device, .. } => node.describe_device(device),
        Ask::LogOf { pod, container, previous } => find(node, pod).map_or_else(|| not_found(pod), |worker| log_of(node, worker, container, *previous)),
    }
}

fn items(rows: impl Iterator<Item = Value>) -> Value {
    json!({ "items": rows.collect::<Vec<_>>() })
}

fn not_found(pod: &str) -> Value {
    json!({ "error": format!("pod '{pod}' is not on this node") })
}

/// A pod by `NAMESPACE/NAME`, or by a name in `default`; the one that lives,
/// when an ended one had its name.
fn find<'a>(node: &'a Node, name: &str) -> Option<&'a Worker> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut all: Vec<&Worker> = node.pods.iter().filter(|worker| worker.key.namespace == namespace && worker.key.name == name).collect();
    all.sort_by_key(|worker| worker.is_ending());
    all.first().copied()
}

fn status(node: &Node, now: Now) -> Value {
    let (state, since) = match node.link.state() {
        State::Up { opened, .. } if node.presence.is_registered() => ("online", Some(opened)),
        State::Up { opened, .. } => ("connected", Some(opened)),
        State::Dialing => ("dialing", None),
        State::Down { .. } => ("offline", None),
    };
    let since = since.map(|opened| rfc3339::seconds(now.wall.0 - i64::try_from(now.mono.since(opened).as_millis()).unwrap_or(0)));
    let pods: Vec<&Worker> = node.pods.iter().filter(|worker| worker.pod.is_some()).collect();
    json!({
        "node": node.settings.node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "cloud": { "state": state, "since": since, "server": node.settings.edgehub.websocket, "last_error": node.link.last_end.as_ref().map(LinkEnd::to_string), "warning": node.session_warning(now) },
        "runtime": { "state": if node.runtime.is_up() { "up" } else { "down" }, "name": node.runtime.info.name, "version": node.runtime.info.version, "why": node.runtime.why() },
        "store": { "state": if node.disk.trouble.is_some() { "failing" } else { "ok" }, "pending": node.disk.pending(), "rows": node.disk.rows(), "why": node.disk.trouble },
        "bus": { "state": if node.bus_is_up { "up" } else { "down" }, "dropped": node.outbox.dropped, "held": node.held_bytes, "waiting": node.outbox.bytes(), "untold": node.twins.untold() },
        "devices": { "total": node.twins.devices().count(), "unreported": node.twins.unreported() },
        "spool": { "messages": node.spool.waiting().0, "bytes": node.spool.waiting().1, "dropped": node.spool.dropped },
        "pods": { "running": pods.iter().filter(|worker| worker.phase() == Some("Running")).count(), "total": pods.len() },
        "counters": node.counters.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count))).collect::<serde_json::Map<_, _>>(),
    })
}

fn pod_row(worker: &Worker) -> Value {
    let status = worker.status();
    let containers = status["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let total = worker.pod.as_ref().map_or(0, |pod| pod.spec.containers.len());
    let ready = containers.iter().filter(|container| container["ready"] == true).count();
    let restarts: i64 = containers.iter().filter_map(|container| container["restartCount"].as_i64()).sum();
    json!({
        "namespace": worker.key.namespace, "name": worker.key.name, "uid": worker.uid.as_str(), "ready": format!("{ready}/{total}"), "status": word(worker, &status, containers),
        "restarts": restarts, "started": status["startTime"], "ip": status["podIP"],
    })
}

/// One word for a pod, as kubectl prints it.
fn word(worker: &Worker, status: &Value, containers: &[Value]) -> String {
    if worker.is_ending() && worker.phase() != Some("Failed") {
        return "Terminating".to_owned();
    }
    let init = status["initContainerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let waiting = containers
        .iter()
        .chain(init)
        .filter_map(|container| container["state"]["waiting"]["reason"].as_str())
        .find(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"));
    let reason = status["reason"].as_str().or(waiting).or_else(|| containers.iter().find_map(|container| container["state"]["waiting"]["reason"].as_str()));
    let ended = containers.iter().find_map(|container| container["state"]["terminated"]["reason"].as_str()).filter(|_| worker.has_ended());
    reason.or(ended).or(worker.phase()).unwrap_or("Unknown").to_owned()
}

fn node_row(node: &Node) -> Value {
    let not_ready = node.not_ready();
    json!({
        "name": node.settings.node.name, "status": if not_ready.is_empty() { "Ready" } else { "NotReady" }, "why": not_ready.join(", "), "roles": "agent,edge",
        "version": super::nodestatus::KUBELET_VERSION, "internal_ip": node.facts.ips.first(), "started": node.presence.created, "labels": node.presence.labels,
    })
}

/// Names only: neither a ConfigMap's nor a secret's content is shown.
fn object_row(json: &str) -> Value {
    let object: Value = serde_json::from_str(json).unwrap_or_default();
    let keys = ["data", "binaryData"].iter().filter_map(|part| object[*part].as_object()).map(serde_json::Map::len).sum::<usize>();
    json!({ "namespace": object["metadata"]["namespace"], "name": object["metadata"]["name"], "type": object["type"], "keys": keys, "created": object["metadata"]["creationTimestamp"] })
}

fn describe(node: &Node, worker: &Worker) -> Value {
    let name = crate::wire::resource::Resource::new(&worker.key.namespace, kind::POD, &worker.key.name).to_string();
    let pod: Value = node.meta.json(&name).and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    let events: Vec<Value> = node
        .events
        .of(worker.uid.as_str())
        .map(|event| json!({ "type": event["type"], "reason": event["reason"], "time": event["lastTimestamp"], "count": event["count"], "message": event["message"] }))
        .collect();
    json!({ "pod": { "metadata": pod["metadata"], "spec": pod["spec"] }, "status": worker.status(), "events": events })
}

fn log_of(node: &Node, worker: &Worker, container: &str, previous: bool) -> Value {
    let Some(pod) = &worker.pod else { return not_found(&worker.key.to_string()) };
    let names: Vec<&str> = pod.all_containers().map(|container| container.name.as_str()).collect();
    let name = match (container, pod.spec.containers.as_slice()) {
        ("", [only]) => only.name.as_str(),
        ("", _) => return json!({ "error": format!("a container name must be given: {}", names.join(", ")) }),
        (name, _) if names.contains(&name) => name,
        (name, _) => return json!({ "error": format!("pod '{}' has no container '{name}': {}", worker.key, names.join(", ")) }),
    };
    let instance = if previous { worker.seen.earlier(name).next() } else { worker.seen.latest(name) };
    let Some(instance) = instance else {
        return json!({ "error": if previous { format!("container '{name}' has no earlier instance here") } else { format!("container '{name}' has not started") } });
    };
    let path = format!("{}/{name}/{}.log", super::pod::render::log_directory(&node.settings.edged, pod), instance.restarts);
    json!({ "path": path, "running": instance.is_running() })
}

impl std::fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) | Self::Unreachable(why) | Self::Closed(why) | Self::TooLarge(why) | Self::Unusable(why) => f.write_str(why),
            Self::HungUp => f.write_str("the session answered nothing and was given up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_by_name_only() {
        let row = object_row(r#"{"metadata":{"namespace":"default","name":"s"},"type":"Opaque","data":{"password":"aHVudGVyMg=="}}"#);
        assert_eq!(row["keys"], 1);
        assert!(!row.to_string().contains("aHVudGVyMg"), "{row}");
    }
}
