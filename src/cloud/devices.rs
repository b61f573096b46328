//! What nodes are told of devices, as the device controller tells it: to whom a
//! device belongs, its model before it. What devices report is elsewhere.
//!
//! Source: devices.md 2.2 and 3.2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::objects::{self, Change, Name, Objects, Verb, name};
use crate::wire::message::operation;
use crate::wire::resource::kind;

/// What nodes were told last, by device.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Devices {
    #[serde(with = "objects::pairs")]
    told: BTreeMap<Name, Told>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    node: String,
    spec: Value,
}

/// Something a node is to hear.
#[derive(Debug, PartialEq)]
pub enum Word {
    /// Who belongs to it; lost when it is away.
    Members {
        /// The node.
        node: String,
        /// A device it has from now on.
        added: Option<Value>,
        /// A device it has no more.
        removed: Option<Value>,
    },
    /// An object, until it is acknowledged.
    Object {
        /// The node.
        node: String,
        /// What happened to it.
        verb: &'static str,
        /// Its name.
        name: Name,
        /// It, whole.
        object: Value,
    },
}

impl Told {
    /// A device without a node is nobody's business.
    fn of(object: &Value) -> Option<Self> {
        let node = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())?;
        Some(Self { node: node.to_owned(), spec: object["spec"].clone() })
    }

    fn model(&self, device: &Name) -> Name {
        name(kind::DEVICE_MODEL, &device.1, self.spec["deviceModelRef"]["name"].as_str().unwrap_or_default())
    }
}

impl Devices {
    /// A device is another one: what its nodes hear of it. Only its
    /// specification counts; models go along with devices and never alone.
    pub fn changed(&mut self, objects: &Objects, change: &Change) -> Vec<Word> {
        let before = self.told.remove(&change.name);
        let after = if change.verb == Verb::Deleted { None } else { Told::of(&change.object) };
        let words = match (&before, &after) {
            (before, after) if before == after => Vec::new(),
            (Some(before), Some(after)) if before.node == after.node => {
                [model(objects, after, change, operation::UPDATE), Some(device(after, change, operation::UPDATE))].into_iter().flatten().collect()
            }
            _ => {
                let gone = before.iter().flat_map(|told| self.leaves(objects, told, change));
                gone.chain(after.iter().flat_map(|told| self.joins(objects, told, change))).collect()
            }
        };
        if let Some(after) = after {
            self.told.insert(change.name.clone(), after);
        }
        words
    }

    fn joins(&self, objects: &Objects, told: &Told, change: &Change) -> Vec<Word> {
        let members = Word::Members { node: told.node.clone(), added: Some(member(change)), removed: None };
        let model = if self.uses(told, change) { None } else { model(objects, told, change, operation::INSERT) };
        [Some(members), model, Some(device(told, change, operation::INSERT))].into_iter().flatten().collect()
    }

    fn leaves(&self, objects: &Objects, told: &Told, change: &Change) -> Vec<Word> {
        let members = Word::Members { node: told.node.clone(), added: None, removed: Some(member(change)) };
        let model = if self.uses(told, change) { None } else { model(objects, told, change, operation::DELETE) };
        [Some(members), model, Some(device(told, change, operation::DELETE))].into_iter().flatten().collect()
    }

    /// Whether the node has another device of the same model.
    fn uses(&self, told: &Told, change: &Change) -> bool {
        let model = told.model(&change.name);
        self.told.iter().any(|(name, other)| *name != change.name && other.node == told.node && other.model(name) == model)
    }
}

/// A device as membership messages name it.
fn member(change: &Change) -> Value {
    let (_, namespace, name) = &change.name;
    let mut member = json!({ "id": format!("{namespace}/{name}"), "name": name });
    let description = &change.object["metadata"]["labels"]["description"];
    if description.is_string() {
        member["description"] = description.clone();
    }
    member
}

/// A model that does not exist is left out; the device goes without it.
fn model(objects: &Objects, told: &Told, change: &Change, verb: &'static str) -> Option<Word> {
    let name = told.model(&change.name);
    let object = objects.get(&name)?.clone();
    Some(Word::Object { node: told.node.clone(), verb, name, object })
}

fn device(told: &Told, change: &Change, verb: &'static str) -> Word {
    Word::Object { node: told.node.clone(), verb, name: change.name.clone(), object: change.object.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was said, in short: who, what, about whom.
    fn short(words: &[Word]) -> Vec<String> {
        let name = |device: &Option<Value>| device.as_ref().map_or("-", |device| device["name"].as_str().unwrap_or_default()).to_owned();
        let short = |word: &Word| match word {
            Word::Members { node, added, removed } => format!("{node} +{} -{}", name(added), name(removed)),
            Word::Object { node, verb, name, .. } => format!("{node} {verb} {}/{}", name.0, name.2),
        };
        words.iter().map(short).collect()
    }

    fn thermometer(node: &str, wish: &str) -> Value {
        json!({ "metadata": {}, "spec": { "nodeName": node, "deviceModelRef": { "name": "m" }, "properties": [{ "name": "setpoint", "desired": { "value": wish } }] } })
    }

    #[test]
    fn a_model_goes_with_the_first_device_and_the_last() {
        let (mut objects, mut devices) = (Objects::default(), Devices::default());
        objects.create(0, name(kind::DEVICE_MODEL, "default", "m"), json!({ "metadata": {} })).expect("it is new");
        let change = |verb, own: &str, object| Change { name: name(kind::DEVICE, "default", own), verb, object };
        let mut tell = |verb, own: &str, object| short(&devices.changed(&objects, &change(verb, own, object)));
        assert_eq!(tell(Verb::Added, "a", thermometer("n", "1")), ["n +a --", "n insert devicemodel/m", "n insert device/a"]);
        assert_eq!(tell(Verb::Added, "b", thermometer("n", "1")), ["n +b --", "n insert device/b"]);
        assert_eq!(tell(Verb::Modified, "a", thermometer("n", "1")), [""; 0], "only the specification counts");
        assert_eq!(tell(Verb::Modified, "a", thermometer("n", "2")), ["n update devicemodel/m", "n update device/a"]);
        assert_eq!(
            tell(Verb::Modified, "a", thermometer("o", "2")),
            ["n +- -a", "n delete device/a", "o +a --", "o insert devicemodel/m", "o insert device/a"]
        );
        assert_eq!(tell(Verb::Deleted, "b", thermometer("n", "1")), ["n +- -b", "n delete devicemodel/m", "n delete device/b"]);
    }
}
