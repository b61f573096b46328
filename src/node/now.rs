//! Time as an argument. The node never asks for it.

use std::ops::{Add, Sub};
use std::time::Duration;

/// The instant of an input: what has passed, and what the calendar says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For every interval and deadline.
    pub mono: Mono,
    /// Only for what is written down for others.
    pub wall: Wall,
}

/// Time since boot, sleep included; nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

/// Calendar time; milliseconds since the epoch. May jump both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// No device runs before this build was made: 2026-01-01.
const SANE: Wall = Wall(1_767_225_600_000);

impl Wall {
    /// Whether a clock that shows this can be believed.
    pub fn is_sane(self) -> bool {
        self >= SANE
    }

    /// Time since `earlier`, zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Mono {
    /// Time since `earlier`, zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Wall {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }
}
