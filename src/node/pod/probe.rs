//! Liveness, readiness and startup of one container: when to ask, and what a
//! row of answers means. How to ask is the shell's business.
//!
//! Source: edge-node.md 1.10.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::ids::ContainerId;
use crate::node::now::{Mono, Now};
use crate::node::runtime::{ProbeKind, ProbeResult};
use crate::wire::kube;

/// The probes of one running container.
#[derive(Debug, Clone)]
pub struct Probes {
    /// The instance they ask; another instance starts anew.
    pub container: ContainerId,
    /// Where its container is among all of the pod.
    pub place: usize,
    asked: BTreeMap<ProbeKind, Asked>,
    /// It ran before the agent did: its readiness is not known, rather than no.
    adopted: bool,
    /// The pod is on its way out: only whether it serves still matters.
    ending: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    spec: Timing,
    next: Mono,
    in_flight: bool,
    row: (bool, u32),
    /// Tries in a row that told nothing.
    errors: u32,
    verdict: Option<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    period: Duration,
    success: u32,
    failure: u32,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing.
    None,
    /// Ready, or not any more.
    Readiness,
    /// The startup probe succeeded.
    Started,
    /// The container must be killed.
    Kill(ProbeKind),
}

impl Probes {
    /// Probes of a container that started at `started`.
    pub fn new(container: ContainerId, place: usize, spec: &kube::Container, now: Now, started: Mono, adopted: bool) -> Self {
        let kinds = [(ProbeKind::Startup, &spec.startup_probe), (ProbeKind::Liveness, &spec.liveness_probe), (ProbeKind::Readiness, &spec.readiness_probe)];
        let asked = kinds
            .into_iter()
            .filter_map(|(kind, probe)| {
                let probe = probe.as_ref()?;
                let first = (started + seconds(Some(probe.initial_delay_seconds), 0)).max(now.mono);
                Some((kind, Asked { spec: timing(probe), next: first, in_flight: false, row: (false, 0), errors: 0, verdict: None }))
            })
            .collect();
        Self { container, place, asked, adopted, ending: false }
    }

    /// There is nothing to probe.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Whether the startup probe, if any, has succeeded.
    pub fn is_started(&self) -> bool {
        self.adopted && self.verdict(ProbeKind::Startup).is_none() || self.asked.get(&ProbeKind::Startup).is_none_or(|asked| asked.verdict == Some(true))
    }

    /// Whether the container is ready; `None` while an adopted container has
    /// not been asked, so that an agent restart does not make it flap.
    pub fn is_ready(&self) -> Option<bool> {
        if !self.is_started() {
            return Some(false);
        }
        match self.asked.get(&ProbeKind::Readiness).map(|asked| asked.verdict) {
            None => Some(true),
            Some(None) if self.adopted => None,
            Some(verdict) => Some(verdict == Some(true)),
        }
    }

    fn verdict(&self, kind: ProbeKind) -> Option<bool> {
        self.asked.get(&kind).and_then(|asked| asked.verdict)
    }

    /// Probes to run now.
    pub fn due(&self, now: Now) -> Vec<ProbeKind> {
        self.waiting().filter(|(_, asked)| asked.next <= now.mono).map(|(kind, _)| kind).collect()
    }

    /// When the next one is due.
    pub fn deadline(&self) -> Option<Mono> {
        self.waiting().map(|(_, asked)| asked.next).min()
    }

    /// Probes that will be run and are not under way.
    fn waiting(&self) -> impl Iterator<Item = (ProbeKind, &Asked)> {
        let started = self.is_started();
        let applies = move |kind, asked| applies(kind, asked, started) && (!self.ending || kind == ProbeKind::Readiness);
        self.asked.iter().map(|(kind, asked)| (*kind, asked)).filter(move |(kind, asked)| !asked.in_flight && applies(*kind, asked))
    }

    /// A probe is under way: [`Probes::answered`] or [`Probes::dropped`] ends that.
    pub fn begun(&mut self, kind: ProbeKind) {
        if let Some(asked) = self.asked.get_mut(&kind) {
            asked.in_flight = true;
        }
    }

    /// Nobody answers what is under way: it is asked again.
    pub fn dropped(&mut self) {
        self.asked.values_mut().for_each(|asked| asked.in_flight = false);
    }

    /// The pod is on its way out.
    pub fn ends(&mut self) {
        self.ending = true;
    }

    /// An answer came; one that nobody waits for any more changes nothing.
    pub fn answered(&mut self, now: Now, kind: ProbeKind, result: &ProbeResult) -> Turn {
        let was_ready = self.is_ready();
        let Some(asked) = self.asked.get_mut(&kind).filter(|asked| asked.in_flight) else { return Turn::None };
        asked.in_flight = false;
        asked.next = now.mono + asked.spec.period;
        let good = match result {
            ProbeResult::Success | ProbeResult::Warning(_) => true,
            ProbeResult::Failure(_) => false,
            // What cannot be asked keeps its state, but nobody waits for ever
            // for the first answer.
            ProbeResult::Unknown(_) => {
                asked.errors = asked.errors.saturating_add(1);
                self.adopted &= asked.errors < asked.spec.failure;
                return if self.is_ready() == was_ready { Turn::None } else { Turn::Readiness };
            }
        };
        asked.errors = 0;
        asked.row = if asked.row.0 == good { (good, asked.row.1.saturating_add(1)) } else { (good, 1) };
        if asked.row.1 < if good { asked.spec.success } else { asked.spec.failure } {
            return Turn::None;
        }
        let before = asked.verdict.replace(good);
        match kind {
            ProbeKind::Readiness if self.is_ready() != was_ready => Turn::Readiness,
            ProbeKind::Startup if good && before != Some(true) => Turn::Started,
            ProbeKind::Startup | ProbeKind::Liveness if !good && before != Some(false) => Turn::Kill(kind),
            ProbeKind::Readiness | ProbeKind::Startup | ProbeKind::Liveness => Turn::None,
        }
    }
}

