//! The objects of the stand-in's cluster, as an API server keeps them: uids,
//! versions, graceful deletion, refusals in its words.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::merge;
use crate::wire::rfc3339;

/// Kind in lower case, namespace (`null` for none), name.
pub type Name = (String, String, String);

/// All objects.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Objects {
    version: u64,
    #[serde(with = "pairs")]
    all: BTreeMap<Name, Value>,
    #[serde(skip)]
    changes: VecDeque<Change>,
}

/// Something happened to an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which.
    pub name: Name,
    /// How.
    pub verb: Verb,
    /// The object after it, or before it was gone.
    pub object: Value,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is new.
    Added,
    /// It is different.
    Modified,
    /// It is gone.
    Deleted,
}

/// A refusal, as the API server words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP code.
    pub code: u16,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, name: &Name, what: &str) -> Self {
        Self { code, reason, message: format!("{}s \"{}\" {what}", name.0, name.2) }
    }

    /// There is no such object.
    pub fn not_found(name: &Name) -> Self {
        Self::new(404, "NotFound", name, "not found")
    }

    /// The object is another one by now.
    pub fn conflict(name: &Name) -> Self {
        Self::new(409, "Conflict", name, "has changed; read it again")
    }

    /// What was asked for makes no sense.
    pub fn invalid(name: &Name, what: &str) -> Self {
        Self::new(422, "Invalid", name, what)
    }

    /// As it travels.
    pub fn json(&self) -> Value {
        json!({ "ErrStatus": { "metadata": {}, "status": "Failure", "message": self.message, "reason": self.reason, "code": self.code } })
    }
}

/// A name from its parts; an empty namespace is the cluster's.
pub fn name(kind: &str, namespace: &str, name: &str) -> Name {
    (kind.to_lowercase(), if namespace.is_empty() { "null".to_owned() } else { namespace.to_owned() }, name.to_owned())
}

/// The version of an object; 0 if it has none.
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// When an object was created, milliseconds since the epoch; 0 if it does not
/// say.
pub fn created(object: &Value) -> i64 {
    object["metadata"]["creationTimestamp"].as_str().and_then(rfc3339::parse).unwrap_or(0)
}

/// Status of a condition of an object.
pub fn condition<'a>(object: &'a Value, of: &str) -> Option<&'a str> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == of)?["status"].as_str()
}

