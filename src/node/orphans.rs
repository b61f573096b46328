//! Pods that only the runtime knows, while the store cannot be trusted: it was
//! lost, or it is new and the runtime is not empty (another agent ran here). The
//! cloud is asked about each; until it has answered, none is touched.
//!
//! There is no question for a pod (cloud-protocol.md 7.4), but the answer to a
//! status patch holds the whole pod, and a condition of ours with a fresh time
//! is a patch that surely changes something.
//!
//! Pods that do not run here at that moment are known to nobody on this node;
//! they are listed by the API server, if CloudCore passes that on. A store that
//! is just new asks too: the node may have had another one before.

use serde_json::{Value, json};

use super::Node;
use super::ids::{PodUid, Session};
use super::link::message;
use super::now::Now;
use super::pod::worker::Worker;
use super::purpose::Purpose;
use super::store::{Change, Key, Row};
use crate::wire::application::{Application, DYNAMIC_CONTROLLER, METASERVER, UNTOLD};
use crate::wire::message::{EDGED, META, Message, operation, raw, string};
use crate::wire::resource::{Resource, kind};
use crate::wire::rfc3339;

fn is_orphan(worker: &&Worker) -> bool {
    worker.pod.is_none() && !worker.disowned
}

impl Node {
    /// The first look at the runtime of a store that was never written.
    pub(super) fn meet_strangers(&mut self, fresh: bool, pods: usize) {
        self.recall |= fresh;
        if fresh && pods > 0 && self.lost.is_none() {
            self.distrust(format!("the store is new and the runtime has {pods} pods of another agent"));
        }
    }

    /// From now on, also after a restart, orphans are asked about.
    pub(super) fn distrust(&mut self, why: String) {
        log::warn!(target: "metamanager", "{why}: the cloud is asked about pods before any is touched");
        self.disk.put(vec![Change::set(Key::StoreLost, Row::StoreLost(why.clone()))]);
        self.lost = Some(why);
        self.recall = true;
    }

    /// Asks about orphans, then for all pods, and ends the distrust.
    pub(super) fn recall_pods(&mut self, now: Now) {
        if self.lost.is_none() && !self.recall || !self.pods.is_listed() || self.ask_about_orphans(now) {
            return;
        }
        if self.recall {
            return self.ask_for_all_pods(now);
        }
        if self.lost.take().is_some() {
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
            if self.link.under_way(|purpose| matches!(purpose, Purpose::Orphan(other) if other == uid)) == 0 {
                let condition = json!({ "type": "selvedge.io/Restored", "status": "True", "lastTransitionTime": rfc3339::seconds(now.wall.0) });
                let body = json!({ "metadata": { "uid": uid.as_str() }, "status": { "conditions": [condition] } }).to_string();
                let question = message(now, &mut self.chance, EDGED, META, operation::PATCH, resource.to_string(), string(&body));
                self.link.request(now, question, Purpose::Orphan(uid.clone()), super::OBJECT_LIMIT, false);
            }
        }
        !orphans.is_empty()
    }

    /// The cloud knows the pod, or it does not.
    pub(super) fn orphan_answered(&mut self, now: Now, session: Session, message: &Message, uid: &PodUid, answer: Result<Value, u16>) {
        match answer {
            Ok(pod) if pod["metadata"]["uid"] == uid.as_str() => self.pod_told(now, session, message, &pod),
            Ok(_) | Err(404 | 409) => {
                if let Some(worker) = self.pods.get_mut(uid) {
                    worker.disowned = true;
                    worker.dirty = true;
                }
            }
            Err(_) => {}
        }
    }

    /// Pods that do not run here at the moment are told only this way.
    fn ask_for_all_pods(&mut self, now: Now) {
        if self.link.under_way(|purpose| *purpose == Purpose::PodList) > 0 {
            return;
        }
        let node = &self.settings.node.name;
        let list = Application::list(self.chance.uuid(), node, "pods", &format!("spec.nodeName={node}"));
        let question = message(now, &mut self.chance, METASERVER, DYNAMIC_CONTROLLER, UNTOLD, UNTOLD.to_owned(), raw(&list));
        self.link.request(now, question, Purpose::PodList, super::OBJECT_LIMIT, false);
    }

    /// The cloud told of all pods of this node, or why not.
    pub(super) fn pods_listed(&mut self, now: Now, session: Session, message: &Message) {
        let answer = serde_json::from_str::<Application>(message.content.get()).map_err(|why| why.to_string());
        match answer.and_then(|answer| answer.items()) {
            Ok(pods) => {
                self.recall = false;
                log::info!(target: "metamanager", "the cloud told of {} pods of this node", pods.len());
                pods.iter().for_each(|pod| self.pod_told(now, session, message, pod));
            }
            Err(why) => self.pods_not_listed(&why),
        }
    }

    /// Those that run here are known all the same.
    pub(super) fn pods_not_listed(&mut self, why: &str) {
        self.recall = false;
        // Some of them may be wanted. What is left over goes after the next start.
        self.pods.have_directories(Vec::new());
        // A node that is new misses nothing, and this store may be its first.
        let level = if self.lost.is_some() { log::Level::Warn } else { log::Level::Debug };
        log::log!(target: "metamanager", level, "the cloud does not list the pods of this node: {why}. Those that did not run here come when they change, or at once after: kubectl annotate pods -A --field-selector spec.nodeName={} migrated=1 --overwrite", self.settings.node.name);
    }

    /// A pod that the cloud did not send by itself takes the way of those it did.
    fn pod_told(&mut self, now: Now, session: Session, message: &Message, pod: &Value) {
        let name = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
        let resource = Resource::new(name("namespace"), kind::POD, name("name"));
        self.object_came(now, session, message, &resource, raw(pod).get());
    }
}
