//! A container runtime: sandboxes and containers that live, end, ignore TERM and
//! fail. It answers ops after a while and outlives the agent.

use std::collections::{BTreeMap, BTreeSet};

use selvedge::node::ids::{ContainerId, PodKey, PodUid, SandboxId};
use selvedge::node::now::Wall;
use selvedge::node::runtime::{
    Action, ContainerSeen, ContainerState, ContainerUsage, Exit, FailedAt, Failure, Image, ImageSeen, Outcome, PodSeen, PodUsage, Probe, ProbeResult,
    SandboxSeen, Start, Step,
};
use selvedge::wire::cri;

use super::answer::Answer;

/// Everything in the runtime, by pod.
#[derive(Debug, Default)]
pub struct Runtime {
    pub pods: BTreeMap<PodUid, PodSeen>,
    /// Commands by container, for what they do.
    behaviours: BTreeMap<ContainerId, Behaviour>,
    /// Containers started since the world began, by pod name and container.
    pub starts: BTreeMap<(String, String), u32>,
    /// Containers that were running and were stopped or killed by an op.
    pub stopped: Vec<(String, String)>,
    made: u64,
    /// Pods with directories.
    pub directories: BTreeMap<PodUid, PodKey>,
    /// Numbers of the instances that ran last, whose logs are there.
    logs: BTreeMap<(PodUid, String), u32>,
    /// Pods whose volumes were taken away.
    pub emptied: BTreeSet<PodUid>,
    /// What containers and a volume `scratch` use, by pod name.
    pub uses: BTreeMap<String, (ContainerUsage, u64)>,
    /// Sizes of the images that are here, by name.
    images: BTreeMap<String, u64>,
    /// Names of pods whose probes fail.
    pub unhealthy: BTreeSet<String>,
    /// Every op fails.
    pub broken: bool,
    /// Answers of its own, by pod name and step.
    pub answers: BTreeMap<(String, &'static str), Answer>,
    /// Names of pods that were asked something.
    names: BTreeMap<PodUid, String>,
    /// Steps asked for since the world began: when, milliseconds, of which pod,
    /// which.
    pub asked: Vec<(u64, String, &'static str)>,
    /// CRI calls that these steps and the reading after them are: when, milliseconds, of
    /// which pod, how many.
    pub calls: Vec<(u64, String, usize)>,
    /// Probes that were run.
    pub probes: u64,
    /// Milliseconds more than usual until it has listed everything.
    pub slow: u64,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until told to end.
    Runs,
    /// Runs until killed.
    Ignores,
    /// Ends by itself after milliseconds, with a code.
    Ends(u64, i32),
    /// Cannot be run at all.
    Fails,
}

impl Behaviour {
    /// `["runs"]`, `["ignores"]`, `["fails"]`, `["ends", MILLIS, CODE]`.
    fn of(command: &[String]) -> Self {
        match command.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ignores"] => Self::Ignores,
            ["fails"] => Self::Fails,
            ["ends", millis, code] => Self::Ends(millis.parse().expect("milliseconds"), code.parse().expect("a code")),
            _ => Self::Runs,
        }
    }
}

/// What follows from an op, later.
pub enum Later {
    /// A container ends by itself after milliseconds.
    End(ContainerId, u64),
    /// Nothing.
    Nothing,
}

/// CRI calls that the shell makes for a step (`edged/operate.rs`), at most.
fn calls_of(step: &Step) -> usize {
    match step {
        Step::Prepare(_) | Step::Empty | Step::Clean { .. } | Step::Look => 0,
        Step::MakeSandbox(_) | Step::PostStart { .. } => 1,
        // Whether it is here, the pull, and what was pulled.
        Step::EnsureImage(_) => 3,
        Step::Start(start) => 2 + start.replaces.len(),
        Step::Stop { containers, sandboxes } => containers.len() + sandboxes.len(),
        Step::Remove { containers, sandboxes } => containers.len() + sandboxes.len(),
    }
}

impl Runtime {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// How long a step takes, milliseconds.
    pub fn takes(&self, step: &Step) -> u64 {
        match step {
            Step::Prepare(_) => 3,
            Step::EnsureImage(_) => 20,
            Step::MakeSandbox(_) => 40,
            Step::Start(_) => 30,
            Step::PostStart { .. } => 5,
            Step::Look => 2,
            Step::Stop { containers, .. } => {
                let grace = |id: &ContainerId, grace: u32| if self.behaviours.get(id) == Some(&Behaviour::Ignores) { u64::from(grace) * 1000 + 5 } else { 50 };
                containers.iter().map(|stop| grace(&stop.container, stop.grace)).max().unwrap_or(5)
            }
            Step::Remove { .. } | Step::Empty | Step::Clean { .. } => 10,
        }
    }

