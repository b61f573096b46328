//! How often a mapper may ask: so many a second, and so many at once.

use std::time::Duration;

use crate::node::now::Mono;

/// A bucket of tokens; one is taken by each question.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// When it would be full if nobody took any more.
    full: Mono,
}

impl Bucket {
    /// A full one.
    pub const FULL: Self = Self { full: Mono(0) };

    /// Takes one of `rate` a second, if there is one.
    pub fn take(&mut self, now: Mono, rate: u32) -> bool {
        let each = Duration::from_secs(1) / rate.max(1);
        let full = self.full.max(now) + each;
        let granted = full.since(now) <= Duration::from_secs(1);
        if granted {
            self.full = full;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_tokens_at_once_and_then_the_rate() {
        let mut bucket = Bucket::FULL;
        let start = Mono(5_000_000_000);
        assert_eq!((0..300).filter(|_| bucket.take(start, 100)).count(), 100);
        assert_eq!((0..300).filter(|_| bucket.take(start + Duration::from_millis(500), 100)).count(), 50);
        assert_eq!((0..300).filter(|_| bucket.take(start + Duration::from_secs(60), 100)).count(), 100);
    }
}
