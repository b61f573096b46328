//! The next step of a pod, from what is wanted and what the runtime shows now.
//! At most one step is under way; after each of them the plan is made anew.
//!
//! ```text
//!   Run:      volumes > sandbox > init, one after the other > main containers
//!   Deleted:  stop all > final status told > remove > clean > object deleted
//!   Removed:  stop all > remove > clean > forgotten
//! ```
//!
//! What is under way is not waited for to its end once the pod has to end: it is
//! cancelled, and so is a stop to which a later word leaves less time.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::order::{self, Turn};
use super::phase::is_over;
use super::render::{self, Context, Wait};
use super::stop;
use super::worker::{Doing, Fate, Kill, Stage, Trouble, Worker};
use super::{World, terminal};
use crate::node::ids::{ContainerId, SandboxId};
use crate::node::now::{Mono, Now};
use crate::node::runtime::{ContainerState, EnsureImage, FailedAt, Failure, Start, Step};
use crate::wire::kube::{Container, Pod, PullPolicy};

/// What comes next for a pod.
#[derive(Debug)]
pub enum Next {
    /// A step.
    Do(Step, Doing),
    /// Nothing, before this instant or before something happens.
    Wait(Option<(Mono, &'static str)>),
    /// Nothing ever again: forget the pod.
    Gone,
}

/// How long a pod waits for an object that is missing, before it looks again.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The next step.
pub fn next(worker: &mut Worker, world: &World<'_>, now: Now) -> Next {
    let pod = worker.pod.clone();
    match (&worker.fate, pod) {
        (Fate::Rejected { .. }, _) => Next::Wait(None),
        (Fate::Run, Some(pod)) => run(worker, &pod, world, now),
        (Fate::Run | Fate::Deleted | Fate::Removed | Fate::Failed { .. }, pod) => end(worker, pod.as_deref(), world, now),
    }
}

/// The way out: stop, tell, remove, clean.
fn end(worker: &mut Worker, pod: Option<&Pod>, world: &World<'_>, now: Now) -> Next {
    if let Some(next) = stop(worker, pod, now) {
        return next;
    }
    match worker.fate {
        Fate::Failed { .. } => return empty(worker, now),
        // The final status is read from the containers, so they stay until the
        // cluster knows it.
        Fate::Deleted if !worker.told => return Next::Wait(None),
        Fate::Run | Fate::Rejected { .. } | Fate::Deleted | Fate::Removed => {}
    }
    if !worker.seen.is_empty() {
        let containers = worker.seen.containers.iter().map(|container| container.id.clone()).collect();
        let sandboxes = worker.seen.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
        return remove(worker, containers, sandboxes, now);
    }
    if !worker.cleaned {
        if let Some(wait) = barred(worker, Stage::Clean, now) {
            return wait;
        }
        // An earlier agent may have made it.
        let cgroups = match &worker.prepared {
            Some(prepared) => vec![prepared.cgroup.parent.clone()],
            None => render::cgroups(&worker.uid, world.systemd, &world.config.cgroup_root),
        };
        return Next::Do(Step::Clean { key: worker.key.clone(), cgroups }, Doing::Clean);
    }
    if worker.fate == Fate::Removed { Next::Gone } else { Next::Wait(None) }
}

/// All of it ends, and is seen to have ended. What was told to end, and not
/// looked at since, is looked at before it is told again.
fn stop(worker: &mut Worker, pod: Option<&Pod>, now: Now) -> Option<Next> {
    if worker.unsure && stop::is_ordered(worker) {
        return Some(look(worker, now));
    }
    (!worker.is_stopped()).then(|| stop::everything(worker, pod, now))
}

/// What an ended pod kept on disk is room for others; its logs are still read.
fn empty(worker: &Worker, now: Now) -> Next {
    if worker.emptied {
        return Next::Wait(None);
    }
    barred(worker, Stage::Empty, now).unwrap_or(Next::Do(Step::Empty, Doing::Empty))
}

/// The pod is looked at before anything else is done to it.
fn look(worker: &Worker, now: Now) -> Next {
    barred(worker, Stage::Look, now).unwrap_or(Next::Do(Step::Look, Doing::Look))
}

fn remove(worker: &Worker, containers: Vec<ContainerId>, sandboxes: Vec<SandboxId>, now: Now) -> Next {
    if let Some(wait) = barred(worker, Stage::Remove, now) {
        return wait;
    }
    let doing = Doing::Remove { containers: containers.clone(), sandboxes: sandboxes.clone() };
    Next::Do(Step::Remove { containers, sandboxes }, doing)
}

/// The whole pod waits after a failure.
pub(super) fn barred(worker: &Worker, stage: Stage, now: Now) -> Option<Next> {
    worker.barred(stage, now).map(|until| Next::Wait(Some((until, "pod step failed"))))
}

fn run(worker: &mut Worker, pod: &Rc<Pod>, world: &World<'_>, now: Now) -> Next {
    if is_over(worker, pod) {
        return stop(worker, Some(pod), now).unwrap_or_else(|| empty(worker, now));
    }
    if worker.refused.pod().is_some() {
        return Next::Wait(None);
    }
    if worker.unsure {
        return look(worker, now);
    }
    if let Some(next) = volumes(worker, pod, world, now).or_else(|| sandbox(worker, pod, world, now)).or_else(|| kill(worker, pod, now)) {
        return next;
    }
    containers(worker, pod, world, now)
}

/// `activeDeadlineSeconds` holds whatever the pod is doing.
pub fn meet_deadline(worker: &mut Worker, now: Now) {
    let Some(pod) = worker.pod.clone().filter(|_| worker.fate == Fate::Run) else { return };
    let limit = pod.spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let Some(limit) = limit.map(std::time::Duration::from_secs).filter(|_| !is_over(worker, &pod)) else { return };
    let lived = now.wall.since(terminal::started(worker, &pod));
    if lived < limit {
        worker.wake_at(now.mono + (limit - lived), "active deadline");
        return;
    }
    worker.fate = Fate::Failed { reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline".to_owned(), grace: None };
    worker.note(false, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline".to_owned(), None);
}

/// Volumes as they should be; a pod that has them goes on while one of their
/// sources is missing.
fn volumes(worker: &mut Worker, pod: &Pod, world: &World<'_>, now: Now) -> Option<Next> {
    let prepare = match render::prepare(&world.context(worker, pod)) {
        Ok(prepare) => prepare,
        Err(Wait::Unknown(_)) if worker.prepared.is_some() || has_begun(worker) => {
            worker.wake_at(now.mono + LOOK_AGAIN, "missing object");
            return None;
        }
        Err(Wait::Unknown(_)) => return Some(Next::Wait(None)),
        Err(Wait::Missing(what)) => {
            if worker.barred(Stage::Sources, now).is_none() {
                worker.pod_failed(now, Stage::Sources, "FailedMount", what);
            }
            let until = worker.barred(Stage::Sources, now);
            return wait_for_volumes(worker, until.unwrap_or(now.mono + LOOK_AGAIN));
        }
    };
    worker.retries.remove(&Stage::Sources);
    if worker.prepared.as_ref() == Some(&prepare) {
        return None;
    }
    match worker.barred(Stage::Prepare, now) {
        Some(until) => wait_for_volumes(worker, until),
        None => Some(Next::Do(Step::Prepare(prepare.clone()), Doing::Prepare(Box::new(prepare)))),
    }
}

/// Containers were made in the sandbox that is there, perhaps by an earlier agent:
/// the volumes are there, too.
fn has_begun(worker: &Worker) -> bool {
    let sandbox = worker.seen.ready_sandbox();
    sandbox.is_some_and(|sandbox| worker.seen.containers.iter().any(|container| container.sandbox == sandbox.id))
}

/// What has its volumes goes on while they cannot be brought up to date.
fn wait_for_volumes(worker: &mut Worker, until: Mono) -> Option<Next> {
    const WHY: &str = "pod step failed";
    if worker.prepared.is_none() && !has_begun(worker) {
        return Some(Next::Wait(Some((until, WHY))));
    }
    worker.wake_at(until, WHY);
    None
}

/// One sandbox, ready, with an address.
fn sandbox(worker: &mut Worker, pod: &Pod, world: &World<'_>, now: Now) -> Option<Next> {
    let usable = worker.seen.ready_sandbox().filter(|sandbox| pod.spec.host_network || !sandbox.ips.is_empty());
    let stale: Vec<_> = worker
        .seen
        .sandboxes
        .iter()
        .filter(|sandbox| sandbox.ready && usable.is_none_or(|usable| usable.id != sandbox.id))
        .map(|sandbox| sandbox.id.clone())
        .collect();
    if usable.is_some() && stale.is_empty() {
        return None;
    }
    let in_stale: Vec<_> = worker.seen.running().filter(|container| usable.is_none_or(|usable| usable.id != container.sandbox)).cloned().collect();
    if !stale.is_empty() || !in_stale.is_empty() {
        if let Some(wait) = barred(worker, Stage::Stop, now) {
            return Some(wait);
        }
        if !worker.retries.contains_key(&Stage::Stop) {
            worker.note(false, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.".to_owned(), None);
        }
        in_stale.iter().for_each(|seen| stop::tell(worker, seen));
        let containers = in_stale.iter().map(|seen| stop::one(worker, seen, Some(pod), None)).collect();
        return Some(stop::step(containers, stale, None, now));
    }
    if let Some(wait) = barred(worker, Stage::Sandbox, now) {
        return Some(wait);
    }
    let attempt = worker.seen.sandbox().map_or(0, |sandbox| sandbox.attempt + 1);
    let until = worker.sandboxes.until();
    if until > now.mono {
        return Some(Next::Wait(Some((until, "sandbox back-off"))));
    }
    let context = world.context(worker, pod);
    let (config, warnings) = (render::sandbox(&context, attempt), render::dns_warnings(&context));
    warnings.into_iter().for_each(|(reason, message)| worker.note(true, reason, message, None));
    Some(Next::Do(Step::MakeSandbox(Box::new(config)), Doing::Sandbox))
}

/// Containers that must be stopped although the pod goes on: a probe's verdict,
/// a failed hook, another image wanted.
fn kill(worker: &mut Worker, pod: &Pod, now: Now) -> Option<Next> {
    for container in pod.all_containers() {
        let Some(seen) = worker.seen.latest(&container.name).filter(|seen| seen.is_running()) else { continue };
        let is_marked = worker.containers.get(&container.name).is_some_and(|memory| memory.kill.is_some());
        if !is_marked && worker.is_as_wanted(seen) {
            continue;
        }
        let seen = seen.clone();
        if !worker.is_as_wanted(&seen) {
            worker.memory(&container.name).kill =
                Some(Kill { why: format!("Container {} definition changed, will be restarted", container.name), grace: None });
        }
        let Some(kill) = worker.memory(&container.name).kill.clone() else { continue };
        if let Some(wait) = barred(worker, Stage::Stop, now) {
            return Some(wait);
        }
        if !worker.is_stopping(&seen) {
            worker.note(false, "Killing", kill.why.clone(), Some(&container.name));
        }
        return Some(stop::step(vec![stop::one(worker, &seen, Some(pod), kill.grace)], Vec::new(), None, now));
    }
    None
}

fn containers(worker: &mut Worker, pod: &Pod, world: &World<'_>, now: Now) -> Next {
    if let Some(next) = post_start(worker, pod, world, now) {
        return next;
    }
    let mut wake = None;
    for (container, turn) in order::turns(worker, pod, now) {
        match turn {
            Turn::Start => {
                if let Some(next) = start(worker, pod, container, world, now) {
                    return next;
                }
            }
            Turn::Wait { until, seconds } => {
                back_off(worker, container, seconds, now);
                wake = earlier(wake, until);
            }
            Turn::Replace => {
                let created = worker.seen.current(&container.name).map(|seen| seen.id.clone());
                return remove(worker, created.into_iter().collect(), Vec::new(), now);
            }
            Turn::Pass | Turn::Block | Turn::Failed => {}
        }
    }
    Next::Wait(wake.map(|at| (at, "container back-off")))
}

fn earlier(wake: Option<Mono>, at: Mono) -> Option<Mono> {
    Some(wake.map_or(at, |wake| wake.min(at)))
}

fn back_off(worker: &mut Worker, container: &Container, seconds: u64, now: Now) {
    if seconds == 0 {
        // Another container of the pod has the same image, and could not pull it.
        if worker.pulls.has(&container.image) && worker.trouble_of(&container.name).is_none() {
            worker.pull_backs_off(now, &container.name, "");
        }
        return;
    }
    let pod = format!("{}_{}({})", worker.key.name, worker.key.namespace, worker.uid);
    let message = format!("back-off {} restarting failed container={} pod={pod}", kubelet_duration(seconds), container.name);
    let trouble = Trouble { reason: "CrashLoopBackOff", message };
    if worker.trouble_of(&container.name) != Some(&trouble) {
        let told = format!("Back-off restarting failed container {} in pod {pod}", container.name);
        worker.note(true, "BackOff", told, Some(&container.name));
        worker.memory(&container.name).trouble = Some(trouble);
    }
}

/// `10s`, `1m20s`, as Go prints durations.
fn kubelet_duration(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn post_start(worker: &mut Worker, pod: &Pod, world: &World<'_>, now: Now) -> Option<Next> {
    for container in pod.all_containers() {
        let Some(seen) = worker.seen.current(&container.name) else { continue };
        let running = matches!(seen.state, ContainerState::Running { .. });
        let id = seen.id.clone();
        if !running || worker.containers.get(&container.name).and_then(|memory| memory.post_start.as_ref()) != Some(&id) {
            continue;
        }
        let ip = world.ips(worker, pod).first().cloned().unwrap_or_default();
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()).map(|handler| render::action(handler, container, &ip));
        let doing = Doing::PostStart(container.name.clone());
        match hook {
            Some(Ok(hook)) => return Some(Next::Do(Step::PostStart { container: id, hook }, doing)),
            Some(Err(message)) => {
                worker.ended(now, doing, Err(Failure { at: FailedAt::PostStart, message }));
                return kill(worker, pod, now);
            }
            None => worker.memory(&container.name).post_start = None,
        }
    }
    None
}

/// The image first, then the container. `None` when something is missing.
fn start(worker: &mut Worker, pod: &Pod, container: &Container, world: &World<'_>, now: Now) -> Option<Next> {
    let context = world.context(worker, pod);
    let sandbox = render::sandbox(&context, worker.seen.sandbox().map_or(0, |sandbox| sandbox.attempt));
    let Some(image) = worker.containers.get(&container.name).and_then(|memory| memory.image.clone()) else {
        let reference = match render::image_reference(&container.image) {
            Ok(reference) => reference,
            Err(message) => {
                let message = format!("Failed to apply default image tag \"{}\": {message}", container.image);
                return wait_with(worker, container, "InvalidImageName", message, now);
            }
        };
        let policy = render::pull_policy(container);
        let ensure = EnsureImage {
            auths: world.auths(pod, &reference),
            image: reference,
            always: policy == PullPolicy::Always,
            never: policy == PullPolicy::Never,
            sandbox: Box::new(sandbox),
        };
        return Some(Next::Do(Step::EnsureImage(ensure), Doing::Image(container.name.clone())));
    };
    let restarts = worker.restarts(&container.name).map_or(0, |restarts| restarts + 1);
    let rendered = match render::container(&context, container, restarts, &image) {
        Ok(rendered) => rendered,
        Err(Wait::Unknown(_)) => {
            worker.wake_at(now.mono + LOOK_AGAIN, "missing object");
            return None;
        }
        Err(Wait::Missing(what)) => return wait_with(worker, container, "CreateContainerConfigError", what, now),
    };
    let replaces = worker.seen.replaceable(&container.name).map(|seen| seen.id.clone()).collect();
    let start = Start {
        sandbox: worker.seen.sandbox()?.id.clone(),
        sandbox_config: sandbox,
        config: rendered.config,
        hosts: rendered.hosts,
        termination_log: rendered.termination_log,
        sub_paths: rendered.sub_paths,
        mount_points: rendered.mount_points,
        replaces,
    };
    if let Some(finished) = worker.seen.shown_end(&container.name).map(|exit| exit.finished) {
        let restarts = &mut worker.memory(&container.name).restarts;
        restarts.of_mut(now, &container.image).count_restart(now, finished);
    }
    Some(Next::Do(Step::Start(Box::new(start)), Doing::Start(container.name.clone())))
}

/// The container waits until what it lacks is here, and says so now and then.
fn wait_with(worker: &mut Worker, container: &Container, reason: &'static str, message: String, now: Now) -> Option<Next> {
    let told = format!("Error: {message}");
    if worker.memory(&container.name).keep_from_running(now, Trouble { reason, message }) {
        worker.note(true, "Failed", told, Some(&container.name));
    }
    let until = worker.memory(&container.name).told.until();
    worker.wake_at(until, "missing object");
    None
}

impl Worker {
    /// Plans again at this instant at the latest.
    pub fn wake_at(&mut self, at: Mono, why: &'static str) {
        if self.wake.is_none_or(|(before, _)| at < before) {
            self.wake = Some((at, why));
        }
    }
}

impl World<'_> {
    fn auths(&self, pod: &Pod, image: &str) -> Vec<crate::wire::cri::AuthConfig> {
        // Once each, however often they are named.
        let mut named = BTreeSet::new();
        let secrets: Vec<_> = pod
            .spec
            .image_pull_secrets
            .iter()
            .filter(|reference| named.insert(&reference.name))
            .filter_map(|reference| match self.sources.secret(&pod.metadata.namespace, &reference.name) {
                render::Lookup::Here(secret) => Some(secret),
                render::Lookup::Absent | render::Lookup::Failed(_) | render::Lookup::Unknown => None,
            })
            .collect();
        render::auths(image, &secrets)
    }
}

/// What rendering needs to know of a pod.
impl<'a> World<'a> {
    /// The context of a pod.
    pub fn context<'b>(&'b self, worker: &'b Worker, pod: &'b Pod) -> Context<'b> {
        Context {
            pod,
            uid: &worker.uid,
            config: self.config,
            node: self.node,
            facts: self.facts,
            systemd: self.systemd,
            sources: self.sources,
            ips: self.ips(worker, pod),
            started: Some(worker.started),
        }
    }

    /// Addresses of a pod.
    pub fn ips<'b>(&'b self, worker: &'b Worker, pod: &Pod) -> &'b [String] {
        if pod.spec.host_network { &self.facts.ips } else { worker.seen.sandbox().map_or(&[], |sandbox| &sandbox.ips) }
    }
}
