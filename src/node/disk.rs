//! Tickets: what goes to disk, and what is held until it is there.
//!
//! Stopping and removing never wait for the disk; starting and acks do.

use std::collections::{BTreeMap, VecDeque};

use super::ids::Ticket;
use super::store::{Batch, Change, Key, Row};

/// The node's side of the store. `H` is what waits for a ticket.
#[derive(Debug)]
pub struct Disk<H> {
    last: Ticket,
    done: Ticket,
    batches: VecDeque<Batch>,
    held: BTreeMap<Ticket, Vec<H>>,
    /// Worth writing, but not worth a write of its own.
    lazy: BTreeMap<Key, Row>,
    /// Why the disk takes nothing at the moment.
    pub trouble: Option<String>,
}

impl<H> Disk<H> {
    /// Continues after the last ticket on disk.
    pub fn new(last: Ticket) -> Self {
        Self { last, done: last, batches: VecDeque::new(), held: BTreeMap::new(), lazy: BTreeMap::new(), trouble: None }
    }

    /// Writes changes as one batch, with whatever waited lazily.
    pub fn put(&mut self, changes: Vec<Change>) -> Ticket {
        self.last = self.last.next();
        let mut all: Vec<Change> = std::mem::take(&mut self.lazy).into_iter().map(|(key, row)| Change { key, row: Some(row) }).collect();
        all.retain(|lazy| changes.iter().all(|change| change.key != lazy.key));
        all.extend(changes);
        self.batches.push_back(Batch { ticket: self.last, changes: all });
        self.last
    }

    /// Writes a row with the next batch, whenever that is.
    pub fn put_lazily(&mut self, key: Key, row: Row) {
        self.lazy.insert(key, row);
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

    /// Writes what waited lazily, for a clean end.
    pub fn flush(&mut self) {
        if !self.lazy.is_empty() && self.trouble.is_none() {
            self.put(Vec::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::store::Table;

    #[test]
    fn what_is_held_comes_free_with_its_ticket_and_not_before() {
        let mut disk: Disk<&str> = Disk::new(Ticket(4));
        let first = disk.put(vec![Change::remove(Table::Objects, "a")]);
        let second = disk.put(vec![Change::remove(Table::Objects, "b")]);
        disk.hold(first, "a");
        disk.hold(second, "b");
        disk.hold(second, "c");
        assert_eq!(disk.pending(), 2);
        assert_eq!(disk.stored(first), ["a"]);
        assert_eq!(disk.release(|what| *what == "c"), ["c"]);
        assert_eq!(disk.stored(second), ["b"]);
    }

    #[test]
    fn lazy_rows_ride_on_the_next_batch() {
        let mut disk: Disk<()> = Disk::new(Ticket(0));
        let key = Key::new(Table::Versions, "x");
        disk.put_lazily(key.clone(), Row::Version(1));
        disk.put_lazily(key.clone(), Row::Version(2));
        assert!(disk.poll().is_none());
        disk.put(vec![Change::remove(Table::Objects, "x")]);
        let changes = disk.poll().expect("a batch").changes;
        assert_eq!(changes[0], Change { key, row: Some(Row::Version(2)) });
        assert_eq!(changes.len(), 2);
    }
}
