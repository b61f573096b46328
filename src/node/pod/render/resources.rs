//! Requests and limits: quality of service, cgroup numbers, OOM scores.
//!
//! Source: edge-node.md 1.11.

use super::Context;
use crate::config::Edged;
use crate::node::allocatable::Allocatable;
use crate::node::ids::PodUid;
use crate::node::machine::Facts;
use crate::node::runtime::Cgroup;
use crate::wire::cri;
use crate::wire::kube::{Container, Pod};
use crate::wire::quantity::Quantity;

/// The resources that quality of service follows.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Microseconds of one CPU period.
const PERIOD: i64 = 100_000;

/// Quality of service of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits, and requests equal to them.
    Guaranteed,
    /// Some are set.
    Burstable,
    /// None is.
    BestEffort,
}

impl Qos {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// A limit that is more than nothing.
pub fn limit(container: &Container, of: &str) -> Option<Quantity> {
    set(container.resources.limits.get(of))
}

/// A request; the limit when there is none.
pub fn request(container: &Container, of: &str) -> Option<Quantity> {
    set(container.resources.requests.get(of)).or_else(|| limit(container, of))
}

/// A limit of the pod as a whole.
pub fn pod_limit(pod: &Pod, of: &str) -> Option<Quantity> {
    set(pod.spec.resources.as_ref()?.limits.get(of))
}

/// A request of the pod as a whole; what its containers ask for, else its limit,
/// when there is none, as the API server writes it.
fn pod_request(pod: &Pod, of: &str) -> Option<Quantity> {
    let own = set(pod.spec.resources.as_ref()?.requests.get(of));
    let asked = || pod.all_containers().any(|container| request(container, of).is_some());
    own.or_else(|| pod_limit(pod, of).filter(|_| !asked()))
}

/// Quality of service: by the requests and limits of the pod as a whole, when it
/// has any.
pub fn qos(pod: &Pod) -> Qos {
    let class = |nothing: bool, guaranteed: bool| match (nothing, guaranteed) {
        (true, _) => Qos::BestEffort,
        (false, true) => Qos::Guaranteed,
        (false, false) => Qos::Burstable,
    };
    let fixed = |limit: Option<Quantity>, request: Option<Quantity>| limit.is_some() && limit == request;
    if pod.spec.resources.is_some() {
        let nothing = COMPUTE.iter().all(|of| pod_limit(pod, of).or(pod_request(pod, of)).is_none());
        return class(nothing, COMPUTE.iter().all(|of| fixed(pod_limit(pod, of), pod_request(pod, of))));
    }
    let nothing = |container: &Container| COMPUTE.iter().all(|of| request(container, of).is_none());
    let guaranteed = |container: &Container| COMPUTE.iter().all(|of| fixed(limit(container, of), request(container, of)));
    class(pod.all_containers().all(nothing), pod.all_containers().all(guaranteed))
}

/// What a pod asks of the node: milli-CPU and bytes.
pub fn requests(pod: &Pod) -> (i64, i64) {
    (requested(pod, "cpu"), requested(pod, "memory"))
}

/// What a pod asks of a resource of the node: milli-CPU, else whole units.
pub fn requested(pod: &Pod, of: &str) -> i64 {
    let unit = unit(of);
    let by_containers = || most(pod, |container| request(container, of).map_or(0, unit));
    pod_request(pod, of).map_or_else(by_containers, unit)
}

/// What a pod may take of CPU or memory; 0 for as much as there is.
fn total(pod: &Pod, of: &str) -> i64 {
    let unit = unit(of);
    if let Some(limit) = pod_limit(pod, of) {
        return unit(limit);
    }
    // One container without a limit may take everything.
    let is_limited = pod.all_containers().all(|container| limit(container, of).is_some());
    if is_limited { most(pod, |container| limit(container, of).map_or(0, unit)) } else { 0 }
}

/// Bytes of memory that a pod may take; `None` for as much as there is.
pub fn memory_limit(pod: &Pod) -> Option<i64> {
    Some(total(pod, "memory")).filter(|bytes| *bytes > 0)
}

fn unit(of: &str) -> fn(Quantity) -> i64 {
    if of == "cpu" { Quantity::milli } else { Quantity::units }
}

fn set(quantity: Option<&Quantity>) -> Option<Quantity> {
    quantity.copied().filter(|quantity| !quantity.is_zero())
}

/// The most that the containers of a pod take at one time: an init container
/// runs before the others, but beside the sidecars started before it.
fn most(pod: &Pod, of: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut peak) = (0_i64, 0);
    for init in &pod.spec.init_containers {
        let now = sidecars.saturating_add(of(init));
        peak = now.max(peak);
        if init.is_sidecar() {
            sidecars = now;
        }
    }
    pod.spec.containers.iter().map(of).fold(sidecars, i64::saturating_add).max(peak)
}

