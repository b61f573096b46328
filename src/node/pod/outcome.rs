//! What the end of a step, or a new look, changes about a pod.

use super::restart::BackOff;
use super::worker::{Doing, Kill, Stage, Trouble, Worker};
use crate::node::ids::{ContainerId, SandboxId};
use crate::node::now::Now;
use crate::node::runtime::{ContainerSeen, ContainerState, FailedAt, Failure, Outcome, PodSeen};
use crate::wire::text;

impl Worker {
    /// The runtime shows the pod so.
    pub(super) fn look(&mut self, now: Now, seen: PodSeen) {
        if !self.seen.update(seen) {
            return;
        }
        self.dirty = true;
        self.count_instances();
        self.attend_probes(now);
        for (name, memory) in &mut self.containers {
            if self.seen.latest(name).is_some_and(ContainerSeen::is_running) {
                memory.trouble = None;
            } else {
                memory.kill = None;
                memory.post_start = None;
            }
        }
    }

    /// What was made and never started has no number yet.
    fn count_instances(&mut self) {
        let ran = self.seen.containers.iter().filter(|container| container.state != ContainerState::Created);
        for (name, number) in ran.map(|container| (container.name.clone(), container.restarts)).collect::<Vec<_>>() {
            self.has_run(&name, number);
        }
    }

    /// A step ended.
    pub(super) fn ended(&mut self, now: Now, doing: Doing, result: Result<Outcome, Failure>) {
        self.dirty = true;
        let result = result.and_then(|outcome| match self.without_effect(&doing, &outcome) {
            None => Ok(outcome),
            Some(failure) => Err(failure),
        });
        match result {
            Ok(outcome) => self.worked(now, doing, outcome),
            Err(failure) => self.failed(now, doing, failure),
        }
    }

    /// A success that shows in nothing the runtime has is a failure: the same
    /// step would follow at once, for ever.
    fn without_effect(&self, doing: &Doing, outcome: &Outcome) -> Option<Failure> {
        if self.unsure {
            let unseen = || "the runtime does not show it".to_owned();
            return (*doing == Doing::Look).then(|| Failure { at: FailedAt::Runtime, message: unseen() });
        }
        let (at, what) = match doing {
            Doing::Sandbox => (FailedAt::Sandbox, self.is_without_sandbox().then(|| "it is not ready after it was made".to_owned())?),
            Doing::Start(_) => (FailedAt::Start, self.is_unstarted(outcome).then(|| "the runtime does not show it after its start".to_owned())?),
            Doing::Stop { containers, sandboxes, .. } | Doing::Remove { containers, sandboxes } => {
                let is_stop = matches!(doing, Doing::Stop { .. });
                (FailedAt::Stop, self.left_of(containers, sandboxes, is_stop)?)
            }
            Doing::Prepare(_) | Doing::Image(_) | Doing::PostStart(_) | Doing::Look | Doing::Empty | Doing::Clean => return None,
        };
        let message = if let Outcome::NotFound(words) = outcome { format!("{what}: {words}") } else { what };
        Some(Failure { at, message })
    }

    fn is_without_sandbox(&self) -> bool {
        let host_network = self.pod.as_ref().is_some_and(|pod| pod.spec.host_network);
        self.seen.ready_sandbox().is_none_or(|sandbox| sandbox.ips.is_empty() && !host_network)
    }

    fn is_unstarted(&self, outcome: &Outcome) -> bool {
        let Outcome::Container(id) = outcome else { return true };
        let made = self.seen.containers.iter().find(|seen| seen.id == *id);
        made.is_none_or(|seen| seen.state == ContainerState::Created)
    }

    /// What still runs after a stop, or is still there after a removal.
    fn left_of(&self, containers: &[ContainerId], sandboxes: &[SandboxId], is_stop: bool) -> Option<String> {
        let container = self.seen.containers.iter().find(|seen| containers.contains(&seen.id) && (!is_stop || seen.is_running()));
        let sandbox = self.seen.sandboxes.iter().find(|seen| sandboxes.contains(&seen.id) && (!is_stop || seen.ready));
        let (still, done) = if is_stop { ("runs", "stopped") } else { ("is there", "removed") };
        let container = container.map(|seen| format!("container '{}' still {still} after it was {done}", seen.id));
        container.or_else(|| sandbox.map(|seen| format!("sandbox '{}' still {still} after it was {done}", seen.id)))
    }

