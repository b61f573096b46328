//! One step of a pod's life, carried out on the runtime and on this machine's
//! files. Each may be repeated: what is there already is not made again, what
//! is gone already was removed.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;
use smol::channel::{Receiver, bounded};

use super::grpc::Error;
use super::{Shell, cgroup, files, images, probe, seen, subpath, volumes};
use crate::config;
use crate::host::clock;
use crate::node::ids::{ContainerId, PodKey, PodUid, SandboxId};
use crate::node::input::Input;
use crate::node::pod::render::log_directory_of;
use crate::node::runtime::{Action, FailedAt, Failure, MountPoint, Op, Outcome, PodSeen, Prepare, ProbeResult, Start, Step, Stop, SubPath};
use crate::wire::cri;

/// What a process gets between TERM and KILL at least, however long its hook
/// took.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// A postStart hook has no limit of its own; one that is stuck must not hold
/// the other containers of its pod for ever.
const POST_START: Duration = Duration::from_secs(1800);
/// Work on files: a volume of a server that is away may never answer.
const ON_DISK: Duration = Duration::from_secs(120);
/// What a call that was given up still made shows by then.
const SETTLED: Duration = Duration::from_secs(10);

/// Carries out an op and answers it.
pub(super) async fn run(shell: Rc<Shell>, op: Op) {
    let (id, uid) = (op.id, op.pod);
    let key = key_of(&op.step);
    let (reads, changes) = (matches!(op.step, Step::Look), changes(&op.step));
    let is_image = matches!(op.step, Step::EnsureImage(_));
    let (what, begun) = (op.step.name(), clock::monotonic());
    let result = step(&shell, &uid, op.step).await;
    log::debug!(target: "edged", "op {id} of pod '{uid}', {what}, took {} ms", clock::monotonic().saturating_sub(begun).as_millis());
    if let Err(failure) = &result {
        log::debug!(target: "edged", "op {id} of pod '{uid}' failed at {:?}: {}", failure.at, failure.message);
        shell.check.ask();
    }
    // A failure may come of something that was not seen yet.
    if changes || reads || (!is_image && result.is_err()) {
        let pod = uid.clone();
        let answer = |seen: Result<PodSeen, Error>| {
            let (seen, unseen) = seen.map_or_else(|cause| (None, Some(cause)), |seen| (Some(seen), None));
            let unseen = unseen.filter(|_| reads).map(refused(FailedAt::Runtime));
            Some(Input::Done { op: id, pod, result: unseen.map_or(result, Err), seen })
        };
        shell.look(&uid, key, answer).await;
    } else {
        shell.tell(Input::Done { op: id, pod: uid, result, seen: None }).await;
    }
}

/// Whether the runtime has other sandboxes or containers after a step.
pub(super) fn changes(step: &Step) -> bool {
    match step {
        Step::MakeSandbox(_) | Step::Start(_) | Step::Stop { .. } | Step::Remove { .. } => true,
        Step::Prepare(_) | Step::EnsureImage(_) | Step::PostStart { .. } | Step::Empty | Step::Look | Step::Clean { .. } => false,
    }
}

/// Looks at a pod once more after a step of it was given up: the runtime may
/// have gone on with it for a moment, and nobody waits for that pod any more.
pub(super) async fn look_later(shell: Rc<Shell>, uid: PodUid) {
    Timer::after(SETTLED).await;
    let found = |seen: Result<PodSeen, Error>| seen.ok().filter(|seen| !seen.is_empty()).map(Input::Seen);
    shell.look(&uid, None, found).await;
}

