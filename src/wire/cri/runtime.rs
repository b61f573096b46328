//! Calls of the runtime service.

use std::collections::BTreeMap;

use super::{ContainerConfig, PodSandboxConfig};

macro_rules! by_id {
    ($($(#[$doc:meta])* $name:ident { $field:ident }),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, prost::Message)]
        pub struct $name {
            /// Its id.
            #[prost(string, tag = "1")]
            pub $field: String,
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self { $field: id.to_owned() }
            }
        }
    )+};
}

by_id! {
    /// Answer of `RunPodSandbox`.
    RunPodSandboxResponse { pod_sandbox_id },
    /// `StopPodSandbox`.
    StopPodSandboxRequest { pod_sandbox_id },
    /// `RemovePodSandbox`.
    RemovePodSandboxRequest { pod_sandbox_id },
    /// `PodSandboxStatus`.
    PodSandboxStatusRequest { pod_sandbox_id },
    /// Answer of `CreateContainer`.
    CreateContainerResponse { container_id },
    /// `StartContainer`.
    StartContainerRequest { container_id },
    /// `RemoveContainer`.
    RemoveContainerRequest { container_id },
    /// `ContainerStatus`.
    ContainerStatusRequest { container_id },
    /// `ReopenContainerLog`.
    ReopenContainerLogRequest { container_id },
}

/// `Version`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VersionRequest {
    /// Of the caller.
    #[prost(string, tag = "1")]
    pub version: String,
}

/// Answer of `Version`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VersionResponse {
    /// Of the interface as the caller knows it.
    #[prost(string, tag = "1")]
    pub version: String,
    /// `containerd`.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// `1.6.20`.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// `v1`.
    #[prost(string, tag = "4")]
    pub runtime_api_version: String,
}

/// `Status`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusRequest {
    /// Also what only this runtime knows.
    #[prost(bool, tag = "1")]
    pub verbose: bool,
}

/// Answer of `Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// How it is.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
    /// JSON texts by name; containerd has its configuration at `config`.
    #[prost(btree_map = "string, string", tag = "2")]
    pub info: BTreeMap<String, String>,
    /// What the runtime can do.
    #[prost(message, optional, tag = "4")]
    pub features: Option<RuntimeFeatures>,
}

/// What a runtime can do; those of before CRI of Kubernetes 1.31 do not say.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeFeatures {
    /// It follows the policy for supplemental groups.
    #[prost(bool, tag = "1")]
    pub supplemental_groups_policy: bool,
}

/// How the runtime is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeStatus {
    /// `RuntimeReady` and `NetworkReady` at least.
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// One condition of the runtime.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeCondition {
    /// Its name.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// It holds.
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// Why not, a word.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Why not, for people.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// `RuntimeConfig`; containerd 1.6 has it not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeConfigRequest {}

/// Answer of `RuntimeConfig`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RuntimeConfigResponse {
    /// What only Linux has.
    #[prost(message, optional, tag = "1")]
    pub linux: Option<LinuxRuntimeConfiguration>,
}

/// What of the runtime's configuration only Linux has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxRuntimeConfiguration {
    /// How it groups processes.
    #[prost(enumeration = "CgroupDriver", tag = "1")]
    pub cgroup_driver: i32,
}

/// How a runtime groups processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum CgroupDriver {
    /// As systemd slices.
    Systemd = 0,
    /// As directories.
    Cgroupfs = 1,
}

/// `RunPodSandbox`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxRequest {
    /// What.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
    /// Which of the runtime's handlers; the default when empty.
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

/// `CreateContainer`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainerRequest {
    /// Where.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// What.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The sandbox as it was asked for.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// `StopContainer`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StopContainerRequest {
    /// Its id.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds between TERM and KILL.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// `ExecSync`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExecSyncRequest {
    /// Where.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// What.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Seconds; 0 for no limit.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// Answer of `ExecSync`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExecSyncResponse {
    /// What it wrote.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// What it complained of.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// With which code it ended.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

/// `GetContainerEvents`; containerd 1.6 has it not.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetEventsRequest {}
