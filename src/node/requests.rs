//! Back-off of what is asked of the cloud, by request: one that failed, was not
//! answered or brought nothing of use is repeated after a second, then after
//! twice the wait, with jitter, up to a limit of its kind. A new session begins
//! anew.
//!
//! The longest wait for objects and tokens is that of kubelet for volumes
//! (`pkg/util/goroutinemap/exponentialbackoff`, about two minutes). Registration,
//! node status and lease have instants of their own, in [`super::presence`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::backoff::Backoff;
use super::chance::Chance;
use super::ids::PodUid;
use super::now::{Mono, Now};
use super::pod::render::TokenRequest;
use super::response::Refused;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST_OBJECT: Duration = Duration::from_secs(120);
const LONGEST_STATUS: Duration = Duration::from_secs(30);
/// A pod whose object may go, and that is still there, is told again so often:
/// first and at last.
const DELETE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// A request that nobody wants to repeat is forgotten so long after it might
/// have been.
const FORGET: Duration = Duration::from_secs(600);

/// A request that may have to be repeated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKey {
    /// For an object, by its name on the wire.
    Object(String),
    /// For a token.
    Token(TokenRequest),
    /// To report a pod's status.
    PodStatus(PodUid),
    /// To delete a pod's object.
    PodDelete(PodUid),
    /// To learn whether the cloud has a pod.
    Orphan(PodUid),
    /// To learn which pods the cloud has.
    PodList,
}

impl RequestKey {
    fn backoff(&self) -> Backoff {
        match self {
            Self::Object(_) | Self::Token(_) | Self::PodList => Backoff::new(FIRST, LONGEST_OBJECT),
            Self::PodStatus(_) | Self::Orphan(_) => Backoff::new(FIRST, LONGEST_STATUS),
            Self::PodDelete(_) => Backoff::new(DELETE.0, DELETE.1),
        }
    }
}

impl std::fmt::Display for RequestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(name) => write!(f, "query of '{name}'"),
            Self::Token(token) => write!(f, "token request of service account '{}/{}' for pod '{}'", token.namespace, token.account, token.pod),
            Self::PodStatus(uid) => write!(f, "status report of pod '{uid}'"),
            Self::PodDelete(uid) => write!(f, "deletion of pod '{uid}'"),
            Self::Orphan(uid) => write!(f, "query of pod '{uid}'"),
            Self::PodList => f.write_str("list of pods"),
        }
    }
}

/// Requests that are repeated later, and how the last try ended.
#[derive(Debug, Default)]
pub struct Requests {
    waiting: BTreeMap<RequestKey, Waiting>,
    /// The first instant at which one that is wanted may be repeated.
    next_at: Option<Mono>,
}

#[derive(Debug)]
struct Waiting {
    backoff: Backoff,
    not_before: Mono,
    error: Option<Refused>,
}

impl Requests {
    /// A round of questions begins.
    pub fn begin(&mut self) {
        self.next_at = None;
    }

    /// Whether the request may be sent now; if not, the node comes back for it.
    pub fn may_ask(&mut self, key: &RequestKey, now: Mono) -> bool {
        match self.waiting.get(key).map(|waiting| waiting.not_before).filter(|at| *at > now) {
            Some(at) => {
                self.next_at = Some(self.next_at.map_or(at, |next| next.min(at)));
                false
            }
            None => true,
        }
    }

    /// The request brought nothing; whether its sender has not heard that yet.
    /// One lost answer is no error: the second is.
    pub fn failed(&mut self, now: Now, key: RequestKey, error: Refused, chance: &mut Chance) -> bool {
        let before = self.waiting.get(&key).and_then(|waiting| waiting.error.clone());
        let is_first = !self.waiting.contains_key(&key);
        let error = Some(error).filter(|error| !(error.is_silence() && is_first)).or_else(|| before.clone());
        let is_new = error.is_some() && error != before;
        self.repeat_later(now, key, chance).error = error;
        is_new
    }

    /// The request may be of use once more, but not soon.
    pub fn later(&mut self, now: Now, key: RequestKey, chance: &mut Chance) {
        self.repeat_later(now, key, chance);
    }

    fn repeat_later(&mut self, now: Now, key: RequestKey, chance: &mut Chance) -> &mut Waiting {
        self.waiting.retain(|other, waiting| *other == key || now.mono.since(waiting.not_before) < FORGET);
        let fresh = Waiting { backoff: key.backoff(), not_before: now.mono, error: None };
        let waiting = self.waiting.entry(key).or_insert(fresh);
        if now.mono.since(waiting.not_before) >= FORGET {
            waiting.backoff.reset();
        }
        waiting.not_before = now.mono + waiting.backoff.half_jitter(chance.luck());
        waiting
    }

    /// The request brought what it was for.
    pub fn succeeded(&mut self, key: &RequestKey) {
        self.waiting.remove(key);
    }

    /// Why the request brought nothing the last time.
    pub fn error(&self, key: &RequestKey) -> Option<&Refused> {
        self.waiting.get(key)?.error.as_ref()
    }

    /// A new session: whatever failed may succeed now.
    pub fn start_over(&mut self, now: Now) {
        for waiting in self.waiting.values_mut() {
            waiting.backoff.reset();
            waiting.not_before = now.mono;
        }
    }

    /// When the next request is repeated.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        self.next_at.map(|at| (at, "request to the cloud"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::now::Wall;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(0) }
    }

    fn key() -> RequestKey {
        RequestKey::Object("default/configmap/c".to_owned())
    }

    #[test]
    fn a_request_that_fails_is_repeated_ever_more_seldom_and_told_once() {
        let (mut requests, mut chance) = (Requests::default(), Chance::new(1));
        let mut now = at(1);
        let mut told = 0;
        for _ in 0..100 {
            assert!(requests.may_ask(&key(), now.mono));
            told += u32::from(requests.failed(now, key(), Refused::unusable("no"), &mut chance));
            requests.begin();
            assert!(!requests.may_ask(&key(), now.mono));
            now.mono = requests.deadline().expect("it is repeated").0;
        }
        assert_eq!(told, 1);
        let hours = now.mono.since(at(1).mono).as_secs() / 3600;
        assert!((1..4).contains(&hours), "{hours} hours for 100 tries");
        requests.start_over(now);
        assert!(requests.may_ask(&key(), now.mono) && requests.error(&key()).is_some());
        requests.succeeded(&key());
        assert_eq!(requests.error(&key()), None);
    }

    #[test]
    fn one_lost_answer_is_no_error_and_what_nobody_asks_again_is_forgotten() {
        let (mut requests, mut chance) = (Requests::default(), Chance::new(1));
        assert!(!requests.failed(at(1), key(), Refused::silence(), &mut chance));
        assert_eq!(requests.error(&key()), None);
        assert!(requests.failed(at(10), key(), Refused::silence(), &mut chance));
        let other = RequestKey::PodStatus("u".into());
        requests.later(at(700), other.clone(), &mut chance);
        assert!(requests.waiting.len() == 1 && requests.waiting.contains_key(&other));
    }
}
