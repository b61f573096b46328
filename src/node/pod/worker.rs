//! One pod on this node: what is wanted of it, what the runtime shows, and the
//! little that must be remembered between two looks (back-offs, troubles,
//! probes). Only its record survives the agent, and nothing else needs to: the
//! plan is made anew from want and seen.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::due_probes::DueProbes;
use super::obey::Refused;
use super::probe::Probes;
use super::record::PodRecord;
use super::render::Needs;
use super::restart::{BackOff, ByImage};
use super::view::View;
use crate::node::ids::{ContainerId, OpId, PodKey, PodUid, SandboxId, Ticket};
use crate::node::now::{Mono, Now, Wall};
use crate::node::packed::Packed;
use crate::node::runtime::{ContainerSeen, Image, PodSeen, Prepare};
use crate::wire::kube::Pod;

/// One pod.
#[derive(Debug)]
pub struct Worker {
    /// Its uid.
    pub uid: PodUid,
    /// Its name.
    pub key: PodKey,
    /// Its newest metadata and the spec that is obeyed; `None` for a pod that only
    /// the runtime knows.
    pub pod: Option<Rc<Pod>>,
    /// What the pod refers to.
    pub needs: Needs,
    /// What of its newest object is not obeyed.
    pub refused: Refused,
    /// What shall become of it.
    pub fate: Fate,
    /// What the runtime shows.
    pub seen: View,
    /// What the disk knows of it beside its object.
    pub record: Option<PodRecord>,
    /// The batch with the newest record.
    pub recorded: Option<Ticket>,
    /// The op in flight: at most one.
    pub doing: Option<(OpId, Doing)>,
    /// What the volumes were last made to hold.
    pub prepared: Option<Prepare>,
    /// What keeps the whole pod from going on.
    pub trouble: Option<Trouble>,
    /// Waits of the whole pod after failures, by what failed.
    pub retries: BTreeMap<Stage, BackOff>,
    /// Waits between pulls.
    pub pulls: ByImage,
    /// Waits between one sandbox and the next.
    pub sandboxes: BackOff,
    /// Since it is ending: the grace it was given, and when that is over.
    pub ending: Option<Ending>,
    /// What is seen may be older than what was done.
    pub unsure: bool,
    /// What is remembered of its containers, by name.
    pub containers: BTreeMap<String, Memory>,
    /// When the node first heard of it.
    pub started: Wall,
    /// It was running before the agent was: judge nothing by first sight.
    pub adopted: bool,
    /// Something happened since the last plan.
    pub dirty: bool,
    /// When to plan again although nothing happened.
    pub wake: Option<(Mono, &'static str)>,
    /// Which containers are to be probed when.
    pub due_probes: DueProbes,
    /// It was among those that take room on the node.
    pub weighs: bool,
    /// Volumes, cgroup and logs are gone.
    pub cleaned: bool,
    /// The disk knew it when this agent began.
    pub restored: bool,
    /// Its volumes were taken away after it had ended.
    pub emptied: bool,
    /// The status as the cluster shall see it, once there is one.
    pub status: Option<Packed>,
    /// The status as the cluster was last told, or last told us.
    pub reported: Option<Packed>,
    /// The final status is known to the cluster.
    pub told: bool,
    /// The cloud says that it has no such pod.
    pub disowned: bool,
    /// What happened, for Kubernetes Events.
    pub events: Vec<Note>,
}

/// Reason of a pod that had to make room.
pub const EVICTED: &str = "Evicted";

/// What shall become of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It runs, until it is done.
    Run,
    /// It never gets to run here.
    Rejected {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// It ends, and its object stays until somebody deletes it.
    Failed {
        /// One word.
        reason: &'static str,
        /// A sentence.
        message: String,
        /// Seconds it gets, if not as many as it asks for.
        grace: Option<i64>,
    },
    /// The cloud wants it to end; then its object is deleted.
    Deleted,
    /// Its object is gone.
    Removed,
}

/// The op in flight, as far as its end matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Volumes and directories.
    Prepare(Box<Prepare>),
    /// The image of a container.
    Image(String),
    /// The sandbox.
    Sandbox,
    /// A container.
    Start(String),
    /// A postStart hook.
    PostStart(String),
    /// Stopping containers and sandboxes.
    Stop {
        /// By then all of it has ended.
        until: Mono,
        /// The containers.
        containers: Vec<ContainerId>,
        /// The sandboxes.
        sandboxes: Vec<SandboxId>,
    },
    /// Removing containers and sandboxes.
    Remove {
        /// The containers.
        containers: Vec<ContainerId>,
        /// The sandboxes.
        sandboxes: Vec<SandboxId>,
    },
    /// Looking at the pod.
    Look,
    /// Taking its volumes away.
    Empty,
    /// Taking the rest away.
    Clean,
}

