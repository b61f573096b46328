//! Pods that only the runtime knows, while the store cannot be trusted: it was
//! lost, or it is new and the runtime is not empty (another agent ran here). The
//! cloud is asked about each; until it has answered, none is touched.
//!
//! There is no question for a pod (cloud-protocol.md 7.4), but the answer to a
//! status patch holds the whole pod, and a condition of ours with a fresh time
//! is a patch that surely changes something.

use serde_json::{Value, json};

use super::Node;
use super::ids::{PodUid, Session};
use super::link::message;
use super::now::Now;
use super::pod::worker::Worker;
use super::purpose::Purpose;
use super::store::{Change, Row, Table};
use crate::wire::message::{EDGED, META, Message, operation, raw, string};
use crate::wire::resource::{Resource, kind};
use crate::wire::rfc3339;

/// Row that says why the store is not to be trusted; it outlives the agent.
pub(super) const LOST: &str = "lost";

fn is_orphan(worker: &&Worker) -> bool {
    worker.pod.is_none() && !worker.disowned
}

impl Node {
    /// The first look at the runtime of a store that was never written.
    pub(super) fn meet_strangers(&mut self, fresh: bool, pods: usize) {
        if fresh && pods > 0 && self.lost.is_none() {
            self.distrust(format!("the store is new and the runtime has {pods} pods of another agent"));
        }
    }

    /// From now on, also after a restart, orphans are asked about.
    pub(super) fn distrust(&mut self, why: String) {
        log::warn!(target: "metamanager", "{why}: the cloud is asked about pods before any is touched");
        self.disk.put(vec![Change::set(Table::Node, LOST, Row::Text(why.clone()))]);
        self.lost = Some(why);
    }

    /// Asks about orphans, and ends the distrust when there are none.
    pub(super) fn ask_about_orphans(&mut self, now: Now) {
        if self.lost.is_none() || !self.pods.is_listed() {
            return;
        }
        let orphans: Vec<(PodUid, Resource)> = self
            .pods
            .iter()
            .filter(is_orphan)
            .map(|worker| (worker.uid.clone(), Resource::new(&worker.key.namespace, kind::POD_PATCH, &worker.key.name)))
            .collect();
        if orphans.is_empty() {
            log::info!(target: "metamanager", "the cloud told of all pods that are here; pods it sent before and that are not here come again when they change");
            self.disk.put(vec![Change::remove(Table::Node, LOST)]);
            self.lost = None;
            return;
        }
        for (uid, resource) in orphans {
            if self.link.under_way(|purpose| matches!(purpose, Purpose::Orphan(other) if *other == uid)) == 0 {
                let condition = json!({ "type": "selvedge.io/Restored", "status": "True", "lastTransitionTime": rfc3339::seconds(now.wall.0) });
                let body = json!({ "metadata": { "uid": uid.as_str() }, "status": { "conditions": [condition] } }).to_string();
                let question = message(now, &mut self.chance, EDGED, META, operation::PATCH, resource.to_string(), string(&body));
                self.link.request(now, question, Purpose::Orphan(uid), super::OBJECT_LIMIT, false);
            }
        }
    }

    /// The cloud knows the pod, or it does not.
    pub(super) fn orphan_answered(&mut self, now: Now, session: Session, message: &Message, uid: &PodUid, answer: Result<Value, u16>) {
        match answer {
            Ok(pod) if pod["metadata"]["uid"] == uid.as_str() => {
                let name = |member: &str| pod["metadata"][member].as_str().unwrap_or_default().to_owned();
                let resource = Resource::new(&name("namespace"), kind::POD, &name("name"));
                self.object_came(now, session, message, &resource, raw(&pod).get());
            }
            Ok(_) | Err(404 | 409) => {
                if let Some(worker) = self.pods.get_mut(uid) {
                    worker.disowned = true;
                    worker.dirty = true;
                }
            }
            Err(_) => {}
        }
    }
}
