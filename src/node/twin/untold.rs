//! What those who listen on MQTT are still to be told, said from the state when
//! the broker has room for it: that a device is a member, what changed of it,
//! what it shall be and is not.
//!
//! As long as there is room each change is told by messages of its own. When
//! there is none, a delta is no message but state: however often it changes
//! meanwhile, the newest is said once. Changes of a property are told together,
//! as one step from what was told last to what is now. So nothing of it is ever
//! dropped, and what waits here is never more than the devices themselves.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::device::Device;
use super::property::Property;
use super::request::Refusal;
use super::value::Text;
use super::{Effects, Twins, say};
use crate::node::ids::{DeviceId, Ticket};
use crate::node::now::Now;
use crate::wire::topic;

/// Devices looked at for one whose change is on disk.
const TRIES: usize = 16;
/// What a PUBLISH packet has besides topic and payload, bytes.
const HEAD: usize = 16;

/// How much room there is for words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Room {
    /// There is no broker.
    #[default]
    Nobody,
    /// Enough.
    Plenty,
    /// For answers; what can be said from the state waits.
    Little,
    /// The disk lets so many wait that another answer cannot be kept for it.
    None,
}

/// What is still to be told of one device.
#[derive(Debug, Clone, Default)]
pub struct Untold {
    /// It became a member.
    member: bool,
    /// Properties that changed, as they were when that was told last.
    changed: BTreeMap<Text, Option<Box<Property>>>,
    /// The request that changed them last.
    event: String,
    /// Who made it named the device without a namespace.
    by_name: bool,
    /// The delta is to be said: on the topic with the namespace, and on the one
    /// without.
    delta: [bool; 2],
    /// The batch with the first of the changes; of others, none.
    ticket: Option<Ticket>,
}

impl Untold {
    /// Its changes go to the disk with this batch.
    pub fn written(&mut self, ticket: Ticket) {
        self.ticket.get_or_insert(ticket);
    }
}

/// Devices of which something is untold, in order.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<DeviceId>);

impl Queue {
    fn of<'a>(&mut self, id: &DeviceId, device: &'a mut Device) -> &'a mut Untold {
        if device.untold.is_none() {
            self.0.push_back(id.clone());
        }
        device.untold.get_or_insert_default()
    }
}

/// Words on MQTT: topics and payloads.
pub type Words = Vec<(String, Vec<u8>)>;

impl Twins {
    /// How much room there is for words from now on.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// An answer to who asked. Instead of one that no packet can carry, a short
    /// one says so.
    pub(super) fn answer(&self, now: Now, topic: String, event: &str, answer: Vec<u8>, effects: &mut Effects) {
        let fits = answer.len() <= self.largest(&topic);
        let reason = || format!("done, but the answer of {} bytes exceeds eventbus.max_packet ({} bytes)", answer.len(), self.max_packet);
        let answer = if fits { answer } else { refused(now, 413, event, reason()) };
        match self.room {
            Room::None => effects.at_once.push((topic, answer)),
            Room::Nobody | Room::Plenty | Room::Little => effects.say(topic, answer),
        }
    }

    /// An answer that says that something is safe. When too many of them wait
    /// for the disk already, a short one says at once that it is not.
    pub(super) fn confirm(&self, now: Now, topic: String, event: &str, answer: Vec<u8>, effects: &mut Effects) {
        if self.room == Room::None {
            let reason = "taken, but not on disk: the store takes nothing at the moment, and too many answers wait for it".to_owned();
            return effects.at_once.push((topic, refused(now, 503, event, reason)));
        }
        self.answer(now, topic, event, answer, effects);
    }

    /// Bytes of the largest payload on a topic.
    fn largest(&self, topic: &str) -> usize {
        self.max_packet.saturating_sub(topic.len() + HEAD)
    }

    /// Properties changed.
    pub(super) fn tell_document(
        &mut self,
        now: Now,
        id: &DeviceId,
        named: &str,
        event: &str,
        steps: &BTreeMap<&str, Option<&Property>>,
        effects: &mut Effects,
    ) {
        let Some(device) = self.devices.get_mut(id).filter(|_| self.room != Room::Nobody) else { return };
        let waits = device.untold.as_ref().is_some_and(|untold| !untold.changed.is_empty());
        if waits || self.room != Room::Plenty {
            let untold = self.untold.of(id, device);
            for (name, before) in steps {
                untold.changed.entry((*name).into()).or_insert_with(|| before.cloned().map(Box::new));
            }
            event.clone_into(&mut untold.event);
            untold.by_name = named != id.as_str();
            return;
        }
        let topic = topic::of_device(named, "twin/update/document");
        let limit = self.largest(&topic);
        if let Some(device) = self.devices.get(id) {
            let steps = steps.iter().map(|(name, before)| say::step(device, name, *before)).collect::<Vec<_>>();
            say::document(event, now.wall.0, &steps, limit).into_iter().for_each(|part| effects.say(topic.clone(), part));
        }
    }

