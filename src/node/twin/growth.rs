//! What clients may add to the devices of the node: properties that neither a
//! DeviceModel nor a Device object declares, long values of them, and attributes.
//! Whatever the cloud declares is taken, however much it is; what anybody at the broker
//! can make up ends at a size that is told.

use std::collections::BTreeMap;

use super::Twins;
use super::device::{Attribute, Device};
use super::model::Model;
use super::property::{Part, Property};
use super::request::{Properties, Wanted};
use crate::node::ids::DeviceId;

/// Undeclared properties of a device. One that was removed counts, for its versions are
/// kept.
const MAX_PROPERTIES: usize = 2000;
/// Bytes of undeclared properties and of attributes, of all devices.
const MAX_BYTES: usize = 32 << 20;
/// Bytes of the attributes of a device.
const MAX_ATTRIBUTES: usize = 64 << 10;

/// What a property or an attribute takes in memory beside its texts, bytes, about.
const ENTRY: usize = 256;
/// A value of so many bytes has room in an entry.
const SHORT: usize = 64;

/// What undeclared properties and attributes take.
#[derive(Debug)]
pub struct Growth {
    /// Bytes; what was refused or has gone since they were counted is among them.
    bytes: usize,
    /// It may be less by now.
    is_stale: bool,
}

impl Default for Growth {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, is_stale: true }
    }
}

impl Growth {
    /// Devices or models have changed by the cloud.
    pub fn outdate(&mut self) {
        self.is_stale = true;
    }

    fn left(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }
}

/// What a request adds.
#[derive(Debug, Clone, Copy, Default)]
struct Need {
    properties: usize,
    bytes: usize,
}

impl Need {
    fn of(device: &Device, name: &str, wanted: &Wanted, model: Option<&Model>) -> Self {
        let known = device.property(name);
        if is_declared(name, known, model) {
            return Self::default();
        }
        let grown = |value: &Option<String>, before: Option<&Part>| {
            let before = before.map_or(SHORT, |part| part.value.len().max(SHORT));
            value.as_ref().map_or(0, String::len).saturating_sub(before)
        };
        let expected = grown(&wanted.expected, known.and_then(|known| known.expected.as_ref()));
        let actual = grown(&wanted.actual, known.and_then(|known| known.actual.as_ref()));
        let properties = usize::from(known.is_none());
        Self { properties, bytes: properties * ENTRY + expected + actual }
    }

    /// Takes from this what another needs. Whether there was as much.
    fn take(&mut self, other: Self) -> bool {
        let is_enough = self.properties >= other.properties && self.bytes >= other.bytes;
        if is_enough {
            *self = Self { properties: self.properties - other.properties, bytes: self.bytes - other.bytes };
        }
        is_enough
    }
}

fn is_declared(name: &str, known: Option<&Property>, model: Option<&Model>) -> bool {
    known.is_some_and(|known| known.wished.is_some()) || model.is_some_and(|model| model.rules(name).is_some())
}

fn undeclared<'a>(device: &'a Device, model: Option<&'a Model>) -> impl Iterator<Item = &'a Property> {
    device.properties.iter().filter(move |property| !is_declared(&property.name, Some(property), model))
}

fn bytes(device: &Device, model: Option<&Model>) -> usize {
    let long = |part: &Option<Part>| part.as_ref().map_or(0, |part| part.value.len().saturating_sub(SHORT));
    let properties = undeclared(device, model).map(|property| ENTRY + long(&property.expected) + long(&property.actual));
    properties.sum::<usize>() + of_attributes(&device.row.attributes)
}

fn of_attributes(attributes: &BTreeMap<String, Attribute>) -> usize {
    attributes.iter().map(of_attribute).sum()
}

fn of_attribute((name, attribute): (&String, &Attribute)) -> usize {
    ENTRY + name.len() + attribute.value.len()
}

