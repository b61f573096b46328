//! Which containers of a pod have probes, and when each is to be probed next: an answer
//! and a deadline cost what they are about, however many containers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::node::ids::ContainerId;
use crate::node::now::Mono;

/// The probed containers of a pod.
#[derive(Debug, Default)]
pub struct DueProbes {
    /// The container's name, by the instance that is probed.
    names: BTreeMap<ContainerId, Rc<str>>,
    /// In the order of time, each container once.
    due: BTreeSet<(Mono, Rc<str>)>,
    /// When, by container.
    at: BTreeMap<Rc<str>, Mono>,
}

impl DueProbes {
    /// An instance of a container is probed from now on.
    pub fn begin(&mut self, container: ContainerId, name: &str) {
        self.names.insert(container, name.into());
    }

    /// An instance is probed no longer.
    pub fn end(&mut self, container: &ContainerId) {
        if let Some(name) = self.names.remove(container) {
            self.set(&name, None);
        }
    }

    /// The name of the container that an instance is of, while it is probed.
    pub fn name(&self, container: &ContainerId) -> Option<Rc<str>> {
        self.names.get(container).cloned()
    }

    /// Names of all that are probed.
    pub fn all(&self) -> Vec<Rc<str>> {
        self.names.values().cloned().collect()
    }

    /// When a container is to be probed next, if it is.
    pub fn set(&mut self, name: &Rc<str>, at: Option<Mono>) {
        if let Some(before) = self.at.remove(name) {
            self.due.remove(&(before, name.clone()));
        }
        if let Some(at) = at {
            self.at.insert(name.clone(), at);
            self.due.insert((at, name.clone()));
        }
    }

    /// A container that is to be probed now; it is to be set again.
    pub fn pop(&mut self, now: Mono) -> Option<Rc<str>> {
        let (at, _) = self.due.first()?;
        let (_, name) = (*at <= now).then(|| self.due.pop_first())??;
        self.at.remove(&name);
        Some(name)
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }
}
