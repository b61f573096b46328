//! Devices of the node: what they shall be and what they are. Pure: what came
//! leads to [`Effects`], what must be on disk and what is said on MQTT once it
//! is; the owner carries both out. What the cloud must be told waits in
//! `report` until it is confirmed.
//!
//! ```text
//! device, mapper, person -> update ─┐
//! Device object ──────────> wish ───┼─> properties ─> rows, then result,
//! old clouds ─────────────> sync ───┘                 document, delta; report
//! cloud ──────────────────> members
//! ```

mod cloud;
mod device;
mod edge;
mod members;
mod model;
mod property;
mod report;
mod request;
mod retained;
mod say;
mod sync;
mod update;
mod value;
mod wish;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

pub use device::{Attribute, Device, DeviceRow};
pub use property::{ConfirmedRow, Part, Property, PropertyRow, Version};
pub use report::{Sent, What};
pub use request::{Refusal, Wanted};
pub use update::Author;
pub use value::{Kind, Text};

use model::Model;
use report::Reports;

use super::chance::Chance;
use super::ids::{DeviceId, Ticket};
use super::now::{Mono, Now};
use super::store::{Change, Key, Row, Rows};
use crate::wire::rfc3339;
use crate::wire::topic;

/// A state that is told again within this time changes nothing, milliseconds.
const STATE_AGE: i64 = 60_000;

/// What must happen after something came: rows on disk first, then words on
/// MQTT.
#[derive(Debug, Default)]
pub struct Effects {
    /// Rows to write together.
    pub changes: Vec<Change>,
    /// Topics and payloads to publish, in order.
    pub publications: Vec<(String, Vec<u8>)>,
}

impl Effects {
    fn say(&mut self, topic: String, payload: Vec<u8>) {
        self.publications.push((topic, payload));
    }
}

/// All devices of the node.
#[derive(Debug)]
pub struct Twins {
    node: String,
    devices: BTreeMap<DeviceId, Device>,
    models: BTreeMap<Rc<str>, Rc<Model>>,
    reports: Reports,
    chance: Chance,
}

impl Twins {
    /// The devices and properties that are on disk.
    pub fn load(node: &str, rate: u32, chance: Chance, rows: &mut Rows) -> Self {
        let mut twins = Self { node: node.to_owned(), devices: BTreeMap::new(), models: BTreeMap::new(), reports: Reports::new(rate), chance };
        for (id, row) in std::mem::take(&mut rows.devices) {
            twins.devices.insert(id, Device { row, ..Device::default() });
        }
        for (id, name, row) in std::mem::take(&mut rows.properties) {
            if let Some(device) = twins.devices.get_mut(&id) {
                let new = || Property::new(&name, row.kind, true);
                *device.property_or(&name, new) = Property::restored(&name, row.clone());
            }
        }
        for (id, name, row) in std::mem::take(&mut rows.confirmed) {
            if let Some(device) = twins.devices.get_mut(&id)
                && let Ok(at) = device.position(&name)
            {
                device.properties[at].confirmed(row);
            }
        }
        twins.reports.start_over(twins.devices.iter_mut());
        twins
    }

    /// All devices, by id.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &Device)> {
        self.devices.iter()
    }

    /// A device.
    pub fn get(&self, id: &str) -> Option<&Device> {
        self.devices.get(&DeviceId::from(id))
    }

    /// Devices with something the cloud does not know.
    pub fn unreported(&self) -> usize {
        self.reports.waiting()
    }

    /// What changed goes to disk, to those who listen, and to the cloud.
    fn tell_change(&mut self, now: Now, id: &DeviceId, named: &str, event: &str, steps: &BTreeMap<&str, Option<&Property>>, effects: &mut Effects) {
        let Some(device) = self.devices.get_mut(id).filter(|_| !steps.is_empty()) else { return };
        let changed = steps.keys().filter_map(|name| device.property(name));
        effects.changes.extend(changed.map(|property| Change::set(Key::Property(id.clone(), property.name.clone()), Row::Property(property.row()))));
        let document = steps
            .iter()
            .map(|(name, before)| (*name, say::Step { last: before.and_then(say::whole), current: device.property(name).and_then(say::whole) }))
            .collect();
        effects.say(topic::of_device(named, "twin/update/document"), say::document(event, now.wall.0, &document));
        self.reports.queue(id, device);
        self.tell_delta(now, id, named, effects);
    }

    /// What shall be and is not of a device, if anything.
    fn tell_delta(&mut self, now: Now, id: &DeviceId, named: &str, effects: &mut Effects) {
        let Some(device) = self.devices.get(id).filter(|device| device.properties.iter().any(|property| property.delta().is_some())) else { return };
        if let Some(delta) = say::delta(&self.chance.uuid(), now.wall.0, &device.properties) {
            effects.say(topic::of_device(named, "twin/update/delta"), delta);
        }
    }

    /// What shall be and is not, of every device: the broker is back, and who
    /// listens may have missed it.
    pub fn deltas(&mut self, now: Now) -> Effects {
        let mut effects = Effects::default();
        let ids: Vec<DeviceId> = self.devices.keys().cloned().collect();
        ids.iter().for_each(|id| self.tell_delta(now, id, id.as_str(), &mut effects));
        effects
    }

    /// Rows of these devices are on their way to the disk with this batch.
    pub fn written(&mut self, changes: &[Change], ticket: Ticket) {
        for change in changes {
            let (Key::Device(id) | Key::Property(id, _)) = &change.key else { continue };
            if let Some(device) = self.devices.get_mut(id) {
                device.ticket = ticket;
                device.changes += 1;
            }
        }
    }

    /// When the next report may go.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        self.reports.deadline().map(|at| (at, "device report"))
    }
}

fn state_view(device: &Device, event: &str, now: Now) -> Value {
    let mut view = json!({ "event_id": event, "timestamp": now.wall.0, "device": { "name": device.row.name, "state": device.row.state } });
    if let Some(at) = device.row.last_online {
        view["device"]["lastOnlineTime"] = rfc3339::seconds(at * 1000).into();
    }
    view
}
