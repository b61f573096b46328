//! Pods that only the runtime knows, while the store cannot be trusted: it was
//! lost, or it is new and the runtime is not empty (another agent ran here). The
//! cloud is asked about each; until it has answered, none is touched.
//!
//! CloudCore has no query for a pod (`cloud/pkg/edgecontroller/controller/upstream.go`),
//! but the answer to a status patch, even to an empty one, holds the whole pod.
//!
//! Pods that do not run here at that moment are known to nobody on this node;
//! they are listed by the API server, if CloudCore passes that on. A store that
//! is just new asks too: the node may have had another one before.
//!
//! CloudCore itself loses pods: one that was created and deleted while CloudCore
//! was away is never sent, for its delete is queued before the node is connected
//! and dropped when it is (`cloud/pkg/cloudhub/dispatcher`), and stays
//! Terminating. No node has ever reported of it, so with each session the pods of
//! this node that are Pending are listed, a few at most. In the other direction,
//! each pod's status is reported with each session: a pod that the API server
//! does not know has ended. A list that is short or empty ends nothing.

use serde_json::Value;

use super::Node;
use super::ids::{PodUid, Session};
use super::link::message;
use super::now::Now;
use super::pod::worker::Worker;
use super::purpose::Purpose;
use super::requests::RequestKey;
use super::response::Refused;
use super::store::{Change, Key, Row};
use crate::wire::application::{Application, DYNAMIC_CONTROLLER, METASERVER, UNTOLD};
use crate::wire::message::{EDGED, META, Message, operation, raw, string};
use crate::wire::resource::{Resource, kind};

/// Pods the cloud is still to be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Recall {
    /// No pods.
    #[default]
    Nothing,
    /// Those that nobody has reported of.
    Pending,
    /// All of this node.
    All,
}

impl Recall {
    /// From what is recalled after a store that was lost or is new.
    pub fn all_if(needed: bool) -> Self {
        if needed { Self::All } else { Self::Nothing }
    }

    fn field_selector(self, node: &str) -> String {
        match self {
            Self::Nothing | Self::All => format!("spec.nodeName={node}"),
            Self::Pending => format!("spec.nodeName={node},status.phase=Pending"),
        }
    }
}

fn is_orphan(worker: &&Worker) -> bool {
    worker.pod.is_none() && !worker.disowned
}

impl Node {
    /// The first look at the runtime of a store that was never written.
    pub(super) fn meet_strangers(&mut self, fresh: bool, pods: usize) {
        self.recall = self.recall.max(Recall::all_if(fresh));
        if fresh && pods > 0 && self.lost.is_none() {
            self.distrust(format!("the store is new and the runtime has {pods} pods of another agent"));
        }
    }

    /// From now on, also after a restart, orphans are asked about.
    pub(super) fn distrust(&mut self, why: String) {
        log::warn!(target: "metamanager", "{why}: the cloud is asked about pods before any is touched");
        self.disk.put(vec![Change::set(Key::StoreLost, Row::StoreLost(why.clone()))]);
        self.lost = Some(why);
        self.recall = Recall::All;
    }

    /// A session began: what did CloudCore not tell?
    pub(super) fn recall_pending(&mut self) {
        self.recall = self.recall.max(Recall::Pending);
    }

    /// Asks about orphans, then for all pods, and ends the distrust.
    pub(super) fn recall_pods(&mut self, now: Now) {
        if self.lost.is_none() && self.recall == Recall::Nothing || !self.pods.is_listed() || self.ask_about_orphans(now) {
            return;
        }
        if self.recall > Recall::Nothing {
            return self.ask_for_pods(now);
        }
        if self.lost.take().is_some() {
            self.presence_due = true;
            log::info!(target: "metamanager", "the cloud told of all pods that are here");
            self.disk.put(vec![Change::remove(Key::StoreLost)]);
        }
    }

    /// Asks about orphans; whether there are any.
    fn ask_about_orphans(&mut self, now: Now) -> bool {
        if self.lost.is_none() {
            return false;
        }
        let orphans: Vec<(PodUid, Resource)> = self
            .pods
            .iter()
            .filter(is_orphan)
            .map(|worker| (worker.uid.clone(), Resource::new(&worker.key.namespace, kind::POD_PATCH, &worker.key.name)))
            .collect();
        for (uid, resource) in &orphans {
            self.query_pod(now, uid, resource);
        }
        !orphans.is_empty()
    }

