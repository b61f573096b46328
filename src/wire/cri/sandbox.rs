//! What a pod sandbox is made of.

use std::collections::BTreeMap;

use super::{Int64Value, LinuxContainerResources};

/// A pod sandbox to run.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxConfig {
    /// Whose it is.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Host name inside; empty on the host network.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Where the logs of its containers go, absolute.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// resolv.conf inside.
    #[prost(message, optional, tag = "4")]
    pub dns_config: Option<DnsConfig>,
    /// Ports of the host.
    #[prost(message, repeated, tag = "5")]
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    #[prost(btree_map = "string, string", tag = "6")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

/// Name of a sandbox; unique as a whole.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PodSandboxMetadata {
    /// Name of the pod.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Uid of the pod.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace of the pod.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// How often the pod got one before.
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}

/// Content of resolv.conf.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DnsConfig {
    /// Name servers.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Search domains.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// Options.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

/// A port of the host that leads to a port of the pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PortMapping {
    /// Protocol.
    #[prost(enumeration = "Protocol", tag = "1")]
    pub protocol: i32,
    /// Port inside.
    #[prost(int32, tag = "2")]
    pub container_port: i32,
    /// Port of the host; 0 for none.
    #[prost(int32, tag = "3")]
    pub host_port: i32,
    /// Address of the host; all when empty.
    #[prost(string, tag = "4")]
    pub host_ip: String,
}

/// Protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// SCTP.
    Sctp = 2,
}

/// What of a sandbox only Linux has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxPodSandboxConfig {
    /// The pod's cgroup: a path, or a slice name under systemd.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// Security.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
    /// Sysctls, dotted.
    #[prost(btree_map = "string, string", tag = "3")]
    pub sysctls: BTreeMap<String, String>,
    /// What the runtime itself needs for the pod.
    #[prost(message, optional, tag = "4")]
    pub overhead: Option<LinuxContainerResources>,
    /// Sum over the containers.
    #[prost(message, optional, tag = "5")]
    pub resources: Option<LinuxContainerResources>,
}

/// Security of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxSandboxSecurityContext {
    /// Which namespaces are its own.
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
    /// SELinux label.
    #[prost(message, optional, tag = "2")]
    pub selinux_options: Option<SeLinuxOption>,
    /// User.
    #[prost(message, optional, tag = "3")]
    pub run_as_user: Option<Int64Value>,
    /// Nothing in the root file system can be written.
    #[prost(bool, tag = "4")]
    pub readonly_rootfs: bool,
    /// Further groups.
    #[prost(int64, repeated, tag = "5")]
    pub supplemental_groups: Vec<i64>,
    /// A container of it will be privileged.
    #[prost(bool, tag = "6")]
    pub privileged: bool,
    /// Group; only with a user.
    #[prost(message, optional, tag = "8")]
    pub run_as_group: Option<Int64Value>,
    /// seccomp.
    #[prost(message, optional, tag = "9")]
    pub seccomp: Option<SecurityProfile>,
    /// AppArmor.
    #[prost(message, optional, tag = "10")]
    pub apparmor: Option<SecurityProfile>,
    /// Whether the image's groups count too.
    #[prost(enumeration = "SupplementalGroupsPolicy", tag = "11")]
    pub supplemental_groups_policy: i32,
}

/// Whose namespaces are used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NamespaceOption {
    /// Network.
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub network: i32,
    /// Processes.
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub pid: i32,
    /// Shared memory and the like.
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    pub ipc: i32,
    /// The container meant by `Target`.
    #[prost(string, tag = "4")]
    pub target_id: String,
}

/// Whose namespace is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NamespaceMode {
    /// The pod's.
    Pod = 0,
    /// An own one.
    Container = 1,
    /// The host's.
    Node = 2,
    /// Another container's.
    Target = 3,
}

/// Whether the groups an image gives its user count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SupplementalGroupsPolicy {
    /// They do.
    Merge = 0,
    /// They do not.
    Strict = 1,
}

/// SELinux label.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SeLinuxOption {
    /// User.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Role.
    #[prost(string, tag = "2")]
    pub role: String,
    /// Type.
    #[prost(string, tag = "3")]
    pub r#type: String,
    /// Level.
    #[prost(string, tag = "4")]
    pub level: String,
}

/// A seccomp or AppArmor profile.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SecurityProfile {
    /// Which.
    #[prost(enumeration = "ProfileType", tag = "1")]
    pub profile_type: i32,
    /// Path or name of a local one.
    #[prost(string, tag = "2")]
    pub localhost_ref: String,
}

/// Which profile (`SecurityProfile.ProfileType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ProfileType {
    /// The runtime's own.
    RuntimeDefault = 0,
    /// None.
    Unconfined = 1,
    /// One of this node.
    Localhost = 2,
}
