//! The ring on a disk that loses power: each page that was not synced is there or
//! not, in any order, or torn.

use std::collections::BTreeSet;

use super::*;
use crate::node::chance::Chance;

/// A page cache above a disk. A sync writes whole pages; one that fails leaves some
/// of them written, all of them clean, and the kernel's view as it was.
#[derive(Clone)]
struct Flaky {
    page: usize,
    safe: Vec<u8>,
    seen: Vec<u8>,
    dirty: BTreeSet<usize>,
    fails: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Lost,
    Kept,
    /// So many bytes are new, from the begin or to the end.
    Torn(usize, bool),
}

impl Flaky {
    fn new(size: usize, page: usize) -> Self {
        Self { page, safe: vec![0; size], seen: vec![0; size], dirty: BTreeSet::new(), fails: false }
    }

    fn settle(&mut self, page: usize, fate: Fate) {
        let (begin, end) = (page * self.page, ((page + 1) * self.page).min(self.safe.len()));
        let (from, to) = match fate {
            Fate::Lost => return,
            Fate::Kept => (begin, end),
            Fate::Torn(bytes, true) => (begin, end.min(begin + bytes)),
            Fate::Torn(bytes, false) => (end.min(begin + bytes), end),
        };
        self.safe[from..to].copy_from_slice(&self.seen[from..to]);
    }

    /// The power goes.
    fn cut(&self, mut fate: impl FnMut(usize) -> Fate) -> Self {
        let mut all = self.clone();
        for (index, page) in self.dirty.iter().enumerate() {
            all.settle(*page, fate(index));
        }
        Self { seen: all.safe.clone(), safe: all.safe, dirty: BTreeSet::new(), fails: false, page: self.page }
    }

    fn random_cut(&self, chance: &mut Chance) -> Self {
        let style = draw(chance, 4);
        self.cut(|_| match draw(chance, if style == 0 { 3 } else { 2 }) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn(draw(chance, self.page), draw(chance, 2) == 0),
        })
    }
}

impl Disk for Flaky {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        bytes.copy_from_slice(&self.seen[at..at + bytes.len()]);
        Ok(())
    }
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = usize::try_from(at).expect("small");
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / self.page..=(at + bytes.len() - 1) / self.page);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.fails {
            return Err(io::Error::other("the sync fails"));
        }
        for page in std::mem::take(&mut self.dirty) {
            self.settle(page, Fate::Kept);
        }
        Ok(())
    }
    fn size(&self) -> u64 {
        self.safe.len() as u64
    }
}

fn draw(chance: &mut Chance, below: usize) -> usize {
    usize::try_from(chance.draw() % below.max(1) as u64).expect("below an usize")
}

const SALT: [u8; 16] = *b"a salt of sixtee";

/// A store that is a ring and a list of what went into redb.
#[derive(Clone)]
struct World {
    salt: Salt,
    start: Position,
    folded: Vec<Vec<u8>>,
    /// Acknowledged, or found after a restart; includes what is folded.
    acked: Vec<Vec<u8>>,
    /// Written since, by each try.
    tries: Vec<Vec<Vec<u8>>>,
    written: u64,
}

impl World {
    fn new(size: usize, page: usize) -> (Self, Journal<Flaky>) {
        let salt = Salt::from_bytes(SALT);
        let journal = Journal::begin(Flaky::new(size, page), salt, Position::default()).expect("memory");
        (Self { salt, start: Position::default(), folded: Vec::new(), acked: Vec::new(), tries: vec![Vec::new()], written: 0 }, journal)
    }

    /// Opens what is on disk and compares.
    fn restart(&mut self, disk: Flaky, what: &str) -> Journal<Flaky> {
        let (journal, payloads) = Journal::open(disk, self.salt, self.start, None).unwrap_or_else(|why| panic!("{what}: {why:?}"));
        let found: Vec<Vec<u8>> = self.folded.iter().cloned().chain(payloads.iter().map(<[u8]>::to_vec)).collect();
        assert!(found.starts_with(&self.acked), "{what}: {} acknowledged, {} found, or others", self.acked.len(), found.len());
        let more = &found[self.acked.len()..];
        let number = |payload: &Vec<u8>| u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
        let numbers: Vec<Vec<u64>> = self.tries.iter().map(|written| written.iter().map(number).collect()).collect();
        let came: Vec<u64> = more.iter().map(number).collect();
        assert!(self.tries.iter().any(|written| written.starts_with(more)), "{what}: {came:?} came back of {numbers:?}");
        assert_eq!(journal.end().sequence, found.len() as u64, "{what}");
        (self.acked, self.tries) = (found, vec![Vec::new()]);
        journal
    }

