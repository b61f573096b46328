//! Random worlds against a small reference model: whatever happened, once
//! everything is well again the runtime has exactly what the cluster wants, and
//! nothing that ran was disturbed without a reason.
//!
//! `SELVEDGE_SEED=N cargo test random` repeats one world, `SELVEDGE_WORLDS=N`
//! tries more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use selvedge::cloud::objects::condition;
use serde_json::json;

use crate::sim::World;
use crate::sim::world::Network;

const SECOND: Duration = Duration::from_secs(1);

/// What the model knows of a pod by its name.
#[derive(Debug, Default)]
struct Known {
    /// Pods of this name that were created.
    created: u32,
    /// Reasons for a container to be started once more.
    excuses: u32,
    /// It was deleted at some time.
    deleted: bool,
}

#[derive(Default)]
struct Model {
    pods: BTreeMap<String, Known>,
    maps: BTreeSet<String>,
    down: bool,
}

impl Model {
    /// Something happens.
    fn act(&mut self, world: &mut World) -> String {
        let number = world.pick(12);
        let name = format!("p{number}");
        match world.pick(25) {
            0..5 => self.create(world, &name),
            5..8 => {
                let grace = [None, Some(0), Some(1)][usize::try_from(world.pick(3)).expect("small")];
                self.pods.entry(name.clone()).or_default().deleted = true;
                world.delete(&name, grace);
                format!("delete {name} {grace:?}")
            }
            8..10 => {
                self.forgets(world);
                world.kill();
                let wait = world.pick(20_000);
                world.run(Duration::from_millis(wait));
                world.start();
                self.down = false;
                format!("agent killed for {wait} ms")
            }
            10 => {
                self.forgets(world);
                self.pods.values_mut().for_each(|pod| pod.excuses += 1);
                world.reboot();
                self.down = false;
                "reboot".to_owned()
            }
            11..13 => {
                let network = [Network::Cut, Network::Frozen, Network::Up][usize::try_from(world.pick(3)).expect("small")];
                world.set_network(network);
                format!("network {network:?}")
            }
            13..15 => {
                world.set_network(Network::Up);
                "network Up".to_owned()
            }
            15 => {
                let full = !world.disk.full;
                world.set_disk_full(full);
                format!("disk full {full}")
            }
            16 => {
                self.down = !self.down;
                world.set_runtime(!self.down);
                format!("runtime down {}", self.down)
            }
            17..19 => self.crash(world),
            19 => {
                let map = format!("m{}", world.pick(3));
                let text = world.pick(1000).to_string();
                world.apply(json!({ "kind": "ConfigMap", "metadata": { "name": map }, "data": { "key": text } }));
                self.maps.insert(map.clone());
                format!("configmap {map}")
            }
            20 => {
                let step = [-3_600_000, 3_600_000, 40_000_000][usize::try_from(world.pick(3)).expect("small")];
                world.step_calendar(step);
                format!("calendar {step}")
            }
            21..23 => self.probes(world, &name),
            23 => {
                world.machine.disk_available = if world.pick(2) == 0 { world.machine.disk / 2 } else { world.machine.disk / 8 };
                world.look_at_machine();
                format!("{} bytes of disk are free", world.machine.disk_available)
            }
            _ => "time passes".to_owned(),
        }
    }

    /// The probes of a pod fail from now on, or no more.
    fn probes(&mut self, world: &mut World, name: &str) -> String {
        let unhealthy = &mut world.runtime.unhealthy;
        if !unhealthy.remove(name) {
            unhealthy.insert(name.to_owned());
        }
        format!("{name} is unhealthy: {}", unhealthy.contains(name))
    }

    /// An agent that dies while its disk is full does not know afterwards which
    /// pods were deleted meanwhile, and starts them until it is told again.
    fn forgets(&mut self, world: &World) {
        if world.disk.full {
            self.pods.values_mut().filter(|pod| pod.deleted).for_each(|pod| pod.excuses += 1);
        }
    }

    fn create(&mut self, world: &mut World, name: &str) -> String {
        if world.pod(name).is_some() {
            return "nothing".to_owned();
        }
        self.pods.entry(name.to_owned()).or_default().created += 1;
        let probe = json!({ "httpGet": { "port": 80 }, "periodSeconds": 5 });
        let container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"], "readinessProbe": probe });
        let probed = if world.pick(2) == 0 { json!({}) } else { json!({ "containers": [container] }) };
        let (command, more) = match world.pick(7) {
            0 => (vec!["ignores"], json!({})),
            1 => (vec!["ends", "3000", "0"], json!({ "restartPolicy": "Never" })),
            2 => (vec!["ends", "3000", "1"], json!({ "restartPolicy": "Never" })),
            3 => {
                let map = format!("m{}", world.pick(3));
                (vec!["runs"], json!({ "volumes": [{ "name": "v", "configMap": { "name": map } }] }))
            }
            _ => (vec!["runs"], probed),
        };
        world.apply_pod(name, &command, more);
        format!("create {name} {command:?}")
    }

