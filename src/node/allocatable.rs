//! What of the machine pods may have: all of it, less what is reserved for the
//! system and what is left free before pods are evicted. The cluster is told this
//! (`node::nodestatus`), and pods are let in by it (`node::pod::admit`).
//!
//! Source: kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources.

use std::collections::BTreeMap;

use super::machine::Facts;
use super::pressure::{disk_threshold, memory_threshold};
use crate::config::Edged;

/// What pods may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocatable {
    /// Thousandths of a CPU.
    pub cpu: i64,
    /// Bytes, without those of huge pages.
    pub memory: i64,
    /// Bytes of the disk.
    pub storage: i64,
    /// Bytes of huge pages, by `hugepages-2Mi` and the like.
    pub hugepages: BTreeMap<String, i64>,
    /// Number of pods.
    pub pods: i64,
}

impl Allocatable {
    /// Of a machine by these settings.
    pub fn new(facts: &Facts, config: &Edged) -> Self {
        let hugepages = facts.hugepages.iter().map(|(size, bytes)| (hugepages(*size), signed(*bytes)));
        let hugepages: BTreeMap<String, i64> = hugepages.collect();
        let memory = hugepages.values().fold(signed(facts.memory), |left, bytes| left.saturating_sub(*bytes));
        let free = signed(memory_threshold(facts, config.eviction));
        let storage = facts.disk.saturating_sub(disk_threshold(facts, config.eviction));
        Self {
            cpu: (i64::from(facts.cpus) * 1000).saturating_sub(config.reserved_cpu).max(0),
            memory: memory.saturating_sub(config.reserved_memory).saturating_sub(free).max(0),
            storage: signed(storage),
            hugepages,
            pods: i64::from(config.max_pods),
        }
    }

    /// A resource by its name: milli-CPU of `cpu`, else whole units.
    pub fn get(&self, name: &str) -> Option<i64> {
        match name {
            "cpu" => Some(self.cpu),
            "memory" => Some(self.memory),
            "ephemeral-storage" => Some(self.storage),
            "pods" => Some(self.pods),
            _ => self.hugepages.get(name).copied(),
        }
    }
}

/// The resource of pages of so many KiB.
pub fn hugepages(size: u64) -> String {
    match size {
        size if size >= 1 << 20 => format!("hugepages-{}Gi", size >> 20),
        size if size >= 1 << 10 => format!("hugepages-{}Mi", size >> 10),
        size => format!("hugepages-{size}Ki"),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_may_have_what_is_not_reserved_kept_free_or_in_huge_pages() {
        let mut config = crate::config::file::parse("", "n").expect("defaults").edged;
        (config.reserved_cpu, config.reserved_memory, config.max_pods) = (250, 32 << 20, 20);
        config.eviction = crate::config::Eviction { memory: 100 << 20, disk: 10 };
        let facts = Facts { cpus: 2, memory: 512 << 20, disk: 1000, hugepages: [(2048, 64 << 20), (1 << 20, 0), (64, 0)].into(), ..Facts::default() };
        let allocatable = Allocatable::new(&facts, &config);
        let free = facts.memory / 10;
        assert_eq!(allocatable.get("memory"), i64::try_from(((512 - 32 - 64) << 20) - free).ok());
        let of = |name| allocatable.get(name);
        assert_eq!((of("cpu"), of("ephemeral-storage"), of("pods")), (Some(1750), Some(900), Some(20)));
        assert_eq!((of("hugepages-2Mi"), of("hugepages-1Gi"), of("hugepages-64Ki")), (Some(64 << 20), Some(0), Some(0)));
        assert_eq!(of("example.com/gpu"), None);
        assert_eq!(Allocatable::new(&Facts::default(), &config).memory, 0);
    }
}
