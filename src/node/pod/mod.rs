//! The pods of this node: want, seen, plan. Each pod is driven by comparing
//! what the cloud wants with what the runtime shows now; there is no saved
//! progress that a restart could make a lie.
//!
//! Not here: how a step is carried out (`edged`), how the cloud is told
//! (`node::reports`), where objects come from (`node::meta`).

pub mod admit;
mod affinity;
mod conditions;
mod due_probes;
pub mod obey;
mod order;
mod outcome;
mod phase;
mod plan;
mod probe;
pub(in crate::node) mod probing;
pub mod record;
pub mod render;
mod restart;
mod restart_policy;
pub mod status;
mod stop;
mod terminal;
pub(in crate::node) mod view;
pub mod worker;
mod workers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::ids::{ContainerId, OpId, PodKey, PodUid, Ticket};
use super::images::short;
use super::machine::Facts;
use super::now::{Mono, Now};
use super::packed::Packed;
use super::pressure::Pressure;
use super::runtime::{Cgroup, Failure, Op, Order, Outcome, PodSeen, ProbeKind, ProbeResult};
use super::store::{Change, Key, Row};
use crate::config;
use crate::wire::kube::{self, Malformed, ObjectMeta, Pod, PodStatus};
use crate::wire::rfc3339;
use phase::Phase;
use plan::Next;
use record::PodRecord;
use view::View;
use worker::{Fate, Note, Worker};
use workers::Workers;

/// All pods, and what the runtime is asked to do for them.
#[derive(Debug, Default)]
pub struct Pods {
    workers: Workers,
    /// Of pods that are known to the disk and not wanted yet.
    records: BTreeMap<PodUid, PodRecord>,
    /// Pods whose record the disk does not know yet.
    unrecorded: Vec<PodUid>,
    /// Pods that the cluster may not know all of.
    unreported: BTreeSet<PodUid>,
    /// Pods that something happened to worth an Event.
    eventful: BTreeSet<PodUid>,
    /// What pods weigh has to be summed up again.
    reweigh: bool,
    /// Plans made since the start.
    #[cfg(test)]
    planned: u64,
    last_op: OpId,
    orders: VecDeque<Order>,
    /// Everything the runtime has was seen once since it was last reached.
    listed: bool,
    /// Pods that have directories here, until it is sure which are wanted.
    directories: Vec<(PodUid, PodKey)>,
    /// What classes of pods weigh, as last told.
    classes: Vec<Cgroup>,
}

/// What the pods need to know of the rest of the node.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Settings.
    pub config: &'a config::Edged,
    /// Name of the node.
    pub node: &'a str,
    /// Labels of the node.
    pub labels: &'a BTreeMap<String, String>,
    /// The machine.
    pub facts: &'a Facts,
    /// What the machine ran out of lately.
    pub pressure: Pressure,
    /// The runtime groups by systemd slices.
    pub systemd: bool,
    /// Name of the runtime.
    pub runtime: &'a str,
    /// The runtime can leave out the groups that an image gives a user.
    pub strict_groups: bool,
    /// ConfigMaps, secrets, tokens.
    pub sources: &'a dyn render::Sources,
    /// Pods that only the runtime knows may be taken away: the store is whole.
    pub whole: bool,
}

impl Pods {
    /// The cloud wants a pod, as far as the disk knows.
    pub fn want(&mut self, now: Now, pod: Rc<Pod>) {
        let worker = self.wanted(now, &pod.metadata);
        worker.take(pod);
        worker.dirty = true;
        self.reweigh = true;
    }

    /// The cloud wants a pod whose spec cannot be read.
    pub fn want_malformed(&mut self, now: Now, metadata: ObjectMeta, why: &Malformed) {
        let worker = self.wanted(now, &metadata);
        worker.take_malformed(metadata, why);
        worker.dirty = true;
        self.reweigh = true;
    }

    /// The pod that the cloud wants.
    fn wanted(&mut self, now: Now, metadata: &ObjectMeta) -> &mut Worker {
        let uid = PodUid::from(metadata.uid.as_str());
        let key = PodKey { namespace: metadata.namespace.clone(), name: metadata.name.clone() };
        let record = self.records.remove(&uid);
        let worker = self.workers.get_or_insert(uid, |uid| Worker::new(uid.clone(), key, None, now.wall));
        if let Some(record) = record {
            worker.recall(record);
        }
        if worker.pod.is_none() {
            worker.fate = Fate::Run;
        }
        if metadata.deletion_timestamp.is_some() && worker.fate != Fate::Removed {
            worker.fate = Fate::Deleted;
        }
        worker
    }

    /// The cloud wanted a pod before this agent began.
    pub fn restore(&mut self, now: Now, pod: Rc<Pod>) {
        let uid = PodUid::from(pod.metadata.uid.as_str());
        self.want(now, pod);
        if let Some(worker) = self.workers.get_mut(&uid) {
            worker.restored = true;
        }
    }

