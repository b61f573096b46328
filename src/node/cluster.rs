//! The cloud's messages, taken in: which object they are about, what must be on
//! disk before they are acknowledged, whose answer they are.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::Value;

use super::Node;
use super::devices::Reply;
use super::disk::Disk;
use super::dmi;
use super::ids::{CallId, PodUid, Session, Ticket};
use super::meta::{Incoming, Meta, Verdict};
use super::now::Now;
use super::pod::Pods;
use super::pod::render::needs;
use super::presence::News;
use super::purpose::Purpose;
use super::reports;
use super::requests::RequestKey;
use super::response;
use super::store::{Change, Key, Row};
use crate::wire::kube::{self, NodeObject, Pod};
use crate::wire::message::{Message, RESOURCE, TWIN, USER, operation};
use crate::wire::resource::{CLUSTER, Resource, kind};
use crate::wire::servicebus;

/// What waits for the disk.
#[derive(Debug)]
pub(super) enum Held {
    /// An ack, for this session only.
    Ack(Session, Box<Message>),
    /// An object takes effect.
    Object(Resource, Box<Incoming>),
    /// Something may be said to the broker.
    Reply(Reply),
    /// A mapper that registered is answered.
    Mapper(CallId, dmi::Reply),
}

/// Pods that the disk knows are wanted: by the spec that was obeyed last.
pub(super) fn want_all(meta: &Meta, pods: &mut Pods, now: Now) {
    for (resource, json) in meta.all(kind::POD) {
        let text = json.text();
        let before = meta.uid(&resource.to_string()).and_then(|uid| meta.obeyed(&PodUid::from(uid)));
        if let Some(Ok(before)) = before.map(|before| kube::read::<Pod>(&before)) {
            pods.restore(now, Rc::new(before));
        }
        match kube::read::<Pod>(&text) {
            Ok(pod) => pods.restore(now, Rc::new(pod)),
            Err(why) => {
                log::warn!(target: "metamanager", "pod '{resource}' is refused: {why}");
                if let Ok(object) = kube::read::<kube::Object>(&text) {
                    pods.want_malformed(now, object.metadata, &why);
                }
            }
        }
    }
}

/// ConfigMaps and secrets no stored pod refers to are forgotten.
pub(super) fn prune(meta: &mut Meta, disk: &mut Disk<Held>) {
    let newest = meta.all(kind::POD).map(|(_, json)| json.text());
    let pods: Vec<String> = newest.chain(meta.all_obeyed().map(|(_, json)| json)).collect();
    let used: BTreeSet<String> = pods.iter().filter_map(|json| kube::read::<Pod>(json).ok()).flat_map(|pod| needs(&pod).names).collect();
    let unused: Vec<String> = [kind::CONFIG_MAP, kind::SECRET]
        .iter()
        .flat_map(|of| meta.all(of))
        .map(|(resource, _)| resource.to_string())
        .filter(|name| !used.contains(name))
        .collect();
    let changes: Vec<Change> = unused.iter().filter_map(|name| meta.drop(name, "")).flatten().collect();
    if !changes.is_empty() {
        disk.put(changes);
    }
}

/// Labels of the node, as stored.
pub(super) fn node_labels(meta: &Meta, node: &str) -> std::collections::BTreeMap<String, String> {
    let name = Resource::new(CLUSTER, kind::NODE, node).to_string();
    meta.json(&name).and_then(|json| kube::read::<NodeObject>(&json).ok()).map(|node| node.metadata.labels).unwrap_or_default()
}

impl Node {
    /// A message came.
    pub(super) fn received(&mut self, now: Now, session: Session, message: &Message) {
        if self.link.session() != Some(session) {
            return;
        }
        let (route, size) = (&message.route, message.content.get().len());
        log::debug!(target: "edgehub", "received '{}' of '{}' from '{}', {size} bytes", route.operation, route.resource, route.source);
        if matches!(message.route.operation.as_str(), operation::RESPONSE | operation::APPLICATION_RESPONSE)
            && let Some(purpose) = self.link.answered(&message.header.parent_msg_id)
        {
            return self.answered(now, session, message, purpose);
        }
        match message.route.group.as_str() {
            // A late answer.
            TWIN if message.route.operation == operation::RESPONSE => return,
            TWIN => return self.twin_message(now, message),
            USER => return self.user_message(now, message),
            _ => {}
        }
        let Some(resource) = message.resource().filter(|_| message.route.group == RESOURCE) else {
            self.count("ignored_messages");
            return self.ack(now, session, message, None);
        };
        match message.route.operation.as_str() {
            operation::INSERT | operation::UPDATE => self.object_came(now, session, message, &resource, message.content.get()),
            operation::DELETE => self.object_went(now, session, message, &resource),
            // A late answer: the object is good all the same.
            operation::RESPONSE if matches!(resource.kind.as_str(), kind::CONFIG_MAP | kind::SECRET) => {
                match response::read_object(message.content.get(), &resource) {
                    Ok(_) => self.object_came(now, session, message, &resource, message.content.get()),
                    Err(_) => self.ack(now, session, message, None),
                }
            }
            _ => self.ack(now, session, message, None),
        }
    }

