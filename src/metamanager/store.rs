//! Journal and redb together: what is written goes to the ring, and to redb when the
//! ring fills up. What is too much for the ring goes to redb at once.
//!
//! An I/O error closes the file it came from, and the next write opens it again: what
//! was known to be on disk is verified, and writing goes on behind it. Batches whose
//! sync failed are written again, for a kernel that could not write a page may still
//! show it.

use std::collections::BTreeMap;

use super::journal::{self, Damage, Full, Journal, Payloads, Position};
use super::medium::{Directory, Medium};
use super::record::RawChange;
use super::salt::Salt;
use super::tree::{Content, FORMAT, State, Tree};
use super::{StoreError, format2, record};
use crate::node::ids::Ticket;
use crate::node::store::{Batch, Change, Key, Row};
use crate::node::{self, Restored};

/// Journal and redb together.
pub struct Store<M: Medium = Directory> {
    medium: M,
    /// `None` after an error, until it is opened again.
    tree: Option<Tree>,
    /// `None` after an error, until it is opened again.
    journal: Option<Journal<M::Ring>>,
    /// What redb said last.
    state: State,
    /// Batches that are safe, counted since the store was begun.
    safe: u64,
    /// Whether redb has batches that the ring never had is not known.
    is_unsettled: bool,
    /// redb could not take what is in the ring: it is not asked again before the
    /// ring is filled so far, of 256.
    patience: u64,
}

/// Filled so far, of 256, the ring is brought into redb.
const HALF: u64 = 128;
/// After a failure it is tried again each time so much more is filled, of 256.
const STEP: u64 = 16;

impl<M: Medium> Store<M> {
    /// Opens or begins a store; replays what redb does not have.
    ///
    /// # Errors
    ///
    /// What the files or their content say.
    pub fn open(medium: M) -> Result<(Self, Restored), StoreError> {
        let mut tree = open_tree(&medium)?;
        let mut rows = Rows::new();
        let (state, journal) = match *tree.content() {
            Content::Current(state) if state.has_ring => {
                tree.read(|key, row| drop(rows.insert(key, row)))?;
                let (journal, payloads) = open_journal(&medium, &state, None)?;
                for payload in payloads.iter() {
                    apply(&mut rows, record::read_changes(payload).map_err(|what| ring_corrupt(&medium, what))?);
                }
                (state, journal)
            }
            Content::Current(_) => {
                tree.read(|key, row| drop(rows.insert(key, row)))?;
                begin_ring(&medium, &mut tree)?
            }
            Content::New | Content::Old { .. } => {
                upgrade(&medium, &mut tree, &mut rows)?;
                begin_ring(&medium, &mut tree)?
            }
        };
        let safe = journal.end().sequence;
        let corrupt = |key| StoreError::Corrupt { path: medium.tree_path(), what: format!("the row of {key:?} is one of another table") };
        let rows = node::store::Rows::new(rows.into_iter().collect()).map_err(corrupt)?;
        let store = Self { medium, tree: Some(tree), journal: Some(journal), state, safe, is_unsettled: false, patience: 0 };
        Ok((store, Restored { rows, last: Ticket(safe), lost: None }))
    }

    /// Puts batches on disk with one sync. The answer is how many of them, from the
    /// first, are there, and why the next is not.
    pub fn write(&mut self, batches: &[Batch]) -> (usize, Result<(), StoreError>) {
        let before = self.safe;
        let result = self.try_to_write(batches, before);
        if result.as_ref().is_err_and(StoreError::is_of_file_system) && self.medium.check().is_ok() {
            // Open files would keep it from being unmounted and repaired. Those that were
            // removed are all there is of them.
            (self.tree, self.journal) = (None, None);
        }
        (usize::try_from(self.safe - before).unwrap_or(batches.len()), result)
    }

