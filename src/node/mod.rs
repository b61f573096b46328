//! All decisions of the agent, as one value without clock, socket, task or
//! await. Every fact enters it once, by [`Node::handle`]; every effect leaves it
//! once, by the `poll_*` of the shell it is for.
//!
//! | verb | meaning |
//! |---|---|
//! | [`Node::handle`] | something happened; never fails, never blocks |
//! | `poll_store`, `poll_cloud`, `poll_runtime`, `poll_bus`, `poll_service`, `poll_dmi`, `poll_answer` | the next thing for that shell, asked only while it has room |
//! | [`Node::deadline`] | when and why to come back |
//! | [`Node::on_deadline`] | that instant came; early or twice does no harm |
//! | [`Node::is_drained`] | after `Stop`: nothing left to say |
//!
//! This file only routes. A machine never knows another: what one needs of
//! another is passed to it as an argument.

mod allocatable;
mod answers;
mod apps;
pub mod backoff;
pub mod bus;
pub mod chance;
mod cluster;
mod device_answers;
mod devices;
mod disk;
pub mod dmi;
mod events;
mod evict;
mod facts;
pub mod ids;
mod images;
pub mod input;
pub mod link;
pub mod machine;
mod mapper_calls;
pub mod mappers;
mod meta;
mod nodestatus;
pub mod now;
mod orphans;
mod outbox;
mod packed;
pub mod pod;
mod pod_rows;
pub mod presence;
mod pressure;
mod purpose;
mod queries;
mod reports;
mod requests;
mod response;
mod round;
pub mod runtime;
mod runtime_health;
pub mod service;
mod session;
mod sources;
mod spool;
pub mod store;
mod subscriptions;
pub mod twin;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use chance::Chance;
use device_answers::Watchers;
use disk::Disk;
use events::Events;
use ids::{AskId, Ticket};
use images::Images;
use input::{Ask, Input};
use link::Link;
use machine::Facts;
use mappers::Mappers;
use meta::Meta;
use now::{Mono, Now};
use outbox::Outbox;
use pod::Pods;
use presence::Presence;
use purpose::Purpose;
use requests::Requests;
use runtime_health::RuntimeHealth;
use service::Service;
use spool::Spool;
use store::{Batch, Key, Rows};
use subscriptions::Subscriptions;
use twin::Twins;

use crate::config::Config;

/// What the disk held at the start.
#[derive(Debug, Default)]
pub struct Restored {
    /// All rows.
    pub rows: Rows,
    /// The last ticket on disk.
    pub last: Ticket,
    /// Why an earlier store is gone, if it is.
    pub lost: Option<String>,
}

/// All decisions.
#[derive(Debug)]
pub struct Node {
    settings: Config,
    chance: Chance,
    link: Link<Purpose>,
    requests: Requests,
    presence: Presence,
    meta: Meta,
    disk: Disk<cluster::Held>,
    pods: Pods,
    runtime: RuntimeHealth,
    images: Images,
    events: Events,
    mappers: Mappers,
    facts: Facts,
    facts_known: bool,
    gauge: pressure::Gauge,
    eviction: evict::Eviction,
    /// Why the store is not to be trusted, until the cloud has told.
    lost: Option<String>,
    /// The cloud is still to be asked for all pods of this node.
    recall: orphans::Recall,
    /// The store was never written, and the runtime not seen yet.
    fresh: bool,
    twins: Twins,
    spool: Spool,
    outbox: Outbox,
    /// Bytes of answers that wait for the disk.
    held_bytes: usize,
    bus_is_up: bool,
    subscriptions: Subscriptions,
    watchers: Watchers,
    service: Service,
    answers: VecDeque<(AskId, Value)>,
    counters: BTreeMap<&'static str, u64>,
    /// Something happened that the Node object may have to tell.
    presence_due: bool,
    stopping: bool,
}

