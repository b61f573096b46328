//! Pods that have to make room: those that take more disk than they may, and,
//! when the machine runs out of memory or disk, the one that asked for least of
//! what it takes. Not how a shortage is noticed (`node::pressure`).
//!
//! Source: edge-node.md 1.20; words are kubelet's.

use std::fmt::Write;
use std::time::Duration;

use super::Node;
use super::ids::{PodKey, PodUid};
use super::now::{Mono, Now};
use super::pod::admit::is_critical;
use super::pod::render;
use super::pod::worker::{EVICTED, Fate, Worker};
use super::pressure::{self, Resource, Shortage};
use super::runtime::{self, PodUsage};
use crate::wire::kube::{Container, Pod};
use crate::wire::quantity::Quantity;

/// Seconds a pod gets that has to make room.
const GRACE: i64 = 1;
/// The next pod goes only when the last one is gone, or after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where making room stands.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    /// What pods use was asked for and not told yet.
    measuring: bool,
    /// Disk was short already when the machine was looked at before: images had
    /// their time to go.
    disk_was_short: bool,
    /// What is short enough for a pod to go.
    shortage: Option<Shortage>,
    /// The pod that goes for a shortage.
    leaving: Option<(PodUid, Mono)>,
}

impl Eviction {
    /// What was asked is not answered any more.
    pub(super) fn not_measured(&mut self) {
        self.measuring = false;
    }
}

impl Node {
    /// The machine was looked at: pods are measured when it matters.
    pub(super) fn look_for_room(&mut self) {
        if self.eviction.measuring {
            return;
        }
        let all: Vec<Shortage> = pressure::shortages(&self.facts, self.settings.edged.eviction).collect();
        let had_time = std::mem::replace(&mut self.eviction.disk_was_short, all.iter().any(|short| short.of != Resource::Memory));
        self.eviction.shortage = all.into_iter().find(|short| short.of == Resource::Memory || had_time);
        let short = self.eviction.shortage.is_some();
        let measured = |worker: &&Worker| may_go(worker) && (short || worker.pod.as_deref().is_some_and(has_limits));
        let pods: Vec<(PodUid, PodKey)> = self.pods.iter().filter(measured).map(|worker| (worker.uid.clone(), worker.key.clone())).collect();
        if !pods.is_empty() {
            self.eviction.measuring = true;
            self.pods.order(runtime::Order::Measure(pods));
        }
    }

    /// What pods use is known.
    pub(super) fn make_room(&mut self, now: Now, usage: &[PodUsage]) {
        self.eviction.measuring = false;
        let mut evicted = Vec::new();
        for usage in usage {
            let worker = self.pods.get(&usage.pod).filter(|worker| may_go(worker));
            if let Some(message) = worker.and_then(|worker| worker.pod.as_deref()).and_then(|pod| beyond_limits(pod, usage)) {
                evicted.push((usage.pod.clone(), message));
            }
        }
        if evicted.is_empty() {
            evicted.extend(self.one_for_shortage(now, usage));
        }
        for (uid, message) in evicted {
            self.evict(&uid, message);
        }
    }

    fn one_for_shortage(&mut self, now: Now, usage: &[PodUsage]) -> Option<(PodUid, String)> {
        let shortage = self.eviction.shortage?;
        let is_going = |(uid, since): &(PodUid, Mono)| now.mono.since(*since) < PATIENCE && self.pods.get(uid).is_some_and(|worker| !worker.is_stopped());
        if self.eviction.leaving.as_ref().is_some_and(is_going) {
            return None;
        }
        let candidates = usage.iter().filter_map(|usage| {
            let worker = self.pods.get(&usage.pod).filter(|worker| may_go(worker))?;
            let pod = worker.pod.as_deref().filter(|pod| !is_critical(pod))?;
            Some((rank(pod, usage, shortage.of), usage, pod))
        });
        let (_, usage, pod) = candidates.max_by(|(one, ..), (other, ..)| one.cmp(other))?;
        let message = low(pod, usage, shortage);
        log::warn!(target: "edged", "pod '{}/{}' has to make room: {message}", pod.metadata.namespace, pod.metadata.name);
        self.eviction.leaving = Some((usage.pod.clone(), now.mono));
        Some((usage.pod.clone(), message))
    }

