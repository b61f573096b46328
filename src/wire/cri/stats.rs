//! What containers use.

use std::collections::BTreeMap;

use super::{FilesystemUsage, UInt64Value};

/// `ListContainerStats` of all containers.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ListContainerStatsRequest {}

/// Its answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListContainerStatsResponse {
    /// One for each.
    #[prost(message, repeated, tag = "1")]
    pub stats: Vec<ContainerStats>,
}

/// What a container uses.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerStats {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<ContainerAttributes>,
    /// Memory.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<MemoryUsage>,
    /// What it wrote beside its volumes.
    #[prost(message, optional, tag = "4")]
    pub writable_layer: Option<FilesystemUsage>,
}

/// Which container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAttributes {
    /// The runtime's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
}

/// Use of memory.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MemoryUsage {
    /// Bytes that cannot be had back without ending it.
    #[prost(message, optional, tag = "2")]
    pub working_set_bytes: Option<UInt64Value>,
}
