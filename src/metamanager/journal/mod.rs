//! One preallocated ring of records. Writing into it never changes the file's
//! size, so a sync costs one small write and no metadata.
//!
//! # Format 3
//!
//! Numbers are little-endian. `tag` is SipHash-2-4 with the store's salt (`salt`),
//! which is kept in redb and never leaves the disk.
//!
//! ```text
//! file:   header | pad to 4096 | header | pad to 8192 | ring of records
//! header: "selvjrn3" | written, size, epoch, began, checkpoint, synced, tag u64 each
//! record: mark u32 | length u32 | behind u16 | previous u16 | tag u64 | payload
//! ```
//!
//! A *place* counts the bytes of all records since the ring was begun; it stands in
//! the file at 8192 + place modulo (size - 8192), and a record that passes the end
//! goes on at the begin. Records stand one behind the other without a gap.
//!
//! - `mark`: the epoch, XOR the low half of the tag of the place.
//! - `behind`: distance from the record's place back to the part of the log that had
//!   been synced when it was written, in units of 64 bytes, rounded up; the
//!   largest number claims nothing.
//! - `previous`: the low quarter of the predecessor's tag.
//! - `tag`: over place, epoch, length, behind, previous and payload.
//! - header: of the two the one with the higher `written`; each is synced before the
//!   other is written again. `epoch`: no record has a higher one, and none from the
//!   place `began` on a lower one. `checkpoint`, `synced`: redb has, and the ring has
//!   synced, at least what stands before that place.
//!
//! # Reading
//!
//! redb holds, in the transaction of each checkpoint, the place where the records that
//! it does not have begin, and the tag before it. From there each record is the
//! successor of the one before: it stands where that one ends, has its tag, and its
//! epoch is one that may be there. The first that does not is the end. A record is
//! looked for nowhere else, so bytes in a payload are none, not even a copy of a real
//! one.
//!
//! The epoch is raised in the header, with the place where it begins, and that is
//! synced, before the first record is appended after an opening; a failed write or
//! sync makes the ring unusable until it is opened again. So an epoch writes each place
//! once, and what an earlier one left at or behind a place where the log was found to
//! end never counts again, be it the same to the byte.
//!
//! # A torn end, and rot
//!
//! After a power loss records that were never synced may be missing, in any order:
//! that is the end. What had been synced must be there. It is known to have been if a
//! header says so, or a whole record behind the end, of this round and an epoch that
//! counts: then [`Damage`] is told. Headers are written at each opening and checkpoint,
//! and once the log has been idle for a while ([`Journal::note`]); until then, rot in
//! the very last group looks as if its sync had never come back, and cannot be told.

mod format2;
mod frame;
mod header;
#[cfg(test)]
mod tests;

use std::io;

use frame::{Frame, HEAD, short};
use header::{Header, LENGTH};

pub use format2::read as read_format2;

use super::salt::Salt;

/// Name of the file.
pub const FILE: &str = "journal";

/// What a file system writes at least, bytes.
const PAGE: u64 = 4096;

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

/// Between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of the record before, counted since the store was begun.
    pub sequence: u64,
    /// The place.
    pub place: u64,
    /// Of the tag of the record before.
    pub tag: u16,
}

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

/// What is wrong with a ring.
#[derive(Debug)]
pub enum Damage {
    /// The disk says no.
    Io(io::Error),
    /// It is not what was written.
    Rot(String),
}

impl From<io::Error> for Damage {
    fn from(why: io::Error) -> Self {
        Self::Io(why)
    }
}

/// The ring.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    salt: Salt,
    header: Header,
    /// The highest epoch that a record may have.
    newest: u32,
    /// What redb has.
    start: Position,
    end: Position,
    /// Everything before this place is safe.
    synced: u64,
}

/// There is no room: redb must take what is here first.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Whether a file is a ring of this format, whoever's.
pub fn is_ring(disk: &impl Disk) -> bool {
    Header::is_there(disk)
}

