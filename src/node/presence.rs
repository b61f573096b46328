//! The Node object and its lease: registered, reported when something changed
//! or is due, renewed. Not the session they travel in.
//!
//! ```text
//!   Absent ──query──> found ───────────────> Registered ──> status, lease
//!                 └─> not found ──insert──┘      │ lease says 404
//!                      (30 s later if it was registered before)
//! ```
//!
//! Source: edge-node.md 1.19, cloud-protocol.md 7.3 and 7.5.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::link::{Link, message};
use super::machine::Facts;
use super::nodestatus::{self, Health};
use super::now::{Mono, Now};
use super::purpose::Purpose;
use crate::config::NodeConfig;
use crate::wire::kube::NodeObject;
use crate::wire::message::{EDGED, META, null, operation, raw, string};
use crate::wire::patch;
use crate::wire::resource::{CLUSTER, LEASES, Resource, kind};
use crate::wire::rfc3339;

const LIMIT: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(10);
const LEASE_SECONDS: u32 = 40;
/// A status that does not change is repeated so often.
const REPORT: Duration = Duration::from_secs(300);
/// Wait before a node that was deleted in the cluster registers anew: its old
/// records there must be gone (cloud-protocol.md 10.27).
const AFTER_DELETION: Duration = Duration::from_secs(30);
/// Unanswered renewals that prove a session dead.
const MUTE: u8 = 2;

/// The node in the cluster.
#[derive(Debug)]
pub struct Presence {
    config: NodeConfig,
    registered_before: bool,
    stage: Stage,
    lease: Option<Value>,
    renew_at: Option<Mono>,
    unanswered: u8,
    reported: Option<Value>,
    /// What leads to no other status than the reported one.
    unchanged: Option<(Facts, Health)>,
    report_at: Option<Mono>,
    reporting: bool,
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
    Registered(String),
    /// The session answers nothing: give it up.
    Mute,
}

impl Presence {
    /// A node that was registered before or not, as the disk says.
    pub fn new(config: NodeConfig, registered_before: bool, labels: BTreeMap<String, String>) -> Self {
        Self {
            config,
            registered_before,
            stage: Stage::Offline,
            lease: None,
            renew_at: None,
            unanswered: 0,
            reported: None,
            unchanged: None,
            report_at: None,
            reporting: false,
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
    pub fn queried(&mut self, now: Now, answer: Result<Value, u16>, facts: &Facts, health: &Health, link: &mut Link<Purpose>, chance: &mut Chance) -> News {
        match answer {
            Ok(object) => self.found(now, &object, link, chance),
            Err(404) if self.registered_before => {
                self.registered_before = false;
                self.stage = Stage::Waiting(now.mono + AFTER_DELETION);
                News::None
            }
            Err(404) => {
                let object = nodestatus::object(&self.config, facts, health, now);
                self.ask(now, link, chance, operation::INSERT, self.node(kind::NODE), raw(&object), Purpose::NodeInsert);
                News::None
            }
            Err(_) => {
                self.stage = Stage::Waiting(now.mono + Duration::from_secs(2));
                News::None
            }
        }
    }

    /// The answer to the creation of the Node object; on a conflict it is there.
    pub fn inserted(&mut self, now: Now, answer: &Result<Value, u16>) {
        match answer {
            // The labels of the edge are set by a second request whose failure
            // the cloud does not tell: look.
            Ok(_) | Err(409) => self.stage = Stage::Waiting(now.mono + Duration::from_millis(50)),
            Err(_) => self.stage = Stage::Waiting(now.mono + Duration::from_secs(2)),
        }
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
        self.report_at = Some(now.mono);
        self.ask(now, link, chance, operation::QUERY, self.lease_name(), null(), Purpose::LeaseQuery);
        News::Registered(node.metadata.uid)
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
    pub fn leased(&mut self, now: Now, answer: Result<Value, u16>, link: &mut Link<Purpose>, chance: &mut Chance) {
        self.unanswered = 0;
        match answer {
            Ok(lease) => {
                let first = self.renew_at.is_none();
                self.lease = Some(lease);
                self.renew_at = Some(if first { now.mono } else { now.mono + RENEW });
            }
            Err(404) => {
                let lease = self.lease_object(now, json!({}));
                self.ask(now, link, chance, operation::INSERT, self.lease_name(), raw(&lease), Purpose::LeaseInsert);
            }
            Err(_) => {
                self.lease = None;
                self.renew_at = Some(now.mono + Duration::from_secs(1));
            }
        }
    }

    fn lease_object(&self, now: Now, mut lease: Value) -> Value {
        let Stage::Registered { uid } = &self.stage else { return lease };
        lease["metadata"]["name"] = self.config.name.as_str().into();
        lease["metadata"]["namespace"] = LEASES.into();
        if lease["metadata"]["ownerReferences"].is_null() {
            lease["metadata"]["ownerReferences"] = json!([{ "apiVersion": "v1", "kind": "Node", "name": self.config.name, "uid": uid }]);
        }
        lease["spec"] = json!({ "holderIdentity": self.config.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": rfc3339::micros(now.wall.0) });
        lease
    }

    /// A request of ours was not answered in time.
    pub fn unanswered(&mut self, now: Now, purpose: &Purpose) -> News {
        match purpose {
            Purpose::LeaseQuery | Purpose::LeaseInsert | Purpose::LeaseUpdate => {
                self.unanswered += 1;
                self.renew_at = Some(now.mono);
                if self.unanswered >= MUTE { News::Mute } else { News::None }
            }
            Purpose::NodeQuery | Purpose::NodeInsert => News::Mute,
            Purpose::NodeStatus { .. } => {
                self.reporting = false;
                self.report_at = Some(now.mono);
                News::None
            }
            Purpose::NodeLabels
            | Purpose::PodStatus { .. }
            | Purpose::Orphan(_)
            | Purpose::PodList
            | Purpose::PodDelete(_)
            | Purpose::Object(_)
            | Purpose::Token(_)
            | Purpose::DeviceReport(_)
            | Purpose::Proof(_)
            | Purpose::App { .. } => News::None,
        }
    }

    /// The answer to a status report.
    pub fn reported(&mut self, now: Now, sent: Value, answer: Result<Value, u16>) {
        self.reporting = false;
        match answer {
            Ok(_) => self.knows(Some(sent)),
            Err(404) => self.stage = Stage::Waiting(now.mono + AFTER_DELETION),
            Err(_) => self.report_at = Some(now.mono + Duration::from_secs(5)),
        }
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
        if self.reporting || self.report_at.is_some_and(|at| at > now.mono) && !self.has_changed(facts, health, now) {
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
