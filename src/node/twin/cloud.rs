//! What the cloud says of devices, and what it is told.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::members::{Announced, Membership};
use super::report::{self, Sent, What};
use super::{Device, Effects, Property, Twins, Wanted, declared, say, state_view, sync, wish};
use crate::node::ids::{DeviceId, Ticket};
use crate::node::now::Now;
use crate::node::store::{Change, Key, Row};
use crate::wire::kube;
use crate::wire::topic;

impl Twins {
    pub(super) fn sync(&mut self, now: Now, id: &DeviceId, event: &str, wanted: &BTreeMap<String, Option<Wanted>>, effects: &mut Effects) {
        let Some(device) = self.devices.get_mut(id) else { return };
        let changed = sync::sync(device, wanted, now.wall.0);
        let steps: BTreeMap<&str, Option<&Property>> = changed.iter().map(|(name, before)| (*name, before.as_deref())).collect();
        if steps.is_empty() {
            self.reports.queue(id, device);
            self.tell_delta(now, id, id.as_str(), effects);
        } else {
            self.tell_change(now, id, id.as_str(), event, &steps, effects);
        }
    }

    /// The cloud says which devices belong to the node.
    pub fn membership(&mut self, now: Now, content: &Value) -> Result<Effects, String> {
        let membership = Membership::read(content)?;
        let mut effects = Effects::default();
        let gone: Vec<String> = match membership.complete {
            true => self.devices.keys().map(|id| id.as_str().to_owned()).filter(|id| membership.added.iter().all(|device| device.id != *id)).collect(),
            false => Vec::new(),
        };
        membership.added.iter().for_each(|device| self.announced(now, device, &mut effects));
        for (id, shown) in membership.removed.into_iter().chain(gone.into_iter().map(|id| (id.clone(), json!({ "id": id })))) {
            self.remove(now, &DeviceId::from(id), shown, &mut effects);
        }
        Ok(effects)
    }

    fn announced(&mut self, now: Now, announced: &Announced, effects: &mut Effects) {
        let id = DeviceId::from(announced.id.as_str());
        let news = !self.devices.contains_key(&id);
        let device = self.devices.entry(id.clone()).or_insert_with(|| Device::new(&announced.name));
        let told = !announced.description.is_empty() && device.row.description != announced.description;
        if told {
            device.row.description = announced.description.as_str().into();
        }
        if told || news {
            effects.changes.push(Change::set(Key::Device(id.clone()), Row::Device(device.row.clone())));
        }
        let attributes = announced.attributes.as_ref();
        if let Some(attributes) = attributes.filter(|_| !news) {
            self.set_attributes(now, &id, "", attributes, effects);
        }
        if !announced.properties.is_empty() {
            self.sync(now, &id, "", &announced.properties, effects);
        }
        if let Some(attributes) = attributes.filter(|_| news) {
            self.set_attributes(now, &id, "", attributes, effects);
        }
        if news {
            self.tell_member(now, &id, announced.shown.clone(), effects);
            self.recall(now, &id, effects);
        }
    }

    fn remove(&mut self, now: Now, id: &DeviceId, shown: Value, effects: &mut Effects) {
        self.growth.outdate();
        let Some(device) = self.devices.remove(id) else { return };
        effects.changes.push(Change::remove(Key::Device(id.clone())));
        for property in &device.properties {
            effects.changes.push(Change::remove(Key::Property(id.clone(), property.name.clone())));
            effects.changes.push(Change::remove(Key::Confirmed(id.clone(), property.name.clone())));
        }
        self.say_membership(now, Value::Null, json!([shown]), effects);
    }

    pub(super) fn say_membership(&mut self, now: Now, added: Value, removed: Value, effects: &mut Effects) {
        let said = json!({ "event_id": self.chance.uuid(), "timestamp": now.wall.0, "added_devices": added, "removed_devices": removed });
        effects.say(topic::of_node(&self.node, "membership/updated"), say::bytes(&said));
    }