    /// Answers a probe: those of an unhealthy pod fail, and by its command
    /// `["ill"]` fails, `["missing"]` cannot be run, and `["elsewhere"]` is well with
    /// a warning.
    pub fn answer(&mut self, probe: &Probe) -> ProbeResult {
        self.probes += 1;
        if self.pods.get(&probe.pod).is_some_and(|pod| self.unhealthy.contains(&pod.key.name)) {
            return ProbeResult::Failure("503".to_owned());
        }
        let Action::Exec(command) = &probe.action else { return ProbeResult::Success };
        match command.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ill"] => ProbeResult::Failure("exit code 1: ill".to_owned()),
            ["elsewhere"] => ProbeResult::Warning("Probe terminated redirects, Response body: ".to_owned()),
            ["missing"] => ProbeResult::Unknown("exec: \"missing\": executable file not found in $PATH".to_owned()),
            _ => ProbeResult::Success,
        }
    }

    /// A step is asked for; `name` is that of its pod, if it is known.
    pub fn ask(&mut self, millis: u64, uid: &PodUid, name: Option<String>, step: &Step) {
        let here = self.pods.get(uid).map(|pod| pod.key.name.clone());
        if let Some(name) = name.or(here) {
            self.names.insert(uid.clone(), name);
        }
        let name = self.names.get(uid).cloned().unwrap_or_default();
        assert!(self.asked.len() < 20_000, "asked without a pause: {:?}", &self.asked[19_900..]);
        self.calls.push((millis, name.clone(), calls_of(step)));
        self.asked.push((millis, name, step.name()));
    }

    /// A pod is read: both lists, and the status of all that is found.
    pub fn is_read(&mut self, millis: u64, uid: &PodUid) {
        let found = self.pods.get(uid).map_or(0, |pod| pod.sandboxes.len() + pod.containers.len());
        let name = self.names.get(uid).cloned().unwrap_or_default();
        self.calls.push((millis, name, 2 + found));
    }

    /// How a step is answered, if not by doing it.
    pub fn answer_to(&self, uid: &PodUid, step: &'static str) -> Option<Answer> {
        self.answers.get(&(self.names.get(uid)?.clone(), step)).copied()
    }

    /// The pod cannot be looked at.
    pub fn is_unseen(&self, uid: &PodUid) -> bool {
        self.answer_to(uid, "look").is_some()
    }

    /// The newest sandbox, or container, of a pod is gone.
    pub fn ends_soon(&mut self, wall: Wall, uid: &PodUid, step: &'static str) {
        let newest = self.pods.get(uid).and_then(|pod| pod.containers.first()).map(|container| container.id.clone());
        match (step, newest) {
            ("start", Some(id)) => drop(self.end(wall, &id, 1)),
            ("make sandbox", _) => self.sandboxes(uid, |sandbox| sandbox.ready = false),
            _ => {}
        }
    }