    fn write_object(&mut self, now: Now, resource: &Resource, incoming: &Incoming) -> Ticket {
        if matches!(resource.kind.as_str(), kind::DEVICE | kind::DEVICE_MODEL) {
            return self.device_object(now, resource, incoming);
        }
        let mut changes = Meta::changes(incoming);
        if resource.kind == kind::POD {
            changes.extend(self.keep_obeyed(incoming));
            changes.extend(self.pods.begin_record(now, &PodUid::from(incoming.uid.as_str()), &incoming.status));
        }
        self.disk.put(changes)
    }

    /// Acknowledges, at once or when the ticket is on disk.
    pub(super) fn ack(&mut self, now: Now, session: Session, message: &Message, ticket: Option<Ticket>) {
        if !message.wants_ack() {
            return;
        }
        let ack = message.ack(self.chance.uuid(), now.wall.0);
        match ticket {
            Some(ticket) => self.disk.hold(ticket, Held::Ack(session, Box::new(ack))),
            None => self.link.ack(session, ack),
        }
    }

    pub(super) fn object_came(&mut self, now: Now, session: Session, message: &Message, resource: &Resource, content: &str) {
        let incoming = match Incoming::read(resource, content) {
            Ok(incoming) => incoming,
            Err(why) => {
                log::warn!(target: "metamanager", "object '{resource}' is refused: {why}");
                self.count("refused_objects");
                return self.ack(now, session, message, None);
            }
        };
        if self.is_of_no_use(resource, &incoming) {
            return self.ack(now, session, message, None);
        }
        match self.meta.judge(&incoming, self.disk.done()) {
            Verdict::Stale => self.ack(now, session, message, None),
            Verdict::Same => {
                if let Some((key, row)) = self.meta.bump(&incoming) {
                    self.disk.put_lazily(key, row);
                }
                self.show(now, resource, &incoming);
                self.ack(now, session, message, None);
            }
            Verdict::Pending(ticket) => {
                self.meta.bump(&incoming);
                self.ack(now, session, message, Some(ticket));
            }
            Verdict::News => {
                self.requests.succeeded(&RequestKey::Object(incoming.name.clone()));
                let ticket = self.write_object(now, resource, &incoming);
                self.meta.keep(&incoming, ticket);
                self.disk.hold(ticket, Held::Object(resource.clone(), Box::new(incoming)));
                self.ack(now, session, message, Some(ticket));
                if self.disk.trouble.is_some() {
                    self.end_without_disk(now);
                }
            }
        }
    }

    /// Pods of other nodes, and ConfigMaps nobody here refers to: acknowledged
    /// and not kept, for they can be asked for.
    fn is_of_no_use(&self, resource: &Resource, incoming: &Incoming) -> bool {
        match resource.kind.as_str() {
            kind::POD => {
                let pod: Value = serde_json::from_str(&incoming.json).unwrap_or_default();
                pod["spec"]["nodeName"].as_str().is_some_and(|node| node != self.settings.node.name)
            }
            kind::CONFIG_MAP | kind::SECRET => !self.meta.has(&incoming.name) && !self.pods.iter().any(|worker| worker.needs.names.contains(&incoming.name)),
            _ => false,
        }
    }

    /// An object takes effect: it is on disk, or nothing but stopping follows.
    fn takes_effect(&mut self, now: Now, resource: &Resource, incoming: &Incoming) {
        match resource.kind.as_str() {
            kind::POD => match kube::read::<Pod>(&incoming.json) {
                Ok(pod) => {
                    self.replace_older(resource, &pod);
                    self.pods.want(now, Rc::new(pod));
                    self.show(now, resource, incoming);
                }
                Err(why) => self.malformed(now, resource, incoming, &why),
            },
            kind::NODE => self.show(now, resource, incoming),
            kind::CONFIG_MAP | kind::SECRET => self.pods.stir(),
            // Twins know of it; see `device_object`.
            kind::DEVICE | kind::DEVICE_MODEL => self.mappers.stir(),
            _ => {}
        }
    }

