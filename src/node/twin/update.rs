//! A device, a mapper or a person says what a device's properties are or shall
//! be. A wrong property is refused and no other; equal values change nothing.
//!
//! Source: devices.md 2.6; where it differs, tests/vectors.rs gives the reason.

use std::collections::BTreeMap;

use super::device::Device;
use super::model::Model;
use super::property::{Part, Property, Version};
use super::request::{Faults, Properties, Wanted};
use super::say::Parts;
use super::value::Kind;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A client of the broker: may wish what the model lets be written, and what
    /// it does not know.
    Edge,
    /// A person at the node: may wish what the model lets be written.
    Person,
    /// A mapper. Its `expected` is the wish it obeys, an echo, and changes
    /// nothing where the cloud wishes something.
    Mapper,
}

/// What a request did to one property.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Some parts were set, equal or not.
    Set {
        /// Which.
        parts: Parts,
        /// The property before, when it differs: `None` inside when it is new.
        before: Option<Option<Box<Property>>>,
    },
    /// Only `optional` changed.
    Pinned(Box<Property>),
    /// It is gone.
    Removed(Box<Property>),
    /// Nothing.
    Nothing,
}

/// Carries a request out: what it did, by name, and what it did not and why.
pub fn update<'a>(device: &mut Device, properties: &'a Properties, model: Option<&Model>, author: Author, now: i64) -> (BTreeMap<&'a str, Effect>, Faults) {
    let (mut done, mut faults) = (BTreeMap::new(), properties.faults.clone());
    for (name, wanted) in &properties.wanted {
        match check(device, name, wanted.as_ref(), model, author) {
            Ok(()) => drop(done.insert(name.as_str(), apply(device, name, wanted.as_ref(), model, author, now))),
            Err(fault) => drop(faults.insert(name.clone(), fault)),
        }
    }
    (done, faults)
}

/// The type a property has, or would get: its model's, whatever a message says.
fn kind(device: &Device, name: &str, wanted: &Wanted, model: Option<&Model>) -> Option<Kind> {
    let known = device.property(name).filter(|property| property.is_live()).map(|property| property.kind);
    match model.and_then(|model| model.kind(name)).or(known) {
        Some(kind) => Some(kind),
        None => wanted.kind.as_deref().map_or(Some(Kind::String), Kind::parse),
    }
}

fn check(device: &Device, name: &str, wanted: Option<&Wanted>, model: Option<&Model>, author: Author) -> Result<(), String> {
    let Some(wanted) = wanted else { return may_go(device, name) };
    let kind = kind(device, name, wanted, model).ok_or("the value type is not allowed")?;
    for value in [&wanted.expected, &wanted.actual].into_iter().flatten().filter(|value| !value.is_empty()) {
        kind.check(value)?;
    }
    match (&wanted.expected, author) {
        // Its wish is the one it obeys.
        (None, _) | (Some(_), Author::Mapper) => Ok(()),
        (Some(wish), Author::Edge | Author::Person) => permits(device, name, wish, model, author),
    }
}

/// Whether a client may remove a property. What the Device object desires is the
/// cloud's, and as long as clouds announced such properties they were not
/// optional, which EdgeCore never removes (devices.md 2.6, 3.6).
fn may_go(device: &Device, name: &str) -> Result<(), String> {
    match device.property(name).is_some_and(|property| property.is_live() && property.wished.is_some()) {
        true => Err(format!("property '{name}' is desired by the Device object: only there it can be removed")),
        false => Ok(()),
    }
}

/// Whether a value may be wished. Without the model that the Device object names
/// nobody knows what may be; a device without such an object has no rules.
fn permits(device: &Device, name: &str, wish: &str, model: Option<&Model>, author: Author) -> Result<(), String> {
    match (model, &device.model, author) {
        (None, None, Author::Edge) => Ok(()),
        (None, None, Author::Person | Author::Mapper) if device.property(name).is_some_and(Property::is_live) => Ok(()),
        (None, None, Author::Person | Author::Mapper) => Err(format!("the device has no property '{name}'")),
        (None, Some(missing), _) => Err(format!("property '{name}' cannot be set yet: model '{missing}' is not on this node, so nobody knows what it may be")),
        (Some(model), _, author) => match (model.rules(name), author) {
            (Some(rules), _) => rules.permits(name, wish),
            (None, Author::Edge) => Ok(()),
            (None, Author::Person | Author::Mapper) => Err(format!("property '{name}' is not declared by the device's model")),
        },
    }
}

