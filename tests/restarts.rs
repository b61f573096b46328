//! When an ended container starts again: at once the first time, then after a wait
//! that grows from 10 s to 5 min, whatever ended it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);

/// Parts of a pod that a container may be of.
const PARTS: [&str; 3] = ["containers", "initContainers", "sidecars"];

/// A pod with a container `t` in that part.
fn with(world: &mut World, part: &str, container: &Value) {
    let mut tried = json!({ "name": "t", "image": "busybox:1" });
    for (key, value) in container.as_object().into_iter().flatten() {
        tried[key] = value.clone();
    }
    let main = json!({ "name": "c", "image": "busybox:1", "command": ["runs"] });
    let more = match part {
        "containers" => json!({ "containers": [tried] }),
        "initContainers" => json!({ "initContainers": [tried], "containers": [main] }),
        _ => {
            tried["restartPolicy"] = "Always".into();
            json!({ "initContainers": [tried], "containers": [main] })
        }
    };
    world.apply_pod("p", &[], more);
}

/// The status of container `t`.
fn status(world: &World) -> Value {
    let status = &world.pod("p").expect("it is there")["status"];
    let all = ["initContainerStatuses", "containerStatuses"].map(|list| status[list].as_array().cloned().unwrap_or_default()).concat();
    all.into_iter().find(|container| container["name"] == "t").expect("it has a status")
}

fn starts(world: &World) -> u32 {
    world.runtime.starts.get(&("p".to_owned(), "t".to_owned())).copied().unwrap_or(0)
}

/// Seconds, rounded down, between one start and the next, from now on.
fn pauses(world: &mut World, count: usize) -> Vec<u64> {
    let (mut before, mut at, mut pauses) = (starts(world), world.millis(), Vec::new());
    for _ in 0..60_000 {
        world.run(Duration::from_millis(100));
        if starts(world) > before {
            before = starts(world);
            pauses.push((world.millis() - std::mem::replace(&mut at, world.millis())) / 1000);
        }
        if pauses.len() == count {
            return pauses;
        }
    }
    panic!("only {pauses:?}: {:#}", status(world));
}

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() {
    for part in PARTS {
        for code in ["0", "1"].into_iter().filter(|code| part != "initContainers" || *code != "0") {
            let mut world = World::ready(300);
            with(&mut world, part, &json!({ "command": ["ends", "100", code] }));
            assert_eq!(pauses(&mut world, 9), [0, 0, 10, 20, 40, 80, 160, 300, 300], "{part}, exit code {code}");
            assert_eq!(status(&world)["restartCount"], 8);
        }
    }
}

#[test]
fn a_wait_is_told_as_kubelet_does() {
    for part in PARTS {
        let mut world = World::ready(301);
        with(&mut world, part, &json!({ "command": ["ends", "100", "1"] }));
        world.run(5 * SECOND);
        for (count, wait) in [(1, "10s"), (2, "20s"), (3, "40s"), (4, "1m20s"), (5, "2m40s"), (6, "5m0s"), (7, "5m0s")] {
            let told = status(&world);
            let uid = world.pod("p").expect("it is there")["metadata"]["uid"].as_str().expect("a uid").to_owned();
            let message = format!("back-off {wait} restarting failed container=t pod=p_default({uid})");
            assert_eq!(told["state"], json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } }), "{part}");
            assert_eq!((&told["restartCount"], &told["lastState"]["terminated"]["exitCode"]), (&json!(count), &json!(1)), "{part}");
            pauses(&mut world, 1);
            world.run(SECOND);
        }
        let told = world.events_of("p");
        let back_offs: Vec<_> = told.iter().filter(|((reason, _), _)| reason == "BackOff").collect();
        // The limit of Events of one pod holds back the last ones.
        assert!(matches!(back_offs[..], [((_, text), 3..)] if text.starts_with("Back-off restarting failed container t in pod p_default(")), "{told:?}");
    }
}