async fn step(shell: &Rc<Shell>, uid: &PodUid, step: Step) -> Result<Outcome, Failure> {
    if let Step::EnsureImage(wish) = &step {
        // In its own lane: a slow registry never holds up the end of a pod.
        return images::ensure(shell, wish).await.map(Outcome::Image);
    }
    let _turn = match &step {
        // Ends take their time and must not wait for others' ends.
        Step::Stop { .. } | Step::PostStart { .. } | Step::Look => None,
        Step::Prepare(_) | Step::EnsureImage(_) | Step::MakeSandbox(_) | Step::Start(_) => Some(shell.steps.acquire().await),
        // Nor for beginnings that do not get on.
        Step::Remove { .. } | Step::Empty | Step::Clean { .. } => Some(shell.ends.acquire().await),
    };
    match step {
        Step::Prepare(wish) => prepare(shell, uid, wish).await,
        Step::EnsureImage(_) => Ok(Outcome::Done),
        Step::MakeSandbox(config) => make_sandbox(shell, uid, *config).await,
        Step::Start(start) => self::start(shell, uid, *start).await,
        Step::PostStart { container, hook } => post_start(shell, &container, &hook).await,
        Step::Stop { containers, sandboxes } => stop(shell, containers, sandboxes).await,
        Step::Remove { containers, sandboxes } => remove(shell, containers, sandboxes).await,
        Step::Empty => empty(shell, uid).await,
        // The look comes after every step.
        Step::Look => Ok(Outcome::Done),
        Step::Clean { key, cgroups } => clean(shell, uid, key, cgroups).await,
    }
}

/// The pod's name, where the step knows it.
fn key_of(step: &Step) -> Option<PodKey> {
    let config = match step {
        Step::MakeSandbox(config) => config,
        Step::Start(start) => &start.sandbox_config,
        Step::Clean { key, .. } => return Some(key.clone()),
        Step::Prepare(_) | Step::EnsureImage(_) | Step::PostStart { .. } | Step::Stop { .. } | Step::Remove { .. } | Step::Empty | Step::Look => return None,
    };
    config.metadata.as_ref().map(|pod| PodKey { namespace: pod.namespace.clone(), name: pod.name.clone() })
}

/// A failure with the words of its cause.
pub(super) fn failed<E: Display>(at: FailedAt) -> impl Fn(E) -> Failure {
    move |cause| Failure { at, message: cause.to_string() }
}

/// A call's failure; a runtime that is not there is nobody else's fault.
pub(super) fn refused(at: FailedAt) -> impl Fn(Error) -> Failure {
    move |cause| Failure { at: if cause.is_down() { FailedAt::Runtime } else { at }, message: cause.to_string() }
}

async fn prepare(shell: &Shell, uid: &PodUid, wish: Prepare) -> Result<Outcome, Failure> {
    let (config, id, systemd) = (shell.config.clone(), uid.to_string(), shell.systemd.get());
    let work = move || {
        cgroup::ensure(&wish.cgroup, systemd).map_err(failed(FailedAt::Cgroup))?;
        let pod = volumes::pod_dir(&config.root, &id).map_err(failed(FailedAt::Directories))?;
        let logs = files::directory(&config.pod_logs, Path::new(&wish.logs), 0o755).map_err(failed(FailedAt::Directories))?;
        volumes::setup(&pod, &wish.volumes).map_err(failed(FailedAt::Volume))?;
        Ok(Outcome::Prepared(files::last_logs(&logs)))
    };
    on_files(shell, uid, FailedAt::Volume, work).await
}

/// Work on files of a pod, one after the other: what was given up but cannot be
/// stopped is over before the next begins.
async fn on_files<T: Send + 'static>(
    shell: &Shell,
    uid: &PodUid,
    at: FailedAt,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let turns = shell.files_of(uid);
    let work = async {
        let turn = turns.lock_arc().await;
        let work = move || {
            let result = work();
            drop(turn);
            result
        };
        shell.on_disk(work).await
    };
    let late = async {
        Timer::after(ON_DISK).await;
        Err(failed(at)(format!("files and volumes of the pod are not ready within {} s", ON_DISK.as_secs())))
    };
    or(work, late).await
}

/// Pods run also where classes cannot be weighed.
pub(super) async fn weigh(shell: &Shell) {
    let _turn = shell.weighing.lock().await;
    let (classes, systemd) = (shell.classes.take(), shell.systemd.get());
    let work = move || classes.iter().try_for_each(|class| cgroup::ensure(class, systemd));
    if let Err(cause) = shell.on_disk(work).await {
        log::warn!(target: "edged", "classes of pods are not weighed: {cause}");
    }
}