fn apply(device: &mut Device, name: &str, wanted: Option<&Wanted>, model: Option<&Model>, author: Author, now: i64) -> Effect {
    let Some(wanted) = wanted else { return remove(device, name, now) };
    let kind = kind(device, name, wanted, model).unwrap_or_default();
    let before = device.property(name).cloned();
    let property = device.property_or(name, || Property::new(name, kind, true));
    let revived = !property.is_live();
    property.kind = kind;
    let echo = author == Author::Mapper && (property.wished.is_some() || wanted.expected.as_ref().is_some_and(String::is_empty));
    let expected = wanted.expected.as_ref().filter(|_| !echo);
    let parts = Parts { expected: expected.is_some() || echo && property.expected.is_some(), actual: wanted.actual.is_some() };
    property.unconfirmed.expected |= set(&mut property.expected, expected, revived, now);
    property.unconfirmed.actual |= set(&mut property.actual, wanted.actual.as_ref(), revived, now);
    let pinned = property.optional && wanted.optional == Some(false);
    property.optional &= !pinned;
    let before = before.filter(Property::is_live);
    match before {
        Some(before) if before == *property => {
            if parts == Parts::default() {
                Effect::Nothing
            } else {
                Effect::Set { parts, before: None }
            }
        }
        Some(before) if parts == Parts::default() => Effect::Pinned(Box::new(before)),
        before => Effect::Set { parts, before: Some(before.map(Box::new)) },
    }
}

/// Sets a part, unless it says so already. Whether it changed.
fn set(part: &mut Option<Part>, value: Option<&String>, anew: bool, now: i64) -> bool {
    let Some(value) = value else { return false };
    if !anew && part.as_ref().is_some_and(|part| *part.value == **value) {
        return false;
    }
    let version = part.as_ref().map_or_else(Version::default, |part| part.version).bumped();
    *part = Some(Part { value: value.as_str().into(), at: now.into(), version });
    true
}