    /// The disk knew this of pods before this agent began.
    pub fn recall(&mut self, records: Vec<(PodUid, PodRecord)>) {
        self.records.extend(records);
    }

    /// Records of pods that nobody wants.
    pub fn drop_unclaimed(&mut self) -> impl Iterator<Item = PodUid> {
        std::mem::take(&mut self.records).into_keys()
    }

    /// The first record of a pod that is about to be wanted, unless it has one:
    /// it goes to disk together with the pod.
    pub fn begin_record(&mut self, now: Now, uid: &PodUid, status: &serde_json::Value) -> Option<Change> {
        if self.records.contains_key(uid) || self.workers.get(uid).is_some_and(|worker| worker.record.is_some()) {
            return None;
        }
        let told = status["startTime"].as_str().and_then(rfc3339::parse);
        let record = PodRecord { started: told.unwrap_or(now.wall.0), ..PodRecord::default() };
        self.records.insert(uid.clone(), record.clone());
        Some(Change::set(Key::PodRecord(uid.clone()), Row::PodRecord(record)))
    }

    /// Records that the disk does not know yet.
    pub fn unrecorded(&self) -> Vec<Change> {
        let records = self.unrecorded.iter().filter_map(|uid| Some((uid.clone(), self.workers.get(uid)?.record.clone()?)));
        records.map(|(uid, record)| Change::set(Key::PodRecord(uid), Row::PodRecord(record))).collect()
    }

    /// The disk is told of all records with this batch.
    pub fn recorded(&mut self, ticket: Ticket) {
        for uid in std::mem::take(&mut self.unrecorded) {
            if let Some(worker) = self.workers.get_mut(&uid) {
                worker.recorded = Some(ticket);
            }
        }
    }

    /// The cluster's view of a pod's status, newer than the last report.
    pub fn show_status(&mut self, uid: &PodUid, status: &serde_json::Value) {
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let status: PodStatus = kube::from_value(status.clone()).unwrap_or_default();
        if let Some(pod) = &mut worker.pod
            && pod.status != status
        {
            Rc::make_mut(pod).status = status;
            worker.dirty = true;
        }
    }