fn shares(milli: i64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144).unsigned_abs()
}

fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli.saturating_mul(PERIOD) / 1000).max(1000) }
}

/// The cgroup of the whole pod.
pub fn cgroup(context: &Context<'_>) -> Cgroup {
    let (pod, qos) = (context.pod, qos(context.pod));
    let (cpu, _) = requests(pod);
    Cgroup {
        parent: parent(context.uid, context.systemd, &context.config.cgroup_root, qos),
        cpu_shares: shares(if qos == Qos::BestEffort { 0 } else { cpu }),
        cpu_quota: quota(total(pod, "cpu")),
        memory: total(pod, "memory"),
    }
}

/// The cgroups above those of pods. When the CPU is short, all pods together
/// weigh as much as they may ask for, the burstable ones as much as they asked
/// for, and those that asked for nothing get what is left.
pub fn classes<'a>(pods: impl Iterator<Item = &'a Pod>, config: &Edged, facts: &Facts, systemd: bool) -> Vec<Cgroup> {
    let burstable = pods.filter(|pod| qos(pod) == Qos::Burstable).map(|pod| requests(pod).0).fold(0, i64::saturating_add);
    let class = |qos, milli| Cgroup { parent: class(systemd, &config.cgroup_root, qos), cpu_shares: shares(milli), ..Default::default() };
    vec![class(Qos::Guaranteed, Allocatable::new(facts, config).cpu), class(Qos::Burstable, burstable), class(Qos::BestEffort, 0)]
}

/// Where a pod's cgroup may be, when nobody knows its class any more.
pub fn cgroups(uid: &PodUid, systemd: bool, root: &str) -> Vec<String> {
    [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort].map(|qos| parent(uid, systemd, root, qos)).to_vec()
}

/// `/kubepods/burstable/podUID`, or the last slice's name under systemd.
fn parent(uid: &PodUid, systemd: bool, root: &str, qos: Qos) -> String {
    let class = class(systemd, root, qos);
    match class.strip_suffix(".slice") {
        Some(class) => format!("{class}-pod{}.slice", uid.as_str().replace('-', "_")),
        None => format!("{class}/pod{uid}"),
    }
}

/// `/kubepods/burstable`, or the last slice's name under systemd. Guaranteed
/// pods have no class of their own.
fn class(systemd: bool, root: &str, qos: Qos) -> String {
    let class = match (qos, systemd) {
        (Qos::Guaranteed, _) => "",
        (Qos::Burstable, false) => "/burstable",
        (Qos::Burstable, true) => "-burstable",
        (Qos::BestEffort, false) => "/besteffort",
        (Qos::BestEffort, true) => "-besteffort",
    };
    if systemd { format!("kubepods{class}.slice") } else { format!("{root}/kubepods{class}") }
}

