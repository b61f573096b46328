//! Devices and user topics, routed: what came by the broker, by mappers and by
//! the cloud goes to the twins or the spool; their effects go to disk first,
//! then to the broker and the cloud.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Node;
use super::bus::{Order, Publication};
use super::ids::{Packet, Session, Ticket};
use super::link::message;
use super::meta::{Incoming, Meta};
use super::now::Now;
use super::purpose::Purpose;
use super::store::{Change, Key, Sequence};
use super::twin::{Author, Effects, Refusal, Room, Sent, Wanted};
use crate::wire::application::{Application, DYNAMIC_CONTROLLER, METASERVER, UNTOLD};
use crate::wire::kube;
use crate::wire::message::{BUS, EDGED, META, Message, RESOURCE, TWIN, USER, null, operation, raw, string};
use crate::wire::resource::{LEASES, Resource, kind};
use crate::wire::topic::{Topic, Verb};

/// How long the cloud may take to confirm a report.
const REPORT_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of answers that may wait for the disk.
const HELD: usize = 4 << 20;
/// Bytes that wait for the disk or the broker, from which on only answers wait
/// and what can be said from the state is said later.
const CROWD: usize = 1 << 20;
/// What an answer costs besides topic and payload, bytes.
const OVERHEAD: usize = 128;

/// What waits for a ticket on behalf of the broker.
#[derive(Debug)]
pub(super) struct Reply {
    publications: Vec<(String, Vec<u8>)>,
    packet: Option<Packet>,
}

impl Reply {
    pub(super) fn bytes(&self) -> usize {
        self.publications.iter().map(|(topic, payload)| topic.len() + payload.len() + OVERHEAD).sum()
    }
}

impl Node {
    /// The broker is reached.
    pub(super) fn bus_up(&mut self, kept: bool) {
        log::info!(target: "eventbus", "the broker is reached");
        self.bus_is_up = true;
        let filters = self.subscriptions.connected(kept, self.settings.devicetwin.legacy_topics);
        self.outbox.push(Order::Subscribe(filters));
        self.twins.tell_deltas();
    }

    /// The broker is lost.
    pub(super) fn bus_down(&mut self, why: &str) {
        log::warn!(target: "eventbus", "{why}");
        if std::mem::take(&mut self.bus_is_up) {
            self.subscriptions.disconnected();
        }
        self.outbox.connection_lost();
    }

    /// How much room there is for words to the broker.
    pub(super) fn room(&self) -> Room {
        if !self.bus_is_up {
            Room::Nobody
        } else if self.held_bytes >= HELD {
            Room::None
        } else if self.disk.trouble.is_some() || self.held_bytes + self.outbox.bytes() >= CROWD {
            Room::Little
        } else {
            Room::Plenty
        }
    }

    /// What can be said from the state, once nothing else waits.
    pub(super) fn next_order(&mut self, now: Now) -> Option<Order> {
        if self.bus_is_up && self.outbox.bytes() == 0 {
            let words = self.twins.next_words(now, self.disk.done());
            words.into_iter().for_each(|(topic, payload)| self.outbox.push(Order::Publish { topic, payload }));
        }
        self.outbox.poll()
    }

    /// A message came by the broker.
    pub(super) fn published(&mut self, now: Now, publication: Publication) {
        let Publication { topic, payload, packet, retained } = publication;
        match Topic::parse(&topic, self.settings.devicetwin.legacy_topics) {
            Topic::Device { id, named, verb } => {
                let effects = self.twins.heard(now, &id, &named, verb, &payload, retained);
                if verb == Verb::TwinGet {
                    self.tell(effects, packet);
                } else {
                    self.carry_out(effects, packet);
                }
            }
            Topic::MembershipGet => {
                let effects = self.twins.list(now, &payload);
                self.tell(effects, packet);
            }
            Topic::Unknown => {
                self.count("ignored_publications");
                self.outbox.push_ack(packet);
            }
            Topic::User if retained && !self.subscriptions.retained_is_news() => {
                self.count("retained_again");
                self.outbox.push_ack(packet);
            }
            Topic::User => self.spool(now, topic, payload, packet),
        }
    }

    fn spool(&mut self, now: Now, topic: String, payload: Vec<u8>, packet: Option<Packet>) {
        let ticket = self.disk.joined();
        let changes = self.spool.push(now, topic, payload, packet.is_some(), ticket);
        self.carry_out(Effects { changes, ..Effects::default() }, packet);
    }

