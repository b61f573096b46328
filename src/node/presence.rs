//! The Node object and its lease: registered, reported when something changed
//! or is due, renewed. Not the session they travel in.
//!
//! ```text
//!   Absent ──query──> found ───────────────> Registered ──> status, lease
//!                 └─> not found ──insert──┘      │ lease says 404
//!                      (after 30 s without a session if it was registered before)
//! ```
//!
//! Source: edge-node.md 1.19, cloud-protocol.md 7.3 and 7.5.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::backoff::Backoff;
use super::chance::Chance;
use super::link::{Link, message};
use super::machine::Facts;
use super::nodestatus::{self, Health};
use super::now::{Mono, Now};
use super::purpose::Purpose;
use super::response::{CONFLICT, Refused};
use crate::config::NodeConfig;
use crate::wire::kube::NodeObject;
use crate::wire::message::{EDGED, META, null, operation, raw, string};
use crate::wire::patch;
use crate::wire::resource::{CLUSTER, LEASES, Resource, kind};
use crate::wire::rfc3339;

const LIMIT: Duration = Duration::from_secs(10);
/// First and longest wait after a registration that failed, and between creating
/// the object and reading it: kubelet's (`tryRegisterWithAPIServer`) begins alike.
const REGISTER: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// The same after a lease that could not be renewed; it holds 40 s.
const RENEW_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), RENEW);
/// The same after a status that was not taken.
const REPORT_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: u32 = 40;
/// A status that does not change is repeated so often.
const REPORT: Duration = Duration::from_secs(300);
/// Wait before a node that was deleted in the cluster registers anew: its old
/// records there must be gone. CloudCore deletes them when the object goes, and
/// keeps them for good if there is a new one by then (`cloud/pkg/synccontroller`).
pub const AFTER_DELETION: Duration = Duration::from_secs(30);
/// Unanswered renewals that prove a session dead.
const MUTE: u8 = 2;

/// The node in the cluster.
#[derive(Debug)]
pub struct Presence {
    config: NodeConfig,
    /// Uid of the Node object that was there last.
    registered: Option<String>,
    /// Uid of the one before, that was deleted in the cluster.
    pub deleted: Option<String>,
    /// The node has stayed away since its object was deleted.
    stayed_away: bool,
    stage: Stage,
    register_again: Backoff,
    lease: Option<Map<String, Value>>,
    renew_at: Option<Mono>,
    renew_again: Backoff,
    unanswered: u8,
    reported: Option<Value>,
    /// What leads to no other status than the reported one.
    unchanged: Option<(Facts, Health)>,
    report_at: Option<Mono>,
    report_again: Backoff,
    /// No report before this instant, whatever changed.
    report_not_before: Mono,
    reporting: bool,
    /// What of it failed last, to be told once.
    error: Option<String>,
    /// Labels of the Node object, as last seen.
    pub labels: BTreeMap<String, String>,
    /// When the Node object was made.
    pub created: Option<String>,
}

/// How far the registration is in this session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// No session.
    Offline,
    /// Asked; no answer yet.
    Asking,
    /// Not before this instant.
    Waiting(Mono),
    /// The Node object is there.
    Registered { uid: String },
}

/// What an answer means for the rest of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// The node is known to the cluster: pods may be reported.
    Registered {
        /// Uid of the Node object.
        uid: String,
        /// It is not the one that was known.
        is_new: bool,
    },
    /// The Node object was deleted in the cluster: stay away for a while.
    Deleted,
    /// The session answers nothing: give it up.
    Mute,
}

impl Presence {
    /// A node that was registered before or not, as the disk says.
    pub fn new(config: NodeConfig, registered: Option<String>, labels: BTreeMap<String, String>) -> Self {
        Self {
            config,
            registered,
            deleted: None,
            stayed_away: false,
            stage: Stage::Offline,
            register_again: REGISTER,
            lease: None,
            renew_at: None,
            renew_again: RENEW_AGAIN,
            unanswered: 0,
            reported: None,
            unchanged: None,
            report_at: None,
            report_again: REPORT_AGAIN,
            report_not_before: Mono(0),
            reporting: false,
            error: None,
            labels,
            created: None,
        }
    }

