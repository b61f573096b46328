//! What is said at the edge: by devices and other clients of the broker, by
//! mappers, by people at the node.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::request::{self, Properties, Request};
use super::update::{self, Author, Effect};
use super::{Attribute, Device, Effects, Property, Refusal, STATE_AGE, Twins, Wanted, declared, members, say, state_view, value};
use crate::node::ids::DeviceId;
use crate::node::now::Now;
use crate::node::store::{Change, Key, Row};
use crate::wire::topic::{self, Verb};

/// All devices, each written as soon as it is viewed: a tree of a thousand would
/// be a megabyte of small pieces.
#[derive(Serialize)]
struct List<'a> {
    #[serde(serialize_with = "views")]
    devices: &'a BTreeMap<DeviceId, Device>,
    event_id: &'a str,
    timestamp: i64,
}

fn views<S: Serializer>(devices: &BTreeMap<DeviceId, Device>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(devices.iter().map(|(id, device)| device.view(id.as_str())))
}

impl Twins {
    /// A device said something by MQTT, or was asked.
    pub fn said(&mut self, now: Now, id: &str, named: &str, verb: Verb, payload: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let done = match verb {
            Verb::TwinUpdate => self.twin_update(now, id, named, payload, &mut effects).map_err(|why| ("twin/update/result", why)),
            Verb::TwinGet => self.twin_get(now, id, named, payload, &mut effects).map_err(|why| ("twin/get/result", why)),
            Verb::CloudUpdated => self.cloud_updated(now, id, payload, &mut effects).map_err(|why| ("twin/update/result", why)),
            Verb::StateUpdate => self.state_update(now, id, named, payload, &mut effects).map_err(|why| ("state/update/result", why)),
            Verb::Attributes => {
                self.attributes_update(now, id, payload, &mut effects);
                Ok(())
            }
        };
        if let Err((rest, why)) = done {
            effects.say(topic::of_device(named, rest), say::refusal(&why, now.wall.0));
        }
        effects
    }

    /// Somebody asks which devices there are.
    pub fn list(&self, now: Now, payload: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let topic = topic::of_node(&self.node, "membership/get/result");
        match request::event(payload) {
            Ok((_, event)) => {
                let list = say::bytes(&List { event_id: &event, timestamp: now.wall.0, devices: &self.devices });
                self.answer(now, topic, &event, list, &mut effects);
            }
            Err(()) => effects.say(topic, say::refusal(&Refusal::bad("", "Unmarshal get membership info failed: a JSON object was expected"), now.wall.0)),
        }
        effects
    }

    fn device(&mut self, id: &str, event: &str, unknown: impl Fn() -> String) -> Result<(DeviceId, &mut Device), Refusal> {
        let id = DeviceId::from(id);
        match self.devices.get_mut(&id) {
            Some(device) => Ok((id, device)),
            None => Err(Refusal { code: 404, event: event.to_owned(), reason: unknown() }),
        }
    }

    fn twin_update(&mut self, now: Now, id: &str, named: &str, payload: &[u8], effects: &mut Effects) -> Result<(), Refusal> {
        let mut request = Request::read(payload)?;
        self.admit(id, &mut request.properties);
        (*effects, _) = self.update(now, id, named, &request.event, &request.properties, Author::Edge)?;
        Ok(())
    }

    /// Sets properties, and says so.
    pub(super) fn update(
        &mut self,
        now: Now,
        id: &str,
        named: &str,
        event: &str,
        wanted: &Properties,
        author: Author,
    ) -> Result<(Effects, Option<String>), Refusal> {
        let mut effects = Effects::default();
        let model = self.get(id).and_then(|device| device.model.clone()).and_then(|model| self.models.get(&model).cloned());
        let (id, device) = self.device(id, event, || "update rejected due to the device is not existed".to_owned())?;
        let (done, faults) = update::update(device, wanted, model.as_deref(), author, now.wall.0);
        let fault = (!faults.is_empty()).then(|| request::reason(&faults, wanted.is_single()));
        if let Some(fault) = fault.as_ref().filter(|_| done.is_empty()) {
            return Err(Refusal::bad(event, fault));
        }
        if let Some(model) = &model {
            declared::tell_undeclared(&id, &done, model);
        }
        let mut result = say::Shown::new();
        let mut steps: BTreeMap<&str, Option<&Property>> = BTreeMap::new();
        for (name, effect) in &done {
            let current = device.property(name);
            match (effect, current) {
                (Effect::Set { parts, before }, Some(current)) => {
                    result.insert(name, Some(say::parts(current, *parts)));
                    steps.extend(before.as_ref().map(|before| (*name, before.as_deref())));
                }
                (Effect::Pinned(before), Some(current)) => {
                    result.insert(name, Some(say::PropertyView { optional: Some(current.optional), ..say::PropertyView::default() }));
                    steps.insert(name, Some(before));
                }
                (Effect::Removed(before), _) => {
                    result.insert(name, None);
                    steps.insert(name, Some(before));
                }
                (Effect::Nothing, _) | (Effect::Set { .. } | Effect::Pinned(_), None) => {}
            }
        }
        let answer = match &fault {
            Some(fault) => say::partly(event, now.wall.0, &result, fault),
            None => say::twins(event, now.wall.0, &result),
        };
        self.confirm(now, topic::of_device(named, "twin/update/result"), event, answer, &mut effects);
        self.tell_change(now, &id, named, event, &steps, &mut effects);
        Ok((effects, fault))
    }

