//! redb, where the journal is folded into.
//!
//! Table `rows` has a row as [`record`] writes it with a checksum of key and row behind
//! it (the low half of SipHash-2-4, little-endian); before its key stands the number of
//! its cluster ([`clusters`]). Table `state` has one entry that
//! says how many rows there are and the sum of their checksums, so that rows which
//! vanish, or come back as they once were, are noticed; and where the journal goes
//! on. It has a checksum, too. Table `meta` has the number `format`, which all builds
//! read alike.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::clusters::{self, Clusters, Owner};
use super::journal::Position;
use super::record::RawChange;
use super::salt::{self, Salt};
use super::{StoreError, record};
use crate::node::store::{Key, Row};

/// The format this build writes. An older one is brought up at open; a newer one is
/// refused.
pub const FORMAT: u64 = 3;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What redb's pages may take in memory, bytes.
const CACHE: usize = 64 << 10;

/// What redb knows of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Key of the checksums.
    pub salt: Salt,
    /// The ring was begun: it must be there.
    pub has_ring: bool,
    /// Where the records begin that redb does not have.
    pub position: Position,
    rows: u64,
    sum: u64,
}

/// What a file holds.
pub enum Content {
    /// Nothing yet.
    New,
    /// Rows of an older format, up to a sequence.
    Old {
        /// The format.
        format: u64,
        /// The sequence.
        sequence: u64,
    },
    /// This format.
    Current(State),
}

/// redb's file, open.
pub struct Tree {
    path: PathBuf,
    database: Database,
    content: Content,
    clusters: Clusters,
}

impl State {
    /// A store without rows.
    pub fn new(salt: Salt, sequence: u64) -> Self {
        Self { salt, has_ring: false, position: Position { sequence, ..Position::default() }, rows: 0, sum: 0 }
    }

    fn numbers(&self) -> [u64; 6] {
        let Position { sequence, place, tag } = self.position;
        [u64::from(self.has_ring), sequence, place, u64::from(tag), self.rows, self.sum]
    }

    fn to_bytes(self) -> Vec<u8> {
        let numbers = self.numbers();
        let tag = self.salt.tag(&numbers, &[]);
        self.salt.to_bytes().into_iter().chain(numbers.into_iter().chain([tag]).flat_map(u64::to_le_bytes)).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (salt, rest) = bytes.split_first_chunk::<{ salt::LENGTH }>()?;
        let numbers: Vec<u64> = rest.chunks(8).map(|number| number.try_into().ok().map(u64::from_le_bytes)).collect::<Option<_>>()?;
        let [has_ring, sequence, place, tag, rows, sum, check] = numbers.try_into().ok()?;
        let position = Position { sequence, place, tag: u16::try_from(tag).ok()? };
        let state = Self { salt: Salt::from_bytes(*salt), has_ring: has_ring == 1, position, rows, sum };
        (state.salt.tag(&state.numbers(), &[]) == check).then_some(state)
    }
}

