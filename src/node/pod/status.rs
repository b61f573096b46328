//! The status of a pod as the cluster reads it, from want and seen, in
//! kubelet's words.
//!
//! Source: edge-node.md 1.18; Kubernetes API reference, PodStatus.

use serde_json::{Map, Value, json};

use super::conditions;
use super::order::is_initialized;
use super::phase::{Phase, phase};
use super::render::qos;
use super::terminal::started;
use super::worker::{Fate, Worker};
use crate::node::now::{Now, Wall};
use crate::node::runtime::{ContainerSeen, ContainerState, Exit};
use crate::wire::kube::{Container, Pod};
use crate::wire::rfc3339;

/// What of the node a pod's status tells.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Addresses of the node, main one first.
    pub ips: &'a [String],
    /// `containerd`, the scheme of container ids.
    pub runtime: &'a str,
}

/// Members of the status that are taken back when they no longer hold.
pub const OWN: [&str; 6] = ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"];

/// The status of a pod. `None` while an adopted container has not been asked
/// whether it is ready.
pub fn status(worker: &Worker, pod: &Pod, host: Host<'_>, now: Now) -> Option<Value> {
    let phase = phase(worker, pod);
    let mut status = Map::new();
    status.insert("phase".into(), phase.as_str().into());
    let why = why(worker, pod);
    if let Some((reason, message)) = why {
        status.insert("reason".into(), reason.into());
        status.insert("message".into(), message.into());
    }
    let stage = Stage { phase, host, is_initialized: is_initialized(worker, pod), is_over: is_over(worker, phase) };
    let init: Option<Vec<Value>> = pod.spec.init_containers.iter().map(|container| container_status(worker, container, true, stage)).collect();
    let main: Option<Vec<Value>> = pod.spec.containers.iter().map(|container| container_status(worker, container, false, stage)).collect();
    let (init, main) = (init?, main?);
    status.insert("conditions".into(), conditions::conditions(worker, pod, phase, why, &worker.status(), &main, now));
    if !worker.is_rejected() {
        if !init.is_empty() {
            status.insert("initContainerStatuses".into(), init.into());
        }
        status.insert("containerStatuses".into(), main.into());
        addresses(worker, pod, host, &mut status);
        status.insert("qosClass".into(), qos(pod).as_str().into());
    }
    status.insert("startTime".into(), rfc3339::seconds(started(worker, pod).0).into());
    Some(Value::Object(status))
}

/// Why the pod as a whole is as it is, when its containers do not tell.
fn why<'a>(worker: &'a Worker, pod: &'a Pod) -> Option<(&'a str, &'a str)> {
    if let Some(end) = worker.end() {
        return Some((&*end.reason, &*end.message)).filter(|(reason, _)| !reason.is_empty());
    }
    // What the cluster was told of an end sticks, as its phase does.
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") && !pod.status.reason.is_empty() {
        return Some((&pod.status.reason, &pod.status.message));
    }
    match &worker.fate {
        Fate::Rejected { reason, message } | Fate::Failed { reason, message, .. } => Some((reason, message)),
        Fate::Run | Fate::Deleted | Fate::Removed => worker.refused.pod().map(|trouble| (trouble.reason, trouble.message.as_str())),
    }
}

fn addresses(worker: &Worker, pod: &Pod, host: Host<'_>, status: &mut Map<String, Value>) {
    let list = |ips: &[String]| Value::Array(ips.iter().map(|ip| json!({ "ip": ip })).collect());
    if let Some(ip) = host.ips.first() {
        status.insert("hostIP".into(), ip.as_str().into());
        status.insert("hostIPs".into(), list(host.ips));
    }
    let ips: &[String] = match (worker.end(), worker.seen.sandbox()) {
        (Some(end), _) => &end.ips,
        (None, Some(_)) if pod.spec.host_network => host.ips,
        (None, sandbox) => sandbox.map_or(&[], |sandbox| &sandbox.ips),
    };
    if let Some(ip) = ips.first() {
        status.insert("podIP".into(), ip.as_str().into());
        status.insert("podIPs".into(), list(ips));
    }
}

