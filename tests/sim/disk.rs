//! A disk that keeps batches in order, takes a while, fills up, and loses what
//! was not written when the power goes.

use std::collections::{BTreeMap, VecDeque};

use selvedge::node::Restored;
use selvedge::node::ids::Ticket;
use selvedge::node::store::{Batch, Key, Row, Rows};

#[derive(Debug, Default)]
pub struct Disk {
    pub rows: BTreeMap<Key, Row>,
    last: Ticket,
    /// Handed over and not written yet.
    pub waiting: VecDeque<Batch>,
    /// It takes nothing.
    pub full: bool,
    lost: Option<String>,
    /// Batches written since the world began.
    pub writes: u64,
}

impl Disk {
    /// Writes what waits; the last ticket that is on disk now.
    pub fn write(&mut self) -> Option<Ticket> {
        if self.full {
            return None;
        }
        let mut last = None;
        while let Some(batch) = self.waiting.pop_front() {
            last = Some(self.apply(batch));
        }
        last
    }

    fn apply(&mut self, batch: Batch) -> Ticket {
        self.writes += 1;
        for change in batch.changes {
            match change.row {
                Some(row) => drop(self.rows.insert(change.key, row)),
                None => drop(self.rows.remove(&change.key)),
            }
        }
        self.last = batch.ticket;
        batch.ticket
    }

    /// The power goes: of what waited, only the first `kept` batches are there.
    pub fn power_lost(&mut self, kept: usize) {
        for batch in std::mem::take(&mut self.waiting).into_iter().take(if self.full { 0 } else { kept }) {
            self.apply(batch);
        }
    }

    /// The store is gone: a new flash, or moved aside.
    pub fn lose(&mut self, why: Option<&str>) {
        self.rows.clear();
        self.waiting.clear();
        self.lost = why.map(str::to_owned);
    }

    /// What a new agent finds.
    pub fn restored(&mut self) -> Restored {
        Restored { rows: Rows::new(self.rows.clone().into_iter().collect()).expect("rows of their tables"), last: self.last, lost: self.lost.take() }
    }
}
