//! The ring of the store on a disk that loses power, rots, and holds what somebody
//! else wrote: what was acknowledged is there, nothing else is, or it is told.

use std::collections::BTreeSet;
use std::io;

use selvedge::metamanager::journal::{Damage, Disk, Journal, Position};
use selvedge::metamanager::salt::Salt;

use super::steps_of_length;

/// Where the records begin in the file.
const RING: usize = 8192;
const PAGE: usize = 512;
/// Steps that are played of one input.
const STEPS: usize = 80;

/// The first byte gives the size of the ring. Steps: a byte that says what happens, a
/// byte of length, and that many bytes with which it happens.
pub fn journal(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let mut play = Play::new(RING + 1024 + 64 * usize::from(*size));
    for (what, bytes) in steps_of_length(data).take(STEPS) {
        if play.step(what % 11, bytes).is_none() {
            return;
        }
    }
    play.restart(|_| false);
}

/// A page cache above a disk: what was not synced may be lost, page by page.
#[derive(Clone)]
struct Cached {
    safe: Vec<u8>,
    seen: Vec<u8>,
    dirty: BTreeSet<usize>,
    fails: bool,
}

impl Cached {
    fn keep(&mut self, page: usize) {
        let span = page * PAGE..((page + 1) * PAGE).min(self.safe.len());
        self.safe[span.clone()].copy_from_slice(&self.seen[span]);
    }

    /// The power goes; of the pages that were not synced, some are kept.
    fn cut(mut self, is_kept: impl Fn(usize) -> bool) -> Self {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().enumerate().filter(|(index, _)| is_kept(*index)).for_each(|(_, page)| self.keep(page));
        Self { seen: self.safe.clone(), fails: false, ..self }
    }
}

impl Disk for Cached {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        bytes.copy_from_slice(&self.seen[at..at + bytes.len()]);
        Ok(())
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / PAGE..=(at + bytes.len().max(1) - 1) / PAGE);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.fails {
            return Err(io::Error::other("the sync fails"));
        }
        std::mem::take(&mut self.dirty).into_iter().for_each(|page| self.keep(page));
        Ok(())
    }
    fn size(&self) -> u64 {
        self.safe.len() as u64
    }
}

/// The disk below a ring that is open; the ring itself has no door to it.
#[derive(Clone)]
struct Shared(std::rc::Rc<std::cell::RefCell<Cached>>);

impl Disk for Shared {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.0.borrow().read_at(bytes, at)
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.borrow_mut().write_at(bytes, at)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.borrow_mut().sync()
    }
    fn size(&self) -> u64 {
        self.0.borrow().size()
    }
}

struct Play {
    salt: Salt,
    disk: Shared,
    journal: Journal<Shared>,
    /// What redb has.
    start: Position,
    folded: Vec<Vec<u8>>,
    /// Acknowledged, or found after a restart, behind what redb has.
    acked: Vec<Vec<u8>>,
    /// Of those, what the newest sync made safe: rot in it cannot be told.
    newest: usize,
    /// Written since.
    open: Vec<Vec<u8>>,
    /// Written before syncs that failed, and nothing was synced since: it comes back if
    /// the header that disowns it rots. Nobody was told of it.
    disowned: Vec<Vec<Vec<u8>>>,
}

impl Play {
    fn new(size: usize) -> Self {
        let disk = Cached { safe: vec![0; size], seen: vec![0; size], dirty: BTreeSet::new(), fails: false };
        let disk = Shared(std::rc::Rc::new(disk.into()));
        let salt = Salt::from_bytes(*b"of a fuzz target");
        let journal = Journal::begin(disk.clone(), salt, Position::default()).expect("memory");
        Self { salt, disk, journal, start: Position::default(), folded: Vec::new(), acked: Vec::new(), newest: 0, open: Vec::new(), disowned: Vec::new() }
    }