/// Steps of the whole pod, as far as each has a back-off of its own: the success
/// of one says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Looking at it.
    Look,
    /// Having the objects that volumes are made of.
    Sources,
    /// Volumes and directories.
    Prepare,
    /// The sandbox.
    Sandbox,
    /// Stopping.
    Stop,
    /// Removing.
    Remove,
    /// Taking volumes away.
    Empty,
    /// Taking the rest away.
    Clean,
}

impl Stage {
    /// The first wait after a failure, and the longest. Volumes are as patient as
    /// kubelet's; another step that is tried again disturbs nobody.
    ///
    /// Source: kubernetes `pkg/util/goroutinemap/exponentialbackoff`.
    pub fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Sources | Self::Prepare => (Duration::from_millis(500), Duration::from_secs(122)),
            Self::Look | Self::Sandbox | Self::Stop | Self::Remove | Self::Empty | Self::Clean => (Duration::from_secs(1), Duration::from_secs(32)),
        }
    }
}

impl Doing {
    /// The back-off it has, if not one of its container's.
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Prepare(_) => Some(Stage::Prepare),
            Self::Sandbox => Some(Stage::Sandbox),
            Self::Stop { .. } => Some(Stage::Stop),
            Self::Remove { .. } => Some(Stage::Remove),
            Self::Look => Some(Stage::Look),
            Self::Empty => Some(Stage::Empty),
            Self::Clean => Some(Stage::Clean),
            Self::Image(_) | Self::Start(_) | Self::PostStart(_) => None,
        }
    }

    /// It changes what the runtime has, or tells it: without a look after it
    /// nobody knows what there is.
    pub fn needs_look(&self) -> bool {
        match self {
            Self::Sandbox | Self::Start(_) | Self::Stop { .. } | Self::Remove { .. } | Self::Look => true,
            Self::Prepare(_) | Self::Image(_) | Self::PostStart(_) | Self::Empty | Self::Clean => false,
        }
    }
}

/// How long a pod that is ending still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Seconds it was given last.
    pub grace: i64,
    /// When it is over.
    pub until: Mono,
}

/// What is remembered of a container between two looks.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Hash of its name and image, as the spec has them.
    pub hash: String,
    /// The image for the next start.
    pub image: Option<Image>,
    /// Waits between an end and the next start.
    pub restarts: ByImage,
    /// Waits after failures to create or start it.
    pub creates: BackOff,
    /// Why it does not run.
    pub trouble: Option<Trouble>,
    /// Waits between two Events of the same trouble.
    pub told: BackOff,
    /// Why it shall be stopped, and with which grace.
    pub kill: Option<Kill>,
    /// Its probes, while it runs.
    pub probes: Option<Probes>,
    /// The instance whose postStart hook was not answered yet.
    pub post_start: Option<ContainerId>,
    /// The instance that is being stopped: its hook was run and its end told.
    pub stopping: Option<ContainerId>,
    /// Number of the latest instance that ran, also when it is gone from the
    /// runtime: then its log tells.
    pub ran: Option<u32>,
}

/// Why a container shall be stopped although the pod goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// For the event.
    pub why: String,
    /// Seconds, when a probe has its own.
    pub grace: Option<i64>,
}

impl Memory {
    /// The container does not run for this reason; whether that is to be told.
    pub fn keep_from_running(&mut self, now: Now, trouble: Trouble) -> bool {
        if self.trouble.as_ref() != Some(&trouble) {
            self.told = BackOff::default();
            self.trouble = Some(trouble);
        }
        let is_due = self.told.until() <= now.mono;
        if is_due {
            self.told.count(now);
        }
        is_due
    }
}

