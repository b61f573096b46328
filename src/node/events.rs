//! Kubernetes Events of pods and of the node: repeated ones are counted, a
//! chatty object is held back, and a few wait for the link while it is away, on
//! disk too. Nobody answers an event, so none is ever certain to arrive.
//!
//! Source: edge-node.md 1.4 and cloud-protocol.md 7.4; limits as client-go's
//! event recorder has them (25 at once, then one in 5 min for an object; more than
//! 10 messages of one reason in 10 min are combined).

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::now::{Mono, Now};
use super::pod::worker::Note;
use super::store::{Change, EventRow, Key, Row, Sequence};
use crate::wire::{rfc3339, text};

const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// Kept while nobody listens.
const WAITING: usize = 128;
/// Kinds of events remembered for counting.
const REMEMBERED: usize = 512;
/// Events of one object and reason with different messages, before they become
/// one that counts them all.
const SIMILAR: usize = 10;
/// What a message begins with that stands for many.
const COMBINED: &str = "(combined from similar events): ";
/// A repeat after this begins a new count.
const FRESH: Duration = Duration::from_secs(600);

/// The events of this node.
#[derive(Debug)]
pub struct Events {
    enabled: bool,
    node: String,
    known: BTreeMap<(String, String), Known>,
    buckets: BTreeMap<String, (u32, Mono)>,
    waiting: VecDeque<Waiting>,
    /// Rows of events that had to go.
    dropped: Vec<Change>,
    last: Sequence,
    recent: VecDeque<Recent>,
}