impl Tree {
    /// Opens a file, or begins one in an empty file. Every page is verified: a file
    /// that rotted is refused, where redb would trust it and may panic later.
    pub fn open(backend: impl redb::StorageBackend, path: PathBuf) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
        let database = redb_result(&path, builder.create_with_backend(backend))?;
        let content = content(&database, &path)?;
        Ok(Self { path, database, content, clusters: Clusters::default() })
    }

    /// What it holds.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Its state, if it has one of this format.
    pub fn state(&self) -> Option<State> {
        match self.content {
            Content::Current(state) => Some(state),
            Content::New | Content::Old { .. } => None,
        }
    }

    /// Reads all rows, and checks that they are all there. Nothing can be changed before
    /// they are read.
    pub fn read(&mut self, mut row: impl FnMut(Key, Row)) -> Result<(), StoreError> {
        let Some(state) = self.state() else { return self.read_old(row) };
        let (mut count, mut sum, mut clusters) = (0, 0u64, Clusters::default());
        let corrupt = |what: &str| StoreError::Corrupt { path: self.path.clone(), what: what.to_owned() };
        self.each(|key, value| {
            let (value, tag) = unseal(&state.salt, key, value).ok_or_else(|| corrupt("a row has a wrong checksum"))?;
            (count, sum) = (count + 1, sum.wrapping_add(tag));
            let (number, key) = clusters::split(key).ok_or_else(|| corrupt("a row has no cluster"))?;
            let (key, value) = record::read(key, value).map_err(|what| corrupt(&what))?;
            if !clusters.found(Owner::of(&key), number) {
                return Err(corrupt("a row stands in another cluster than the others of its owner"));
            }
            row(key, value);
            Ok(())
        })?;
        if (state.rows, state.sum) != (count, sum) {
            return Err(corrupt(&format!("{count} rows are there, and they are not the {} that were written", state.rows)));
        }
        self.clusters = clusters;
        Ok(())
    }

    /// Rows of an older format.
    fn read_old(&self, mut row: impl FnMut(Key, Row)) -> Result<(), StoreError> {
        self.each(|key, value| {
            let read = super::format2::read_row(key, value);
            let (key, value) = read.map_err(|what| StoreError::Corrupt { path: self.path.clone(), what })?;
            row(key, value);
            Ok(())
        })
    }

    /// Every key and value as they stand.
    fn each(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let read = redb_result(&self.path, self.database.begin_read())?;
        let rows = match read.open_table(ROWS) {
            Ok(rows) => rows,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(why) => return redb_result(&self.path, Err(why)),
        };
        for entry in redb_result(&self.path, rows.iter())? {
            let (key, value) = redb_result(&self.path, entry)?;
            visit(key.value(), value.value())?;
        }
        Ok(())
    }

    /// Does changes, of which there is one for each row, and sets the position.
    pub fn commit(&mut self, changes: Vec<RawChange<'_>>, position: Position, has_ring: bool) -> Result<(), StoreError> {
        let before = self.state().ok_or_else(|| StoreError::Corrupt { path: self.path.clone(), what: "it was never begun".to_owned() })?;
        let state = State { position, has_ring, ..before };
        let state = redb_result(&self.path, change(&self.database, state, &mut self.clusters, changes))?;
        self.content = Content::Current(state);
        Ok(())
    }

    /// Writes all rows anew, in the format of this build.
    pub fn rewrite<'a>(&mut self, rows: impl Iterator<Item = (&'a Key, &'a Row)>, state: State) -> Result<(), StoreError> {
        let state = redb_result(&self.path, rewrite(&self.database, rows, state, &mut self.clusters))?;
        self.content = Content::Current(state);
        Ok(())
    }

    /// Writes all rows of another store, which can be read, into this new one.
    pub fn copy(&mut self, other: &Self, state: State) -> Result<(), StoreError> {
        let transaction = redb_result(&self.path, self.database.begin_write())?;
        redb_result(&self.path, transaction.delete_table(ROWS))?;
        let corrupt = || StoreError::Corrupt { path: other.path.clone(), what: "a row has a wrong checksum".to_owned() };
        let source = other.state().map(|state| state.salt).ok_or_else(corrupt)?;
        let mut writing = Writing::new(state.salt, &mut self.clusters);
        {
            let mut table = redb_result(&self.path, transaction.open_table(ROWS))?;
            other.each(|key, value| {
                let (value, _) = unseal(&source, key, value).ok_or_else(corrupt)?;
                let (_, key) = clusters::split(key).ok_or_else(corrupt)?;
                let owner = record::owner(key).map_err(|_| corrupt())?;
                redb_result(&self.path, writing.set(&mut table, owner, key, value.to_vec()))
            })?;
        }
        let state = redb_result(&self.path, writing.end(transaction, state))?;
        self.content = Content::Current(state);
        Ok(())
    }
}

fn content(database: &Database, path: &Path) -> Result<Content, StoreError> {
    let corrupt = |what: &str| Err(StoreError::Corrupt { path: path.to_owned(), what: what.to_owned() });
    let read = redb_result(path, database.begin_read())?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let is_empty = redb_result(path, read.list_tables())?.next().is_none();
            return if is_empty { Ok(Content::New) } else { corrupt("it has no format") };
        }
        Err(why) => return redb_result(path, Err(why)),
    };
    let number = |name: &str| -> Result<Option<u64>, StoreError> { Ok(redb_result(path, meta.get(name))?.map(|value| value.value())) };
    match number("format")? {
        None => corrupt("it has no format"),
        Some(found) if found > FORMAT => Err(StoreError::Newer { path: path.to_owned(), found }),
        Some(FORMAT) => {
            let table = redb_result(path, read.open_table(STATE))?;
            let bytes = redb_result(path, table.get(""))?;
            match bytes.and_then(|bytes| State::from_bytes(bytes.value())) {
                Some(state) => Ok(Content::Current(state)),
                None => corrupt("its state cannot be read"),
            }
        }
        Some(format) => Ok(Content::Old { format, sequence: number("sequence")?.unwrap_or(0) }),
    }
}

