//! What the end of a step, or a new look, changes about a pod.

use super::restart::BackOff;
use super::status::is_as_wanted;
use super::worker::{Doing, Kill, Trouble, Worker};
use crate::node::ids::ContainerId;
use crate::node::now::Now;
use crate::node::runtime::{ContainerState, FailedAt, Failure, Outcome, PodSeen};

impl Worker {
    /// The runtime shows the pod so.
    pub(super) fn look(&mut self, now: Now, seen: PodSeen) {
        if !self.seen.update(seen) {
            return;
        }
        self.dirty = true;
        self.count_instances();
        self.attend_probes(now);
        let running: Vec<ContainerId> = self.seen.running().map(|container| container.id.clone()).collect();
        for (name, memory) in &mut self.containers {
            let current = self.seen.containers.iter().find(|container| container.name == *name);
            if current.is_none_or(|current| !running.contains(&current.id)) {
                memory.kill = None;
            } else {
                memory.trouble = None;
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
        match result {
            Ok(outcome) => self.worked(now, doing, outcome),
            Err(failure) => self.failed(now, doing, failure),
        }
    }

    fn worked(&mut self, now: Now, doing: Doing, outcome: Outcome) {
        match (doing, outcome) {
            (Doing::Prepare(prepare), outcome) => {
                if let Outcome::Prepared(logs) = outcome {
                    logs.into_iter().for_each(|(name, number)| self.has_run(&name, number));
                }
                self.prepared = Some(*prepare);
                self.whole_again();
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
                self.pulls.remove(&wanted);
                let memory = self.memory(&name);
                memory.image = Some(image);
                memory.trouble = None;
            }
            (Doing::Start(name), _) => {
                self.note(false, "Created", format!("Created container: {name}"), Some(&name));
                self.note(false, "Started", format!("Started container {name}"), Some(&name));
                let counts = !self.is_outdated(&name);
                let memory = self.memory(&name);
                if counts {
                    memory.restarts.count(now);
                }
                memory.creates = BackOff::default();
                memory.image = None;
                memory.trouble = None;
                memory.post_start = true;
            }
            (Doing::Sandbox | Doing::Stop(_) | Doing::Remove, _) => self.whole_again(),
            (Doing::Empty, _) => {
                self.emptied = true;
                self.whole_again();
            }
            (Doing::Clean, _) => {
                self.cleaned = true;
                self.whole_again();
            }
            (Doing::Image(_) | Doing::PostStart(_), _) => {}
        }
    }

    fn whole_again(&mut self) {
        self.trouble = None;
        self.retry = BackOff::default();
    }

    /// The newest instance was made from a spec that is not obeyed any more: it is
    /// none of the present one's restarts.
    fn is_outdated(&self, name: &str) -> bool {
        let container = self.pod.as_ref().and_then(|pod| pod.container(name));
        container.zip(self.seen.latest(name)).is_some_and(|(container, seen)| !is_as_wanted(seen, container))
    }

    fn image_of(&self, container: &str) -> &str {
        self.pod.as_ref().and_then(|pod| pod.container(container)).map_or("", |spec| &spec.image)
    }

    fn failed(&mut self, now: Now, doing: Doing, failure: Failure) {
        let Failure { at, message } = failure;
        match doing {
            Doing::Image(name) => self.image_failed(now, &name, at, message),
            Doing::Start(name) => {
                let reason = if at == FailedAt::Create { "CreateContainerError" } else { "RunContainerError" };
                self.note(true, "Failed", format!("Error: {message}"), Some(&name));
                let memory = self.memory(&name);
                memory.creates.count(now);
                memory.restarts.count(now);
                memory.image = None;
                memory.trouble = Some(Trouble { reason, message });
            }
            Doing::PostStart(name) => {
                self.note(true, "FailedPostStartHook", format!("PostStartHook failed: {message}"), Some(&name));
                let memory = self.memory(&name);
                memory.kill = Some(Kill { why: "FailedPostStartHook".to_owned(), grace: None });
                memory.trouble = Some(Trouble { reason: "PostStartHookError", message });
            }
            Doing::Prepare(_) => self.pod_failed(now, "FailedMount", message),
            Doing::Sandbox => self.pod_failed(now, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}")),
            Doing::Stop(_) | Doing::Remove | Doing::Empty | Doing::Clean => self.pod_failed(now, "FailedKillPod", message),
        }
    }

    fn pod_failed(&mut self, now: Now, reason: &'static str, message: String) {
        self.note(true, reason, message.clone(), None);
        self.retry.count_gently(now);
        self.trouble = Some(Trouble { reason, message });
    }

    fn image_failed(&mut self, now: Now, name: &str, at: FailedAt, message: String) {
        let image = self.image_of(name).to_owned();
        let again = self.trouble_of(name).is_some_and(|trouble| matches!(trouble.reason, "ErrImagePull" | "ImagePullBackOff"));
        let (reason, message) = match at {
            FailedAt::ImageNeverPull => ("ErrImageNeverPull", format!("Container image \"{image}\" is not present with pull policy of Never")),
            FailedAt::ImageName => ("InvalidImageName", message),
            FailedAt::ImageInspect => ("ImageInspectError", message),
            FailedAt::Volume
            | FailedAt::ImagePull
            | FailedAt::Sandbox
            | FailedAt::Create
            | FailedAt::Start
            | FailedAt::PostStart
            | FailedAt::Stop
            | FailedAt::Runtime => {
                if again {
                    ("ImagePullBackOff", format!("Back-off pulling image \"{image}\": ErrImagePull: {message}"))
                } else {
                    ("ErrImagePull", message)
                }
            }
        };
        self.note(
            true,
            "Failed",
            if reason == "ErrImageNeverPull" { message.clone() } else { format!("Failed to pull image \"{image}\": {message}") },
            Some(name),
        );
        self.pulls.entry(image).or_default().count(now);
        self.memory(name).trouble = Some(Trouble { reason, message });
    }
}
