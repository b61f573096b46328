//! From a pod's spec to what the runtime is told: CRI's own messages and the
//! volumes they refer to. No decision about when.

mod action;
mod allowance;
mod container;
mod dns;
mod env;
mod expand;
mod image;
mod mounts;
mod names;
mod needs;
mod once;
mod refuse;
mod resource_field;
mod resources;
mod sandbox;
mod security;
mod volume;

pub use action::action;
pub use container::{Rendered, container, container_hash};
pub use dns::dns_warnings;
pub use image::{auths, image_reference, pull_policy};
pub use needs::{Needs, TokenRequest, needs};
pub use refuse::{refusal, sysctl_forbidden};
pub use resources::{Qos, cgroup, cgroups, classes, limit, qos, request, requested, requests};
pub use sandbox::{log_directory, log_directory_of, sandbox};
pub use security::app_armor_profile;
pub use volume::prepare;

use std::rc::Rc;

use crate::config;
use crate::node::ids::PodUid;
use crate::node::machine::Facts;
use crate::node::now::Wall;
use crate::wire::kube::{ConfigMap, Pod, Secret};

/// All a rendering may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its uid.
    pub uid: &'a PodUid,
    /// Settings.
    pub config: &'a config::Edged,
    /// Name of the node.
    pub node: &'a str,
    /// The machine.
    pub facts: &'a Facts,
    /// The runtime groups by systemd slices.
    pub systemd: bool,
    /// ConfigMaps, secrets, tokens.
    pub sources: &'a dyn Sources,
    /// Addresses of the pod: its sandbox's, or the node's on the host network.
    pub ips: &'a [String],
    /// When the pod began.
    pub started: Option<Wall>,
}

/// Where objects come from.
pub trait Sources {
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Lookup<Rc<ConfigMap>>;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Lookup<Rc<Secret>>;
    /// A token.
    fn token(&self, request: &TokenRequest) -> Lookup<String>;
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It is here.
    Here(T),
    /// The cluster has none.
    Absent,
    /// The cloud refused it, or what came cannot be read.
    Failed(String),
    /// Nobody answered yet.
    Unknown,
}

/// Why a rendering is not possible now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// The cloud has to be asked; not an error.
    Unknown(String),
    /// Something is missing, in kubelet's words.
    Missing(String),
}

impl<T> Lookup<T> {
    /// The object; `None` when it is absent and may be.
    fn get(self, what: impl Fn() -> String, optional: bool) -> Result<Option<T>, Wait> {
        match self {
            Self::Here(object) => Ok(Some(object)),
            Self::Absent if optional => Ok(None),
            Self::Absent => Err(Wait::Missing(format!("{} not found", what()))),
            Self::Failed(why) => Err(Wait::Missing(format!("{}: {why}", what()))),
            Self::Unknown => Err(Wait::Unknown(what())),
        }
    }
}

/// `ROOT/pods/UID`.
fn pod_dir(context: &Context<'_>) -> String {
    format!("{}/pods/{}", context.config.root.display(), context.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Edged, file};

    /// A cluster without objects.
    pub struct Nothing;

    impl Sources for Nothing {
        fn config_map(&self, _: &str, _: &str) -> Lookup<Rc<ConfigMap>> {
            Lookup::Absent
        }

        fn secret(&self, _: &str, _: &str) -> Lookup<Rc<Secret>> {
            Lookup::Absent
        }

        fn token(&self, _: &TokenRequest) -> Lookup<String> {
            Lookup::Absent
        }
    }

    /// What a pod is rendered to on a machine by some settings.
    pub fn rendering<T>(pod: &Pod, facts: &Facts, set: impl FnOnce(&mut Edged), render: impl FnOnce(&Context<'_>) -> T) -> T {
        let mut config = file::parse("", "n").expect("defaults").edged;
        set(&mut config);
        let uid = "u".into();
        let config = &config;
        render(&Context { pod, uid: &uid, config, node: "n", facts, systemd: false, sources: &Nothing, ips: &[], started: None })
    }
}
