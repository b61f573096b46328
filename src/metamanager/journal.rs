//! One preallocated, zero-filled ring of records. Writing into it never changes
//! the file's size, so a sync costs one small write and no metadata.
//!
//! ```text
//! record: magic u32 | length u32 | sequence u64 | crc32 u32 | payload | pad to 8
//! ```
//!
//! Records stand one behind the other; one that would pass the end begins at
//! the start instead. Which records count is decided by their sequence alone:
//! those after the fold's watermark, in an unbroken row. A torn record has a
//! wrong checksum and ends the row. The sequence is the ring's own: a ticket
//! that never reached the disk must not leave a gap.

use std::io;

use super::record;
use crate::node::store::Batch;

/// Name of the file.
pub const FILE: &str = "journal";

const MAGIC: u32 = 0x5345_4c56;
const HEAD: u64 = 20;

/// Where bytes are kept: a file, or in tests one that loses power.
pub trait Disk {
    /// Reads exactly.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all.
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Everything written before is safe after.
    fn sync(&mut self) -> io::Result<()>;
    /// Size in bytes.
    fn size(&self) -> u64;
}

/// A record as it is read: sequence, payload.
pub type Record = (u64, Vec<u8>);

/// Payloads one behind the other: thousands of them are one piece of memory that
/// goes back as a whole.
#[derive(Debug, Default)]
pub struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[*begin..*end])
    }
}

/// The ring.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    head: u64,
    next: u64,
    /// Where the oldest record that is not folded begins; `None` when there is
    /// none.
    tail: Option<u64>,
    /// Records that are not folded: sequence, place.
    live: Vec<(u64, u64)>,
}

