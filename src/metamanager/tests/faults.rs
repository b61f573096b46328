//! Media that fail: full, broken, read-only, gone; and come back.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::journal::Disk;
use super::super::medium::Medium;
use super::*;
use crate::node::chance::Chance;

/// Two files in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Files>>);

#[derive(Debug)]
pub struct Files {
    pub ring: Vec<u8>,
    pub tree: Vec<u8>,
    pub fault: Fault,
    /// Calls of the kind that fails.
    calls: u64,
    /// Size of a ring that is made, bytes.
    ring_size: usize,
    /// Pages of the ring and of redb that were written since the last sync.
    dirty: [BTreeSet<u64>; 2],
    /// All pages that were written so far.
    written: [u64; 2],
}

/// What a file system writes at least, bytes.
pub const PAGE: u64 = 4096;

impl Files {
    fn dirty(&mut self, file: usize, at: u64, length: usize) {
        for page in at / PAGE..(at + length as u64).div_ceil(PAGE) {
            self.written[file] += u64::from(self.dirty[file].insert(page));
        }
    }
}

/// What fails, from the call of this number on; and how.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fault {
    pub kind: Option<Call>,
    pub after: u64,
    pub errno: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Open,
    Read,
    Write,
    Grow,
    Sync,
}

impl Default for Files {
    fn default() -> Self {
        let (ring, tree, fault) = (Vec::new(), Vec::new(), Fault::default());
        Self { ring, tree, fault, calls: 0, ring_size: 64 << 10, dirty: Default::default(), written: [0; 2] }
    }
}

impl Memory {
    /// One whose ring has another size.
    pub fn with_ring(size: usize) -> Self {
        let memory = Self::default();
        memory.files().ring_size = size;
        memory
    }

    /// Bytes that a kernel would have written, of the ring and of redb: whole pages, and
    /// each once for a sync.
    pub fn written(&self) -> [u64; 2] {
        self.files().written.map(|pages| pages * PAGE)
    }

    /// Bytes of both files as `du` counts them: without pages that were never written.
    pub fn size(&self) -> u64 {
        let files = self.files();
        let pages = files.tree.chunks(4096).filter(|page| page.iter().any(|byte| *byte != 0)).count();
        files.ring.len() as u64 + pages as u64 * PAGE
    }

    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("no test panics here")
    }

    fn call(&self, kind: Call) -> io::Result<MutexGuard<'_, Files>> {
        let mut files = self.files();
        if files.fault.kind == Some(kind) {
            files.calls += 1;
            if files.calls > files.fault.after {
                return Err(io::Error::from_raw_os_error(files.fault.errno));
            }
        }
        Ok(files)
    }

    pub fn break_down(&self, fault: Fault) {
        let mut files = self.files();
        (files.fault, files.calls) = (fault, 0);
    }
}

fn span(at: u64, length: usize) -> std::ops::Range<usize> {
    let at = usize::try_from(at).expect("small");
    at..at + length
}

fn copy(from: &[u8], at: u64, bytes: &mut [u8]) -> io::Result<()> {
    let found = from.get(span(at, bytes.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
    bytes.copy_from_slice(found);
    Ok(())
}

impl Disk for Memory {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        copy(&self.call(Call::Read)?.ring, at, bytes)
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut files = self.call(Call::Write)?;
        files.dirty(0, at, bytes.len());
        files.ring[span(at, bytes.len())].copy_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.call(Call::Sync).map(|mut files| files.dirty[0].clear())
    }
    fn size(&self) -> u64 {
        self.files().ring.len() as u64
    }
}

impl redb::StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.files().tree.len() as u64)
    }
    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        copy(&self.call(Call::Read)?.tree, at, bytes)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.call(Call::Grow)?.tree.resize(usize::try_from(length).expect("small"), 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.call(Call::Sync).map(|mut files| files.dirty[1].clear())
    }
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.call(Call::Write)?;
        files.dirty(1, at, bytes.len());
        files.tree[span(at, bytes.len())].copy_from_slice(bytes);
        Ok(())
    }
}

impl Medium for Memory {
    type Ring = Self;
    type Tree = Self;

    fn ring(&self) -> io::Result<Self> {
        let mut files = self.call(Call::Open)?;
        if files.ring.is_empty() {
            let size = files.ring_size;
            files.ring.resize(size, 0);
        }
        drop(files);
        Ok(self.clone())
    }
    fn tree(&self) -> io::Result<Self> {
        drop(self.call(Call::Open)?);
        Ok(self.clone())
    }
    fn check(&self) -> io::Result<()> {
        Ok(())
    }
    fn find(&self) -> io::Result<()> {
        Ok(())
    }
    fn disown(&self) {}
    fn ring_path(&self) -> PathBuf {
        "journal".into()
    }
    fn tree_path(&self) -> PathBuf {
        "store.redb".into()
    }
}

pub const ENOSPC: i32 = 28;
pub const EIO: i32 = 5;
pub const EROFS: i32 = 30;

/// Writes one batch after the other as the thread does: what is not on disk is
/// tried again, with more behind it.
struct Life {
    store: Store<Memory>,
    group: Vec<Batch>,
    next: u64,
    /// Tickets that were answered.
    stored: u64,
}

