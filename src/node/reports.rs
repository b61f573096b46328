//! What the cluster must still be told of each pod: the newest status, then,
//! for a pod that was deleted and has ended, that its object may go.
//!
//! A status that others changed, or a session that is new, makes the base of
//! the next patch unknown: then the whole status is said again.

use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::ids::PodUid;
use super::link::{Link, message};
use super::now::Now;
use super::packed::Packed;
use super::pod::Pods;
use super::pod::status::OWN;
use super::pod::worker::Worker;
use super::purpose::Purpose;
use crate::wire::message::{EDGED, META, operation, raw, string};
use crate::wire::patch;
use crate::wire::resource::{Resource, kind};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Reports under way at once: enough to hide the way there and back, few
/// enough that a pulse is not late after a return.
const WINDOW: usize = 16;
/// A pod whose object may go, and that is still there, is told again so often.
const AGAIN: Duration = Duration::from_secs(30);

/// Sends what is due, as far as the window allows.
pub fn send(pods: &mut Pods, link: &mut Link<Purpose>, now: Now, chance: &mut Chance) {
    let is_report = |purpose: &Purpose| matches!(purpose, Purpose::PodStatus { .. } | Purpose::PodDelete(_));
    let mut room = WINDOW.saturating_sub(link.under_way(is_report));
    let due: Vec<PodUid> = pods.iter().filter(|worker| is_due(worker, now)).map(|worker| worker.uid.clone()).collect();
    for uid in due {
        if room == 0 {
            return;
        }
        let busy = link.under_way(|purpose| matches!(purpose, Purpose::PodStatus { uid: other, .. } | Purpose::PodDelete(other) if *other == uid));
        let Some(worker) = pods.get_mut(&uid).filter(|_| busy == 0) else { continue };
        room -= 1;
        if worker.may_be_deleted() { release(worker, link, now, chance) } else { report(worker, link, now, chance) }
    }
}

/// Whether the cluster does not know yet what it should.
fn is_due(worker: &Worker, now: Now) -> bool {
    if worker.may_be_deleted() {
        return worker.released.is_none_or(|at| now.mono.since(at) >= AGAIN);
    }
    worker.pod.is_some() && worker.status.is_some() && worker.reported != worker.status
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
fn release(worker: &mut Worker, link: &mut Link<Purpose>, now: Now, chance: &mut Chance) {
    worker.released = Some(now.mono);
    let body = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": worker.uid.as_str() } });
    let resource = Resource::new(&worker.key.namespace, kind::POD, &worker.key.name);
    let message = message(now, chance, EDGED, META, operation::DELETE, resource.to_string(), raw(&body));
    link.request(now, message, Purpose::PodDelete(worker.uid.clone()), LIMIT, false);
}

/// How the cloud answered a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is known now.
    Ok,
    /// The pod is gone, or another one has its name.
    Gone,
    /// Not now.
    Failed,
}

/// A status report was answered.
pub fn reported(worker: &mut Worker, sent: Packed, ended: bool, answer: Answer) {
    match answer {
        Answer::Ok => worker.reported = Some(sent),
        // Its delete is on the way; nothing more needs telling.
        Answer::Gone => worker.reported = worker.status.clone(),
        Answer::Failed => worker.reported = None,
    }
    if ended && answer != Answer::Failed || answer == Answer::Gone {
        worker.told = true;
        worker.dirty = true;
    }
}

/// A new session: nobody knows what happened to the statuses meanwhile.
pub fn start_over(pods: &mut Pods) {
    for worker in pods.iter_mut() {
        worker.reported = None;
        worker.released = None;
    }
}

/// The cluster shows a status. If a condition or phase of ours differs from what
/// was reported, somebody else wrote it, and it is said again.
pub fn contradicted(worker: &mut Worker, shown: &Value) {
    let Some(reported) = worker.reported.as_ref().map(Packed::to_tree) else { return };
    let of = |status: &Value, kind: &Value| {
        status["conditions"].as_array().and_then(|all| all.iter().find(|condition| &condition["type"] == kind)).map(|condition| condition["status"].clone())
    };
    let ours = reported["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let differs = ours.iter().any(|condition| of(shown, &condition["type"]).is_some_and(|status| status != condition["status"]))
        || reported["phase"] != shown["phase"] && shown["phase"].is_string();
    if differs {
        worker.reported = None;
    }
}
