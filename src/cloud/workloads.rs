//! What makes pods: Deployments. One step at a time, from what there is: no
//! progress is remembered.

use serde_json::{Value, json};

use super::objects::{self, Name, Objects, name};
use super::{defaults, rollout, scheduler};
use crate::wire::message::raw;
use crate::wire::resource::kind;

/// Kind of a Deployment.
pub const DEPLOYMENT: &str = "deployment";
/// Label by which pods of one template are told from those of another.
const HASH: &str = "pod-template-hash";

/// Brings Deployments and pods a step forward; nothing happens when all is as
/// it should be. Returns when to come back though nothing happens: milliseconds
/// since the epoch.
pub fn step(objects: &mut Objects, wall: i64, suffix: &mut dyn FnMut() -> String) -> Option<i64> {
    let deployments: Vec<(Name, Value)> = objects.of(DEPLOYMENT).map(|(name, object)| (name.clone(), object.clone())).collect();
    let due = deployments.into_iter().filter_map(|(name, deployment)| roll(objects, wall, &name, &deployment, suffix)).min();
    collect_orphans(objects, wall);
    scheduler::bind(objects, wall);
    due
}

/// Creates a pod as the API server would; `metadata` may have labels,
/// annotations and owners.
pub fn create_pod(objects: &mut Objects, wall: i64, pod: &Name, mut object: Value, suffix: &str) -> Result<Value, objects::Refusal> {
    defaults::pod(&mut object["spec"], suffix);
    let root_ca = name(kind::CONFIG_MAP, &pod.1, defaults::ROOT_CA);
    if objects.get(&root_ca).is_none() {
        let ca = objects.get(&name(kind::CONFIG_MAP, "kube-system", defaults::ROOT_CA)).map_or(Value::Null, |object| object["data"].clone());
        let _ = objects.create(wall, root_ca, json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": ca }));
    }
    object["kind"] = "Pod".into();
    object["apiVersion"] = "v1".into();
    object["status"] = json!({ "phase": "Pending" });
    objects.create(wall, pod.clone(), object)
}

/// One step of a rollout. Returns when the next is due if that is only a matter
/// of time: milliseconds since the epoch.
fn roll(objects: &mut Objects, wall: i64, owner: &Name, deployment: &Value, suffix: &mut dyn FnMut() -> String) -> Option<i64> {
    let hash = hash(&deployment["spec"]["template"]);
    let is_new = |pod: &Value| pod["metadata"]["labels"][HASH] == hash.as_str();
    let owned: Vec<(Name, Value)> = objects.of(kind::POD).filter(|(_, pod)| is_of(pod, deployment)).map(|(name, pod)| (name.clone(), pod.clone())).collect();
    let failures = Failures::of(owned.iter().map(|(_, pod)| pod).filter(|pod| is_new(pod)));
    let mut plan = rollout::plan(&deployment["spec"], &owned, is_new);
    let is_waiting = plan.create > 0 && failures.due() > wall;
    if is_waiting {
        plan.create = 0;
    } else if failures.are_recent(wall) {
        plan.create = plan.create.min(1);
    }
    for _ in 0..plan.create {
        let suffix = suffix();
        let pod = name(kind::POD, &owner.1, &format!("{}-{hash}-{suffix}", owner.2));
        let _ = create_pod(objects, wall, &pod, from_template(deployment, &hash), &suffix);
    }
    for pod in plan.delete.iter().chain(&leftovers(&owned)) {
        let _ = objects.delete(wall, pod, None, None);
    }
    let _ = objects.update(owner, |object| object["status"] = plan.status);
    is_waiting.then(|| failures.due())
}

/// Failed pods of a Deployment that are kept for whoever asks why.
const KEPT: usize = 10;

/// Failed pods beyond the newest few.
fn leftovers(owned: &[(Name, Value)]) -> Vec<Name> {
    let mut failed: Vec<(i64, &Name)> = owned.iter().filter(|(_, pod)| has_failed(pod)).map(|(name, pod)| (objects::created(pod), name)).collect();
    failed.sort();
    let surplus = failed.len().saturating_sub(KEPT);
    failed.into_iter().take(surplus).map(|(_, name)| name.clone()).collect()
}

fn has_failed(pod: &Value) -> bool {
    pod["status"]["phase"] == "Failed" && pod["metadata"]["deletionTimestamp"].is_null()
}

/// How long the first replacement of a failed pod waits, and any at most;
/// milliseconds.
const FIRST_BACKOFF: i64 = 10_000;
const LAST_BACKOFF: i64 = 300_000;
/// Pods that follow each other by more than this fail independently.
const INDEPENDENT: i64 = 2 * LAST_BACKOFF;

/// How often pods of one template failed, one after another. The back-off comes
/// from the pods alone: nothing about it is remembered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Failures {
    /// Creation of the newest that failed or is not ready yet; milliseconds since
    /// the epoch.
    newest: i64,
    count: u32,
}

