//! What was told of an end holds, whatever restarts and whatever is forgotten.

use std::time::Duration;

use selvedge::cloud::objects::condition;
use selvedge::wire::rfc3339;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::answer::Answer;
use crate::sim::world::Network;

const SECOND: Duration = Duration::from_secs(1);

fn status(world: &World) -> Value {
    world.pod("p").expect("it is there")["status"].clone()
}

fn starts(world: &World) -> u32 {
    world.runtime.starts.values().sum()
}

/// How an agent and what it has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    Agent,
    Machine,
    /// And nothing is left in the runtime.
    Wiped,
    /// Nor did the cloud hear of the end before.
    WipedOffline,
}

const RESTARTS: [Restart; 4] = [Restart::Agent, Restart::Machine, Restart::Wiped, Restart::WipedOffline];

fn restart(world: &mut World, how: Restart) {
    match how {
        Restart::Agent => {
            world.kill();
            world.start();
        }
        Restart::Machine => world.reboot(),
        Restart::Wiped | Restart::WipedOffline => {
            world.kill();
            world.runtime.wiped();
            world.start();
        }
    }
    world.set_network(Network::Up);
    world.run(60 * SECOND);
}

/// A world whose pod `p` has ended, and what was told of that. When `offline`,
/// the cloud only hears of it after the restart.
fn ended(seed: u64, command: &[&str], more: Value, how: Restart) -> World {
    let mut world = World::ready(seed);
    world.apply_pod("p", command, more);
    world.run(Duration::from_millis(500));
    if how == Restart::WipedOffline {
        world.set_network(Network::Cut);
    }
    world.run(20 * SECOND);
    world
}

