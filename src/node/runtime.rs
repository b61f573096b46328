//! What the node asks of the container runtime and what it is told of it. The
//! shell is `edged`. Configurations are CRI's own messages, rendered by
//! `node::pod::render`; what comes back is parsed into the types here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::ids::{ContainerId, OpId, PodKey, PodUid, SandboxId};
use super::now::Wall;
use crate::wire::cri;
use crate::wire::kube::HostPathType;

/// Something the runtime, or the node's file system on its behalf, must do.
/// Every op that is not cancelled is answered by one `Input::Done` with its id,
/// and may be repeated without harm after a crash.
#[derive(Debug, Clone)]
pub struct Op {
    /// Its number.
    pub id: OpId,
    /// The pod it is for.
    pub pod: PodUid,
    /// What.
    pub step: Step,
}

/// One step of a pod's life.
#[derive(Debug, Clone)]
pub enum Step {
    /// Make directories, cgroup and volumes as listed; also brings changed
    /// contents into running pods.
    Prepare(Prepare),
    /// Have the image here, pulling if the policy says so.
    EnsureImage(EnsureImage),
    /// Run a new pod sandbox.
    MakeSandbox(Box<cri::PodSandboxConfig>),
    /// Create a container and start it.
    Start(Box<Start>),
    /// Run a postStart hook in a running container.
    PostStart {
        /// Where.
        container: ContainerId,
        /// What.
        hook: Action,
    },
    /// Stop containers side by side, each within its grace. Then, when asked,
    /// the sandboxes.
    Stop {
        /// The containers.
        containers: Vec<Stop>,
        /// The sandboxes to stop after them.
        sandboxes: Vec<SandboxId>,
    },
    /// Remove ended containers and sandboxes.
    Remove {
        /// Containers, with their log files when the pod goes too.
        containers: Vec<ContainerId>,
        /// Sandboxes.
        sandboxes: Vec<SandboxId>,
    },
    /// Take away the volumes of a pod that ended; its logs stay.
    Empty,
    /// Only look at the pod: what was seen of it is older than what was done.
    Look,
    /// Take away all that is left of a pod: mounts, directories, cgroup, logs.
    Clean {
        /// Its name, for the log directory.
        key: PodKey,
        /// Where its cgroup is, or could be, as rendered.
        cgroups: Vec<String>,
    },
}

impl Step {
    /// Its name, for the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare(_) => "prepare",
            Self::EnsureImage(_) => "ensure image",
            Self::MakeSandbox(_) => "make sandbox",
            Self::Start(_) => "start",
            Self::PostStart { .. } => "postStart",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
            Self::Empty => "empty",
            Self::Look => "look",
            Self::Clean { .. } => "clean",
        }
    }
}

/// Directories, cgroup and volumes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepare {
    /// Log directory, absolute.
    pub logs: String,
    /// The pod's cgroup as the runtime is told it; limits of the whole pod.
    pub cgroup: Cgroup,
    /// Volumes.
    pub volumes: Vec<VolumeSetup>,
}

/// The cgroup of a pod, or of a class of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// `/kubepods/burstable/podUID`, or a slice name under systemd.
    pub parent: String,
    /// CPU weight in shares.
    pub cpu_shares: u64,
    /// CPU quota per period of 100 ms, in microseconds; 0 for none.
    pub cpu_quota: i64,
    /// Bytes; 0 for none.
    pub memory: i64,
}

/// A volume to have ready, at `ROOT/pods/UID/volumes/PLUGIN/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSetup {
    /// Name of the volume in the pod.
    pub name: String,
    /// Its content.
    pub source: VolumeSource,
    /// Group that shall own it.
    pub fs_group: Option<u32>,
}

/// Content of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// An empty directory, tmpfs when a size (0: no limit) is given.
    EmptyDir {
        /// tmpfs of at most so many bytes.
        memory: Option<u64>,
    },
    /// Something of the node that must be there.
    HostPath {
        /// Where.
        path: String,
        /// What it must be.
        kind: HostPathType,
        /// The hostPath volume of the pod that this lies in and that a container
        /// may write: links in it may be a container's.
        within: Option<String>,
    },
    /// Files written anew as a whole and swapped in at once; on tmpfs when
    /// secret.
    Files {
        /// `kubernetes.io~configmap` and the like.
        plugin: &'static str,
        /// Path below the volume to content.
        files: BTreeMap<String, File>,
        /// Never on a disk.
        secret: bool,
    },
}