    /// Something may be wished of a device that it is not.
    pub(super) fn tell_delta(&mut self, now: Now, id: &DeviceId, named: &str, effects: &mut Effects) {
        let Some(device) = self.devices.get_mut(id).filter(|device| self.room != Room::Nobody && has_delta(device)) else { return };
        if self.room == Room::Plenty && device.untold.is_none() {
            return self.say_delta(now, id, named, effects);
        }
        self.untold.of(id, device).delta[usize::from(named != id.as_str())] = true;
    }

    fn say_delta(&mut self, now: Now, id: &DeviceId, named: &str, effects: &mut Effects) {
        let Some(device) = self.devices.get(id) else { return };
        let topic = topic::of_device(named, "twin/update/delta");
        let parts = say::delta(&self.chance.uuid(), now.wall.0, &device.properties, self.max_packet.saturating_sub(topic.len() + HEAD));
        parts.into_iter().for_each(|part| effects.say(topic.clone(), part));
    }

    /// What shall be and is not, of every device: the broker is back, and who
    /// listens may have missed it.
    pub fn tell_deltas(&mut self) {
        for (id, device) in self.devices.iter_mut().filter(|(_, device)| has_delta(device)) {
            self.untold.of(id, device).delta[0] = true;
        }
    }

    /// A device is a member now.
    pub(super) fn tell_member(&mut self, now: Now, id: &DeviceId, shown: Value, effects: &mut Effects) {
        match self.room {
            Room::Nobody => {}
            Room::Plenty => self.say_membership(now, json!([shown]), Value::Null, effects),
            Room::Little | Room::None => {
                if let Some(device) = self.devices.get_mut(id) {
                    self.untold.of(id, device).member = true;
                }
            }
        }
    }

    /// Devices of which something is untold.
    pub fn untold(&self) -> usize {
        self.untold.0.len()
    }

    /// What is to be said next of what is on disk; nothing when it is all said.
    pub fn next_words(&mut self, now: Now, done: Ticket) -> Words {
        let mut tries = 0;
        while tries < TRIES.min(self.untold.0.len())
            && let Some(id) = self.untold.0.pop_front()
        {
            let Some(device) = self.devices.get_mut(&id) else { continue };
            let ticket = device.untold.as_ref().map(|untold| untold.ticket.unwrap_or(device.ticket));
            if ticket.is_some_and(|ticket| ticket > done) {
                self.untold.0.push_back(id);
                tries += 1;
            } else if let Some(untold) = device.untold.take() {
                let words = self.words(now, &id, &untold);
                if !words.is_empty() {
                    return words;
                }
            }
        }
        Words::new()
    }

    fn words(&mut self, now: Now, id: &DeviceId, untold: &Untold) -> Words {
        let mut effects = Effects::default();
        let Some(shown) = self.devices.get(id).map(|device| device.view(id.as_str())) else { return Words::new() };
        if untold.member {
            self.say_membership(now, json!([shown]), Value::Null, &mut effects);
        }
        let name = id.as_str().rsplit('/').next().unwrap_or_default();
        let named = |by_name: bool| if by_name { name } else { id.as_str() };
        let Some(device) = self.devices.get(id) else { return Words::new() };
        if !untold.changed.is_empty() {
            let topic = topic::of_device(named(untold.by_name), "twin/update/document");
            let steps: Vec<_> = untold.changed.iter().map(|(name, before)| say::step(device, name, before.as_deref())).collect();
            let parts = say::document(&untold.event, now.wall.0, &steps, self.largest(&topic));
            parts.into_iter().for_each(|part| effects.say(topic.clone(), part));
        }
        for by_name in [false, true].into_iter().filter(|by_name| untold.delta[usize::from(*by_name)]) {
            self.say_delta(now, id, named(by_name), &mut effects);
        }
        effects.publications
    }
}

fn refused(now: Now, code: u16, event: &str, reason: String) -> Vec<u8> {
    say::refusal(&Refusal { code, event: event.to_owned(), reason }, now.wall.0)
}

fn has_delta(device: &Device) -> bool {
    device.properties.iter().any(|property| property.delta().is_some())
}
