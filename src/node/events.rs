//! Kubernetes Events of pods and of the node: repeated ones are counted, a
//! chatty object is held back, and a few wait for the link while it is away.
//! Nobody answers an event, so none is ever certain to arrive.
//!
//! Source: edge-node.md 1.4 and cloud-protocol.md 7.4; limits as client-go's
//! event recorder has them (25 at once, then one in 5 min for an object).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::now::{Mono, Now};
use super::pod::worker::Note;
use crate::wire::rfc3339;

const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// Kept while nobody listens.
const WAITING: usize = 128;
/// Kinds of events remembered for counting.
const REMEMBERED: usize = 512;
/// A repeat after this begins a new count.
const FRESH: Duration = Duration::from_secs(600);

/// The events of this node.
#[derive(Debug)]
pub struct Events {
    enabled: bool,
    node: String,
    known: BTreeMap<(String, String), Known>,
    buckets: BTreeMap<String, (u32, Mono)>,
    waiting: VecDeque<Said>,
    recent: VecDeque<Recent>,
}

/// An event as it was last said: JSON, for a tree of it takes ten times as much.
#[derive(Debug)]
struct Known {
    name: String,
    event: Rc<str>,
    last: Mono,
}

#[derive(Debug)]
struct Recent {
    name: String,
    uid: String,
    event: Rc<str>,
}

/// An event to say to the cloud: new, or counted once more.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Said for the first time.
    pub new: bool,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Event object as JSON.
    pub event: Rc<str>,
}

impl Events {
    /// Nothing happened yet.
    pub fn new(enabled: bool, node: &str) -> Self {
        Self { enabled, node: node.to_owned(), known: BTreeMap::new(), buckets: BTreeMap::new(), waiting: VecDeque::new(), recent: VecDeque::new() }
    }

    /// Something happened to an object: `kind`, `namespace`, `name`, `uid`.
    pub fn note(&mut self, now: Now, about: [&str; 4], note: &Note, chance: &mut Chance) {
        let [kind, namespace, name, uid] = about;
        let key = (format!("{kind}/{uid}/{}", note.container.as_deref().unwrap_or_default()), format!("{}/{}", note.reason, note.message));
        let time = rfc3339::seconds(now.wall.0);
        let before = self.known.get(&key).filter(|known| now.mono.since(known.last) < FRESH);
        let repeat = before.is_some();
        let (own, event) = match before {
            Some(known) => (known.name.clone(), again(&known.event, &time)),
            None => {
                let own = format!("{name}.{:016x}", chance.draw());
                let event = self.event([kind, namespace, name, uid], note, &time, &own);
                (own, event)
            }
        };
        let event: Rc<str> = event.to_string().into();
        self.known.insert(key, Known { name: own.clone(), event: event.clone(), last: now.mono });
        self.remember(Recent { name: own.clone(), uid: uid.to_owned(), event: event.clone() });
        if self.enabled && self.allows(now, uid) {
            self.say(Said { new: !repeat, namespace: if namespace.is_empty() { "default" } else { namespace }.to_owned(), name: own, event });
        }
        self.forget(now);
    }

    fn event(&self, about: [&str; 4], note: &Note, time: &str, own: &str) -> Value {
        let [kind, namespace, name, uid] = about;
        let mut object = json!({ "kind": kind, "apiVersion": "v1", "name": name, "uid": uid });
        if !namespace.is_empty() {
            object["namespace"] = namespace.into();
        }
        if let Some(container) = &note.container {
            object["fieldPath"] = format!("spec.containers{{{container}}}").into();
        }
        json!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": { "name": own, "namespace": if namespace.is_empty() { "default" } else { namespace } },
            "involvedObject": object, "reason": note.reason, "message": note.message, "type": if note.warning { "Warning" } else { "Normal" },
            "source": { "component": "kubelet", "host": self.node }, "reportingComponent": "kubelet", "reportingInstance": self.node,
            "firstTimestamp": time, "lastTimestamp": time, "count": 1, "eventTime": null,
        })
    }

    /// A repeat that is not said yet only raises the count of what waits.
    fn say(&mut self, said: Said) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.name == said.name) {
            waiting.event = said.event;
            return;
        }
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(said);
    }

    fn allows(&mut self, now: Now, uid: &str) -> bool {
        let (tokens, since) = self.buckets.entry(uid.to_owned()).or_insert((BURST, now.mono));
        let refilled = u32::try_from(now.mono.since(*since).as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        if refilled > 0 {
            *tokens = tokens.saturating_add(refilled).min(BURST);
            *since = now.mono;
        }
        let allowed = *tokens > 0;
        *tokens = tokens.saturating_sub(1);
        allowed
    }

    fn remember(&mut self, event: Recent) {
        self.recent.retain(|other| other.name != event.name);
        self.recent.push_back(event);
        if self.recent.len() > WAITING {
            self.recent.pop_front();
        }
    }

    fn forget(&mut self, now: Now) {
        self.known.retain(|_, known| now.mono.since(known.last) < FRESH);
        if self.known.len() > REMEMBERED {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.last).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.known.remove(&key));
        }
        if self.buckets.len() > REMEMBERED {
            let oldest = self.buckets.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.buckets.remove(&key));
        }
    }

    /// The next event to say.
    pub fn poll(&mut self) -> Option<Said> {
        self.waiting.pop_front()
    }

    /// What happened to an object lately, for people.
    pub fn of(&self, uid: &str) -> impl Iterator<Item = Value> {
        self.recent.iter().filter(move |event| event.uid == uid).filter_map(|event| serde_json::from_str(&event.event).ok())
    }
}

/// The same once more.
fn again(event: &str, time: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["count"] = (event["count"].as_i64().unwrap_or(1) + 1).into();
    event["lastTimestamp"] = time.into();
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::now::Wall;

    #[test]
    fn a_crash_loop_says_little() {
        let (mut events, mut chance) = (Events::new(true, "n"), Chance::new(3));
        let note = Note { warning: true, reason: "BackOff", message: "m".into(), container: Some("c".into()) };
        let mut said = 0;
        for second in 0..600 {
            let now = Now { mono: Mono(second * 1_000_000_000), wall: Wall(1_800_000_000_000) };
            events.note(now, ["Pod", "default", "p", "u"], &note, &mut chance);
            while let Some(event) = events.poll() {
                said += 1;
                assert_eq!(event.new, said == 1);
            }
        }
        assert!(said <= 27, "{said}");
        assert_eq!(events.of("u").count(), 1);
        assert_eq!(events.of("u").next().expect("one")["count"], 600);
    }
}