    fn crash(&mut self, world: &mut World) -> String {
        let running = world.runtime.running_ids();
        if running.is_empty() {
            return "nothing".to_owned();
        }
        let at = usize::try_from(world.pick(running.len() as u64)).expect("small");
        let id = &running[at];
        let name = world
            .runtime
            .pods
            .values()
            .find(|pod| pod.containers.iter().any(|container| container.id == *id))
            .map(|pod| pod.key.name.clone())
            .expect("it is there");
        self.pods.entry(name.clone()).or_default().excuses += 1;
        world.crash(id);
        format!("crash in {name}")
    }

    /// Everything is as it should be, now that nothing disturbs any more.
    fn check(&self, world: &World) {
        assert_eq!(world.node_ready(), Some("True"), "the node is ready");
        let pods = world.pods();
        for (name, pod) in &pods {
            let of = &name.2;
            assert!(pod["metadata"]["deletionTimestamp"].is_null(), "pod {of} is still ending: {:#}", pod["status"]);
            let running = world.runtime.running().iter().filter(|(pod, _)| pod == of).count();
            let phase = pod["status"]["phase"].as_str();
            let lacks = pod["spec"]["volumes"][0]["configMap"]["name"].as_str().is_some_and(|map| !self.maps.contains(map));
            if pod["spec"]["restartPolicy"] == "Never" {
                assert!(matches!(phase, Some("Succeeded" | "Failed")) && running == 0, "job {of} is over: {phase:?}");
            } else if lacks {
                assert_eq!((phase, running), (Some("Pending"), 0), "pod {of} lacks its ConfigMap");
            } else {
                let probed = !pod["spec"]["containers"][0]["readinessProbe"].is_null();
                let ready = if probed && world.runtime.unhealthy.contains(of) { "False" } else { "True" };
                assert_eq!((phase, condition(pod, "Ready"), running), (Some("Running"), Some(ready), 1), "pod {of}: {:#}", pod["status"]);
            }
        }
        let wanted: BTreeSet<&str> = pods.iter().filter_map(|(_, pod)| pod["metadata"]["uid"].as_str()).collect();
        let there: BTreeSet<&str> = world.runtime.pods.keys().map(|uid| uid.as_str()).collect();
        assert!(there.is_subset(&wanted), "the runtime has pods nobody wants: {there:?} and {wanted:?}");
        let left: Vec<_> = world.runtime.directories.keys().filter(|uid| !wanted.contains(uid.as_str())).collect();
        assert!(left.is_empty(), "directories of pods nobody wants are left over: {left:?}");
        for ((name, _), starts) in &world.runtime.starts {
            let known = &self.pods[name];
            assert!(*starts <= known.created + known.excuses, "pod {name} was started {starts} times: {known:?}");
        }
        for (name, container) in &world.runtime.stopped {
            assert!(self.pods[name].deleted, "container {container} of pod {name} was stopped and nobody asked for it");
        }
    }
}

fn live(seed: u64) {
    let mut world = World::ready(seed);
    let mut model = Model::default();
    let mut story = Vec::new();
    let _story = Story(seed);
    for _ in 0..40 {
        let what = model.act(&mut world);
        let millis = [0, 50, 700, 5_000, 40_000][usize::try_from(world.pick(5)).expect("small")];
        let time = Duration::from_millis(world.pick(millis + 1));
        story.push(format!("{what}, {time:?}"));
        if std::env::var_os("SELVEDGE_SEED").is_some() {
            eprintln!("{}", story.last().expect("just pushed"));
        }
        world.run(time);
    }
    world.set_network(Network::Up);
    world.set_disk_full(false);
    world.set_runtime(true);
    world.run(1200 * SECOND);
    model.check(&world);
}

/// Tells which world it was when a check fails.
struct Story(u64);

impl Drop for Story {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("this world again: SELVEDGE_SEED={} cargo test --features cloud --test selvedge random", self.0);
    }
}

#[test]
fn random_worlds_end_as_they_should() {
    if let Some(seed) = std::env::var("SELVEDGE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return live(seed);
    }
    let worlds = std::env::var("SELVEDGE_WORLDS").ok().and_then(|worlds| worlds.parse().ok()).unwrap_or(60);
    // Some worlds are always the same, most have never been tried before.
    let fresh = RandomState::new().hash_one("worlds") >> 16;
    (1..=worlds / 3).chain(fresh..fresh + worlds - worlds / 3).for_each(live);
}