    /// The node is known to the cluster in this session.
    pub fn is_registered(&self) -> bool {
        matches!(self.stage, Stage::Registered { .. })
    }

    /// A session began: ask for the Node object.
    pub fn opened(&mut self, now: Now, link: &mut Link<Purpose>, chance: &mut Chance) {
        self.unanswered = 0;
        self.query(now, link, chance);
    }

    /// The session ended.
    pub fn closed(&mut self) {
        self.stage = Stage::Offline;
        self.renew_at = None;
        self.knows(None);
        self.report_at = None;
        self.report_not_before = Mono(0);
        self.reporting = false;
    }

    fn query(&mut self, now: Now, link: &mut Link<Purpose>, chance: &mut Chance) {
        self.stage = Stage::Asking;
        self.ask(now, link, chance, operation::QUERY, self.node(kind::NODE), null(), Purpose::NodeQuery);
    }

    fn node(&self, of: &str) -> Resource {
        Resource::new(CLUSTER, of, &self.config.name)
    }

    #[expect(clippy::too_many_arguments, reason = "one line per request instead of a type used once")]
    fn ask(
        &self,
        now: Now,
        link: &mut Link<Purpose>,
        chance: &mut Chance,
        verb: &str,
        resource: Resource,
        content: Box<serde_json::value::RawValue>,
        purpose: Purpose,
    ) {
        let message = message(now, chance, EDGED, META, verb, resource.to_string(), content);
        link.request(now, message, purpose, LIMIT, true);
    }

    /// The answer to a query of the Node object.
    pub fn queried(&mut self, now: Now, answer: Result<Value, Refused>, facts: &Facts, health: &Health, link: &mut Link<Purpose>, chance: &mut Chance) -> News {
        match answer {
            Ok(object) => self.found(now, &object, link, chance),
            Err(error) if error.is_not_found() && self.registered.is_some() && !self.stayed_away => self.stay_away(),
            Err(error) if error.is_not_found() => {
                let object = nodestatus::object(&self.config, facts, health, now);
                self.ask(now, link, chance, operation::INSERT, self.node(kind::NODE), raw(&object), Purpose::NodeInsert);
                News::None
            }
            Err(error) => {
                self.register_later(now, Some(&error), chance);
                News::None
            }
        }
    }

    fn stay_away(&mut self) -> News {
        self.stage = Stage::Offline;
        self.stayed_away = true;
        News::Deleted
    }

    fn register_later(&mut self, now: Now, error: Option<&Refused>, chance: &mut Chance) {
        if let Some(error) = error {
            self.tell("the node object", error);
        }
        self.stage = Stage::Waiting(now.mono + self.register_again.half_jitter(chance.luck()));
    }

    /// Logs an error, unless it is the one that was logged last.
    fn tell(&mut self, what: &str, error: &Refused) {
        let text = format!("{what} of '{}': {error}; it is repeated with increasing delays", self.config.name);
        if self.error.as_ref() != Some(&text) {
            log::warn!(target: "edgehub", "{text}");
            self.error = Some(text);
        }
    }

    /// The answer to the creation of the Node object; on a conflict it is there.
    pub fn inserted(&mut self, now: Now, answer: Result<Value, Refused>, chance: &mut Chance) {
        // The labels of the edge are set by a second request whose failure the
        // cloud does not tell: look.
        let error = answer.err().filter(|error| error.code != CONFLICT);
        self.register_later(now, error.as_ref(), chance);
    }