    fn evict(&mut self, uid: &PodUid, message: String) {
        let Some(worker) = self.pods.get_mut(uid) else { return };
        worker.note(true, EVICTED, message.clone(), None);
        worker.fate = Fate::Failed { reason: EVICTED, message, grace: Some(GRACE) };
        worker.dirty = true;
        self.count("evicted_pods");
    }
}

/// It runs and nobody ended it yet.
fn may_go(worker: &Worker) -> bool {
    worker.fate == Fate::Run && !worker.seen.is_empty() && !worker.has_ended()
}

/// Bytes that are more than none.
fn bytes(quantity: Quantity) -> Option<u64> {
    u64::try_from(quantity.units()).ok().filter(|bytes| *bytes > 0)
}

/// emptyDir volumes on disk that have a limit, and the limit.
fn limited_volumes(pod: &Pod) -> impl Iterator<Item = (&str, u64)> {
    pod.spec.volumes.iter().filter_map(|volume| {
        // A limit in memory is the kernel's to keep.
        let on_disk = volume.empty_dir.as_ref().filter(|empty| empty.medium.is_empty())?;
        Some((volume.name.as_str(), bytes(on_disk.size_limit?)?))
    })
}

fn disk_limit(container: &Container) -> Option<u64> {
    render::limit(container, Resource::Disk.name()).and_then(bytes)
}

/// Whether a pod may only take so much of the disk.
fn has_limits(pod: &Pod) -> bool {
    limited_volumes(pod).next().is_some() || pod.spec.containers.iter().any(|container| disk_limit(container).is_some())
}

/// What a pod takes of the disk beyond what it may.
fn beyond_limits(pod: &Pod, usage: &PodUsage) -> Option<String> {
    let used = |name: &str| usage.containers.get(name).map_or(0, |container| container.disk);
    if let Some((name, limit)) = limited_volumes(pod).find(|(name, limit)| usage.volumes.get(*name).is_some_and(|used| used > limit)) {
        return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", binary(limit)));
    }
    let limits: Vec<(&str, u64)> = pod.spec.containers.iter().filter_map(|container| Some((container.name.as_str(), disk_limit(container)?))).collect();
    if let Some((name, limit)) = limits.iter().find(|(name, limit)| used(name) > *limit) {
        return Some(format!("Container {name} exceeded its local ephemeral storage limit \"{}\". ", binary(*limit)));
    }
    let limit: u64 = limits.iter().map(|(_, limit)| limit).sum();
    (limit > 0 && disk_of(usage) > limit).then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {}. ", binary(limit)))
}

fn disk_of(usage: &PodUsage) -> u64 {
    usage.containers.values().map(|container| container.disk).chain(usage.volumes.values().copied()).sum()
}

/// What a container asked for; the limit when it did not.
fn requested(container: &Container, of: Resource) -> u64 {
    render::request(container, of.request()).and_then(bytes).unwrap_or(0)
}

impl Resource {
    /// What pods ask for to have some of it.
    fn request(self) -> &'static str {
        match self {
            Self::Memory | Self::Disk => self.name(),
            Self::Inodes => Self::Disk.name(),
        }
    }

    fn used(self, usage: runtime::ContainerUsage) -> u64 {
        match self {
            Self::Memory => usage.memory,
            Self::Disk | Self::Inodes => usage.disk,
        }
    }
}

/// The greatest goes first: takes more than it asked for, is least important,
/// takes most beyond what it asked for.
fn rank(pod: &Pod, usage: &PodUsage, of: Resource) -> (bool, std::cmp::Reverse<i32>, i128) {
    let used = match of {
        Resource::Memory => usage.containers.values().map(|container| container.memory).sum(),
        Resource::Disk | Resource::Inodes => disk_of(usage),
    };
    let asked: u64 = pod.spec.containers.iter().map(|container| requested(container, of)).sum();
    (used > asked, std::cmp::Reverse(pod.spec.priority.unwrap_or(0)), i128::from(used) - i128::from(asked))
}