async fn make_sandbox(shell: &Shell, uid: &PodUid, config: cri::PodSandboxConfig) -> Result<Outcome, Failure> {
    let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
    let answer = shell.client.run_pod_sandbox(&request).await.map_err(refused(FailedAt::Sandbox))?;
    shell.known.borrow_mut().made(&answer.pod_sandbox_id, uid);
    Ok(Outcome::Sandbox(answer.pod_sandbox_id.into()))
}

async fn start(shell: &Shell, uid: &PodUid, mut start: Start) -> Result<Outcome, Failure> {
    for part in &start.sub_paths {
        let mount = start.config.mounts.get_mut(part.mount).ok_or_else(|| failed(FailedAt::Create)("a subPath names no mount"))?;
        mount.host_path = part.target.clone();
    }
    let log = Path::new(&start.sandbox_config.log_directory).join(&start.config.log_path);
    lay_out(shell, uid, &start, &log).await?;

    let labels = start.config.labels.clone();
    let request =
        cri::CreateContainerRequest { pod_sandbox_id: start.sandbox.to_string(), config: Some(start.config), sandbox_config: Some(start.sandbox_config) };
    let id = shell.client.create_container(&request).await.map_err(refused(FailedAt::Create))?.container_id;
    shell.known.borrow_mut().made(&id, uid);
    let started = shell.client.start_container(&id.as_str().into()).await.map_err(refused(FailedAt::Start));
    for old in start.replaces {
        if let Err(cause) = remove_container(shell, &old).await {
            shell.odd(&format!("container '{old}' stays"), &cause.message);
        }
    }
    // One that does not start stays: its state tells why.
    started?;
    let (links, name) = (shell.config.container_logs.clone(), seen::log_link(&labels, &id));
    if let Err(cause) = shell.on_disk(move || files::link_log(&links, &name, &log)).await {
        log::warn!(target: "edged", "log of container '{id}' is not linked: {cause}");
    }
    Ok(Outcome::Container(id.into()))
}

/// Files the container needs before it can be created.
async fn lay_out(shell: &Shell, uid: &PodUid, start: &Start, log: &Path) -> Result<(), Failure> {
    let (config, start, log) = (shell.config.clone(), Files::of(start), log.to_owned());
    let work = move || start.lay_out(&config, &log).map_err(failed(FailedAt::Config));
    on_files(shell, uid, FailedAt::Config, work).await
}

/// What a container needs on this machine.
struct Files {
    container: String,
    hosts: Option<(String, String)>,
    termination_log: String,
    parts: Vec<SubPath>,
    mount_points: Vec<Place>,
}

/// Where something will be mounted within a volume.
struct Place {
    /// The path in the container.
    inside: String,
    /// The volume, or the part of it that is mounted.
    volume: String,
    /// The path within that.
    path: String,
    /// What will be mounted there.
    source: String,
}

impl Files {
    fn of(start: &Start) -> Self {
        let mounts = &start.config.mounts;
        let place = |point: &MountPoint| {
            let (volume, mount) = (mounts.get(point.volume)?, mounts.get(point.mount)?);
            let (inside, path) = (mount.container_path.clone(), point.path.clone());
            Some(Place { inside, volume: volume.host_path.clone(), path, source: mount.host_path.clone() })
        };
        let container = start.config.metadata.as_ref();
        Self {
            container: container.map_or_else(String::new, |container| container.name.clone()),
            hosts: start.hosts.clone(),
            termination_log: start.termination_log.clone(),
            parts: start.sub_paths.clone(),
            mount_points: start.mount_points.iter().filter_map(place).collect(),
        }
    }

    fn lay_out(&self, config: &config::Edged, log: &Path) -> io::Result<()> {
        let root = &config.root;
        if let Some(directory) = log.parent() {
            files::directory(&config.pod_logs, directory, 0o755)?;
        }
        if let Some((path, content)) = &self.hosts {
            files::hosts(root, Path::new(path), content)?;
        }
        if !self.termination_log.is_empty() {
            files::termination_log(root, Path::new(&self.termination_log))?;
        }
        self.parts.iter().try_for_each(|part| self.bind(root, part))?;
        self.mount_points.iter().try_for_each(|place| self.make_mount_point(root, place))
    }

