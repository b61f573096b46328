//! redb, where the journal is folded into, and both together as one store.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::journal::{Disk, Full, Journal};
use super::record::RawChange;
use super::{StoreError, format2, journal, record};
use crate::node::ids::Ticket;
use crate::node::store::{Batch, Change, Key, Row};
use crate::node::{self, Restored};

/// Name of the file.
pub const FILE: &str = "store.redb";
/// The format this build writes. An older one is brought up at open, one step
/// after the other; a newer one is refused.
pub const FORMAT: u64 = 3;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Journal and redb together.
pub struct Store {
    path: PathBuf,
    database: Database,
    journal: Journal<Ring>,
}

/// The ring's file.
#[derive(Debug)]
struct Ring {
    file: File,
    size: u64,
}

impl Disk for Ring {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn size(&self) -> u64 {
        self.size
    }
}

impl Store {
    /// Opens or begins a store; replays what was not folded.
    pub fn open(dir: &Path, ring: u64) -> Result<(Self, Restored), StoreError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |why| StoreError::Io { path, why }
        };
        if !dir.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        }
        let path = dir.join(FILE);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io(&path))?;
        let database = redb_result(
            &path,
            Database::builder()
                .set_cache_size(64 << 10)
                .create_with_backend(FileBackend::new(file).map_err(|why| StoreError::Database { path: path.clone(), why: Box::new(why.into()) })?),
        )?;
        let (mut rows, watermark, format) = load(&database, &path)?;
        let ring_path = dir.join(journal::FILE);
        let ring = open_ring(&ring_path, ring).map_err(io(&ring_path))?;
        let (mut journal, records) = Journal::open(ring, watermark).map_err(io(&ring_path))?;
        let last = records.last().map_or(watermark, |(sequence, _)| *sequence);
        let read_changes = if format == FORMAT { record::read_changes } else { format2::read_changes };
        for (_, payload) in records {
            let changes = read_changes(&payload).map_err(|what| StoreError::Corrupt { path: ring_path.clone(), what })?;
            apply(&mut rows, changes);
        }
        if format < FORMAT {
            redb_result(&path, rewrite(&database, &rows, last))?;
            journal.folded();
            log::info!(target: "metamanager", "{}: upgraded from format {format} to {FORMAT}", path.display());
        }
        let corrupt = |key| StoreError::Corrupt { path: path.clone(), what: format!("the row of {key:?} is one of another table") };
        let rows = node::store::Rows::new(rows.into_iter().collect()).map_err(corrupt)?;
        Ok((Self { path, database, journal }, Restored { rows, last: Ticket(last), lost: None }))
    }

    /// Puts batches on disk with one sync. The answer is how many of them, from
    /// the first, are there, and why the next is not.
    pub fn write(&mut self, batches: &[Batch]) -> (usize, Result<(), String>) {
        let first = self.journal.next();
        for (index, batch) in batches.iter().enumerate() {
            if let Err(why) = self.append(batch) {
                let done = if index == 0 { Ok(()) } else { self.sync(first) };
                return if done.is_ok() { (index, Err(why)) } else { (0, done) };
            }
        }
        match self.sync(first) {
            Err(why) => (0, Err(why)),
            Ok(()) => (batches.len(), Ok(())),
        }
    }

    fn sync(&mut self, first: u64) -> Result<(), String> {
        self.journal.sync().map_err(|why| {
            self.journal.undo(first);
            why.to_string()
        })
    }

    fn append(&mut self, batch: &Batch) -> Result<(), String> {
        if !self.journal.takes(batch) {
            return self.fold(Some(batch)).map_err(|why| why.to_string());
        }
        if self.journal.is_half_full() {
            // A full disk must not keep removals out of the ring.
            let _ = self.fold(None).inspect_err(|why| log::debug!(target: "metamanager", "the journal could not be folded: {why}"));
        }
        match self.journal.append(batch) {
            Ok(result) => result.map_err(|why| why.to_string()),
            Err(Full) => {
                self.fold(None).map_err(|why| why.to_string())?;
                self.journal.append(batch).map_err(|Full| "the journal is too small".to_owned())?.map_err(|why| why.to_string())
            }
        }
    }

    /// Brings the journal, and a batch that is too large for it, into redb in
    /// one transaction.
    pub fn fold(&mut self, large: Option<&Batch>) -> Result<(), StoreError> {
        let last = self.journal.next() - 1;
        let ring = self.path.with_file_name(journal::FILE);
        let payloads = self.journal.unfolded().map_err(|why| StoreError::Io { path: ring.clone(), why })?;
        let large = large.map(|batch| record::changes(&batch.changes));
        let mut all = Vec::new();
        for payload in payloads.iter().chain(large.as_deref()) {
            all.extend(record::raw_changes(payload).map_err(|what| StoreError::Corrupt { path: ring.clone(), what })?);
        }
        redb_result(&self.path, commit(&self.database, last_words(all), last))?;
        self.journal.folded();
        Ok(())
    }
}

