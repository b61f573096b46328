//! A device, a mapper or a person says what a device's properties are or shall
//! be. One wrong property refuses the whole request; equal values change
//! nothing.
//!
//! Source: devices.md 2.6; where it differs, tests/vectors.rs gives the reason.

use std::collections::BTreeMap;

use super::device::Device;
use super::model::Model;
use super::property::{Part, Property, Version};
use super::request::Wanted;
use super::say::Parts;
use super::value::Kind;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A client of the broker, or a person at the node: may wish what the model
    /// lets be written.
    Edge,
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

/// Carries a request out; what it did, by name. The error is for its sender.
pub fn update<'a>(
    device: &mut Device,
    wanted: &'a BTreeMap<String, Option<Wanted>>,
    model: Option<&Model>,
    author: Author,
    now: i64,
) -> Result<BTreeMap<&'a str, Effect>, String> {
    for (name, wanted) in wanted.iter().filter_map(|(name, wanted)| Some((name, wanted.as_ref()?))) {
        check(device, name, wanted, model, author)?;
    }
    Ok(wanted.iter().map(|(name, wanted)| (name.as_str(), apply(device, name, wanted.as_ref(), model, author, now))).collect())
}

/// The type a property has, or would get.
fn kind(device: &Device, name: &str, wanted: &Wanted, model: Option<&Model>) -> Option<Kind> {
    match device.property(name).filter(|property| property.is_live()) {
        Some(property) => Some(property.kind),
        None => match &wanted.kind {
            Some(told) => Kind::parse(told),
            None => Some(model.and_then(|model| model.rules(name)).map_or(Kind::String, |rules| rules.kind)),
        },
    }
}

fn check(device: &Device, name: &str, wanted: &Wanted, model: Option<&Model>, author: Author) -> Result<(), String> {
    let kind = kind(device, name, wanted, model).ok_or("the value type is not allowed")?;
    for value in [&wanted.expected, &wanted.actual].into_iter().flatten().filter(|value| !value.is_empty()) {
        kind.check(value)?;
    }
    match (&wanted.expected, model.and_then(|model| model.rules(name))) {
        (Some(wish), Some(rules)) if author == Author::Edge => rules.permits(name, wish),
        (Some(_), Some(_) | None) | (None, _) => Ok(()),
    }
}

fn apply(device: &mut Device, name: &str, wanted: Option<&Wanted>, model: Option<&Model>, author: Author, now: i64) -> Effect {
    let Some(wanted) = wanted else { return remove(device, name, now) };
    let kind = kind(device, name, wanted, model).unwrap_or_default();
    let before = device.property(name).cloned();
    let property = device.property_or(name, || Property::new(name, kind, true));
    let revived = !property.is_live();
    if revived {
        property.kind = kind;
    }
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

    fn wants(text: &str) -> BTreeMap<String, Option<Wanted>> {
        super::super::request::properties(serde_json::from_str::<serde_json::Value>(text).expect("JSON").as_object().expect("an object")).expect("properties")
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
        let first = update(&mut device, &wanted, None, Author::Edge, 5).expect("good");
        assert!(matches!(first["t"], Effect::Set { before: Some(None), .. }));
        let known = device.properties.clone();
        let again = update(&mut device, &wanted, None, Author::Edge, 9).expect("good");
        assert!(matches!(again["t"], Effect::Set { before: None, parts: Parts { actual: true, expected: false } }));
        assert_eq!(device.properties, known);
    }

    #[test]
    fn one_wrong_property_refuses_all_of_a_request() {
        let mut device = Device::new("d");
        let wanted = wants(r#"{"s":{"actual":{"value":"bad"}},"ok":{"actual":{"value":"v"}}}"#);
        assert_eq!(update(&mut device, &wanted, Some(&model()), Author::Edge, 5), Err("the value is not int or integer".to_owned()));
        assert!(device.properties.is_empty());
    }

    #[test]
    fn the_edge_wishes_only_what_the_model_lets_be_written_and_reports_anything() {
        let mut device = Device::new("d");
        let mut says = |text: &str| update(&mut device, &wants(text), Some(&model()), Author::Edge, 5).map(|_| ());
        assert!(says(r#"{"t":{"expected":{"value":"1"}}}"#).expect_err("read-only").contains("read-only"));
        assert!(says(r#"{"s":{"expected":{"value":"-1"}}}"#).expect_err("range").contains("minimum"));
        assert_eq!(says(r#"{"s":{"actual":{"value":"-40"}}}"#), Ok(()));
    }

    #[test]
    fn a_mapper_that_obeys_an_old_wish_does_not_undo_the_new_one() {
        let mut device = Device::new("d");
        let property = device.property_or("s", || Property::new("s", Kind::Int, true));
        property.wished = Some("25".into());
        property.expected = Some(Part { value: "25".into(), at: 1.into(), version: Version { cloud: 1, edge: 0 } });
        let wanted = wants(r#"{"s":{"expected":{"value":"21"},"actual":{"value":"21"}}}"#);
        update(&mut device, &wanted, None, Author::Mapper, 5).expect("good");
        assert_eq!(device.properties[0].delta(), Some("25"));
    }

    #[test]
    fn a_property_that_was_removed_keeps_its_versions() {
        let mut device = Device::new("d");
        let mut says = |text: &str| update(&mut device, &wants(text), None, Author::Edge, 5).expect("good").into_values().next().expect("an effect");
        says(r#"{"f":{"actual":{"value":"1"}}}"#);
        assert!(matches!(says(r#"{"f":null}"#), Effect::Removed(_)));
        assert_eq!(says(r#"{"f":null}"#), Effect::Nothing);
        says(r#"{"f":{"actual":{"value":"8"},"metadata":{"type":"int"}}}"#);
        let part = device.properties[0].actual.clone().expect("a value");
        assert_eq!((part.version.edge, device.properties[0].kind), (3, Kind::Int));
    }
}