impl Node {
    /// A node that continues from its disk; `seed` is all the chance it gets.
    pub fn new(settings: Config, restored: Restored, seed: u64, now: Now) -> Self {
        let fresh = restored.rows.is_empty() && restored.lost.is_none();
        let mut rows = restored.rows;
        let registered = rows.registration.take();
        let known_lost = rows.store_lost.take();
        let newly_lost = restored.lost;
        let mappers = Mappers::load(settings.dmi.rate, std::mem::take(&mut rows.mappers));
        let mut chance = Chance::new(seed);
        let twins = Twins::load(&settings, Chance::new(chance.draw()), &mut rows);
        let spool = Spool::load(settings.devicetwin.spool_size, settings.devicetwin.spool_age, std::mem::take(&mut rows.uploads));
        let events = Events::load(settings.edged.events, &settings.node.name, std::mem::take(&mut rows.events));
        let subscriptions = Subscriptions::load(std::mem::take(&mut rows.subscriptions));
        let service = Service::load(settings.servicebus.enabled, std::mem::take(&mut rows.targets));
        let pod_records = std::mem::take(&mut rows.pod_records);
        let mut meta = Meta::load(&mut rows);
        let mut disk = Disk::new(restored.last);
        cluster::prune(&mut meta, &mut disk);
        let labels = cluster::node_labels(&meta, &settings.node.name);
        let mut node = Self {
            chance,
            link: Link::new(settings.edgehub.heartbeat, now),
            requests: Requests::default(),
            presence: Presence::new(settings.node.clone(), registered, labels),
            meta,
            disk,
            pods: Pods::default(),
            runtime: RuntimeHealth::default(),
            images: Images::default(),
            events,
            mappers,
            facts: Facts::default(),
            facts_known: false,
            gauge: pressure::Gauge::default(),
            eviction: evict::Eviction::default(),
            recall: orphans::Recall::all_if(known_lost.is_some()),
            lost: known_lost,
            fresh,
            twins,
            spool,
            outbox: Outbox::default(),
            held_bytes: 0,
            bus_is_up: false,
            subscriptions,
            watchers: Watchers::default(),
            service,
            answers: VecDeque::new(),
            counters: BTreeMap::new(),
            presence_due: true,
            stopping: false,
            settings,
        };
        if let Some(why) = newly_lost {
            node.distrust(why);
        }
        node.pods.recall(pod_records);
        cluster::want_all(&node.meta, &mut node.pods, now);
        node.pods.drop_unclaimed().for_each(|uid| node.disk.remove_lazily(Key::PodRecord(uid)));
        node.know_devices(now);
        node.work(now);
        node
    }

