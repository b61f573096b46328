//! What a DeviceModel means for what is there already. Object, model and reports
//! come in any order: CloudCore sends a model only along with a device that
//! changes, and a device whose model does not exist yet without one (devices.md
//! 3.2). So whenever one of them comes, types are the model's; values that do
//! not fit it stay, and are told.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::device::Device;
use super::model::Model;
use super::property::{Part, Property};
use super::update::Effect;
use super::{Effects, Twins};
use crate::node::ids::DeviceId;
use crate::node::now::Now;
use crate::wire::kube;

/// Properties that changed, as they were; `None` inside for new ones.
pub type Before = Vec<(String, Option<Box<Property>>)>;

impl Twins {
    /// A DeviceModel object is there, or has changed.
    pub fn model(&mut self, now: Now, model: &kube::DeviceModel) -> Effects {
        let mut effects = Effects::default();
        self.growth.outdate();
        let name: Rc<str> = format!("{}/{}", model.metadata.namespace, model.metadata.name).into();
        let model = Rc::new(Model::new(model));
        self.models.insert(name.clone(), model.clone());
        self.unasked.remove(&name);
        let of_it = |device: &Device| device.model.as_ref() == Some(&name);
        let ids: Vec<DeviceId> = self.devices.iter().filter(|(_, device)| of_it(device)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(device) = self.devices.get_mut(&id) else { continue };
            let changed = conform(device, &model);
            tell_misfits(&id, device, &model);
            self.tell_conformed(now, &id, changed, &mut effects);
        }
        effects
    }

    pub(super) fn tell_conformed(&mut self, now: Now, id: &DeviceId, changed: Before, effects: &mut Effects) {
        let mut steps: BTreeMap<&str, Option<&Property>> = BTreeMap::new();
        for (name, before) in &changed {
            // The first is what it was before all of it.
            steps.entry(name).or_insert(before.as_deref());
        }
        let event = self.chance.uuid();
        self.tell_change(now, id, id.as_str(), &event, &steps, effects);
    }

    /// A DeviceModel object is gone.
    pub fn model_gone(&mut self, name: &str) {
        self.models.remove(name);
    }

    /// The model of a device, if it is here.
    pub fn model_of(&self, device: &Device) -> Option<&Model> {
        self.models.get(device.model.as_ref()?).map(|model| &**model)
    }

    /// A model that a device has, that is not here, and that the cloud was not
    /// asked for in this session.
    pub fn next_missing_model(&mut self) -> Option<Rc<str>> {
        self.unasked.pop_first()
    }

    /// A new session: the cloud may be asked for missing models again.
    pub(super) fn ask_again(&mut self) {
        let Self { devices, models, unasked, .. } = self;
        *unasked = devices.values().filter_map(|device| device.model.clone()).filter(|model| !models.contains_key(model)).collect();
    }
}

/// Gives properties the types of their model.
pub fn conform(device: &mut Device, model: &Model) -> Before {
    let mut changed = Before::new();
    for property in device.properties.iter_mut().filter(|property| property.is_live()) {
        let Some(kind) = model.kind(&property.name).filter(|kind| *kind != property.kind) else { continue };
        changed.push((property.name.to_string(), Some(Box::new(property.clone()))));
        property.kind = kind;
        // The cloud was told the other type with it.
        property.unconfirmed.expected |= property.expected.is_some();
        property.unconfirmed.actual |= property.actual.is_some();
    }
    changed
}

/// What is wrong with a property by its model, if anything.
pub fn misfit(property: &Property, model: &Model) -> Option<String> {
    let Some(rules) = model.rules(&property.name) else {
        return Some(format!("property '{}' is not declared by the device's model", property.name));
    };
    for (part, of) in [(&property.actual, "actual"), (&property.expected, "expected")] {
        if let Some(Err(fault)) = value(part).map(|value| rules.kind.check(value)) {
            let shown: String = value(part).unwrap_or_default().escape_debug().take(40).collect();
            return Some(format!("{of} value '{shown}' of '{}': {fault}", property.name));
        }
    }
    rules.permits(&property.name, value(&property.expected)?).err()
}

fn value(part: &Option<Part>) -> Option<&str> {
    part.as_ref().map(|part| part.value.as_str()).filter(|value| !value.is_empty())
}

/// Says what does not fit, when the model or the object is new.
pub fn tell_misfits(id: &DeviceId, device: &Device, model: &Model) {
    let live = device.properties.iter().filter(|property| property.is_live());
    let misfits: Vec<String> = live.filter_map(|property| misfit(property, model)).collect();
    if let Some(first) = misfits.first() {
        log::warn!(target: "devicetwin", "device '{id}': {first}{}", if misfits.len() > 1 { format!(", and {} more do not fit the model", misfits.len() - 1) } else { String::new() });
    }
}

/// Says which properties are new and not the model's: the cluster shows none of
/// them (devices.md 3.4).
pub fn tell_undeclared(id: &DeviceId, done: &BTreeMap<&str, Effect>, model: &Model) {
    let is_new = |effect: &Effect| matches!(effect, Effect::Set { before: Some(None), .. });
    let undeclared: Vec<&str> = done.iter().filter(|(name, effect)| is_new(effect) && model.rules(name).is_none()).map(|(name, _)| *name).collect();
    if let Some(first) = undeclared.first() {
        log::warn!(target: "devicetwin", "device '{id}' reports {} properties that its model does not declare and the cluster does not show, '{first}' the first", undeclared.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::twin::property::Version;
    use crate::node::twin::value::Kind;

    #[test]
    fn types_become_the_models_and_what_does_not_fit_stays_and_is_told() {
        let text = r#"{"spec":{"properties":[{"name":"n","type":"INT","accessMode":"ReadOnly"},
            {"name":"t","type":"INT","accessMode":"ReadWrite","minimum":"0","maximum":"90"}]}}"#;
        let model = Model::new(&serde_json::from_str(text).expect("a model"));
        let part = |value: &str| Some(Part { value: value.into(), at: 1.into(), version: Version::default() });
        let mut device = Device::new("d");
        for (name, actual, expected) in [("n", "7", "7"), ("t", "warm", ""), ("u", "1", "")] {
            let property = device.property_or(name, || Property::new(name, Kind::String, true));
            (property.actual, property.expected) = (part(actual), part(expected));
        }
        let changed: Vec<String> = conform(&mut device, &model).into_iter().map(|(name, _)| name).collect();
        assert_eq!(changed, ["n", "t"]);
        assert!(conform(&mut device, &model).is_empty());
        assert!(device.properties[0].is_unconfirmed());
        let misfits: Vec<Option<String>> = device.properties.iter().map(|property| misfit(property, &model)).collect();
        for (misfit, words) in misfits.iter().zip(["read-only", "'warm' of 't'", "'u' is not declared"]) {
            assert!(misfit.as_ref().is_some_and(|misfit| misfit.contains(words)), "{misfit:?}");
        }
        device.properties[1].actual = part("70");
        device.properties[1].expected = part("100");
        assert!(misfit(&device.properties[1], &model).is_some_and(|misfit| misfit.contains("maximum")));
    }
}
