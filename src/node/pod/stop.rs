//! How a pod is stopped: grace, hooks, sidecars last.
//!
//! Source: kubernetes `pkg/kubelet/pod_workers.go`, `calculateEffectiveGracePeriod`:
//! a forced deletion leaves one second.

use std::time::Duration;

use super::plan::{Next, barred};
use super::render;
use super::worker::{Doing, Ending, Fate, Stage, Worker};
use crate::node::ids::SandboxId;
use crate::node::now::{Mono, Now};
use crate::node::runtime::{Action, ContainerSeen, Step, Stop};
use crate::wire::kube::Pod;

/// Least grace there is: of a pod that nobody knows the spec of, and of one
/// whose object is gone before it ended.
const LEAST: i64 = 1;
/// Grace of a pod that asks for none.
const USUAL: i64 = 30;

/// The pod has to end, or has to end sooner than it was told before. The grace
/// counts from the word that gave it, and a later word only shortens it.
pub fn begin(worker: &mut Worker, now: Now) {
    if !worker.is_ending() {
        return;
    }
    let grace = grace(worker);
    if worker.ending.is_some_and(|ending| ending.grace == grace) {
        return;
    }
    let until = now.mono + seconds(grace);
    let until = worker.ending.map_or(until, |ending| ending.until.min(until));
    worker.ending = Some(Ending { grace, until });
}

/// A deletion says how long; else the spec does. An object that is gone was
/// deleted by force.
///
/// Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination-forced
fn grace(worker: &Worker) -> i64 {
    let Some(pod) = &worker.pod else { return LEAST };
    let of_spec = pod.spec.termination_grace_period_seconds;
    let told = match worker.fate {
        Fate::Removed => Some(LEAST),
        Fate::Deleted => pod.metadata.deletion_grace_period_seconds.or(of_spec),
        Fate::Failed { grace, .. } => grace.or(of_spec),
        Fate::Run | Fate::Rejected { .. } => of_spec,
    };
    told.unwrap_or(USUAL).max(LEAST)
}

fn seconds(grace: i64) -> Duration {
    Duration::from_secs(u64::try_from(grace).unwrap_or(0))
}

/// What is under way must not hold up the end of the pod: it makes something
/// that is not wanted any more, leaves out a container that has to end, or
/// takes longer than the pod has.
pub fn overtakes(worker: &Worker) -> bool {
    let (Some((_, doing)), Some(ending)) = (&worker.doing, worker.ending) else { return false };
    match doing {
        Doing::Prepare(_) | Doing::Image(_) | Doing::Sandbox | Doing::Start(_) | Doing::PostStart(_) => true,
        Doing::Remove { .. } => !worker.is_stopped(),
        Doing::Look => !is_ordered(worker),
        Doing::Stop { until, .. } => !worker.is_stopped() && (ending.until < *until || !is_ordered(worker)),
        Doing::Empty | Doing::Clean => false,
    }
}

/// Whatever runs, as far as is known, was told to end.
pub fn is_ordered(worker: &Worker) -> bool {
    worker.seen.running().all(|seen| worker.is_stopping(seen))
}

/// Stops all containers, then all sandboxes, within what is left of the grace.
/// A container whose stop was ordered before has told of itself and its hook.
pub fn everything(worker: &mut Worker, pod: Option<&Pod>, now: Now) -> Next {
    if let Some(wait) = barred(worker, Stage::Stop, now) {
        return wait;
    }
    let running: Vec<_> = worker.seen.running().cloned().collect();
    let left = worker.ending.map(|ending| ending.until.since(now.mono));
    let left = left.and_then(|left| i64::try_from(left.as_millis().div_ceil(1000)).ok());
    running.iter().for_each(|seen| tell(worker, seen));
    let mut containers: Vec<Stop> = running.iter().map(|seen| one(worker, seen, pod, left)).collect();
    if let Some(pod) = pod {
        order(worker, pod, &mut containers);
    }
    let ready = worker.seen.sandboxes.iter().filter(|sandbox| sandbox.ready);
    let sandboxes = ready.map(|sandbox| sandbox.id.clone()).collect();
    let until = worker.ending.map(|ending| ending.until);
    step(containers, sandboxes, until, now)
}

/// A container is stopped; its stop is told when it is ordered first.
pub fn tell(worker: &mut Worker, seen: &ContainerSeen) {
    if !worker.is_stopping(seen) {
        worker.note(false, "Killing", format!("Stopping container {}", seen.name), Some(&seen.name));
    }
}

/// The step, and by when it has ended: `until`, or after the longest grace.
pub fn step(containers: Vec<Stop>, sandboxes: Vec<SandboxId>, until: Option<Mono>, now: Now) -> Next {
    let grace = containers.iter().map(|stop| stop.grace).max().unwrap_or(0);
    let doing = Doing::Stop {
        until: until.unwrap_or(now.mono + Duration::from_secs(grace.into())),
        containers: containers.iter().map(|stop| stop.container.clone()).collect(),
        sandboxes: sandboxes.clone(),
    };
    Next::Do(Step::Stop { containers, sandboxes }, doing)
}

/// One container to stop, with `grace` instead of the pod's when given.
pub fn one(worker: &mut Worker, seen: &ContainerSeen, pod: Option<&Pod>, grace: Option<i64>) -> Stop {
    let of_spec = || pod.map_or(LEAST, |pod| pod.spec.termination_grace_period_seconds.unwrap_or(USUAL));
    let grace = grace.unwrap_or_else(of_spec).max(LEAST);
    let pre_stop = pod.and_then(|pod| pre_stop(worker, seen, pod));
    worker.memory(&seen.name).stopping = Some(seen.id.clone());
    Stop { container: seen.id.clone(), grace: u32::try_from(grace).unwrap_or(u32::MAX), pre_stop, after: Vec::new() }
}

/// The hook to run before, once. One that cannot be run is told, and the stop
/// goes on without it.
fn pre_stop(worker: &mut Worker, seen: &ContainerSeen, pod: &Pod) -> Option<Action> {
    if worker.is_stopping(seen) {
        return None;
    }
    let container = pod.container(&seen.name)?;
    let handler = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    let own = worker.seen.sandbox().and_then(|sandbox| sandbox.ips.first());
    let told = render::action(handler, container, own.unwrap_or(&pod.status.pod_ip));
    told.map_err(|why| worker.note(true, "FailedPreStopHook", format!("PreStopHook failed: {why}"), Some(&seen.name))).ok()
}

impl Worker {
    /// The stop of an instance was ordered before.
    pub(super) fn is_stopping(&self, seen: &ContainerSeen) -> bool {
        self.containers.get(&seen.name).is_some_and(|memory| memory.stopping.as_ref() == Some(&seen.id))
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