impl Failures {
    fn of<'a>(pods: impl Iterator<Item = &'a Value> + Clone) -> Self {
        let mut created: Vec<i64> = pods.clone().filter(|pod| has_failed(pod)).map(objects::created).collect();
        created.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        // Pods that were made together fail together.
        created.dedup();
        let apart = created.windows(2).position(|pair| pair[0] - pair[1] > INDEPENDENT);
        let count = apart.map_or(created.len(), |at| at + 1);
        let newest = pods.filter(|pod| has_failed(pod) || !rollout::is_ready(pod)).map(objects::created).max();
        Self { newest: newest.unwrap_or_default(), count: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// When the next pod may be created; milliseconds since the epoch.
    fn due(&self) -> i64 {
        let doublings = self.count.saturating_sub(1).min(16);
        if self.count == 0 { 0 } else { self.newest + (FIRST_BACKOFF << doublings).min(LAST_BACKOFF) }
    }

    fn are_recent(&self, wall: i64) -> bool {
        self.count > 0 && wall - self.newest <= INDEPENDENT
    }
}

fn from_template(deployment: &Value, hash: &str) -> Value {
    let mut pod = deployment["spec"]["template"].clone();
    pod["metadata"]["labels"][HASH] = hash.into();
    let meta = &deployment["metadata"];
    pod["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"], "controller": true, "blockOwnerDeletion": true }]);
    pod
}

/// FNV-1a of the template, in the five or more letters Kubernetes uses.
fn hash(template: &Value) -> String {
    let sum = raw(template).get().bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    const LETTERS: &[u8; 32] = b"bcdfghjklmnpqrstvwxz2456789abdef";
    (0..6).map(|at| char::from(LETTERS[(sum >> (at * 5)) as usize & 31])).collect()
}

fn owner(pod: &Value) -> Option<&str> {
    pod["metadata"]["ownerReferences"][0]["uid"].as_str()
}

fn is_of(pod: &Value, deployment: &Value) -> bool {
    owner(pod).is_some_and(|uid| deployment["metadata"]["uid"] == uid)
}

