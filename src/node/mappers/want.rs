//! What mappers shall know: the devices and models of the cluster, each with a
//! digest of what a mapper would be told. Not whose they are.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::Value;

use crate::node::packed::Packed;
use crate::wire::dmi::{self, Device, DeviceModel, Unfit};
use crate::wire::resource::Resource;

/// `NAMESPACE/NAME` of a device or a model.
pub type Id = String;

/// The cluster's devices and models.
#[derive(Debug, Default)]
pub struct Wanted {
    /// By id.
    pub devices: BTreeMap<Id, WantedDevice>,
    /// By id.
    pub models: BTreeMap<Id, WantedModel>,
}

/// A device some mapper shall know.
#[derive(Debug)]
pub struct WantedDevice {
    json: Packed,
    model_json: Option<Packed>,
    /// Its protocol.
    pub protocol: String,
    /// Its model.
    pub model: Id,
    /// What a mapper would be told; or why nobody can be told of it now.
    pub digest: Result<Digest, Unfit>,
}

/// A model.
#[derive(Debug)]
pub struct WantedModel {
    json: Packed,
    /// What a mapper would be told.
    pub digest: Digest,
}

/// A number that changes when what is told changes; the order of properties
/// and methods is no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digest(u64);

impl Digest {
    /// FNV-1a: it must be the same in the next build, for it is on disk.
    fn of(message: &impl Message) -> Self {
        Self(message.encode_to_vec().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Of a device.
    pub fn of_device(device: &Device) -> Self {
        let mut sorted = device.clone();
        if let Some(spec) = &mut sorted.spec {
            spec.properties.sort_by(|one, other| one.name.cmp(&other.name));
            spec.methods.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Self::of(&sorted)
    }

    /// Of a model.
    pub fn of_model(model: &DeviceModel) -> Self {
        let mut sorted = model.clone();
        if let Some(spec) = &mut sorted.spec {
            spec.properties.sort_by(|one, other| one.name.cmp(&other.name));
        }
        Self::of(&sorted)
    }
}

impl Wanted {
    /// The cluster as it is now. What did not change since is not read again.
    pub fn learn(&mut self, devices: impl Iterator<Item = (Resource, Packed)>, models: impl Iterator<Item = (Resource, Packed)>) {
        let id = |resource: &Resource| format!("{}/{}", resource.namespace, resource.name);
        let mut before = std::mem::take(self);
        let mut read = BTreeMap::new();
        for (resource, json) in models {
            let id = id(&resource);
            let known = before.models.remove(&id).filter(|known| known.json.is(&json));
            let model = known.unwrap_or_else(|| {
                let value = parse(&json);
                let digest = Digest::of_model(&dmi::model(&value));
                read.insert(id.clone(), value);
                WantedModel { json, digest }
            });
            self.models.insert(id, model);
        }
        for (resource, json) in devices {
            let id = id(&resource);
            let device = match before.devices.remove(&id) {
                Some(known) if known.json.is(&json) && same(known.model_json.as_ref(), self.models.get(&known.model)) => known,
                Some(_) | None => self.read(&resource, json, &mut read),
            };
            self.devices.insert(id, device);
        }
    }

    fn read(&self, resource: &Resource, json: Packed, read: &mut BTreeMap<Id, Value>) -> WantedDevice {
        let value = parse(&json);
        let (protocol, model) = (dmi::protocol_of(&value).to_owned(), format!("{}/{}", resource.namespace, dmi::model_of(&value)));
        let known = self.models.get(&model);
        let digest = match known {
            // Else two of them would be one device for the mapper.
            Some(_) if dmi::name_of(&value) != resource.name => Err(Unfit(format!("metadata.name: '{}' was expected", resource.name))),
            Some(known) => dmi::device(&value, read.entry(model.clone()).or_insert_with(|| parse(&known.json))).map(|device| Digest::of_device(&device)),
            None => Err(Unfit(format!("its model '{model}' is not here"))),
        };
        if let Err(why) = &digest {
            log::warn!(target: "dmi", "no mapper can be told of '{resource}': {why}");
        }
        WantedDevice { json, model_json: known.map(|known| known.json.clone()), protocol, model, digest }
    }

    /// A device as a mapper is told it.
    pub fn device(&self, id: &str) -> Option<Device> {
        let device = self.devices.get(id)?;
        dmi::device(&parse(&device.json), &parse(device.model_json.as_ref()?)).ok()
    }

    /// A model as a mapper is told it.
    pub fn model(&self, id: &str) -> Option<DeviceModel> {
        self.models.get(id).map(|model| dmi::model(&parse(&model.json)))
    }
}

fn same(one: Option<&Packed>, other: Option<&WantedModel>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is(&other.json),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn parse(json: &Packed) -> Value {
    serde_json::from_str(&json.text()).unwrap_or_default()
}
