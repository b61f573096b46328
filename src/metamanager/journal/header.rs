//! The two headers of a ring; the format is told in `journal`.

use std::io;

use super::Disk;
use crate::metamanager::salt::Salt;

/// Distance of the headers, and room for them: each is written into a page of its
/// own, so that what tears one leaves the other.
pub const SLOT: u64 = 4096;
/// Where the records begin.
pub const LENGTH: u64 = 2 * SLOT;

const MAGIC: [u8; 8] = *b"selvjrn3";
const BYTES: usize = 64;

/// What is known of a ring beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Counts the headers written; the higher of two is the newer.
    pub written: u64,
    /// Size of the file, bytes.
    pub size: u64,
    /// No record has a higher one.
    pub epoch: u32,
    /// Where this epoch began: from here on, no record has a lower one.
    pub began: u64,
    /// redb has everything before this place.
    pub checkpoint: u64,
    /// Everything before this place is synced.
    pub synced: u64,
}

impl Header {
    /// The newer of the two, and whether the other can be read, too.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn read(disk: &impl Disk, salt: &Salt) -> io::Result<Option<(Self, bool)>> {
        let mut found: Vec<Self> = Vec::new();
        for slot in [0, SLOT] {
            let mut bytes = [0; BYTES];
            disk.read_at(&mut bytes, slot)?;
            found.extend(Self::parse(salt, &bytes));
        }
        found.sort_by_key(|header| header.written);
        let both = found.len() == 2;
        Ok(found.pop().map(|newest| (newest, both)))
    }

    /// Writes it over the older of the two.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn write(&mut self, disk: &mut impl Disk, salt: &Salt) -> io::Result<()> {
        self.written += 1;
        disk.write_at(&self.assemble(salt), self.written % 2 * SLOT)?;
        disk.sync()
    }

    /// Whether a file is a ring of this format at all, whoever's.
    pub fn is_there(disk: &impl Disk) -> bool {
        let mut magic = [0; 8];
        [0, SLOT].iter().any(|slot| disk.read_at(&mut magic, *slot).is_ok() && magic == MAGIC)
    }

    fn words(&self) -> [u64; 6] {
        [self.written, self.size, u64::from(self.epoch), self.began, self.checkpoint, self.synced]
    }

    fn assemble(&self, salt: &Salt) -> Vec<u8> {
        let words = self.words();
        let tag = salt.tag(&words, &MAGIC);
        MAGIC.into_iter().chain(words.into_iter().chain([tag]).flat_map(u64::to_le_bytes)).collect()
    }

    fn parse(salt: &Salt, bytes: &[u8; BYTES]) -> Option<Self> {
        let words: Vec<u64> = bytes[8..].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
        let [written, size, epoch, began, checkpoint, synced, tag] = words.try_into().ok()?;
        let header = Self { written, size, epoch: u32::try_from(epoch).ok()?, began, checkpoint, synced };
        (bytes[..8] == MAGIC && tag == salt.tag(&header.words(), &MAGIC)).then_some(header)
    }
}