    /// Something happened.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.twins.set_room(self.room());
        self.presence_due |= round::concerns_node(&input);
        match input {
            Input::Stored(ticket) => self.stored(now, ticket),
            Input::StoreHealth(health) => self.store_health(now, health),
            Input::LinkUp(session) => self.link_up(now, session),
            Input::LinkDown { session, end } => self.link_down(now, session, end),
            Input::Received(session, message) => self.received(now, session, &message),
            Input::Garbled(_, why) => {
                log::debug!(target: "edgehub", "something that is no message was ignored: {why}");
                self.count("garbled_messages");
            }
            Input::RuntimeUp(info) => self.runtime.up(info),
            Input::RuntimeDown(why) => {
                self.runtime.down(why);
                self.pods.runtime_down();
                self.eviction.not_measured();
            }
            Input::Relisted(pods) => {
                let fresh = std::mem::take(&mut self.fresh);
                self.meet_strangers(fresh, pods.len());
                self.pods.relisted(now, pods);
            }
            Input::Directories(pods) => self.pods.have_directories(pods),
            Input::Seen(seen) => {
                self.pods.seen(now, seen);
                return self.work_on_pods(now);
            }
            Input::Images(images) => self.images.listed(now.mono, images),
            Input::Done { op, pod, result, seen } => {
                self.pods.done(now, op, &pod, result, seen);
                return self.work_on_pods(now);
            }
            Input::Probed { pod, container, kind, result } => {
                self.pods.probed(now, &pod, &container, kind, &result);
                return self.work_on_pods(now);
            }
            Input::BusUp { kept } => self.bus_up(kept),
            Input::BusDown(why) => self.bus_down(&why),
            Input::Published(publication) => {
                log::debug!(target: "eventbus", "received '{}', {} bytes", publication.topic.escape_debug(), publication.payload.len());
                // Nothing but devices and users' messages can follow from it.
                self.published(now, publication);
                return self.tell_of_devices(now);
            }
            Input::ServiceAsked { id, question } => self.app_asks(now, id, question),
            Input::ServiceAnswered { id, called } => self.app_answered(now, id, called),
            Input::MapperAsked(call, ask) => {
                // Nothing but devices can follow from it.
                self.mapper_asked(now, call, ask);
                return self.tell_of_devices(now);
            }
            Input::MapperAnswered(call, result) => self.mappers.answered(now, call, result, &mut self.chance),
            Input::Facts(facts) => {
                self.learn(now, *facts);
                self.collect_images(now);
                self.look_for_room();
            }
            Input::Usage(usage) => self.make_room(now, &usage),
            Input::Asked(id, ask) => self.asked(now, id, &ask),
            Input::Stop => {
                self.stopping = true;
                self.disk.flush();
            }
        }
        self.work(now);
    }

    /// The instant of [`Node::deadline`] came.
    pub fn on_deadline(&mut self, now: Now) {
        let is_due = |deadline: Option<(Mono, _)>| deadline.is_some_and(|(at, _)| at <= now.mono);
        if is_due(self.pods.deadline()) && !is_due(self.deadline_but_of_pods()) {
            self.work_on_pods(now);
        } else {
            self.work(now);
        }
    }

    /// When and why to come back.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        [self.deadline_but_of_pods(), self.pods.deadline()].into_iter().flatten().min()
    }

    fn deadline_but_of_pods(&self) -> Option<(Mono, &'static str)> {
        let session = self.link.session();
        let asks = self.requests.deadline().filter(|_| self.presence.is_registered());
        let up = session.and_then(|_| [self.presence.deadline(), asks].into_iter().flatten().min());
        let devices =
            session.filter(|_| self.presence.is_registered()).and_then(|_| [self.twins.deadline(), self.spool.deadline()].into_iter().flatten().min());
        [self.link.deadline(), up, devices, self.mappers.deadline(), self.watchers.deadline()].into_iter().flatten().min()
    }

    /// The next batch for the disk.
    pub fn poll_store(&mut self) -> Option<Batch> {
        self.disk.poll()
    }

    /// The next thing for the link.
    pub fn poll_cloud(&mut self) -> Option<link::Order> {
        self.link.poll()
    }

    /// The next thing for the runtime.
    pub fn poll_runtime(&mut self) -> Option<runtime::Order> {
        self.pods.poll().filter(|_| !self.stopping)
    }

    /// The next thing for the broker.
    pub fn poll_bus(&mut self, now: Now) -> Option<bus::Order> {
        self.next_order(now)
    }

    /// The next thing for apps.
    pub fn poll_service(&mut self) -> Option<service::Order> {
        self.service.poll().filter(|_| !self.stopping)
    }

    /// The next thing for mappers.
    pub fn poll_dmi(&mut self) -> Option<dmi::Order> {
        self.mappers.poll()
    }

    /// The next answer for somebody who asked.
    pub fn poll_answer(&mut self) -> Option<(AskId, Value)> {
        self.answers.pop_front()
    }

    /// After `Stop`: nothing left to say.
    pub fn is_drained(&self) -> bool {
        self.stopping && self.disk.is_drained() && (self.link.session().is_none() || self.link.is_drained())
    }

    fn asked(&mut self, now: Now, id: AskId, ask: &Ask) {
        let answer = match ask {
            Ask::WatchDevice { device, seen } => return self.watch_device(now, id, device, *seen),
            Ask::SetTwin { device, property, value } => self.wish_at_the_edge(now, device, property, value),
            Ask::Status | Ask::Get { .. } | Ask::DescribePod { .. } | Ask::DescribeDevice { .. } | Ask::LogOf { .. } => answers::answer(self, ask, now),
        };
        self.answers.push_back((id, answer));
    }

    fn count(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }
}

/// How long a question about an object waits for its answer.
const OBJECT_LIMIT: Duration = Duration::from_secs(10);
