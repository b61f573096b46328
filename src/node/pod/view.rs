//! What of a pod is in the runtime, asked the way the plan and the status ask:
//! by container. The last end of a container is remembered when the runtime has
//! forgotten it.

use std::collections::BTreeMap;
use std::ops::Deref;

use crate::node::runtime::{ContainerSeen, ContainerState, Exit, PodSeen, SandboxSeen};

/// A pod in the runtime.
#[derive(Debug)]
pub struct View {
    pod: PodSeen,
    /// Places in `pod.containers`, by name and then newest first.
    by_name: Box<[usize]>,
    /// Ends that the runtime does not show any more, by container.
    forgotten: BTreeMap<String, ContainerSeen>,
}

impl View {
    /// What the runtime shows.
    pub fn new(pod: PodSeen) -> Self {
        Self { by_name: by_name(&pod.containers), pod, forgotten: BTreeMap::new() }
    }

    /// The runtime shows this now; whether that is anything new.
    pub fn update(&mut self, pod: PodSeen) -> bool {
        if pod == self.pod {
            return false;
        }
        self.by_name = by_name(&pod.containers);
        let before = std::mem::replace(&mut self.pod, pod);
        for container in before.containers.into_iter().filter(|container| container.exit().is_some()) {
            self.remember(container);
        }
        let shown = |name: &str, forgotten: &ContainerSeen| self.in_runtime(name).any(|seen| seen.exit().is_some() && seen.restarts >= forgotten.restarts);
        let names: Vec<String> = self.forgotten.iter().filter(|(name, seen)| shown(name, seen)).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| drop(self.forgotten.remove(name)));
        true
    }

    /// A container ended so, whatever the runtime shows of it.
    pub fn remember(&mut self, ended: ContainerSeen) {
        if self.forgotten.get(&ended.name).is_none_or(|other| other.restarts < ended.restarts) {
            self.forgotten.insert(ended.name.clone(), ContainerSeen { annotations: BTreeMap::new(), ..ended });
        }
    }

    /// The newest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&ContainerSeen> {
        self.instances(name).next()
    }

    /// The newest instance of a container in the newest sandbox.
    pub fn current(&self, name: &str) -> Option<&ContainerSeen> {
        let sandbox = self.sandbox()?;
        self.latest(name).filter(|container| container.sandbox == sandbox.id)
    }

    /// Instances before the newest one.
    pub fn earlier(&self, name: &str) -> impl Iterator<Item = &ContainerSeen> {
        self.instances(name).skip(1)
    }

    /// Instances that may be removed once there is a newer one than now.
    pub fn replaceable(&self, name: &str) -> impl Iterator<Item = &ContainerSeen> {
        self.in_runtime(name).skip(1)
    }

    /// The newest instance of a container that has ended.
    pub fn last_end(&self, name: &str) -> Option<(&ContainerSeen, &Exit)> {
        self.instances(name).find_map(|seen| Some((seen, seen.exit()?)))
    }

    /// How the newest instance ended that the runtime shows ended.
    pub fn shown_end(&self, name: &str) -> Option<&Exit> {
        self.in_runtime(name).find_map(ContainerSeen::exit)
    }

    fn instances(&self, name: &str) -> impl Iterator<Item = &ContainerSeen> {
        let forgotten = self.forgotten.get(name);
        let is_newer = move |seen: &&ContainerSeen| forgotten.is_none_or(|forgotten| seen.restarts > forgotten.restarts);
        self.in_runtime(name).take_while(is_newer).chain(forgotten).chain(self.in_runtime(name).skip_while(is_newer))
    }

    fn in_runtime(&self, name: &str) -> impl Iterator<Item = &ContainerSeen> {
        let all = &self.pod.containers;
        let is_before = |place: &usize| {
            #[cfg(test)]
            tests::COMPARED.with(|count| count.set(count.get() + 1));
            *all[*place].name < *name
        };
        let first = self.by_name.partition_point(is_before);
        self.by_name[first..].iter().map(|place| &all[*place]).take_while(move |container| {
            #[cfg(test)]
            tests::COMPARED.with(|count| count.set(count.get() + 1));
            container.name == name
        })
    }
}

