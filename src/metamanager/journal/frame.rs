//! One record as bytes; the format is told in `journal`.

use crate::metamanager::salt::Salt;

/// Bytes before the payload.
pub const HEAD: usize = 20;
/// What the distance to the synced part is counted in, bytes.
const UNIT: u64 = 64;

/// What stands before a payload, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The record's place in the log.
    pub place: u64,
    /// The epoch that wrote it.
    pub epoch: u32,
    /// Length of the payload.
    pub length: u32,
    /// Everything before this place had been synced when it was written, or more.
    pub synced: u64,
    /// Of its predecessor's tag.
    pub previous: u16,
}

impl Frame {
    /// Head and payload, and the tag.
    pub fn assemble(&self, salt: &Salt, payload: &[u8]) -> (Vec<u8>, u64) {
        let behind = self.behind();
        let tag = self.tag(salt, behind, payload);
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.extend((self.epoch ^ mask(salt, self.place)).to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(behind.to_le_bytes());
        bytes.extend(self.previous.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
        bytes.extend(payload);
        (bytes, tag)
    }

    /// Reads a head; its payload is not checked yet. Second is the tag that is
    /// claimed.
    pub fn read(salt: &Salt, place: u64, head: &[u8; HEAD]) -> (Self, u64) {
        let [m0, m1, m2, m3, l0, l1, l2, l3, b0, b1, p0, p1, tag @ ..] = *head;
        let behind = u16::from_le_bytes([b0, b1]);
        // The largest distance is one that had no room, and claims nothing.
        let synced = if behind == u16::MAX { 0 } else { place.saturating_sub(u64::from(behind) * UNIT) };
        let frame = Self {
            place,
            epoch: u32::from_le_bytes([m0, m1, m2, m3]) ^ mask(salt, place),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            synced,
            previous: u16::from_le_bytes([p0, p1]),
        };
        (frame, u64::from_le_bytes(tag))
    }

    /// The tag of this head, as it was read, and a payload.
    pub fn tag_read(&self, salt: &Salt, head: &[u8; HEAD], payload: &[u8]) -> u64 {
        self.tag(salt, u16::from_le_bytes([head[8], head[9]]), payload)
    }

    /// The place behind the record.
    pub fn end(&self) -> u64 {
        self.place + HEAD as u64 + u64::from(self.length)
    }

    fn behind(&self) -> u16 {
        u16::try_from((self.place - self.synced).div_ceil(UNIT)).unwrap_or(u16::MAX)
    }

    fn tag(&self, salt: &Salt, behind: u16, payload: &[u8]) -> u64 {
        let lengths = u64::from(self.epoch) << 32 | u64::from(self.length);
        salt.tag(&[self.place, lengths, u64::from(behind) << 16 | u64::from(self.previous)], payload)
    }
}

/// What the epoch is hidden behind: bytes at a place say an epoch of this store
/// only if the store wrote them for this place.
#[allow(clippy::cast_possible_truncation)]
fn mask(salt: &Salt, place: u64) -> u32 {
    salt.tag(&[place], &[]) as u32
}

/// What the next record keeps of a tag.
#[allow(clippy::cast_possible_truncation)]
pub fn short(tag: u64) -> u16 {
    tag as u16
}