    /// A Device object is there, or has changed; whoever sent it. It makes its
    /// device a member, for the cloud tells of membership only once.
    pub fn object(&mut self, now: Now, object: &kube::Device) -> Effects {
        let mut effects = Effects::default();
        self.growth.outdate();
        let metadata = &object.metadata;
        let id = format!("{}/{}", metadata.namespace, metadata.name);
        if self.get(&id).is_none() {
            let shown = json!({ "id": id, "name": metadata.name });
            let announced = Announced { id: id.clone(), name: metadata.name.clone(), shown, ..Announced::default() };
            self.announced(now, &announced, &mut effects);
        }
        let id = DeviceId::from(id);
        let reference = object.spec.device_model_ref.name.as_str();
        let name: Option<Rc<str>> = (!reference.is_empty()).then(|| format!("{}/{reference}", metadata.namespace).into());
        let known = name.as_ref().and_then(|name| self.models.get_key_value(name));
        let (name, model) = known.map_or((name, None), |(name, model)| (Some(name.clone()), Some(model.clone())));
        if model.is_none() {
            self.unasked.extend(name.clone());
        }
        let Some(device) = self.devices.get_mut(&id) else { return effects };
        device.model = name;
        let mut changed = model.as_ref().map_or_else(Vec::new, |model| declared::conform(device, model));
        let wished = wish::wish(device, object, model.as_deref(), now.wall.0);
        if let Some(model) = model.filter(|_| !wished.is_empty() || !changed.is_empty()) {
            declared::tell_misfits(&id, device, &model);
        }
        changed.extend(wished);
        self.tell_conformed(now, &id, changed, &mut effects);
        effects
    }

    /// A Device object is gone.
    pub fn object_gone(&mut self, now: Now, id: &str) -> Effects {
        let mut effects = Effects::default();
        let name = id.rsplit('/').next().unwrap_or_default();
        self.remove(now, &DeviceId::from(id), json!({ "id": id, "name": name }), &mut effects);
        effects
    }

    /// A new session with the cloud: nobody knows what became of the reports.
    pub fn start_over(&mut self) {
        self.reports.start_over(self.devices.iter_mut());
        self.ask_again();
    }

    /// The next report for the cloud: resource, content, and what it tells.
    pub fn next_report(&mut self, now: Now, on_disk: Option<Ticket>) -> Option<(String, Value, Sent)> {
        let Self { devices, reports, chance, .. } = self;
        let id = loop {
            let id = reports.next(now.mono, on_disk, |id| devices.get(id))?;
            if devices.contains_key(&id) {
                break id;
            }
        };
        let device = devices.get_mut(&id)?;
        reports.sent(device, now.mono);
        Some(report_of(&id, device, &chance.uuid(), now))
    }

    /// A report was confirmed; rows worth writing with the next batch.
    pub fn report_confirmed(&mut self, now: Now, sent: &Sent) -> Vec<(Key, Row)> {
        let mut rows = Vec::new();
        if let Some(device) = self.devices.get_mut(&sent.device) {
            match &sent.what {
                What::State(state) if device.row.state == *state => {
                    device.row.state_confirmed = true;
                    rows.push((Key::Device(sent.device.clone()), Row::Device(device.row.clone())));
                }
                What::State(_) => {}
                What::Values(values) => {
                    let known = report::confirm(device, values);
                    rows.extend(known.into_iter().map(|(name, row)| (Key::Confirmed(sent.device.clone(), name), Row::Confirmed(row))));
                }
            }
        }
        self.reports.settled(&sent.device, self.devices.get_mut(&sent.device), true, now.mono);
        rows
    }

    /// A report was not confirmed in time.
    pub fn report_failed(&mut self, now: Now, sent: &Sent) {
        self.reports.settled(&sent.device, self.devices.get_mut(&sent.device), false, now.mono);
    }
}

/// The state first: it is the shorter, and says whether values mean anything.
fn report_of(id: &DeviceId, device: &Device, event: &str, now: Now) -> (String, Value, Sent) {
    if !device.row.state.is_empty() && !device.row.state_confirmed {
        let content = state_view(device, event, now).to_string();
        return (format!("device/{id}/state/update"), content.into(), Sent { device: id.clone(), what: What::State(device.row.state.clone()) });
    }
    let news = report::news(device);
    let twin: Map<String, Value> =
        news.iter().filter_map(|(name, parts, _)| Some((name.to_string(), json!(say::report(device.property(name)?, *parts))))).collect();
    let content = json!({ "event_id": event, "timestamp": now.wall.0, "twin": twin });
    let values = news.into_iter().map(|(name, _, versions)| (name, versions)).collect();
    (format!("device/{id}/twin/edge_updated"), content, Sent { device: id.clone(), what: What::Values(values) })
}