impl Deref for View {
    type Target = PodSeen;

    fn deref(&self) -> &PodSeen {
        &self.pod
    }
}

fn by_name(containers: &[ContainerSeen]) -> Box<[usize]> {
    let mut places: Vec<usize> = (0..containers.len()).collect();
    places.sort_by(|one, other| containers[*one].name.cmp(&containers[*other].name));
    places.into()
}

impl PodSeen {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxSeen> {
        self.sandboxes.first()
    }

    /// The newest sandbox, if it is ready.
    pub fn ready_sandbox(&self) -> Option<&SandboxSeen> {
        self.sandbox().filter(|sandbox| sandbox.ready)
    }

    /// Containers that run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerSeen> {
        self.containers.iter().filter(|container| container.is_running())
    }

    /// Nothing of the pod is in the runtime any more.
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
}

impl ContainerSeen {
    /// It runs, or may do so for all we know.
    pub fn is_running(&self) -> bool {
        match self.state {
            ContainerState::Running { .. } | ContainerState::Unknown => true,
            ContainerState::Created | ContainerState::Exited(_) => false,
        }
    }

    /// How it ended.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Unknown => None,
        }
    }
}

#[cfg(test)]
pub(in crate::node) mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::node::ids::PodKey;
    use crate::node::now::Wall;

    thread_local! {
        /// Names compared to find containers, since the thread began.
        pub static COMPARED: Cell<u64> = const { Cell::new(0) };
    }

    fn pod(instances: &[(&str, u32, bool)]) -> PodSeen {
        let state = |ended| match ended {
            true => ContainerState::Exited(Exit { started: Wall(1), finished: Wall(2), code: 0, reason: "Completed".into(), message: String::new() }),
            false => ContainerState::Running { started: Wall(1) },
        };
        let container = |(name, restarts, ended): &(&str, u32, bool)| ContainerSeen {
            id: format!("{name}{restarts}").into(),
            sandbox: "s".into(),
            name: (*name).to_owned(),
            restarts: *restarts,
            image: String::new(),
            image_id: String::new(),
            state: state(*ended),
            annotations: BTreeMap::new(),
        };
        let key = PodKey { namespace: String::new(), name: String::new() };
        PodSeen { uid: "u".into(), key, sandboxes: Vec::new(), containers: instances.iter().map(container).collect() }
    }

    fn all(view: &View, name: &str) -> Vec<String> {
        view.instances(name).map(|seen| seen.id.to_string()).collect()
    }

    #[test]
    fn a_containers_instances_are_found_newest_first() {
        let view = View::new(pod(&[("b", 2, false), ("a", 1, true), ("b", 1, true), ("c", 0, true)]));
        assert_eq!((all(&view, "b"), all(&view, "a"), all(&view, "x").len()), (vec!["b2".into(), "b1".into()], vec!["a1".into()], 0));
        assert_eq!(view.last_end("b").map(|(seen, _)| seen.id.as_str()), Some("b1"));
    }

    #[test]
    fn an_end_is_remembered_until_a_newer_one_is_shown() {
        let mut view = View::new(pod(&[("a", 1, true), ("a", 0, true)]));
        assert!(view.update(pod(&[])) && !view.update(pod(&[])));
        assert_eq!(all(&view, "a"), ["a1"]);
        view.update(pod(&[("a", 2, false)]));
        assert_eq!((all(&view, "a"), view.replaceable("a").count()), (vec!["a2".into(), "a1".into()], 0));
        view.update(pod(&[("a", 3, false), ("a", 2, true)]));
        assert_eq!(all(&view, "a"), ["a3", "a2"]);
    }
}
