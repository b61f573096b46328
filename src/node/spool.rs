//! User messages that wait for the cloud: on disk before they are acknowledged
//! to the broker, sent in order, forgotten once the cloud has surely read them.
//! Bounded by bytes and age; what QoS 0 brought goes first, then the oldest.
//!
//! CloudCore answers no upload. But it reads a session in order: when a question
//! that was asked after some uploads is answered, it has read them, too.

use std::collections::VecDeque;
use std::time::Duration;

use super::ids::Ticket;
use super::now::{Mono, Now, Wall};
use super::store::{Change, Key, Row, Sequence, UploadRow};

/// Uploads on their way without a proof that they arrived.
const WINDOW: usize = 256;
/// Between two proofs, so that a trickle of messages is not doubled.
const PROOF: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Entry {
    number: Sequence,
    at: Wall,
    topic: String,
    payload: Vec<u8>,
    /// Its sender was told that it is safe.
    assured: bool,
    /// The batch that brings it to the disk.
    ticket: Ticket,
}

/// The messages that wait.
#[derive(Debug)]
pub struct Spool {
    entries: VecDeque<Entry>,
    next: Sequence,
    bytes: u64,
    size: u64,
    age: Duration,
    /// Entries before this one are on their way in this session.
    sent: usize,
    proof: Option<Sequence>,
    proof_at: Mono,
    /// Messages that were given up, ever since the start.
    pub dropped: u64,
}

impl Entry {
    fn weight(&self) -> u64 {
        (self.topic.len() + self.payload.len() + 64) as u64
    }
}

impl Spool {
    /// The messages that are on disk, in the order they came.
    pub fn load(size: u64, age: Duration, rows: Vec<(Sequence, UploadRow)>) -> Self {
        let mut spool = Self { entries: VecDeque::new(), next: Sequence(0), bytes: 0, size, age, sent: 0, proof: None, proof_at: Mono(0), dropped: 0 };
        for (number, UploadRow { at, topic, payload }) in rows {
            let entry = Entry { number, at: Wall(at), topic, payload, assured: true, ticket: Ticket(0) };
            spool.bytes += entry.weight();
            spool.next = number.next();
            spool.entries.push_back(entry);
        }
        spool
    }

    /// Takes a message in: the rows to write, those of messages that had to go
    /// among them. A message larger than everything that may wait goes itself.
    pub fn push(&mut self, now: Now, topic: String, payload: Vec<u8>, assured: bool, ticket: Ticket) -> Vec<Change> {
        let entry = Entry { number: self.next, at: now.wall, topic, payload, assured, ticket };
        self.next = self.next.next();
        if entry.weight() > self.size {
            self.dropped += 1;
            return Vec::new();
        }
        let row = UploadRow { at: entry.at.0, topic: entry.topic.clone(), payload: entry.payload.clone() };
        let mut changes = vec![Change::set(Key::Upload(entry.number), Row::Upload(row))];
        self.bytes += entry.weight();
        self.entries.push_back(entry);
        changes.extend(self.evict(now));
        changes
    }

    /// Gives up what is too old, and what there is no room for.
    fn evict(&mut self, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.entries.front().is_some_and(|entry| entry.at.is_sane() && now.wall.since(entry.at) > self.age) {
            changes.extend(self.give_up(0));
        }
        while self.bytes > self.size {
            let last = self.entries.len() - 1;
            let place = self.entries.iter().take(last).position(|entry| !entry.assured).unwrap_or(0);
            changes.extend(self.give_up(place));
        }
        changes
    }

    fn give_up(&mut self, place: usize) -> Option<Change> {
        self.dropped += 1;
        self.forget(place)
    }

    fn forget(&mut self, place: usize) -> Option<Change> {
        let entry = self.entries.remove(place)?;
        self.bytes -= entry.weight();
        if place < self.sent {
            self.sent -= 1;
        }
        Some(Change::remove(Key::Upload(entry.number)))
    }

    /// The next message for the cloud, topic and payload. What is not on disk
    /// waits for it, unless the disk takes nothing.
    pub fn next(&mut self, on_disk: Option<Ticket>) -> Option<(&str, &[u8])> {
        let entry = self.entries.get(self.sent).filter(|entry| self.sent < WINDOW && on_disk.is_none_or(|done| entry.ticket <= done))?;
        self.sent += 1;
        Some((&entry.topic, &entry.payload))
    }