    /// Another pod of the same name is gone from the cluster.
    fn replace_older(&mut self, resource: &Resource, pod: &Pod) {
        let older: Vec<PodUid> = self
            .pods
            .iter()
            .filter(|worker| {
                worker.key.namespace == resource.namespace
                    && worker.key.name == resource.name
                    && worker.uid.as_str() != pod.metadata.uid
                    && worker.pod.is_some()
            })
            .map(|worker| worker.uid.clone())
            .collect();
        for uid in older {
            self.pods.unwant(&uid);
            self.pod_rows_gone(&uid).into_iter().for_each(|change| self.disk.remove_lazily(change.key));
        }
    }

    /// A pod that cannot be read is refused in its status, by the field's name.
    fn malformed(&mut self, now: Now, resource: &Resource, incoming: &Incoming, why: &kube::Malformed) {
        log::warn!(target: "metamanager", "pod '{resource}' is refused: {why}");
        self.count("refused_objects");
        if let Ok(object) = kube::read::<kube::Object>(&incoming.json) {
            self.pods.want_malformed(now, object.metadata, why);
        }
    }

    /// What the cluster shows of an object that is known.
    fn show(&mut self, now: Now, resource: &Resource, incoming: &Incoming) {
        match resource.kind.as_str() {
            kind::POD => {
                let uid = PodUid::from(incoming.uid.as_str());
                let reporting = self.link.under_way(|purpose| matches!(purpose, Purpose::PodStatus { uid: other, .. } if *other == uid)) > 0;
                self.pods.show_status(&uid, &incoming.status);
                if self.pods.get_mut(&uid).filter(|_| !reporting).is_some_and(|worker| reports::contradicted(worker, &incoming.status)) {
                    // Whoever writes it may write it again.
                    self.requests.later(now, RequestKey::PodStatus(uid), &mut self.chance);
                }
            }
            kind::NODE if resource.name == self.settings.node.name => {
                if let Ok(node) = kube::read::<NodeObject>(&incoming.json) {
                    self.presence.seen(&node);
                    self.presence_due = true;
                }
            }
            _ => {}
        }
    }

    fn object_went(&mut self, now: Now, session: Session, message: &Message, resource: &Resource) {
        let deleted = Incoming::read(resource, message.content.get());
        let (uid, version) = deleted.map(|deleted| (deleted.uid, deleted.version)).unwrap_or_default();
        self.forget_object(now, resource, &uid, version);
        // A repeat waits for the same batch. Where a new object of the name replaced this
        // one, the old row is on disk until the new one is.
        let name = resource.to_string();
        let ticket = self.meta.pending_delete(&name).or_else(|| self.meta.pending_write(&name, self.disk.done()));
        self.ack(now, session, message, ticket);
    }

    /// The cluster has an object no more; whatever has its name, without a uid.
    /// Its version is 0 where it is not known.
    pub(super) fn forget_object(&mut self, now: Now, resource: &Resource, uid: &str, version: u64) {
        let mut changes = self.meta.drop(&resource.to_string(), uid).unwrap_or_default();
        if resource.kind == kind::POD {
            let gone: Vec<PodUid> = self
                .pods
                .iter()
                .filter(|worker| {
                    if uid.is_empty() { worker.key.namespace == resource.namespace && worker.key.name == resource.name } else { worker.uid.as_str() == uid }
                })
                .map(|worker| worker.uid.clone())
                .collect();
            for uid in &gone {
                changes.extend(self.pod_rows_gone(uid));
                self.pods.unwant(uid);
            }
        }
        if matches!(resource.kind.as_str(), kind::CONFIG_MAP | kind::SECRET) {
            self.pods.stir();
        }
        let is_device = matches!(resource.kind.as_str(), kind::DEVICE | kind::DEVICE_MODEL);
        if is_device {
            self.device_object_gone(now, resource);
        }
        if !changes.is_empty() {
            let ticket = if is_device { self.disk.join(changes) } else { self.disk.put(changes) };
            self.meta.deleted(resource.to_string(), uid.to_owned(), version, ticket);
        }
    }

