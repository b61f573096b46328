//! Which pods of a Deployment are created and which deleted next, by its
//! strategy.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy>

use serde_json::{Value, json};

use super::objects::{self, Name};
use super::scheduler::is_over;

/// The next step.
#[derive(Debug, Default)]
pub struct Plan {
    /// How many pods of the present template to create.
    pub create: usize,
    /// Pods to delete.
    pub delete: Vec<Name>,
    /// Status of the Deployment.
    pub status: Value,
}

/// Pods of one template that have neither ended nor are being deleted.
struct ReplicaSet<'a>(Vec<&'a (Name, Value)>);

impl ReplicaSet<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn ready(&self) -> usize {
        self.0.iter().filter(|(_, pod)| is_ready(pod)).count()
    }

    /// So many pods to delete, those first that are of the least use.
    fn least_useful(&self, count: usize) -> impl Iterator<Item = Name> {
        let mut pods = self.0.clone();
        pods.sort_by_key(|(_, pod)| (is_ready(pod), pod["spec"]["nodeName"].is_string()));
        pods.into_iter().take(count).map(|(name, _)| name.clone())
    }
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Value) -> bool {
    objects::condition(pod, "Ready") == Some("True")
}

/// Plans for a Deployment and the pods it owns; `is_new` tells those of the
/// present template.
pub fn plan(spec: &Value, owned: &[(Name, Value)], is_new: impl Fn(&Value) -> bool) -> Plan {
    let wanted = spec["replicas"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
    let (new, old) = owned.iter().filter(|(_, pod)| !is_over(pod)).partition(|(_, pod)| is_new(pod));
    let (new, old) = (ReplicaSet(new), ReplicaSet(old));
    let mut plan = match spec["strategy"]["type"].as_str() {
        Some("Recreate") => recreate(wanted, owned, &new, &old, is_new),
        Some(_) | None => roll(wanted, &spec["strategy"]["rollingUpdate"], &new, &old),
    };
    plan.delete.extend(new.least_useful(new.len().saturating_sub(wanted)));
    let (all, ready) = (new.len() + old.len(), new.ready() + old.ready());
    plan.status = json!({
        "replicas": all, "updatedReplicas": new.len(), "readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": all.saturating_sub(ready),
    });
    plan
}

/// New pods come when the old ones are gone.
fn recreate(wanted: usize, owned: &[(Name, Value)], new: &ReplicaSet<'_>, old: &ReplicaSet<'_>, is_new: impl Fn(&Value) -> bool) -> Plan {
    let is_old_left = owned.iter().any(|(_, pod)| !is_new(pod) && !objects::has_ended(pod));
    let create = if is_old_left { 0 } else { wanted.saturating_sub(new.len()) };
    Plan { create, delete: old.least_useful(old.len()).collect(), ..Plan::default() }
}

/// At most `maxSurge` pods more than wanted, at most `maxUnavailable` fewer that
/// are ready.
fn roll(wanted: usize, limits: &Value, new: &ReplicaSet<'_>, old: &ReplicaSet<'_>) -> Plan {
    let surge = share(&limits["maxSurge"], wanted, usize::div_ceil);
    let unavailable = share(&limits["maxUnavailable"], wanted, |a, b| a / b);
    // With neither, nothing could ever begin.
    let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
    let all = new.len() + old.len();
    let create = wanted.saturating_sub(new.len()).min((wanted + surge).saturating_sub(all));
    let least = wanted.saturating_sub(unavailable);
    let new_unready = new.len() - new.ready();
    let spare = all.saturating_sub(least + new_unready);
    let unready = (old.len() - old.ready()).min(spare);
    let ready = (new.ready() + old.ready()).saturating_sub(least).min(spare - unready).min(old.ready());
    Plan { create, delete: old.least_useful(unready + ready).collect(), ..Plan::default() }
}

/// A number, or a share of `wanted` such as `25%`, which is the default.
fn share(limit: &Value, wanted: usize, divide: impl Fn(usize, usize) -> usize) -> usize {
    let percent = |text: &str| text.strip_suffix('%')?.parse::<usize>().ok();
    match (limit.as_u64(), limit.as_str().and_then(percent)) {
        (Some(number), _) => usize::try_from(number).unwrap_or(usize::MAX),
        (None, percent) => divide(wanted.saturating_mul(percent.unwrap_or(25)), 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::objects::name;

    /// So many old and new pods, ready or not, and what becomes of them: created,
    /// deleted.
    fn step(strategy: &Value, wanted: usize, old: [usize; 2], new: [usize; 2]) -> (usize, usize) {
        let pod = |generation: &str, ready: bool, at: usize| {
            let status = if ready { "True" } else { "False" };
            let object = json!({ "metadata": { "labels": { "g": generation } }, "status": { "conditions": [{ "type": "Ready", "status": status }] } });
            (name("pod", "default", &format!("{generation}-{ready}-{at}")), object)
        };
        let mut owned = Vec::new();
        for (generation, [ready, unready]) in [("old", old), ("new", new)] {
            owned.extend((0..ready).map(|at| pod(generation, true, at)));
            owned.extend((0..unready).map(|at| pod(generation, false, at)));
        }
        let plan = plan(&json!({ "replicas": wanted, "strategy": strategy }), &owned, |pod| pod["metadata"]["labels"]["g"] == "new");
        (plan.create, plan.delete.len())
    }

    #[test]
    fn a_rolling_update_keeps_within_its_limits() {
        let default = Value::Null;
        for (wanted, old, new, expected) in [
            (1, [1, 0], [0, 0], (1, 0)),
            (1, [1, 0], [0, 1], (0, 0)),
            (1, [1, 0], [1, 0], (0, 1)),
            (4, [4, 0], [0, 0], (1, 1)),
            (4, [3, 0], [0, 2], (0, 0)),
            // Old pods that are not ready help nobody.
            (4, [2, 2], [0, 1], (0, 1)),
            (0, [2, 0], [0, 0], (0, 2)),
            (2, [0, 0], [3, 0], (0, 1)),
        ] {
            assert_eq!(step(&default, wanted, old, new), expected, "{wanted} {old:?} {new:?}");
        }
        let none = json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 0 } });
        assert_eq!(step(&none, 1, [1, 0], [0, 0]), (0, 1));
        let in_place = json!({ "rollingUpdate": { "maxSurge": 0, "maxUnavailable": "50%" } });
        assert_eq!(step(&in_place, 4, [4, 0], [0, 0]), (0, 2));
        let all = json!({ "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } });
        assert_eq!(step(&all, 3, [3, 0], [0, 0]), (3, 0));
    }

    #[test]
    fn recreate_waits_for_the_last_old_pod() {
        let recreate = json!({ "type": "Recreate" });
        assert_eq!(step(&recreate, 2, [2, 0], [0, 0]), (0, 2));
        assert_eq!(step(&recreate, 2, [0, 0], [0, 0]), (2, 0));
    }
}