    fn append(&mut self, journal: &mut Journal<Flaky>, payload: Vec<u8>) -> bool {
        let is_room = journal.append(&payload, false).map(|written| written.expect("memory")).is_ok();
        if is_room {
            self.tries.last_mut().expect("one").push(payload);
        }
        is_room
    }

    fn sync(&mut self, journal: &mut Journal<Flaky>) {
        journal.sync().expect("memory");
        let written = self.tries.pop().expect("one");
        if !written.is_empty() {
            // Nothing of an earlier try may come back over it.
            self.tries.clear();
        }
        self.acked.extend(written);
        self.tries.push(Vec::new());
    }

    fn fold(&mut self, journal: &mut Journal<Flaky>) {
        self.sync(journal);
        self.folded = self.acked.clone();
        self.start = journal.end();
        journal.checkpoint(self.start).expect("memory");
    }

    /// A sync fails, and the ring is opened again.
    fn fail(&mut self, mut journal: Journal<Flaky>, chance: &mut Chance) -> Journal<Flaky> {
        journal.disk.fails = true;
        assert!(journal.sync().is_err());
        let mut disk = journal.disk;
        let safe = disk.random_cut(chance).safe;
        (disk.safe, disk.fails) = (safe, false);
        disk.dirty.clear();
        if draw(chance, 2) == 0 {
            disk.seen = disk.safe.clone();
        }
        let (journal, _) = Journal::open(disk, self.salt, self.start, Some(self.acked.len() as u64)).expect("what was synced");
        self.tries = vec![Vec::new()];
        journal
    }

    /// Each is another; some hold records of this store, or guessed ones.
    fn payload(&mut self, journal: &Journal<Flaky>, chance: &mut Chance, length: usize) -> Vec<u8> {
        self.written += 1;
        let mut payload = self.written.to_le_bytes().to_vec();
        match draw(chance, 3) {
            0 => payload.resize(8 + length, 0),
            1 => {
                // A piece of the ring as it is, with whole records in it.
                let all = &journal.disk.seen[8192..];
                let begin = draw(chance, all.len() - length);
                payload.extend(&all[begin..begin + length]);
            }
            _ => {
                let place = journal.end.place + HEAD as u64 + 8;
                let frame = Frame { place, epoch: journal.header.epoch, length: 30, synced: place, previous: journal.end.tag };
                let guessed = Salt::from_bytes([7; 16]);
                (0..length / 50 + 1).for_each(|_| payload.extend(frame.assemble(&guessed, &[1; 30]).0));
                payload.truncate(8 + length);
            }
        }
        payload
    }
}

#[test]
fn every_cut_of_a_group_leaves_its_begin_and_nothing_returns() {
    let mut cuts = 0;
    for (page, seed) in (1..=72).map(|seed| (if seed % 3 == 0 { 4096 } else { 512 }, seed)) {
        let mut chance = Chance::new(seed);
        let (mut world, mut journal) = World::new(8192 + 6000, page);
        // Into some lap of the ring, so that the group lies over old records.
        for _ in 0..draw(&mut chance, 40) {
            let length = draw(&mut chance, 400);
            let payload = world.payload(&journal, &mut chance, length);
            if !world.append(&mut journal, payload.clone()) {
                world.fold(&mut journal);
            }
            world.sync(&mut journal);
        }
        if journal.filled() > 100 {
            world.fold(&mut journal);
        }
        if seed % 2 == 0 {
            let payload = world.payload(&journal, &mut chance, 150);
            world.append(&mut journal, payload);
            journal = world.fail(journal, &mut chance);
        }
        for _ in 0..1 + draw(&mut chance, 5) {
            let length = 60 + draw(&mut chance, 500);
            let payload = world.payload(&journal, &mut chance, length);
            world.append(&mut journal, payload);
        }
        let pages = journal.disk.dirty.len();
        assert!(pages <= 8, "seed {seed}: {pages} pages");
        for kept in 0..1usize << pages {
            let what = format!("seed {seed}, pages of {page}, kept {kept:b}");
            let fate = |index| if kept >> index & 1 == 1 { Fate::Kept } else { Fate::Lost };
            go_on(world.clone(), journal.disk.cut(fate), &mut chance, &what);
            let torn = draw(&mut chance, pages);
            let (bytes, is_begin) = (draw(&mut chance, page), draw(&mut chance, 2) == 0);
            let fate = |index| if index == torn { Fate::Torn(bytes, is_begin) } else { fate(index) };
            go_on(world.clone(), journal.disk.cut(fate), &mut chance, &format!("{what}, page {torn} torn at {bytes}"));
            cuts += 2;
        }
    }
    assert!(cuts > 1000, "{cuts}");
}