    fn try_to_write(&mut self, batches: &[Batch], before: u64) -> Result<(), StoreError> {
        self.mend()?;
        // An earlier try may have brought some of them into redb.
        let done = usize::try_from(self.safe - before).unwrap_or(0);
        let rest = &batches[done..];
        let mut payloads: Vec<Vec<u8>> = rest.iter().map(|batch| record::changes(&batch.changes)).collect();
        if payloads.len() > 1 && !self.takes(payloads.iter().map(Vec::len).sum()) {
            if self.checkpoint(&payloads).is_ok() {
                return Ok(());
            }
            self.mend()?;
        }
        if let ([alone], Some(journal)) = (&mut payloads[..], &self.journal) {
            // Zeros behind a batch mean nothing.
            alone.resize(alone.len() + journal.padding(alone.len()), 0);
        }
        let done = usize::try_from(self.safe - before).unwrap_or(0) - done;
        for (batch, payload) in rest.iter().zip(&payloads).skip(done) {
            if let Err(why) = self.append(payload, batch.changes.iter().all(|change| change.row.is_none())) {
                // Those before it were appended.
                if self.journal.is_some() {
                    self.sync()?;
                }
                return Err(why);
            }
        }
        self.sync()
    }

    fn takes(&self, length: usize) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.takes(length))
    }

    /// Puts a batch into the ring, or one that is too large for it into redb.
    fn append(&mut self, payload: &Vec<u8>, only_removes: bool) -> Result<(), StoreError> {
        if !self.takes(payload.len()) {
            return self.checkpoint(std::slice::from_ref(payload));
        }
        let filled = self.journal.as_ref().map_or(0, Journal::filled);
        if filled > HALF.max(self.patience) {
            // A full disk must not keep removals out of the ring.
            self.patience = match self.make_room() {
                Ok(()) => 0,
                Err(why) => {
                    log::debug!(target: "metamanager", "the journal stays as it is: {why}");
                    filled + STEP
                }
            };
        }
        if self.put(payload, only_removes)?.is_err() {
            self.make_room()?;
            self.put(payload, only_removes)?.map_err(|Full| ring_corrupt(&self.medium, "it is too small".to_owned()))?;
        }
        Ok(())
    }

    /// Only what is safe goes from the ring into redb: if that fails, it does not
    /// matter whether redb has it.
    fn make_room(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        self.checkpoint(&[])
    }

    fn put(&mut self, payload: &[u8], only_removes: bool) -> Result<Result<(), Full>, StoreError> {
        let Some(journal) = &mut self.journal else { return Err(self.closed()) };
        match journal.append(payload, only_removes) {
            Err(Full) => Ok(Err(Full)),
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(why)) => {
                self.journal = None;
                Err(ring_error(&self.medium, why))
            }
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let Some(journal) = &mut self.journal else { return Err(self.closed()) };
        let end = journal.end().sequence;
        if end == self.safe {
            return Ok(());
        }
        self.medium.check().map_err(|why| ring_error(&self.medium, why))?;
        if let Err(why) = journal.sync() {
            self.journal = None;
            return Err(ring_error(&self.medium, why));
        }
        self.safe = end;
        Ok(())
    }

    fn closed(&self) -> StoreError {
        ring_error(&self.medium, std::io::Error::other("it is closed after an error"))
    }

    /// The log is idle: what is safe is noted, so that rot in it can be told.
    pub fn note(&mut self) {
        let noted = self.journal.as_mut().map(Journal::note);
        if let Some(Err(why)) = noted {
            log::debug!(target: "metamanager", "{}: {why}", self.medium.ring_path().display());
            self.journal = None;
        }
    }

    /// Brings the journal into redb.
    ///
    /// # Errors
    ///
    /// Why it stays in the journal.
    pub fn fold(&mut self) -> Result<(), StoreError> {
        self.mend()?;
        self.make_room()
    }

    /// Brings the journal, and batches that do not go by it, into redb in one
    /// transaction.
    fn checkpoint(&mut self, direct: &[Vec<u8>]) -> Result<(), StoreError> {
        self.medium.check().map_err(|why| ring_error(&self.medium, why))?;
        self.mend_tree()?;
        self.commit(direct)
    }

    fn commit(&mut self, direct: &[Vec<u8>]) -> Result<(), StoreError> {
        let (Some(journal), Some(tree)) = (&self.journal, &mut self.tree) else { return Err(self.closed()) };
        let payloads = match journal.unfolded() {
            Ok(payloads) => payloads,
            Err(why) => {
                self.journal = None;
                return Err(damage(&self.medium, why));
            }
        };
        let end = journal.end();
        let mut changes = Vec::new();
        for payload in payloads.iter().chain(direct.iter().map(Vec::as_slice)) {
            changes.extend(record::raw_changes(payload).map_err(|what| ring_corrupt(&self.medium, what))?);
        }
        let position = Position { sequence: end.sequence + direct.len() as u64, ..end };
        if let Err(why) = tree.commit(last_words(changes), position, true) {
            self.is_unsettled = !direct.is_empty();
            self.tree = None;
            return Err(why);
        }
        self.settle();
        Ok(())
    }

    /// redb was asked anew, or has just said so: what it has is safe, and leaves the
    /// ring.
    fn settle(&mut self) {
        self.is_unsettled = false;
        self.state = self.tree.as_ref().and_then(Tree::state).unwrap_or(self.state);
        self.safe = self.safe.max(self.state.position.sequence);
        let freed = self.journal.as_mut().map(|journal| journal.checkpoint(self.state.position));
        if let Some(Err(why)) = freed {
            // What was written is safe all the same.
            log::debug!(target: "metamanager", "{}: {why}", self.medium.ring_path().display());
            self.journal = None;
        }
    }

    /// Opens again what an error has closed.
    fn mend(&mut self) -> Result<(), StoreError> {
        if self.tree.is_none() && self.journal.is_none() {
            return self.reopen();
        }
        if let Err(why) = self.medium.check() {
            if why.kind() != std::io::ErrorKind::NotFound {
                return Err(ring_error(&self.medium, why));
            }
            log::warn!(target: "metamanager", "{why}: all rows are written anew");
            return self.rescue().inspect_err(|_| self.medium.disown());
        }
        if self.is_unsettled {
            self.mend_tree()?;
        }
        if self.journal.is_none() {
            let (journal, _) = open_journal(&self.medium, &self.state, Some(self.safe))?;
            self.journal = Some(journal);
        }
        Ok(())
    }

    /// Opens both files again, and makes none: a file system that is not mounted is
    /// waited for.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.medium.find().map_err(|why| ring_error(&self.medium, why))?;
        self.mend_tree()?;
        match open_journal(&self.medium, &self.state, Some(self.safe)) {
            Ok((journal, _)) => {
                self.journal = Some(journal);
                Ok(())
            }
            Err(why) => {
                self.tree = None;
                Err(why)
            }
        }
    }

    fn mend_tree(&mut self) -> Result<(), StoreError> {
        if self.tree.is_some() {
            return Ok(());
        }
        let mut tree = open_tree(&self.medium)?;
        tree.read(|_, _| ())?;
        match tree.state() {
            Some(state) if state.salt == self.state.salt && state.position.sequence >= self.state.position.sequence => {
                self.tree = Some(tree);
                self.settle();
                Ok(())
            }
            Some(_) | None => Err(StoreError::Corrupt { path: self.medium.tree_path(), what: "it is older than it was".to_owned() }),
        }
    }

    /// The files were removed, and are open still: what is in them is written into
    /// new ones, so that what is acknowledged next is not the only thing on disk.
    fn rescue(&mut self) -> Result<(), StoreError> {
        let path = self.medium.tree_path();
        let gone = || StoreError::Corrupt { path: path.clone(), what: "it was removed, and cannot be read any more".to_owned() };
        if self.tree.is_none() || self.journal.is_none() {
            return Err(gone());
        }
        self.commit(&[])?;
        let old = self.tree.as_ref().ok_or_else(gone)?;
        let mut tree = open_tree(&self.medium)?;
        if tree.state().is_some_and(|state| state.has_ring) {
            return Err(StoreError::Corrupt { path: self.medium.tree_path(), what: "it was replaced by another while it was in use".to_owned() });
        }
        let salt = Salt::random().map_err(|why| ring_error(&self.medium, why))?;
        tree.copy(old, State::new(salt, self.safe))?;
        let (state, journal) = begin_ring(&self.medium, &mut tree)?;
        (self.state, self.journal, self.tree) = (state, Some(journal), Some(tree));
        Ok(())
    }
}