    fn twin_get(&mut self, now: Now, id: &str, named: &str, payload: &[u8], effects: &mut Effects) -> Result<(), Refusal> {
        let (_, event) = request::event(payload).map_err(|()| Refusal::bad("", "Unmarshal twin info failed: a JSON object was expected"))?;
        let (_, device) = self.device(id, &event, || format!("Device {id} not found while getting twin"))?;
        let all = device.properties.iter().filter(|property| property.is_live()).map(|property| (&*property.name, say::whole(property))).collect();
        let answer = say::twins(&event, now.wall.0, &all);
        self.answer(now, topic::of_device(named, "twin/get/result"), &event, answer, effects);
        Ok(())
    }

    fn cloud_updated(&mut self, now: Now, id: &str, payload: &[u8], effects: &mut Effects) -> Result<(), Refusal> {
        let mut request = Request::read(payload)?;
        self.admit(id, &mut request.properties);
        self.device(id, &request.event, || "update rejected due to the device is not existed".to_owned())?;
        self.sync(now, &DeviceId::from(id), &request.event, &request.properties.wanted, effects);
        match request.properties.faults.is_empty() {
            true => Ok(()),
            false => Err(Refusal::bad(&request.event, request::reason(&request.properties.faults, request.properties.is_single()))),
        }
    }

    pub(super) fn state_update(&mut self, now: Now, id: &str, named: &str, payload: &[u8], effects: &mut Effects) -> Result<(), Refusal> {
        let (object, event) = request::event(payload).map_err(|()| Refusal::bad("", "Unmarshal state update failed: a JSON object was expected"))?;
        let state = request::member(&object, "state").and_then(Value::as_str).unwrap_or_default();
        self.set_state(now, id, named, &event, state, effects)
    }

    fn set_state(&mut self, now: Now, id: &str, named: &str, event: &str, state: &str, effects: &mut Effects) -> Result<(), Refusal> {
        let event = if event.is_empty() { self.chance.uuid() } else { event.to_owned() };
        let (id, device) = self.device(id, &event, || "update rejected due to the device is not existed".to_owned())?;
        if !["online", "offline", "ok", "unknown", "unhealthy"].contains(&state.to_lowercase().as_str()) {
            return Err(Refusal::bad(&event, "state must be online, offline, ok, unknown or unhealthy"));
        }
        let is_online = matches!(state.to_lowercase().as_str(), "online" | "ok");
        let recent = device.row.last_online.is_some_and(|at| (0..STATE_AGE).contains(&now.wall.0.saturating_sub(at.saturating_mul(1000))));
        if device.row.state != state || is_online && !recent {
            device.row.state = state.into();
            if is_online {
                device.row.last_online = Some(now.wall.0 / 1000);
            }
            device.row.state_confirmed = false;
            effects.changes.push(Change::set(Key::Device(id.clone()), Row::Device(device.row.clone())));
        }
        let answer = say::bytes(&state_view(device, &event, now));
        self.confirm(now, topic::of_device(named, "state/update/result"), &event, answer, effects);
        if let Some(device) = self.devices.get_mut(&id) {
            self.reports.queue(&id, device);
        }
        Ok(())
    }

    fn attributes_update(&mut self, now: Now, id: &str, payload: &[u8], effects: &mut Effects) {
        let Ok((object, event)) = request::event(payload) else { return };
        let wanted = request::member(&object, "attributes").and_then(Value::as_object).map(members::attributes);
        if let Some(Ok(wanted)) = wanted {
            self.put_attributes(now, &DeviceId::from(id), &event, &wanted, effects);
        }
    }

    /// A client sets attributes. Nobody answers that, so a refusal is logged.
    pub(super) fn put_attributes(&mut self, now: Now, id: &DeviceId, event: &str, wanted: &BTreeMap<String, Option<Attribute>>, effects: &mut Effects) {
        match self.admit_attributes(id, wanted) {
            Ok(()) => self.set_attributes(now, id, event, wanted, effects),
            Err(why) => log::warn!(target: "devicetwin", "device '{id}': attributes are not set: {why}"),
        }
    }

    pub(super) fn set_attributes(&mut self, now: Now, id: &DeviceId, event: &str, wanted: &BTreeMap<String, Option<Attribute>>, effects: &mut Effects) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let changed = members::set_attributes(device, wanted);
        if !changed.is_empty() {
            effects.changes.push(Change::set(Key::Device(id.clone()), Row::Device(device.row.clone())));
            effects.say(topic::of_device(id.as_str(), "updated"), say::bytes(&json!({ "event_id": event, "timestamp": now.wall.0, "attributes": changed })));
        }
    }

    /// A mapper, or a person at the node, says what properties are or shall be.
    /// What of it is refused stands beside what follows from the rest.
    pub fn set(&mut self, now: Now, id: &str, wanted: BTreeMap<String, Option<Wanted>>, author: Author) -> Result<(Effects, Option<String>), Refusal> {
        let (wanted, wrong): (BTreeMap<_, _>, BTreeMap<_, _>) = wanted.into_iter().partition(|(name, _)| value::is_name(name));
        let faults = wrong.into_keys().map(|name| (name, "it is no property's name".to_owned())).collect();
        let mut request = Properties { wanted, faults };
        self.admit(id, &mut request);
        self.update(now, id, id, "", &request, author)
    }

    /// A mapper says how a device is.
    pub fn mapper_state(&mut self, now: Now, id: &str, state: &str) -> Result<Effects, Refusal> {
        let mut effects = Effects::default();
        self.set_state(now, id, id, "", state, &mut effects)?;
        Ok(effects)
    }
}
