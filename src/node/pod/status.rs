//! The status of a pod as the cluster reads it, from want and seen, in
//! kubelet's words.
//!
//! Source: kubernetes `pkg/kubelet/kubelet_pods.go`; Kubernetes API reference, PodStatus.

use serde_json::{Map, Value, json};

use super::conditions;
use super::order::{is_initialized, was_initialized};
use super::phase::{Phase, phase};
use super::render::qos;
use super::terminal::started;
use super::worker::{Fate, Trouble, Worker};
use crate::node::now::{Now, Wall};
use crate::node::runtime::{ContainerSeen, ContainerState, Exit};
use crate::wire::kube::{Container, Pod};
use crate::wire::{rfc3339, text};

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
    // Why it ends is told with its end.
    let is_told = phase.is_terminal() || !matches!(worker.fate, Fate::Failed { .. });
    if let Some((reason, message)) = why.filter(|_| is_told) {
        status.insert("reason".into(), reason.into());
        status.insert("message".into(), message.into());
    }
    let stage = Stage::of(worker, pod, phase, host);
    let (init, main) = (init_statuses(worker, pod, stage)?, main_statuses(worker, pod, stage)?);
    let is_sidecar = |(container, _): &(&Container, &Value)| container.is_sidecar();
    let sidecars = pod.spec.init_containers.iter().zip(&init).filter(is_sidecar).map(|(_, status)| status);
    let serving: Vec<&Value> = sidecars.chain(&main).collect();
    status.insert("conditions".into(), conditions::conditions(worker, pod, phase, why, &worker.status(), &serving, now));
    if !worker.is_rejected() {
        if !init.is_empty() {
            status.insert("initContainerStatuses".into(), init.into());
        }
        status.insert("containerStatuses".into(), main.into());
        addresses(worker, pod, host, &mut status);
        status.insert("qosClass".into(), qos(pod).as_str().into());
    }
    if pod.metadata.generation > 0 {
        status.insert("observedGeneration".into(), pod.metadata.generation.into());
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
    /// Why a container waits that nothing keeps from starting.
    waiting: &'static str,
    /// Init is over in the present sandbox.
    is_initialized: bool,
    /// Init was over some time.
    was_initialized: bool,
    /// Init containers up to the last of which an instance was seen; one at least.
    begun: usize,
    /// Nothing of the pod runs, nor will.
    is_over: bool,
    /// Bytes of a termination message that are told.
    message_share: usize,
}

impl<'a> Stage<'a> {
    fn of(worker: &Worker, pod: &Pod, phase: Phase, host: Host<'a>) -> Self {
        let init = &pod.spec.init_containers;
        let has_run = |container: &Container| worker.restarts(&container.name).is_some();
        Self {
            phase,
            host,
            waiting: if init.is_empty() { "ContainerCreating" } else { "PodInitializing" },
            is_initialized: is_initialized(worker, pod),
            was_initialized: was_initialized(worker, pod),
            begun: init.iter().rposition(has_run).unwrap_or(0) + 1,
            is_over: (worker.is_ending() || phase.is_terminal()) && worker.is_stopped(),
            message_share: share_of_messages(pod),
        }
    }
}

/// The place of a container in its pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// An init container, by its index.
    Init(usize),
    /// A sidecar, by its index among the init containers.
    Sidecar(usize),
    Main,
}

fn init_statuses(worker: &Worker, pod: &Pod, stage: Stage<'_>) -> Option<Vec<Value>> {
    let of = |(index, container): (usize, &Container)| {
        let part = if container.is_sidecar() { Part::Sidecar(index) } else { Part::Init(index) };
        container_status(worker, container, part, stage)
    };
    pod.spec.init_containers.iter().enumerate().map(of).collect()
}

fn main_statuses(worker: &Worker, pod: &Pod, stage: Stage<'_>) -> Option<Vec<Value>> {
    pod.spec.containers.iter().map(|container| container_status(worker, container, Part::Main, stage)).collect()
}