    /// What a pod uses.
    pub fn usage(&self, uid: &PodUid, key: &PodKey) -> PodUsage {
        let (container, volume) = self.uses.get(&key.name).copied().unwrap_or_default();
        PodUsage { pod: uid.clone(), containers: [("c".to_owned(), container)].into(), volumes: [("scratch".to_owned(), volume)].into() }
    }

    /// The pod as it is now, also when nothing is left.
    pub fn look(&self, uid: &PodUid) -> Option<PodSeen> {
        self.pods.get(uid).cloned()
    }

    /// Carries a step out.
    pub fn carry_out(&mut self, wall: Wall, uid: &PodUid, step: &Step) -> (Result<Outcome, Failure>, Later) {
        if self.broken && !matches!(step, Step::Stop { .. } | Step::Remove { .. } | Step::Empty | Step::Clean { .. }) {
            return (Err(Failure { at: FailedAt::Runtime, message: "it is broken".to_owned() }), Later::Nothing);
        }
        let mut later = Later::Nothing;
        let outcome = match step {
            Step::PostStart { .. } | Step::Look => Outcome::Done,
            Step::Empty => {
                self.emptied.insert(uid.clone());
                Outcome::Done
            }
            Step::Prepare(wish) => {
                let [_, name, namespace] =
                    wish.logs.rsplit('/').next().unwrap_or_default().rsplitn(3, '_').collect::<Vec<_>>().try_into().expect("a log directory");
                self.directories.insert(uid.clone(), PodKey { namespace: namespace.to_owned(), name: name.to_owned() });
                Outcome::Prepared(self.logs.iter().filter(|((pod, _), _)| pod == uid).map(|((_, name), number)| (name.clone(), *number)).collect())
            }
            Step::Clean { .. } if self.pods.contains_key(uid) => {
                return (Err(Failure { at: FailedAt::Stop, message: "the cgroup is busy".to_owned() }), Later::Nothing);
            }
            Step::Clean { .. } => {
                self.directories.remove(uid);
                self.logs.retain(|(pod, _), _| pod != uid);
                Outcome::Done
            }
            Step::EnsureImage(wish) if wish.never && !self.images.contains_key(&wish.image) => {
                return (Err(Failure { at: FailedAt::ImageNeverPull, message: "it is not here".to_owned() }), Later::Nothing);
            }
            Step::EnsureImage(wish) if wish.image.contains("missing") => {
                return (Err(Failure { at: FailedAt::ImagePull, message: "no such image".to_owned() }), Later::Nothing);
            }
            Step::EnsureImage(wish) => {
                self.images.insert(wish.image.clone(), 1);
                Outcome::Image(Image { reference: wish.image.clone(), uid: None, username: String::new(), pulled: None, size: 1 })
            }
            Step::MakeSandbox(config) => Outcome::Sandbox(self.make_sandbox(wall, uid, config)),
            Step::Start(start) if !self.is_ready(uid, &start.sandbox) => {
                return (Err(Failure { at: FailedAt::Create, message: "the sandbox is not running".to_owned() }), Later::Nothing);
            }
            Step::Start(start) => {
                let id = self.create(uid, start);
                self.remove(uid, &start.replaces, &[]);
                if self.behaviours.get(&id) == Some(&Behaviour::Fails) {
                    self.fail(wall, uid, &id);
                    return (Err(Failure { at: FailedAt::Start, message: "exec: \"fails\": not found".to_owned() }), Later::Nothing);
                }
                later = self.start(wall, uid, &id);
                Outcome::Container(id)
            }
            Step::Stop { containers, sandboxes } => {
                for stop in containers {
                    let code = if self.behaviours.get(&stop.container) == Some(&Behaviour::Ignores) { 137 } else { 0 };
                    if let Some(pod) = self.pods.get(uid)
                        && let Some(container) =
                            pod.containers.iter().find(|container| container.id == stop.container && matches!(container.state, ContainerState::Running { .. }))
                    {
                        self.stopped.push((pod.key.name.clone(), container.name.clone()));
                    }
                    self.end(wall, &stop.container, code);
                }
                self.sandboxes(uid, |sandbox| {
                    if sandboxes.contains(&sandbox.id) {
                        sandbox.ready = false;
                    }
                });
                Outcome::Done
            }
            Step::Remove { containers, sandboxes } => {
                self.remove(uid, containers, sandboxes);
                Outcome::Done
            }
        };
        (Ok(outcome), later)
    }