    /// Rows to disk, then words to the broker. A value that is said again may
    /// not be on disk yet: then its words wait for it, too. The answer is the batch
    /// that they wait for.
    pub(super) fn carry_out(&mut self, effects: Effects, packet: Option<Packet>) -> Option<Ticket> {
        let Effects { changes, publications, at_once } = effects;
        self.reply(Reply { publications: at_once, packet: None });
        let ticket = if changes.is_empty() {
            self.disk.unsettled()
        } else {
            self.twins.written(&changes, self.disk.joined());
            Some(self.disk.join(changes))
        };
        let reply = Reply { publications, packet };
        match ticket {
            // Nobody waits for it.
            Some(_) if reply.publications.is_empty() && reply.packet.is_none() => {}
            Some(ticket) => {
                self.held_bytes += reply.bytes();
                self.disk.hold(ticket, super::cluster::Held::Reply(reply));
            }
            None => self.reply(reply),
        }
        ticket
    }

    /// Words that change nothing. They wait for what was said before them, but
    /// not for a disk that takes nothing.
    fn tell(&mut self, mut effects: Effects, packet: Option<Packet>) {
        if self.disk.trouble.is_some() {
            effects.publications.append(&mut effects.at_once);
            return self.reply(Reply { publications: effects.publications, packet });
        }
        self.carry_out(effects, packet);
    }

    /// New members and nothing else are not worth a write: CloudCore sends the Device
    /// object of each right behind, and until that is on disk it sends it again.
    fn write_members_lazily(&mut self, mut effects: Effects) -> Effects {
        let is_new = |change: &Change| matches!((&change.key, &change.row), (Key::Device(_), Some(_)));
        if effects.changes.iter().all(is_new) {
            for change in std::mem::take(&mut effects.changes) {
                let Change { key, row: Some(row) } = change else { continue };
                self.disk.put_lazily(key, row);
            }
        }
        effects
    }

    /// Something for the broker is safe to say.
    pub(super) fn reply(&mut self, reply: Reply) {
        if self.bus_is_up {
            for (topic, payload) in reply.publications {
                match reply.packet {
                    Some(_) => self.outbox.push(Order::Publish { topic, payload }),
                    None => self.outbox.push_spare(topic, payload),
                }
            }
        }
        self.outbox.push_ack(reply.packet);
    }

    /// The cloud says something of group `twin`: which devices belong to the
    /// node, or values with versions.
    pub(super) fn twin_message(&mut self, now: Now, message: &Message) {
        let content: Value = serde_json::from_str(message.content.get()).unwrap_or_default();
        let resource = message.route.resource.as_str();
        let done = match resource.split('/').collect::<Vec<_>>().as_slice() {
            ["membership", ..] => self.twins.membership(now, &content).map(|effects| self.write_members_lazily(effects)),
            ["device", namespace, name, "twin", "cloud_updated"] => {
                let id = format!("{namespace}/{name}");
                Ok(self.twins.said(now, &id, &id, Verb::CloudUpdated, message.content.get().as_bytes()))
            }
            _ => Err("nothing is known of it".to_owned()),
        };
        match done {
            Ok(effects) => drop(self.carry_out(effects, None)),
            Err(why) => {
                log::warn!(target: "devicetwin", "'{resource}' of the cloud is refused: {why}");
                self.count("refused_objects");
            }
        }
    }

    /// The cloud has something for a topic, or a rule wants one.
    pub(super) fn bus_message(&mut self, message: &Message) {
        let topic = message.route.resource.clone();
        match message.route.operation.as_str() {
            operation::PUBLISH => {
                let payload = match serde_json::from_str(message.content.get()) {
                    Ok(Value::String(text)) => text.into_bytes(),
                    Ok(Value::Null) => Vec::new(),
                    _ => message.content.get().as_bytes().to_vec(),
                };
                self.outbox.push_spare(topic, payload);
            }
            operation::SUBSCRIBE => {
                if let Some(change) = self.subscriptions.add(&topic) {
                    self.disk.join(vec![change]);
                    self.outbox.push(Order::Subscribe(vec![topic]));
                }
            }
            operation::UNSUBSCRIBE => {
                if let Some(change) = self.subscriptions.remove(&topic) {
                    self.disk.join(vec![change]);
                    self.outbox.push(Order::Unsubscribe(topic));
                }
            }
            _ => self.count("ignored_messages"),
        }
    }

    /// The cloud told of a Device or DeviceModel. What becomes of it is on disk together
    /// with the object, for each sync writes a page at least. The answer is the batch.
    pub(super) fn device_object(&mut self, now: Now, resource: &Resource, incoming: &Incoming) -> Ticket {
        let mut effects = self.device_effects(now, resource, &incoming.json);
        effects.changes.splice(0..0, Meta::changes(incoming));
        self.carry_out(effects, None).unwrap_or(self.disk.done())
    }

    /// What a Device or DeviceModel object changes.
    fn device_effects(&mut self, now: Now, resource: &Resource, json: &str) -> Effects {
        let effects = match resource.kind.as_str() {
            kind::DEVICE_MODEL => kube::read::<kube::DeviceModel>(json).map(|model| self.twins.model(now, &model)),
            _ => kube::read::<kube::Device>(json).map(|device| self.twins.object(now, &device)),
        };
        effects.unwrap_or_else(|why| {
            log::warn!(target: "devicetwin", "'{resource}' is refused: {why}");
            self.count("refused_objects");
            Effects::default()
        })
    }

