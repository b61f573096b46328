//! What a container is made of.

use std::collections::BTreeMap;

use super::{ImageSpec, Int64Value, NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy};

/// A container to create.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerConfig {
    /// Whose it is.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// Image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// Replaces the entry point.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Replaces the arguments.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// Directory of the process.
    #[prost(string, tag = "5")]
    pub working_dir: String,
    /// Environment.
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    /// Mounts.
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "9")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "10")]
    pub annotations: BTreeMap<String, String>,
    /// Log file, below the sandbox's log directory.
    #[prost(string, tag = "11")]
    pub log_path: String,
    /// Keep stdin open.
    #[prost(bool, tag = "12")]
    pub stdin: bool,
    /// Close it after the first attach.
    #[prost(bool, tag = "13")]
    pub stdin_once: bool,
    /// A terminal.
    #[prost(bool, tag = "14")]
    pub tty: bool,
    /// What only Linux has.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

/// Name of a container in its sandbox.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerMetadata {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How often it was started before.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// A variable. Its value is not printed: it may be a secret.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct KeyValue {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=({} bytes)", self.key, self.value.len())
    }
}

/// A path of the host inside a container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mount {
    /// Path inside.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Path of the host.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Cannot be written.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
    /// Give it the container's SELinux label.
    #[prost(bool, tag = "4")]
    pub selinux_relabel: bool,
    /// Whether later mounts are seen on the other side.
    #[prost(enumeration = "MountPropagation", tag = "5")]
    pub propagation: i32,
    /// Read-only also for mounts below.
    #[prost(bool, tag = "8")]
    pub recursive_read_only: bool,
}

/// Whether later mounts are seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MountPropagation {
    /// They are not.
    Private = 0,
    /// The container sees those of the host.
    HostToContainer = 1,
    /// Both see those of the other.
    Bidirectional = 2,
}

/// What of a container only Linux has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerConfig {
    /// Limits.
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxContainerResources>,
    /// Security.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxContainerSecurityContext>,
}

/// Limits; 0 is none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerResources {
    /// Microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// Microseconds of a period.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// Weight.
    #[prost(int64, tag = "3")]
    pub cpu_shares: i64,
    /// Bytes.
    #[prost(int64, tag = "4")]
    pub memory_limit_in_bytes: i64,
    /// -1000 (never killed) to 1000.
    #[prost(int64, tag = "5")]
    pub oom_score_adj: i64,
    /// Huge pages.
    #[prost(message, repeated, tag = "8")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Files of cgroup v2, written as they are.
    #[prost(btree_map = "string, string", tag = "9")]
    pub unified: BTreeMap<String, String>,
    /// Memory and swap together, bytes.
    #[prost(int64, tag = "10")]
    pub memory_swap_limit_in_bytes: i64,
}

/// Limit of one size of huge pages.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HugepageLimit {
    /// `2MB`.
    #[prost(string, tag = "1")]
    pub page_size: String,
    /// Bytes.
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// Security of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerSecurityContext {
    /// Capabilities.
    #[prost(message, optional, tag = "1")]
    pub capabilities: Option<Capability>,
    /// All that root of the host may.
    #[prost(bool, tag = "2")]
    pub privileged: bool,
    /// Which namespaces are its own.
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
    /// SELinux label.
    #[prost(message, optional, tag = "4")]
    pub selinux_options: Option<SeLinuxOption>,
    /// User.
    #[prost(message, optional, tag = "5")]
    pub run_as_user: Option<Int64Value>,
    /// User by name, resolved inside the image.
    #[prost(string, tag = "6")]
    pub run_as_username: String,
    /// Nothing in the root file system can be written.
    #[prost(bool, tag = "7")]
    pub readonly_rootfs: bool,
    /// Further groups.
    #[prost(int64, repeated, tag = "8")]
    pub supplemental_groups: Vec<i64>,
    /// No way to more privileges.
    #[prost(bool, tag = "11")]
    pub no_new_privs: bool,
    /// Group; only with a user.
    #[prost(message, optional, tag = "12")]
    pub run_as_group: Option<Int64Value>,
    /// Paths that are hidden.
    #[prost(string, repeated, tag = "13")]
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    #[prost(string, repeated, tag = "14")]
    pub readonly_paths: Vec<String>,
    /// seccomp.
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor.
    #[prost(message, optional, tag = "16")]
    pub apparmor: Option<SecurityProfile>,
    /// Whether the image's groups count too.
    #[prost(enumeration = "SupplementalGroupsPolicy", tag = "17")]
    pub supplemental_groups_policy: i32,
}

/// Capabilities, without `CAP_`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Capability {
    /// Given.
    #[prost(string, repeated, tag = "1")]
    pub add_capabilities: Vec<String>,
    /// Taken.
    #[prost(string, repeated, tag = "2")]
    pub drop_capabilities: Vec<String>,
}
