//! What makes pods and gives them to nodes: Deployments, binding. One step at a
//! time, from what there is: no progress is remembered.

use serde_json::{Value, json};

use super::defaults;
use super::objects::{self, Name, Objects, name};
use crate::wire::message::raw;
use crate::wire::resource::kind;
use crate::wire::rfc3339;

/// Kind of a Deployment.
pub const DEPLOYMENT: &str = "deployment";
/// Label by which pods of one template are told from those of another.
const HASH: &str = "pod-template-hash";

/// Brings Deployments and pods a step forward; nothing happens when all is as
/// it should be.
pub fn step(objects: &mut Objects, wall: i64, suffix: &mut dyn FnMut() -> String) {
    let deployments: Vec<(Name, Value)> = objects.of(DEPLOYMENT).map(|(name, object)| (name.clone(), object.clone())).collect();
    for (name, deployment) in deployments {
        roll(objects, wall, &name, &deployment, suffix);
    }
    collect_orphans(objects, wall);
    bind(objects, wall);
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

/// One step of a rolling update: a new pod while there are too few, an old one
/// away for every new one that is ready.
fn roll(objects: &mut Objects, wall: i64, owner: &Name, deployment: &Value, suffix: &mut dyn FnMut() -> String) {
    let hash = hash(&deployment["spec"]["template"]);
    let wanted = deployment["spec"]["replicas"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
    let owned: Vec<(Name, Value)> =
        objects.of(kind::POD).filter(|(_, pod)| is_of(pod, deployment) && !is_over(pod)).map(|(name, pod)| (name.clone(), pod.clone())).collect();
    let (new, old): (Vec<_>, Vec<_>) = owned.into_iter().partition(|(_, pod)| pod["metadata"]["labels"][HASH] == hash.as_str());
    for _ in new.len()..wanted {
        let suffix = suffix();
        let pod = name(kind::POD, &owner.1, &format!("{}-{hash}-{suffix}", owner.2));
        let _ = create_pod(objects, wall, &pod, from_template(deployment, &hash), &suffix);
    }
    let ready = new.iter().filter(|(_, pod)| is_ready(pod)).count();
    let surplus = new.iter().rev().take(new.len().saturating_sub(wanted));
    let replaced = old.iter().take((ready + old.len()).saturating_sub(wanted));
    for (pod, _) in surplus.chain(replaced) {
        let _ = objects.delete(wall, pod, None, None);
    }
    let status = json!({ "replicas": new.len() + old.len(), "updatedReplicas": new.len(), "readyReplicas": ready, "availableReplicas": ready });
    let _ = objects.update(owner, |object| object["status"] = status);
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

/// A pod that is going, or has ended, counts no more.
fn is_over(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string() || matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

fn is_ready(pod: &Value) -> bool {
    objects::condition(pod, "Ready") == Some("True")
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

/// Gives pods that have no node to the node with the fewest.
fn bind(objects: &mut Objects, wall: i64) {
    let homeless: Vec<(Name, Value)> =
        objects.of(kind::POD).filter(|(_, pod)| pod["spec"]["nodeName"].is_null() && !is_over(pod)).map(|(name, pod)| (name.clone(), pod.clone())).collect();
    for (pod, object) in homeless {
        let load = |node: &str| objects.of(kind::POD).filter(|(_, pod)| pod["spec"]["nodeName"] == node).count();
        let node = objects.of(kind::NODE).filter(|(_, node)| fits(&object["spec"], node)).map(|(name, _)| name.2.clone()).min_by_key(|node| load(node));
        let Some(node) = node else { continue };
        let _ = objects.update(&pod, |object| {
            object["spec"]["nodeName"] = node.as_str().into();
            object["status"]["conditions"] =
                json!([{ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": rfc3339::seconds(wall) }]);
        });
    }
}

fn fits(spec: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selected = spec["nodeSelector"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let tolerated = |taint: &Value| {
        taint["effect"] == "PreferNoSchedule" || spec["tolerations"].as_array().into_iter().flatten().any(|toleration| tolerates(toleration, taint))
    };
    selected && is_ready(node) && node["spec"]["unschedulable"] != true && node["spec"]["taints"].as_array().into_iter().flatten().all(tolerated)
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let key = toleration["key"].is_null() || toleration["key"] == taint["key"];
    let value = toleration["operator"] == "Exists" || toleration["value"].as_str().unwrap_or_default() == taint["value"].as_str().unwrap_or_default();
    let effect = toleration["effect"].is_null() || toleration["effect"] == taint["effect"];
    key && value && effect
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(objects: &Objects) -> Vec<(Name, Value)> {
        objects.of(kind::POD).map(|(name, pod)| (name.clone(), pod.clone())).collect()
    }

    #[test]
    fn a_deployment_rolls_one_ready_pod_at_a_time() {
        let mut objects = Objects::default();
        let mut count = 0;
        let mut suffix = || {
            count += 1;
            format!("{count:05}")
        };
        objects.create(0, name(kind::NODE, "", "edge"), json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } })).expect("it is new");
        let web = name(DEPLOYMENT, "default", "web");
        let spec = json!({ "spec": { "replicas": 2, "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "c", "image": "i:1" }] } } } });
        objects.create(0, web.clone(), spec).expect("it is new");
        step(&mut objects, 0, &mut suffix);
        let first = pods(&objects);
        assert_eq!((first.len(), first[0].1["spec"]["nodeName"].as_str()), (2, Some("edge")));
        objects.update(&web, |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into()).expect("it is there");
        step(&mut objects, 0, &mut suffix);
        assert_eq!(pods(&objects).len(), 4, "the old ones stay until the new ones are ready");
        let new: Vec<Name> = pods(&objects).into_iter().filter(|(_, pod)| pod["spec"]["containers"][0]["image"] == "i:2").map(|(name, _)| name).collect();
        objects.update(&new[0], |pod| pod["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }])).expect("it is there");
        step(&mut objects, 0, &mut suffix);
        assert_eq!(pods(&objects).iter().filter(|(_, pod)| is_over(pod)).count(), 1);
        objects.delete(0, &web, None, None).expect("it is there");
        step(&mut objects, 0, &mut suffix);
        assert!(pods(&objects).iter().all(|(_, pod)| is_over(pod)));
    }
}
