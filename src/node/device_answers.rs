//! What people at the node are told of devices, and what they may set. Who
//! watches a device is answered when it changes, or after a while.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Node;
use super::ids::{AskId, DeviceId};
use super::now::{Mono, Now};
use super::twin::{Author, Device, Model, Property, Twins, Wanted, misfit};
use crate::wire::rfc3339;

/// How long one who watches waits for a change before he must ask again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those who watch devices.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Watcher>);

#[derive(Debug)]
struct Watcher {
    ask: AskId,
    device: DeviceId,
    seen: u64,
    until: Mono,
}

impl Watchers {
    /// When the first of them has waited long enough.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        self.0.iter().map(|watcher| (watcher.until, "someone watches")).min()
    }
}

/// `NAMESPACE/NAME` of a device that may have been named without a namespace.
fn full(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("default/{name}") }
}

fn unknown(name: &str) -> Value {
    json!({ "error": format!("device '{}' does not belong to this node", full(name)) })
}

/// A device as a row of a table.
pub(super) fn row(id: &DeviceId, device: &Device, model: Option<&Model>) -> Value {
    let (namespace, name) = id.as_str().split_once('/').unwrap_or(("", id.as_str()));
    let named = device.model.as_deref().and_then(|name| name.rsplit('/').next());
    let missing = if model.is_none() { " (missing)" } else { "" };
    json!({
        "namespace": namespace, "name": name, "state": device.row.state, "model": named.map(|name| format!("{name}{missing}")),
        "properties": device.properties.iter().filter(|property| property.is_live()).count(),
        "pending": device.properties.iter().filter(|property| property.delta().is_some()).count(),
        "unreported": device.properties.iter().filter(|property| property.is_unconfirmed()).count(),
        "last_online": device.row.last_online.map(rfc3339::of_seconds),
    })
}

fn property(property: &Property, model: Option<&Model>) -> Value {
    let part = |part: &Option<super::twin::Part>| part.as_ref().map(|part| json!({ "value": part.value, "changed": rfc3339::seconds(part.at.into()) }));
    json!({
        "name": &*property.name, "type": property.kind.name(), "actual": part(&property.actual), "expected": part(&property.expected),
        "reported": !property.is_unconfirmed(), "misfit": model.and_then(|model| misfit(property, model)),
    })
}

/// A device at length.
fn describe(twins: &Twins, id: &str, device: &Device) -> Value {
    let model = twins.model_of(device);
    json!({
        "device": device.view(id), "model": device.model.as_deref(), "model_missing": device.model.is_some() && model.is_none(), "change": device.changes,
        "properties": device.properties.iter().filter(|property| property.is_live()).map(|live| property(live, model)).collect::<Vec<_>>(),
    })
}

impl Node {
    /// A device at length, or that there is none.
    pub(super) fn describe_device(&self, name: &str) -> Value {
        let id = full(name);
        self.twins.get(&id).map_or_else(|| unknown(name), |device| describe(&self.twins, &id, device))
    }

    /// Somebody at the node wishes a value.
    pub(super) fn wish_at_the_edge(&mut self, now: Now, name: &str, property: &str, value: &str) -> Value {
        let wanted = BTreeMap::from([(property.to_owned(), Some(Wanted { expected: Some(value.to_owned()), ..Wanted::default() }))]);
        match self.set_properties(now, &full(name), wanted, Author::Person) {
            Ok(()) => self.describe_device(name),
            Err(refusal) if refusal.code == 404 => unknown(name),
            Err(refusal) => json!({ "error": format!("{property}={value}: {}", refusal.reason) }),
        }
    }

    /// Somebody watches a device of which he has seen one change.
    pub(super) fn watch_device(&mut self, now: Now, ask: AskId, name: &str, seen: u64) {
        let device = DeviceId::from(full(name));
        self.watchers.0.push(Watcher { ask, device, seen, until: now.mono + PATIENCE });
        self.answer_watchers(now);
    }

    /// Tells those who watch what they wait for.
    pub(super) fn answer_watchers(&mut self, now: Now) {
        let Self { watchers, twins, answers, .. } = self;
        watchers.0.retain(|watcher| {
            let device = twins.get(watcher.device.as_str());
            let waits = device.is_some_and(|device| device.changes == watcher.seen) && now.mono < watcher.until;
            if !waits {
                answers.push_back((
                    watcher.ask,
                    device.map_or_else(|| unknown(watcher.device.as_str()), |device| describe(twins, watcher.device.as_str(), device)),
                ));
            }
            waits
        });
    }
}
