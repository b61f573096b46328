//! What only one store knows: the key of its checksums.

use std::fs::File;
use std::io::{self, Read};

/// A random key, made with the store and kept in its files.
///
/// Who sends a value by MQTT decides what stands in the files, so a checksum that
/// he can compute (a CRC) does not tell his bytes from a record. The checksums are
/// SipHash-2-4 (<https://www.aumasson.jp/siphash/siphash.pdf>): it is made for keyed
/// checksums of short texts, and needs forty lines and no dependency. The one of
/// the standard library names neither its algorithm nor promises to keep it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u64; 2]);

/// Length of a salt, bytes.
pub const LENGTH: usize = 16;

impl Salt {
    /// A new one, from the kernel.
    ///
    /// # Errors
    ///
    /// The kernel gives none.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// As it was kept.
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        let (low, high) = bytes.split_at(8);
        Self([word(low), word(high)])
    }

    /// To be kept.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        (u128::from(self.0[0]) | u128::from(self.0[1]) << 64).to_le_bytes()
    }

    /// The checksum of some numbers and the bytes behind them.
    pub fn tag(&self, numbers: &[u64], bytes: &[u8]) -> u64 {
        let [low, high] = self.0;
        let mut state = State([low ^ 0x736f_6d65_7073_6575, high ^ 0x646f_7261_6e64_6f6d, low ^ 0x6c79_6765_6e65_7261, high ^ 0x7465_6462_7974_6573]);
        numbers.iter().for_each(|number| state.take(*number));
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        words.for_each(|bytes| state.take(word(bytes)));
        let length = (numbers.len() * 8 + bytes.len()) as u64;
        state.take(word(rest) | length << 56);
        state.end()
    }
}

/// Up to eight bytes, little-endian.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

struct State([u64; 4]);

impl State {
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn end(mut self) -> u64 {
        self.0[2] ^= 0xff;
        (0..4).for_each(|_| self.round());
        self.0.iter().fold(0, |all, word| all ^ word)
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

/// A salt is told to nobody, in no log either.
impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vector() {
        let salt = Salt::from_bytes(std::array::from_fn(|at| u8::try_from(at).expect("small")));
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(salt.tag(&[], &bytes), 0xa129_ca61_49be_45e5);
        assert_eq!(salt.tag(&[0x0706_0504_0302_0100], &bytes[8..]), 0xa129_ca61_49be_45e5);
        assert_eq!(salt.to_bytes(), std::array::from_fn(|at| u8::try_from(at).expect("small")));
    }
}