fn container_status(worker: &Worker, container: &Container, part: Part, stage: Stage<'_>) -> Option<Value> {
    let host = stage.host;
    let latest = worker.seen.latest(&container.name);
    let previous = worker.seen.earlier(&container.name).find_map(|seen| Some((seen, seen.exit()?)));
    let (state, last) = state(worker, container, part, stage);
    let last = last.or_else(|| previous.map(|(seen, exit)| terminated(exit, Some(seen), stage)));
    let running = latest.filter(|_| state.get("running").is_some());
    let started = running.is_some_and(|seen| worker.is_started(seen));
    let ready = match (part, running) {
        (Part::Init(_), _) => state["terminated"]["exitCode"] == 0,
        (Part::Sidecar(_) | Part::Main, Some(seen)) => started && worker.is_ready(seen)?,
        (Part::Sidecar(_) | Part::Main, None) => false,
    };
    let mut status = json!({
        "name": container.name,
        "image": latest.map_or(container.image.as_str(), |seen| &seen.image),
        "imageID": latest.map_or("", |seen| &seen.image_id),
        "ready": ready,
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
fn state(worker: &Worker, container: &Container, part: Part, stage: Stage<'_>) -> (Value, Option<Value>) {
    let latest = worker.seen.latest(&container.name);
    let trouble = worker.trouble_of(&container.name);
    match latest.map(|seen| &seen.state) {
        Some(ContainerState::Running { started }) => (json!({ "running": { "startedAt": rfc3339::seconds(started.0) } }), None),
        Some(ContainerState::Exited(exit)) => {
            let ended = terminated(exit, latest, stage);
            match trouble {
                Some(trouble) if !worker.is_ending() && !stage.phase.is_terminal() => (waiting(trouble.reason, &trouble.message), Some(ended)),
                Some(_) | None => (ended, None),
            }
        }
        Some(ContainerState::Created | ContainerState::Unknown) | None => (without_instance(worker, trouble, latest.is_some(), part, stage), None),
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    let mut waiting = json!({ "reason": reason });
    if !message.is_empty() {
        waiting["message"] = message.into();
    }
    json!({ "waiting": waiting })
}

/// The state of a container of which no instance runs or ended. In a pod that is
/// over, one that had its turn failed; one that never had goes on waiting.
///
/// Source: kubernetes `pkg/kubelet/status/status_manager.go`, `TerminatePod`.
fn without_instance(worker: &Worker, trouble: Option<&Trouble>, was_made: bool, part: Part, stage: Stage<'_>) -> Value {
    let had_turn = match part {
        Part::Main => stage.was_initialized,
        Part::Init(index) | Part::Sidecar(index) => index < stage.begun,
    };
    if stage.is_over && had_turn {
        let message = if was_made { "The container could not be located when the pod was terminated" } else { "The container was never started" };
        return ended_unseen("ContainerStatusUnknown", message, 137);
    }
    match trouble.or(worker.refused.pod()) {
        Some(trouble) => waiting(trouble.reason, &trouble.message),
        None if matches!(part, Part::Init(_)) && stage.is_initialized => {
            ended_unseen("Completed", "The pod is initialized; how this container ended is not known any more", 0)
        }
        None => waiting(stage.waiting, ""),
    }
}

/// Bytes of a termination message that are told, as kubelet has it: all containers of a
/// pod share what there is for them.
fn share_of_messages(pod: &Pod) -> usize {
    let containers = pod.spec.init_containers.len() + pod.spec.containers.len();
    (text::TERMINATION_MESSAGES / containers.max(1)).min(text::TERMINATION_MESSAGE)
}

fn terminated(exit: &Exit, seen: Option<&ContainerSeen>, stage: Stage<'_>) -> Value {
    let mut state =
        json!({ "exitCode": exit.code, "reason": exit.reason, "startedAt": rfc3339::seconds(exit.started.0), "finishedAt": rfc3339::seconds(exit.finished.0) });
    if !exit.message.is_empty() {
        state["message"] = text::prefix(&exit.message, stage.message_share).into();
    }
    if let Some(seen) = seen {
        state["containerID"] = format!("{}://{}", stage.host.runtime, seen.id).into();
    }
    json!({ "terminated": state })
}

/// A container whose end nobody saw.
fn ended_unseen(reason: &str, message: &str, code: i32) -> Value {
    let never = rfc3339::seconds(Wall(0).0);
    json!({ "terminated": { "exitCode": code, "reason": reason, "message": message, "startedAt": never, "finishedAt": never } })
}
