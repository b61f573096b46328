//! What all objects share, and the small objects around a pod.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Identity and bookkeeping of an object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectMeta {
    /// Unique in its namespace and type.
    pub name: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Unique over all time.
    pub uid: String,
    /// Compared as a number: newer wins.
    pub resource_version: String,
    /// Counts changes of the spec; 0 when the server does not.
    pub generation: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339.
    pub creation_timestamp: Option<String>,
    /// Set once a graceful deletion began; RFC 3339.
    pub deletion_timestamp: Option<String>,
    /// Seconds, with the timestamp above.
    pub deletion_grace_period_seconds: Option<i64>,
}

impl ObjectMeta {
    /// The version as a number; 0 when there is none.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }
}

/// Any object, as far as its metadata.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Object {
    /// The metadata.
    pub metadata: ObjectMeta,
}

/// A ConfigMap; binary data is base64.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMap {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// Text by key.
    pub data: BTreeMap<String, String>,
    /// Base64 by key.
    pub binary_data: BTreeMap<String, String>,
}

/// A Secret; all data is base64. Never printed.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// Base64 by key.
    pub data: BTreeMap<String, String>,
    /// `kubernetes.io/dockerconfigjson` and the like.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The part of a Node the agent reads back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeObject {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// Wishes for the node.
    pub spec: NodeSpec,
}

/// Wishes for a node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Address range of the pods, if a controller gives one.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// Cordoned.
    pub unschedulable: bool,
}
