//! What of a pod is in the runtime, asked the way the plan and the status ask.

use crate::node::runtime::{ContainerSeen, ContainerState, Exit, PodSeen, SandboxSeen};

impl PodSeen {
    /// The newest sandbox.
    pub fn sandbox(&self) -> Option<&SandboxSeen> {
        self.sandboxes.first()
    }

    /// The newest sandbox, if it is ready.
    pub fn ready_sandbox(&self) -> Option<&SandboxSeen> {
        self.sandbox().filter(|sandbox| sandbox.ready)
    }

    /// The newest instance of a container.
    pub fn latest(&self, name: &str) -> Option<&ContainerSeen> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest instance of a container in the newest sandbox.
    pub fn current(&self, name: &str) -> Option<&ContainerSeen> {
        let sandbox = self.sandbox()?;
        self.latest(name).filter(|container| container.sandbox == sandbox.id)
    }

    /// Instances before the newest one.
    pub fn earlier(&self, name: &str) -> impl Iterator<Item = &ContainerSeen> {
        self.containers.iter().filter(move |container| container.name == name).skip(1)
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