/// There is no room: fold first.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl<D: Disk> Journal<D> {
    /// Reads the ring: its unfolded records after `watermark`, in order.
    pub fn open(disk: D, watermark: u64) -> io::Result<(Self, Vec<Record>)> {
        let mut found = Self::scan(&disk)?;
        found.retain(|(sequence, _, _)| *sequence > watermark);
        found.sort();
        let mut next = watermark + 1;
        let row: Vec<(u64, u64, u64)> = found.into_iter().map_while(|record| (record.0 == next).then(|| (next += 1, record).1)).collect();
        let mut records = Vec::with_capacity(row.len());
        for (sequence, at, length) in &row {
            let mut payload = vec![0; usize::try_from(*length).unwrap_or(0)];
            disk.read_at(&mut payload, at + HEAD)?;
            records.push((*sequence, payload));
        }
        let head = row.last().map_or(0, |(_, at, length)| at + padded(*length));
        let live: Vec<(u64, u64)> = row.iter().map(|(sequence, at, _)| (*sequence, *at)).collect();
        let tail = live.first().map(|(_, at)| *at);
        Ok((Self { disk, head, next, tail, live }, records))
    }

    /// Every whole record, wherever it stands: sequence, place, length.
    fn scan(disk: &D) -> io::Result<Vec<(u64, u64, u64)>> {
        let mut all = vec![0; usize::try_from(disk.size()).unwrap_or(0)];
        disk.read_at(&mut all, 0)?;
        let (mut found, mut at) = (Vec::new(), 0usize);
        while at + 20 <= all.len() {
            match parse(&all[at..]) {
                Some((sequence, length)) => {
                    found.push((sequence, at as u64, length as u64));
                    at += usize::try_from(padded(length as u64)).unwrap_or(8);
                }
                None => at += 8,
            }
        }
        Ok(found)
    }

    /// Puts a batch behind the others, without syncing. The last eighth of the
    /// ring takes only removals, so that a full disk does not lock the node.
    pub fn append(&mut self, batch: &Batch) -> Result<io::Result<()>, Full> {
        let payload = record::changes(&batch.changes);
        let reserve = if batch.changes.iter().all(|change| change.row.is_none()) { 0 } else { self.disk.size() / 8 };
        let bytes = assemble(self.next, &payload);
        let at = self.place(bytes.len() as u64, reserve).ok_or(Full)?;
        if let Err(why) = self.disk.write_at(&bytes, at) {
            return Ok(Err(why));
        }
        self.head = at + bytes.len() as u64;
        self.tail.get_or_insert(at);
        self.live.push((self.next, at));
        self.next += 1;
        Ok(Ok(()))
    }

    /// Whether a batch of this size belongs into the ring at all.
    pub fn takes(&self, batch: &Batch) -> bool {
        record::changes(&batch.changes).len() as u64 + HEAD <= self.disk.size() / 4
    }

    fn place(&self, length: u64, reserve: u64) -> Option<u64> {
        let size = self.disk.size();
        match self.tail {
            None => Some(0).filter(|_| length <= size),
            Some(tail) if self.head > tail && self.head + length <= size && size - self.head + tail >= length + reserve => Some(self.head),
            Some(tail) if self.head > tail => Some(0).filter(|_| length + reserve < tail),
            Some(tail) => Some(self.head).filter(|head| head + length + reserve < tail),
        }
    }

    /// Everything appended is safe after this.
    pub fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()
    }

    /// Takes back what was appended since `sequence`: it did not reach the disk.
    pub fn undo(&mut self, sequence: u64) {
        while let Some((_, at)) = self.live.pop_if(|(last, _)| *last >= sequence) {
            self.head = at;
            self.next -= 1;
        }
        if self.live.is_empty() {
            self.tail = None;
        }
    }

    /// More than half of the ring waits to be folded.
    pub fn is_half_full(&self) -> bool {
        let size = self.disk.size();
        self.tail.is_some_and(|tail| if self.head > tail { self.head - tail > size / 2 } else { size - tail + self.head > size / 2 })
    }

    /// The payloads that are not folded.
    pub fn unfolded(&self) -> io::Result<Payloads> {
        let mut payloads = Payloads::default();
        for (_, at) in &self.live {
            let mut head = [0; 20];
            self.disk.read_at(&mut head, *at)?;
            let length = u32::from_le_bytes(head[4..8].try_into().expect("four bytes"));
            let begin = payloads.bytes.len();
            payloads.bytes.resize(begin + length as usize, 0);
            self.disk.read_at(&mut payloads.bytes[begin..], at + HEAD)?;
            payloads.ends.push(payloads.bytes.len());
        }
        Ok(payloads)
    }

    /// The sequence of the next record.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Everything is folded: the ring is free, and goes on where it stands so
    /// that flash wears evenly.
    pub fn folded(&mut self) {
        // Not cleared: it was thousands, and may be few for long.
        self.live = Vec::new();
        self.tail = None;
    }
}

fn padded(length: u64) -> u64 {
    (HEAD + length).next_multiple_of(8)
}

fn assemble(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a record is at most a quarter of the ring");
    let mut bytes = Vec::with_capacity(payload.len() + 32);
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(checksum(&bytes, payload).to_le_bytes());
    bytes.extend(payload);
    bytes.resize(usize::try_from(padded(u64::from(length))).expect("it was allocated"), 0);
    bytes
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}

