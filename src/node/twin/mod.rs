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
mod declared;
mod device;
mod edge;
mod growth;
mod members;
mod model;
mod property;
mod report;
mod request;
mod retained;
mod say;
mod sync;
mod untold;
mod update;
mod value;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Value, json};

pub use declared::misfit;
pub use device::{Attribute, Device, DeviceRow};
pub use property::{ConfirmedRow, Part, Property, PropertyRow, Version};
pub use report::{Sent, What};
pub use request::{Refusal, Wanted};
pub use untold::Room;
pub use update::Author;
pub use value::{Kind, Text};

pub use model::Model;
use report::Reports;
use untold::Words;

use super::chance::Chance;
use super::ids::{DeviceId, Ticket};
use super::now::{Mono, Now};
use super::store::{Change, Key, Row, Rows};
use crate::config::Config;
use crate::wire::rfc3339;

/// A state that is told again within this time changes nothing, milliseconds.
const STATE_AGE: i64 = 60_000;

/// What must happen after something came: rows on disk first, then words on
/// MQTT.
#[derive(Debug, Default)]
pub struct Effects {
    /// Rows to write together.
    pub changes: Vec<Change>,
    /// Topics and payloads to publish, in order.
    pub publications: Words,
    /// The same, and they wait for no disk.
    pub at_once: Words,
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
    /// Models of devices that are missing and were not asked for.
    unasked: BTreeSet<Rc<str>>,
    reports: Reports,
    untold: untold::Queue,
    early: retained::Early,
    room: Room,
    growth: growth::Growth,
    /// Bytes of the largest packet to the broker.
    max_packet: usize,
    chance: Chance,
}

impl Twins {
    /// The devices and properties that are on disk.
    pub fn load(settings: &Config, chance: Chance, rows: &mut Rows) -> Self {
        let mut twins = Self {
            node: settings.node.name.clone(),
            devices: BTreeMap::new(),
            models: BTreeMap::new(),
            unasked: BTreeSet::new(),
            reports: Reports::new(settings.devicetwin.report_rate),
            untold: untold::Queue::default(),
            early: retained::Early::default(),
            room: Room::Nobody,
            growth: growth::Growth::default(),
            max_packet: settings.eventbus.max_packet,
            chance,
        };
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
        self.reports.queue(id, device);
        self.tell_document(now, id, named, event, steps, effects);
        self.tell_delta(now, id, named, effects);
    }

    /// Rows of these devices are on their way to the disk with this batch.
    pub fn written(&mut self, changes: &[Change], ticket: Ticket) {
        for change in changes {
            let (Key::Device(id) | Key::Property(id, _)) = &change.key else { continue };
            if let Some(device) = self.devices.get_mut(id) {
                device.ticket = ticket;
                device.untold.iter_mut().for_each(|untold| untold.written(ticket));
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
        view["device"]["lastOnlineTime"] = rfc3339::of_seconds(at).into();
    }
    view
}
