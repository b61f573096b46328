//! What a client left with the broker: filters, messages for it, ids of its own
//! QoS 2 messages. A clean session ends with its connection, another one waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rumqttc::mqttbytes::QoS;

use super::Connection;
use super::outbox::Outbox;
use super::retained::Retained;

/// Bytes of all filters of a client, counted with [`FILTER`] each.
const FILTERS: usize = 64 << 10;
/// What a filter costs besides its text.
const FILTER: usize = 64;
/// QoS 2 messages of a client that it has not released.
const UNRELEASED: usize = 1 << 12;
/// Between two complaints about a slow client.
const PATIENCE: Duration = Duration::from_secs(60);

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Name of the client.
    pub name: String,
    /// It ends with its connection.
    pub clean: bool,
    /// Where the client is, or since when it is away.
    pub place: Place,
    /// What it wants.
    pub filters: BTreeMap<String, QoS>,
    /// What goes to it.
    pub outbox: Outbox,
    unreleased: BTreeSet<u16>,
    greetings: VecDeque<Greeting>,
    dropped: u64,
    complained: Option<Duration>,
}

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Here.
    On(Connection),
    /// Away since.
    Away(Duration),
}

/// Kept messages that a new filter still has to be told: fetched as there is
/// room, so that many of them are neither lost nor in memory twice.
#[derive(Debug)]
struct Greeting {
    filter: String,
    qos: QoS,
    behind: Option<String>,
}

impl Session {
    /// A new one.
    pub fn new(name: String, clean: bool, connection: Connection, limit: usize) -> Self {
        Self {
            name,
            clean,
            place: Place::On(connection),
            filters: BTreeMap::new(),
            outbox: Outbox::new(limit),
            unreleased: BTreeSet::new(),
            greetings: VecDeque::new(),
            dropped: 0,
            complained: None,
        }
    }

    /// Takes a filter, if it is not too much.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> bool {
        let bytes: usize = self.filters.keys().map(|filter| filter.len() + FILTER).sum();
        if bytes + filter.len() + FILTER > FILTERS && !self.filters.contains_key(filter) {
            return false;
        }
        self.filters.insert(filter.to_owned(), qos);
        self.greetings.retain(|greeting| greeting.filter != filter);
        self.greetings.push_back(Greeting { filter: filter.to_owned(), qos, behind: None });
        true
    }

    /// Forgets a filter; whether there was one.
    pub fn unsubscribe(&mut self, filter: &str) -> bool {
        self.greetings.retain(|greeting| greeting.filter != filter);
        self.filters.remove(filter).is_some()
    }

    /// Fetches kept messages for new filters, as many as there is room.
    pub fn greet(&mut self, retained: &Retained) {
        while self.outbox.has_room()
            && let Some(greeting) = self.greetings.front_mut()
        {
            match retained.next(&greeting.filter, greeting.behind.as_deref()) {
                None => drop(self.greetings.pop_front()),
                Some((message, qos)) => {
                    greeting.behind = Some(message.topic.clone());
                    let qos = lower(*qos, greeting.qos);
                    self.outbox.put(message.clone(), qos, true);
                }
            }
        }
    }

    /// A QoS 2 message of the client came: whether it is a new one; `None` when
    /// there are too many it never released.
    pub fn came(&mut self, id: u16) -> Option<bool> {
        if self.unreleased.contains(&id) {
            return Some(false);
        }
        (self.unreleased.len() < UNRELEASED).then(|| self.unreleased.insert(id))
    }

    /// The client will not repeat it.
    pub fn released(&mut self, id: u16) {
        self.unreleased.remove(&id);
    }

    /// Messages for this client were dropped; how many in all, when it is time to
    /// say so.
    pub fn note_dropped(&mut self, now: Duration, count: u64) -> Option<u64> {
        self.dropped += count;
        let due = count > 0 && self.complained.is_none_or(|at| now.saturating_sub(at) >= PATIENCE);
        due.then(|| {
            self.complained = Some(now);
            self.dropped
        })
    }
}

/// The less sure of two.
pub fn lower(a: QoS, b: QoS) -> QoS {
    if (a as u8) < b as u8 { a } else { b }
}