    fn found(&mut self, now: Now, object: &Value, link: &mut Link<Purpose>, chance: &mut Chance) -> News {
        let node: NodeObject = crate::wire::kube::from_value(object.clone()).unwrap_or_default();
        self.seen(&node);
        let wanted = nodestatus::labels(&self.config, "");
        let missing = wanted.iter().any(|(key, _)| key.contains("node-role") && !node.metadata.labels.contains_key(key));
        if missing {
            let labels = json!({ "metadata": { "name": self.config.name, "labels": wanted, "annotations": self.config.annotations } });
            self.ask(now, link, chance, operation::UPDATE, self.node(kind::NODE), raw(&labels), Purpose::NodeLabels);
        }
        self.knows(object.get("status").cloned());
        self.stage = Stage::Registered { uid: node.metadata.uid.clone() };
        self.register_again.reset();
        self.stayed_away = false;
        let before = self.registered.replace(node.metadata.uid.clone());
        let is_new = before.as_ref() != Some(&node.metadata.uid);
        self.deleted = before.filter(|_| is_new).or_else(|| self.deleted.take());
        self.report_at = Some(now.mono);
        self.ask(now, link, chance, operation::QUERY, self.lease_name(), null(), Purpose::LeaseQuery);
        News::Registered { uid: node.metadata.uid, is_new }
    }

    /// The Node object as the cluster shows it.
    pub fn seen(&mut self, node: &NodeObject) {
        self.labels = node.metadata.labels.clone();
        self.created.clone_from(&node.metadata.creation_timestamp);
    }

    fn lease_name(&self) -> Resource {
        Resource::new(LEASES, kind::LEASE, &self.config.name)
    }

    /// The answer to anything about the lease.
    pub fn leased(&mut self, now: Now, purpose: &Purpose, answer: Result<Value, Refused>, link: &mut Link<Purpose>, chance: &mut Chance) {
        self.unanswered = 0;
        let metadata = answer.and_then(|mut lease| match lease.get_mut("metadata").map(Value::take) {
            Some(Value::Object(metadata)) => Ok(metadata),
            Some(_) | None => Err(Refused::unusable("the answer is not a lease")),
        });
        match metadata {
            Ok(metadata) => {
                self.lease = Some(metadata);
                let read = *purpose == Purpose::LeaseQuery;
                if !read {
                    self.renew_again.reset();
                }
                self.renew_at = Some(if read { now.mono } else { now.mono + RENEW });
            }
            Err(error) if error.is_not_found() && *purpose == Purpose::LeaseQuery => {
                let lease = self.lease_object(now, Map::new());
                self.ask(now, link, chance, operation::INSERT, self.lease_name(), raw(&lease), Purpose::LeaseInsert);
            }
            Err(error) => {
                self.tell("the lease", &error);
                self.lease = None;
                self.renew_at = Some(now.mono + self.renew_again.half_jitter(chance.luck()));
            }
        }
    }

