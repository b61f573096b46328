//! How long to wait after the nth failure: arithmetic, no clock.

use std::time::Duration;

/// A growing, capped wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// Waits from `base`, doubled each time, up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, tries: 0 }
    }

    /// The next wait without jitter; every call counts as a failure.
    pub fn longer(&mut self) -> Duration {
        let whole = self.base.saturating_mul(2u32.saturating_pow(self.tries)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        whole
    }

    /// The next wait, anywhere between nothing and the whole.
    pub fn full_jitter(&mut self, luck: u16) -> Duration {
        self.longer().mul_f64(f64::from(luck) / f64::from(u16::MAX))
    }

    /// The next wait, anywhere between half and the whole.
    pub fn half_jitter(&mut self, luck: u16) -> Duration {
        half_jitter(self.longer(), luck)
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Anywhere between half of a wait and the whole.
pub fn half_jitter(whole: Duration, luck: u16) -> Duration {
    whole / 2 + (whole / 2).mul_f64(f64::from(luck) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_never_overflow() {
        let mut wait = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
        let seconds: Vec<u64> = (0..7).map(|_| wait.longer().as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
        wait.tries = u32::MAX;
        assert_eq!(wait.longer(), Duration::from_secs(300));
        assert!(wait.half_jitter(0) == Duration::from_secs(150) && wait.full_jitter(u16::MAX) == Duration::from_secs(300));
        wait.reset();
        assert_eq!(wait.longer().as_secs(), 10);
    }
}
