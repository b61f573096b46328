//! What follows from an input: every machine does what is due, or the pods alone.

use super::ids::Ticket;
use super::input::Input;
use super::now::Now;
use super::pod::World;
use super::{Node, link, orphans, reports, sources};
use crate::wire::message::{EDGED, META, json, operation};
use crate::wire::resource::{Resource, kind};

/// Whether something that the Node object tells may follow from an input; answers
/// of the cloud say so themselves.
pub(super) fn concerns_node(input: &Input) -> bool {
    match input {
        Input::Stored(_)
        | Input::Received(..)
        | Input::Garbled(..)
        | Input::Seen(_)
        | Input::Directories(_)
        | Input::Done { .. }
        | Input::Probed { .. }
        | Input::Published(_)
        | Input::ServiceAsked { .. }
        | Input::ServiceAnswered { .. }
        | Input::MapperAsked(..)
        | Input::MapperAnswered(..)
        | Input::BusUp { .. }
        | Input::BusDown(_)
        | Input::Asked(..) => false,
        Input::StoreHealth(_)
        | Input::LinkUp(_)
        | Input::LinkDown { .. }
        | Input::RuntimeUp(_)
        | Input::RuntimeDown(_)
        | Input::Relisted(_)
        | Input::Images(_)
        | Input::Usage(_)
        | Input::Facts(_)
        | Input::Stop => true,
    }
}

impl Node {
    /// Lets every machine do what is due.
    pub(super) fn work(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        self.link.on_deadline(now, &mut self.chance);
        for late in self.link.expired(now) {
            self.presence_due = true;
            self.unanswered(now, late);
        }
        if self.lost.is_none() && self.recall < orphans::Recall::All && self.disk.pending() == 0 {
            self.pods.clean_up(now);
        }
        self.plan_pods(now);
        self.tell_mappers(now);
        self.note_events(now);
        self.answer_watchers(now);
        if self.link.session().is_some() {
            self.talk(now);
        }
    }

    /// After an input from which nothing but pods can follow: it costs what it
    /// changed.
    pub(super) fn work_on_pods(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        self.plan_pods(now);
        self.note_events(now);
        if self.link.session().is_some() && self.presence.is_registered() {
            self.tell_of_pods(now);
        }
    }

    fn plan_pods(&mut self, now: Now) {
        let world = World {
            config: &self.settings.edged,
            pressure: self.gauge.pressure(),
            node: &self.settings.node.name,
            labels: &self.presence.labels,
            facts: &self.facts,
            systemd: self.settings.edged.systemd_cgroups.or(self.runtime.info.systemd_cgroups).unwrap_or(false),
            runtime: &self.runtime.info.name,
            strict_groups: self.runtime.info.strict_groups,
            sources: &sources::Known { meta: &self.meta, requests: &self.requests },
            whole: self.lost.is_none(),
        };
        if self.facts_known {
            self.pods.work(now, &world);
        }
        self.record_pods();
    }

    /// What is due to the cloud, the pulse first.
    fn talk(&mut self, now: Now) {
        let is_due = self.presence.deadline().is_some_and(|(at, _)| at <= now.mono);
        if std::mem::take(&mut self.presence_due) || is_due {
            let health = self.health();
            self.presence.work(now, &self.facts, &health, &mut self.link, &mut self.chance);
        }
        self.tell_of_devices(now);
        self.requests.begin();
        if self.presence.is_registered() {
            self.recall_pods(now);
            self.ask(now);
            self.tell_of_pods(now);
        }
    }

    /// Statuses and Events.
    fn tell_of_pods(&mut self, now: Now) {
        // Stopping and removing never wait for the disk.
        let on_disk = if self.disk.trouble.is_some() { Ticket(u64::MAX) } else { self.disk.done() };
        reports::send(&mut self.pods, on_disk, &mut self.requests, &mut self.link, now, &mut self.chance);
        while let Some((said, row)) = self.events.poll() {
            row.into_iter().for_each(|row| self.disk.remove_lazily(row));
            let resource = Resource::new(&said.namespace, kind::EVENT, &said.name).to_string();
            let verb = if said.new { operation::INSERT } else { operation::UPDATE };
            self.link.tell(link::message(now, &mut self.chance, EDGED, META, verb, resource, json(&said.event)));
        }
    }

    pub(super) fn tell_of_devices(&mut self, now: Now) {
        if self.link.session().is_some() && self.presence.is_registered() && !self.stopping {
            self.talk_of_devices(now);
        }
    }