/// An event that nobody heard.
#[derive(Debug)]
struct Waiting {
    /// In the order they came.
    number: Sequence,
    /// It is on disk as it is here.
    is_kept: bool,
    /// It is on disk, perhaps as it was.
    was_kept: bool,
    said: Said,
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
    /// The events that are on disk, in the order they came.
    pub fn load(enabled: bool, node: &str, rows: Vec<(Sequence, EventRow)>) -> Self {
        let waiting: VecDeque<Waiting> = rows.into_iter().map(Waiting::restored).collect();
        Self {
            enabled,
            node: node.to_owned(),
            known: BTreeMap::new(),
            buckets: BTreeMap::new(),
            last: waiting.back().map_or(Sequence(0), |waiting| waiting.number),
            waiting,
            dropped: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// Something happened to an object: `kind`, `namespace`, `name`, `uid`.
    pub fn note(&mut self, now: Now, about: [&str; 4], note: &Note, chance: &mut Chance) {
        let [kind, namespace, name, uid] = about;
        let object = format!("{kind}/{uid}/{}", note.container.as_deref().unwrap_or_default());
        let mut note = Cow::Borrowed(note);
        // What a runtime, a registry or a probe says may be of any length.
        if note.message.len() > text::EVENT_MESSAGE {
            text::truncate(&mut note.to_mut().message, text::EVENT_MESSAGE);
        }
        let mut key = (object, format!("{}/{}", note.reason, note.message));
        if !self.known.contains_key(&key) && self.similar(&key.0, note.reason) >= SIMILAR {
            key.1 = format!("{}/{COMBINED}", note.reason);
            let message = &mut note.to_mut().message;
            message.insert_str(0, COMBINED);
            text::truncate(message, text::EVENT_MESSAGE);
        }
        let time = rfc3339::seconds(now.wall.0);
        let before = self.known.get(&key).filter(|known| now.mono.since(known.last) < FRESH);
        let repeat = before.is_some();
        let (own, event) = match before {
            Some(known) => (known.name.clone(), again(&known.event, &time, &note.message)),
            None => {
                let own = format!("{name}.{:016x}", chance.draw());
                let event = self.event([kind, namespace, name, uid], &note, &time, &own);
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

    /// Messages that an object told lately with the same reason.
    fn similar(&self, object: &str, reason: &str) -> usize {
        let from = (object.to_owned(), format!("{reason}/"));
        self.known.range(from.clone()..).take_while(|((other, text), _)| *other == from.0 && text.starts_with(&from.1)).count()
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
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.said.name == said.name) {
            waiting.said.event = said.event;
            waiting.is_kept = false;
            return;
        }
        if self.waiting.len() == WAITING {
            let oldest = self.waiting.pop_front().filter(|oldest| oldest.was_kept);
            self.dropped.extend(oldest.map(|oldest| Change::remove(oldest.key())));
        }
        self.last = self.last.next();
        self.waiting.push_back(Waiting { number: self.last, is_kept: false, was_kept: false, said });
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

    /// The next event to say, and its row, if it has one.
    pub fn poll(&mut self) -> Option<(Said, Option<Key>)> {
        let waiting = self.waiting.pop_front()?;
        let key = waiting.was_kept.then(|| waiting.key());
        Some((waiting.said, key))
    }

    /// Nobody listens: the rows that keep what waits.
    pub fn kept(&mut self) -> Vec<Change> {
        let mut changes = std::mem::take(&mut self.dropped);
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.is_kept) {
            (waiting.is_kept, waiting.was_kept) = (true, true);
            changes.push(Change::set(waiting.key(), waiting.row()));
        }
        changes
    }

    /// What happened to an object lately, for people.
    pub fn of(&self, uid: &str) -> impl Iterator<Item = Value> {
        self.recent.iter().filter(move |event| event.uid == uid).filter_map(|event| serde_json::from_str(&event.event).ok())
    }
}

impl Waiting {
    fn key(&self) -> Key {
        Key::Event(self.number)
    }

    fn row(&self) -> Row {
        let Said { new, namespace, name, event } = self.said.clone();
        Row::Event(EventRow { is_new: new, namespace, name, event: event.to_string() })
    }

    fn restored((number, row): (Sequence, EventRow)) -> Self {
        let EventRow { is_new, namespace, name, event } = row;
        let said = Said { new: is_new, namespace, name, event: event.into() };
        Self { number, is_kept: true, was_kept: true, said }
    }
}

/// The same once more, in its newest words.
fn again(event: &str, time: &str, message: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).unwrap_or_default();
    event["count"] = event["count"].as_i64().unwrap_or(1).saturating_add(1).into();
    event["lastTimestamp"] = time.into();
    event["message"] = message.into();
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::now::Wall;
    use crate::node::store::Rows;

    #[test]
    fn a_crash_loop_says_little() {
        let (mut events, mut chance) = (Events::load(true, "n", Vec::new()), Chance::new(3));
        let note = Note { warning: true, reason: "BackOff", message: "m".into(), container: Some("c".into()) };
        let mut said = 0;
        for second in 0..600 {
            let now = Now { mono: Mono(second * 1_000_000_000), wall: Wall(1_800_000_000_000) };
            events.note(now, ["Pod", "default", "p", "u"], &note, &mut chance);
            while let Some((event, _)) = events.poll() {
                said += 1;
                assert_eq!(event.new, said == 1);
            }
        }
        assert!(said <= 27, "{said}");
        assert_eq!(events.of("u").count(), 1);
        assert_eq!(events.of("u").next().expect("one")["count"], 600);
    }

    #[test]
    fn messages_that_always_differ_become_one_that_counts() {
        let (mut events, mut chance) = (Events::load(true, "n", Vec::new()), Chance::new(3));
        let now = Now { mono: Mono(0), wall: Wall(1_800_000_000_000) };
        for number in 0..100 {
            let note = Note { warning: true, reason: "Unhealthy", message: format!("exit code {number}"), container: Some("c".into()) };
            events.note(now, ["Pod", "default", "p", "u"], &note, &mut chance);
        }
        let all: Vec<Value> = events.of("u").collect();
        let last = all.last().expect("there are some");
        assert_eq!(all.len(), SIMILAR + 1);
        assert_eq!((last["count"].as_u64(), last["message"].as_str()), (Some(90), Some("(combined from similar events): exit code 99")));
    }

    #[test]
    fn a_long_message_is_cut_and_still_counted() {
        let (mut events, mut chance) = (Events::load(true, "n", Vec::new()), Chance::new(3));
        let now = Now { mono: Mono(0), wall: Wall(1_800_000_000_000) };
        for number in 0..30 {
            let message = format!("{}{number}", "\u{20ac}".repeat(1 << 20));
            let note = Note { warning: true, reason: "Failed", message, container: None };
            events.note(now, ["Pod", "default", "p", "u"], &note, &mut chance);
        }
        for number in 0..30 {
            let note = Note { warning: true, reason: "Failed", message: format!("{number}{}", "x".repeat(5000)), container: None };
            events.note(now, ["Pod", "default", "p", "u"], &note, &mut chance);
        }
        let all: Vec<Value> = events.of("u").collect();
        let lengths: Vec<usize> = all.iter().map(|event| event["message"].as_str().map_or(0, str::len)).collect();
        assert_eq!((lengths[0], &lengths[1..]), (1023, &[1024; SIMILAR][..]));
        assert_eq!(all[0]["count"], 30);
        let kept: usize = events.known.iter().map(|((_, text), known)| text.len() + known.event.len()).sum();
        assert!(kept < 40_000, "{kept} bytes");
    }

    #[test]
    fn what_nobody_heard_is_on_disk_counted_and_in_order() {
        let (mut events, mut chance) = (Events::load(true, "n", Vec::new()), Chance::new(3));
        let now = Now { mono: Mono(1), wall: Wall(1_800_000_000_000) };
        let mut disk: BTreeMap<Key, Row> = BTreeMap::new();
        for pod in 0..WAITING + 2 {
            let note = Note { warning: true, reason: "Failed", message: "m".into(), container: None };
            for _ in 0..2 {
                events.note(now, ["Pod", "default", &format!("p{pod}"), &format!("u{pod}")], &note, &mut chance);
                for change in events.kept() {
                    match change.row {
                        Some(row) => drop(disk.insert(change.key, row)),
                        None => drop(disk.remove(&change.key)),
                    }
                }
            }
        }
        assert_eq!((disk.len(), events.kept()), (WAITING, Vec::new()));
        let rows = Rows::new(disk.clone().into_iter().collect()).expect("rows of their tables");
        let mut again = Events::load(true, "n", rows.events);
        for pod in 2..WAITING + 2 {
            let (said, row) = again.poll().expect("it waits");
            assert!(said.new && said.name.starts_with(&format!("p{pod}.")) && said.event.contains("\"count\":2"), "{said:?}");
            disk.remove(&row.expect("it has a row")).expect("it is there");
        }
        assert!(again.poll().is_none() && disk.is_empty());
    }
}
