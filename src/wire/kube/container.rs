//! One container of a pod: image, process, probes, resources, security.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{IntOrString, RestartPolicy, SecurityContext, Unsupported};
use crate::wire::quantity::Quantity;

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Unique in the pod.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// When to pull; by tag unless told.
    pub image_pull_policy: Option<PullPolicy>,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Directory of the process.
    pub working_dir: String,
    /// Whole objects as environment.
    pub env_from: Vec<EnvFrom>,
    /// Single variables, in order.
    pub env: Vec<EnvVar>,
    /// Ports.
    pub ports: Vec<ContainerPort>,
    /// Requests and limits.
    pub resources: Resources,
    /// Volumes inside.
    pub volume_mounts: Vec<VolumeMount>,
    /// Raw block devices are not supported.
    pub volume_devices: Option<Unsupported>,
    /// Kills the container when it fails.
    pub liveness_probe: Option<Probe>,
    /// Takes the pod out of service while it fails.
    pub readiness_probe: Option<Probe>,
    /// Holds the other two back until it succeeded once.
    pub startup_probe: Option<Probe>,
    /// Hooks.
    pub lifecycle: Option<Lifecycle>,
    /// Security.
    pub security_context: SecurityContext,
    /// Where the last words are read from.
    pub termination_message_path: Option<String>,
    /// `File` unless told, or `FallbackToLogsOnError`.
    pub termination_message_policy: Option<String>,
    /// Keep stdin open.
    pub stdin: bool,
    /// Close stdin after the first attach.
    pub stdin_once: bool,
    /// A terminal.
    pub tty: bool,
    /// Over the pod's; `Always` makes an init container a sidecar.
    pub restart_policy: Option<RestartPolicy>,
    /// What is done after some exit codes, over the policy; the first that matches
    /// counts.
    pub restart_policy_rules: Vec<RestartRule>,
}

impl Container {
    /// An init container that stays: it starts in init order and outlives the
    /// rest.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(RestartPolicy::Always)
    }
}

/// What is done after some exit codes (Kubernetes 1.34).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartRule {
    /// What is done.
    pub action: RestartAction,
    /// After which; a rule without them never matches.
    #[serde(default)]
    pub exit_codes: Option<ExitCodes>,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RestartAction {
    /// The container starts again.
    Restart,
    /// All containers of the pod start again: not supported.
    RestartAllContainers,
}

/// Exit codes of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExitCodes {
    /// Whether these are meant, or all others.
    pub operator: ExitCodesOperator,
    /// Exit codes, 0 to 255.
    #[serde(default)]
    pub values: Vec<i32>,
}

/// Which exit codes a rule means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ExitCodesOperator {
    /// Those of the list.
    In,
    /// All that are not in the list.
    NotIn,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When it is missing.
    IfNotPresent,
    /// Never.
    Never,
}

/// A whole ConfigMap or Secret as environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvFrom {
    /// Before each key.
    pub prefix: String,
    /// From a ConfigMap.
    pub config_map_ref: Option<OptionalReference>,
    /// From a Secret.
    pub secret_ref: Option<OptionalReference>,
}

/// An object by name that may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OptionalReference {
    /// The name.
    pub name: String,
    /// Missing is fine.
    pub optional: bool,
}

/// One variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Text, with `$(OTHER)` replaced.
    pub value: String,
    /// Instead of text.
    pub value_from: Option<EnvVarSource>,
}

/// Where a variable comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvVarSource {
    /// A field of the pod.
    pub field_ref: Option<FieldRef>,
    /// A request or limit.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// A key of a ConfigMap.
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret.
    pub secret_key_ref: Option<KeyRef>,
    /// Not supported.
    pub file_key_ref: Option<UnsupportedRef>,
}

/// A reference of a kind the agent cannot follow.
pub type UnsupportedRef = Unsupported;

/// A field of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FieldRef {
    /// `metadata.labels['app']` and the like.
    pub field_path: String,
}