impl Twins {
    /// Refuses of a request what the device must not have beside what is declared.
    pub(super) fn admit(&mut self, id: &str, request: &mut Properties) {
        let Some(device) = self.get(id) else { return };
        let model = self.model_of(device);
        let need = |name: &str, wanted: &Option<Wanted>| wanted.as_ref().map(|wanted| Need::of(device, name, wanted, model)).unwrap_or_default();
        let needs: Vec<Need> = request.wanted.iter().map(|(name, wanted)| need(name, wanted)).collect();
        let count: usize = needs.iter().map(|need| need.properties).sum();
        // Counted only where it matters.
        let is_near = device.properties.len() + count > MAX_PROPERTIES;
        let there = if is_near { undeclared(device, model).count() } else { 0 };
        let bytes: usize = needs.iter().map(|need| need.bytes).sum();
        if bytes == 0 {
            return;
        }
        let room = Need { properties: MAX_PROPERTIES.saturating_sub(there), bytes: self.room_for(bytes) };
        let mut left = room;
        let mut needs = needs.into_iter();
        request.wanted.retain(|name, _| {
            let need = needs.next().unwrap_or_default();
            let before = left;
            let is_taken = left.take(need);
            if !is_taken {
                drop(request.faults.insert(name.clone(), refusal(before.properties < need.properties)));
            }
            is_taken
        });
        self.grow(room.bytes - left.bytes);
    }

    /// Whether a client may set attributes.
    pub(super) fn admit_attributes(&mut self, id: &DeviceId, wanted: &BTreeMap<String, Option<Attribute>>) -> Result<(), String> {
        let Some(device) = self.devices.get(id) else { return Ok(()) };
        let known = &device.row.attributes;
        let before = of_attributes(known);
        let kept: usize = known.iter().filter(|(name, _)| !wanted.contains_key(*name)).map(of_attribute).sum();
        let after = kept + wanted.iter().filter_map(|(name, wanted)| Some(of_attribute((name, wanted.as_ref()?)))).sum::<usize>();
        let more = after.saturating_sub(before);
        if more > 0 && after > MAX_ATTRIBUTES {
            return Err(format!("its attributes would be more than {MAX_ATTRIBUTES} bytes"));
        }
        if more > self.room_for(more) {
            return Err(refusal(false));
        }
        self.grow(more);
        Ok(())
    }

    /// Bytes that all devices may have more, counted anew if it may be too little for
    /// what is wanted.
    fn room_for(&mut self, bytes: usize) -> usize {
        if bytes > self.growth.left() && self.growth.is_stale {
            let counted = self.devices.values().map(|device| self::bytes(device, self.model_of(device))).sum();
            self.growth = Growth { bytes: counted, is_stale: false };
        }
        self.growth.left()
    }

    fn grow(&mut self, bytes: usize) {
        if bytes > 0 {
            self.growth = Growth { bytes: self.growth.bytes + bytes, is_stale: true };
        }
    }
}

