//! Volumes of a pod.

use serde::Deserialize;

use super::{FieldRef, ResourceFieldRef, Unsupported};
use crate::wire::quantity::Quantity;

/// One volume; exactly one source is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Unique in the pod.
    pub name: String,
    /// An empty directory that ends with the pod.
    pub empty_dir: Option<EmptyDir>,
    /// A path of the node.
    pub host_path: Option<HostPath>,
    /// Files of a ConfigMap.
    pub config_map: Option<ConfigMapVolume>,
    /// Files of a Secret.
    pub secret: Option<SecretVolume>,
    /// Fields of the pod as files.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardVolume>,
    /// Several sources in one directory.
    pub projected: Option<ProjectedVolume>,
    /// Every other source: not supported.
    #[serde(flatten)]
    pub other: std::collections::BTreeMap<String, Unsupported>,
}

/// An empty directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EmptyDir {
    /// Disk unless `Memory`.
    pub medium: String,
    /// At most so large.
    pub size_limit: Option<Quantity>,
}

/// A path of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HostPath {
    /// The path.
    pub path: String,
    /// What must be there, or is made.
    #[serde(rename = "type")]
    pub kind: HostPathType,
}

/// What must be at a host path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum HostPathType {
    /// Anything or nothing.
    #[default]
    #[serde(rename = "")]
    Unchecked,
    /// A directory, made if missing.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made if missing.
    FileOrCreate,
    /// A file.
    File,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// One key as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyToPath {
    /// The key.
    pub key: String,
    /// Path below the volume.
    pub path: String,
    /// Mode of this file.
    pub mode: Option<u32>,
}

/// Files of a ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// The ConfigMap.
    pub name: String,
    /// Only these keys.
    pub items: Vec<KeyToPath>,
    /// 0644 unless told.
    pub default_mode: Option<u32>,
    /// Missing is fine.
    pub optional: bool,
}

/// Files of a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecretVolume {
    /// The Secret.
    pub secret_name: String,
    /// Only these keys.
    pub items: Vec<KeyToPath>,
    /// 0644 unless told.
    pub default_mode: Option<u32>,
    /// Missing is fine.
    pub optional: bool,
}

/// Fields of the pod as files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardVolume {
    /// The files.
    pub items: Vec<DownwardItem>,
    /// 0644 unless told.
    pub default_mode: Option<u32>,
}

/// One field as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardItem {
    /// Path below the volume.
    pub path: String,
    /// A field.
    pub field_ref: Option<FieldRef>,
    /// A request or limit.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// Mode of this file.
    pub mode: Option<u32>,
}

/// Several sources in one directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProjectedVolume {
    /// The sources.
    pub sources: Vec<Projection>,
    /// 0644 unless told.
    pub default_mode: Option<u32>,
}

/// One source of a projected volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Projection {
    /// Keys of a ConfigMap.
    pub config_map: Option<KeyProjection>,
    /// Keys of a Secret.
    pub secret: Option<KeyProjection>,
    /// Fields of the pod.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardVolume>,
    /// A token of the pod's service account.
    pub service_account_token: Option<TokenProjection>,
    /// Not supported.
    pub cluster_trust_bundle: Option<Unsupported>,
    /// Not supported.
    pub pod_certificate: Option<Unsupported>,
}

/// Keys of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyProjection {
    /// The object.
    pub name: String,
    /// Only these keys.
    pub items: Vec<KeyToPath>,
    /// Missing is fine.
    pub optional: bool,
}

/// A token as a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenProjection {
    /// Who the token is for; the API server unless told.
    pub audience: String,
    /// How long it lives; 3600 unless told.
    pub expiration_seconds: Option<i64>,
    /// Path below the volume.
    pub path: String,
}