/// A request or limit of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceFieldRef {
    /// The container; its own in env.
    pub container_name: String,
    /// `limits.cpu` and the like.
    pub resource: String,
    /// Unit of the answer; 1 unless told.
    pub divisor: Option<Quantity>,
}

/// One key of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct KeyRef {
    /// The object.
    pub name: String,
    /// The key.
    pub key: String,
    /// Missing is fine.
    pub optional: bool,
}

/// One port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name.
    pub name: String,
    /// Port inside.
    pub container_port: i32,
    /// Port on the node; 0 for none.
    pub host_port: i32,
    /// Address on the node.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// `TCP` unless told.
    pub protocol: String,
}

/// Requests and limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Guaranteed.
    pub requests: BTreeMap<String, Quantity>,
    /// At most.
    pub limits: BTreeMap<String, Quantity>,
    /// Not supported.
    pub claims: Option<Unsupported>,
}

/// A volume inside a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeMount {
    /// Name of the volume.
    pub name: String,
    /// Where.
    pub mount_path: String,
    /// A part of the volume.
    pub sub_path: String,
    /// The same with `$(VAR)` replaced.
    pub sub_path_expr: String,
    /// No writing.
    pub read_only: bool,
    /// `None` unless told, `HostToContainer` or `Bidirectional`.
    pub mount_propagation: Option<String>,
    /// Only `Disabled` and `IfPossible` are accepted.
    pub recursive_read_only: Option<String>,
}

/// A question asked again and again of a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    /// What is asked.
    #[serde(flatten)]
    pub handler: Handler,
    /// Seconds after the start; 0 unless told.
    pub initial_delay_seconds: i32,
    /// Seconds between; 10 unless told.
    pub period_seconds: Option<i32>,
    /// Seconds for an answer; 1 unless told.
    pub timeout_seconds: Option<i32>,
    /// Good answers that turn it; 1 unless told.
    pub success_threshold: Option<i32>,
    /// Bad answers that turn it; 3 unless told.
    pub failure_threshold: Option<i32>,
    /// Grace of a kill by this probe.
    pub termination_grace_period_seconds: Option<i64>,
}

/// An action of a probe or a hook.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Handler {
    /// A command inside.
    pub exec: Option<ExecAction>,
    /// A GET.
    pub http_get: Option<HttpGetAction>,
    /// A connection.
    pub tcp_socket: Option<TcpSocketAction>,
    /// A gRPC health check (probes only).
    pub grpc: Option<GrpcAction>,
    /// A pause (hooks only).
    pub sleep: Option<SleepAction>,
}

/// A command inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct ExecAction {
    /// Argument vector; no shell.
    pub command: Vec<String>,
}

/// A GET.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Path and query.
    #[serde(default)]
    pub path: String,
    /// Port or its name.
    pub port: IntOrString,
    /// The pod's address unless told.
    #[serde(default)]
    pub host: String,
    /// `HTTP` unless told, or `HTTPS`.
    #[serde(default)]
    pub scheme: String,
    /// Further headers.
    #[serde(default)]
    pub http_headers: Vec<HttpHeader>,
}

/// One header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HttpHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TcpSocketAction {
    /// Port or its name.
    pub port: IntOrString,
    /// The pod's address unless told.
    #[serde(default)]
    pub host: String,
}

/// A gRPC health check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GrpcAction {
    /// Port; it has no name.
    pub port: i32,
    /// The service; the server as a whole when empty.
    #[serde(default)]
    pub service: Option<String>,
}

/// A pause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SleepAction {
    /// How long.
    pub seconds: i64,
}

/// Hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lifecycle {
    /// Right after the start.
    pub post_start: Option<Handler>,
    /// Before the end, inside the grace period.
    pub pre_stop: Option<Handler>,
    /// Not supported.
    pub stop_signal: Option<Unsupported>,
}