    /// The beginning of its error is that of kubelet, which is looked for.
    fn bind(&self, root: &Path, part: &SubPath) -> io::Result<()> {
        subpath::bind(root, part).map_err(|why| {
            let SubPath { volume, path, .. } = part;
            let container = &self.container;
            let what = format!("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"");
            io::Error::new(why.kind(), format!("{what}: subPath \"{path}\": {why}"))
        })
    }

    fn make_mount_point(&self, root: &Path, place: &Place) -> io::Result<()> {
        let made = volumes::make_mount_point(root, Path::new(&place.volume), Path::new(&place.path), Path::new(&place.source));
        made.map_err(|why| {
            let Place { inside, .. } = place;
            let container = &self.container;
            io::Error::new(why.kind(), format!("failed to make the mount point \"{inside}\" of container \"{container}\": {why}"))
        })
    }
}

async fn post_start(shell: &Shell, container: &ContainerId, hook: &Action) -> Result<Outcome, Failure> {
    match probe::hook(shell, container, hook, POST_START).await {
        ProbeResult::Success | ProbeResult::Warning(_) => Ok(Outcome::Done),
        ProbeResult::Failure(why) | ProbeResult::Unknown(why) => Err(failed(FailedAt::PostStart)(why)),
    }
}

/// Stops containers side by side, then the sandboxes whatever came of it: that
/// ends what is left in them.
async fn stop(shell: &Rc<Shell>, containers: Vec<Stop>, sandboxes: Vec<SandboxId>) -> Result<Outcome, Failure> {
    let (mut running, ends): (BTreeMap<_, _>, BTreeMap<_, _>) = containers
        .iter()
        .map(|stop| {
            let (running, end) = bounded::<()>(1);
            ((stop.container.clone(), running), (stop.container.clone(), end))
        })
        .unzip();
    let mut tasks = Vec::with_capacity(containers.len());
    for stop in containers {
        let after: Vec<_> = stop.after.iter().filter(|id| **id != stop.container).filter_map(|id| ends.get(id).cloned()).collect();
        let (shell, running) = (shell.clone(), running.remove(&stop.container));
        tasks.push(shell.clone().executor.spawn(async move {
            let result = stop_container(&shell, &stop, &after).await;
            // Closes the channel: those that wait for this end go on.
            drop(running);
            result
        }));
    }
    let mut ends = Ends::default();
    for task in tasks {
        ends.note(task.await.map_err(refused(FailedAt::Stop)));
    }
    for sandbox in sandboxes {
        ends.note(known(shell.client.stop_pod_sandbox(&sandbox.as_str().into()).await).map_err(refused(FailedAt::Stop)));
    }
    ends.outcome()
}

/// The runtime's words when it does not know what it was told to end.
type NotKnown = Option<String>;

/// What came of several ends: the first failure, and the first thing that the
/// runtime does not know.
#[derive(Default)]
struct Ends {
    failure: Option<Failure>,
    not_known: NotKnown,
}

impl Ends {
    fn note(&mut self, end: Result<NotKnown, Failure>) {
        match end {
            Ok(not_known) => self.not_known = self.not_known.take().or(not_known),
            Err(failure) => self.failure = self.failure.take().or(Some(failure)),
        }
    }