/// Why this pod goes.
fn low(pod: &Pod, usage: &PodUsage, shortage: Shortage) -> String {
    let Shortage { of, threshold, available } = shortage;
    let mut text = format!("The node was low on resource: {}. Threshold quantity: {}, available: {}. ", of.name(), binary(threshold), binary(available));
    for container in &pod.spec.containers {
        let used = usage.containers.get(&container.name).map_or(0, |usage| of.used(*usage));
        let asked = requested(container, of);
        if used > asked {
            let (used, asked) = (binary(used), binary(asked));
            let _ = write!(text, "Container {} was using {used}, request is {asked}, has larger consumption of {}. ", container.name, of.request());
        }
    }
    text
}

/// Bytes as Kubernetes writes them: in the largest unit that is exact, else in
/// whole Ki.
fn binary(bytes: u64) -> String {
    match [(30, "Gi"), (20, "Mi"), (10, "Ki")].into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None if bytes < 1 << 10 => bytes.to_string(),
        None => format!("{}Ki", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::runtime::ContainerUsage;
    use crate::wire::kube;

    fn pod(spec: &str) -> Pod {
        kube::read(&format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#)).expect("a pod")
    }

    fn usage(memory: u64, disk: u64, volume: u64) -> PodUsage {
        let containers = [("c".to_owned(), ContainerUsage { memory, disk })].into();
        PodUsage { pod: PodUid::from("u"), containers, volumes: [("v".to_owned(), volume)].into() }
    }

    #[test]
    fn limits_of_the_disk_are_told_in_kubelets_words() {
        let volume = pod(
            r#"{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Mi"}},{"name":"m","emptyDir":{"medium":"Memory","sizeLimit":"1"}}],"containers":[{"name":"c"}]}"#,
        );
        assert!(has_limits(&volume));
        assert_eq!(beyond_limits(&volume, &usage(0, 9 << 20, 1 << 20)), None);
        assert_eq!(beyond_limits(&volume, &usage(0, 0, (1 << 20) + 1)).as_deref(), Some("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "));
        let container = pod(r#"{"containers":[{"name":"c","resources":{"limits":{"ephemeral-storage":"2Mi"}}}]}"#);
        assert_eq!(beyond_limits(&container, &usage(0, 3 << 20, 0)).as_deref(), Some("Container c exceeded its local ephemeral storage limit \"2Mi\". "));
        let whole = beyond_limits(&container, &usage(0, 1 << 20, 2 << 20));
        assert_eq!(whole.as_deref(), Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "));
        assert!(!has_limits(&pod(r#"{"volumes":[{"name":"v","emptyDir":{}}],"containers":[{"name":"c"}]}"#)));
    }

    #[test]
    fn who_takes_more_than_it_asked_for_goes_first_then_the_least_important() {
        let modest = pod(r#"{"priority":0,"containers":[{"name":"c","resources":{"requests":{"memory":"64Mi"}}}]}"#);
        let important = pod(r#"{"priority":1000,"containers":[{"name":"c"}]}"#);
        let greedy = pod(r#"{"containers":[{"name":"c"}]}"#);
        let rank = |pod: &Pod, memory: u64| rank(pod, &usage(memory, 0, 0), Resource::Memory);
        assert!(rank(&important, 1 << 20) > rank(&modest, 60 << 20));
        assert!(rank(&greedy, 1 << 20) > rank(&important, 900 << 20));
        assert!(rank(&greedy, 2 << 20) > rank(&greedy, 1 << 20));
        assert!(is_critical(&pod(r#"{"priority":2000001000,"containers":[]}"#)) && !is_critical(&important));
    }

    #[test]
    fn a_shortage_is_told_with_its_figures() {
        let shortage = Shortage { of: Resource::Memory, threshold: 100 << 20, available: (50 << 20) + 1500 };
        let text = low(&pod(r#"{"containers":[{"name":"c"}]}"#), &usage(80 << 20, 0, 0), shortage);
        assert_eq!(
            text,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 51201Ki. Container c was using 80Mi, request is 0, has larger consumption of memory. "
        );
    }
}