    /// `None`: the ring is not the store's any more.
    fn step(&mut self, what: u8, bytes: &[u8]) -> Option<()> {
        match what {
            0 | 1 => self.append(bytes.to_vec()),
            2 => self.append(self.piece(bytes)),
            3 => self.sync(),
            4 => self.restart(|index| bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)),
            5 => self.sync_fails(),
            6 => self.checkpoint(),
            7 => self.note(),
            8 => return self.rot(bytes),
            9 => return self.forge_record(bytes),
            _ => return self.forge_header(bytes),
        }
        Some(())
    }

    /// A piece of the ring as it stands, with whole records in it.
    fn piece(&self, bytes: &[u8]) -> Vec<u8> {
        let number = |at: usize| bytes.get(at).copied().map_or(0, usize::from);
        let seen = &self.disk.0.borrow().seen[RING..];
        let begin = (number(0) << 8 | number(1)) % seen.len();
        seen[begin..seen.len().min(begin + 2 * number(2))].to_vec()
    }

    fn append(&mut self, payload: Vec<u8>) {
        // The store never writes an empty batch, and one that is too large goes by redb.
        if payload.is_empty() || !self.journal.takes(payload.len()) {
            return;
        }
        if self.journal.append(&payload, false).is_err() {
            self.checkpoint();
            self.journal.append(&payload, false).expect("there is room for a quarter").expect("memory");
        }
        self.open.push(payload);
    }

    fn sync(&mut self) {
        self.journal.sync().expect("memory");
        if !self.open.is_empty() {
            self.newest = self.open.len();
            self.disowned.clear();
        }
        self.acked.append(&mut self.open);
    }

    fn note(&mut self) {
        self.journal.note().expect("memory");
        self.newest = 0;
    }

    fn checkpoint(&mut self) {
        self.sync();
        let unfolded = self.journal.unfolded().expect("memory");
        assert!(unfolded.iter().eq(self.acked.iter().map(Vec::as_slice)));
        self.start = self.journal.end();
        self.journal.checkpoint(self.start).expect("memory");
        self.folded.append(&mut self.acked);
        self.newest = 0;
    }

    /// What is written again after a failure is not there twice.
    fn sync_fails(&mut self) {
        self.disk.0.borrow_mut().fails = true;
        assert!(self.journal.sync().is_err());
        {
            let mut disk = self.disk.0.borrow_mut();
            disk.fails = false;
            disk.dirty.clear();
        }
        let last = (self.folded.len() + self.acked.len()) as u64;
        let opened = Journal::open(self.disk.clone(), self.salt, self.start, Some(last));
        let (journal, payloads) = opened.expect("what was synced");
        assert!(payloads.iter().eq(self.acked.iter().map(Vec::as_slice)));
        self.journal = journal;
        self.disowned.push(std::mem::take(&mut self.open));
    }

    /// The power goes and comes back.
    fn restart(&mut self, is_kept: impl Fn(usize) -> bool) {
        let disk = self.disk.0.borrow().clone().cut(is_kept);
        self.disk = Shared(std::rc::Rc::new(disk.into()));
        let opened = Journal::open(self.disk.clone(), self.salt, self.start, None);
        let (journal, payloads) = opened.expect("a ring that lost power");
        let found: Vec<Vec<u8>> = payloads.iter().map(<[u8]>::to_vec).collect();
        assert!(found.starts_with(&self.acked), "{} acknowledged, {} found", self.acked.len(), found.len());
        assert!(self.open.starts_with(&found[self.acked.len()..]), "what was never written is found");
        assert_eq!(journal.end().sequence, (self.folded.len() + found.len()) as u64);
        self.journal = journal;
        self.newest = 0;
        if found.len() > self.acked.len() {
            self.disowned.clear();
        }
        self.acked = found;
        self.open.clear();
    }

    /// Bytes that are not what was written: told, or all is there but for what nobody
    /// can know of.
    fn rot(&mut self, bytes: &[u8]) -> Option<()> {
        let (at, bytes) = bytes.split_first_chunk::<2>()?;
        {
            let mut disk = self.disk.0.borrow_mut();
            let at = usize::from(u16::from_le_bytes(*at)) % disk.seen.len();
            disk.seen[at..].iter_mut().zip(bytes).for_each(|(byte, rotten)| *byte ^= rotten);
        }
        match Journal::open(self.disk.clone(), self.salt, self.start, None) {
            Err(Damage::Rot(_)) => {}
            Err(Damage::Io(why)) => panic!("{why}"),
            Ok((_, payloads)) => {
                let found: Vec<&[u8]> = payloads.iter().collect();
                assert!(found.len() >= self.acked.len() - self.newest, "{} acknowledged, {} found", self.acked.len(), found.len());
                let is_as_written = |written: &Vec<Vec<u8>>| {
                    let all: Vec<&[u8]> = self.acked.iter().chain(written).map(Vec::as_slice).collect();
                    all.starts_with(&found)
                };
                assert!(self.disowned.iter().chain([&self.open]).any(is_as_written), "what was never written is found");
            }
        }
        None
    }

    /// A record with a right checksum, and any numbers.
    fn forge_record(&mut self, bytes: &[u8]) -> Option<()> {
        let (numbers, payload) = bytes.split_first_chunk::<12>()?;
        let [e0, l0, l1, l2, l3, b0, b1, p0, p1, at, own, more] = *numbers;
        let end = self.journal.end();
        let place = end.place + u64::from(at);
        let (epoch, length) = (u32::from(e0), u32::from_le_bytes([l0, l1, l2, l3]));
        let length = if own % 2 == 0 { u32::try_from(payload.len()).expect("small") } else { length };
        let behind = u64::from(u16::from_le_bytes([b0, b1]));
        let previous = if more % 2 == 0 { end.tag } else { u16::from_le_bytes([p0, p1]) };
        let words = [place, u64::from(epoch) << 32 | u64::from(length), behind << 16 | u64::from(previous)];
        let tag = self.salt.tag(&words, payload);
        let mask = self.salt.tag(&[place], &[]).to_le_bytes();
        let head = epoch.to_le_bytes().into_iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        let head = head.chain(length.to_le_bytes()).chain([b0, b1]).chain(previous.to_le_bytes());
        let record: Vec<u8> = head.chain(tag.to_le_bytes()).chain(payload.iter().copied()).collect();
        self.put_in_ring(place, &record);
        self.opens_without_a_panic();
        None
    }

    fn put_in_ring(&mut self, place: u64, record: &[u8]) {
        let seen = &mut self.disk.0.borrow_mut().seen[RING..];
        let begin = usize::try_from(place).expect("small");
        let room = seen.len();
        record.iter().enumerate().for_each(|(index, byte)| seen[(begin + index) % room] = *byte);
    }

    /// A header with a right checksum, and any numbers.
    fn forge_header(&mut self, bytes: &[u8]) -> Option<()> {
        let (slot, bytes) = bytes.split_first()?;
        let mut words = [u64::MAX / 2, self.disk.size(), 3, 0, 0, 0];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        let magic = *b"selvjrn3";
        let tag = self.salt.tag(&words, &magic);
        let header = magic.into_iter().chain(words.into_iter().chain([tag]).flat_map(u64::to_le_bytes));
        {
            let at = usize::from(slot % 2) * 4096;
            let seen = &mut self.disk.0.borrow_mut().seen;
            header.enumerate().for_each(|(index, byte)| seen[at + index] = byte);
        }
        self.opens_without_a_panic();
        None
    }

    /// And what it takes can be read again.
    fn opens_without_a_panic(&mut self) {
        let Ok((mut journal, _)) = Journal::open(self.disk.clone(), self.salt, self.start, None) else { return };
        let _ = (journal.append(b"more", false), journal.sync(), journal.unfolded());
        let _ = journal.checkpoint(journal.end());
    }
}