#[test]
fn the_end_of_a_pod_outlives_agent_machine_and_runtime() {
    for how in RESTARTS {
        for (code, phase, reason) in [("0", "Succeeded", "Completed"), ("3", "Failed", "Error")] {
            let init = json!([{ "name": "i", "image": "busybox:1", "command": ["ends", "100", "0"] }]);
            let more = json!({ "restartPolicy": "Never", "initContainers": init });
            let mut world = ended(80, &["ends", "2000", code], more, how);
            let before = status(&world);
            restart(&mut world, how);
            let after = status(&world);
            let ended = &after["containerStatuses"][0]["state"]["terminated"];
            assert_eq!((after["phase"].as_str(), ended["reason"].as_str()), (Some(phase), Some(reason)), "{how:?} {after:#}");
            assert_eq!(ended["exitCode"].to_string(), code);
            assert_eq!(after["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0, "{how:?} {after:#}");
            assert_eq!((&after["startTime"], starts(&world)), (&before["startTime"], 2), "{how:?}: it does not run again");
            if how != Restart::WipedOffline {
                assert_eq!(after, before, "{how:?}");
            }
        }
    }
}

/// A status but for which generation it tells of: a deletion is a new one.
fn without_generations(mut status: Value) -> Value {
    let forget = |value: &mut Value| drop(value.as_object_mut().and_then(|members| members.remove("observedGeneration")));
    forget(&mut status);
    status["conditions"].as_array_mut().into_iter().flatten().for_each(forget);
    status
}

#[test]
fn a_pod_that_waits_for_a_finalizer_keeps_its_end() {
    for how in [Restart::Agent, Restart::Machine, Restart::Wiped] {
        for ended in [true, false] {
            let mut world = World::ready(81);
            let command: &[&str] = if ended { &["ends", "1000", "0"] } else { &["runs"] };
            world.apply_pod("p", command, json!({ "restartPolicy": "Never" }));
            world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/wait"]));
            world.run(5 * SECOND);
            world.delete("p", None);
            world.run(10 * SECOND);
            let before = without_generations(status(&world));
            assert_eq!(before["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0, "{before:#}");
            for _ in 0..2 {
                restart(&mut world, how);
                assert_eq!((without_generations(status(&world)), starts(&world)), (before.clone(), 1), "{how:?}, ended before: {ended}");
            }
            assert!(world.runtime.pods.is_empty() && world.directories().is_empty());
            world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!([]));
            world.run(5 * SECOND);
            assert!(world.pod("p").is_none());
            restart(&mut world, how);
            assert!(world.disk.rows.keys().all(|key| !format!("{key:?}").starts_with("PodRecord")), "{:?}", world.disk.rows.keys());
        }
    }
}

#[test]
fn a_pod_that_was_ended_or_never_let_in_keeps_its_reason() {
    for how in RESTARTS {
        for (reason, more) in [
            ("DeadlineExceeded", json!({ "activeDeadlineSeconds": 2 })),
            ("SysctlForbidden", json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] } })),
        ] {
            let mut world = ended(82, &["runs"], more, how);
            let before = status(&world);
            restart(&mut world, how);
            let after = status(&world);
            assert_eq!((after["phase"].as_str(), after["reason"].as_str()), (Some("Failed"), Some(reason)), "{how:?} {after:#}");
            assert!(world.runtime.running().is_empty());
            if how != Restart::WipedOffline {
                assert_eq!(after, before, "{how:?} {reason}");
            }
        }
    }
}

/// A controller, or a cloud that was restored from a backup, writes an older status.
#[test]
fn a_phase_never_goes_back() {
    for restarts in [false, true] {
        let mut world = ended(83, &["ends", "1000", "0"], json!({ "restartPolicy": "Never" }), Restart::Agent);
        let before = status(&world);
        if restarts {
            world.kill();
            world.runtime.wiped();
        }
        world.edit_pod("p", |pod| {
            pod["status"]["phase"] = "Running".into();
            pod["status"]["startTime"] = "2020-01-01T00:00:00Z".into();
            pod["status"]["containerStatuses"] = json!([]);
        });
        if restarts {
            world.start();
        }
        world.run(60 * SECOND);
        assert_eq!((status(&world), starts(&world)), (before, 1), "restarts: {restarts}");
    }
}

#[test]
fn a_running_pod_keeps_its_start_its_count_and_its_last_end() {
    for how in [Restart::Agent, Restart::Wiped] {
        let mut world = World::ready(84);
        world.apply_pod("p", &["runs"], json!({}));
        world.run(5 * SECOND);
        let id = world.runtime.running_ids().remove(0);
        world.crash(&id);
        world.run(60 * SECOND);
        let before = status(&world);
        assert_eq!(before["containerStatuses"][0]["restartCount"], 1);
        restart(&mut world, how);
        let after = status(&world);
        let container = &after["containerStatuses"][0];
        assert_eq!((condition(world.pod("p").expect("it is there"), "Ready"), &after["startTime"]), (Some("True"), &before["startTime"]));
        assert_eq!(container["lastState"], before["containerStatuses"][0]["lastState"], "{how:?}");
        assert!(container["restartCount"].as_i64() >= Some(1), "{how:?} {container}");
    }
}

#[test]
fn an_end_is_told_and_kept_when_the_disk_takes_nothing() {
    let mut world = World::ready(85);
    world.apply_pod("p", &["ends", "2000", "0"], json!({ "restartPolicy": "Never" }));
    world.run(SECOND);
    world.set_disk_full(true);
    world.run(10 * SECOND);
    assert_eq!(world.phase("p"), Some("Succeeded"), "telling does not wait for the disk");
    world.set_disk_full(false);
    world.run(60 * SECOND);
    let before = status(&world);
    restart(&mut world, Restart::Wiped);
    assert_eq!((status(&world), starts(&world)), (before, 1));
}

/// The store was written by an agent that kept no records.
#[test]
fn an_end_that_only_the_cloud_knows_is_not_overwritten() {
    let mut world = ended(86, &["ends", "1000", "0"], json!({ "restartPolicy": "Never" }), Restart::Agent);
    let before = status(&world);
    world.kill();
    world.runtime.wiped();
    world.disk.rows.retain(|key, _| !format!("{key:?}").starts_with("PodRecord"));
    world.start();
    world.run(60 * SECOND);
    assert_eq!((status(&world), starts(&world)), (before, 1));
    world.delete("p", None);
    world.run(5 * SECOND);
    assert!(world.pod("p").is_none() && world.directories().is_empty());
}

/// A pod that has just ended is deleted, and what the node and the cloud tell each
/// other crosses on its way: the phases that a watcher sees.
#[test]
fn a_terminal_phase_is_never_taken_back() {
    for seed in 0..160 {
        let mut world = World::ready(seed);
        let mut any = |of: u64| usize::try_from(world.pick(of)).expect("small");
        let (code, stops, sidecars, grace) = (["0", "1"][any(2)], ["runs", "ignores"][any(2)], any(2), [None, Some(0), Some(1)][any(3)]);
        let (is_stuck, killed) = (any(2) == 0, 1 + any(100));
        let sidecar = json!({ "name": "s", "image": "busybox:1", "restartPolicy": "Always", "command": [stops] });
        world.apply_pod("p", &["ends", "300", code], json!({ "restartPolicy": "Never", "initContainers": vec![sidecar; sidecars] }));
        world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/wait"]));
        world.run(Duration::from_millis(300));
        let runs = |world: &World| world.runtime.running().iter().any(|(_, container)| container == "c");
        while runs(&world) {
            world.run(Duration::from_millis(1));
        }
        if is_stuck {
            world.runtime.answers.insert(("p".to_owned(), "stop"), Answer::Refused("Internal"));
        }
        let mut told = Vec::new();
        for millis in 0..2000 {
            if millis == seed % 20 {
                world.delete("p", grace);
            }
            if millis == u64::try_from(killed).expect("small") && seed % 3 == 0 {
                world.kill();
                world.start();
            }
            if millis == 1000 {
                world.runtime.answers.clear();
            }
            world.run(Duration::from_millis(1));
            let phase = world.phase("p").unwrap_or_default().to_owned();
            if told.last() != Some(&phase) {
                told.push(phase);
            }
        }
        world.run(60 * SECOND);
        let end = told.iter().position(|phase| matches!(phase.as_str(), "Succeeded" | "Failed")).unwrap_or(told.len());
        assert!(told.len() <= end + 1, "world {seed}, deleted with {grace:?}: {told:?}");
        assert!(matches!(world.phase("p"), Some("Succeeded" | "Failed")), "world {seed}: {told:?}");
    }
}

/// What waits for a pod to have been ready for a while does not begin anew.
#[test]
fn conditions_of_a_running_pod_are_as_old_as_it_is_after_a_restart_of_the_agent() {
    let mut world = World::ready(87);
    let init = json!([{ "name": "i", "image": "busybox:1", "command": ["ends", "2000", "0"] }]);
    let probe = json!({ "exec": { "command": ["well"] }, "periodSeconds": 1, "initialDelaySeconds": 2 });
    let main = json!([{ "name": "c", "image": "busybox:1", "command": ["runs"], "readinessProbe": probe }]);
    world.apply_pod("p", &[], json!({ "initContainers": init, "containers": main }));
    world.run(60 * SECOND);
    let since = |world: &World| -> Vec<(String, i64)> {
        let conditions = status(world)["conditions"].as_array().expect("conditions").clone();
        let of = |condition: &Value| {
            let text = |member: &str| condition[member].as_str().expect("a text").to_owned();
            (format!("{} {}", text("type"), text("status")), rfc3339::parse(&text("lastTransitionTime")).expect("a time") / 1000)
        };
        conditions.iter().map(of).collect()
    };
    let before = since(&world);
    assert!(before.iter().all(|(condition, _)| condition.ends_with("True")), "{before:?}");
    for _ in 0..2 {
        world.kill();
        world.run(100 * SECOND);
        world.start();
        world.run(60 * SECOND);
        let after = since(&world);
        for ((condition, old), (same, new)) in before.iter().zip(&after) {
            assert!(condition == same && (old - new).abs() <= 3, "{condition}: {old} and then {new}");
        }
    }
}