fn remove(device: &mut Device, name: &str, now: i64) -> Effect {
    match device.position(name).map(|at| &mut device.properties[at]) {
        Ok(property) if property.is_live() && property.optional => {
            let before = property.clone();
            property.bury(now);
            Effect::Removed(Box::new(before))
        }
        Ok(_) | Err(_) => Effect::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(text: &str) -> Properties {
        Properties::read(serde_json::from_str::<serde_json::Value>(text).expect("JSON").as_object().expect("an object"))
    }

    fn fault(device: &mut Device, text: &str, model: Option<&Model>, author: Author) -> Option<String> {
        update(device, &wants(text), model, author, 5).1.into_values().next()
    }

    fn model() -> Model {
        let text =
            r#"{"spec":{"properties":[{"name":"t","type":"FLOAT","accessMode":"ReadOnly"},{"name":"s","type":"INT","accessMode":"ReadWrite","minimum":"0"}]}}"#;
        Model::new(&serde_json::from_str(text).expect("a model"))
    }

    #[test]
    fn equal_values_bump_nothing() {
        let mut device = Device::new("d");
        let wanted = wants(r#"{"t":{"actual":{"value":"1"}}}"#);
        let (first, _) = update(&mut device, &wanted, None, Author::Edge, 5);
        assert!(matches!(first["t"], Effect::Set { before: Some(None), .. }));
        let known = device.properties.clone();
        let (again, _) = update(&mut device, &wanted, None, Author::Edge, 9);
        assert!(matches!(again["t"], Effect::Set { before: None, parts: Parts { actual: true, expected: false } }));
        assert_eq!(device.properties, known);
    }

    #[test]
    fn a_wrong_property_is_refused_and_the_others_are_taken() {
        let mut device = Device::new("d");
        let wanted = wants(r#"{"s":{"actual":{"value":"bad"}},"ok":{"actual":{"value":"v"}},"7":7}"#);
        let (done, faults) = update(&mut device, &wanted, Some(&model()), Author::Edge, 5);
        assert_eq!(done.keys().collect::<Vec<_>>(), [&"ok"]);
        assert_eq!(faults.keys().collect::<Vec<_>>(), ["7", "s"]);
        assert_eq!(device.properties.len(), 1);
    }

    #[test]
    fn only_what_the_model_lets_be_written_is_wished_and_anything_is_reported() {
        let mut device = Device::new("d");
        let (model, none) = (model(), None);
        for author in [Author::Edge, Author::Person] {
            let mut says = |text: &str| fault(&mut device, text, Some(&model), author);
            assert!(says(r#"{"t":{"expected":{"value":"1"}}}"#).expect("it is read-only").contains("'t' is read-only"));
            assert!(says(r#"{"s":{"expected":{"value":"-1"}}}"#).expect("a range").contains("'s' is below its minimum"));
            assert!(says(r#"{"s":{"expected":{"value":"x"}}}"#).expect("a type").contains("int"));
            assert_eq!(says(r#"{"s":{"actual":{"value":"-40"}}}"#), none);
        }
        let undeclared = r#"{"u":{"expected":{"value":"1"}}}"#;
        assert!(fault(&mut device, undeclared, Some(&model), Author::Person).expect("a fault").contains("'u' is not declared"));
        assert_eq!(fault(&mut device, undeclared, Some(&model), Author::Edge), none, "as with EdgeCore");
        device.model = Some("ns/m".into());
        for author in [Author::Edge, Author::Person] {
            let fault = fault(&mut device, r#"{"s":{"expected":{"value":"1"}}}"#, None, author);
            assert!(fault.as_ref().is_some_and(|fault| fault.contains("'s'") && fault.contains("model 'ns/m' is not on this node")), "{fault:?}");
        }
    }

    #[test]
    fn a_client_removes_nothing_that_the_cloud_desires() {
        let mut device = Device::new("d");
        device.property_or("s", || Property::new("s", Kind::Int, true)).wished = Some("25".into());
        assert!(fault(&mut device, r#"{"s":null}"#, None, Author::Edge).expect("a fault").contains("'s' is desired by the Device object"));
        assert!(device.properties[0].is_live());
        device.properties[0].wished = None;
        assert_eq!(fault(&mut device, r#"{"s":null}"#, None, Author::Edge), None);
        assert!(!device.properties[0].is_live());
    }

    #[test]
    fn a_mapper_that_obeys_an_old_wish_does_not_undo_the_new_one() {
        let mut device = Device::new("d");
        let property = device.property_or("s", || Property::new("s", Kind::Int, true));
        property.wished = Some("25".into());
        property.expected = Some(Part { value: "25".into(), at: 1.into(), version: Version { cloud: 1, edge: 0 } });
        let wanted = wants(r#"{"s":{"expected":{"value":"21"},"actual":{"value":"21"}}}"#);
        update(&mut device, &wanted, None, Author::Mapper, 5);
        assert_eq!(device.properties[0].delta(), Some("25"));
    }

    #[test]
    fn a_property_that_was_removed_keeps_its_versions() {
        let mut device = Device::new("d");
        let mut says = |text: &str| update(&mut device, &wants(text), None, Author::Edge, 5).0.into_values().next().expect("an effect");
        says(r#"{"f":{"actual":{"value":"1"}}}"#);
        assert!(matches!(says(r#"{"f":null}"#), Effect::Removed(_)));
        assert_eq!(says(r#"{"f":null}"#), Effect::Nothing);
        says(r#"{"f":{"actual":{"value":"8"},"metadata":{"type":"int"}}}"#);
        let part = device.properties[0].actual.clone().expect("a value");
        assert_eq!((part.version.edge, device.properties[0].kind), (3, Kind::Int));
    }
}
