//! Which container is next: init containers one after the other, sidecars among
//! them, then the main ones side by side.
//!
//! Source: edge-node.md 1.7 and 1.8.

use super::restart_policy::restarts;
use super::worker::Worker;
use crate::node::now::{Mono, Now};
use crate::node::runtime::{ContainerSeen, ContainerState};
use crate::wire::kube::{Container, Pod};

/// What to do about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Start it.
    Start,
    /// A start would be due, but the back-off bars it until then.
    Wait {
        /// When it may start.
        until: Mono,
        /// The wait as people are told it, in seconds.
        seconds: u64,
    },
    /// It was created and never started: take it away, then start.
    Replace,
    /// Nothing to do, and the next may have its turn.
    Pass,
    /// Nothing to do, and nothing after it has a turn.
    Block,
    /// It failed for good, and the pod with it.
    Failed,
}

/// The containers that have a turn, in order.
pub fn turns<'a>(worker: &Worker, pod: &'a Pod, now: Now) -> Vec<(&'a Container, Turn)> {
    let init = &pod.spec.init_containers;
    let sidecars = |before: usize| {
        let sidecars = init[..before].iter().filter(|container| container.is_sidecar());
        sidecars.map(|container| (container, turn(worker, pod, container, now)))
    };
    let mut turns = Vec::new();
    if is_initialized(worker, pod) {
        turns.extend(sidecars(init.len()));
    } else {
        // Those before the last that has begun were done once: what becomes of a
        // sidecar among them holds nothing up.
        let begun = init.iter().rposition(|container| worker.seen.current(&container.name).is_some()).unwrap_or(0);
        turns.extend(sidecars(begun));
        for container in &init[begun..] {
            let turn = init_turn(worker, pod, container, now);
            let goes_on = turn == Turn::Pass;
            turns.push((container, turn));
            if !goes_on {
                return turns;
            }
        }
    }
    turns.extend(pod.spec.containers.iter().map(|container| (container, turn(worker, pod, container, now))));
    turns
}

/// Init is over once a main container of the present sandbox was ever made, or the
/// last init container is done.
pub fn is_initialized(worker: &Worker, pod: &Pod) -> bool {
    pod.spec.containers.iter().any(|container| worker.seen.current(&container.name).is_some())
        || pod.spec.init_containers.last().is_none_or(|last| init_is_done(worker, last))
}

/// Init was over some time, in whichever sandbox.
pub fn was_initialized(worker: &Worker, pod: &Pod) -> bool {
    let is_done = |last: &Container| match worker.seen.last_end(&last.name) {
        Some((_, exit)) if !last.is_sidecar() => exit.code == 0,
        Some(_) => last.startup_probe.is_none(),
        None => false,
    };
    is_initialized(worker, pod)
        || pod.spec.containers.iter().any(|container| worker.restarts(&container.name).is_some())
        || pod.spec.init_containers.last().is_some_and(is_done)
}

/// An init container that ended well, or a sidecar that has started.
pub fn init_is_done(worker: &Worker, container: &Container) -> bool {
    let is_done = |seen: &ContainerSeen| match seen.exit() {
        Some(exit) => exit.code == 0 && !container.is_sidecar(),
        None => container.is_sidecar() && seen.is_running() && worker.is_started(seen),
    };
    worker.seen.current(&container.name).is_some_and(is_done)
}

fn init_turn(worker: &Worker, pod: &Pod, container: &Container, now: Now) -> Turn {
    let sidecar = container.is_sidecar();
    let Some(seen) = worker.seen.current(&container.name) else { return start(worker, container, now) };
    match &seen.state {
        ContainerState::Created => Turn::Replace,
        ContainerState::Running { .. } | ContainerState::Unknown if sidecar && worker.is_started(seen) => Turn::Pass,
        ContainerState::Running { .. } | ContainerState::Unknown => Turn::Block,
        ContainerState::Exited(exit) if exit.code == 0 && !sidecar => Turn::Pass,
        ContainerState::Exited(exit) if !restarts(pod, container, exit.code) => Turn::Failed,
        ContainerState::Exited(_) => start(worker, container, now),
    }
}

fn turn(worker: &Worker, pod: &Pod, container: &Container, now: Now) -> Turn {
    let Some(seen) = worker.seen.current(&container.name) else {
        // After a new sandbox a container that was done stays done.
        return match worker.seen.latest(&container.name).and_then(|seen| seen.exit()) {
            Some(exit) if !restarts(pod, container, exit.code) => Turn::Pass,
            Some(_) | None => start(worker, container, now),
        };
    };
    match &seen.state {
        ContainerState::Created => Turn::Replace,
        ContainerState::Running { .. } | ContainerState::Unknown => Turn::Pass,
        ContainerState::Exited(exit) if !restarts(pod, container, exit.code) => Turn::Pass,
        ContainerState::Exited(_) => start(worker, container, now),
    }
}

/// A start that is due, unless its last end is too new, or a failed pull or
/// create bars it.
fn start(worker: &Worker, container: &Container, now: Now) -> Turn {
    let memory = worker.containers.get(&container.name);
    let back_off = memory.map(|memory| memory.restarts.of(&container.image)).unwrap_or_default();
    let last = worker.seen.shown_end(&container.name);
    if let Some(Err((until, wait))) = last.map(|exit| back_off.check(now, exit.finished)) {
        return Turn::Wait { until, seconds: wait.as_secs() };
    }
    let create = memory.map_or(Mono(0), |memory| memory.creates.until());
    let until = worker.pulls.of(&container.image).until().max(create);
    if until > now.mono { Turn::Wait { until, seconds: 0 } } else { Turn::Start }
}