    /// Asks the cloud for the pod of a name, to compare its uid.
    pub(super) fn query_pod(&mut self, now: Now, uid: &PodUid, pod: &Resource) {
        let may_ask = self.requests.may_ask(&RequestKey::Orphan(uid.clone()), now.mono);
        if !may_ask || self.link.under_way(|purpose| matches!(purpose, Purpose::Orphan(other) if other == uid)) > 0 {
            return;
        }
        let resource = Resource::new(&pod.namespace, kind::POD_PATCH, &pod.name);
        let question = message(now, &mut self.chance, EDGED, META, operation::PATCH, resource.to_string(), string("{}"));
        self.link.request(now, question, Purpose::Orphan(uid.clone()), super::OBJECT_LIMIT, false);
    }

    /// The cloud knows the pod, or it does not.
    pub(super) fn orphan_answered(&mut self, now: Now, session: Session, message: &Message, uid: &PodUid, answer: Result<Value, Refused>) {
        let found = |pod: &Value| pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        match answer {
            Ok(pod) if found(&pod) == uid.as_str() => self.pod_told(now, session, message, &pod),
            Ok(pod) if found(&pod).is_empty() => {
                self.request_failed(now, RequestKey::Orphan(uid.clone()), Refused::unusable("the answer is not a pod"));
            }
            Ok(_) => self.pod_is_gone(now, uid),
            Err(error) if error.is_not_found() => self.pod_is_gone(now, uid),
            Err(error) => self.request_failed(now, RequestKey::Orphan(uid.clone()), error),
        }
    }

    /// The API server has no pod of this name, or another one.
    fn pod_is_gone(&mut self, now: Now, uid: &PodUid) {
        let Some(worker) = self.pods.get_mut(uid) else { return };
        worker.disowned = true;
        worker.dirty = true;
        if worker.pod.is_some() {
            let resource = Resource::new(&worker.key.namespace, kind::POD, &worker.key.name);
            log::info!(target: "metamanager", "pod '{resource}' of uid '{uid}' is gone from the cluster");
            self.forget_object(now, &resource, uid.as_str(), 0);
        }
    }

    /// Pods that do not run here at the moment are told only this way.
    fn ask_for_pods(&mut self, now: Now) {
        if self.link.under_way(|purpose| *purpose == Purpose::PodList) > 0 || !self.requests.may_ask(&RequestKey::PodList, now.mono) {
            return;
        }
        let node = &self.settings.node.name;
        let list = Application::list(self.chance.uuid(), node, "pods", &self.recall.field_selector(node));
        let question = message(now, &mut self.chance, METASERVER, DYNAMIC_CONTROLLER, UNTOLD, UNTOLD.to_owned(), raw(&list));
        self.link.request(now, question, Purpose::PodList, super::OBJECT_LIMIT, false);
    }

    /// The cloud told of all pods of this node, or why not.
    pub(super) fn pods_listed(&mut self, now: Now, session: Session, message: &Message) {
        let answer = serde_json::from_str::<Application>(message.content.get()).map_err(|why| why.to_string());
        match answer.and_then(|answer| answer.items()) {
            Ok(pods) => {
                let recalled = std::mem::take(&mut self.recall);
                self.requests.succeeded(&RequestKey::PodList);
                let level = if recalled == Recall::All { log::Level::Info } else { log::Level::Debug };
                log::log!(target: "metamanager", level, "the cloud lists {} pods of this node", pods.len());
                for pod in &pods {
                    if !self.is_known(pod) {
                        self.pod_told(now, session, message, pod);
                    }
                }
            }
            Err(why) if self.recall == Recall::Pending => self.request_failed(now, RequestKey::PodList, Refused::unusable(why)),
            Err(why) => self.pods_not_listed(&why),
        }
    }

    /// Those that run here are known all the same.
    pub(super) fn pods_not_listed(&mut self, why: &str) {
        if std::mem::take(&mut self.recall) == Recall::Pending {
            log::debug!(target: "metamanager", "the cloud does not list the pods of this node: {why}");
            return;
        }
        // Some of them may be wanted. What is left over goes after the next start.
        self.pods.have_directories(Vec::new());
        // A node that is new misses nothing, and this store may be its first.
        let level = if self.lost.is_some() { log::Level::Warn } else { log::Level::Debug };
        log::log!(target: "metamanager", level, "the cloud does not list the pods of this node: {why}. Those that did not run here come when they change, or at once after: kubectl annotate pods -A --field-selector spec.nodeName={} migrated=1 --overwrite", self.settings.node.name);
    }

    /// A list may be older than what the cloud has sent meanwhile.
    fn is_known(&self, pod: &Value) -> bool {
        let uid = pod.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        self.pods.get(&PodUid::from(uid)).is_some_and(|worker| worker.pod.is_some())
    }

    /// A pod that the cloud did not send by itself takes the way of those it did.
    fn pod_told(&mut self, now: Now, session: Session, message: &Message, pod: &Value) {
        let name = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
        let resource = Resource::new(name("namespace"), kind::POD, name("name"));
        self.object_came(now, session, message, &resource, raw(pod).get());
    }
}
