//! Which spec of a pod is obeyed: the newest that can be. What runs goes on being
//! cared for by it when an update cannot be obeyed, and the rest of that update,
//! such as a deletion, holds all the same.

use std::rc::Rc;

use super::render::{self, container_hash};
use super::restart::BackOff;
use super::worker::{Doing, Fate, Trouble, Worker};
use crate::node::runtime::ContainerSeen;
use crate::wire::kube::{Container, Malformed, ObjectMeta, Pod, PodStatus};
use crate::wire::text;

/// What of a pod's newest object cannot be obeyed, in words that name the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Refused {
    /// All of it can.
    #[default]
    Nothing,
    /// The spec of before is obeyed.
    Update(Trouble),
    /// No spec of the pod ever could.
    Pod(Trouble),
}

impl Refused {
    /// Why the pod as a whole does not run.
    pub fn pod(&self) -> Option<&Trouble> {
        match self {
            Self::Pod(trouble) => Some(trouble),
            Self::Nothing | Self::Update(_) => None,
        }
    }

    /// Why the newest spec is not the one that is obeyed.
    pub fn update(&self) -> Option<&Trouble> {
        match self {
            Self::Update(trouble) => Some(trouble),
            Self::Nothing | Self::Pod(_) => None,
        }
    }
}

/// Whether a spec can be obeyed, were it the first of its pod.
pub fn is_obeyable(pod: &Pod) -> bool {
    render::refusal(pod).is_none()
}

/// Why an update is not for a pod that is cared for by the spec of before.
pub fn update_refusal(before: &Pod, pod: &Pod) -> Option<String> {
    let image = || pod.all_containers().find_map(|container| render::image_reference(&container.image).err());
    render::refusal(pod).or_else(image).or_else(|| resize(before, pod))
}

/// A resize in place, which this agent does not do: what it changes.
fn resize(before: &Pod, pod: &Pod) -> Option<String> {
    let (old, new) = (&before.spec, &pod.spec);
    let containers = [("initContainers", &old.init_containers, &new.init_containers), ("containers", &old.containers, &new.containers)];
    let is_resized = |(old, new): (&Container, &Container)| old.name == new.name && old.resources != new.resources;
    let container = containers.into_iter().find_map(|(field, old, new)| {
        let index = old.iter().zip(new).position(is_resized)?;
        Some(format!("spec.{field}[{index}].resources"))
    });
    let field = container.or_else(|| (old.resources != new.resources).then(|| "spec.resources".to_owned()))?;
    Some(format!("{field}: this agent does not resize a pod that was let in"))
}

impl Worker {
    /// The newest object of the pod.
    pub(super) fn take(&mut self, pod: Rc<Pod>) {
        let pod = self.with_status(pod);
        let unsupported = |message: String| Trouble { reason: "Unsupported", message: text::prefix(&message, text::STATUS_MESSAGE).to_owned() };
        let Some(before) = self.obeyed() else {
            let refused = render::refusal(&pod).map_or(Refused::Nothing, |why| Refused::Pod(unsupported(why)));
            self.read_spec(&pod);
            self.pod = Some(pod);
            return self.refuse(refused);
        };
        match update_refusal(&before, &pod) {
            Some(why) => {
                self.pod = Some(Rc::new(keeping_spec(&before, pod.metadata.clone(), pod.spec.active_deadline_seconds, pod.status.clone())));
                self.refuse(Refused::Update(unsupported(why)));
            }
            None => {
                self.forget_outdated(&before, &pod);
                self.read_spec(&pod);
                self.pod = Some(pod);
                self.refuse(Refused::Nothing);
            }
        }
    }

    /// The newest object of the pod cannot be read, but for its metadata.
    pub(super) fn take_malformed(&mut self, metadata: ObjectMeta, why: &Malformed) {
        let mut message = format!("spec cannot be read: {why}");
        text::truncate(&mut message, text::STATUS_MESSAGE);
        match self.obeyed() {
            Some(before) => {
                let pod = keeping_spec(&before, metadata, before.spec.active_deadline_seconds, before.status.clone());
                self.pod = Some(Rc::new(pod));
                self.refuse(Refused::Update(Trouble { reason: "Malformed", message }));
            }
            None => {
                self.pod = Some(Rc::new(Pod { metadata, ..Pod::default() }));
                if self.fate == Fate::Run {
                    self.fate = Fate::Rejected { reason: "Malformed", message };
                }
            }
        }
    }

    /// The pod by the spec that is obeyed.
    fn obeyed(&self) -> Option<Rc<Pod>> {
        self.pod.clone().filter(|pod| self.refused.pod().is_none() && !pod.spec.containers.is_empty())
    }

    fn refuse(&mut self, refused: Refused) {
        if self.refused == refused {
            return;
        }
        match &refused {
            Refused::Nothing => {}
            Refused::Pod(Trouble { reason, message }) => self.note(true, reason, message.clone(), None),
            Refused::Update(Trouble { reason, message }) => {
                self.note(true, reason, format!("the update is not applied, the pod goes on as before: {message}"), None);
            }
        }
        self.refused = refused;
    }

    /// A new spec comes without the status the cluster last showed.
    fn with_status(&self, mut pod: Rc<Pod>) -> Rc<Pod> {
        if let Some(before) = &self.pod
            && pod.status == PodStatus::default()
        {
            Rc::make_mut(&mut pod).status = before.status.clone();
        }
        pod
    }

    /// What follows from a spec alone is found once.
    fn read_spec(&mut self, pod: &Pod) {
        self.needs = render::needs(pod);
        for container in pod.all_containers() {
            self.memory(&container.name).hash = container_hash(container);
        }
    }

    /// Whether a container still is what the spec asks for.
    pub(super) fn is_as_wanted(&self, seen: &ContainerSeen) -> bool {
        let wanted = self.containers.get(&seen.name).map(|memory| memory.hash.as_str());
        let made = seen.annotations.get("io.kubernetes.container.hash");
        made.is_none_or(|made| wanted.is_none_or(|wanted| wanted.is_empty() || made == wanted))
    }

    /// What is remembered of a container is so of its image: another one is not
    /// started from what was pulled for the one before.
    fn forget_outdated(&mut self, before: &Pod, pod: &Pod) {
        for container in pod.all_containers() {
            let Some(old) = before.container(&container.name) else { continue };
            if old.image == container.image {
                continue;
            }
            if matches!(&self.doing, Some((_, Doing::Image(name))) if *name == container.name) {
                self.doing = None;
            }
            let memory = self.memory(&container.name);
            memory.image = None;
            memory.trouble = None;
            memory.creates = BackOff::default();
        }
    }
}

fn keeping_spec(before: &Pod, metadata: ObjectMeta, active_deadline_seconds: Option<i64>, status: PodStatus) -> Pod {
    let mut spec = before.spec.clone();
    spec.active_deadline_seconds = active_deadline_seconds;
    // Of the spec, not of the rest.
    let generation = before.metadata.generation;
    Pod { metadata: ObjectMeta { generation, ..metadata }, spec, status }
}
