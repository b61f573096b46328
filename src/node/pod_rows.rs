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
        if kube::read::<Pod>(&incoming.json).is_ok_and(|pod| obey::update_refusal(&pod).is_none()) {
            return self.meta.drop_obeyed(&uid);
        }
        if self.meta.obeyed(&uid).is_some() {
            return None;
        }
        let json = self.meta.json(&incoming.name)?;
        let can_be_obeyed = kube::read::<Pod>(&json).is_ok_and(|pod| obey::is_obeyable(&pod));
        can_be_obeyed.then(|| self.meta.keep_obeyed(uid, json))
    }

    /// The rows of a pod beside its object.
    pub(super) fn pod_rows_gone(&mut self, uid: &PodUid) -> Vec<Change> {
        let mut changes = self.meta.drop_tokens(uid);
        changes.push(Change::remove(Key::PodRecord(uid.clone())));
        changes.extend(self.meta.drop_obeyed(uid));
        changes
    }
}
