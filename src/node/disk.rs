//! Tickets: what goes to disk, and what is held until it is there.
//!
//! Stopping and removing never wait for the disk; starting and acks do.

use std::collections::{BTreeMap, VecDeque};

use super::ids::Ticket;
use super::store::{Batch, Change, Key, Row};

/// Changes of a batch that takes no more.
const CROWD: usize = 512;

/// The node's side of the store. `H` is what waits for a ticket.
#[derive(Debug)]
pub struct Disk<H> {
    last: Ticket,
    done: Ticket,
    batches: VecDeque<Batch>,
    held: BTreeMap<Ticket, Vec<H>>,
    /// Worth writing, but not worth a write of its own.
    lazy: BTreeMap<Key, Option<Row>>,
    /// Something of it was joined, and is waited for.
    owed: bool,
    /// Why the disk takes nothing at the moment.
    pub trouble: Option<String>,
}

impl<H> Disk<H> {
    /// Continues after the last ticket on disk.
    pub fn new(last: Ticket) -> Self {
        Self { last, done: last, batches: VecDeque::new(), held: BTreeMap::new(), lazy: BTreeMap::new(), owed: false, trouble: None }
    }

    /// Writes changes as one batch, with whatever waited lazily.
    pub fn put(&mut self, changes: Vec<Change>) -> Ticket {
        self.last = self.last.next();
        self.owed = false;
        let mut all: Vec<Change> = std::mem::take(&mut self.lazy).into_iter().map(|(key, row)| Change { key, row }).collect();
        all.retain(|lazy| changes.iter().all(|change| change.key != lazy.key));
        all.extend(changes);
        self.batches.push_back(Batch { ticket: self.last, changes: all });
        self.last
    }

    /// Writes a row with the next batch, whenever that is.
    pub fn put_lazily(&mut self, key: Key, row: Row) {
        self.wait_lazily(key, Some(row));
    }

    /// Removes a row with the next batch, whenever that is.
    pub fn remove_lazily(&mut self, key: Key) {
        self.wait_lazily(key, None);
    }

    /// Many together are worth a write, and memory is short.
    fn wait_lazily(&mut self, key: Key, row: Option<Row>) {
        self.keep(key, row);
        if self.lazy.len() >= CROWD {
            self.flush();
        }
    }

    /// Keeps the newest of a row. A numbered one is set once: if it waits here,
    /// the disk never had it and need not remove it.
    fn keep(&mut self, key: Key, row: Option<Row>) {
        let is_numbered = matches!(key, Key::Upload(_) | Key::Event(_));
        if row.is_none() && is_numbered && matches!(self.lazy.get(&key), Some(Some(_))) {
            self.lazy.remove(&key);
        } else {
            self.lazy.insert(key, row);
        }
    }

    /// The batch that [`Disk::join`] would write to now.
    pub fn joined(&self) -> Ticket {
        if self.open().is_some() { self.last } else { self.last.next() }
    }

    /// The batch that waits for the shell and takes more.
    fn open(&self) -> Option<&Batch> {
        self.batches.back().filter(|batch| self.trouble.is_none() && batch.changes.len() < CROWD)
    }

    /// Writes changes with the batch that waits for the shell, if there is one:
    /// many small things that come at once are one batch. While the disk takes
    /// nothing, the newest of each row is kept and no more.
    pub fn join(&mut self, changes: Vec<Change>) -> Ticket {
        let ticket = self.joined();
        if self.trouble.is_some() {
            self.owed = true;
            changes.into_iter().for_each(|change| self.keep(change.key, change.row));
        } else if self.open().is_none() {
            self.put(changes);
        } else if let Some(batch) = self.batches.back_mut() {
            // What waits lazily is older, and must not be written after them.
            changes.iter().for_each(|change| drop(self.lazy.remove(&change.key)));
            batch.changes.extend(changes);
        }
        ticket
    }

    /// The batch after which everything put or joined so far is on disk; `None`
    /// when it is already.
    pub fn unsettled(&self) -> Option<Ticket> {
        if self.owed { Some(self.last.next()) } else { Some(self.last).filter(|last| *last > self.done) }
    }

    /// Rows that wait for a batch.
    pub fn rows(&self) -> usize {
        self.lazy.len()
    }

    /// The last batch that is on disk.
    pub fn done(&self) -> Ticket {
        self.done
    }