/// More writes and two more restarts.
fn go_on(mut world: World, disk: Flaky, chance: &mut Chance, what: &str) {
    let lost: Vec<Vec<u8>> = world.tries.iter().flatten().cloned().collect();
    let mut journal = world.restart(disk, what);
    // As long as what was lost, so that what lies behind it fits; once the same.
    let again = lost.first().map_or(80, |payload| payload.len() - 8);
    let payload = if draw(chance, 4) == 0 { lost[0].clone() } else { world.payload(&journal, chance, again) };
    world.append(&mut journal, payload);
    world.sync(&mut journal);
    let cut = journal.disk.random_cut(chance);
    let mut journal = world.restart(cut, what);
    for _ in 0..draw(chance, 3) {
        let payload = world.payload(&journal, chance, 200);
        world.append(&mut journal, payload);
    }
    let cut = journal.disk.random_cut(chance);
    let mut journal = world.restart(cut, what);
    let payload = world.payload(&journal, chance, 20);
    world.append(&mut journal, payload);
    world.sync(&mut journal);
    let disk = journal.disk;
    world.restart(disk, what);
}

#[test]
fn long_lives_of_cuts_failures_and_checkpoints() {
    for seed in 1..25 {
        let mut chance = Chance::new(seed);
        let page = if seed % 2 == 0 { 512 } else { 4096 };
        let (mut world, mut journal) = World::new(8192 + 30_000, page);
        for step in 0..120 {
            let what = format!("seed {seed}, step {step}");
            for _ in 0..draw(&mut chance, 30) {
                let length = draw(&mut chance, 1500);
                let payload = world.payload(&journal, &mut chance, length);
                if !world.append(&mut journal, payload) {
                    world.fold(&mut journal);
                }
            }
            match draw(&mut chance, 6) {
                0 => {
                    let cut = journal.disk.random_cut(&mut chance);
                    journal = world.restart(cut, &what);
                }
                1 => journal = world.fail(journal, &mut chance),
                2 => journal.note().expect("memory"),
                3 => world.fold(&mut journal),
                _ => world.sync(&mut journal),
            }
        }
    }
}

#[test]
fn rot_in_what_was_synced_is_told() {
    let (mut world, mut journal) = World::new(8192 + 6000, 512);
    let mut chance = Chance::new(5);
    for group in 0..6 {
        for _ in 0..3 {
            let payload = world.payload(&journal, &mut chance, 100);
            world.append(&mut journal, payload);
        }
        assert!(group > 4 || journal.disk.dirty.len() < 3);
        world.sync(&mut journal);
    }
    let open = |disk: Flaky| Journal::open(disk, world.salt, world.start, None);
    let end = usize::try_from(journal.end.place).expect("small");
    let noted = {
        let mut noted = journal.disk.clone();
        std::mem::swap(&mut noted, &mut journal.disk);
        journal.note().expect("memory");
        std::mem::replace(&mut journal.disk, noted)
    };
    let group = 3 * (HEAD + 108);
    for byte in 0..end {
        let spoil = |mut disk: Flaky| {
            disk.seen[8192 + byte] ^= 0x10;
            disk
        };
        assert!(matches!(open(spoil(noted.clone())), Err(Damage::Rot(_))), "byte {byte} is noted");
        let found = open(spoil(journal.disk.clone()));
        assert_eq!(matches!(found, Err(Damage::Rot(_))), byte < end - group, "byte {byte}: the last group cannot be told");
    }
    let mut spoilt = noted.clone();
    spoilt.seen[20] ^= 1;
    assert!(open(spoilt.clone()).is_ok(), "there are two headers");
    spoilt.seen[4096 + 20] ^= 1;
    assert!(matches!(open(spoilt), Err(Damage::Rot(_))));
    let mut spoilt = noted.clone();
    spoilt.seen.truncate(8192 + 5000);
    spoilt.safe.truncate(8192 + 5000);
    assert!(matches!(open(spoilt), Err(Damage::Rot(_))));
    let other = Salt::from_bytes([9; 16]);
    assert!(Journal::open(noted, other, world.start, None).is_err());
}

#[test]
fn a_full_ring_still_takes_what_only_removes() {
    let (mut world, mut journal) = World::new(8192 + 2048, 512);
    let mut chance = Chance::new(1);
    loop {
        let payload = world.payload(&journal, &mut chance, 100);
        if !world.append(&mut journal, payload) {
            break;
        }
    }
    assert!(journal.append(&[1; 100], true).is_ok());
    assert!(journal.filled() > 128);
}