    /// The lease as it shall be; its metadata as they were last read.
    fn lease_object(&self, now: Now, mut metadata: Map<String, Value>) -> Value {
        metadata.insert("name".to_owned(), self.config.name.as_str().into());
        metadata.insert("namespace".to_owned(), LEASES.into());
        if let Stage::Registered { uid } = &self.stage {
            let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": self.config.name, "uid": uid }]);
            metadata.entry("ownerReferences").or_insert(owner);
        }
        let spec = json!({ "holderIdentity": self.config.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": rfc3339::micros(now.wall.0) });
        json!({ "metadata": metadata, "spec": spec })
    }

    /// A request of ours was not answered in time.
    pub fn unanswered(&mut self, now: Now, purpose: &Purpose, chance: &mut Chance) -> News {
        match purpose {
            Purpose::LeaseQuery | Purpose::LeaseInsert | Purpose::LeaseUpdate => {
                self.unanswered += 1;
                self.renew_at = Some(now.mono);
                if self.unanswered >= MUTE { News::Mute } else { News::None }
            }
            Purpose::NodeQuery | Purpose::NodeInsert => News::Mute,
            Purpose::NodeStatus { .. } => {
                self.report_later(now, &Refused::silence(), chance);
                News::None
            }
            Purpose::NodeLabels
            | Purpose::PodStatus { .. }
            | Purpose::Orphan(_)
            | Purpose::PodList
            | Purpose::PodDelete(_)
            | Purpose::Object(_)
            | Purpose::DeviceModel(_)
            | Purpose::Token(_)
            | Purpose::DeviceReport(_)
            | Purpose::Proof(_)
            | Purpose::App { .. } => News::None,
        }
    }

    /// The answer to a status report.
    pub fn reported(&mut self, now: Now, sent: Value, answer: Result<Value, Refused>, chance: &mut Chance) -> News {
        match answer {
            Ok(_) => {
                self.reporting = false;
                self.report_again.reset();
                self.knows(Some(sent));
            }
            Err(error) if error.is_not_found() => return self.stay_away(),
            Err(error) => self.report_later(now, &error, chance),
        }
        News::None
    }

    fn report_later(&mut self, now: Now, error: &Refused, chance: &mut Chance) {
        self.tell("the node status", error);
        self.reporting = false;
        self.report_not_before = now.mono + self.report_again.half_jitter(chance.luck());
        self.report_at = Some(self.report_not_before);
    }

    /// Renews and reports what is due.
    pub fn work(&mut self, now: Now, facts: &Facts, health: &Health, link: &mut Link<Purpose>, chance: &mut Chance) {
        match self.stage {
            Stage::Waiting(at) if at <= now.mono => self.query(now, link, chance),
            Stage::Offline | Stage::Asking | Stage::Waiting(_) => {}
            Stage::Registered { .. } => {
                self.renew(now, link, chance);
                self.report(now, facts, health, link, chance);
            }
        }
    }

    fn renew(&mut self, now: Now, link: &mut Link<Purpose>, chance: &mut Chance) {
        if self.renew_at.is_none_or(|at| at > now.mono) {
            return;
        }
        self.renew_at = Some(now.mono + RENEW + LIMIT);
        match self.lease.clone() {
            Some(lease) => self.ask(now, link, chance, operation::UPDATE, self.lease_name(), raw(&self.lease_object(now, lease)), Purpose::LeaseUpdate),
            None => self.ask(now, link, chance, operation::QUERY, self.lease_name(), null(), Purpose::LeaseQuery),
        }
    }

    fn report(&mut self, now: Now, facts: &Facts, health: &Health, link: &mut Link<Purpose>, chance: &mut Chance) {
        if self.reporting || self.report_not_before > now.mono || self.report_at.is_some_and(|at| at > now.mono) && !self.has_changed(facts, health, now) {
            return;
        }
        let before = self.reported.clone().unwrap_or_default();
        let status = nodestatus::status(&self.config, facts, health, &before, now);
        let mut change = patch::status(&before, &status, &[]).unwrap_or_else(|| json!({}));
        nodestatus::drop_repaired(&before, &status, &mut change);
        self.reporting = true;
        self.report_at = Some(now.mono + REPORT);
        let Stage::Registered { uid } = &self.stage else { return };
        let body = json!({ "metadata": { "uid": uid }, "status": change }).to_string();
        self.ask(now, link, chance, operation::PATCH, self.node(kind::NODE_PATCH), string(&body), Purpose::NodeStatus { sent: status });
    }

    /// The cloud has another status of the node.
    fn knows(&mut self, status: Option<Value>) {
        (self.reported, self.unchanged) = (status, None);
    }

    /// Something other than a heartbeat differs from what was reported. It is
    /// asked after every input, and a status is much to put together.
    fn has_changed(&mut self, facts: &Facts, health: &Health, now: Now) -> bool {
        if self.unchanged.as_ref().is_some_and(|(known, and)| known == facts && and == health) {
            return false;
        }
        let before = self.reported.as_ref().unwrap_or(&Value::Null);
        let differs = nodestatus::differs(before, &nodestatus::status(&self.config, facts, health, before, now));
        self.unchanged = Some((facts.clone(), health.clone())).filter(|_| !differs);
        differs
    }

    /// When to come back.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        match self.stage {
            Stage::Offline | Stage::Asking => None,
            Stage::Waiting(at) => Some((at, "registration")),
            Stage::Registered { .. } => {
                let renew = self.renew_at.map(|at| (at, "lease"));
                let report = self.report_at.filter(|_| !self.reporting).map(|at| (at, "node status"));
                [renew, report].into_iter().flatten().min()
            }
        }
    }
}
