//! Pod: spec as wished, and the part of its status the agent must not lose.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Affinity, Container, ObjectMeta, PodSecurityContext, Resources, Unsupported, Volume};

/// A pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What shall run.
    pub spec: PodSpec,
    /// What the cluster last showed of it.
    pub status: PodStatus,
}

impl Pod {
    /// Every container, init containers first.
    pub fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().chain(&self.spec.containers)
    }

    /// The container of this name, of either kind: a pod has a name only once.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.all_containers().find(|container| container.name == name)
    }
}

/// What the agent needs of a status that others may have written: the rest it
/// tells itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded` or `Failed`; empty before the first.
    pub phase: String,
    /// Why the pod as a whole is so, in one word.
    pub reason: String,
    /// And in a sentence.
    pub message: String,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// When it began on its node, RFC 3339.
    pub start_time: String,
    /// Conditions.
    pub conditions: Vec<PodCondition>,
}

/// A condition of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when, RFC 3339.
    pub last_transition_time: String,
}

/// What shall run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Main containers.
    pub containers: Vec<Container>,
    /// Requests and limits of the pod as a whole, over the sum of its containers'
    /// (Kubernetes 1.34).
    pub resources: Option<Resources>,
    /// Run to completion one after the other, before the main ones.
    pub init_containers: Vec<Container>,
    /// Not supported yet.
    pub ephemeral_containers: Option<Unsupported>,
    /// When an ended container starts again.
    pub restart_policy: RestartPolicy,
    /// Seconds between TERM and KILL; 30 unless told.
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds the pod may live.
    pub active_deadline_seconds: Option<i64>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// How names are resolved.
    pub dns_policy: DnsPolicy,
    /// Added to, or instead of, the policy's.
    pub dns_config: Option<DnsConfig>,
    /// Lines of /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Host name, else the pod's.
    pub hostname: String,
    /// The host name in any case, without a domain (Kubernetes 1.34).
    pub hostname_override: Option<String>,
    /// With a host name, the domain below the namespace.
    pub subdomain: String,
    /// The host name is the fully qualified one.
    #[serde(rename = "setHostnameAsFQDN")]
    pub set_hostname_as_fqdn: bool,
    /// The node's network.
    pub host_network: bool,
    /// The node's processes.
    #[serde(rename = "hostPID")]
    pub host_pid: bool,
    /// The node's IPC.
    #[serde(rename = "hostIPC")]
    pub host_ipc: bool,
    /// User namespaces are not supported: only `true` is accepted.
    pub host_users: Option<bool>,
    /// One process namespace for all containers.
    pub share_process_namespace: bool,
    /// Security of all containers.
    pub security_context: PodSecurityContext,
    /// The account whose token is mounted.
    pub service_account_name: String,
    /// Secrets with registry credentials.
    pub image_pull_secrets: Vec<LocalReference>,
    /// Must hold on the node's labels.
    pub node_selector: BTreeMap<String, String>,
    /// The part of it that a node looks at.
    pub affinity: Affinity,
    /// Taints the pod bears.
    pub tolerations: Vec<Toleration>,
    /// Weight for eviction.
    pub priority: Option<i32>,
    /// Conditions that must be true before the pod is ready.
    pub readiness_gates: Vec<ReadinessGate>,
    /// Runtime handlers other than the default are not supported.
    pub runtime_class_name: Option<String>,
    /// Not supported.
    pub resource_claims: Option<Unsupported>,
    /// Must be linux.
    pub os: Option<PodOs>,
}

/// When an ended container starts again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// However it ended.
    #[default]
    Always,
    /// When it failed.
    OnFailure,
    /// Not at all.
    Never,
}

/// How names are resolved in a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum DnsPolicy {
    /// The cluster's DNS, unless on the host network.
    #[default]
    ClusterFirst,
    /// The cluster's DNS in any case.
    ClusterFirstWithHostNet,
    /// The node's.
    Default,
    /// Only what the pod says itself.
    None,
}

/// A pod's own DNS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Addresses.
    pub nameservers: Vec<String>,
    /// Domains.
    pub searches: Vec<String>,
    /// `ndots:5` and the like.
    pub options: Vec<DnsOption>,
}

/// One resolver option.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsOption {
    /// Name.
    pub name: String,
    /// Value, for options that have one.
    pub value: Option<String>,
}

/// One line of /etc/hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HostAlias {
    /// Address.
    pub ip: String,
    /// Names.
    pub hostnames: Vec<String>,
}

/// An object of the pod's namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LocalReference {
    /// The name.
    pub name: String,
}

/// A taint the pod bears.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Taint key; empty with `Exists` matches all.
    pub key: String,
    /// `Equal` unless told, or `Exists`.
    pub operator: String,
    /// Taint value.
    pub value: String,
    /// Effect; empty matches all.
    pub effect: String,
}

/// A condition that others must set before the pod is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReadinessGate {
    /// Type of the condition.
    pub condition_type: String,
}

/// The operating system a pod is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodOs {
    /// `linux` or `windows`.
    pub name: String,
}