/// Only the last word on each row counts: what changes often costs redb no more
/// than what changed once.
fn last_words(mut changes: Vec<RawChange<'_>>) -> Vec<RawChange<'_>> {
    changes.reverse();
    changes.sort_by_key(RawChange::name);
    changes.dedup_by_key(|change| change.name());
    changes
}

fn commit(database: &Database, changes: Vec<RawChange<'_>>, last: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut rows = transaction.open_table(ROWS)?;
        for change in changes {
            match change.row() {
                Some(row) => drop(rows.insert(change.key().as_slice(), row.as_slice())?),
                None => drop(rows.remove(change.key().as_slice())?),
            }
        }
    }
    write_meta(&transaction, last)?;
    Ok(transaction.commit()?)
}

/// Writes all rows anew, in the format of this build.
fn rewrite(database: &Database, rows: &Rows, last: u64) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.delete_table(ROWS)?;
    {
        let mut table = transaction.open_table(ROWS)?;
        for (key, row) in rows {
            table.insert(record::key(key).as_slice(), record::row(row).as_slice())?;
        }
    }
    write_meta(&transaction, last)?;
    Ok(transaction.commit()?)
}

fn write_meta(transaction: &WriteTransaction, last: u64) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    meta.insert("format", FORMAT)?;
    meta.insert("sequence", last)?;
    Ok(())
}

fn redb_result<T, E: Into<redb::Error>>(path: &Path, result: Result<T, E>) -> Result<T, StoreError> {
    result.map_err(|why| StoreError::Database { path: path.to_owned(), why: Box::new(why.into()) })
}

type Rows = BTreeMap<Key, Row>;

/// All rows, the sequence they are folded up to, and the format they are in.
fn load(database: &Database, path: &Path) -> Result<(Rows, u64, u64), StoreError> {
    let read = redb_result(path, database.begin_read())?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((Rows::new(), 0, FORMAT)),
        Err(why) => return redb_result(path, Err(why)),
    };
    let number = |name: &str| -> Result<u64, StoreError> { Ok(redb_result(path, meta.get(name))?.map_or(0, |value| value.value())) };
    let format = number("format")?;
    if format > FORMAT {
        return Err(StoreError::Newer { path: path.to_owned(), found: format });
    }
    let mut rows = Rows::new();
    for entry in redb_result(path, redb_result(path, read.open_table(ROWS))?.iter())? {
        let (key, row) = redb_result(path, entry)?;
        let (key, row) = if format == FORMAT { record::read(key.value(), row.value()) } else { format2::read_row(key.value(), row.value()) }
            .map_err(|what| StoreError::Corrupt { path: path.to_owned(), what })?;
        rows.insert(key, row);
    }
    Ok((rows, number("sequence")?, format))
}

fn apply(rows: &mut Rows, changes: Vec<Change>) {
    for change in changes {
        match change.row {
            Some(row) => drop(rows.insert(change.key, row)),
            None => drop(rows.remove(&change.key)),
        }
    }
}

/// A new ring is filled with zeros, so that later writes never allocate.
fn open_ring(path: &Path, size: u64) -> io::Result<Ring> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let found = file.metadata()?.len();
    if found == 0 {
        io::copy(&mut io::Read::take(io::repeat(0), size.next_multiple_of(4096)), &mut file)?;
        file.sync_all()?;
    }
    let size = file.metadata()?.len();
    Ok(Ring { file, size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("selvedge-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    fn batch(ticket: u64, name: &str, size: usize) -> Batch {
        Batch { ticket: Ticket(ticket), changes: vec![Change::set(Key::Object(name.into()), Row::Object("x".repeat(size)))] }
    }

    #[test]
    fn what_was_written_is_there_after_reopening_folded_or_not() {
        let dir = dir("reopen");
        {
            let (mut store, restored) = Store::open(&dir, 64 << 10).expect("a new store");
            assert_eq!((restored.rows.len(), restored.last), (0, Ticket(0)));
            for ticket in 1..400 {
                assert_eq!(store.write(&[batch(ticket, &format!("o{}", ticket % 7), 500)]), (1, Ok(())));
            }
            assert_eq!(store.write(&[batch(400, "large", 40 << 10)]).0, 1);
            assert_eq!(store.write(&[Batch { ticket: Ticket(401), changes: vec![Change::remove(Key::Object("o3".into()))] }]).0, 1);
        }
        let (_, restored) = Store::open(&dir, 64 << 10).expect("the same store");
        assert_eq!((restored.rows.len(), restored.last), (7, Ticket(400)));
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join(FILE)), mode(&dir.join(journal::FILE))), (0o700, 0o600, 0o600));
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }

    #[test]
    fn a_newer_format_is_refused_and_a_corrupt_store_is_moved_aside() {
        let dir = dir("newer");
        drop(Store::open(&dir, 64 << 10).expect("a new store"));
        {
            let database = Database::open(dir.join(FILE)).expect("redb");
            let write = database.begin_write().expect("a transaction");
            write.open_table(META).expect("a table").insert("format", 99).expect("a number");
            write.commit().expect("on disk");
        }
        let config = crate::config::MetaManager { dir: dir.clone(), journal: 64 << 10 };
        assert!(matches!(super::super::open(&config, 5), Err(StoreError::Newer { found: 99, .. })));
        std::fs::write(dir.join(FILE), vec![7; 8192]).expect("it is ours");
        let (_, restored) = super::super::open(&config, 5).expect("a new store");
        assert!(restored.lost.is_some() && dir.join("store.redb.corrupt-5").exists());
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
}