/// Pods whose Deployment is gone go too.
fn collect_orphans(objects: &mut Objects, wall: i64) {
    let alive: Vec<&str> = objects.of(DEPLOYMENT).filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    let is_orphan = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null() && owner(pod).is_some_and(|uid| !alive.contains(&uid));
    let orphans: Vec<Name> = objects.of(kind::POD).filter(|(_, pod)| is_orphan(pod)).map(|(name, _)| name.clone()).collect();
    for pod in orphans {
        let _ = objects.delete(wall, &pod, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(objects: &Objects) -> Vec<(Name, Value)> {
        objects.of(kind::POD).map(|(name, pod)| (name.clone(), pod.clone())).collect()
    }

    /// A ready node, a Deployment, and time.
    struct World {
        objects: Objects,
        count: u32,
        wall: i64,
    }

    impl World {
        fn new(spec: &Value) -> Self {
            let mut world = Self { objects: Objects::default(), count: 0, wall: 0 };
            let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
            world.objects.create(0, name(kind::NODE, "", "edge"), ready).expect("it is new");
            world.objects.create(0, Self::web(), json!({ "spec": spec })).expect("it is new");
            world.step();
            world
        }

        fn web() -> Name {
            name(DEPLOYMENT, "default", "web")
        }

        /// Until nothing changes; when to come back.
        fn step(&mut self) -> Option<i64> {
            loop {
                let count = &mut self.count;
                let due = step(&mut self.objects, self.wall, &mut || {
                    *count += 1;
                    format!("{count:05}")
                });
                if std::iter::from_fn(|| self.objects.poll()).count() == 0 {
                    return due;
                }
            }
        }

        /// Pods whose container has this image.
        fn pods(&self, image: &str) -> Vec<Name> {
            pods(&self.objects).into_iter().filter(|(_, pod)| pod["spec"]["containers"][0]["image"] == image).map(|(name, _)| name).collect()
        }

        fn pod(&self, name: &Name) -> Value {
            self.objects.get(name).cloned().unwrap_or_default()
        }

        fn become_ready(&mut self, pods: &[Name]) {
            for pod in pods {
                let ready = |pod: &mut Value| pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
                self.objects.update(pod, ready).expect("it is there");
            }
            self.step();
        }

        fn update(&mut self, image: &str) {
            let change = |object: &mut Value| object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
            self.objects.update(&Self::web(), change).expect("it is there");
            self.step();
        }

        /// The node has ended what it was told to end.
        fn end_deleted(&mut self) {
            for (name, _) in pods(&self.objects).into_iter().filter(|(_, pod)| pod["metadata"]["deletionTimestamp"].is_string()) {
                self.objects.delete(self.wall, &name, Some(0), None).expect("it is there");
            }
            self.step();
        }

        /// The node refuses every pod it has, at once, for some time; how many
        /// pods were made in it.
        fn refuse_all(&mut self, seconds: i64) -> u32 {
            let (before, end) = (self.count, self.wall + seconds * 1000);
            while self.wall < end {
                for (name, _) in pods(&self.objects) {
                    let _ = self.objects.update(&name, |pod| pod["status"]["phase"] = "Failed".into());
                }
                let due = self.step();
                self.wall += 1000;
                assert!(due.is_none_or(|due| due >= self.wall - 1000), "{due:?} has passed");
            }
            self.count - before
        }
    }

    fn spec(replicas: u32, pod: &Value) -> Value {
        json!({ "replicas": replicas, "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod } })
    }

    fn plain() -> Value {
        json!({ "containers": [{ "name": "c", "image": "i:1" }] })
    }

    fn with_host_port() -> Value {
        json!({ "hostNetwork": true, "containers": [{ "name": "c", "image": "i:1", "ports": [{ "containerPort": 18777 }] }] })
    }

    #[test]
    fn a_deployment_rolls_one_ready_pod_at_a_time() {
        let mut world = World::new(&spec(2, &plain()));
        let old = world.pods("i:1");
        assert_eq!((old.len(), world.pod(&old[0])["spec"]["nodeName"].as_str()), (2, Some("edge")));
        world.become_ready(&old);
        world.update("i:2");
        assert_eq!((world.pods("i:1").len(), world.pods("i:2").len()), (2, 1), "one more than wanted: 25 % of 2, rounded up");
        let first = world.pods("i:2");
        world.become_ready(&first);
        let is_over = |world: &World| world.pods("i:1").iter().filter(|name| scheduler::is_over(&world.pod(name))).count();
        assert_eq!((is_over(&world), world.pods("i:2").len()), (1, 2), "for the one that is ready, an old one ends");
        let both = world.pods("i:2");
        world.become_ready(&both);
        assert_eq!(is_over(&world), 2);
        world.objects.delete(0, &World::web(), None, None).expect("it is there");
        world.step();
        assert!(pods(&world.objects).iter().all(|(_, pod)| scheduler::is_over(pod)));
    }

    #[test]
    fn a_rollout_that_needs_the_same_host_port_waits_as_a_pending_pod() {
        let mut world = World::new(&spec(1, &with_host_port()));
        let old = world.pods("i:1");
        world.become_ready(&old);
        world.update("i:2");
        for _ in 0..120 {
            world.wall += 1000;
            world.step();
        }
        let new = world.pods("i:2");
        assert_eq!((world.pods("i:1").len(), new.len(), world.count), (1, 1, 2));
        let waiting = world.pod(&new[0]);
        assert_eq!((&waiting["status"]["phase"], &waiting["status"]["conditions"][0]["reason"]), (&json!("Pending"), &json!("Unschedulable")));
        world.objects.delete(world.wall, &old[0], None, None).expect("it is there");
        world.step();
        assert!(world.pod(&new[0])["spec"]["nodeName"].is_null(), "a pod that is ending has its port still");
        world.end_deleted();
        assert_eq!(world.pod(&new[0])["spec"]["nodeName"], "edge");
    }

    #[test]
    fn recreate_ends_the_old_pods_before_it_makes_new_ones() {
        let mut deployment = spec(1, &with_host_port());
        deployment["strategy"] = json!({ "type": "Recreate" });
        let mut world = World::new(&deployment);
        let old = world.pods("i:1");
        world.become_ready(&old);
        world.update("i:2");
        assert_eq!((world.pods("i:1").len(), world.pods("i:2").len()), (1, 0));
        assert!(scheduler::is_over(&world.pod(&old[0])));
        world.end_deleted();
        let new = world.pods("i:2");
        assert_eq!((world.pods("i:1").len(), new.len()), (0, 1));
        assert_eq!(world.pod(&new[0])["spec"]["nodeName"], "edge");
    }

    #[test]
    fn pods_that_fail_at_once_are_replaced_ever_more_rarely() {
        let mut world = World::new(&spec(3, &plain()));
        let made: Vec<u32> = (0..10).map(|_| world.refuse_all(60)).collect();
        assert!(made[0] <= 3 && made[1..].iter().all(|made| *made <= 1), "{made:?}");
        assert!(made.iter().sum::<u32>() >= 3, "it goes on: {made:?}");
        world.refuse_all(3000);
        assert!(pods(&world.objects).len() <= KEPT + 3, "{} pods", pods(&world.objects).len());
    }

    #[test]
    fn a_pod_that_fails_late_is_replaced_at_once() {
        let mut world = World::new(&spec(1, &plain()));
        world.wall += LAST_BACKOFF;
        let pod = world.pods("i:1");
        world.objects.update(&pod[0], |pod| pod["status"]["phase"] = "Failed".into()).expect("it is there");
        assert_eq!((world.step(), world.count), (None, 2));
    }
}
