//! The probes of a pod's running containers: attached as they start, asked
//! when due, obeyed when they turn.

use std::rc::Rc;
use std::time::Duration;

use super::World;
use super::probe::{Probes, Turn};
use super::render;
use super::worker::{Kill, Worker};
use crate::node::ids::ContainerId;
use crate::node::now::{Now, Wall};
use crate::node::runtime::{ContainerState, Probe, ProbeKind, ProbeResult};
use crate::wire::kube::{self, Container, Pod};

impl Worker {
    /// Every running instance has its own probes; the others have none.
    pub(super) fn attend_probes(&mut self, now: Now) {
        let Some(pod) = self.pod.clone() else { return };
        for (place, spec) in pod.all_containers().enumerate() {
            let running = self.seen.latest(&spec.name).and_then(|seen| match seen.state {
                ContainerState::Running { started } => Some((seen.id.clone(), started)),
                ContainerState::Created | ContainerState::Exited(_) | ContainerState::Unknown => None,
            });
            match running {
                Some((id, started)) => self.attach_probes(now, place, spec, id, started),
                None => self.detach_probes(&spec.name),
            }
        }
    }

    fn attach_probes(&mut self, now: Now, place: usize, spec: &Container, id: ContainerId, started: Wall) {
        if let Some(probes) = self.probes(&spec.name).filter(|probes| probes.container == id) {
            probes.place = place;
            return;
        }
        self.detach_probes(&spec.name);
        let since = now.mono - now.wall.since(started).min(Duration::from_secs(3600));
        let probes = Probes::new(id.clone(), place, spec, now, since, self.adopted);
        if !probes.is_empty() {
            self.due_probes.begin(id, &spec.name);
        }
        self.memory(&spec.name).probes = Some(probes);
        self.schedule_probes(&spec.name.as_str().into());
    }

    fn detach_probes(&mut self, name: &str) {
        let probes = self.containers.get_mut(name).and_then(|memory| memory.probes.take());
        if let Some(probes) = probes {
            self.due_probes.end(&probes.container);
        }
    }

    fn schedule_probes(&mut self, name: &Rc<str>) {
        let next = self.probes(name).and_then(|probes| probes.deadline());
        self.due_probes.set(name, next);
    }

    /// Probes to run now.
    pub(super) fn probes_due(&mut self, now: Now, world: &World<'_>) -> Vec<Probe> {
        let Some(pod) = self.pod.clone() else { return Vec::new() };
        if self.due_probes.next().is_none_or(|at| at > now.mono) {
            return Vec::new();
        }
        let ip = world.ips(self, &pod).first().cloned().unwrap_or_default();
        let ending = self.is_ending();
        let (mut orders, mut begun) = (Vec::new(), Vec::new());
        while let Some(name) = self.due_probes.pop(now.mono) {
            #[cfg(test)]
            tests::LOOKED_AT.with(|count| count.set(count.get() + 1));
            let Some(probes) = self.probes(&name) else { continue };
            if ending {
                probes.ends();
            }
            let (container, place) = (probes.container.clone(), probes.place);
            let kinds = probes.due(now);
            let Some(spec) = spec_at(&pod, place, &name) else { continue };
            kinds.into_iter().for_each(|kind| self.begin_probe(now, spec, kind, &container, &ip, &mut orders));
            begun.push(name);
        }
        begun.iter().for_each(|name| self.schedule_probes(name));
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
        self.due_probes.all().iter().for_each(|name| self.schedule_probes(name));
    }

    /// A probe was answered.
    pub(super) fn probed(&mut self, now: Now, container: &ContainerId, kind: ProbeKind, result: &ProbeResult) {
        let Some(pod) = self.pod.clone() else { return };
        let Some(name) = self.due_probes.name(container) else { return };
        #[cfg(test)]
        tests::LOOKED_AT.with(|count| count.set(count.get() + 1));
        let Some(turn) = self.probes(&name).map(|probes| probes.answered(now, kind, result)) else { return };
        self.schedule_probes(&name);
        // One more answer like those before changes nothing.
        self.dirty |= turn != Turn::None;
        let kind_of_probe = kind.as_str();
        let told = match result {
            ProbeResult::Success => None,
            ProbeResult::Warning(what) => Some(("ProbeWarning", format!("{kind_of_probe} probe warning: {what}"))),
            ProbeResult::Failure(why) => Some(("Unhealthy", format!("{kind_of_probe} probe failed: {why}"))),
            ProbeResult::Unknown(why) => {
                let message = format!("{kind_of_probe} probe errored and resulted in unknown state: {why}");
                Some(("Unhealthy", message))
            }
        };
        if let Some((reason, message)) = told {
            self.note(true, reason, message, Some(&name));
        }
        if let Turn::Kill(kind) = turn
            && !self.is_ending()
        {
            let grace = pod.container(&name).and_then(|spec| probe_of(spec, kind)).and_then(|probe| probe.termination_grace_period_seconds);
            let what = if pod.spec.init_containers.iter().any(|spec| *spec.name == *name) { "Init container" } else { "Container" };
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

/// The container of a name; it mostly is at its place still.
fn spec_at<'a>(pod: &'a Pod, place: usize, name: &str) -> Option<&'a Container> {
    pod.all_containers().nth(place).filter(|spec| spec.name == name).or_else(|| pod.container(name))
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

#[cfg(test)]
pub(in crate::node) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Containers looked at for a probe that was due or answered, since the thread
        /// began.
        pub static LOOKED_AT: Cell<u64> = const { Cell::new(0) };
    }
}