    /// The object of a pod is gone.
    pub fn unwant(&mut self, uid: &PodUid) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.fate = Fate::Removed;
            worker.dirty = true;
        }
    }

    /// The runtime cannot be reached: ops in flight are lost, and what is seen
    /// may be old.
    pub fn runtime_down(&mut self) {
        self.listed = false;
        self.orders.clear();
        self.classes.clear();
        for worker in self.workers.values_mut() {
            worker.doing = None;
            worker.drop_probes();
        }
    }

    /// All pods the runtime has.
    pub fn relisted(&mut self, now: Now, pods: Vec<PodSeen>) {
        let first = !self.listed;
        self.listed = true;
        let mut there: BTreeMap<PodUid, PodSeen> = pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
        for worker in self.workers.values_mut() {
            let seen = there.remove(&worker.uid).unwrap_or_else(|| PodSeen {
                uid: worker.uid.clone(),
                key: worker.key.clone(),
                sandboxes: Vec::new(),
                containers: Vec::new(),
            });
            // An op in flight reports the pod itself, and newer.
            if worker.doing.is_none() {
                worker.adopted = first;
                worker.unsure = false;
                worker.look(now, seen);
            }
            worker.dirty = true;
        }
        for (uid, seen) in there {
            let mut worker = Worker::new(uid.clone(), seen.key.clone(), None, now.wall);
            worker.seen = View::new(seen);
            self.workers.insert(worker);
        }
    }

    /// Pods that have directories here.
    pub fn have_directories(&mut self, pods: Vec<(PodUid, PodKey)>) {
        self.directories = pods;
    }

    /// It is sure which pods are wanted: of those that have directories, the
    /// ones that neither are nor live in the runtime were ended by an agent that
    /// died before it cleaned up.
    pub fn clean_up(&mut self, now: Now) {
        if !self.listed {
            return;
        }
        for (uid, key) in std::mem::take(&mut self.directories) {
            self.workers.get_or_insert(uid, |uid| {
                log::info!(target: "edged", "directories of pod '{uid}' are left over and taken away");
                Worker::new(uid.clone(), key, None, now.wall)
            });
        }
    }

    /// One pod as the runtime shows it.
    pub fn seen(&mut self, now: Now, seen: PodSeen) {
        match self.workers.get_mut(&seen.uid) {
            Some(worker) => worker.looked(now, seen),
            None if !seen.is_empty() => {
                let mut worker = Worker::new(seen.uid.clone(), seen.key.clone(), None, now.wall);
                worker.seen = View::new(seen);
                self.workers.insert(worker);
            }
            None => {}
        }
    }

    /// A step ended.
    pub fn done(&mut self, now: Now, op: OpId, uid: &PodUid, result: Result<Outcome, Failure>, seen: Option<PodSeen>) {
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let is_current = worker.doing.as_ref().is_some_and(|(doing, _)| *doing == op);
        match seen {
            Some(seen) => worker.looked(now, seen),
            None => worker.unsure |= is_current && worker.doing.as_ref().is_some_and(|(_, doing)| doing.needs_look()),
        }
        if worker.doing.as_ref().is_some_and(|(doing, _)| *doing == op) {
            let (_, doing) = worker.doing.take().expect("it was looked at just now");
            worker.ended(now, doing, result);
        }
    }

    /// A probe was answered.
    pub fn probed(&mut self, now: Now, uid: &PodUid, container: &ContainerId, kind: ProbeKind, result: &ProbeResult) {
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.probed(now, container, kind, result);
        }
    }

    /// Plans every pod that something happened to, and runs the probes that are due.
    pub fn work(&mut self, now: Now, world: &World<'_>) {
        if !self.listed {
            return;
        }
        for uid in self.workers.take_due(now) {
            self.look_through(&uid, now, world);
            self.workers.schedule(&uid);
            self.unreported.insert(uid);
        }
        if std::mem::take(&mut self.reweigh) || self.classes.is_empty() {
            self.weigh(world);
        }
    }

    fn look_through(&mut self, uid: &PodUid, now: Now, world: &World<'_>) {
        let Some(worker) = self.workers.under_way(uid) else { return };
        let is_due = std::mem::take(&mut worker.dirty) || worker.wake.is_some_and(|(at, _)| at <= now.mono);
        if worker.pod.is_none() && !world.whole && !worker.disowned {
            worker.wake = None;
            return;
        }
        if is_due {
            self.admit(uid, world);
        }
        let Some(worker) = self.workers.under_way(uid) else { return };
        if is_due {
            worker.wake = None;
            worker.attend_probes(now);
        }
        let orders = worker.probes_due(now, world);
        self.orders.extend(orders.into_iter().map(Order::Probe));
        if is_due {
            #[cfg(test)]
            {
                self.planned += 1;
            }
            self.plan(uid, now, world);
        }
        let Some(worker) = self.workers.under_way(uid) else {
            self.reweigh = true;
            return;
        };
        if !worker.events.is_empty() {
            self.eventful.insert(uid.clone());
        }
        let weighs = worker.counts();
        self.reweigh |= std::mem::replace(&mut worker.weighs, weighs) != weighs;
    }

    /// What happened to pods since the last call, worth an Event.
    pub fn take_events(&mut self) -> Vec<(PodUid, PodKey, Vec<Note>)> {
        let mut uids = std::mem::take(&mut self.eventful);
        uids.extend(self.workers.touched().iter().cloned());
        let mut events = Vec::new();
        for uid in uids {
            let worker = self.workers.under_way(&uid).filter(|worker| !worker.events.is_empty());
            events.extend(worker.map(|worker| (uid, worker.key.clone(), std::mem::take(&mut worker.events))));
        }
        events
    }

    /// Pods that the cluster may not know all of.
    pub fn unreported(&mut self) -> Vec<PodUid> {
        self.unreported.extend(self.workers.touched().iter().cloned());
        self.unreported.iter().cloned().collect()
    }

    /// The cluster knows all of a pod, until something happens to it.
    pub fn reported(&mut self, uid: &PodUid) {
        self.unreported.remove(uid);
    }

    /// What classes of pods weigh follows the pods that are here.
    fn weigh(&mut self, world: &World<'_>) {
        let pods = self.workers.values().filter(|worker| worker.counts()).filter_map(|worker| worker.pod.as_deref());
        let classes = render::classes(pods, world.config, world.facts, world.systemd);
        if self.classes != classes {
            self.classes.clone_from(&classes);
            self.orders.push_back(Order::Weigh(classes));
        }
    }

    fn plan(&mut self, uid: &PodUid, now: Now, world: &World<'_>) {
        let Some(worker) = self.workers.under_way(uid) else { return };
        plan::meet_deadline(worker, now);
        stop::begin(worker, now);
        if stop::overtakes(worker)
            && let Some((op, doing)) = worker.doing.take()
        {
            worker.unsure |= doing.needs_look();
            self.orders.push_back(Order::Cancel(op));
        }
        if worker.doing.is_none() {
            match plan::next(worker, world, now) {
                Next::Do(step, doing) => {
                    self.last_op = self.last_op.next();
                    worker.doing = Some((self.last_op, doing));
                    self.orders.push_back(Order::Op(Op { id: self.last_op, pod: uid.clone(), step }));
                }
                Next::Wait(Some((at, why))) => worker.wake_at(at, why),
                Next::Wait(None) => {}
                Next::Gone => {
                    self.workers.remove(uid);
                    return;
                }
            }
        }
        let Some(pod) = worker.pod.clone() else { return };
        if worker.ended_elsewhere(&pod) {
            worker.told = true;
            return;
        }
        let host = status::Host { ips: &world.facts.ips, runtime: world.runtime };
        let Some(status) = status::status(worker, &pod, host, now) else { return };
        let packed = Packed::tree(&status);
        if worker.status.as_ref() != Some(&packed) {
            worker.status = Some(packed);
        }
        // What is removed has no rows any more.
        if worker.fate != Fate::Removed
            && let Some(record) = worker.new_record(&pod, &status)
        {
            worker.record = Some(record);
            self.unrecorded.push(uid.clone());
        }
    }

    /// A pod the runtime does not have yet must fit in beside the others.
    fn admit(&mut self, uid: &PodUid, world: &World<'_>) {
        let Some(worker) = self.workers.get(uid) else { return };
        if worker.fate != Fate::Run || worker.prepared.is_some() || !worker.seen.is_empty() {
            return;
        }
        let Some(pod) = worker.pod.clone() else { return };
        if phase::phase(worker, &pod).is_terminal() {
            return;
        }
        let others: Vec<&Pod> = self.workers.values().filter(|other| other.uid != *uid && other.counts()).filter_map(|other| other.pod.as_deref()).collect();
        // One that ran here before comes back after a reboot, however full the disk is.
        let is_new = !worker.restored && pod.status.start_time.is_empty();
        let pressure = if is_new { admit::pressure(&pod, world.pressure) } else { Ok(()) };
        let verdict = pressure.and_then(|()| admit::admit(&pod, &others, world));
        let worker = self.workers.under_way(uid).expect("it was there just now");
        if let Err((reason, message)) = verdict {
            worker.note(true, reason, message.clone(), None);
            worker.fate = Fate::Rejected { reason, message };
        }
    }

    /// Everything the runtime has was seen.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Plans made since the start.
    #[cfg(test)]
    pub fn planned(&self) -> u64 {
        self.planned
    }

    /// The next thing for the runtime's shell.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Something for the runtime's shell that is not for one pod.
    pub fn order(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    /// When to plan again although nothing happened.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        if !self.listed {
            return None;
        }
        self.workers.next_wake()
    }

    /// All pods.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// All pods, to be told what the cluster knows.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.workers.values_mut()
    }

    /// One pod.
    pub fn get(&self, uid: &PodUid) -> Option<&Worker> {
        self.workers.get(uid)
    }

    /// One pod, to be told what the cluster knows.
    pub fn get_mut(&mut self, uid: &PodUid) -> Option<&mut Worker> {
        self.workers.get_mut(uid)
    }

    /// Images that pods use or are about to: short names, and ids.
    pub fn images(&self) -> BTreeSet<String> {
        let wanted = self.workers.values().filter_map(|worker| worker.pod.as_deref()).flat_map(Pod::all_containers);
        let names = wanted.filter_map(|container| render::image_reference(&container.image).ok()).map(|name| short(&name).to_owned());
        let seen = self.workers.values().flat_map(|worker| &worker.seen.containers).flat_map(|seen| [short(&seen.image), short(&seen.image_id)]);
        names.chain(seen.map(str::to_owned)).collect()
    }

    /// Something all pods may depend on changed.
    pub fn stir(&mut self) {
        self.workers.values_mut().for_each(|worker| worker.dirty = true);
    }
}

impl Worker {
    /// The pod was looked at just now.
    fn looked(&mut self, now: Now, seen: PodSeen) {
        self.adopted = false;
        self.unsure = false;
        self.look(now, seen);
    }

    /// It takes room on the node.
    fn counts(&self) -> bool {
        match (&self.fate, &self.pod) {
            (Fate::Rejected { .. }, _) | (_, None) => false,
            (Fate::Run | Fate::Failed { .. } | Fate::Deleted | Fate::Removed, Some(pod)) => !phase::phase(self, pod).is_terminal(),
        }
    }

    /// Whether its object may be deleted in the cluster: it ended, the cluster
    /// knows how, and nothing of it is left.
    pub fn may_be_deleted(&self) -> bool {
        self.fate == Fate::Deleted && self.told
    }

    /// Whether its phase is terminal and everything has stopped.
    pub fn has_ended(&self) -> bool {
        self.is_stopped() && self.pod.as_ref().is_some_and(|pod| phase::phase(self, pod).is_terminal())
    }

    /// Its phase, for people.
    pub fn phase(&self) -> Option<&'static str> {
        self.pod.as_ref().map(|pod| phase::phase(self, pod)).map(Phase::as_str)
    }
}
