//! The node's own chance: seeded once, so that a world repeats from its seed.

use super::ids::MsgId;

/// A small generator (xorshift64*); not for secrets.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next 16 bits, for jitter.
    pub fn luck(&mut self) -> u16 {
        u16::try_from(self.draw() >> 48).expect("48 bits are shifted out")
    }

    /// A random UUID, version 4.
    pub fn uuid(&mut self) -> String {
        let (a, b) = (self.draw(), self.draw());
        format!("{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xfff, 0x8000 | (b >> 48) & 0x3fff, b & 0xffff_ffff_ffff)
    }

    /// An id for a message.
    pub fn msg_id(&mut self) -> MsgId {
        self.uuid().into()
    }
}