    fn worked(&mut self, now: Now, doing: Doing, outcome: Outcome) {
        if let Some(stage) = doing.stage() {
            self.retries.remove(&stage);
            self.trouble = None;
        }
        match (doing, outcome) {
            (Doing::Prepare(prepare), outcome) => {
                if let Outcome::Prepared(logs) = outcome {
                    logs.into_iter().for_each(|(name, number)| self.has_run(&name, number));
                }
                self.prepared = Some(*prepare);
            }
            (Doing::Image(name), Outcome::Image(image)) => {
                let message = match image.pulled {
                    Some(took) => {
                        format!("Successfully pulled image \"{}\" in {:.3}s. Image size: {} bytes.", self.image_of(&name), took.as_secs_f64(), image.size)
                    }
                    None => format!("Container image \"{}\" already present on machine", self.image_of(&name)),
                };
                self.note(false, "Pulled", message, Some(&name));
                let wanted = self.image_of(&name).to_owned();
                self.pulls.reset(&wanted);
                let memory = self.memory(&name);
                memory.image = Some(image);
                memory.trouble = None;
            }
            (Doing::Start(name), outcome) => {
                self.note(false, "Created", format!("Created container: {name}"), Some(&name));
                self.note(false, "Started", format!("Started container {name}"), Some(&name));
                let memory = self.memory(&name);
                memory.creates = BackOff::default();
                memory.image = None;
                memory.trouble = None;
                memory.post_start = if let Outcome::Container(id) = outcome { Some(id) } else { None };
            }
            // The first sandbox after another may come at once, the next waits.
            (Doing::Sandbox, _) => {
                if self.seen.sandbox().is_some_and(|sandbox| sandbox.attempt > 0) {
                    self.sandboxes.count(now);
                }
            }
            (Doing::PostStart(name), _) => self.memory(&name).post_start = None,
            (Doing::Empty, _) => self.emptied = true,
            (Doing::Clean, _) => self.cleaned = true,
            (Doing::Stop { .. } | Doing::Remove { .. } | Doing::Look | Doing::Image(_), _) => {}
        }
    }

    fn image_of(&self, container: &str) -> &str {
        self.pod.as_ref().and_then(|pod| pod.container(container)).map_or("", |spec| &spec.image)
    }