/// A file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Content.
    pub content: Vec<u8>,
    /// Mode bits.
    pub mode: u32,
    /// Owner, when not root.
    pub owner: Option<u32>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, mode {:o}", self.content.len(), self.mode)
    }
}

/// An image to have here.
#[derive(Debug, Clone)]
pub struct EnsureImage {
    /// The reference, with a tag or digest.
    pub image: String,
    /// Pull even when it is here.
    pub always: bool,
    /// Fail when it is not here.
    pub never: bool,
    /// Credentials to try in order, then none.
    pub auths: Vec<cri::AuthConfig>,
    /// The pod it is pulled for.
    pub sandbox: Box<cri::PodSandboxConfig>,
}

/// A container to create and start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The sandbox it goes into.
    pub sandbox: SandboxId,
    /// That sandbox's configuration.
    pub sandbox_config: cri::PodSandboxConfig,
    /// The container; `image.image` is what `EnsureImage` answered.
    pub config: cri::ContainerConfig,
    /// A managed /etc/hosts: host path and content, written before.
    pub hosts: Option<(String, String)>,
    /// File for the last words, made before, mode 0666.
    pub termination_log: String,
    /// Parts of volumes to bind before; they fill the mounts they name.
    pub sub_paths: Vec<SubPath>,
    /// Places within volumes to have ready, because the runtime cannot make
    /// them there.
    pub mount_points: Vec<MountPoint>,
    /// Containers of earlier attempts that may go once this one was started, or could
    /// not be.
    pub replaces: Vec<ContainerId>,
}

/// A part of a volume, mounted without a way out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubPath {
    /// Index into `config.mounts`, whose `host_path` is filled in.
    pub mount: usize,
    /// Name of the volume.
    pub volume: String,
    /// Where the volume is.
    pub root: String,
    /// Below it; made as a directory when missing.
    pub path: String,
    /// Where it is bound.
    pub target: String,
}

/// Where one mount of a container lies within another that is read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Index into `config.mounts` of what is mounted there.
    pub mount: usize,
    /// Index into `config.mounts` of the volume it lies in.
    pub volume: usize,
    /// Path within that volume, or within the part of it that is mounted.
    pub path: String,
}

/// A container to stop.
#[derive(Debug, Clone)]
pub struct Stop {
    /// Which.
    pub container: ContainerId,
    /// Seconds between TERM and KILL, the hook's time included.
    pub grace: u32,
    /// Run before TERM, inside the grace.
    pub pre_stop: Option<Action>,
    /// How long to wait before, for those that must end after others.
    pub after: Vec<ContainerId>,
}

/// A thing to try on a container: probes and hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A command inside.
    Exec(Vec<String>),
    /// A GET of `http(s)://host:port/path`.
    Http {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
        /// TLS, not verified.
        tls: bool,
        /// Further headers.
        headers: Vec<(String, String)>,
    },
    /// A connection.
    Tcp {
        /// Address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A gRPC health check.
    Grpc {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// The service; the server as a whole when empty.
        service: String,
    },
    /// A pause.
    Sleep(Duration),
}

/// A probe to run once; answered by `Input::Probed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The pod it is for.
    pub pod: PodUid,
    /// The container.
    pub container: ContainerId,
    /// Which of its probes.
    pub kind: ProbeKind,
    /// What to try.
    pub action: Action,
    /// For how long.
    pub timeout: Duration,
}

/// The three probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// Holds the others back until it succeeded.
    Startup,
    /// Kills.
    Liveness,
    /// Takes out of service.
    Readiness,
}

/// Answer of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeResult {
    /// Well.
    Success,
    /// Well, with what people should know of it.
    Warning(String),
    /// Ill, with what was seen.
    Failure(String),
    /// It could not be asked; changes nothing.
    Unknown(String),
}

/// Answer of an op that worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing more to say.
    Done,
    /// It is done, but something that was to be stopped or removed is not known
    /// to the runtime, in its words.
    NotFound(String),
    /// Directories and volumes are there; containers that have logs, with the
    /// highest number of an instance.
    Prepared(BTreeMap<String, u32>),
    /// The image is here.
    Image(Image),
    /// The sandbox runs.
    Sandbox(SandboxId),
    /// The container runs.
    Container(ContainerId),
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What `CreateContainer` is given.
    pub reference: String,
    /// Numeric user of the image, if it has one.
    pub uid: Option<i64>,
    /// User name of the image, if that is a name.
    pub username: String,
    /// It had to be pulled, in this time.
    pub pulled: Option<Duration>,
    /// Bytes.
    pub size: u64,
}

/// An op that did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it failed.
    pub at: FailedAt,
    /// The runtime's or system's words.
    pub message: String,
}

