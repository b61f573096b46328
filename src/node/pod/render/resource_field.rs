//! Requests and limits as a pod is told them, in variables and files: divided by
//! the divisor and rounded up.
//!
//! Source: kubernetes.io/docs/concepts/workloads/pods/downward-api. A limit of
//! CPU, memory or disk that is not set is the pod's, else what pods may have of the
//! node; a request that is not set is the limit, as the API server writes it, else 0.

use super::Context;
use super::resources::{limit, pod_limit, request};
use crate::node::allocatable::Allocatable;
use crate::wire::kube::{Container, ResourceFieldRef};
use crate::wire::quantity::Quantity;

/// The request or limit of a container that a reference names.
pub fn resource_field(context: &Context<'_>, container: &Container, reference: &ResourceFieldRef) -> Result<String, String> {
    let unsupported = || format!("unsupported container resource : {}", reference.resource);
    let (class, of) = reference.resource.split_once('.').ok_or_else(unsupported)?;
    let has_default = matches!(of, "cpu" | "memory" | "ephemeral-storage");
    if !has_default && !of.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let unit = if of == "cpu" { Quantity::milli } else { Quantity::units };
    let whole = || Allocatable::new(context.facts, context.config).get(of).unwrap_or(0);
    let value = match class {
        "requests" => request(container, of).map_or(0, unit),
        "limits" => match limit(container, of) {
            Some(quantity) => unit(quantity),
            None if has_default => pod_limit(context.pod, of).map_or_else(whole, unit),
            None => 0,
        },
        _ => return Err(unsupported()),
    };
    let divisor = reference.divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::whole(1));
    let (value, divisor) = (i128::from(value), i128::from(unit(divisor).max(1)));
    Ok((value + divisor - 1).div_euclid(divisor).to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rendering;
    use super::*;
    use crate::node::machine::Facts;
    use crate::wire::kube::{Pod, read};

    const SET: &str = r#"{"requests":{"cpu":"250m","memory":"64Mi","ephemeral-storage":"1Gi","hugepages-2Mi":"2Mi"},
        "limits":{"cpu":"1500m","memory":"128Mi","ephemeral-storage":"2Gi","hugepages-2Mi":"4Mi"}}"#;

    /// The reference's value for a container with these resources in a pod with
    /// those.
    fn told(pod: &str, container: &str, resource: &str, divisor: &str) -> Result<String, String> {
        let json = format!(r#"{{"spec":{{"resources":{pod},"containers":[{{"name":"c","resources":{container}}}]}}}}"#);
        let pod: Pod = read(&json).expect("a pod");
        let reference = ResourceFieldRef { resource: resource.to_owned(), divisor: Quantity::parse(divisor), ..ResourceFieldRef::default() };
        let facts = Facts { cpus: 2, memory: 256 << 20, disk: 100 << 30, ..Facts::default() };
        rendering(
            &pod,
            &facts,
            |config| {
                (config.reserved_cpu, config.reserved_memory) = (500, 56 << 20);
                config.eviction = crate::config::Eviction { memory: 0, disk: 10 };
            },
            |context| resource_field(context, &pod.spec.containers[0], &reference),
        )
    }

    #[test]
    fn what_is_set_is_divided_and_rounded_up() {
        let of = |resource, divisor| told("{}", SET, resource, divisor).expect("a value");
        assert_eq!(
            (of("limits.cpu", "1"), of("limits.cpu", "1m"), of("requests.cpu", "0"), of("requests.cpu", "1m")),
            ("2".into(), "1500".into(), "1".into(), "250".into())
        );
        assert_eq!((of("limits.memory", "1Mi"), of("requests.memory", "1")), ("128".into(), (64 << 20).to_string()));
        assert_eq!((of("limits.ephemeral-storage", "1Gi"), of("requests.ephemeral-storage", "3Gi")), ("2".into(), "1".into()));
        assert_eq!((of("limits.hugepages-2Mi", "1Mi"), of("requests.hugepages-2Mi", "1Mi")), ("4".into(), "2".into()));
    }

    #[test]
    fn what_is_not_set_is_the_pods_or_what_pods_may_have() {
        let of = |pod, resource, divisor| told(pod, "{}", resource, divisor).expect("a value");
        assert_eq!((of("{}", "limits.cpu", "1m"), of("{}", "limits.cpu", "1")), ("1500".into(), "2".into()));
        assert_eq!((of("{}", "limits.memory", "1Mi"), of("{}", "limits.ephemeral-storage", "1Gi")), ("200".into(), "90".into()));
        let pod = r#"{"limits":{"cpu":"750m","memory":"100Mi"}}"#;
        assert_eq!((of(pod, "limits.cpu", "1m"), of(pod, "limits.memory", "1Mi")), ("750".into(), "100".into()));
        assert_eq!(of(pod, "limits.ephemeral-storage", "1Gi"), "90");
        for resource in ["requests.cpu", "requests.memory", "requests.ephemeral-storage", "requests.hugepages-2Mi", "limits.hugepages-2Mi"] {
            assert_eq!(of("{}", resource, "1"), "0", "{resource}");
        }
        let limit = told("{}", r#"{"limits":{"cpu":"300m"}}"#, "requests.cpu", "1m");
        assert_eq!(limit, Ok("300".to_owned()));
    }

    #[test]
    fn other_resources_are_not_told() {
        for resource in ["limits.example.com/gpu", "limits.pods", "limit.cpu", "cpu", "requests."] {
            assert_eq!(told("{}", "{}", resource, "1"), Err(format!("unsupported container resource : {resource}")));
        }
    }
}
