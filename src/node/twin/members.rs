//! Which devices belong to the node, and their attributes.
//!
//! Source: devices.md 2.2-2.4.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::device::{Attribute, Device};
use super::request::{Properties, Wanted, member, reason};

/// A device as the cloud announces it.
#[derive(Debug, Clone, Default)]
pub struct Announced {
    /// Its id.
    pub id: String,
    /// Its name; the last part of the id when it was not told.
    pub name: String,
    /// What people say of it.
    pub description: String,
    /// Attributes, if any were told.
    pub attributes: Option<BTreeMap<String, Option<Attribute>>>,
    /// Properties with versions; only old clouds send some.
    pub properties: BTreeMap<String, Option<Wanted>>,
    /// As it came, without versions: for those who listen.
    pub shown: Value,
}

/// A membership message.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// Devices that belong to the node now.
    pub added: Vec<Announced>,
    /// Ids of those that do no longer.
    pub removed: Vec<(String, Value)>,
    /// The added ones are all there are.
    pub complete: bool,
}

impl Membership {
    /// Reads `{"added_devices": [...], "removed_devices": [...]}`, or
    /// `{"devices": [...]}` with all there are.
    pub fn read(content: &Value) -> Result<Self, String> {
        let object = content.as_object().ok_or("the content is no JSON object")?;
        let list = |name: &str| match member(object, name) {
            None => Ok(&[][..]),
            Some(Value::Array(items)) => Ok(items.as_slice()),
            Some(_) => Err(format!("{name}: a list was expected")),
        };
        let complete = member(object, "devices").is_some();
        let added = list(if complete { "devices" } else { "added_devices" })?;
        let removed = list("removed_devices")?;
        Ok(Self {
            added: added.iter().map(announced).collect::<Result<_, _>>()?,
            removed: removed.iter().map(|device| Ok((id(device)?, device.clone()))).collect::<Result<_, String>>()?,
            complete,
        })
    }
}

fn id(device: &Value) -> Result<String, String> {
    let id = device.as_object().and_then(|device| member(device, "id")).and_then(Value::as_str).unwrap_or_default();
    // Clouds before 1.17 knew no namespaces.
    match id.split('/').collect::<Vec<_>>().as_slice() {
        [name] if !name.is_empty() => Ok(format!("default/{name}")),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(id.to_owned()),
        _ => Err(format!("id: '{id}' is not NAMESPACE/NAME")),
    }
}

fn announced(device: &Value) -> Result<Announced, String> {
    let id = id(device)?;
    let empty = Map::new();
    let object = device.as_object().unwrap_or(&empty);
    let text = |name: &str| member(object, name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = Some(text("name")).filter(|name| !name.is_empty()).unwrap_or_else(|| id.rsplit('/').next().unwrap_or_default().to_owned());
    let attributes = member(object, "attributes").and_then(Value::as_object).map(attributes).transpose()?;
    let twin = member(object, "twin").and_then(Value::as_object).unwrap_or(&empty);
    let Properties { wanted: properties, faults } = Properties::read(twin);
    if !faults.is_empty() {
        return Err(format!("twin of '{id}': {}", reason(&faults, false)));
    }
    let mut shown = device.clone();
    for property in shown.get_mut("twin").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        property.retain(|member, _| !member.ends_with("_version"));
    }
    Ok(Announced { id, name, description: text("description"), attributes, properties, shown })
}

/// Attributes by name; `None` removes one.
pub fn attributes(object: &Map<String, Value>) -> Result<BTreeMap<String, Option<Attribute>>, String> {
    let read = |name: &String, value: &Value| {
        let Some(attribute) = value.as_object() else {
            return if value.is_null() { Ok(None) } else { Err(format!("attribute '{name}' is no object")) };
        };
        let value = member(attribute, "value").and_then(Value::as_str).ok_or_else(|| format!("attribute '{name}' has no value"))?;
        let kind =
            member(attribute, "metadata").and_then(Value::as_object).map(|metadata| member(metadata, "type").and_then(Value::as_str).unwrap_or_default());
        Ok(Some(Attribute { value: value.to_owned(), optional: member(attribute, "optional").and_then(Value::as_bool), kind: kind.map(str::to_owned) }))
    };
    object.iter().map(|(name, value)| Ok((name.clone(), read(name, value)?))).collect()
}

/// Sets attributes; those that changed, as they are said.
pub fn set_attributes(device: &mut Device, wanted: &BTreeMap<String, Option<Attribute>>) -> Map<String, Value> {
    let known = &mut device.row.attributes;
    let mut changed = Map::new();
    for (name, wanted) in wanted {
        match wanted {
            Some(attribute) if known.get(name) != Some(attribute) => {
                let mut said = attribute.clone();
                if known.get(name).is_some_and(|before| before.optional == said.optional) {
                    said.optional = None;
                }
                changed.insert(name.clone(), said.view());
                known.insert(name.clone(), attribute.clone());
            }
            None if known.get(name).is_some_and(|attribute| attribute.optional != Some(false)) => {
                known.remove(name);
                changed.insert(name.clone(), Value::Null);
            }
            Some(_) | None => {}
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_read_or_its_fault_is_named() {
        let good = Membership::read(&json!({"added_devices": [{"id": "default/d", "name": "d"}, {"ID": "old"}], "removed_devices": null})).expect("good");
        assert_eq!(good.added.iter().map(|device| device.id.as_str()).collect::<Vec<_>>(), ["default/d", "default/old"]);
        for (bad, named) in [
            (json!(7), "content"),
            (json!({"added_devices": 7}), "added_devices"),
            (json!({"added_devices": [{}]}), "id"),
            (json!({"removed_devices": [{"id": "a/b/c"}]}), "id"),
        ] {
            assert!(Membership::read(&bad).expect_err("bad").contains(named), "{bad}");
        }
    }

    #[test]
    fn attributes_tell_only_what_changed() {
        let mut device = Device::new("d");
        let mut set = |text: &str| {
            set_attributes(&mut device, &attributes(serde_json::from_str::<Value>(text).expect("JSON").as_object().expect("object")).expect("good"))
        };
        assert_eq!(set(r#"{"fw":{"value":"1"}}"#).len(), 1);
        assert!(set(r#"{"fw":{"value":"1"}}"#).is_empty());
        assert_eq!(Value::from(set(r#"{"fw":{"value":"2"}}"#)), json!({"fw": {"value": "2"}}));
        assert_eq!(Value::from(set(r#"{"fw":null,"none":null}"#)), json!({"fw": null}));
    }
}