/// What the states of all containers of a pod depend on.
#[derive(Clone, Copy)]
struct Stage<'a> {
    phase: Phase,
    host: Host<'a>,
    is_initialized: bool,
    /// Nothing of it runs, nor will.
    is_over: bool,
}

fn is_over(worker: &Worker, phase: Phase) -> bool {
    (worker.is_ending() || phase.is_terminal()) && worker.is_stopped()
}

fn container_status(worker: &Worker, container: &Container, init: bool, stage: Stage<'_>) -> Option<Value> {
    let host = stage.host;
    let latest = worker.seen.latest(&container.name);
    let previous = worker.seen.earlier(&container.name).find_map(|seen| Some((seen, seen.exit()?)));
    let (state, last) = state(worker, container, stage);
    let last = last.or_else(|| previous.map(|(seen, exit)| terminated(exit, Some(seen), host)));
    let running = state.get("running").is_some();
    let started = running && latest.is_some_and(|seen| worker.is_started(seen));
    let ready = match latest {
        Some(seen) if running => started && (init && !container.is_sidecar() || worker.is_ready(seen)?),
        Some(seen) => init && !container.is_sidecar() && seen.exit().is_some_and(|exit| exit.code == 0),
        None => false,
    };
    let mut status = json!({
        "name": container.name,
        "image": latest.map_or(container.image.as_str(), |seen| &seen.image),
        "imageID": latest.map_or("", |seen| &seen.image_id),
        "ready": ready && !(init && !container.is_sidecar() && running),
        "started": started,
        "restartCount": worker.restarts(&container.name).unwrap_or(0),
        "state": state,
        "lastState": last.unwrap_or_else(|| json!({})),
    });
    if let Some(seen) = latest {
        status["containerID"] = format!("{}://{}", host.runtime, seen.id).into();
    }
    Some(status)
}

/// Its state, and its last state when that is not an earlier instance's.
fn state(worker: &Worker, container: &Container, stage: Stage<'_>) -> (Value, Option<Value>) {
    let latest = worker.seen.latest(&container.name);
    let trouble = worker.trouble_of(&container.name);
    let waiting = |reason: &str, message: &str| {
        let mut waiting = json!({ "reason": reason });
        if !message.is_empty() {
            waiting["message"] = message.into();
        }
        json!({ "waiting": waiting })
    };
    match latest.map(|seen| &seen.state) {
        Some(ContainerState::Running { started }) => (json!({ "running": { "startedAt": rfc3339::seconds(started.0) } }), None),
        Some(ContainerState::Exited(exit)) => {
            let ended = terminated(exit, latest, stage.host);
            match trouble {
                Some(trouble) if !worker.is_ending() && !stage.phase.is_terminal() => (waiting(trouble.reason, &trouble.message), Some(ended)),
                Some(_) | None => (ended, None),
            }
        }
        Some(ContainerState::Created | ContainerState::Unknown) | None if stage.is_over => (unknown(latest), None),
        Some(ContainerState::Created | ContainerState::Unknown) | None => match trouble.or(worker.refused.pod()) {
            Some(trouble) => (waiting(trouble.reason, &trouble.message), None),
            None if !stage.is_initialized => (waiting("PodInitializing", ""), None),
            None => (waiting("ContainerCreating", ""), None),
        },
    }
}

fn terminated(exit: &Exit, seen: Option<&ContainerSeen>, host: Host<'_>) -> Value {
    let mut state =
        json!({ "exitCode": exit.code, "reason": exit.reason, "startedAt": rfc3339::seconds(exit.started.0), "finishedAt": rfc3339::seconds(exit.finished.0) });
    if !exit.message.is_empty() {
        state["message"] = exit.message.as_str().into();
    }
    if let Some(seen) = seen {
        state["containerID"] = format!("{}://{}", host.runtime, seen.id).into();
    }
    json!({ "terminated": state })
}

/// A container whose end nobody saw.
fn unknown(latest: Option<&ContainerSeen>) -> Value {
    let message = if latest.is_some() { "The container could not be located when the pod was terminated" } else { "The container was never started" };
    let never = rfc3339::seconds(Wall(0).0);
    json!({ "terminated": { "exitCode": 137, "reason": "ContainerStatusUnknown", "message": message, "startedAt": never, "finishedAt": never } })
}