#[test]
fn a_container_that_its_probe_kills_is_restarted_as_one_that_ends() {
    for part in ["containers", "sidecars"] {
        for kind in ["livenessProbe", "startupProbe"] {
            let mut world = World::ready(302);
            let probe = json!({ "exec": { "command": ["ill"] }, "periodSeconds": 1, "failureThreshold": 1 });
            with(&mut world, part, &json!({ "command": ["runs"], kind: probe }));
            let pauses = pauses(&mut world, 5);
            assert!(pauses[1] < 2 && (10..12).contains(&pauses[2]) && (20..22).contains(&pauses[3]), "{part}, {kind}: {pauses:?}");
            let (which, of) = (if part == "containers" { "Container" } else { "Init container" }, &kind[..kind.len() - 5]);
            let why = format!("{which} t failed {of} probe, will be restarted");
            assert!(world.events_of("p").contains_key(&("Killing".to_owned(), why)), "{:?}", world.events_of("p"));
        }
    }
}

#[test]
fn a_container_whose_hook_fails_is_restarted_as_one_that_ends() {
    let mut world = World::ready(303);
    with(&mut world, "containers", &json!({ "command": ["runs"], "lifecycle": { "postStart": { "httpGet": { "port": "nosuch" } } } }));
    assert_eq!(pauses(&mut world, 4), [0, 0, 10, 20]);
}

#[test]
fn the_wait_begins_anew_when_the_agent_does() {
    for part in PARTS {
        let mut world = World::ready(304);
        with(&mut world, part, &json!({ "command": ["ends", "100", "1"] }));
        world.run(200 * SECOND);
        world.kill();
        world.start();
        assert_eq!(pauses(&mut world, 3), [0, 10, 20], "{part}");
    }
}

#[test]
fn ten_minutes_of_running_end_the_back_off() {
    for (minutes, next) in [(9, 20), (11, 10)] {
        let mut world = World::ready(305);
        with(&mut world, "containers", &json!({ "command": ["runs"] }));
        let crash = |world: &mut World| {
            let id = world.runtime.running_ids().remove(0);
            world.crash(&id);
        };
        world.run(SECOND);
        crash(&mut world);
        world.run(SECOND);
        crash(&mut world);
        assert_eq!(pauses(&mut world, 1), [10]);
        world.run(60 * minutes * SECOND);
        crash(&mut world);
        let first = pauses(&mut world, 1)[0];
        crash(&mut world);
        assert_eq!((first, pauses(&mut world, 1)[0]), if minutes > 10 { (0, next) } else { (next, 40) }, "{minutes} minutes");
    }
}

#[test]
fn an_image_that_comes_back_soon_has_its_back_off_still() {
    let mut world = World::ready(306);
    with(&mut world, "containers", &json!({ "command": ["ends", "100", "1"] }));
    world.run(60 * SECOND);
    let image = |world: &mut World, image: &str| world.edit_pod("p", |pod| pod["spec"]["containers"][0]["image"] = image.into());
    image(&mut world, "busybox:2");
    assert_eq!(pauses(&mut world, 2), [0, 10], "another image is tried at once");
    image(&mut world, "busybox:1");
    let pause = pauses(&mut world, 1)[0];
    assert!(pause >= 38, "it ended a moment ago, and waited 40 s before: {pause}");
}

/// The runtime shows it ended: it waits as any that ends, and is not kept for ever.
#[test]
fn a_container_that_cannot_be_run_waits_as_one_that_ends() {
    for part in PARTS {
        let mut world = World::ready(307);
        with(&mut world, part, &json!({ "command": ["fails"] }));
        world.run(5 * SECOND);
        let told = status(&world);
        assert_eq!((&told["state"]["waiting"]["reason"], &told["restartCount"]), (&json!("CrashLoopBackOff"), &json!(1)), "{part}");
        let ended = &told["lastState"]["terminated"];
        assert_eq!((&ended["reason"], &ended["exitCode"]), (&json!("StartError"), &json!(128)));
        let error = ("Failed".to_owned(), "Error: exec: \"fails\": not found".to_owned());
        assert_eq!(world.events_of("p").get(&error), Some(&2), "{:?}", world.events_of("p"));
        world.run(600 * SECOND);
        let asked: Vec<u64> = world.runtime.asked.iter().filter(|(_, _, step)| *step == "start").map(|(at, ..)| *at).collect();
        let pauses: Vec<u64> = asked.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160], "{part}");
        let kept = world.runtime.pods.values().map(|pod| pod.containers.len()).max();
        assert!(kept <= Some(2), "{part}: {kept:?} instances are kept");
    }
}
