//! Values with versions: those that an old cloud sends, or a client by
//! `twin/cloud_updated`. A value is taken when neither of its counts is behind
//! ours; else ours is told to the cloud.
//!
//! Source: devices.md 2.8.

use std::collections::BTreeMap;

use super::device::Device;
use super::property::{Part, Property, Version};
use super::request::Wanted;
use super::value::Kind;

/// Merges; what changed, by name, with the property as it was before.
pub fn sync<'a>(device: &mut Device, wanted: &'a BTreeMap<String, Option<Wanted>>, now: i64) -> BTreeMap<&'a str, Option<Box<Property>>> {
    let mut changed = BTreeMap::new();
    for (name, wanted) in wanted.iter().filter_map(|(name, wanted)| Some((name.as_str(), wanted.as_ref()?))) {
        let before = device.property(name).cloned();
        let row = before.as_ref().map(Property::row);
        match device.position(name) {
            Ok(at) => merge(&mut device.properties[at], wanted, now),
            Err(at) => device.properties.splice(at..at, create(name, wanted, now)).for_each(drop),
        }
        if device.property(name).map(Property::row) != row {
            changed.insert(name, before.filter(Property::is_live).map(Box::new));
        }
    }
    changed.retain(|name, before| before.is_some() || device.property(name).is_some_and(Property::is_live));
    changed
}

fn create(name: &str, wanted: &Wanted, now: i64) -> Option<Property> {
    let kind = wanted.kind.as_deref().map_or(Some(Kind::String), Kind::parse).filter(|kind| *kind != Kind::Deleted)?;
    let mut property = Property::new(name, kind, wanted.optional.unwrap_or(true));
    for (value, version, part) in
        [(&wanted.expected, wanted.expected_version, &mut property.expected), (&wanted.actual, wanted.actual_version, &mut property.actual)]
    {
        if let (Some(value), Some(version)) = (value, version)
            && kind.check(value).is_ok()
        {
            *part = Some(Part { value: value.as_str().into(), at: now.into(), version });
        }
    }
    (property.expected.is_some() || property.actual.is_some()).then_some(property)
}

fn merge(property: &mut Property, wanted: &Wanted, now: i64) {
    let told = wanted.kind.as_deref().and_then(Kind::parse);
    if told == Some(Kind::Deleted) {
        return bury(property, wanted, now);
    }
    if !property.is_live() {
        property.kind = told.unwrap_or_default();
    }
    property.optional &= wanted.optional != Some(false);
    let kind = property.kind;
    let sides = [
        (&wanted.expected, wanted.expected_version, &mut property.expected, &mut property.unconfirmed.expected),
        (&wanted.actual, wanted.actual_version, &mut property.actual, &mut property.unconfirmed.actual),
    ];
    for (value, version, part, unconfirmed) in sides {
        let Some(value) = value else { continue };
        if !accepts(part.as_ref(), version) {
            // The edge knows better, and tells it; the other side of a
            // property that was refused is not looked at.
            *unconfirmed = part.is_some();
            return;
        }
        if kind.check(value).is_ok() {
            *part = Some(Part { value: value.as_str().into(), at: now.into(), version: version.unwrap_or_default() });
            *unconfirmed = false;
        }
    }
}

/// A value without a version is never taken.
fn accepts(part: Option<&Part>, version: Option<Version>) -> bool {
    version.is_some_and(|version| part.is_none_or(|part| part.version.yields_to(version)))
}

fn bury(property: &mut Property, wanted: &Wanted, now: i64) {
    let version = wanted.expected_version.or(wanted.actual_version);
    if [&property.expected, &property.actual].into_iter().flatten().all(|part| accepts(Some(part), version)) {
        property.bury(now);
        for part in [&mut property.expected, &mut property.actual].into_iter().flatten() {
            part.version = version.unwrap_or(part.version);
        }
        property.unconfirmed.expected = false;
        property.unconfirmed.actual = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(cloud: i64, edge: i64, value: &str) -> BTreeMap<String, Option<Wanted>> {
        let version = Some(Version { cloud, edge });
        BTreeMap::from([("p".to_owned(), Some(Wanted { expected: Some(value.to_owned()), expected_version: version, ..Wanted::default() }))])
    }

    #[test]
    fn neither_side_overrides_what_it_has_not_seen() {
        let mut device = Device::new("d");
        assert_eq!(sync(&mut device, &wants(1, 9, "OFF"), 1).len(), 1);
        for (cloud, edge) in [(2, 0), (0, 99)] {
            assert!(sync(&mut device, &wants(cloud, edge, "ON"), 2).is_empty());
            assert!(device.properties[0].unconfirmed.expected, "the cloud is told what holds");
        }
        assert_eq!(sync(&mut device, &wants(2, 9, "ON"), 3).len(), 1);
        assert_eq!(device.properties[0].delta(), Some("ON"));
    }

    #[test]
    fn a_value_without_version_adds_nothing() {
        let mut device = Device::new("d");
        let mut wanted = wants(1, 1, "x");
        wanted.get_mut("p").and_then(Option::as_mut).expect("it is there").expected_version = None;
        assert!(sync(&mut device, &wanted, 1).is_empty() && device.properties.is_empty());
    }
}
