//! The probes of a pod's running containers: attached as they start, asked
//! when due, obeyed when they turn.

use std::time::Duration;

use super::World;
use super::probe::{Probes, Turn};
use super::render;
use super::worker::{Kill, Worker};
use crate::node::ids::ContainerId;
use crate::node::now::Now;
use crate::node::runtime::{ContainerState, Probe, ProbeKind, ProbeResult};
use crate::wire::kube::{self, Container};

impl Worker {
    /// Every running instance has its own probes; the others have none.
    pub(super) fn attend_probes(&mut self, now: Now) {
        let Some(pod) = self.pod.clone() else { return };
        for spec in pod.all_containers() {
            let running = self.seen.latest(&spec.name).and_then(|seen| match seen.state {
                ContainerState::Running { started } => Some((seen.id.clone(), started)),
                ContainerState::Created | ContainerState::Exited(_) | ContainerState::Unknown => None,
            });
            let adopted = self.adopted;
            match running {
                Some((id, started)) => {
                    if self.memory(&spec.name).probes.as_ref().is_none_or(|probes| probes.container != id) {
                        let since = now.mono - now.wall.since(started).min(Duration::from_secs(3600));
                        self.memory(&spec.name).probes = Some(Probes::new(id, spec, now, since, adopted));
                    }
                }
                None => {
                    if let Some(memory) = self.containers.get_mut(&spec.name) {
                        memory.probes = None;
                    }
                }
            }
        }
    }

    /// Probes to run now, and when the next one is due.
    pub(super) fn probes_due(&mut self, now: Now, world: &World<'_>) -> Vec<Probe> {
        let Some(pod) = self.pod.clone() else { return Vec::new() };
        self.probe_at = None;
        let ip = world.ips(self, &pod).first().cloned().unwrap_or_default();
        let ending = self.is_ending();
        let mut orders = Vec::new();
        for spec in pod.all_containers() {
            let Some(probes) = self.probes(&spec.name) else { continue };
            if ending {
                probes.ends();
            }
            let container = probes.container.clone();
            for kind in probes.due(now) {
                self.begin_probe(now, spec, kind, &container, &ip, &mut orders);
            }
            let next = self.probes(&spec.name).and_then(|probes| probes.deadline());
            self.probe_at = [self.probe_at, next].into_iter().flatten().min();
        }
        orders
    }

    fn probes(&mut self, container: &str) -> Option<&mut Probes> {
        self.containers.get_mut(container)?.probes.as_mut()
    }

    /// A probe that cannot be run is one that could not be asked.
    fn begin_probe(&mut self, now: Now, spec: &Container, kind: ProbeKind, container: &ContainerId, ip: &str, orders: &mut Vec<Probe>) {
        let Some(probes) = self.probes(&spec.name) else { return };
        probes.begun(kind);
        let Some(probe) = probe_of(spec, kind) else { return };
        match render::action(&probe.handler, spec, ip) {
            Ok(action) => orders.push(Probe { pod: self.uid.clone(), container: container.clone(), kind, action, timeout: timeout(probe) }),
            Err(why) => self.probed(now, container, kind, &ProbeResult::Unknown(why)),
        }
    }

    /// Nobody answers the probes that are under way.
    pub(super) fn drop_probes(&mut self) {
        self.containers.values_mut().filter_map(|memory| memory.probes.as_mut()).for_each(Probes::dropped);
    }

    /// A probe was answered.
    pub(super) fn probed(&mut self, now: Now, container: &ContainerId, kind: ProbeKind, result: &ProbeResult) {
        let Some(pod) = self.pod.clone() else { return };
        let Some((name, turn)) = self.containers.iter_mut().find_map(|(name, memory)| {
            let probes = memory.probes.as_mut().filter(|probes| probes.container == *container)?;
            let turn = probes.answered(now, kind, result);
            self.probe_at = [self.probe_at, probes.deadline()].into_iter().flatten().min();
            Some((name.clone(), turn))
        }) else {
            return;
        };
        // One more answer like those before changes nothing.
        self.dirty |= turn != Turn::None;
        let unhealthy = match result {
            ProbeResult::Success => None,
            ProbeResult::Failure(why) => Some(format!("{} probe failed: {why}", kind.as_str())),
            ProbeResult::Unknown(why) => Some(format!("{} probe errored and resulted in unknown state: {why}", kind.as_str())),
        };
        if let Some(message) = unhealthy {
            self.note(true, "Unhealthy", message, Some(&name));
        }
        if let Turn::Kill(kind) = turn
            && !self.is_ending()
        {
            let grace = pod.container(&name).and_then(|spec| probe_of(spec, kind)).and_then(|probe| probe.termination_grace_period_seconds);
            let what = if pod.spec.init_containers.iter().any(|spec| spec.name == name) { "Init container" } else { "Container" };
            let why = format!("{what} {name} failed {} probe, will be restarted", kind.as_str().to_lowercase());
            self.memory(&name).kill = Some(Kill { why, grace });
        }
    }
}

impl ProbeKind {
    /// As people call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

fn timeout(probe: &kube::Probe) -> Duration {
    let seconds = probe.timeout_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(1).max(1))
}

fn probe_of(spec: &Container, kind: ProbeKind) -> Option<&kube::Probe> {
    match kind {
        ProbeKind::Startup => spec.startup_probe.as_ref(),
        ProbeKind::Liveness => spec.liveness_probe.as_ref(),
        ProbeKind::Readiness => spec.readiness_probe.as_ref(),
    }
}