    /// A proof is wanted: the last message it will prove.
    pub fn wants_proof(&mut self, now: Mono) -> Option<Sequence> {
        let last = self.sent.checked_sub(1).filter(|_| self.proof.is_none() && now >= self.proof_at)?;
        self.proof = self.entries.get(last).map(|entry| entry.number);
        self.proof_at = now + PROOF;
        self.proof
    }

    /// Everything up to this message has arrived: the rows to remove.
    pub fn proved(&mut self, number: Sequence) -> Vec<Change> {
        self.proof = None;
        let arrived = self.entries.iter().take(self.sent).take_while(|entry| entry.number <= number).count();
        (0..arrived).filter_map(|_| self.forget(0)).collect()
    }

    /// A question for a proof was not answered.
    pub fn unproved(&mut self) {
        self.proof = None;
    }

    /// A new session: what has no proof is sent again.
    pub fn start_over(&mut self) {
        self.sent = 0;
        self.proof = None;
    }

    /// When to ask for a proof.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        (self.sent > 0 && self.proof.is_none()).then_some((self.proof_at, "proof of uploads"))
    }

    /// Messages that wait, and their bytes.
    pub fn waiting(&self) -> (usize, u64) {
        (self.entries.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::node::store::Rows;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(1_800_000_000_000 + i64::try_from(seconds).expect("small") * 1000) }
    }

    fn spool(size: u64) -> Spool {
        Spool::load(size, DAY, Vec::new())
    }

    fn sent(spool: &mut Spool) -> Vec<String> {
        std::iter::from_fn(|| spool.next(None).map(|(_, payload)| String::from_utf8_lossy(payload).into_owned())).collect()
    }

    #[test]
    fn what_has_no_proof_is_sent_again_and_in_order() {
        let mut spool = spool(1 << 20);
        for payload in ["a", "b", "c"] {
            assert_eq!(spool.push(at(1), "t".into(), payload.into(), true, Ticket(1)).len(), 1);
        }
        assert!(spool.next(Some(Ticket(0))).is_none(), "it is not on disk");
        assert_eq!(sent(&mut spool), ["a", "b", "c"]);
        let proof = spool.wants_proof(at(2).mono).expect("a proof is wanted");
        spool.push(at(2), "t".into(), "d".into(), true, Ticket(2));
        assert_eq!(sent(&mut spool), ["d"]);
        assert_eq!(spool.proved(proof).len(), 3);
        spool.start_over();
        assert_eq!(sent(&mut spool), ["d"]);
    }

    #[test]
    fn rows_bring_everything_back_in_order() {
        let mut spool = spool(1 << 20);
        let mut rows = Vec::new();
        for number in 0..20 {
            for change in spool.push(at(1), "t".into(), number.to_string().into(), true, Ticket(1)) {
                rows.push((change.key, change.row.expect("it is set")));
            }
        }
        let mut again = Spool::load(1 << 20, DAY, Rows::new(rows).expect("rows of their tables").uploads);
        assert_eq!(sent(&mut again), (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
        again.push(at(2), "t".into(), "20".into(), true, Ticket(2));
        assert_eq!(sent(&mut again), ["20"]);
    }

    #[test]
    fn the_oldest_of_the_lowest_class_goes_first_and_is_counted() {
        let mut spool = spool(3 * (64 + 2));
        for (payload, assured) in [("a", true), ("b", false), ("c", false)] {
            spool.push(at(1), "t".into(), payload.into(), assured, Ticket(1));
        }
        assert_eq!(spool.push(at(1), "t".into(), "d".into(), true, Ticket(1)).len(), 2);
        assert_eq!(spool.push(at(1), "t".into(), "e".into(), true, Ticket(1)).len(), 2);
        spool.push(at(1), "t".into(), "f".into(), true, Ticket(1));
        assert_eq!((sent(&mut spool), spool.dropped), (vec!["d".to_owned(), "e".into(), "f".into()], 3));
        assert!(spool.push(at(1), "t".into(), vec![0; 1000], true, Ticket(1)).is_empty(), "it is larger than everything that may wait");
        spool.push(at(1 + 2 * 24 * 3600), "t".into(), "g".into(), true, Ticket(1));
        spool.start_over();
        assert_eq!(sent(&mut spool), ["g"]);
    }
}
