//! All pods by uid, and which of them there is something to do about: an input
//! costs what it changed, however many pods there are.

use std::collections::{BTreeMap, BTreeSet};

use super::worker::Worker;
use crate::node::ids::PodUid;
use crate::node::now::{Mono, Now};

/// The pods of the node by uid, and which of them have to be looked at.
#[derive(Debug, Default)]
pub struct Workers {
    all: BTreeMap<PodUid, Worker>,
    /// Pods that somebody may have changed since they were looked through.
    touched: BTreeSet<PodUid>,
    /// When pods have to be looked at although nothing happened: each at most once.
    wakes: BTreeSet<(Mono, PodUid)>,
    /// Those of them that are in `wakes`.
    scheduled: BTreeMap<PodUid, Mono>,
}

impl Workers {
    /// The pod of a uid.
    pub fn get(&self, uid: &PodUid) -> Option<&Worker> {
        self.all.get(uid)
    }

    /// All pods.
    pub fn values(&self) -> impl Iterator<Item = &Worker> {
        self.all.values()
    }

    /// One pod, to be changed.
    pub fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Worker> {
        let worker = self.all.get_mut(uid)?;
        self.touched.insert(uid.clone());
        Some(worker)
    }

    /// All pods, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.touched.extend(self.all.keys().cloned());
        self.all.values_mut()
    }

    /// One pod, to be changed; it is made when it is not there.
    pub fn get_or_insert(&mut self, uid: PodUid, make: impl FnOnce(&PodUid) -> Worker) -> &mut Worker {
        self.touched.insert(uid.clone());
        self.all.entry(uid).or_insert_with_key(make)
    }

    /// A pod that is new.
    pub fn insert(&mut self, worker: Worker) {
        self.touched.insert(worker.uid.clone());
        self.all.insert(worker.uid.clone(), worker);
    }

    /// A pod is forgotten.
    pub fn remove(&mut self, uid: &PodUid) {
        self.all.remove(uid);
        self.unschedule(uid);
    }

    /// One pod, while it is looked through.
    pub fn under_way(&mut self, uid: &PodUid) -> Option<&mut Worker> {
        self.all.get_mut(uid)
    }

    /// Pods that somebody may have changed.
    pub fn touched(&self) -> &BTreeSet<PodUid> {
        &self.touched
    }

    /// Pods to look through now; each has to be scheduled afterwards.
    pub fn take_due(&mut self, now: Now) -> BTreeSet<PodUid> {
        let mut due = std::mem::take(&mut self.touched);
        while self.wakes.first().is_some_and(|(at, _)| *at <= now.mono) {
            due.extend(self.wakes.pop_first().map(|(_, uid)| uid));
        }
        due.iter().for_each(|uid| self.unschedule(uid));
        due
    }

    /// A pod was looked through: it says when it wants to be looked at again.
    pub fn schedule(&mut self, uid: &PodUid) {
        self.unschedule(uid);
        if let Some((at, _)) = self.all.get(uid).and_then(Worker::next_wake) {
            self.wakes.insert((at, uid.clone()));
            self.scheduled.insert(uid.clone(), at);
        }
    }

    fn unschedule(&mut self, uid: &PodUid) {
        if let Some(at) = self.scheduled.remove(uid) {
            self.wakes.remove(&(at, uid.clone()));
        }
    }

    /// When and why to look through pods again.
    pub fn next_wake(&self) -> Option<(Mono, &'static str)> {
        let (at, uid) = self.wakes.first()?;
        let why = self.all.get(uid).and_then(Worker::next_wake).map_or("pod", |(_, why)| why);
        Some((*at, why))
    }
}
