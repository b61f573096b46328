//! Questions to the cloud for what pods need, and what becomes of the answers:
//! objects, tokens, and that a status was taken.

use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::chance::Chance;
use super::ids::{PodUid, Session};
use super::link::{self, Link};
use super::now::{Now, Wall};
use super::packed::Packed;
use super::pod::render::TokenRequest;
use super::pod::worker::{Fate, Worker};
use super::purpose::Purpose;
use super::reports;
use super::requests::{RequestKey, Requests};
use super::response::{self, CONFLICT, NOT_FOUND, Refused};
use super::store::Change;
use super::{Node, OBJECT_LIMIT};
use crate::wire::message::{EDGED, META, Message, null, operation, raw};
use crate::wire::resource::{Resource, kind};
use crate::wire::rfc3339;

/// A token that ends sooner than this is as good as ended.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

impl Node {
    /// Asks for what living pods need and the node does not have: one question
    /// per object at a time, for the cloud loses some of several.
    pub(super) fn ask(&mut self, now: Now) {
        let Self { pods, meta, requests, link, chance, .. } = self;
        let living = |worker: &&Worker| matches!(worker.fate, Fate::Run);
        for needs in pods.iter().filter(living).map(|worker| &worker.needs) {
            for name in needs.names.iter().filter(|name| !meta.has(name)) {
                ask_once(RequestKey::Object(name.clone()), || (name.clone(), null()), Purpose::Object(name.clone()), requests, link, now, chance);
            }
            for token in needs.tokens.iter().filter(|token| meta.token_is_due(&token.key(), now.wall)) {
                let question = || (Resource::new(&token.namespace, kind::TOKEN, &token.account).to_string(), raw(&token.body()));
                ask_once(RequestKey::Token(token.clone()), question, Purpose::Token(token.clone()), requests, link, now, chance);
            }
        }
    }

    /// A request brought nothing: it is repeated later, and its reason told once.
    pub(super) fn request_failed(&mut self, now: Now, key: RequestKey, error: Refused) {
        // An object may be optional, and a pod that is deleted at once is reported last.
        let is_usual = error.is_not_found() && matches!(key, RequestKey::Object(_) | RequestKey::PodStatus(_));
        let level = if is_usual { log::Level::Debug } else { log::Level::Warn };
        let text = format!("{key}: {error}; it is repeated with increasing delays");
        if self.requests.failed(now, key, error, &mut self.chance) {
            log::log!(target: "metamanager", level, "{text}");
            self.pods.stir();
        }
    }

    /// An object that was asked for came, or not.
    pub(super) fn object_answered(&mut self, now: Now, session: Session, message: &Message, resource: &Resource) {
        match response::read_object(message.content.get(), resource) {
            Ok(_) => self.object_came(now, session, message, resource, message.content.get()),
            Err(error) => {
                self.request_failed(now, RequestKey::Object(resource.to_string()), error);
                self.ack(now, session, message, None);
            }
        }
    }

    /// A token that was asked for came, or not.
    pub(super) fn token_came(&mut self, now: Now, request: &TokenRequest, content: &str) {
        let key = RequestKey::Token(request.clone());
        let (token, expires) = match response::read(content).and_then(|answer| token_of(&answer)) {
            Ok(token) => token,
            Err(error) => return self.request_failed(now, key, error),
        };
        let lasts = expires.since(now.wall) >= TOKEN_LIFE;
        if lasts {
            self.requests.succeeded(&key);
        } else {
            let error = Refused::unusable(format!("the token ended at {}; is the clock of this machine right?", rfc3339::seconds(expires.0)));
            self.request_failed(now, key, error);
        }
        let Some(Change { key, row: Some(row) }) = self.meta.keep_token(request, &token, now.wall, expires) else { return };
        // One that is over when it comes is better than none, and not worth a write.
        if lasts {
            self.disk.put(vec![Change { key, row: Some(row) }]);
        } else {
            self.disk.put_lazily(key, row);
        }
        self.pods.stir();
    }

    /// A status report of a pod was answered.
    pub(super) fn pod_reported(&mut self, now: Now, uid: PodUid, sent: Packed, ended: bool, content: &str) {
        let Some(worker) = self.pods.get_mut(&uid) else { return };
        let asked = Resource::new(&worker.key.namespace, kind::POD, &worker.key.name);
        match response::read_object(content, &asked) {
            Ok(_) => reports::reported(worker, sent, ended),
            Err(error) => {
                reports::refused(worker);
                // The object may be gone, or another one may have its name.
                if matches!(error.code, NOT_FOUND | CONFLICT) {
                    self.query_pod(now, &uid, &asked);
                }
                self.request_failed(now, RequestKey::PodStatus(uid), error);
            }
        }
    }
}

/// The token of an answered request, and when it ends.
fn token_of(answer: &Value) -> Result<(String, Wall), Refused> {
    let member = |name: &str| answer.get("status").and_then(|status| status.get(name)).and_then(Value::as_str);
    let token = member("token").filter(|token| !token.is_empty());
    let expires = member("expirationTimestamp").and_then(rfc3339::parse);
    match (token, expires) {
        (Some(token), Some(expires)) => Ok((token.to_owned(), Wall(expires))),
        (None, _) | (_, None) => Err(Refused::unusable("the answer holds no token")),
    }
}

/// Sends a question that is not on its way and does not have to wait.
fn ask_once(
    key: RequestKey,
    question: impl FnOnce() -> (String, Box<RawValue>),
    purpose: Purpose,
    requests: &mut Requests,
    link: &mut Link<Purpose>,
    now: Now,
    chance: &mut Chance,
) {
    if !requests.may_ask(&key, now.mono) || link.under_way(|other| *other == purpose) > 0 {
        return;
    }
    let (resource, content) = question();
    let message = link::message(now, chance, EDGED, META, operation::QUERY, resource, content);
    link.request(now, message, purpose, OBJECT_LIMIT, false);
}