    fn failed(&mut self, now: Now, doing: Doing, failure: Failure) {
        let Failure { at, mut message } = failure;
        // A runtime or a registry may say as much as it likes.
        text::truncate(&mut message, text::STATUS_MESSAGE);
        match doing {
            Doing::Image(name) => self.image_failed(now, &name, at, message),
            Doing::Start(name) => {
                let reason = if at == FailedAt::Config {
                    "CreateContainerConfigError"
                } else if at == FailedAt::Create {
                    "CreateContainerError"
                } else {
                    "RunContainerError"
                };
                self.note(true, "Failed", format!("Error: {message}"), Some(&name));
                // One that was made and did not start has ended: the next waits as after
                // any end.
                let has_ended = at == FailedAt::Start && self.seen.latest(&name).is_some_and(|seen| seen.exit().is_some());
                let memory = self.memory(&name);
                if !has_ended {
                    memory.creates.count(now);
                }
                memory.image = None;
                memory.trouble = Some(Trouble { reason, message });
            }
            Doing::PostStart(name) => {
                self.note(true, "FailedPostStartHook", format!("PostStartHook failed: {message}"), Some(&name));
                let memory = self.memory(&name);
                memory.post_start = None;
                memory.kill = Some(Kill { why: "FailedPostStartHook".to_owned(), grace: None });
                memory.trouble = Some(Trouble { reason: "PostStartHookError", message });
            }
            Doing::Look => self.pod_failed(now, Stage::Look, "FailedSync", format!("error determining status: {message}")),
            Doing::Prepare(_) => {
                let (reason, message) = prepare_failed(at, message);
                self.pod_failed(now, Stage::Prepare, reason, message);
            }
            Doing::Sandbox => {
                self.pod_failed(now, Stage::Sandbox, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
            }
            Doing::Stop { .. } => self.pod_failed(now, Stage::Stop, "FailedKillPod", format!("error killing pod: {message}")),
            Doing::Remove { .. } => self.pod_failed(now, Stage::Remove, "FailedKillPod", format!("error killing pod: {message}")),
            Doing::Empty => self.pod_failed(now, Stage::Empty, "FailedKillPod", message),
            Doing::Clean => self.pod_failed(now, Stage::Clean, "FailedKillPod", message),
        }
    }

    pub(super) fn pod_failed(&mut self, now: Now, stage: Stage, reason: &'static str, message: String) {
        let trouble = Trouble { reason, message };
        if self.trouble.as_ref() != Some(&trouble) {
            log::warn!(target: "edged", "pod '{}' ({}): {reason}: {}", self.key, self.uid, trouble.message);
        }
        self.note(true, reason, trouble.message.clone(), None);
        self.retries.entry(stage).or_default().count_within(now, stage.waits());
        self.trouble = Some(trouble);
    }

    /// Each failed look for an image is told, with what the container waits for.
    fn image_failed(&mut self, now: Now, name: &str, at: FailedAt, message: String) {
        let image = self.image_of(name).to_owned();
        let (event, told, reason) = match at {
            FailedAt::ImageNeverPull => {
                let told = format!("Container image \"{image}\" is not present with pull policy of Never");
                ("ErrImageNeverPull", told, "ErrImageNeverPull")
            }
            FailedAt::ImageName => ("InspectFailed", format!("Failed to apply default image tag \"{image}\": {message}"), "InvalidImageName"),
            FailedAt::ImageInspect => ("InspectFailed", format!("Failed to inspect image \"{image}\": {message}"), "ImageInspectError"),
            FailedAt::Directories
            | FailedAt::Cgroup
            | FailedAt::Volume
            | FailedAt::ImagePull
            | FailedAt::Sandbox
            | FailedAt::Config
            | FailedAt::Create
            | FailedAt::Start
            | FailedAt::PostStart
            | FailedAt::Stop
            | FailedAt::Runtime => ("Failed", format!("Failed to pull image \"{image}\": {message}"), "ErrImagePull"),
        };
        let is_pull = reason == "ErrImagePull";
        let again = is_pull && self.trouble_of(name).is_some_and(|trouble| matches!(trouble.reason, "ErrImagePull" | "ImagePullBackOff"));
        self.note(true, event, told.clone(), Some(name));
        self.pulls.of_mut(now, &image).count(now);
        if again {
            return self.pull_backs_off(now, name, &format!(": ErrImagePull: {message}"));
        }
        let trouble = Trouble { reason, message: if is_pull { message } else { told } };
        self.waits_for_image(now, name, trouble);
    }

    /// The next pull waits.
    pub(super) fn pull_backs_off(&mut self, now: Now, name: &str, why: &str) {
        let message = format!("Back-off pulling image \"{}\"", self.image_of(name));
        self.note(false, "BackOff", message.clone(), Some(name));
        let trouble = Trouble { reason: "ImagePullBackOff", message: format!("{message}{why}") };
        self.waits_for_image(now, name, trouble);
    }

    fn waits_for_image(&mut self, now: Now, name: &str, trouble: Trouble) {
        let reason = trouble.reason;
        if self.memory(name).keep_from_running(now, trouble) {
            self.note(true, "Failed", format!("Error: {reason}"), Some(name));
        }
    }
}
/// As kubelet tells what keeps a pod from being set up.
fn prepare_failed(at: FailedAt, message: String) -> (&'static str, String) {
    if at == FailedAt::Directories {
        return ("FailedToMakePodDataDirectories", format!("error making pod data directories: {message}"));
    }
    if at == FailedAt::Cgroup {
        return ("FailedToCreatePodContainer", format!("unable to ensure pod container exists: {message}"));
    }
    ("FailedMount", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_pod_from_being_set_up_has_kubelets_reason() {
        let told = |at| prepare_failed(at, "'/p': why".to_owned());
        let directories = ("FailedToMakePodDataDirectories", "error making pod data directories: '/p': why".to_owned());
        assert_eq!(told(FailedAt::Directories), directories);
        let cgroup = ("FailedToCreatePodContainer", "unable to ensure pod container exists: '/p': why".to_owned());
        assert_eq!(told(FailedAt::Cgroup), cgroup);
        assert_eq!(told(FailedAt::Volume), ("FailedMount", "'/p': why".to_owned()));
    }
}
