//! Devices: what the cloud and clients say in steps, and a restart in between
//! finds on disk what was there.

use std::collections::BTreeMap;

use selvedge::config::file;
use selvedge::node::chance::Chance;
use selvedge::node::ids::Ticket;
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::store::{Change, Key, Row, Rows};
use selvedge::node::twin::{Effects, Room, Twins};
use selvedge::wire::kube;
use selvedge::wire::topic::Topic;
use serde_json::Value;

use super::{steps, word};

/// Lines: `m` membership, `o` a Device, `d` a DeviceModel, `x` a Device that is
/// gone, `p TOPIC PAYLOAD` and the retained `P`, `n` no room for words, `t` time and
/// all words, `r` a restart.
pub fn twins(data: &[u8]) {
    let mut play = Play { rows: BTreeMap::new(), twins: load(&BTreeMap::new()), millis: 1_795_392_000_000 };
    for (what, rest) in steps(data) {
        play.step(what, rest);
    }
    play.restart();
}

/// What is said is JSON on topics of ours.
fn check(words: Vec<(String, Vec<u8>)>) {
    for (topic, payload) in words {
        assert!(topic.starts_with("$hw/events/"), "{topic}");
        assert!(serde_json::from_slice::<Value>(&payload).is_ok(), "{topic}");
    }
}

struct Play {
    rows: BTreeMap<Key, Row>,
    twins: Twins,
    millis: i64,
}

fn load(rows: &BTreeMap<Key, Row>) -> Twins {
    let mut rows = Rows::new(rows.clone().into_iter().collect()).expect("rows of their tables");
    let settings = file::parse("", "edge").expect("a configuration");
    let mut twins = Twins::load(&settings, Chance::new(1), &mut rows);
    twins.set_room(Room::Plenty);
    twins
}

impl Play {
    fn now(&self) -> Now {
        let since = u64::try_from(self.millis - 1_795_392_000_000).expect("later");
        Now { mono: Mono(since * 1_000_000), wall: Wall(self.millis) }
    }

    fn step(&mut self, what: u8, rest: &[u8]) {
        let now = self.now();
        self.millis += 10;
        let text = String::from_utf8_lossy(rest);
        let effects = match what {
            b'm' => {
                let content = serde_json::from_str::<Value>(&text).unwrap_or_default();
                self.twins.membership(now, &content).unwrap_or_default()
            }
            b'o' => match kube::read::<kube::Device>(&text) {
                Ok(device) => self.twins.object(now, &device),
                Err(_) => return,
            },
            b'd' => match kube::read::<kube::DeviceModel>(&text) {
                Ok(model) => self.twins.model(now, &model),
                Err(_) => return,
            },
            b'x' => self.twins.object_gone(now, &text),
            b'p' | b'P' => self.published(now, rest, what == b'P'),
            b't' => {
                self.millis += i64::try_from(rest.len()).unwrap_or(0) * 1000;
                self.twins.tell_deltas();
                self.words(now);
                return;
            }
            b'n' => return self.twins.set_room(if rest.is_empty() { Room::None } else { Room::Little }),
            b'r' => return self.restart(),
            _ => self.reports(now),
        };
        self.obey(effects);
    }

    fn published(&mut self, now: Now, rest: &[u8], retained: bool) -> Effects {
        let (topic, payload) = word(rest);
        let topic = String::from_utf8_lossy(topic);
        match Topic::parse(&topic, true) {
            Topic::Device { id, named, verb } => self.twins.heard(now, &id, &named, verb, payload, retained),
            Topic::MembershipGet | Topic::Unknown | Topic::User => self.twins.list(now, payload),
        }
    }

    fn reports(&mut self, now: Now) -> Effects {
        while let Some((topic, _, sent)) = self.twins.next_report(now, None) {
            assert!(!topic.is_empty());
            let rows = self.twins.report_confirmed(now, &sent);
            self.rows.extend(rows);
        }
        Effects::default()
    }

    /// All that is still untold, and it ends.
    fn words(&mut self, now: Now) {
        self.twins.set_room(Room::Plenty);
        let most = 10 * (1 + self.twins.devices().count());
        for _ in 0..most {
            let words = self.twins.next_words(now, Ticket(u64::MAX));
            if words.is_empty() {
                return;
            }
            check(words);
        }
        panic!("there is always more to say");
    }

    fn obey(&mut self, effects: Effects) {
        for Change { key, row } in effects.changes {
            match row {
                Some(row) => drop(self.rows.insert(key, row)),
                None => drop(self.rows.remove(&key)),
            }
        }
        check(effects.publications);
        check(effects.at_once);
    }

    /// What a new agent finds is what the old one had.
    fn restart(&mut self) {
        let again = load(&self.rows);
        let names = |twins: &Twins| twins.devices().map(|(id, _)| id.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&again), names(&self.twins));
        self.twins = again;
    }
}
