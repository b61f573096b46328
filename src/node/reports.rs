//! What the cluster must still be told of each pod: the newest status, then,
//! for a pod that was deleted and has ended, that its object may go.
//!
//! A status that others changed, or a session that is new, makes the base of
//! the next patch unknown: then the whole status is said again.

use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::ids::Ticket;
use super::link::{Link, message};
use super::now::Now;
use super::packed::Packed;
use super::pod::Pods;
use super::pod::status::OWN;
use super::pod::worker::Worker;
use super::purpose::Purpose;
use super::requests::{RequestKey, Requests};
use crate::wire::message::{EDGED, META, operation, raw, string};
use crate::wire::patch;
use crate::wire::resource::{Resource, kind};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Reports under way at once: enough to hide the way there and back, few
/// enough that a pulse is not late after a return.
const WINDOW: usize = 16;

/// Sends what is due, as far as the window allows; of a pod whose record is not on
/// disk nothing is said.
pub fn send(pods: &mut Pods, on_disk: Ticket, requests: &mut Requests, link: &mut Link<Purpose>, now: Now, chance: &mut Chance) {
    let is_report = |purpose: &Purpose| matches!(purpose, Purpose::PodStatus { .. } | Purpose::PodDelete(_));
    let mut room = WINDOW.saturating_sub(link.under_way(is_report));
    for uid in pods.unreported() {
        let Some((worker, key)) = pods.get(&uid).and_then(|worker| Some((worker, due(worker)?))) else {
            pods.reported(&uid);
            continue;
        };
        if room == 0 {
            return;
        }
        let busy = link.under_way(|purpose| matches!(purpose, Purpose::PodStatus { uid: other, .. } | Purpose::PodDelete(other) if *other == uid));
        let is_on_disk = worker.recorded.is_none_or(|ticket| ticket <= on_disk);
        if busy > 0 || !is_on_disk || !requests.may_ask(&key, now.mono) {
            continue;
        }
        room -= 1;
        if worker.may_be_deleted() { release(worker, link, now, chance) } else { report(worker, link, now, chance) }
    }
}

/// What the cluster does not know yet and should.
fn due(worker: &Worker) -> Option<RequestKey> {
    if worker.may_be_deleted() {
        return Some(RequestKey::PodDelete(worker.uid.clone()));
    }
    let is_due = worker.pod.is_some() && worker.status.is_some() && worker.reported != worker.status;
    is_due.then(|| RequestKey::PodStatus(worker.uid.clone()))
}

fn report(worker: &Worker, link: &mut Link<Purpose>, now: Now, chance: &mut Chance) {
    let Some(sent) = worker.status.clone() else { return };
    let change = match &worker.reported {
        Some(reported) => patch::status(&reported.to_tree(), &sent.to_tree(), &OWN),
        None => Some(whole(&sent.to_tree())),
    };
    let Some(change) = change else { return };
    let body = json!({ "metadata": { "uid": worker.uid.as_str() }, "status": change }).to_string();
    let resource = Resource::new(&worker.key.namespace, kind::POD_PATCH, &worker.key.name);
    let message = message(now, chance, EDGED, META, operation::PATCH, resource.to_string(), string(&body));
    link.request(now, message, Purpose::PodStatus { uid: worker.uid.clone(), sent, ended: worker.has_ended() }, LIMIT, false);
}

/// A whole status as a patch: what is ours and no longer holds goes.
fn whole(status: &Value) -> Value {
    let mut change = patch::status(&Value::Null, status, &[]).unwrap_or_else(|| json!({}));
    for key in OWN.iter().filter(|key| status.get(**key).is_none()) {
        change[*key] = Value::Null;
    }
    change
}

/// Tells the cloud that a pod's object may go.
fn release(worker: &Worker, link: &mut Link<Purpose>, now: Now, chance: &mut Chance) {
    let body = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": worker.uid.as_str() } });
    let resource = Resource::new(&worker.key.namespace, kind::POD, &worker.key.name);
    let message = message(now, chance, EDGED, META, operation::DELETE, resource.to_string(), raw(&body));
    link.request(now, message, Purpose::PodDelete(worker.uid.clone()), LIMIT, false);
}

/// The cluster knows a status that was reported.
pub fn reported(worker: &mut Worker, sent: Packed, ended: bool) {
    worker.reported = Some(sent);
    if ended {
        worker.told = true;
        worker.dirty = true;
    }
}

/// A status report was refused: nobody knows what the cluster has.
pub fn refused(worker: &mut Worker) {
    worker.reported = None;
}

/// A new session: nobody knows what happened to the statuses meanwhile.
pub fn start_over(pods: &mut Pods) {
    for worker in pods.iter_mut() {
        worker.reported = None;
    }
}

/// The cluster shows a status. If a condition or phase of ours differs from what
/// was reported, somebody else wrote it, and it is said again.
pub fn contradicted(worker: &mut Worker, shown: &Value) -> bool {
    let Some(reported) = worker.reported.as_ref().map(Packed::to_tree) else { return false };
    let of = |status: &Value, kind: &Value| {
        status["conditions"].as_array().and_then(|all| all.iter().find(|condition| &condition["type"] == kind)).map(|condition| condition["status"].clone())
    };
    let ours = reported["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let differs = ours.iter().any(|condition| of(shown, &condition["type"]).is_some_and(|status| status != condition["status"]))
        || reported["phase"] != shown["phase"] && shown["phase"].is_string();
    if differs {
        worker.reported = None;
    }
    differs
}