/// A transaction that keeps count of its rows.
struct Writing<'a> {
    salt: Salt,
    clusters: &'a mut Clusters,
    rows: u64,
    sum: u64,
}

impl<'a> Writing<'a> {
    /// For a table without rows.
    fn new(salt: Salt, clusters: &'a mut Clusters) -> Self {
        *clusters = Clusters::default();
        Self { salt, clusters, rows: 0, sum: 0 }
    }

    fn set(&mut self, table: &mut Table<'_, &[u8], &[u8]>, owner: Owner, key: &[u8], mut value: Vec<u8>) -> Result<(), redb::Error> {
        let key = clusters::join(self.clusters.number(owner), key);
        let tag = row_tag(&self.salt, &key, &value);
        value.extend(tag.to_le_bytes());
        match table.insert(key.as_slice(), value.as_slice())?.map(|old| stored_tag(old.value())) {
            Some(before) => self.sum = self.sum.wrapping_sub(before),
            None => {
                self.rows += 1;
                self.clusters.added(owner);
            }
        }
        self.sum = self.sum.wrapping_add(u64::from(tag));
        Ok(())
    }

    fn remove(&mut self, table: &mut Table<'_, &[u8], &[u8]>, owner: Owner, key: &[u8]) -> Result<(), redb::Error> {
        let key = clusters::join(self.clusters.number(owner), key);
        let before = table.remove(key.as_slice())?.map(|old| stored_tag(old.value()));
        self.clusters.removed(owner, before.is_some());
        if let Some(before) = before {
            self.rows = self.rows.wrapping_sub(1);
            self.sum = self.sum.wrapping_sub(before);
        }
        Ok(())
    }

    fn end(self, transaction: WriteTransaction, state: State) -> Result<State, redb::Error> {
        let state = State { rows: self.rows, sum: self.sum, ..state };
        transaction.open_table(META)?.insert("format", FORMAT)?;
        transaction.open_table(STATE)?.insert("", state.to_bytes().as_slice())?;
        transaction.commit()?;
        Ok(state)
    }
}

fn change(database: &Database, state: State, clusters: &mut Clusters, mut changes: Vec<RawChange<'_>>) -> Result<State, redb::Error> {
    let transaction = database.begin_write()?;
    // In the order of the tree each page is written once.
    changes.sort_by_cached_key(|change| clusters.number(change.owner));
    let mut writing = Writing { salt: state.salt, clusters, rows: state.rows, sum: state.sum };
    {
        let mut rows = transaction.open_table(ROWS)?;
        for change in changes {
            match change.row() {
                Some(row) => writing.set(&mut rows, change.owner, &change.key(), row)?,
                None => writing.remove(&mut rows, change.owner, &change.key())?,
            }
        }
    }
    writing.end(transaction, state)
}

type RowRef<'a> = (&'a Key, &'a Row);

fn rewrite<'a>(database: &Database, rows: impl Iterator<Item = RowRef<'a>>, state: State, clusters: &mut Clusters) -> Result<State, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.delete_table(ROWS)?;
    let mut writing = Writing::new(state.salt, clusters);
    {
        let mut table = transaction.open_table(ROWS)?;
        for (key, row) in rows {
            writing.set(&mut table, Owner::of(key), &record::key(key), record::row(row))?;
        }
    }
    writing.end(transaction, state)
}

const TAG: usize = 4;

#[allow(clippy::cast_possible_truncation)]
fn row_tag(salt: &Salt, key: &[u8], value: &[u8]) -> u32 {
    salt.tag(&[salt.tag(&[], key)], value) as u32
}

/// The checksum behind a value.
fn stored_tag(value: &[u8]) -> u64 {
    value.last_chunk::<TAG>().map_or(0, |tag| u64::from(u32::from_le_bytes(*tag)))
}

/// The value and its checksum, if that is right.
fn unseal<'a>(salt: &Salt, key: &[u8], value: &'a [u8]) -> Option<(&'a [u8], u64)> {
    let (row, tag) = value.split_last_chunk::<TAG>()?;
    (row_tag(salt, key, row) == u32::from_le_bytes(*tag)).then(|| (row, stored_tag(value)))
}

fn redb_result<T, E: Into<redb::Error>>(path: &Path, result: Result<T, E>) -> Result<T, StoreError> {
    result.map_err(|why| StoreError::Database { path: path.to_owned(), why: Box::new(why.into()) })
}
