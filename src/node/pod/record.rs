//! What is kept on disk of a pod beside its object: when it began, how its
//! containers ended, and how it ended itself. What the cluster was told of an end
//! holds, also when the runtime has forgotten it.
//!
//! Source: a phase never leaves `Failed` or `Succeeded`
//! (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::phase::Phase;
use super::terminal;
use super::worker::{EVICTED, Fate, Worker};
use crate::node::now::Wall;
use crate::node::runtime::{ContainerSeen, ContainerState, Exit};
use crate::wire::kube::{Pod, PodCondition};

/// A pod on disk. Append only: a field more is another row type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// Its `startTime`, milliseconds since the epoch.
    pub started: i64,
    /// How it ended, once it has.
    pub end: Option<PodEnd>,
    /// The last end of each container that ever ended, by container.
    pub containers: BTreeMap<String, ContainerEnd>,
}

/// The end of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEnd {
    /// `Succeeded`, else `Failed`.
    pub succeeded: bool,
    /// `status.reason`; empty when its containers tell.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// It was never let in.
    pub rejected: bool,
    /// Its addresses.
    pub ips: Vec<String>,
    /// `type`, `status` and `lastTransitionTime` of its conditions.
    pub conditions: Vec<(String, String, String)>,
}

/// The end of an instance of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEnd {
    /// The runtime's id of it.
    pub id: String,
    /// Number of the instance.
    pub restarts: u32,
    /// Its image as people know it.
    pub image: String,
    /// Its image by digest.
    pub image_id: String,
    /// When it started, milliseconds since the epoch.
    pub started: i64,
    /// When it ended, milliseconds since the epoch.
    pub finished: i64,
    /// Exit code.
    pub code: i32,
    /// `Completed`, `Error` and the like.
    pub reason: String,
    /// Its termination message.
    pub message: String,
}

impl PodEnd {
    /// Its phase.
    pub fn phase(&self) -> Phase {
        if self.succeeded { Phase::Succeeded } else { Phase::Failed }
    }

    /// It had to make room.
    pub fn is_eviction(&self) -> bool {
        self.reason == EVICTED && !self.rejected
    }

    /// The end that a status tells.
    fn told(status: &Value, rejected: bool) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        Self {
            succeeded: status["phase"] == Phase::Succeeded.as_str(),
            reason: text(&status["reason"]),
            message: text(&status["message"]),
            rejected,
            ips: status["podIPs"].as_array().into_iter().flatten().map(|ip| text(&ip["ip"])).collect(),
            conditions: conditions.map(|told| (text(&told["type"]), text(&told["status"]), text(&told["lastTransitionTime"]))).collect(),
        }
    }
}

impl ContainerEnd {
    fn of(seen: &ContainerSeen, exit: &Exit) -> Self {
        Self {
            id: seen.id.to_string(),
            restarts: seen.restarts,
            image: seen.image.clone(),
            image_id: seen.image_id.clone(),
            started: exit.started.0,
            finished: exit.finished.0,
            code: exit.code,
            reason: exit.reason.clone(),
            message: exit.message.clone(),
        }
    }

    /// As the runtime showed it; its sandbox is not known any more.
    fn seen(&self, name: &str) -> ContainerSeen {
        let exit =
            Exit { started: Wall(self.started), finished: Wall(self.finished), code: self.code, reason: self.reason.clone(), message: self.message.clone() };
        ContainerSeen {
            id: self.id.as_str().into(),
            sandbox: "".into(),
            name: name.to_owned(),
            restarts: self.restarts,
            image: self.image.clone(),
            image_id: self.image_id.clone(),
            state: ContainerState::Exited(exit),
            annotations: BTreeMap::new(),
        }
    }
}

impl Worker {
    /// The disk knew this of it.
    pub(super) fn recall(&mut self, record: PodRecord) {
        self.started = Wall(record.started);
        for (name, end) in &record.containers {
            self.has_run(name, end.restarts);
            self.seen.remember(end.seen(name));
        }
        self.record = Some(record);
    }

    /// What the disk should know of it, when that is something new: `status` is
    /// what the cluster is about to be told.
    pub(super) fn new_record(&self, pod: &Pod, status: &Value) -> Option<PodRecord> {
        let kept = self.record.as_ref();
        let now_ended = || self.has_ended().then(|| PodEnd::told(status, matches!(self.fate, Fate::Rejected { .. })));
        let ends = pod.all_containers().filter_map(|container| {
            let (seen, exit) = self.seen.last_end(&container.name)?;
            let kept = kept.and_then(|kept| kept.containers.get(&container.name)).filter(|kept| *kept.id == *seen.id.as_str());
            Some((container.name.clone(), kept.cloned().unwrap_or_else(|| ContainerEnd::of(seen, exit))))
        });
        let record = PodRecord {
            started: kept.map_or_else(|| terminal::started(self, pod).0, |kept| kept.started),
            end: kept.and_then(|kept| kept.end.clone()).or_else(now_ended),
            containers: ends.collect(),
        };
        (kept != Some(&record)).then_some(record)
    }

    /// Its end, once that is on record.
    pub fn end(&self) -> Option<&PodEnd> {
        self.record.as_ref()?.end.as_ref()
    }

    /// It was never let in.
    pub fn is_rejected(&self) -> bool {
        matches!(self.fate, Fate::Rejected { .. }) || self.end().is_some_and(|end| end.rejected)
    }

    /// The cluster knows of its end, and nothing here does: there is nothing to
    /// add to what the cluster knows.
    pub(super) fn ended_elsewhere(&self, pod: &Pod) -> bool {
        let is_known = self.end().is_some() || self.is_rejected() || pod.all_containers().any(|container| self.seen.latest(&container.name).is_some());
        matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") && !is_known && self.seen.is_empty()
    }
}

/// A condition as it was told when the pod had ended.
pub(super) fn told(worker: &Worker, kind: &str) -> Option<PodCondition> {
    let (kind, status, last_transition_time) = worker.end()?.conditions.iter().find(|(of, ..)| of == kind)?.clone();
    Some(PodCondition { kind, status, last_transition_time })
}