    /// A Device or DeviceModel object is gone.
    pub(super) fn device_object_gone(&mut self, now: Now, resource: &Resource) {
        self.mappers.stir();
        let id = format!("{}/{}", resource.namespace, resource.name);
        if resource.kind == kind::DEVICE_MODEL {
            return self.twins.model_gone(&id);
        }
        let effects = self.twins.object_gone(now, &id);
        self.carry_out(effects, None);
    }

    /// Devices that the disk knows: models first, for they say what wishes are.
    pub(super) fn know_devices(&mut self, now: Now) {
        for kind in [kind::DEVICE_MODEL, kind::DEVICE] {
            let all: Vec<_> = self.meta.all(kind).collect();
            for (resource, json) in all {
                let effects = self.device_effects(now, &resource, &json.text());
                self.carry_out(effects, None);
            }
        }
    }

    /// A mapper, or a person at the node, says what properties are or shall be.
    /// Of what is refused it hears; the rest is taken.
    pub(super) fn set_properties(&mut self, now: Now, id: &str, wanted: BTreeMap<String, Option<Wanted>>, author: Author) -> Result<(), Refusal> {
        let (effects, fault) = self.twins.set(now, id, wanted, author)?;
        self.carry_out(effects, None);
        fault.map_or(Ok(()), |fault| Err(Refusal::bad("", fault)))
    }

    /// What is due to the cloud: reports first, then what users said.
    pub(super) fn talk_of_devices(&mut self, now: Now) {
        let on_disk = self.disk.trouble.is_none().then(|| self.disk.done());
        self.ask_for_models(now);
        while let Some((resource, content, sent)) = self.twins.next_report(now, on_disk) {
            let message = message(now, &mut self.chance, TWIN, RESOURCE, operation::UPDATE, resource, raw(&content));
            self.link.request(now, message, Purpose::DeviceReport(sent), REPORT_LIMIT, false);
        }
        while let Some((topic, payload)) = self.spool.next(on_disk) {
            let content = string(&String::from_utf8_lossy(payload));
            self.link.tell(message(now, &mut self.chance, BUS, USER, operation::UPLOAD, topic.to_owned(), content));
        }
        if let Some(number) = self.spool.wants_proof(now.mono) {
            let lease = Resource::new(LEASES, kind::LEASE, &self.settings.node.name).to_string();
            let question = message(now, &mut self.chance, EDGED, META, operation::QUERY, lease, null());
            self.link.request(now, question, Purpose::Proof(number), REPORT_LIMIT, false);
        }
    }

    /// CloudCore sends a model only along with a device that changes. Whether the
    /// API server may be asked is its dynamicController's business.
    fn ask_for_models(&mut self, now: Now) {
        while let Some(name) = self.twins.next_missing_model() {
            let key = format!("/devices.kubeedge.io/v1beta1/devicemodels/{name}");
            let get = Application::get(self.chance.uuid(), &self.settings.node.name, key);
            let question = message(now, &mut self.chance, METASERVER, DYNAMIC_CONTROLLER, UNTOLD, UNTOLD.to_owned(), raw(&get));
            self.link.request(now, question, Purpose::DeviceModel(name), super::OBJECT_LIMIT, false);
        }
    }

    /// The cloud told of a model, or why not.
    pub(super) fn model_answered(&mut self, now: Now, session: Session, message: &Message, name: &str) {
        let answer = serde_json::from_str::<Application>(message.content.get()).map_err(|why| why.to_string());
        match (answer.and_then(|answer| answer.object()), name.split_once('/')) {
            (Ok(model), Some((namespace, name))) => {
                let resource = Resource::new(namespace, kind::DEVICE_MODEL, name);
                self.object_came(now, session, message, &resource, raw(&model).get());
            }
            (Err(why), _) => self.model_not_told(name, &why),
            (Ok(_), None) => {}
        }
    }

    /// It comes with the next change of a device of it.
    pub(super) fn model_not_told(&mut self, name: &str, why: &str) {
        log::warn!(target: "devicetwin", "device model '{name}' is not on this node and the cloud does not tell it ({why}): until it comes with the next change of a device's spec, types are not checked and no value can be set here");
    }

    /// The cloud confirmed a report.
    pub(super) fn report_confirmed(&mut self, now: Now, sent: &Sent) {
        for (key, row) in self.twins.report_confirmed(now, sent) {
            self.disk.put_lazily(key, row);
        }
    }

    /// The cloud has read all uploads up to one.
    pub(super) fn uploads_proved(&mut self, number: Sequence) {
        for change in self.spool.proved(number) {
            self.disk.remove_lazily(change.key);
        }
    }
}