    fn outcome(self) -> Result<Outcome, Failure> {
        match (self.failure, self.not_known) {
            (Some(failure), _) => Err(failure),
            (None, Some(words)) => Ok(Outcome::NotFound(words)),
            (None, None) => Ok(Outcome::Done),
        }
    }
}

/// The hook first, then the wait for others, then TERM and KILL; all of it
/// inside the grace, of which the process itself gets a least part.
async fn stop_container(shell: &Shell, stop: &Stop, after: &[Receiver<()>]) -> Result<NotKnown, Error> {
    let (begun, grace) = (clock::monotonic(), Duration::from_secs(stop.grace.into()));
    let left = || grace.saturating_sub(clock::monotonic().saturating_sub(begun));
    if let Some(hook) = &stop.pre_stop {
        match probe::hook(shell, &stop.container, hook, left()).await {
            ProbeResult::Success | ProbeResult::Warning(_) => {}
            ProbeResult::Failure(why) | ProbeResult::Unknown(why) => {
                log::warn!(target: "edged", "preStop hook of container '{}' failed: {why}", stop.container);
            }
        }
    }
    let others = async {
        for end in after {
            // An error is what is waited for: the channel is closed.
            let _ = end.recv().await;
        }
    };
    or(others, async {
        Timer::after(left()).await;
    })
    .await;
    // Whole seconds; a started one counts.
    let timeout = i64::try_from(left().max(LEAST_GRACE).as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
    known(shell.client.stop_container(&cri::StopContainerRequest { container_id: stop.container.to_string(), timeout }).await)
}

/// What the runtime does not know has ended, unless it goes on listing it: the
/// look after the step tells.
fn known(result: Result<cri::Empty, Error>) -> Result<NotKnown, Error> {
    match result {
        Err(cause) if cause.is_not_found() => Ok(Some(cause.to_string())),
        other => other.map(|cri::Empty {}| None),
    }
}

async fn remove(shell: &Shell, containers: Vec<ContainerId>, sandboxes: Vec<SandboxId>) -> Result<Outcome, Failure> {
    let mut ends = Ends::default();
    for container in containers {
        ends.note(remove_container(shell, &container).await);
    }
    for sandbox in sandboxes {
        ends.note(known(shell.client.remove_pod_sandbox(&sandbox.as_str().into()).await).map_err(refused(FailedAt::Stop)));
    }
    ends.outcome()
}

/// With its log: nobody could ask for it any more.
async fn remove_container(shell: &Shell, id: &ContainerId) -> Result<NotKnown, Failure> {
    let status = match shell.client.container_status(&id.as_str().into()).await {
        Ok(answer) => answer.status,
        Err(cause) if cause.is_not_found() => None,
        Err(cause) => return Err(refused(FailedAt::Stop)(cause)),
    };
    let not_known = known(shell.client.remove_container(&id.as_str().into()).await).map_err(refused(FailedAt::Stop))?;
    let Some(status) = status else { return Ok(not_known) };
    let link = shell.config.container_logs.join(seen::log_link(&status.labels, id.as_str()));
    let work = move || files::remove_log(Path::new(&status.log_path), &link);
    shell.on_disk(work).await.map_err(failed(FailedAt::Stop))?;
    Ok(not_known)
}

async fn empty(shell: &Shell, uid: &PodUid) -> Result<Outcome, Failure> {
    let (root, id) = (shell.config.root.clone(), uid.to_string());
    let work = move || {
        subpath::unbind_all(&root, &id).map_err(failed(FailedAt::Stop))?;
        volumes::empty(&root, &id).map_err(failed(FailedAt::Stop))
    };
    on_files(shell, uid, FailedAt::Stop, work).await.map(|()| Outcome::Done)
}

async fn clean(shell: &Shell, uid: &PodUid, key: PodKey, cgroups: Vec<String>) -> Result<Outcome, Failure> {
    let (config, id, systemd) = (shell.config.clone(), uid.to_string(), shell.systemd.get());
    let work = move || {
        subpath::unbind_all(&config.root, &id).map_err(failed(FailedAt::Stop))?;
        volumes::remove(&config.root, &id).map_err(failed(FailedAt::Stop))?;
        for cgroup in &cgroups {
            cgroup::remove(cgroup, systemd).map_err(failed(FailedAt::Stop))?;
        }
        let logs = PathBuf::from(log_directory_of(&config.pod_logs, &key.namespace, &key.name, &id));
        files::remove_links_into(&config.container_logs, &logs).map_err(failed(FailedAt::Stop))?;
        files::remove_tree(&config.pod_logs, &logs).map_err(failed(FailedAt::Stop))
    };
    on_files(shell, uid, FailedAt::Stop, work).await.map(|()| Outcome::Done)
}
