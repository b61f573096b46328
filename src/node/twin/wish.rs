//! What the Device object wishes becomes what a property shall be. A wish has no
//! version in v1beta1: only one that differs from the last one seen overrides
//! what the edge set since.
//!
//! Source: devices.md 3.2, 3.4.

use super::device::Device;
use super::model::Model;
use super::property::{Part, Property, Version};
use super::value::Kind;
use crate::wire::kube;

/// Takes the wishes of an object over; the properties that changed, as they
/// were.
pub fn wish(device: &mut Device, object: &kube::Device, model: Option<&Model>, now: i64) -> Vec<(String, Option<Box<Property>>)> {
    let mut changed = Vec::new();
    for property in object.spec.properties.iter().filter(|property| super::value::is_name(&property.name)) {
        let wished = property.desired.as_ref().map(|desired| desired.value.as_str()).filter(|value| !value.is_empty());
        if device.property(&property.name).and_then(|known| known.wished.as_deref()) == wished {
            continue;
        }
        let before = device.property(&property.name).filter(|known| known.is_live()).cloned().map(Box::new);
        let kind = model.and_then(|model| model.rules(&property.name)).map_or(Kind::String, |rules| rules.kind);
        take(device.property_or(&property.name, || Property::new(&property.name, kind, true)), wished, kind, now);
        changed.push((property.name.clone(), before));
    }
    changed
}

fn take(property: &mut Property, wished: Option<&str>, kind: Kind, now: i64) {
    if !property.is_live() {
        property.kind = kind;
    }
    property.wished = wished.map(Into::into);
    let version = property.expected.as_ref().map_or_else(Version::default, |part| part.version);
    let version = Version { cloud: version.cloud.saturating_add(1), ..version };
    property.expected = Some(Part { value: wished.unwrap_or_default().into(), at: now.into(), version });
    property.unconfirmed.expected = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(wished: &str) -> kube::Device {
        serde_json::from_str(&format!(r#"{{"spec":{{"properties":[{{"name":"t"}},{{"name":"s","desired":{{"value":"{wished}"}}}}]}}}}"#)).expect("a device")
    }

    #[test]
    fn only_a_new_wish_overrides_what_the_edge_set_since() {
        let mut device = Device::new("d");
        assert_eq!(wish(&mut device, &object("21"), None, 1).len(), 1);
        assert_eq!(device.properties[0].delta(), Some("21"));
        device.properties[0].expected = Some(Part { value: "18".into(), at: 2.into(), version: Version { cloud: 1, edge: 1 } });
        assert!(wish(&mut device, &object("21"), None, 3).is_empty(), "the same wish again, after a restart or a change elsewhere");
        assert_eq!(device.properties[0].delta(), Some("18"));
        assert_eq!(wish(&mut device, &object("25"), None, 4).len(), 1);
        assert_eq!(device.properties[0].delta(), Some("25"));
        assert_eq!(wish(&mut device, &object(""), None, 5).len(), 1, "a wish that is taken back");
        assert_eq!(device.properties[0].delta(), None);
    }
}