    /// An answer to a request of ours.
    fn answered(&mut self, now: Now, session: Session, message: &Message, purpose: Purpose) {
        let content = message.content.get();
        let key = purpose.key();
        self.presence_due |= purpose.is_of_node();
        let mut news = News::None;
        match purpose {
            Purpose::Object(name) => match Resource::parse(&name) {
                Some(resource) => return self.object_answered(now, session, message, &resource),
                None => self.count("ignored_messages"),
            },
            Purpose::Token(request) => self.token_came(now, &request, content),
            Purpose::NodeQuery => {
                let answer = response::read_object(content, &Resource::new(CLUSTER, kind::NODE, &self.settings.node.name));
                let health = self.health();
                news = self.presence.queried(now, answer, &self.facts, &health, &mut self.link, &mut self.chance);
            }
            Purpose::NodeInsert => self.presence.inserted(now, response::read(content), &mut self.chance),
            Purpose::NodeLabels => {}
            Purpose::NodeStatus { sent } => {
                let answer = response::read_object(content, &Resource::new(CLUSTER, kind::NODE, &self.settings.node.name));
                news = self.presence.reported(now, sent, answer, &mut self.chance);
            }
            Purpose::LeaseQuery | Purpose::LeaseInsert | Purpose::LeaseUpdate => {
                self.presence.leased(now, &purpose, response::read(content), &mut self.link, &mut self.chance);
            }
            Purpose::PodStatus { uid, sent, ended } => self.pod_reported(now, uid, sent, ended, content),
            Purpose::Orphan(uid) => return self.orphan_answered(now, session, message, &uid, response::read(content)),
            Purpose::DeviceReport(sent) => match response::read(content) {
                Ok(_) => self.report_confirmed(now, &sent),
                Err(_) => self.twins.report_failed(now, &sent),
            },
            Purpose::DeviceModel(name) => return self.model_answered(now, session, message, &name),
            Purpose::Proof(number) => self.uploads_proved(number),
            Purpose::App { id, .. } => self.service.reply(id, servicebus::Reply::answered(&message.content)),
            Purpose::PodList => return self.pods_listed(now, session, message),
            Purpose::PodDelete(_) => {
                if let (Some(key), Err(error)) = (key.clone(), response::read(content)) {
                    self.request_failed(now, key, error);
                } else if let Some(key) = key {
                    // The object goes by a message of its own, or stays for somebody's finalizer.
                    self.requests.later(now, key, &mut self.chance);
                }
            }
        }
        match news {
            News::Registered { uid, is_new } => {
                if is_new {
                    self.disk.join(vec![Change::set(Key::Registration, Row::Registration(uid))]);
                }
                log::info!(target: "edgehub", "node '{}' is registered", self.settings.node.name);
                self.recall_pending();
            }
            News::Deleted => self.stay_away(now),
            News::None | News::Mute => {}
        }
        self.ack(now, session, message, None);
    }

    /// A ticket is on disk: what it held is free.
    pub(super) fn stored(&mut self, now: Now, ticket: Ticket) {
        self.meta.settled(ticket);
        for held in self.disk.stored(ticket) {
            match held {
                Held::Ack(session, ack) => self.link.ack(session, *ack),
                Held::Object(resource, incoming) => self.takes_effect(now, &resource, &incoming),
                Held::Reply(reply) => {
                    self.held_bytes -= reply.bytes();
                    self.reply(reply);
                }
                Held::Mapper(call, reply) => self.mappers.answer(call, Ok(reply)),
            }
        }
    }

    /// While the disk takes nothing, acks and starts wait and ends do not.
    pub(super) fn store_health(&mut self, now: Now, health: Result<(), String>) {
        match (&health, &self.disk.trouble) {
            (Err(why), None) => log::error!(target: "metamanager", "nothing can be stored: {why}"),
            (Ok(()), Some(_)) => log::info!(target: "metamanager", "the disk takes batches again"),
            (Err(_), Some(_)) | (Ok(()), None) => {}
        }
        self.disk.trouble = health.err();
        if self.disk.trouble.is_some() {
            self.end_without_disk(now);
        } else {
            self.disk.flush();
        }
    }

    fn end_without_disk(&mut self, now: Now) {
        let ends = |held: &Held| match held {
            Held::Object(resource, incoming) => resource.kind == kind::POD && incoming.is_terminating(),
            Held::Mapper(..) => true,
            Held::Ack(..) | Held::Reply(_) => false,
        };
        for held in self.disk.release(ends) {
            match held {
                Held::Object(resource, incoming) => self.takes_effect(now, &resource, &incoming),
                Held::Mapper(call, reply) => self.mappers.answer(call, Ok(reply)),
                Held::Ack(session, ack) => self.link.ack(session, *ack),
                Held::Reply(reply) => self.reply(reply),
            }
        }
    }
}