fn parse(bytes: &[u8]) -> Option<(u64, usize)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != MAGIC {
        return None;
    }
    let length = word(4)? as usize;
    let payload = bytes.get(20..20usize.checked_add(length)?)?;
    let sequence = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (word(16)? == checksum(&bytes[..16], payload)).then_some((sequence, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::chance::Chance;
    use crate::node::ids::Ticket;
    use crate::node::store::{Change, Key, Row};

    /// A disk that loses power: of what was written since the last sync, any
    /// part may be there.
    #[derive(Clone)]
    struct Flaky {
        safe: Vec<u8>,
        written: Vec<(usize, Vec<u8>)>,
    }

    impl Flaky {
        fn new(size: usize) -> Self {
            Self { safe: vec![0; size], written: Vec::new() }
        }

        fn now(&self) -> Vec<u8> {
            let mut all = self.safe.clone();
            self.written.iter().for_each(|(at, bytes)| all[*at..at + bytes.len()].copy_from_slice(bytes));
            all
        }

        fn power_cut(&self, chance: &mut Chance) -> Self {
            let mut all = self.safe.clone();
            for (at, bytes) in &self.written {
                let kept = usize::try_from(chance.draw()).unwrap_or(0) % (bytes.len() + 1);
                if chance.draw().is_multiple_of(2) {
                    all[*at..at + kept].copy_from_slice(&bytes[..kept])
                } else {
                    all[at + kept..at + bytes.len()].copy_from_slice(&bytes[kept..])
                }
            }
            Self { safe: all, written: Vec::new() }
        }
    }

    impl Disk for Flaky {
        fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
            let at = usize::try_from(at).expect("small");
            bytes.copy_from_slice(&self.now()[at..at + bytes.len()]);
            Ok(())
        }
        fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
            self.written.push((usize::try_from(at).expect("small"), bytes.to_vec()));
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            self.safe = self.now();
            self.written.clear();
            Ok(())
        }
        fn size(&self) -> u64 {
            self.safe.len() as u64
        }
    }

    fn batch(ticket: u64, size: usize) -> Batch {
        Batch { ticket: Ticket(ticket), changes: vec![Change::set(Key::Object(format!("o{ticket}").into()), Row::Object("x".repeat(size)))] }
    }

    #[test]
    fn nothing_that_was_synced_is_lost_at_any_power_cut() {
        for seed in 1..40 {
            let mut chance = Chance::new(seed);
            let (mut journal, _) = Journal::open(Flaky::new(4096), 0).expect("memory");
            let (mut watermark, mut ticket, mut synced) = (0, 0, 0);
            for _ in 0..200 {
                ticket += 1;
                let next = batch(ticket, usize::try_from(chance.draw() % 300).expect("small"));
                if journal.append(&next).is_err() {
                    journal.sync().expect("memory");
                    journal.folded();
                    ticket -= 1;
                    (watermark, synced) = (ticket, ticket);
                    continue;
                }
                let cut = journal.disk.power_cut(&mut chance);
                let (_, records) = Journal::open(cut, watermark).expect("memory");
                let last = records.last().map_or(watermark, |(sequence, _)| *sequence);
                assert!(last >= synced && last <= ticket, "seed {seed}: synced {synced}, found {last}, written {ticket}");
                for (sequence, payload) in &records {
                    assert_eq!(record::read_changes(payload).expect("whole")[0].key, Key::Object(format!("o{sequence}").into()), "seed {seed}");
                }
                if !chance.draw().is_multiple_of(3) {
                    journal.sync().expect("memory");
                    synced = ticket;
                }
            }
        }
    }

    #[test]
    fn a_batch_taken_back_leaves_no_gap() {
        let (mut journal, _) = Journal::open(Flaky::new(4096), 0).expect("memory");
        for ticket in [1, 2] {
            journal.append(&batch(ticket, 10)).expect("room").expect("memory");
        }
        journal.undo(2);
        journal.append(&batch(3, 10)).expect("room").expect("memory");
        journal.sync().expect("memory");
        let (_, records) = Journal::open(journal.disk.clone(), 0).expect("memory");
        let keys: Vec<Key> = records.iter().map(|(_, payload)| record::read_changes(payload).expect("whole")[0].key.clone()).collect();
        assert_eq!(keys, ["o1", "o3"].map(|name| Key::Object(name.into())));
    }

    #[test]
    fn a_full_ring_still_takes_removals() {
        let (mut journal, _) = Journal::open(Flaky::new(2048), 0).expect("memory");
        let mut ticket = 0;
        loop {
            ticket += 1;
            if journal.append(&batch(ticket, 100)).is_err() {
                break;
            }
        }
        let removal = Batch { ticket: Ticket(ticket), changes: vec![Change::remove(Key::Object("o1".into()))] };
        assert!(journal.append(&removal).is_ok());
        assert!(journal.is_half_full());
    }
}