impl<D: Disk> Journal<D> {
    /// Begins a ring, whatever is in it.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn begin(mut disk: D, salt: Salt, start: Position) -> io::Result<Self> {
        let mut header = Header { written: 0, size: disk.size(), epoch: 1, began: start.place, checkpoint: start.place, synced: start.place };
        header.write(&mut disk, &salt)?;
        header.write(&mut disk, &salt)?;
        Ok(Self { disk, salt, header, newest: 1, start, end: start, synced: start.place })
    }

    /// Reads what redb does not have. Records after the sequence `last`, if it is
    /// given, do not count: nobody was told of them, and they are written again.
    ///
    /// # Errors
    ///
    /// The disk's, and rot.
    pub fn open(disk: D, salt: Salt, start: Position, last: Option<u64>) -> Result<(Self, Payloads), Damage> {
        let rot = |what: &str| Err(Damage::Rot(what.to_owned()));
        let Some((header, both)) = Header::read(&disk, &salt)? else {
            return rot("no header of this store can be read");
        };
        if header.size != disk.size() {
            return rot("it has been cut or has grown");
        }
        if header.checkpoint > start.place {
            return rot("it goes on behind what redb has");
        }
        // A header that was lost may have raised it once more.
        let missing = u32::from(!both);
        let mut journal = Self { disk, salt, header, newest: 0, start, end: start, synced: 0 };
        journal.newest = header.epoch + missing;
        let payloads = journal.read_on(last)?;
        let is_short = last.is_some_and(|last| journal.end.sequence < last);
        if is_short || last.is_none() && (header.synced > journal.end.place || journal.has_later()?) {
            return rot("records that had been synced cannot be read");
        }
        journal.synced = journal.end.place;
        journal.newest += 1;
        (journal.header.epoch, journal.header.began) = (journal.newest, journal.end.place);
        journal.write_header()?;
        Ok((journal, payloads))
    }

    /// Reads from the start to the end of the chain.
    fn read_on(&mut self, last: Option<u64>) -> io::Result<Payloads> {
        let (mut payloads, mut epoch) = (Payloads::default(), 0);
        while last.is_none_or(|last| self.end.sequence < last) {
            let begin = payloads.bytes.len();
            let Some((frame, tag)) = self.record(self.end.place, epoch, &mut payloads.bytes)? else { break };
            if frame.previous != self.end.tag {
                payloads.bytes.truncate(begin);
                break;
            }
            payloads.ends.push(payloads.bytes.len());
            self.end = Position { sequence: self.end.sequence + 1, place: frame.end(), tag: short(tag) };
            epoch = frame.epoch;
        }
        Ok(payloads)
    }

    /// The whole record at a place, of an epoch from `lowest` on; its payload is put
    /// behind `payloads`.
    fn record(&self, place: u64, lowest: u32, payloads: &mut Vec<u8>) -> io::Result<Option<(Frame, u64)>> {
        let limit = self.start.place + self.capacity();
        if place + HEAD as u64 >= limit {
            return Ok(None);
        }
        let mut head = [0; HEAD];
        self.read(&mut head, place)?;
        let (frame, tag) = Frame::read(&self.salt, place, &head);
        if frame.length == 0 || frame.end() > limit || frame.epoch < lowest || !self.counts(&frame) {
            return Ok(None);
        }
        let begin = payloads.len();
        payloads.resize(begin + frame.length as usize, 0);
        self.read(&mut payloads[begin..], place + HEAD as u64)?;
        if frame.tag_read(&self.salt, &head, &payloads[begin..]) != tag {
            payloads.truncate(begin);
            return Ok(None);
        }
        Ok(Some((frame, tag)))
    }

    /// Whether its epoch may be there.
    fn counts(&self, frame: &Frame) -> bool {
        let lowest = if frame.place < self.header.began { 0 } else { self.header.epoch };
        (lowest..=self.newest).contains(&frame.epoch)
    }

    /// A record behind the end that says more had been synced.
    fn has_later(&self) -> io::Result<bool> {
        let limit = self.start.place + self.capacity();
        let mut window = vec![0; usize::try_from((limit - self.end.place).min(self.capacity())).unwrap_or(0)];
        self.read(&mut window, self.end.place)?;
        let mut payload = Vec::new();
        for (place, head) in (self.end.place..).zip(window.windows(HEAD)).skip(1) {
            let head: &[u8; HEAD] = head.try_into().expect("windows of this length");
            // Most bytes are no length, and zeros are none.
            let is_possible = head[4..8] != [0; 4] && (u64::from(head[7]) << 24) <= self.capacity();
            if !is_possible || !self.counts(&Frame::read(&self.salt, place, head).0) {
                continue;
            }
            payload.clear();
            let found = self.record(place, 0, &mut payload)?;
            if found.is_some_and(|(frame, _)| frame.synced > self.end.place) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a payload behind the others, without syncing. The last eighth of the ring
    /// is for those that only remove, so that a full disk does not lock the node.
    /// After an error the ring must be opened again.
    pub fn append(&mut self, payload: &[u8], only_removes: bool) -> Result<io::Result<()>, Full> {
        let length = u32::try_from(payload.len()).map_err(|_| Full)?;
        let reserve = if only_removes { 0 } else { self.capacity() / 8 };
        let place = self.end.place;
        let frame = Frame { place, epoch: self.header.epoch, length, synced: self.synced, previous: self.end.tag };
        if frame.end() + reserve > self.start.place + self.capacity() {
            return Err(Full);
        }
        let (bytes, tag) = frame.assemble(&self.salt, payload);
        if let Err(why) = self.write(&bytes, place) {
            return Ok(Err(why));
        }
        self.end = Position { sequence: self.end.sequence + 1, place: frame.end(), tag: short(tag) };
        Ok(Ok(()))
    }

    /// Whether a payload of this size belongs into the ring at all.
    pub fn takes(&self, length: usize) -> bool {
        (length + HEAD) as u64 <= self.capacity() / 4
    }

    /// By how many bytes a payload is lengthened, if it is synced alone, so that the next
    /// one like it lies in one page and not across two: each would be written.
    pub fn padding(&self, length: usize) -> usize {
        let record = (HEAD + length) as u64;
        let (end, _) = self.locate(self.end.place + record);
        let room = end.next_multiple_of(PAGE) - end;
        if record < PAGE && room < record { usize::try_from(room).unwrap_or(0) } else { 0 }
    }

    /// Everything appended is safe after this. After an error the ring must be opened
    /// again.
    pub fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()?;
        self.synced = self.end.place;
        Ok(())
    }

    /// Part of the ring that waits for redb, of 256.
    pub fn filled(&self) -> u64 {
        (self.end.place - self.start.place) * 256 / self.capacity().max(1)
    }

    /// Behind the last record.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The payloads that redb does not have.
    pub fn unfolded(&self) -> Result<Payloads, Damage> {
        let mut payloads = Payloads::default();
        let mut place = self.start.place;
        while place < self.end.place {
            let Some((frame, _)) = self.record(place, 0, &mut payloads.bytes)? else {
                return Err(Damage::Rot("records that were just written cannot be read".to_owned()));
            };
            payloads.ends.push(payloads.bytes.len());
            place = frame.end();
        }
        Ok(payloads)
    }

    /// redb has everything before a position; what it has beyond the last record
    /// went past the ring. The room is free, and the ring goes on where it stands
    /// so that flash wears evenly.
    pub fn checkpoint(&mut self, position: Position) -> io::Result<()> {
        self.start = position;
        if position.place >= self.end.place {
            self.end = position;
        }
        self.synced = self.synced.max(position.place);
        self.write_header()
    }

    /// Lets a header say what is synced, unless one does.
    pub fn note(&mut self) -> io::Result<()> {
        if self.header.synced == self.synced { Ok(()) } else { self.write_header() }
    }

    fn write_header(&mut self) -> io::Result<()> {
        self.header.checkpoint = self.start.place;
        self.header.synced = self.synced;
        self.header.write(&mut self.disk, &self.salt)
    }

    fn capacity(&self) -> u64 {
        self.header.size.saturating_sub(LENGTH)
    }

    /// Where a place stands, and how many bytes there are up to the file's end.
    fn locate(&self, place: u64) -> (u64, usize) {
        let within = place % self.capacity().max(1);
        (LENGTH + within, usize::try_from(self.capacity() - within).unwrap_or(usize::MAX))
    }

    fn read(&self, bytes: &mut [u8], place: u64) -> io::Result<()> {
        let (at, room) = self.locate(place);
        let (first, rest) = bytes.split_at_mut(room.min(bytes.len()));
        self.disk.read_at(first, at)?;
        if rest.is_empty() { Ok(()) } else { self.disk.read_at(rest, LENGTH) }
    }

    fn write(&mut self, bytes: &[u8], place: u64) -> io::Result<()> {
        let (at, room) = self.locate(place);
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.disk.write_at(first, at)?;
        if rest.is_empty() { Ok(()) } else { self.disk.write_at(rest, LENGTH) }
    }
}
