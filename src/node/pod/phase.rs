//! The phase of a pod, from the ends of its containers.
//!
//! Source: kubernetes `pkg/kubelet/kubelet_pods.go`, `getPhase`.

use super::order::{is_initialized, was_initialized};
use super::record::PodEnd;
use super::restart_policy::restarts;
use super::worker::{Fate, Worker};
use crate::node::runtime::ContainerState;
use crate::wire::kube::Pod;

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers were started once.
    Pending,
    /// At least one runs or will run again.
    Running,
    /// All ended well, for good.
    Succeeded,
    /// All ended, some badly, for good.
    Failed,
}

impl Phase {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Nothing of the pod will run again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The phase as the cluster is told it. A terminal phase that is on record, or that
/// the cluster knows, sticks; one that is neither is told only when nothing of the
/// pod runs any more, and so is on record at once.
///
/// Source: kubernetes `pkg/kubelet/status/status_manager.go`, `mergePodStatus`.
pub fn phase(worker: &Worker, pod: &Pod) -> Phase {
    if let Some(phase) = known_end(worker, pod) {
        return phase;
    }
    let expected = expected(worker, pod);
    if worker.is_stopped() || worker.is_rejected() || !expected.is_terminal() {
        return expected;
    }
    if was_initialized(worker, pod) { Phase::Running } else { Phase::Pending }
}

/// Nothing of the pod will run again, though some of it may still have to stop.
pub fn is_over(worker: &Worker, pod: &Pod) -> bool {
    known_end(worker, pod).is_some() || expected(worker, pod).is_terminal()
}

fn known_end(worker: &Worker, pod: &Pod) -> Option<Phase> {
    let told = || match pod.status.phase.as_str() {
        "Succeeded" => Some(Phase::Succeeded),
        "Failed" => Some(Phase::Failed),
        _ => None,
    };
    worker.end().map(PodEnd::phase).or_else(told)
}

fn expected(worker: &Worker, pod: &Pod) -> Phase {
    match worker.fate {
        Fate::Rejected { .. } => Phase::Failed,
        Fate::Failed { .. } if worker.is_stopped() => Phase::Failed,
        // A pod that is deleted ends as its containers did; what never ran failed.
        Fate::Deleted | Fate::Removed if worker.is_stopped() => ended(worker, pod),
        Fate::Run | Fate::Failed { .. } | Fate::Deleted | Fate::Removed => by_containers(worker, pod),
    }
}

fn ended(worker: &Worker, pod: &Pod) -> Phase {
    let well = pod.spec.containers.iter().all(|container| worker.seen.latest(&container.name).and_then(|seen| seen.exit()).is_some_and(|exit| exit.code == 0));
    if well { Phase::Succeeded } else { Phase::Failed }
}

fn by_containers(worker: &Worker, pod: &Pod) -> Phase {
    if !is_initialized(worker, pod) {
        let failed = pod.spec.init_containers.iter().filter(|container| !container.is_sidecar()).any(|container| {
            let code = worker.seen.current(&container.name).and_then(|seen| seen.exit()).map(|exit| exit.code);
            code.is_some_and(|code| code != 0 && !restarts(pod, container, code))
        });
        return if failed { Phase::Failed } else { Phase::Pending };
    }
    let (mut waiting, mut running, mut bad, mut again) = (false, false, false, false);
    for container in &pod.spec.containers {
        match worker.seen.latest(&container.name).map(|seen| &seen.state) {
            // One that was made and never started is started anew, if it ran before.
            None | Some(ContainerState::Created) if worker.seen.earlier(&container.name).next().is_none() => waiting = true,
            None | Some(ContainerState::Created) => again = true,
            Some(ContainerState::Running { .. } | ContainerState::Unknown) => running = true,
            Some(ContainerState::Exited(exit)) => {
                bad |= exit.code != 0;
                again |= restarts(pod, container, exit.code);
            }
        }
    }
    match (waiting, running || again, bad) {
        (true, _, _) => Phase::Pending,
        (false, true, _) => Phase::Running,
        (false, false, true) => Phase::Failed,
        (false, false, false) => Phase::Succeeded,
    }
}
