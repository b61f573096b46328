//! The conditions of a pod, in kubelet's order and words.
//!
//! Source: kubernetes `pkg/kubelet/status/generate.go`.

use serde_json::{Value, json};

use super::order::{init_is_done, is_initialized};
use super::phase::Phase;
use super::record::{self, PodEnd};
use super::terminal::started;
use super::worker::{EVICTED, Fate, Worker};
use crate::node::now::{Now, Wall};
use crate::node::runtime::ContainerState;
use crate::wire::kube::{Container, Pod};
use crate::wire::rfc3339;

/// The condition of a pod whose newest spec is not the one that is obeyed.
const UPDATE_REFUSED: &str = "selvedge.io/UpdateRefused";
/// The condition of a pod that had to make room.
const DISRUPTION: &str = "DisruptionTarget";

struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    const YES: Self = Self { holds: true, reason: "", message: String::new() };

    fn no(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

/// All conditions this node sets. `serving` are the statuses of sidecars and main
/// containers.
pub fn conditions(worker: &Worker, pod: &Pod, phase: Phase, why: Option<(&str, &str)>, before: &Value, serving: &[&Value], now: Now) -> Value {
    let ready = containers_ready(phase, serving);
    let pod_ready = match gates(pod) {
        Some(message) if ready.holds => Verdict::no("ReadinessGatesNotReady", message),
        Some(_) | None => containers_ready(phase, serving),
    };
    let sandbox = if worker.seen.ready_sandbox().is_some() { Verdict::YES } else { Verdict::no("", String::new()) };
    let all = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(worker, pod, phase)),
        ("Ready", pod_ready),
        ("ContainersReady", ready),
        ("PodScheduled", Verdict::YES),
    ];
    let evicted = matches!(worker.fate, Fate::Failed { reason: EVICTED, .. })
        || worker.end().is_some_and(PodEnd::is_eviction)
        || pod.status.conditions.iter().any(|told| told.kind == DISRUPTION);
    let disruption = |(_, message): (&str, &str)| Verdict { holds: true, reason: "TerminationByKubelet", message: message.to_owned() };
    let disrupted = why.filter(|_| evicted).map(|why| (DISRUPTION, disruption(why)));
    all.into_iter()
        .chain(disrupted)
        .chain(update_refused(worker, pod, before))
        .map(|(kind, verdict)| condition(worker, before, pod, kind, &verdict, now))
        .collect()
}

/// It is told while it holds, and taken back.
fn update_refused(worker: &Worker, pod: &Pod, before: &Value) -> Option<(&'static str, Verdict)> {
    let refused = worker.refused.update().map(|trouble| Verdict { holds: true, reason: trouble.reason, message: trouble.message.clone() });
    let told = before["conditions"].as_array().into_iter().flatten().any(|condition| condition["type"] == UPDATE_REFUSED);
    let shown = pod.status.conditions.iter().any(|condition| condition.kind == UPDATE_REFUSED);
    let verdict = refused.or_else(|| (told || shown).then(|| Verdict::no("", String::new())))?;
    Some((UPDATE_REFUSED, verdict))
}

fn initialized(worker: &Worker, pod: &Pod, phase: Phase) -> Verdict {
    if phase == Phase::Succeeded {
        return Verdict { reason: "PodCompleted", ..Verdict::YES };
    }
    let was_told = || record::told(worker, "Initialized").is_some_and(|told| told.status == "True");
    if is_initialized(worker, pod) || was_told() {
        return Verdict::YES;
    }
    let incomplete = pod.spec.init_containers.iter().filter(|container| !init_is_done(worker, container));
    let names: Vec<&str> = incomplete.map(|container| container.name.as_str()).collect();
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names.join(" ")))
}

fn containers_ready(phase: Phase, serving: &[&Value]) -> Verdict {
    match phase {
        Phase::Succeeded => return Verdict::no("PodCompleted", String::new()),
        Phase::Failed => return Verdict::no("PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let unready = serving.iter().filter(|container| container["ready"] != true);
    let unready: Vec<&str> = unready.filter_map(|container| container["name"].as_str()).collect();
    if unready.is_empty() { Verdict::YES } else { Verdict::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))) }
}

/// Conditions others must set first, as the cluster last showed them.
fn gates(pod: &Pod) -> Option<String> {
    let why = |kind: &String| match pod.status.conditions.iter().find(|condition| condition.kind == *kind) {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status)),
        None => Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
    };
    let missing: Vec<String> = pod.spec.readiness_gates.iter().filter_map(|gate| why(&gate.condition_type)).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// Since when a condition holds of which nobody knows when it was told: an agent
/// that comes back to a running pod makes it no younger than it is.
fn first_seen(worker: &Worker, pod: &Pod, kind: &str, verdict: &Verdict) -> Option<Wall> {
    let begun = |container: &Container| match &worker.seen.current(&container.name)?.state {
        ContainerState::Running { started } => Some(*started),
        ContainerState::Exited(exit) => Some(exit.finished),
        ContainerState::Created | ContainerState::Unknown => None,
    };
    let init = || pod.spec.init_containers.iter();
    let serving = || init().filter(|container| container.is_sidecar()).chain(&pod.spec.containers);
    match kind {
        _ if !verdict.holds => None,
        "PodScheduled" => Some(started(worker, pod)),
        "PodReadyToStartContainers" => worker.seen.ready_sandbox().map(|sandbox| sandbox.created),
        "Initialized" => init().filter_map(begun).max().or_else(|| Some(started(worker, pod))),
        "Ready" | "ContainersReady" => serving().filter_map(begun).max(),
        _ => None,
    }
}

fn condition(worker: &Worker, before: &Value, pod: &Pod, kind: &str, verdict: &Verdict, now: Now) -> Value {
    let status = if verdict.holds { "True" } else { "False" };
    let told = before["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
    let told = told.and_then(|condition| Some((condition["status"].as_str()?, condition["lastTransitionTime"].as_str()?)));
    let recorded = record::told(worker, kind);
    let shown = pod.status.conditions.iter().find(|condition| condition.kind == kind);
    let shown = recorded.as_ref().or(shown).map(|condition| (&*condition.status, &*condition.last_transition_time));
    let since = match told.or(shown) {
        Some((told, since)) if told == status => since.to_owned(),
        Some(_) => rfc3339::seconds(now.wall.0),
        None => rfc3339::seconds(first_seen(worker, pod, kind, verdict).map_or(now.wall, |since| since.min(now.wall)).0),
    };
    let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": since });
    if pod.metadata.generation > 0 {
        condition["observedGeneration"] = pod.metadata.generation.into();
    }
    if !verdict.reason.is_empty() {
        condition["reason"] = verdict.reason.into();
    }
    if !verdict.message.is_empty() {
        condition["message"] = verdict.message.as_str().into();
    }
    condition
}