fn refusal(is_of_the_device: bool) -> String {
    if is_of_the_device {
        format!("the device has {MAX_PROPERTIES} properties, removed ones counted, that neither its model nor its Device object declares")
    } else {
        format!("the devices of this node have {} MiB of attributes and of properties that no model and no Device object declares", MAX_BYTES >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;
    use crate::node::chance::Chance;
    use crate::node::now::{Mono, Now, Wall};
    use crate::node::store::Rows;
    use crate::wire::kube;
    use crate::wire::topic::Verb;

    const NOW: Now = Now { mono: Mono(1), wall: Wall(1_800_000_000_000) };

    fn twins(devices: usize, object: impl Fn(usize) -> String) -> Twins {
        let mut twins = Twins::load(&file::parse("", "edge").expect("a configuration"), Chance::new(1), &mut Rows::default());
        for number in 0..devices {
            twins.object(NOW, &kube::read::<kube::Device>(&object(number)).expect("a device"));
        }
        twins
    }

    fn bare(number: usize) -> String {
        format!(r#"{{"metadata":{{"namespace":"n","name":"d{number}"}},"spec":{{}}}}"#)
    }

    /// A client says values; what it is answered.
    fn says(twins: &mut Twins, device: usize, verb: Verb, properties: impl Iterator<Item = (String, String)>) -> String {
        let twin: Vec<String> =
            properties.map(|(name, value)| format!(r#""{name}":{{"actual":{{"value":"{value}"}},"actual_version":{{"cloud":1}}}}"#)).collect();
        let id = format!("n/d{device}");
        let effects = twins.said(NOW, &id, &id, verb, format!(r#"{{"twin":{{{}}}}}"#, twin.join(",")).as_bytes());
        let said = effects.publications.into_iter().chain(effects.at_once).map(|(_, payload)| String::from_utf8(payload).expect("JSON"));
        said.collect::<Vec<_>>().join("\n")
    }

    fn names(from: usize, to: usize) -> impl Iterator<Item = (String, String)> {
        (from..to).map(|number| (format!("p{number}"), "1".to_owned()))
    }

    #[test]
    fn a_device_gets_so_many_properties_that_nobody_declared() {
        for verb in [Verb::TwinUpdate, Verb::CloudUpdated] {
            let mut twins = twins(1, bare);
            for from in (0..4000).step_by(100) {
                says(&mut twins, 0, verb, names(from, from + 100));
            }
            let count = |twins: &Twins| twins.get("n/d0").expect("it is there").properties.len();
            assert_eq!(count(&twins), MAX_PROPERTIES);
            let answer = says(&mut twins, 0, verb, names(0, 1).chain(names(5000, 5001)));
            assert!(answer.contains("p5000: the device has 2000 properties"), "{answer}");
            // What is there goes on, and a removal makes no room.
            assert!(!says(&mut twins, 0, verb, [("p7".to_owned(), "9".to_owned())].into_iter()).contains("declares"));
            assert_eq!(count(&twins), MAX_PROPERTIES);
        }
    }

    #[test]
    fn what_the_cloud_declares_is_never_refused() {
        let property = |number: usize| format!(r#"{{"name":"p{number}","desired":{{"value":"{}"}}}}"#, "v".repeat(100));
        let all: Vec<String> = (0..3000).map(property).collect();
        let mut twins = twins(1, |_| {
            let properties = all.join(",");
            format!(r#"{{"metadata":{{"namespace":"n","name":"d0"}},"spec":{{"deviceModelRef":{{"name":"m"}},"properties":[{properties}]}}}}"#)
        });
        let model: Vec<String> = (0..6000).map(|number| format!(r#"{{"name":"p{number}","type":"STRING","accessMode":"ReadWrite"}}"#)).collect();
        let model = format!(r#"{{"metadata":{{"namespace":"n","name":"m"}},"spec":{{"properties":[{}]}}}}"#, model.join(","));
        twins.model(NOW, &kube::read::<kube::DeviceModel>(&model).expect("a model"));
        for from in (0..6000).step_by(500) {
            let answer = says(&mut twins, 0, Verb::TwinUpdate, names(from, from + 500));
            assert!(!answer.contains("declares"), "properties from {from}");
        }
        says(&mut twins, 0, Verb::TwinUpdate, names(10_000, 12_500));
        assert_eq!(twins.get("n/d0").expect("it is there").properties.len(), 8000);
    }

    #[test]
    fn all_devices_together_hold_so_many_bytes_that_nobody_declared() {
        let mut twins = twins(20, bare);
        let long = |name: &str| (name.to_owned(), "x".repeat(60_000));
        let mut refused = 0;
        for number in 0..2000 {
            let answer = says(&mut twins, number % 20, Verb::TwinUpdate, [long(&format!("p{number}"))].into_iter());
            refused += usize::from(answer.contains("32 MiB"));
        }
        let held: usize =
            twins.devices().flat_map(|(_, device)| &device.properties).map(|property| property.actual.as_ref().map_or(0, |part| part.value.len())).sum();
        assert!(held <= MAX_BYTES && held > MAX_BYTES - (1 << 20) && refused > 1400, "{held} bytes, {refused} refused");
        // Short values of what is there go on, attributes do not grow, and what a
        // device leaves is free.
        assert!(!says(&mut twins, 0, Verb::TwinUpdate, [("p0".to_owned(), "1".to_owned())].into_iter()).contains("32 MiB"));
        twins.object_gone(NOW, "n/d1");
        assert!(!says(&mut twins, 0, Verb::TwinUpdate, [long("again")].into_iter()).contains("32 MiB"));
    }

    #[test]
    fn attributes_of_a_device_end_at_a_size() {
        let mut twins = twins(1, bare);
        for number in 0..1000 {
            let payload = format!(r#"{{"attributes":{{"a{number}":{{"value":"{}"}}}}}}"#, "x".repeat(100));
            twins.said(NOW, "n/d0", "n/d0", Verb::Attributes, payload.as_bytes());
        }
        let held = |twins: &Twins| of_attributes(&twins.get("n/d0").expect("it is there").row.attributes);
        assert!(held(&twins) <= MAX_ATTRIBUTES && held(&twins) > MAX_ATTRIBUTES - 512, "{}", held(&twins));
        twins.said(NOW, "n/d0", "n/d0", Verb::Attributes, br#"{"attributes":{"a0":null,"a1":{"value":"y"}}}"#);
        assert!(held(&twins) < MAX_ATTRIBUTES - 300);
    }
}