    /// Holds something until the ticket is on disk.
    pub fn hold(&mut self, ticket: Ticket, what: H) {
        self.held.entry(ticket).or_default().push(what);
    }

    /// A ticket is on disk: what is free now.
    pub fn stored(&mut self, ticket: Ticket) -> Vec<H> {
        self.done = self.done.max(ticket);
        let later = self.held.split_off(&ticket.next());
        std::mem::replace(&mut self.held, later).into_values().flatten().collect()
    }

    /// What is held and need not wait while the disk takes nothing.
    pub fn release(&mut self, urgent: impl Fn(&H) -> bool) -> Vec<H> {
        self.held.values_mut().flat_map(|held| held.extract_if(.., |what| urgent(what))).collect()
    }

    /// The next batch for the shell.
    pub fn poll(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// Batches that are not on disk yet.
    pub fn pending(&self) -> u64 {
        self.last.0 - self.done.0
    }

    /// Nothing waits to be written, lazy rows included.
    pub fn is_drained(&self) -> bool {
        self.batches.is_empty() && (self.trouble.is_some() || self.done == self.last)
    }

    /// Writes what waited lazily.
    pub fn flush(&mut self) {
        if !self.lazy.is_empty() && self.trouble.is_none() {
            self.put(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::store::{Sequence, UploadRow};

    fn removal(name: &str) -> Change {
        Change::remove(Key::Object(name.into()))
    }

    #[test]
    fn what_is_held_comes_free_with_its_ticket_and_not_before() {
        let mut disk: Disk<&str> = Disk::new(Ticket(4));
        let first = disk.put(vec![removal("a")]);
        let second = disk.put(vec![removal("b")]);
        disk.hold(first, "a");
        disk.hold(second, "b");
        disk.hold(second, "c");
        assert_eq!(disk.pending(), 2);
        assert_eq!(disk.stored(first), ["a"]);
        assert_eq!(disk.release(|what| *what == "c"), ["c"]);
        assert_eq!(disk.stored(second), ["b"]);
    }

    #[test]
    fn small_things_share_a_batch_and_a_full_disk_keeps_the_newest_of_each() {
        let mut disk: Disk<&str> = Disk::new(Ticket(0));
        let set = |name: &str, version| vec![Change::set(Key::Version(name.into()), Row::Version(version))];
        assert_eq!((disk.joined(), disk.join(set("x", 1)), disk.join(set("y", 1))), (Ticket(1), Ticket(1), Ticket(1)));
        assert_eq!(disk.poll().expect("a batch").changes.len(), 2);
        assert_eq!(disk.join(set("x", 2)), Ticket(2));
        disk.poll();
        disk.trouble = Some("full".into());
        for version in 3..1000 {
            assert_eq!((disk.joined(), disk.join(set("x", version))), (Ticket(3), Ticket(3)));
        }
        for number in [1, 2] {
            let upload = || Key::Upload(Sequence(number));
            let row = UploadRow { at: 0, topic: String::new(), payload: Vec::new() };
            disk.join(vec![Change::set(upload(), Row::Upload(row)), Change::remove(upload())]);
        }
        disk.hold(Ticket(3), "reply");
        assert!(disk.poll().is_none());
        disk.trouble = None;
        disk.flush();
        let batch = disk.poll().expect("a batch");
        assert_eq!((batch.ticket, batch.changes), (Ticket(3), set("x", 999)));
        assert_eq!(disk.stored(Ticket(3)), ["reply"]);
    }

    #[test]
    fn lazy_rows_ride_on_the_next_batch() {
        let mut disk: Disk<()> = Disk::new(Ticket(0));
        let key = Key::Version("x".into());
        disk.put_lazily(key.clone(), Row::Version(1));
        disk.put_lazily(key.clone(), Row::Version(2));
        assert!(disk.poll().is_none());
        disk.put(vec![removal("x")]);
        let changes = disk.poll().expect("a batch").changes;
        assert_eq!(changes[0], Change { key, row: Some(Row::Version(2)) });
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn lazy_rows_never_come_after_what_is_newer() {
        let mut disk: Disk<()> = Disk::new(Ticket(0));
        disk.put(vec![removal("a")]);
        disk.put_lazily(Key::Object("x".into()), Row::Object("old".into()));
        assert_eq!(disk.join(vec![removal("x")]), Ticket(1));
        disk.flush();
        assert_eq!(disk.poll().expect("a batch").changes, [removal("a"), removal("x")]);
        assert!(disk.poll().is_none());
    }
}