/// Where an op failed; it decides the reason people read in the pod's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedAt {
    /// The directories of a pod.
    Directories,
    /// The cgroup of a pod.
    Cgroup,
    /// A volume: `FailedMount`, tried again.
    Volume,
    /// The image is not here and may not be pulled.
    ImageNeverPull,
    /// The image could not be looked up.
    ImageInspect,
    /// The image could not be pulled.
    ImagePull,
    /// The image's name is none.
    ImageName,
    /// The sandbox could not be made.
    Sandbox,
    /// What a container needs on this machine before it can be created.
    Config,
    /// The container could not be created.
    Create,
    /// The container could not be started.
    Start,
    /// The postStart hook failed.
    PostStart,
    /// Stopping or removing failed.
    Stop,
    /// The runtime cannot be reached.
    Runtime,
}

/// What the runtime says about itself, when it is reached and whenever that
/// changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeInfo {
    /// `containerd`.
    pub name: String,
    /// `1.6.20`.
    pub version: String,
    /// Whether it groups processes by systemd slices.
    pub systemd_cgroups: Option<bool>,
    /// Whether it can leave out the groups that an image gives a user.
    pub strict_groups: bool,
    /// It could tell what happens to containers, but was told not to.
    pub is_silent: bool,
    /// Why the runtime is not ready.
    pub not_ready: Option<String>,
    /// Why the network is not ready.
    pub network_not_ready: Option<String>,
    /// Image of the sandbox's own process, which must survive collection.
    pub sandbox_image: String,
    /// Where it looks for the network of pods.
    pub cni: Cni,
}

/// Folders of a runtime's CNI, empty when it does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cni {
    /// Configurations.
    pub configs: PathBuf,
    /// Plugins.
    pub plugins: Vec<PathBuf>,
}

/// All of a pod that is in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// Its uid, from the labels.
    pub uid: PodUid,
    /// Its name, from the labels.
    pub key: PodKey,
    /// Sandboxes, newest first.
    pub sandboxes: Vec<SandboxSeen>,
    /// Containers, newest first.
    pub containers: Vec<ContainerSeen>,
}

/// A sandbox in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSeen {
    /// Its id.
    pub id: SandboxId,
    /// How often the pod got one before.
    pub attempt: u32,
    /// It is ready.
    pub ready: bool,
    /// When it was made.
    pub created: Wall,
    /// Addresses; empty on the host network.
    pub ips: Vec<String>,
    /// `terminationGracePeriodSeconds` kept in its annotations by us.
    pub annotations: BTreeMap<String, String>,
}

/// A container in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Name in the pod.
    pub name: String,
    /// How often it was started before.
    pub restarts: u32,
    /// Image as people know it.
    pub image: String,
    /// Image by digest.
    pub image_id: String,
    /// Its state.
    pub state: ContainerState,
    /// As we wrote them: hash, hooks, graces.
    pub annotations: BTreeMap<String, String>,
}

/// State of a container in the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started: Wall,
    },
    /// Ended.
    Exited(Exit),
    /// The runtime does not know.
    Unknown,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// When it started.
    pub started: Wall,
    /// When it ended.
    pub finished: Wall,
    /// Exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled` and the like.
    pub reason: String,
    /// Its last words.
    pub message: String,
}

/// An image in the runtime, for the node's status and for collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// The runtime's id.
    pub id: String,
    /// Tags and digests.
    pub names: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Never collected.
    pub pinned: bool,
}

/// What the node hands to the runtime's shell.
#[derive(Debug, Clone)]
pub enum Order {
    /// A step of a pod's life.
    Op(Op),
    /// End an op, whatever it is waiting for; it is not answered. What it did
    /// until then may show later.
    Cancel(OpId),
    /// Let classes of pods weigh this much from now on; not answered.
    Weigh(Vec<Cgroup>),
    /// A probe to run once.
    Probe(Probe),
    /// Remove an image nobody uses.
    RemoveImage(String),
    /// Look at what pods use; answered by `Usage`.
    Measure(Vec<(PodUid, PodKey)>),
}

/// What a pod uses now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodUsage {
    /// Which.
    pub pod: PodUid,
    /// Its containers, by name.
    pub containers: BTreeMap<String, ContainerUsage>,
    /// Bytes in its emptyDir volumes on disk, by name.
    pub volumes: BTreeMap<String, u64>,
}

/// What a container uses now, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Memory.
    pub memory: u64,
    /// What it wrote beside its volumes: its layer and its logs.
    pub disk: u64,
}
