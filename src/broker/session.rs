//! What a client left with the broker: filters, messages for it, ids of its own
//! QoS 2 messages. A clean session ends with its connection, another one waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rumqttc::mqttbytes::QoS;

use super::outbox::Outbox;
use super::retained::{Retained, Walk};
use super::topic::Tree;
use super::{Client, Connection};

/// Bytes of all filters of a client, counted with [`FILTER`] each.
const FILTERS: usize = 64 << 10;
/// What a filter costs besides its text, and each level beyond [`FLAT`] again:
/// deep ones make messages dear.
const FILTER: usize = 64;
/// Levels of a filter that cost nothing by themselves.
const FLAT: usize = 8;
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
    /// Kept messages that new filters still have to be told: fetched as there is
    /// room, so that many of them are neither lost nor in memory twice.
    greeting: Option<Walk>,
    /// Newer filters, whose turn is next.
    newer: Tree,
    filter_bytes: usize,
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
            greeting: None,
            newer: Tree::default(),
            filter_bytes: 0,
            dropped: 0,
            complained: None,
        }
    }

    /// Takes a filter, if it is not too much.
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> bool {
        if !self.filters.contains_key(filter) {
            if self.filter_bytes + cost(filter) > FILTERS {
                return false;
            }
            self.filter_bytes += cost(filter);
        }
        self.filters.insert(filter.to_owned(), qos);
        self.newer.insert(filter, SELF, qos);
        true
    }

    /// Forgets a filter; whether there was one.
    pub fn unsubscribe(&mut self, filter: &str) -> bool {
        self.newer.remove(filter, SELF);
        self.greeting.iter_mut().for_each(|walk| walk.wanted.remove(filter, SELF));
        let was = self.filters.remove(filter).is_some();
        self.filter_bytes -= if was { cost(filter) } else { 0 };
        was
    }

    /// Fetches kept messages for new filters, as many as there is room and as
    /// `steps` allow.
    pub fn greet(&mut self, retained: &Retained, mut steps: usize) {
        while self.is_greeting() && steps > 0 {
            let walk = self.greeting.get_or_insert_with(|| Walk::new(std::mem::take(&mut self.newer)));
            match retained.next(walk, &mut steps) {
                Some((message, qos, wanted)) => {
                    self.outbox.put(message.clone(), lower(qos, wanted), true);
                }
                None if walk.ended => self.greeting = None,
                None => {}
            }
        }
    }

    /// Whether there is something to fetch and room for it.
    pub fn is_greeting(&self) -> bool {
        (self.greeting.is_some() || !self.newer.is_empty()) && self.outbox.has_room()
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

/// In a tree of its own the client needs no number.
const SELF: Client = Client(0);

fn cost(filter: &str) -> usize {
    let levels = filter.split('/').count();
    filter.len() + FILTER * (1 + levels.saturating_sub(FLAT))
}

/// The less sure of two.
pub fn lower(a: QoS, b: QoS) -> QoS {
    if (a as u8) < b as u8 { a } else { b }
}
