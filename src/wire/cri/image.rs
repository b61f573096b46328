//! Images: looked up, pulled, listed, removed.

use std::collections::BTreeMap;

use super::{Int64Value, PodSandboxConfig, UInt64Value};

/// Which image.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ImageSpec {
    /// A reference, or the runtime's id.
    #[prost(string, tag = "1")]
    pub image: String,
    /// Annotations of the pod, for runtimes that pull by them.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// As the pod has it.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
}

impl From<&str> for ImageSpec {
    fn from(image: &str) -> Self {
        Self { image: image.to_owned(), ..Self::default() }
    }
}

/// Credentials for a registry. Nothing of them is printed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct AuthConfig {
    /// User.
    #[prost(string, tag = "1")]
    pub username: String,
    /// Password.
    #[prost(string, tag = "2")]
    pub password: String,
    /// Both as base64 of `user:password`.
    #[prost(string, tag = "3")]
    pub auth: String,
    /// Of which registry.
    #[prost(string, tag = "4")]
    pub server_address: String,
    /// Gets an access token.
    #[prost(string, tag = "5")]
    pub identity_token: String,
    /// Sent as bearer token.
    #[prost(string, tag = "6")]
    pub registry_token: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("credentials")
    }
}

/// An image that is here.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Image {
    /// The runtime's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Names with a tag.
    #[prost(string, repeated, tag = "2")]
    pub repo_tags: Vec<String>,
    /// Names with a digest.
    #[prost(string, repeated, tag = "3")]
    pub repo_digests: Vec<String>,
    /// Bytes.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// Its user, if that is a number.
    #[prost(message, optional, tag = "5")]
    pub uid: Option<Int64Value>,
    /// Its user, if that is a name.
    #[prost(string, tag = "6")]
    pub username: String,
    /// Never collected.
    #[prost(bool, tag = "8")]
    pub pinned: bool,
}

/// `ListImages`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListImagesRequest {}

/// Answer of `ListImages`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListImagesResponse {
    /// All.
    #[prost(message, repeated, tag = "1")]
    pub images: Vec<Image>,
}

/// `ImageStatus`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ImageStatusRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// Answer of `ImageStatus`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ImageStatusResponse {
    /// Absent when it is not here.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// `PullImage`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PullImageRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
    /// As whom.
    #[prost(message, optional, tag = "2")]
    pub auth: Option<AuthConfig>,
    /// For which pod.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// Answer of `PullImage`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PullImageResponse {
    /// What `CreateContainer` is given.
    #[prost(string, tag = "1")]
    pub image_ref: String,
}

/// `RemoveImage`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemoveImageRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// Use of a file system.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FilesystemUsage {
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    /// Which.
    #[prost(message, optional, tag = "2")]
    pub fs_id: Option<FilesystemIdentifier>,
    /// Bytes.
    #[prost(message, optional, tag = "3")]
    pub used_bytes: Option<UInt64Value>,
    /// Inodes.
    #[prost(message, optional, tag = "4")]
    pub inodes_used: Option<UInt64Value>,
}

/// Which file system.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FilesystemIdentifier {
    /// A path in it.
    #[prost(string, tag = "1")]
    pub mountpoint: String,
}