pub(super) fn open_tree(medium: &impl Medium) -> Result<Tree, StoreError> {
    let path = medium.tree_path();
    let backend = medium.tree().map_err(|why| StoreError::Io { path: path.clone(), why })?;
    Tree::open(backend, path)
}

fn open_journal<M: Medium>(medium: &M, state: &State, last: Option<u64>) -> Result<(Journal<M::Ring>, Payloads), StoreError> {
    let ring = medium.ring().map_err(|why| ring_error(medium, why))?;
    Journal::open(ring, state.salt, state.position, last).map_err(|why| damage(medium, why))
}

/// A new ring behind what redb has. redb says that there is one before anything is
/// appended.
fn begin_ring<M: Medium>(medium: &M, tree: &mut Tree) -> Result<(State, Journal<M::Ring>), StoreError> {
    let corrupt = || StoreError::Corrupt { path: medium.tree_path(), what: "it was never begun".to_owned() };
    let state = tree.state().ok_or_else(corrupt)?;
    let ring = medium.ring().map_err(|why| ring_error(medium, why))?;
    let journal = Journal::begin(ring, state.salt, state.position).map_err(|why| ring_error(medium, why))?;
    tree.commit(Vec::new(), state.position, true)?;
    Ok((tree.state().ok_or_else(corrupt)?, journal))
}