    /// All images, as the runtime lists them.
    pub fn images(&self) -> Vec<ImageSeen> {
        let seen = |(name, size): (&String, &u64)| ImageSeen { id: name.clone(), names: vec![name.clone()], size: *size, pinned: false };
        self.images.iter().map(seen).collect()
    }

    /// An image goes, which must be one that no container uses.
    pub fn remove_image(&mut self, id: &str) {
        let user = self.pods.values().flat_map(|pod| &pod.containers).find(|container| container.image_id == id);
        assert!(user.is_none(), "image '{id}' is removed while a container has it: {user:?}");
        self.images.remove(id);
    }

    fn is_ready(&self, uid: &PodUid, id: &SandboxId) -> bool {
        self.pods.get(uid).is_some_and(|pod| pod.sandboxes.iter().any(|sandbox| sandbox.id == *id && sandbox.ready))
    }

    fn make_sandbox(&mut self, wall: Wall, uid: &PodUid, config: &cri::PodSandboxConfig) -> SandboxId {
        let id: SandboxId = self.id("s").into();
        let meta = config.metadata.clone().unwrap_or_default();
        let ip = format!("10.0.{}.{}", self.made / 250, self.made % 250 + 1);
        let key = PodKey { namespace: meta.namespace, name: meta.name };
        let pod = self.pods.entry(uid.clone()).or_insert_with(|| PodSeen { uid: uid.clone(), key, sandboxes: Vec::new(), containers: Vec::new() });
        assert!(pod.sandboxes.iter().all(|sandbox| !sandbox.ready), "a second sandbox beside a living one");
        pod.sandboxes.insert(
            0,
            SandboxSeen { id: id.clone(), attempt: meta.attempt, ready: true, created: wall, ips: vec![ip], annotations: config.annotations.clone() },
        );
        id
    }

