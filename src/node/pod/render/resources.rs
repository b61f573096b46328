//! Requests and limits: quality of service, cgroup numbers, OOM scores.
//!
//! Source: edge-node.md 1.11.

use super::Context;
use crate::node::ids::PodUid;
use crate::node::runtime::Cgroup;
use crate::wire::cri;
use crate::wire::kube::{Container, Pod, ResourceFieldRef};
use crate::wire::quantity::Quantity;

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

fn all(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers)
}

/// A limit that is more than nothing.
pub fn limit(container: &Container, of: &str) -> Option<Quantity> {
    container.resources.limits.get(of).copied().filter(|quantity| !quantity.is_zero())
}

/// A request; the limit when there is none.
pub fn request(container: &Container, of: &str) -> Option<Quantity> {
    container.resources.requests.get(of).copied().filter(|quantity| !quantity.is_zero()).or_else(|| limit(container, of))
}

/// Quality of service.
pub fn qos(pod: &Pod) -> Qos {
    let guaranteed =
        |container: &Container| ["cpu", "memory"].iter().all(|of| limit(container, of).is_some() && limit(container, of) == request(container, of));
    let nothing = |container: &Container| ["cpu", "memory"].iter().all(|of| request(container, of).is_none());
    if all(pod).all(nothing) {
        Qos::BestEffort
    } else if all(pod).all(guaranteed) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What a pod asks of the node: milli-CPU and bytes. Init containers run before
/// the others, so the larger of both counts.
pub fn requests(pod: &Pod) -> (i64, i64) {
    let sum =
        |of: &str, unit: fn(Quantity) -> i64| pod.spec.containers.iter().filter_map(|container| request(container, of)).map(unit).fold(0, i64::saturating_add);
    let most =
        |of: &str, unit: fn(Quantity) -> i64| pod.spec.init_containers.iter().filter_map(|container| request(container, of)).map(unit).max().unwrap_or(0);
    (sum("cpu", Quantity::milli).max(most("cpu", Quantity::milli)), sum("memory", Quantity::units).max(most("memory", Quantity::units)))
}

fn shares(milli: i64) -> i64 {
    if milli == 0 { 2 } else { (milli.saturating_mul(1024) / 1000).clamp(2, 262_144) }
}

fn quota(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * PERIOD / 1000).max(1000) }
}

/// The cgroup of the whole pod.
pub fn cgroup(context: &Context<'_>) -> Cgroup {
    let (pod, qos) = (context.pod, qos(context.pod));
    let (cpu, _) = requests(pod);
    let every = |of: &str| pod.spec.containers.iter().all(|container| limit(container, of).is_some());
    let sum = |of: &str, unit: fn(Quantity) -> i64| {
        if every(of) { pod.spec.containers.iter().filter_map(|container| limit(container, of)).map(unit).sum() } else { 0 }
    };
    Cgroup {
        parent: parent(context.uid, context.systemd, &context.config.cgroup_root, qos),
        cpu_shares: u64::try_from(shares(if qos == Qos::BestEffort { 0 } else { cpu })).unwrap_or(2),
        cpu_quota: quota(sum("cpu", Quantity::milli)),
        memory: sum("memory", Quantity::units),
    }
}

/// Where a pod's cgroup may be, when nobody knows its class any more.
pub fn cgroups(uid: &PodUid, systemd: bool, root: &str) -> Vec<String> {
    [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort].map(|qos| parent(uid, systemd, root, qos)).to_vec()
}

/// `/kubepods/burstable/podUID`, or the last slice's name under systemd.
fn parent(uid: &PodUid, systemd: bool, root: &str, qos: Qos) -> String {
    let class = match qos {
        Qos::Guaranteed => "",
        Qos::Burstable => "burstable",
        Qos::BestEffort => "besteffort",
    };
    if systemd {
        let uid = uid.as_str().replace('-', "_");
        return if class.is_empty() { format!("kubepods-pod{uid}.slice") } else { format!("kubepods-{class}-pod{uid}.slice") };
    }
    let root = root.trim_end_matches('/');
    if class.is_empty() { format!("{root}/kubepods/pod{uid}") } else { format!("{root}/kubepods/{class}/pod{uid}") }
}

/// Limits of one container.
pub fn container_resources(context: &Context<'_>, container: &Container) -> cri::LinuxContainerResources {
    let milli = |quantity: Option<Quantity>| quantity.map_or(0, Quantity::milli);
    let memory = limit(container, "memory").map_or(0, Quantity::units);
    let mut resources = cri::LinuxContainerResources {
        cpu_period: PERIOD,
        cpu_quota: quota(milli(limit(container, "cpu"))),
        cpu_shares: shares(milli(request(container, "cpu"))),
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
            let wanted = request(container, "memory").map_or(0, Quantity::units);
            (1000 - i64::try_from(i128::from(wanted) * 1000 / i128::from(capacity)).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// A request or limit, as the downward API shows it: divided, rounded up; the
/// node's own when there is no limit.
pub fn container_resource(context: &Context<'_>, container: &Container, reference: &ResourceFieldRef) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", reference.resource);
    let (class, of) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    let quantity = match class {
        "requests" => request(container, of),
        "limits" => limit(container, of).or_else(|| match of {
            "cpu" => Some(Quantity::whole(i64::from(context.facts.cpus))),
            "memory" => Some(Quantity::whole(i64::try_from(context.facts.memory).unwrap_or(i64::MAX))),
            _ => None,
        }),
        _ => return Err(unsupported()),
    };
    let divisor = reference.divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::whole(1)).milli();
    let milli = quantity.map_or(0, Quantity::milli);
    Ok((i128::from(milli) + i128::from(divisor) - 1).div_euclid(i128::from(divisor)).to_string())
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
    fn cpu_becomes_shares_and_quota() {
        assert_eq!((shares(0), shares(1), shares(50), shares(2000), shares(i64::MAX / 2000)), (2, 2, 51, 2048, 262_144));
        assert_eq!((quota(0), quota(5), quota(200)), (0, 1000, 20_000));
    }
}