/// Reads a store of an older format, or none, and writes it in that of this build.
fn upgrade(medium: &impl Medium, tree: &mut Tree, rows: &mut Rows) -> Result<(), StoreError> {
    tree.read(|key, row| drop(rows.insert(key, row)))?;
    let (format, sequence) = match tree.content() {
        Content::Old { format, sequence } => (Some(*format), *sequence),
        Content::New | Content::Current(_) => (None, 0),
    };
    let ring = medium.ring().map_err(|why| ring_error(medium, why))?;
    if journal::is_ring(&ring) {
        return Err(StoreError::Corrupt { path: medium.tree_path(), what: "the journal is there, and what came before is not".to_owned() });
    }
    let payloads = journal::read_format2(&ring, sequence).map_err(|why| ring_error(medium, why))?;
    for payload in &payloads {
        apply(rows, format2::read_changes(payload).map_err(|what| ring_corrupt(medium, what))?);
    }
    let salt = Salt::random().map_err(|why| ring_error(medium, why))?;
    tree.rewrite(rows.iter(), State::new(salt, sequence + payloads.len() as u64))?;
    if format.is_some() || !payloads.is_empty() {
        log::info!(target: "metamanager", "{}: upgraded to format {FORMAT}", medium.tree_path().display());
    }
    Ok(())
}

/// Only the last word on each row counts: what changes often costs redb no more
/// than what changed once.
fn last_words(mut changes: Vec<RawChange<'_>>) -> Vec<RawChange<'_>> {
    changes.reverse();
    changes.sort_by_key(RawChange::name);
    changes.dedup_by_key(|change| change.name());
    changes
}

type Rows = BTreeMap<Key, Row>;

fn apply(rows: &mut Rows, changes: Vec<Change>) {
    for change in changes {
        match change.row {
            Some(row) => drop(rows.insert(change.key, row)),
            None => drop(rows.remove(&change.key)),
        }
    }
}

fn ring_error(medium: &impl Medium, why: std::io::Error) -> StoreError {
    StoreError::Io { path: medium.ring_path(), why }
}

fn ring_corrupt(medium: &impl Medium, what: String) -> StoreError {
    StoreError::Corrupt { path: medium.ring_path(), what }
}

fn damage(medium: &impl Medium, damage: Damage) -> StoreError {
    match damage {
        Damage::Io(why) => ring_error(medium, why),
        Damage::Rot(what) => ring_corrupt(medium, what),
    }
}