    /// A container that is not started yet.
    pub fn create(&mut self, uid: &PodUid, start: &Start) -> ContainerId {
        let id: ContainerId = self.id("c").into();
        self.behaviours.insert(id.clone(), Behaviour::of(&start.config.command));
        let restarts = start.config.annotations.get("io.kubernetes.container.restartCount").and_then(|count| count.parse().ok()).unwrap_or(0);
        let image = start.config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        let seen = ContainerSeen {
            id: id.clone(),
            sandbox: start.sandbox.clone(),
            name: start.config.metadata.as_ref().map(|meta| meta.name.clone()).unwrap_or_default(),
            restarts,
            image_id: image.clone(),
            image,
            state: ContainerState::Created,
            annotations: start.config.annotations.clone(),
        };
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.containers.insert(0, seen);
        }
        id
    }

    /// As containerd shows a container whose process could not be begun.
    fn fail(&mut self, wall: Wall, uid: &PodUid, id: &ContainerId) {
        let containers = self.pods.get_mut(uid).into_iter().flat_map(|pod| &mut pod.containers);
        for container in containers.filter(|container| container.id == *id) {
            let exit = Exit { started: Wall(0), finished: wall, code: 128, reason: "StartError".to_owned(), message: "not found".to_owned() };
            container.state = ContainerState::Exited(exit);
        }
    }

    fn start(&mut self, wall: Wall, uid: &PodUid, id: &ContainerId) -> Later {
        let Some(pod) = self.pods.get_mut(uid) else { return Later::Nothing };
        let pod_name = pod.key.name.clone();
        let Some(name) = pod.containers.iter().find(|container| container.id == *id).map(|container| container.name.clone()) else { return Later::Nothing };
        let twice = pod.containers.iter().any(|container| container.name == name && matches!(container.state, ContainerState::Running { .. }));
        assert!(!twice, "container '{name}' of pod '{pod_name}' runs twice");
        for container in pod.containers.iter_mut().filter(|container| container.id == *id) {
            container.state = ContainerState::Running { started: wall };
            let before = self.logs.insert((uid.clone(), name.clone()), container.restarts);
            assert!(before.is_none_or(|before| before < container.restarts), "two instances of container '{name}' of pod '{pod_name}' write one log");
        }
        *self.starts.entry((pod_name, name)).or_default() += 1;
        match self.behaviours.get(id) {
            Some(Behaviour::Ends(after, _)) => Later::End(id.clone(), *after),
            Some(Behaviour::Runs | Behaviour::Ignores | Behaviour::Fails) | None => Later::Nothing,
        }
    }

    /// A container ends; the pod it is of.
    pub fn end(&mut self, wall: Wall, id: &ContainerId, code: i32) -> Option<PodUid> {
        let pod = self.pods.values_mut().find(|pod| pod.containers.iter().any(|container| container.id == *id))?;
        let container = pod.containers.iter_mut().find(|container| container.id == *id)?;
        let ContainerState::Running { started } = container.state else { return None };
        let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        container.state = ContainerState::Exited(Exit { started, finished: wall, code, reason, message: String::new() });
        Some(pod.uid.clone())
    }

    /// A container ends as its command says.
    pub fn end_by_itself(&mut self, wall: Wall, id: &ContainerId) -> Option<PodUid> {
        let Some(Behaviour::Ends(_, code)) = self.behaviours.get(id).copied() else { return None };
        self.end(wall, id, code)
    }

    fn sandboxes(&mut self, uid: &PodUid, change: impl FnMut(&mut SandboxSeen)) {
        self.pods.get_mut(uid).into_iter().flat_map(|pod| &mut pod.sandboxes).for_each(change);
    }

    fn remove(&mut self, uid: &PodUid, containers: &[ContainerId], sandboxes: &[SandboxId]) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        pod.containers.retain(|container| !containers.contains(&container.id) && !sandboxes.contains(&container.sandbox));
        pod.sandboxes.retain(|sandbox| !sandboxes.contains(&sandbox.id));
        if pod.sandboxes.is_empty() && pod.containers.is_empty() {
            self.pods.remove(uid);
        }
    }

    /// The machine was switched off: every process is gone.
    pub fn rebooted(&mut self, wall: Wall) {
        for pod in self.pods.values_mut() {
            pod.sandboxes.iter_mut().for_each(|sandbox| sandbox.ready = false);
            for container in &mut pod.containers {
                if let ContainerState::Running { started } = container.state {
                    container.state = ContainerState::Exited(Exit { started, finished: wall, code: 255, reason: "Unknown".to_owned(), message: String::new() });
                }
            }
        }
    }

    /// The runtime begins anew with an empty directory, and so do its logs.
    pub fn wiped(&mut self) {
        self.pods.clear();
        self.logs.clear();
    }

    /// Running containers: pod name and container, sorted.
    pub fn running(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self
            .pods
            .values()
            .flat_map(|pod| {
                pod.containers
                    .iter()
                    .filter(|container| matches!(container.state, ContainerState::Running { .. }))
                    .map(|container| (pod.key.name.clone(), container.name.clone()))
            })
            .collect();
        all.sort();
        all
    }

    /// Ids of running containers.
    pub fn running_ids(&self) -> Vec<ContainerId> {
        let running = |container: &&ContainerSeen| matches!(container.state, ContainerState::Running { .. });
        self.pods.values().flat_map(|pod| pod.containers.iter().filter(running).map(|container| container.id.clone())).collect()
    }
}