/// A startup probe is asked until it succeeded, the others after that; after a
/// deadly verdict nothing is asked until another instance runs.
fn applies(kind: ProbeKind, asked: &Asked, started: bool) -> bool {
    match kind {
        ProbeKind::Startup => asked.verdict.is_none(),
        ProbeKind::Liveness => started && asked.verdict != Some(false),
        ProbeKind::Readiness => started,
    }
}

fn timing(probe: &kube::Probe) -> Timing {
    let count = |value: Option<i32>, default: u32| value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default);
    Timing {
        period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
        success: count(probe.success_threshold, 1),
        failure: count(probe.failure_threshold, 3),
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::now::Wall;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(1_800_000_000_000) }
    }

    fn probes(json: &str, adopted: bool) -> Probes {
        Probes::new("c".into(), 0, &kube::read(json).expect("a container"), at(0), at(0).mono, adopted)
    }

    const BAD: ProbeResult = ProbeResult::Failure(String::new());

    /// The probe is run, and answered so.
    fn asked(probes: &mut Probes, now: Now, kind: ProbeKind, result: &ProbeResult) -> Turn {
        probes.begun(kind);
        probes.answered(now, kind, result)
    }

    #[test]
    fn a_container_without_probes_is_ready_at_once() {
        assert_eq!(probes("{}", false).is_ready(), Some(true));
    }

    #[test]
    fn three_failures_kill_once() {
        let mut probes = probes(r#"{"livenessProbe":{"exec":{"command":["x"]},"periodSeconds":1}}"#, false);
        let turns: Vec<Turn> = (0..5).map(|second| asked(&mut probes, at(second), ProbeKind::Liveness, &BAD)).collect();
        assert_eq!(turns, [Turn::None, Turn::None, Turn::Kill(ProbeKind::Liveness), Turn::None, Turn::None]);
        assert_eq!(probes.deadline(), None);
    }

    #[test]
    fn a_startup_probe_holds_the_others_back() {
        let mut probes = probes(r#"{"startupProbe":{"exec":{"command":["x"]}},"readinessProbe":{"exec":{"command":["x"]},"initialDelaySeconds":3}}"#, false);
        assert_eq!(probes.due(at(0)), [ProbeKind::Startup]);
        probes.begun(ProbeKind::Startup);
        assert_eq!(probes.due(at(5)), []);
        assert_eq!(probes.answered(at(5), ProbeKind::Startup, &ProbeResult::Success), Turn::Started);
        assert_eq!((probes.due(at(5)), probes.is_ready()), (vec![ProbeKind::Readiness], Some(false)));
        assert_eq!(asked(&mut probes, at(5), ProbeKind::Readiness, &ProbeResult::Success), Turn::Readiness);
        assert_eq!(asked(&mut probes, at(15), ProbeKind::Readiness, &ProbeResult::Unknown("busy".into())), Turn::None);
        assert_eq!(probes.is_ready(), Some(true));
    }

    #[test]
    fn an_agent_restart_does_not_take_a_ready_container_out() {
        let mut adopted = probes(r#"{"readinessProbe":{"exec":{"command":["x"]}}}"#, true);
        assert_eq!(adopted.is_ready(), None);
        asked(&mut adopted, at(0), ProbeKind::Readiness, &ProbeResult::Success);
        assert_eq!(adopted.is_ready(), Some(true));
    }

    #[test]
    fn a_probe_that_cannot_be_asked_keeps_the_state_and_is_asked_again() {
        const LOST: ProbeResult = ProbeResult::Unknown(String::new());
        let mut fresh = probes(r#"{"startupProbe":{"exec":{"command":["x"]},"periodSeconds":2}}"#, false);
        for second in [0, 2, 4, 6] {
            assert_eq!(fresh.due(at(second)), [ProbeKind::Startup]);
            assert_eq!(asked(&mut fresh, at(second), ProbeKind::Startup, &LOST), Turn::None);
            assert_eq!((fresh.is_started(), fresh.deadline()), (false, Some(at(second + 2).mono)));
        }
        // Whether an adopted container is ready must be told some day.
        let mut adopted = probes(r#"{"readinessProbe":{"exec":{"command":["x"]}}}"#, true);
        let ready: Vec<_> = (0..3).map(|second| (asked(&mut adopted, at(second), ProbeKind::Readiness, &LOST), adopted.is_ready()).1).collect();
        assert_eq!(ready, [None, None, Some(false)]);
    }

    #[test]
    fn a_dropped_probe_is_asked_again_and_its_late_answer_counts_no_more() {
        let mut probes = probes(r#"{"livenessProbe":{"exec":{"command":["x"]},"failureThreshold":1}}"#, false);
        probes.begun(ProbeKind::Liveness);
        probes.dropped();
        assert_eq!(probes.due(at(1)), [ProbeKind::Liveness]);
        assert_eq!(probes.answered(at(1), ProbeKind::Liveness, &BAD), Turn::None);
        assert_eq!(asked(&mut probes, at(1), ProbeKind::Liveness, &BAD), Turn::Kill(ProbeKind::Liveness));
    }

    #[test]
    fn a_pod_on_its_way_out_is_asked_for_its_readiness_only() {
        let mut probes = probes(r#"{"livenessProbe":{"exec":{"command":["x"]}},"readinessProbe":{"exec":{"command":["x"]}}}"#, false);
        probes.ends();
        assert_eq!(probes.due(at(0)), [ProbeKind::Readiness]);
        probes.begun(ProbeKind::Readiness);
        assert_eq!(probes.deadline(), None);
    }
}
