//! Whether a container that ended starts again: the first of its rules that
//! matches, else its own policy, else the pod's.
//!
//! Source: kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle, "Individual
//! container restart policy and rules" (1.34).

use crate::wire::kube::{Container, ExitCodes, ExitCodesOperator, Pod, RestartAction, RestartPolicy};

/// Whether it starts again after this exit code. An init container that ended well
/// is done, which is not asked here.
pub fn restarts(pod: &Pod, container: &Container, code: i32) -> bool {
    let Some(policy) = container.restart_policy else { return by_policy(pod.spec.restart_policy, code) };
    // A pod with another action is refused.
    rule(container, code) == Some(RestartAction::Restart) || by_policy(policy, code)
}

fn by_policy(policy: RestartPolicy, code: i32) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => code != 0,
        RestartPolicy::Never => false,
    }
}

/// What the first rule that matches asks for.
fn rule(container: &Container, code: i32) -> Option<RestartAction> {
    let matching = |codes: &ExitCodes| match codes.operator {
        ExitCodesOperator::In => codes.values.contains(&code),
        ExitCodesOperator::NotIn => !codes.values.contains(&code),
    };
    let mut rules = container.restart_policy_rules.iter();
    rules.find(|rule| rule.exit_codes.as_ref().is_some_and(matching)).map(|rule| rule.action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube;

    /// The exit codes of 0, 1 and 42 after which the container starts again.
    fn again(policy: &str, container: &str) -> Vec<i32> {
        let json = format!(r#"{{"spec":{{"restartPolicy":"{policy}","containers":[{{"name":"c"{container}}}]}}}}"#);
        let pod: Pod = kube::read(&json).expect("a pod");
        [0, 1, 42].into_iter().filter(|code| restarts(&pod, &pod.spec.containers[0], *code)).collect()
    }

    fn rule(operator: &str, values: &str) -> String {
        format!(r#"{{"action":"Restart","exitCodes":{{"operator":"{operator}","values":{values}}}}}"#)
    }

    #[test]
    fn the_containers_rules_come_before_its_policy_and_that_before_the_pods() {
        let (all, none) = (vec![0, 1, 42], Vec::<i32>::new());
        assert_eq!((again("Always", ""), again("OnFailure", ""), again("Never", "")), (all.clone(), vec![1, 42], none.clone()));
        let own = |policy: &str| format!(r#","restartPolicy":"{policy}""#);
        assert_eq!(again("Never", &own("Always")), all);
        assert_eq!(again("Always", &own("OnFailure")), [1, 42]);
        assert_eq!(again("Always", &own("Never")), none);
        let with = |rules: &[String]| format!(r#","restartPolicy":"Never","restartPolicyRules":[{}]"#, rules.join(","));
        assert_eq!(again("Always", &with(&[rule("In", "[42]")])), [42]);
        assert_eq!(again("Always", &with(&[rule("NotIn", "[42]")])), [0, 1]);
        assert_eq!(again("Always", &with(&[rule("In", "[]")])), none);
        assert_eq!(again("Always", &with(&[rule("NotIn", "[]")])), all);
        assert_eq!(again("Never", &with(&[rule("In", "[1]"), rule("In", "[0]")])), [0, 1]);
        assert_eq!(again("Never", &with(&[r#"{"action":"Restart"}"#.to_owned()])), none);
    }
}
