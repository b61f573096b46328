//! How a pod is stopped: grace, hooks, sidecars last.
//!
//! Source: edge-node.md 1.9.

use std::time::Duration;

use super::plan::Next;
use super::render;
use super::worker::{Doing, Fate, Worker};
use crate::node::ids::SandboxId;
use crate::node::now::Now;
use crate::node::runtime::{Action, ContainerSeen, Step, Stop};
use crate::wire::kube::Pod;

/// Grace of a pod nobody knows the spec of.
const ORPHAN: i64 = 1;
/// Least grace there is.
const BY_FORCE: i64 = 1;

/// Stops all containers, then all sandboxes. A stop that is under way already
/// has told of itself and run the hooks.
pub fn everything(worker: &mut Worker, pod: Option<&Pod>, now: Now) -> Next {
    let again = is_under_way(worker);
    let (running, grace) = (worker.seen.running().cloned().collect::<Vec<_>>(), grace(worker, pod));
    let mut containers: Vec<Stop> = running.iter().map(|seen| one(worker, seen, pod, grace)).collect();
    if let Some(pod) = pod {
        order(worker, pod, &mut containers);
    }
    for seen in running.iter().filter(|_| !again) {
        worker.note(false, "Killing", format!("Stopping container {}", seen.name), Some(&seen.name));
    }
    let sandboxes = worker.seen.sandboxes.iter().filter(|sandbox| sandbox.ready).map(|sandbox| sandbox.id.clone()).collect();
    step(containers, sandboxes, now)
}

/// The step, and by when it has ended.
pub fn step(containers: Vec<Stop>, sandboxes: Vec<SandboxId>, now: Now) -> Next {
    let grace = containers.iter().map(|stop| stop.grace).max().unwrap_or(0);
    Next::Do(Step::Stop { containers, sandboxes }, Doing::Stop(now.mono + Duration::from_secs(grace.into())))
}

/// A later word leaves the stop under way less time than it has: a deletion
/// with a shorter grace, or one by force.
pub fn is_hurried(worker: &Worker, now: Now) -> bool {
    let Some((_, Doing::Stop(until))) = &worker.doing else { return false };
    let grace = grace(worker, worker.pod.as_deref()).and_then(|grace| u64::try_from(grace.max(1)).ok());
    grace.is_some_and(|grace| now.mono + Duration::from_secs(grace) < *until) && !worker.is_stopped()
}

/// One container to stop, with `grace` instead of the pod's when given.
pub fn one(worker: &mut Worker, seen: &ContainerSeen, pod: Option<&Pod>, grace: Option<i64>) -> Stop {
    let grace = grace.or_else(|| pod.map(|pod| pod.spec.termination_grace_period_seconds.unwrap_or(30))).unwrap_or(ORPHAN);
    let pre_stop = pod.and_then(|pod| pre_stop(worker, seen, pod));
    Stop { container: seen.id.clone(), grace: u32::try_from(grace.max(1)).unwrap_or(u32::MAX), pre_stop, after: Vec::new() }
}

/// The hook to run before, once. One that cannot be run is told, and the stop
/// goes on without it.
fn pre_stop(worker: &mut Worker, seen: &ContainerSeen, pod: &Pod) -> Option<Action> {
    if is_under_way(worker) {
        return None;
    }
    let container = pod.container(&seen.name)?;
    let handler = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    let own = worker.seen.sandbox().and_then(|sandbox| sandbox.ips.first());
    let told = render::action(handler, container, own.unwrap_or(&pod.status.pod_ip));
    told.map_err(|why| worker.note(true, "FailedPreStopHook", format!("PreStopHook failed: {why}"), Some(&seen.name))).ok()
}

fn is_under_way(worker: &Worker) -> bool {
    matches!(worker.doing, Some((_, Doing::Stop(_))))
}

/// A deletion says how long; else the spec does. An object that goes while its
/// pod is still ending was deleted a second time, by force.
fn grace(worker: &Worker, pod: Option<&Pod>) -> Option<i64> {
    match worker.fate {
        Fate::Deleted => pod.and_then(|pod| pod.metadata.deletion_grace_period_seconds),
        Fate::Removed => pod.and_then(|pod| pod.metadata.deletion_timestamp.as_ref()).map(|_| BY_FORCE),
        Fate::Failed { grace, .. } => grace,
        Fate::Run | Fate::Rejected { .. } => None,
    }
}

/// Sidecars end after the main containers, in reverse order of their start.
fn order(worker: &Worker, pod: &Pod, stops: &mut [Stop]) {
    let sidecars: Vec<&str> = pod.spec.init_containers.iter().filter(|container| container.is_sidecar()).map(|container| container.name.as_str()).collect();
    let name_of = |stop: &Stop| worker.seen.containers.iter().find(|seen| seen.id == stop.container).map_or("", |seen| seen.name.as_str());
    let rank = |stop: &Stop| sidecars.iter().position(|name| *name == name_of(stop));
    let ranks: Vec<Option<usize>> = stops.iter().map(rank).collect();
    let ids: Vec<_> = stops.iter().map(|stop| stop.container.clone()).collect();
    for (index, stop) in stops.iter_mut().enumerate() {
        let Some(mine) = ranks[index] else { continue };
        stop.after = ranks.iter().zip(&ids).filter(|(rank, _)| rank.is_none_or(|rank| rank > mine)).map(|(_, id)| id.clone()).collect();
    }
}