    fn note_events(&mut self, now: Now) {
        for (uid, key, notes) in self.pods.take_events() {
            for note in notes {
                if key.name.is_empty() {
                    log::warn!(target: "edged", "pod '{uid}': {}", note.message);
                    continue;
                }
                if note.warning {
                    log::debug!(target: "edged", "pod '{key}': {}: {}", note.reason, note.message);
                }
                self.events.note(now, ["Pod", &key.namespace, &key.name, uid.as_str()], &note, &mut self.chance);
            }
        }
        if self.link.session().is_none() {
            let changes = self.events.kept();
            if !changes.is_empty() {
                self.disk.join(changes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fmt::Write;

    use super::*;
    use crate::config::file;
    use crate::node::Restored;
    use crate::node::ids::{PodKey, Ticket};
    use crate::node::machine::Facts;
    use crate::node::now::{Mono, Wall};
    use crate::node::pod::probing::tests::LOOKED_AT;
    use crate::node::pod::view::tests::COMPARED;
    use crate::node::runtime::{ContainerSeen, ContainerState, Order, PodSeen, ProbeResult, RuntimeInfo, SandboxSeen};
    use crate::node::store::{Key, Row, Rows};

    fn at(millis: u64) -> Now {
        let wall = 1_800_000_000_000 + i64::try_from(millis).expect("small");
        Now { mono: Mono(millis * 1_000_000), wall: Wall(wall) }
    }

    fn uid(pod: usize) -> String {
        format!("u{pod:03}")
    }

    fn seen(pod: usize, containers: usize, restarts: u32) -> PodSeen {
        let key = PodKey { namespace: "default".into(), name: format!("p{pod:03}") };
        let sandbox = SandboxSeen { id: "s".into(), attempt: 0, ready: true, created: Wall(1), ips: vec!["10.0.0.1".into()], annotations: [].into() };
        let container = |number| ContainerSeen {
            id: format!("{pod}-{number}-{restarts}").into(),
            sandbox: "s".into(),
            name: format!("c{number}"),
            restarts,
            image: String::new(),
            image_id: String::new(),
            state: ContainerState::Running { started: Wall(1) },
            annotations: [].into(),
        };
        PodSeen { uid: uid(pod).as_str().into(), key, sandboxes: vec![sandbox], containers: (0..containers).map(container).collect() }
    }

    /// A node whose pods run already, and have done what follows a start.
    fn node(pods: usize, containers: usize) -> Node {
        let mut rows = Vec::new();
        for pod in 0..pods {
            let mut list = String::new();
            for number in 0..containers {
                let comma = if number == 0 { "" } else { "," };
                let probe = r#"{"exec":{"command":["x"]},"periodSeconds":1}"#;
                write!(list, r#"{comma}{{"name":"c{number}","image":"i:1","livenessProbe":{probe}}}"#).expect("a text");
            }
            let json = format!(r#"{{"metadata":{{"namespace":"default","name":"p{pod:03}","uid":"{}"}},"spec":{{"containers":[{list}]}}}}"#, uid(pod));
            rows.push((Key::Object(format!("default/pod/p{pod:03}").as_str().into()), Row::Object(json)));
        }
        let rows = Rows::new(rows).expect("rows of their tables");
        let config = file::parse("[node]\nname = \"edge\"\n", "edge").expect("a configuration");
        let mut node = Node::new(config, Restored { rows, last: Ticket(1), lost: None }, 1, at(0));
        let machine = Facts { cpus: 4, memory: 1 << 30, memory_available: 1 << 29, ..Facts::default() };
        node.handle(at(0), Input::Facts(Box::new(machine)));
        node.handle(at(1), Input::RuntimeUp(RuntimeInfo::default()));
        node.handle(at(2), Input::Relisted((0..pods).map(|pod| seen(pod, containers, 0)).collect()));
        answer_probes(&mut node, at(3));
        node
    }

    /// All is well; how many probes there were.
    fn answer_probes(node: &mut Node, now: Now) -> usize {
        let mut answers = 0;
        while let Some(order) = node.poll_runtime() {
            if let Order::Probe(probe) = order {
                let answer = Input::Probed { pod: probe.pod, container: probe.container, kind: probe.kind, result: ProbeResult::Success };
                node.handle(now, answer);
                answers += 1;
            }
        }
        answers
    }

    #[test]
    fn an_input_plans_the_pod_it_is_about() {
        let mut node = node(50, 1);
        let before = node.pods.planned();
        node.handle(at(10), Input::Seen(seen(7, 1, 1)));
        assert_eq!(node.pods.planned(), before + 1);
        // An answer like the one before plans nothing.
        for second in 1..100 {
            node.on_deadline(at(second * 1000 + 3));
            let answers = answer_probes(&mut node, at(second * 1000 + 3));
            assert!((49..=50).contains(&answers), "{answers} probes in second {second}");
        }
        let planned = node.pods.planned() - before;
        assert!(planned < 400, "{planned} plans of 50 pods that did nothing for 100 s");
    }

    /// Names compared for one change of a pod.
    fn compared(containers: usize) -> u64 {
        let mut node = node(1, containers);
        let before = COMPARED.with(Cell::get);
        node.handle(at(10), Input::Seen(seen(0, containers, 1)));
        COMPARED.with(Cell::get) - before
    }

    /// Containers looked at in ten seconds in which nothing but probes happens, each at
    /// its own time; and the number of probes.
    fn looked_at(containers: usize) -> (u64, u64) {
        let mut node = node(1, containers);
        // Each answer comes a millisecond after the one before, and so do the next probes.
        let mut now = 2000;
        node.on_deadline(at(now));
        let (before, mut probes, end) = (LOOKED_AT.with(Cell::get), 0, 12_000);
        while now < end {
            match node.poll_runtime() {
                Some(Order::Probe(probe)) => {
                    now += 1;
                    probes += 1;
                    let answer = Input::Probed { pod: probe.pod, container: probe.container, kind: probe.kind, result: ProbeResult::Success };
                    node.handle(at(now), answer);
                }
                Some(_) => {}
                None => {
                    now = node.deadline().map_or(end, |(due, _)| due.0.div_ceil(1_000_000)).max(now);
                    node.on_deadline(at(now));
                }
            }
        }
        (LOOKED_AT.with(Cell::get) - before, probes)
    }

    #[test]
    fn a_probe_costs_what_it_is_about() {
        for containers in [10, 100, 800] {
            let (looked_at, probes) = looked_at(containers);
            assert!(probes > 80 && looked_at <= 3 * probes, "{containers} containers: {looked_at} looked at for {probes} probes");
        }
    }

    #[test]
    fn the_work_for_a_pod_grows_as_its_containers() {
        let (few, many) = (compared(100), compared(800));
        // Eight times as many, each found in the logarithm of their number; every
        // one looked for among all would be 64 times the work.
        assert!(few > 0 && many < few * 16, "{few} for 100 containers, {many} for 800");
    }
}