/// Why something does not go on, in kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// `ErrImagePull`, `CreateContainerConfigError` and the like.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Something worth a Kubernetes Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// A warning, not news.
    pub warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The container it is about.
    pub container: Option<String>,
}

impl Worker {
    /// A pod nobody has looked at yet.
    pub fn new(uid: PodUid, key: PodKey, pod: Option<Rc<Pod>>, started: Wall) -> Self {
        let seen = View::new(PodSeen { uid: uid.clone(), key: key.clone(), sandboxes: Vec::new(), containers: Vec::new() });
        let fate = if pod.is_some() { Fate::Run } else { Fate::Removed };
        Self {
            uid,
            key,
            pod,
            needs: Needs::default(),
            refused: Refused::Nothing,
            fate,
            seen,
            record: None,
            recorded: None,
            doing: None,
            prepared: None,
            trouble: None,
            retries: BTreeMap::new(),
            pulls: ByImage::default(),
            sandboxes: BackOff::default(),
            ending: None,
            unsure: false,
            containers: BTreeMap::new(),
            started,
            adopted: false,
            dirty: true,
            wake: None,
            due_probes: DueProbes::default(),
            weighs: false,
            cleaned: false,
            restored: false,
            emptied: false,
            status: None,
            reported: None,
            told: false,
            disowned: false,
            events: Vec::new(),
        }
    }

    /// What is remembered of a container.
    pub fn memory(&mut self, name: &str) -> &mut Memory {
        if !self.containers.contains_key(name) {
            self.containers.insert(name.to_owned(), Memory::default());
        }
        self.containers.get_mut(name).expect("it was inserted above")
    }

    /// A trouble of a container.
    pub fn trouble_of(&self, name: &str) -> Option<&Trouble> {
        self.containers.get(name).and_then(|memory| memory.trouble.as_ref())
    }

    /// An instance of a container ran.
    pub fn has_run(&mut self, name: &str, number: u32) {
        let memory = self.memory(name);
        memory.ran = memory.ran.max(Some(number));
    }

    /// How often a container was restarted, by its latest instance.
    pub fn restarts(&self, name: &str) -> Option<u32> {
        let ran = || self.containers.get(name).and_then(|memory| memory.ran);
        self.seen.latest(name).map(|seen| seen.restarts).max(ran())
    }

    /// The status as the cluster shall see it; null before there is one.
    pub fn status(&self) -> Value {
        self.status.as_ref().map_or(Value::Null, Packed::to_tree)
    }

    /// When and why to look at it although nothing happened.
    pub fn next_wake(&self) -> Option<(Mono, &'static str)> {
        let probe = self.due_probes.next().map(|at| (at, "probe"));
        [self.wake, probe].into_iter().flatten().min()
    }

    /// Notes an event.
    pub fn note(&mut self, warning: bool, reason: &'static str, message: String, container: Option<&str>) {
        self.events.push(Note { warning, reason, message, container: container.map(str::to_owned) });
    }

    /// The pod is on its way out.
    pub fn is_ending(&self) -> bool {
        match self.fate {
            Fate::Deleted | Fate::Removed | Fate::Failed { .. } => true,
            Fate::Run | Fate::Rejected { .. } => false,
        }
    }

    /// Until when an earlier failure bars a step.
    pub fn barred(&self, stage: Stage, now: Now) -> Option<Mono> {
        self.retries.get(&stage).map(BackOff::until).filter(|until| *until > now.mono)
    }

    /// No container runs and no sandbox is ready.
    pub fn is_stopped(&self) -> bool {
        self.seen.running().next().is_none() && self.seen.sandboxes.iter().all(|sandbox| !sandbox.ready)
    }

    /// Whether an instance is ready, by its probes.
    pub fn is_ready(&self, container: &ContainerSeen) -> Option<bool> {
        self.probes_of(container).map_or(Some(true), Probes::is_ready)
    }

    /// Whether an instance has started, by its startup probe.
    pub fn is_started(&self, container: &ContainerSeen) -> bool {
        self.probes_of(container).is_none_or(Probes::is_started)
    }

    fn probes_of(&self, container: &ContainerSeen) -> Option<&Probes> {
        self.containers.get(&container.name)?.probes.as_ref().filter(|probes| probes.container == container.id)
    }
}
