//! Rows of pods beside their objects: their records, and the spec that is obeyed
//! while the newest one cannot be.

use super::Node;
use super::ids::PodUid;
use super::meta::Incoming;
use super::pod::obey;
use super::store::{Change, Key};
use crate::wire::kube::{self, Pod};

impl Node {
    /// What must outlive the runtime's memory of pods is on disk before the
    /// cluster is told.
    pub(super) fn record_pods(&mut self) {
        let changes = self.pods.unrecorded();
        if !changes.is_empty() {
            let ticket = self.disk.join(changes);
            self.pods.recorded(ticket);
        }
    }

    /// An update that cannot be obeyed takes the place of a spec that can: that one
    /// is kept beside it. One that can be obeyed ends that.
    pub(super) fn keep_obeyed(&mut self, incoming: &Incoming) -> Option<Change> {
        let before = self.meta.uid(&incoming.name).filter(|uid| *uid == incoming.uid)?;
        let uid = PodUid::from(before);
        let kept = self.meta.obeyed(&uid);
        let is_kept = kept.is_some();
        let json = kept.or_else(|| self.meta.json(&incoming.name))?;
        let obeyed = kube::read::<Pod>(&json).ok().filter(obey::is_obeyable);
        let is_refused = |pod: &Pod| match &obeyed {
            Some(obeyed) => obey::update_refusal(obeyed, pod).is_some(),
            None => !obey::is_obeyable(pod),
        };
        if kube::read::<Pod>(&incoming.json).is_ok_and(|pod| !is_refused(&pod)) {
            return self.meta.drop_obeyed(&uid);
        }
        (!is_kept && obeyed.is_some()).then(|| self.meta.keep_obeyed(uid, json))
    }

    /// The rows of a pod beside its object.
    pub(super) fn pod_rows_gone(&mut self, uid: &PodUid) -> Vec<Change> {
        let mut changes = self.meta.drop_tokens(uid);
        changes.push(Change::remove(Key::PodRecord(uid.clone())));
        changes.extend(self.meta.drop_obeyed(uid));
        changes
    }
}