/// Whether a pod has ended for good.
pub fn has_ended(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

impl Objects {
    /// Continues after an end that may not have been written down: versions
    /// never come twice.
    pub fn continued(&mut self) {
        self.version += 10_000;
    }

    /// One object.
    pub fn get(&self, name: &Name) -> Option<&Value> {
        self.all.get(name)
    }

    /// All objects of a kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a Name, &'a Value)> {
        self.all.range((kind.to_owned(), String::new(), String::new())..).take_while(move |(name, _)| name.0 == kind)
    }

    /// The next change for whoever watches.
    pub fn poll(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    fn stamp(&mut self, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
    }

    fn changed(&mut self, name: Name, verb: Verb, object: Value) -> Value {
        self.changes.push_back(Change { name, verb, object: object.clone() });
        object
    }

    /// Creates an object; its metadata gets what a server adds.
    pub fn create(&mut self, now: i64, name: Name, mut object: Value) -> Result<Value, Refusal> {
        if self.all.contains_key(&name) {
            return Err(Refusal::new(409, "AlreadyExists", &name, "already exists"));
        }
        if !object.is_object() || object.get("metadata").is_some_and(|metadata| !metadata.is_object() && !metadata.is_null()) {
            return Err(Refusal::invalid(&name, "is not an object with metadata"));
        }
        self.stamp(&mut object);
        let number = self.version;
        let meta = &mut object["metadata"];
        meta["name"] = name.2.as_str().into();
        if name.1 != "null" {
            meta["namespace"] = name.1.as_str().into();
        }
        meta["uid"] = format!("{:08x}-5e17-4ed9-8000-{:012x}", u32::try_from(now / 1000).unwrap_or(0), number).into();
        meta["creationTimestamp"] = rfc3339::seconds(now).into();
        meta["generation"] = 1.into();
        self.all.insert(name.clone(), object.clone());
        Ok(self.changed(name, Verb::Added, object))
    }

    /// Changes an object; one that ends up the same changes nothing, and one whose
    /// deletion waits for nothing any more goes.
    pub fn update(&mut self, name: &Name, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        let before = self.all.get(name).ok_or_else(|| Refusal::not_found(name))?;
        let mut object = before.clone();
        change(&mut object);
        if object == *before {
            return Ok(object);
        }
        if is_new_generation(before, &object) {
            object["metadata"]["generation"] = before["metadata"]["generation"].as_i64().unwrap_or(0).saturating_add(1).into();
        }
        self.stamp(&mut object);
        if object["metadata"]["deletionGracePeriodSeconds"] == 0 && !has_finalizers(&object) {
            self.all.remove(name);
            return Ok(self.changed(name.clone(), Verb::Deleted, object));
        }
        self.all.insert(name.clone(), object.clone());
        Ok(self.changed(name.clone(), Verb::Modified, object))
    }

    /// Applies a patch to a status; a uid in it must be the object's.
    pub fn patch_status(&mut self, name: &Name, patch: &Value) -> Result<Value, Refusal> {
        let found = self.all.get(name).ok_or_else(|| Refusal::not_found(name))?;
        let uid = &patch["metadata"]["uid"];
        if uid.is_string() && *uid != found["metadata"]["uid"] {
            return Err(Refusal::conflict(name));
        }
        self.update(name, |object| merge::apply(&mut object["status"], &patch["status"]))
    }

    /// Deletes an object. A pod that has a node goes in two steps, unless its
    /// grace is 0; what has finalizers goes when they are gone.
    pub fn delete(&mut self, now: i64, name: &Name, grace: Option<i64>, uid: Option<&str>) -> Result<(), Refusal> {
        let found = self.all.get(name).ok_or_else(|| Refusal::not_found(name))?;
        if uid.is_some_and(|uid| found["metadata"]["uid"] != uid) {
            return Err(Refusal::conflict(name));
        }
        let grace = grace.or_else(|| found["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
        if name.0 == "pod" && grace > 0 && found["spec"]["nodeName"].is_string() && !has_ended(found) {
            // A grace can only become shorter.
            if found["metadata"]["deletionGracePeriodSeconds"].as_i64().is_none_or(|before| grace < before) {
                self.update(name, |object| {
                    object["metadata"]["deletionTimestamp"] = rfc3339::seconds(now + grace * 1000).into();
                    object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
                })?;
            }
            return Ok(());
        }
        if has_finalizers(found) {
            self.update(name, |object| {
                if !object["metadata"]["deletionTimestamp"].is_string() {
                    object["metadata"]["deletionTimestamp"] = rfc3339::seconds(now).into();
                }
                object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            })?;
            return Ok(());
        }
        let mut object = self.all.remove(name).expect("it was found above");
        self.stamp(&mut object);
        self.changed(name.clone(), Verb::Deleted, object);
        Ok(())
    }
}

/// A change of the spec but for the node it is bound to, or the beginning of a
/// deletion.
fn is_new_generation(before: &Value, object: &Value) -> bool {
    let spec = |object: &Value| {
        let mut spec = object["spec"].clone();
        spec.as_object_mut().and_then(|spec| spec.remove("nodeName"));
        spec
    };
    let begun = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
    spec(before) != spec(object) || begun(before) != begun(object)
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Maps with keys that are no text, as lists of pairs.
pub mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// As a list.
    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(map: &BTreeMap<K, V>, serializer: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(serializer)
    }

    /// From a list.
    pub fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_on_a_node_is_deleted_in_two_steps() {
        let mut objects = Objects::default();
        let pod = name("Pod", "default", "p");
        let made = objects.create(0, pod.clone(), json!({"spec": {"nodeName": "n"}})).expect("it is new");
        assert_eq!(objects.create(0, pod.clone(), json!({})).expect_err("it is there").code, 409);
        objects.delete(0, &pod, None, None).expect("it is there");
        assert_eq!(objects.get(&pod).expect("still there")["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(objects.delete(0, &pod, Some(0), Some("other")).expect_err("another").code, 409);
        objects.delete(0, &pod, Some(0), made["metadata"]["uid"].as_str()).expect("it is there");
        let verbs: Vec<Verb> = std::iter::from_fn(|| objects.poll()).map(|change| change.verb).collect();
        assert_eq!(verbs, [Verb::Added, Verb::Modified, Verb::Deleted]);
    }

    #[test]
    fn what_has_finalizers_goes_when_they_are_gone() {
        let mut objects = Objects::default();
        let pod = name("Pod", "default", "p");
        objects.create(0, pod.clone(), json!({"metadata": {"finalizers": ["a/b"]}})).expect("it is new");
        objects.delete(0, &pod, Some(0), None).expect("it is there");
        assert_eq!(objects.get(&pod).expect("still there")["metadata"]["deletionGracePeriodSeconds"], 0);
        objects.update(&pod, |object| object["metadata"]["finalizers"] = json!([])).expect("it is there");
        assert!(objects.get(&pod).is_none());
    }
}
