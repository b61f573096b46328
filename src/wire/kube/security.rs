//! Security of a pod and of its containers.

use serde::Deserialize;

/// Security of all containers of a pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSecurityContext {
    /// User id of the processes.
    pub run_as_user: Option<i64>,
    /// First group id of the processes.
    pub run_as_group: Option<i64>,
    /// Refuse uid 0.
    pub run_as_non_root: Option<bool>,
    /// Group ids that the processes have besides.
    pub supplemental_groups: Vec<i64>,
    /// Whether the groups that the image gives the user count, too: they do
    /// unless told.
    pub supplemental_groups_policy: GroupsPolicy,
    /// Group that owns the volumes.
    pub fs_group: Option<i64>,
    /// Kernel parameters of the pod (`sysctl`).
    pub sysctls: Vec<Sysctl>,
    /// System call filter.
    pub seccomp_profile: Option<SeccompProfile>,
    /// SELinux label of all containers that have none.
    pub se_linux_options: Option<SeLinuxOptions>,
    /// AppArmor profile of all containers that have none.
    pub app_armor_profile: Option<AppArmorProfile>,
}

/// One kernel setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Sysctl {
    /// Name, with dots or slashes.
    pub name: String,
    /// Value, as text.
    pub value: String,
}

/// Security of one container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecurityContext {
    /// User id, over the pod's.
    pub run_as_user: Option<i64>,
    /// Group id, over the pod's.
    pub run_as_group: Option<i64>,
    /// Refuse uid 0, over the pod's.
    pub run_as_non_root: Option<bool>,
    /// All of the node's powers.
    pub privileged: bool,
    /// No writing to the root.
    pub read_only_root_filesystem: bool,
    /// False forbids setuid and the like.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities to add and to drop.
    pub capabilities: Capabilities,
    /// System call filter, over the pod's.
    pub seccomp_profile: Option<SeccompProfile>,
    /// `Default` unless told, or `Unmasked`.
    pub proc_mount: Option<String>,
    /// SELinux label, over the pod's.
    pub se_linux_options: Option<SeLinuxOptions>,
    /// AppArmor profile, over the pod's.
    pub app_armor_profile: Option<AppArmorProfile>,
}

/// Capabilities beyond or below the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Capabilities that the processes get, without `CAP_`.
    pub add: Vec<String>,
    /// Capabilities that the processes lose, without `CAP_`.
    pub drop: Vec<String>,
}

/// System call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeccompProfile {
    /// `RuntimeDefault`, `Unconfined` or `Localhost`.
    #[serde(rename = "type")]
    pub kind: String,
    /// File below the seccomp directory, with `Localhost`.
    pub localhost_profile: String,
}

/// SELinux label; what is empty is the runtime's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SeLinuxOptions {
    /// SELinux user.
    pub user: String,
    /// SELinux role.
    pub role: String,
    /// SELinux type.
    #[serde(rename = "type")]
    pub kind: String,
    /// SELinux level (MCS or MLS range).
    pub level: String,
}

/// AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AppArmorProfile {
    /// Where the profile comes from.
    #[serde(rename = "type")]
    pub kind: AppArmorKind,
    /// Name of a profile that is loaded on the node, with `Localhost`.
    pub localhost_profile: String,
}

/// Which AppArmor profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum AppArmorKind {
    /// The processes are not confined.
    #[default]
    Unconfined,
    /// The runtime's own.
    RuntimeDefault,
    /// One of the node.
    Localhost,
}

/// Whether the groups that the image gives the user count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum GroupsPolicy {
    /// Those of the image count, too.
    #[default]
    Merge,
    /// Only those that the pod names count.
    Strict,
}
