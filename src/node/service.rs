//! HTTP between apps on the node and the cloud: which targets rules have
//! allowed, which calls of the cloud are under way, which questions of apps wait
//! for an answer. The shell is `servicebus`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ids::{ExchangeId, MsgId};
use super::store::{Change, Key, Row};
use crate::wire::servicebus::{Answer, Call, LOOPBACK, Reply};

/// Something for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Hear apps: there is something they may ask.
    Listen,
    /// Hear them no more: nothing may be asked.
    Close,
    /// Call an app; answered by `ServiceAnswered`.
    Call(ExchangeId, Box<Call>),
    /// Tell an app what became of its question.
    Reply(ExchangeId, Reply),
}

/// Calls at a time; the others wait.
const CALLS: usize = 16;
/// Calls that wait or are under way at most, and the bytes of their bodies; one
/// may be larger.
const MOST: (usize, usize) = (256, 8 << 20);
/// Targets that are kept, and the longest.
const TARGETS: (usize, usize) = (1000, 4096);

/// What is allowed and what is under way.
#[derive(Debug)]
pub struct Service {
    enabled: bool,
    targets: BTreeSet<String>,
    orders: VecDeque<Order>,
    /// Calls that wait for one under way to end.
    waiting: VecDeque<(ExchangeId, Box<Call>)>,
    /// Messages that calls came by, waiting or under way, and bytes of bodies.
    calls: BTreeMap<ExchangeId, (MsgId, usize)>,
    last: ExchangeId,
}

impl Service {
    /// Continues with the targets on disk.
    pub fn load(enabled: bool, targets: Vec<String>) -> Self {
        let targets: BTreeSet<String> = targets.into_iter().collect();
        let orders = if enabled && !targets.is_empty() { [Order::Listen].into() } else { VecDeque::new() };
        Self { enabled, targets, orders, waiting: VecDeque::new(), calls: BTreeMap::new(), last: ExchangeId::default() }
    }

    /// Whether the node does any of this.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether a rule allows a target.
    pub fn allows(&self, target: &str) -> bool {
        self.targets.contains(target)
    }

    /// A rule allows a target: what must be stored.
    pub fn allow(&mut self, target: &str) -> Option<Change> {
        let (most, longest) = TARGETS;
        if target.is_empty() || target.len() > longest || self.targets.len() >= most || !self.targets.insert(target.to_owned()) {
            return None;
        }
        if self.targets.len() == 1 {
            self.orders.push_back(Order::Listen);
        }
        Some(Change::set(Key::Target(target.to_owned()), Row::Target))
    }

    /// A rule is gone: what must be stored.
    ///
    /// The cloud names the target by its cleaned path then, in which no slash
    /// begins and none is doubled; it means the one it named before.
    pub fn forbid(&mut self, target: &str) -> Option<Change> {
        let found = self.targets.get(target).or_else(|| self.targets.iter().find(|other| clean(other) == clean(target)))?.clone();
        self.targets.remove(&found);
        if self.targets.is_empty() {
            self.orders.push_back(Order::Close);
        }
        Some(Change::remove(Key::Target(found)))
    }

    /// The cloud calls an app; false when too much waits already.
    pub fn call(&mut self, by: MsgId, call: Call) -> bool {
        let (most, bytes) = MOST;
        let size = self.calls.values().fold(call.body.len(), |sum, (_, size)| sum + size);
        if self.calls.len() >= most || !self.calls.is_empty() && size > bytes {
            return false;
        }
        self.last = self.last.next();
        self.calls.insert(self.last, (by, call.body.len()));
        self.waiting.push_back((self.last, Box::new(call)));
        true
    }

    /// A call ended: the message that it came by.
    pub fn ended(&mut self, id: ExchangeId) -> Option<MsgId> {
        self.calls.remove(&id).map(|(by, _)| by)
    }

    /// Tells an app what became of its question.
    pub fn reply(&mut self, id: ExchangeId, reply: Reply) {
        self.orders.push_back(Order::Reply(id, reply));
    }

    /// The next thing for the shell.
    pub fn poll(&mut self) -> Option<Order> {
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        let under_way = self.calls.len() - self.waiting.len();
        let (id, call) = if under_way < CALLS { self.waiting.pop_front()? } else { return None };
        Some(Order::Call(id, call))
    }
}

/// Whether apps on a host may be called: those on the node itself, and those
/// the configuration names.
pub fn reaches(host: &str, hosts: &[String]) -> bool {
    [LOOPBACK, "localhost", "::1"].contains(&host) || hosts.iter().any(|other| other.eq_ignore_ascii_case(host))
}

/// A target as Go's path.Join leaves it, without the slash it begins with.
fn clean(target: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// The app answered.
    Answered(Answer),
    /// It did not, and why.
    Unreachable(String),
    /// Its answer could not be read to the end, and why.
    Broken(String),
}

impl Called {
    /// What the cloud is told; the reason of an unreachable app is for the log.
    pub fn answer(self) -> Answer {
        match self {
            Self::Answered(answer) => answer,
            Self::Unreachable(_) => Answer::unreachable(),
            Self::Broken(why) => Answer::refusal(500, &format!("error to receive response, err: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service::load(true, Vec::new())
    }

    fn a_call(size: usize) -> Call {
        Call { host: String::new(), port: 1, path: "/".to_owned(), method: "GET".to_owned(), headers: BTreeMap::new(), body: vec![0; size] }
    }

    #[test]
    fn it_listens_while_there_is_a_target() {
        let mut service = service();
        assert!(service.allow("/a").is_some() && service.allow("/b").is_some() && service.allow("/a").is_none());
        assert!(service.forbid("/a").is_some() && service.forbid("/a").is_none());
        assert!(service.allows("/b") && !service.allows("/a"));
        service.forbid("/b");
        assert_eq!(std::iter::from_fn(|| service.poll()).collect::<Vec<_>>(), [Order::Listen, Order::Close]);
        let kept = vec!["/a".to_owned()];
        assert_eq!(Service::load(true, kept.clone()).poll(), Some(Order::Listen));
        assert_eq!(Service::load(false, kept).poll(), None);
    }

    #[test]
    fn a_cleaned_path_takes_its_target_away() {
        let mut service = service();
        for (allowed, named) in [("/my//url", "my/url"), ("http://10.0.0.1:80/x/", "http:/10.0.0.1:80/x"), ("/a/../b", "b")] {
            service.allow(allowed);
            assert_eq!(service.forbid(named), Some(Change::remove(Key::Target(allowed.into()))));
        }
        assert!(service.forbid("/other").is_none());
    }

    #[test]
    fn calls_wait_for_others_to_end_and_are_bounded() {
        let mut service = service();
        let id = |number: u64| MsgId::from(number.to_string());
        assert!((0..20).all(|number| service.call(id(number), a_call(0))));
        assert_eq!(std::iter::from_fn(|| service.poll()).count(), CALLS);
        assert_eq!(service.ended(ExchangeId(1)), Some(id(0)));
        assert_eq!(service.ended(ExchangeId(1)), None);
        assert!(matches!(service.poll(), Some(Order::Call(ExchangeId(17), _))));
        assert!(service.poll().is_none());
        assert!(service.call(id(20), a_call(8 << 20)), "8 MiB are taken");
        assert!(!service.call(id(21), a_call(1)), "and no more");
        let mut service = self::service();
        assert!(service.call(id(0), a_call(9 << 20)), "a large one alone");
        assert!(!service.call(id(1), a_call(1)));
        service.ended(ExchangeId(1));
        assert!(service.call(id(1), a_call(1)));
    }
}