impl Life {
    fn begin(memory: &Memory) -> Self {
        let (store, restored) = Store::open(memory.clone()).expect("a new store");
        Self { store, group: Vec::new(), next: restored.last.0 + 1, stored: restored.last.0 }
    }

    fn go(&mut self, chance: &mut Chance) -> Result<(), StoreError> {
        for _ in 0..=chance.draw() % 4 {
            let size = usize::try_from(chance.draw() % 3000).expect("small");
            // Now and then one that is too large for the ring.
            let size = if chance.draw().is_multiple_of(20) { size + 20_000 } else { size };
            self.group.push(batch(self.next, &format!("o{}", self.next % 50), size));
            self.next += 1;
        }
        let (done, result) = self.store.write(&self.group);
        for written in self.group.drain(..done) {
            self.stored += 1;
            assert_eq!(written.ticket, Ticket(self.stored), "in order, and once");
        }
        result
    }

    /// What is stored is there, and nothing but what was written.
    fn check(&self, memory: &Memory, what: &str) {
        let copy = Memory::default();
        {
            let (files, mut copied) = (memory.files(), copy.files());
            (copied.ring, copied.tree) = (files.ring.clone(), files.tree.clone());
        }
        let (_, restored) = Store::open(copy).unwrap_or_else(|why| panic!("{what}: {why}"));
        let last = restored.last.0;
        assert!(last >= self.stored && last < self.next, "{what}: {} stored, {last} found of {}", self.stored, self.next);
        let rows: std::collections::BTreeMap<_, _> = restored.rows.objects.into_iter().map(|(name, text)| (name.to_string(), text.len())).collect();
        assert_eq!(rows.len() as u64, last.min(50), "{what}");
    }
}

#[test]
fn every_error_at_every_call_is_recovered_from() {
    for (kind, errno) in [(Call::Write, ENOSPC), (Call::Grow, ENOSPC), (Call::Sync, EIO), (Call::Write, EIO), (Call::Read, EIO), (Call::Write, EROFS)] {
        for after in [0, 1, 2, 3, 4, 6, 8, 11, 15, 21, 30, 50, 90] {
            let what = format!("{kind:?} number {after} fails with {errno}");
            let (memory, mut chance) = (Memory::default(), Chance::new(after + 1));
            let mut life = Life::begin(&memory);
            for _ in 0..20 {
                life.go(&mut chance).expect("nothing fails yet");
            }
            memory.break_down(Fault { kind: Some(kind), after, errno });
            let errors: Vec<StoreError> = (0..30).filter_map(|_| life.go(&mut chance).err()).collect();
            assert!(errors.iter().all(|why| !why.is_damage()), "{what}: {errors:?}");
            // Opening it again fails, too.
            memory.break_down(Fault { kind: Some(Call::Open), after: 0, errno });
            let _ = life.go(&mut chance);
            memory.break_down(Fault::default());
            for _ in 0..3 {
                life.go(&mut chance).unwrap_or_else(|why| panic!("{what}, and goes on: {why}"));
            }
            assert!(life.group.is_empty() && life.stored == life.next - 1, "{what}");
            life.check(&memory, &what);
        }
    }
}

#[test]
fn a_full_disk_takes_what_the_ring_has_room_for() {
    let (memory, mut chance) = (Memory::default(), Chance::new(1));
    let mut life = Life::begin(&memory);
    memory.break_down(Fault { kind: Some(Call::Grow), after: 0, errno: ENOSPC });
    while life.go(&mut chance).is_ok() {}
    let stored = life.stored;
    assert!(stored > 5);
    life.group.clear();
    life.next = stored + 2;
    let removal = Batch { ticket: Ticket(stored + 1), changes: vec![Change::remove(Key::Object("o1".into()))] };
    assert_eq!(life.store.write(&[removal]).0, 1);
    life.stored += 1;
    memory.break_down(Fault::default());
    for _ in 0..10 {
        life.go(&mut chance).expect("there is room");
    }
}

#[test]
fn files_that_were_removed_are_written_anew() {
    let dir = dir("removed");
    let (mut store, _) = open(&dir).expect("a new store");
    for ticket in 1..300 {
        assert_eq!(store.write(&[batch(ticket, &format!("o{}", ticket % 7), 500)]).0, 1);
    }
    std::fs::remove_dir_all(&dir).expect("it is ours");
    // Something stands in the way.
    std::fs::write(&dir, "a file").expect("room");
    let (done, result) = store.write(&[batch(300, "o8", 10)]);
    assert!(done == 0 && result.is_err_and(|why| !why.is_damage()));
    let (done, result) = store.write(&[batch(300, "o8", 10)]);
    assert!(done == 0 && result.is_err());
    std::fs::remove_file(&dir).expect("it is ours");
    let (done, result) = store.write(&[batch(300, "o8", 10), batch(301, "o9", 10)]);
    assert!(done == 2 && result.is_ok(), "{result:?}");
    store.fold().expect("room");
    drop(store);
    let (_, restored) = open(&dir).expect("the store");
    assert_eq!((restored.rows.len(), restored.last), (9, Ticket(301)));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}
