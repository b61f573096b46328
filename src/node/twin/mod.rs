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
pub use value::Kind;

use model::Model;
use report::Reports;

use super::chance::Chance;
use super::ids::{DeviceId, Ticket};
use super::now::{Mono, Now};
use super::store::{Change, Key, Row, Table};
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

/// Name of a property's row.
fn row_name(id: &DeviceId, property: &str) -> String {
    format!("{id}/{property}")
}

impl Twins {
    /// Reads what was on disk; others' rows are left alone.
    pub fn load(node: &str, rate: u32, chance: Chance, rows: &mut Vec<(Key, Row)>) -> Self {
        let mut twins = Self { node: node.to_owned(), devices: BTreeMap::new(), models: BTreeMap::new(), reports: Reports::new(rate), chance };
        let ours = |key: &Key| matches!(key.table, Table::Devices | Table::Properties | Table::Confirmed);
        // In the order of tables: a device is there before its properties, and
        // those before what is confirmed of them.
        let mut own: Vec<(Key, Row)> = rows.extract_if(.., |(key, _)| ours(key)).collect();
        own.sort_by(|(a, _), (b, _)| a.cmp(b));
        own.into_iter().for_each(|(key, row)| twins.restore(&key.name, row));
        twins.reports.start_over(twins.devices.iter_mut());
        twins
    }

    fn restore(&mut self, name: &str, row: Row) {
        let of = |name: &str| name.match_indices('/').nth(1).map(|(at, _)| (DeviceId::from(&name[..at]), name[at + 1..].to_owned()));
        match row {
            Row::Device(row) => drop(self.devices.insert(name.into(), Device { row, ..Device::default() })),
            Row::Property(row) => {
                if let Some((id, property)) = of(name)
                    && let Some(device) = self.devices.get_mut(&id)
                {
                    *device.property_or(&property, || Property::new(&property, row.kind, true)) = Property::restored(&property, row.clone());
                }
            }
            Row::Confirmed(row) => {
                if let Some((id, property)) = of(name)
                    && let Some(device) = self.devices.get_mut(&id)
                    && let Ok(at) = device.position(&property)
                {
                    device.properties[at].confirmed(row);
                }
            }
            Row::Object(_) | Row::Version(_) | Row::Token { .. } | Row::Text(_) | Row::Spooled { .. } => {}
        }
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
        effects.changes.extend(changed.map(|property| Change::set(Table::Properties, row_name(id, &property.name), Row::Property(property.row()))));
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
        for change in changes.iter().filter(|change| matches!(change.key.table, Table::Devices | Table::Properties)) {
            let id = change.key.name.match_indices('/').nth(1).map_or(change.key.name.as_str(), |(at, _)| &change.key.name[..at]);
            if let Some(device) = self.devices.get_mut(&DeviceId::from(id)) {
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
