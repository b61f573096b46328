//! Pods that make room when disk or memory runs out.

use std::time::Duration;

use selvedge::config::Eviction;
use selvedge::node::runtime::ContainerUsage;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::world::Network;

const LOOK: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// The machine is looked at so often.
fn look(world: &mut World, times: u32) {
    for _ in 0..times {
        world.look_at_machine();
        world.run(LOOK);
    }
}

fn running(seed: u64, pods: &[(&str, Value)]) -> World {
    let mut world = World::ready(seed);
    for (name, more) in pods {
        world.apply_pod(name, &["runs"], more.clone());
    }
    world.run(LOOK);
    world
}

fn uses_memory(world: &mut World, pod: &str, memory: u64) {
    world.runtime.uses.insert(pod.to_owned(), (ContainerUsage { memory, disk: 0 }, 0));
}

fn condition(world: &World, kind: &str) -> Option<String> {
    let node = world.cloud.objects().get(&selvedge::cloud::objects::name("node", "", "edge"))?;
    selvedge::cloud::objects::condition(node, kind).map(str::to_owned)
}

fn evicted(world: &World) -> Vec<String> {
    let is_evicted = |pod: &Value| pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "Evicted";
    world.pods().into_iter().filter(|(_, pod)| is_evicted(pod)).filter_map(|(_, pod)| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_pod_that_overfills_its_volume_goes_and_the_volume_with_it() {
    let scratch = json!({ "volumes": [{ "name": "scratch", "emptyDir": { "sizeLimit": "1Mi" } }], "terminationGracePeriodSeconds": 60 });
    let mut world = running(1, &[("log", scratch), ("other", json!({}))]);
    world.runtime.uses.insert("log".into(), (ContainerUsage::default(), MIB));
    look(&mut world, 2);
    assert_eq!(evicted(&world), Vec::<String>::new(), "exactly as much as it may");
    world.runtime.uses.insert("log".into(), (ContainerUsage::default(), 2 * MIB));
    look(&mut world, 1);
    assert_eq!(evicted(&world), ["log"]);
    let status = &world.pod("log").expect("it is shown")["status"];
    assert_eq!(status["message"], "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ");
    let disrupted = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "DisruptionTarget");
    assert_eq!(disrupted.map(|condition| &condition["reason"]), Some(&json!("TerminationByKubelet")));
    assert_eq!(world.runtime.emptied.len(), 1);
    // It stays so.
    world.kill();
    world.start();
    look(&mut world, 3);
    assert_eq!((evicted(&world), world.is_ready("other")), (vec!["log".to_owned()], true));
    assert_eq!(world.runtime.starts[&("log".to_owned(), "c".to_owned())], 1);
}

#[test]
fn the_greediest_pod_goes_and_no_more_than_must() {
    let asks =
        |memory: &str| json!({ "containers": [{ "name": "c", "image": "busybox:1", "command": ["runs"], "resources": { "requests": { "memory": memory } } }] });
    let pods = [("modest", asks("300Mi")), ("greedy", asks("10Mi")), ("large", asks("200Mi")), ("vital", json!({ "priority": 2_000_000_000 }))];
    let mut world = running(2, &pods);
    for (pod, memory) in [("modest", 290), ("greedy", 150), ("large", 250), ("vital", 200)] {
        uses_memory(&mut world, pod, memory * MIB);
    }
    world.machine.memory_available = 90 * MIB;
    look(&mut world, 1);
    assert_eq!(evicted(&world), ["greedy"]);
    assert_eq!(condition(&world, "MemoryPressure").as_deref(), Some("True"));
    // It helped.
    world.machine.memory_available = 240 * MIB;
    look(&mut world, 8);
    assert_eq!(evicted(&world), ["greedy"]);
    assert_eq!(condition(&world, "MemoryPressure").as_deref(), Some("True"), "a node that recovered is not trusted at once");
    look(&mut world, 4);
    assert_eq!(condition(&world, "MemoryPressure").as_deref(), Some("False"));
    // It gets worse again.
    world.machine.memory_available = 10 * MIB;
    look(&mut world, 4);
    assert_eq!(evicted(&world), ["greedy", "large", "modest"]);
    assert!(world.is_ready("vital"));
}

#[test]
fn images_go_before_pods_and_new_pods_stay_away() {
    let mut world = running(3, &[("old", json!({}))]);
    world.runtime.uses.insert("old".into(), (ContainerUsage { memory: 0, disk: 50 * MIB }, 0));
    world.machine.disk_available = world.machine.disk / 20;
    look(&mut world, 1);
    world.apply_pod("new", &["runs"], json!({}));
    world.run(LOOK / 2);
    assert_eq!(evicted(&world), ["new"], "the one that was there had its time");
    let message = world.pod("new").expect("it is shown")["status"]["message"].clone();
    assert_eq!(message, "Pod was rejected: The node had condition: [DiskPressure]. ");
    // After a reboot nothing runs yet, the disk is as it was and the cloud is gone.
    world.set_network(Network::Cut);
    world.reboot();
    world.run(LOOK / 3);
    assert_eq!(world.runtime.starts[&("old".to_owned(), "c".to_owned())], 2);
    world.set_network(Network::Up);
    world.run(LOOK);
    assert!(world.is_ready("old"));
    look(&mut world, 2);
    assert_eq!(evicted(&world), ["new", "old"]);
}

#[test]
fn who_keeps_nothing_free_has_no_eviction() {
    let mut world = World::new(4);
    world.kill();
    world.config.edged.eviction = Eviction::default();
    world.start();
    world.run(LOOK);
    world.apply_pod("pod", &["runs"], json!({}));
    world.machine.memory_available = MIB;
    world.machine.disk_available = MIB;
    look(&mut world, 5);
    assert!(world.is_ready("pod"));
    assert_eq!(condition(&world, "DiskPressure").as_deref(), Some("False"));
}