/// Limits of one container.
pub fn container_resources(context: &Context<'_>, container: &Container) -> cri::LinuxContainerResources {
    let milli = |quantity: Option<Quantity>| quantity.map_or(0, Quantity::milli);
    let memory = limit(container, "memory").map_or(0, Quantity::units);
    let mut resources = cri::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(milli(limit(container, "cpu"))),
        cpu_shares: i64::try_from(shares(milli(request(container, "cpu")))).expect("at most 262144"),
        memory_limit_in_bytes: memory,
        memory_swap_limit_in_bytes: memory,
        oom_score_adj: oom_score(context, container),
        ..Default::default()
    };
    for (name, quantity) in &container.resources.limits {
        if let Some(size) = name.strip_prefix("hugepages-") {
            let limit = u64::try_from(quantity.units()).unwrap_or(0);
            resources.hugepage_limits.push(cri::HugepageLimit { page_size: size.replace('i', "B"), limit });
        }
    }
    if context.facts.cgroup_v2 {
        resources.unified.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    resources
}

fn oom_score(context: &Context<'_>, container: &Container) -> i64 {
    if context.pod.spec.priority.is_some_and(|priority| priority >= 2_000_000_000) {
        return -997;
    }
    match qos(context.pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let capacity = i64::try_from(context.facts.memory).unwrap_or(i64::MAX).max(1);
            let wanted = memory_share(context.pod, container);
            1000i64.saturating_sub(i64::try_from(i128::from(wanted) * 1000 / i128::from(capacity)).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// Bytes that a container asks for: its own request, and an equal part of what
/// the pod as a whole asks for beyond those of its containers. A sidecar asks for
/// no less than the smallest main container, so that it is not killed before it.
fn memory_share(pod: &Pod, container: &Container) -> i64 {
    let own = |container: &Container| request(container, "memory").map_or(0, Quantity::units);
    let count = i64::try_from(pod.all_containers().count()).unwrap_or(i64::MAX).max(1);
    let beyond = pod_request(pod, "memory").map_or(0, |all| all.units().saturating_sub(most(pod, own)));
    let is_sidecar = container.is_sidecar() && pod.spec.init_containers.iter().any(|init| init.name == container.name);
    let least = pod.spec.containers.iter().map(own).min().filter(|_| is_sidecar);
    own(container).max(least.unwrap_or(0)).saturating_add(beyond / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube;

    fn pod(resources: &str) -> Pod {
        kube::read(&format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#)).expect("a pod")
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        for (resources, wanted) in [
            ("{}", Qos::BestEffort),
            (r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, Qos::Guaranteed),
            (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1","memory":"512Mi"}}"#, Qos::Burstable),
            (r#"{"requests":{"cpu":"50m"}}"#, Qos::Burstable),
            (r#"{"requests":{"cpu":"0"}}"#, Qos::BestEffort),
        ] {
            assert_eq!(qos(&pod(resources)), wanted, "{resources}");
        }
        assert_eq!(requests(&pod(r#"{"requests":{"cpu":"50m","memory":"1Ki"}}"#)), (50, 1024));
    }

    #[test]
    fn init_containers_and_sidecars_count_for_the_time_they_run() {
        let asks = |cpu: &str| format!(r#""resources":{{"requests":{{"cpu":"{cpu}"}}}}"#);
        let pod = |init: &[(&str, bool)]| {
            let init: Vec<_> = init
                .iter()
                .map(|(cpu, stays)| format!(r#"{{"name":"i{cpu}",{}{}}}"#, asks(cpu), if *stays { r#","restartPolicy":"Always""# } else { "" }))
                .collect();
            kube::read::<Pod>(&format!(r#"{{"spec":{{"initContainers":[{}],"containers":[{{"name":"c",{}}}]}}}}"#, init.join(","), asks("100m")))
                .expect("a pod")
        };
        assert_eq!(requests(&pod(&[("50m", false)])).0, 100);
        assert_eq!(requests(&pod(&[("300m", false)])).0, 300);
        assert_eq!(requests(&pod(&[("20m", true), ("300m", false)])).0, 320);
        assert_eq!(requests(&pod(&[("300m", false), ("20m", true)])).0, 300);
        assert_eq!(requests(&pod(&[("20m", true), ("30m", true)])).0, 150);
    }

    #[test]
    fn the_resources_of_the_pod_as_a_whole_come_before_the_sum_of_its_containers() {
        let pod = |whole: &str, own: &str| -> Pod {
            let containers = format!(r#"[{{"name":"a","resources":{own}}},{{"name":"b"}}]"#);
            kube::read(&format!(r#"{{"spec":{{"resources":{whole},"containers":{containers}}}}}"#)).expect("a pod")
        };
        let full = r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#;
        assert_eq!(qos(&pod(full, "{}")), Qos::Guaranteed);
        assert_eq!(qos(&pod(r#"{"limits":{"cpu":"1"}}"#, "{}")), Qos::Burstable);
        assert_eq!(qos(&pod(r#"{"requests":{"memory":"1Mi"}}"#, full)), Qos::Burstable);
        assert_eq!(qos(&pod("{}", "{}")), Qos::BestEffort);
        assert_eq!(requests(&pod(full, "{}")), (1000, 1 << 30));
        assert_eq!(requests(&pod(full, r#"{"requests":{"cpu":"300m"}}"#)), (300, 1 << 30));
        assert_eq!(requests(&pod(r#"{"requests":{"cpu":"2"}}"#, r#"{"requests":{"cpu":"300m","memory":"1Mi"}}"#)), (2000, 1 << 20));
        assert_eq!((total(&pod(full, "{}"), "cpu"), memory_limit(&pod(full, "{}"))), (1000, Some(1 << 30)));
        assert_eq!(memory_limit(&pod("{}", full)), None, "one container has no limit");
    }

    #[test]
    fn what_the_pod_asks_for_beyond_its_containers_is_shared_equally() {
        let whole = r#""resources":{"requests":{"memory":"300Mi"}},"#;
        let pod = |whole: &str| -> Pod {
            let asks = |name: &str, memory: &str| format!(r#"{{"name":"{name}","resources":{{"requests":{{"memory":"{memory}"}}}}}}"#);
            let sidecar = r#"{"name":"s","restartPolicy":"Always"}"#;
            let containers = [asks("a", "60Mi"), asks("b", "90Mi")].join(",");
            kube::read(&format!(r#"{{"spec":{{{whole}"initContainers":[{sidecar}],"containers":[{containers}]}}}}"#)).expect("a pod")
        };
        let shares = |pod: &Pod| pod.all_containers().map(|container| memory_share(pod, container) >> 20).collect::<Vec<_>>();
        assert_eq!(shares(&pod("")), [60, 60, 90]);
        assert_eq!(shares(&pod(whole)), [110, 110, 140]);
    }

    #[test]
    fn classes_weigh_what_their_pods_ask_for() {
        let pods = ["{}", r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, r#"{"requests":{"cpu":"250m"}}"#, r#"{"requests":{"cpu":"500m"}}"#].map(pod);
        let config = crate::config::file::parse("", "n").expect("defaults").edged;
        let facts = Facts { cpus: 2, ..Facts::default() };
        let shown = |systemd| classes(pods.iter(), &config, &facts, systemd).into_iter().map(|class| (class.parent, class.cpu_shares)).collect::<Vec<_>>();
        assert_eq!(shown(false), [("/kubepods".into(), 2048), ("/kubepods/burstable".into(), 768), ("/kubepods/besteffort".into(), 2)]);
        assert_eq!(shown(true), [("kubepods.slice".into(), 2048), ("kubepods-burstable.slice".into(), 768), ("kubepods-besteffort.slice".into(), 2)]);
    }

    #[test]
    fn cpu_becomes_shares_and_quota() {
        assert_eq!((shares(0), shares(1), shares(50), shares(2000), shares(i64::MAX / 2000)), (2, 2, 51, 2048, 262_144));
        assert_eq!((quota(0), quota(5), quota(200)), (0, 1000, 20_000));
    }
}
