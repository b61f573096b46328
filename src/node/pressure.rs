//! Whether the machine runs out of memory, disk or process ids. Not what is done
//! about it.
//!
//! Source: edge-node.md 1.20.

use std::time::Duration;

use super::machine::Facts;
use super::now::Mono;
use crate::config::Eviction;

/// A node that recovered is not trusted at once: pods would come and go.
const LASTS: Duration = Duration::from_secs(300);

/// What the machine runs out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of memory.
    Memory,
    /// Bytes of disk.
    Disk,
    /// Files on the disk.
    Inodes,
}

/// There is less of something than there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub of: Resource,
    /// How much there must be.
    pub threshold: u64,
    /// How much there is.
    pub available: u64,
}

/// What the machine ran out of lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Memory.
    pub memory: bool,
    /// Disk, its bytes or its files.
    pub disk: bool,
    /// Process ids.
    pub pids: bool,
}

/// Remembers when the machine last ran out of something.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauge {
    at: Mono,
    memory: Option<Mono>,
    disk: Option<Mono>,
    pids: Option<Mono>,
}

impl Resource {
    /// As Kubernetes calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }
}

/// Memory that pods shall leave free.
pub fn memory_threshold(facts: &Facts, kept: Eviction) -> u64 {
    kept.memory.min(facts.memory / 10)
}

/// Disk that pods shall leave free.
pub fn disk_threshold(facts: &Facts, kept: Eviction) -> u64 {
    facts.disk / 100 * u64::from(kept.disk)
}

/// What there is too little of, the most urgent first.
pub fn shortages(facts: &Facts, kept: Eviction) -> impl Iterator<Item = Shortage> {
    // A machine that does not say how much it has keeps nothing, and so runs out
    // of nothing.
    let all = [
        (Resource::Memory, memory_threshold(facts, kept), facts.memory_available),
        (Resource::Disk, disk_threshold(facts, kept), facts.disk_available),
        (Resource::Inodes, facts.inodes / 200 * u64::from(kept.disk), facts.inodes_available),
    ];
    all.into_iter().filter(|(_, threshold, available)| available < threshold).map(|(of, threshold, available)| Shortage { of, threshold, available })
}

impl Gauge {
    /// The machine as it is now.
    pub fn read(&mut self, now: Mono, facts: &Facts, kept: Eviction) {
        self.at = now;
        for shortage in shortages(facts, kept) {
            match shortage.of {
                Resource::Memory => self.memory = Some(now),
                Resource::Disk | Resource::Inodes => self.disk = Some(now),
            }
        }
        if facts.pids > 0 && facts.pids_used > facts.pids / 10 * 9 {
            self.pids = Some(now);
        }
    }

    /// As it was when it was last read.
    pub fn pressure(&self) -> Pressure {
        let lately = |last: Option<Mono>| last.is_some_and(|last| self.at.since(last) < LASTS);
        Pressure { memory: lately(self.memory), disk: lately(self.disk), pids: lately(self.pids) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Eviction = Eviction { memory: 100 << 20, disk: 10 };

    #[test]
    fn a_small_machine_keeps_a_tenth_and_one_that_says_nothing_runs_out_of_nothing() {
        let facts =
            Facts { memory: 256 << 20, memory_available: 20 << 20, disk: 1000, disk_available: 100, inodes: 1000, inodes_available: 49, ..Facts::default() };
        let short: Vec<Shortage> = shortages(&facts, KEPT).collect();
        let expected = [(Resource::Memory, (256 << 20) / 10, 20 << 20), (Resource::Inodes, 50, 49)];
        assert_eq!(short, expected.map(|(of, threshold, available)| Shortage { of, threshold, available }));
        assert_eq!((shortages(&Facts::default(), KEPT).count(), shortages(&facts, Eviction::default()).count()), (0, 0));
    }

    #[test]
    fn pressure_outlasts_its_cause_by_five_minutes() {
        let (mut gauge, minute) = (Gauge::default(), 60_000_000_000);
        let full = Facts { disk: 1000, disk_available: 1, ..Facts::default() };
        let free = Facts { disk_available: 900, ..full.clone() };
        gauge.read(Mono(minute), &full, KEPT);
        gauge.read(Mono(5 * minute), &free, KEPT);
        assert_eq!(gauge.pressure(), Pressure { disk: true, ..Pressure::default() });
        gauge.read(Mono(6 * minute), &free, KEPT);
        assert_eq!(gauge.pressure(), Pressure::default());
    }
}
