//! The beginning and the end of a pod's life as the cluster counts it.

use super::worker::Worker;
use crate::node::now::Wall;
use crate::wire::kube::Pod;
use crate::wire::rfc3339;

/// When the pod began on this node: as the disk or the cluster knows it, else when
/// its first sandbox was made, else when the node heard of it.
pub fn started(worker: &Worker, pod: &Pod) -> Wall {
    if let Some(record) = &worker.record {
        return Wall(record.started);
    }
    let told = rfc3339::parse(&pod.status.start_time).map(Wall);
    let made = worker.seen.sandboxes.last().map(|sandbox| sandbox.created);
    told.or(made).unwrap_or(worker.started)
}
