//! Whether a node is one of those that a pod may run on.
//!
//! Source: Kubernetes API reference, PodSpec.nodeSelector and NodeSelectorTerm.

use std::collections::BTreeMap;

use crate::wire::kube::{NodeOperator, NodeRequirement, NodeSelectorTerm, Pod};

/// Whether the pod may run on the node of this name with these labels.
pub fn is_allowed(pod: &Pod, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let selected = pod.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let required = pod.spec.affinity.node_affinity.required.as_ref();
    selected && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| holds(term, node, labels)))
}

fn holds(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let is_empty = term.match_expressions.is_empty() && term.match_fields.is_empty();
    let field = |key: &str| (key == "metadata.name").then_some(node);
    let by_labels = |wanted: &NodeRequirement| is_met(wanted, labels.get(&wanted.key).map(String::as_str));
    let by_fields = |wanted: &NodeRequirement| is_met(wanted, field(&wanted.key));
    !is_empty && term.match_expressions.iter().all(by_labels) && term.match_fields.iter().all(by_fields)
}

fn is_met(wanted: &NodeRequirement, value: Option<&str>) -> bool {
    let listed = || value.is_some_and(|value| wanted.values.iter().any(|listed| listed == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || match (&wanted.values[..], value.and_then(number)) {
        ([limit], Some(value)) => number(limit).map(|limit| value.cmp(&limit)),
        _ => None,
    };
    match wanted.operator {
        NodeOperator::In => listed(),
        NodeOperator::NotIn => !listed(),
        NodeOperator::Exists => value.is_some(),
        NodeOperator::DoesNotExist => value.is_none(),
        NodeOperator::Gt => compared().is_some_and(std::cmp::Ordering::is_gt),
        NodeOperator::Lt => compared().is_some_and(std::cmp::Ordering::is_lt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube;

    fn allowed(spec: &str) -> bool {
        let pod: Pod = kube::read(&format!(r#"{{"spec":{spec}}}"#)).expect("a pod");
        let labels = [("zone", "a"), ("cores", "4")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        is_allowed(&pod, "edge", &labels.into())
    }

    fn terms(terms: &str) -> bool {
        allowed(&format!(r#"{{"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}}}"#))
    }

    fn label(key: &str, operator: &str, values: &str) -> bool {
        terms(&format!(r#"{{"matchExpressions":[{{"key":"{key}","operator":"{operator}","values":{values}}}]}}"#))
    }

    #[test]
    fn a_selector_and_one_of_the_terms_must_hold() {
        assert!(allowed("{}") && allowed(r#"{"nodeSelector":{"zone":"a"}}"#) && !allowed(r#"{"nodeSelector":{"zone":"b"}}"#));
        let (holds, fails) = (r#"{"matchExpressions":[{"key":"zone","operator":"Exists"}]}"#, r#"{"matchExpressions":[{"key":"x","operator":"Exists"}]}"#);
        assert!(terms(holds) && !terms(fails) && terms(&format!("{fails},{holds}")));
        assert!(!terms("{}") && !terms(""));
        let name = |name: &str| terms(&format!(r#"{{"matchFields":[{{"key":"metadata.name","operator":"In","values":["{name}"]}}]}}"#));
        assert!(name("edge") && !name("other"));
    }

    #[test]
    fn each_operator_compares_as_the_scheduler_does() {
        assert!(label("zone", "In", r#"["b","a"]"#) && !label("zone", "In", r#"["b"]"#) && !label("x", "In", r#"[""]"#));
        assert!(label("zone", "NotIn", r#"["b"]"#) && !label("zone", "NotIn", r#"["a"]"#) && label("x", "NotIn", r#"["a"]"#));
        assert!(label("x", "DoesNotExist", "[]") && !label("zone", "DoesNotExist", "[]"));
        assert!(label("cores", "Gt", r#"["3"]"#) && !label("cores", "Gt", r#"["4"]"#) && !label("zone", "Gt", r#"["1"]"#));
        assert!(label("cores", "Lt", r#"["5"]"#) && !label("cores", "Lt", r#"["4"]"#) && !label("x", "Lt", r#"["1"]"#));
    }
}
