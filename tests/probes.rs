//! Probes and hooks that cannot be run, or whose answer never comes: they are
//! told, and tried again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);

/// A world with one pod, of one container that has `parts` beside its command.
fn with_container(seed: u64, parts: &Value) -> World {
    let mut world = World::ready(seed);
    let mut container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"] });
    for (key, value) in parts.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    world.apply_pod("p", &[], json!({ "containers": [container] }));
    world
}

/// How often a pod told this.
fn told(world: &World, reason: &str, message: &str) -> i64 {
    let all = world.events_of("p");
    all.iter().filter(|((of, text), _)| of == reason && text.contains(message)).map(|(_, count)| count).sum()
}

#[test]
fn a_probe_that_is_well_with_a_warning_succeeds_and_is_told() {
    for kind in ["Readiness", "Liveness", "Startup"] {
        let probe = json!({ "exec": { "command": ["elsewhere"] }, "periodSeconds": 1, "failureThreshold": 1 });
        let mut world = with_container(71, &json!({ format!("{}Probe", kind.to_lowercase()): probe }));
        world.run(10 * SECOND);
        assert_eq!((world.is_ready("p"), world.runtime.running().len()), (true, 1), "{kind}");
        let warning = format!("{kind} probe warning: Probe terminated redirects, Response body: ");
        let count = told(&world, "ProbeWarning", &warning);
        let expected = if kind == "Startup" { 1..2 } else { 8..12 };
        assert!(expected.contains(&count), "{kind}: {count} in {:?}", world.events_of("p"));
        assert_eq!(told(&world, "Unhealthy", ""), 0);
    }
}

#[test]
fn a_probe_that_cannot_be_run_is_told_and_tried_again() {
    let errored = "probe errored and resulted in unknown state: ";
    for (handler, why) in [
        (json!({ "exec": { "command": ["missing"] } }), "exec: \"missing\": executable file not found in $PATH"),
        (json!({ "httpGet": { "port": "nosuch" } }), "couldn't find port: nosuch"),
        (json!({ "tcpSocket": { "port": "nosuch" } }), "couldn't find port: nosuch"),
        (json!({ "grpc": { "port": 0 } }), "invalid port number: 0"),
        (json!({}), "missing handler"),
    ] {
        for kind in ["Readiness", "Liveness", "Startup"] {
            let mut probe = handler.clone();
            probe["periodSeconds"] = 1.into();
            let mut world = with_container(70, &json!({ format!("{}Probe", kind.to_lowercase()): probe }));
            world.run(10 * SECOND);
            let count = told(&world, "Unhealthy", &format!("{kind} {errored}{why}"));
            assert!((8..12).contains(&count), "{kind} {handler}: {count} in {:?}", world.events_of("p"));
            assert_eq!(world.events_of("p").keys().filter(|(reason, _)| reason == "Unhealthy").count(), 1, "one event that counts");
            // The state it had stays: not ready before the first answer, and no reason to kill.
            assert_eq!((world.is_ready("p"), world.runtime.running().len()), (kind == "Liveness", 1), "{kind} {handler}");
            assert_eq!(world.pod("p").expect("it is there")["status"]["containerStatuses"][0]["started"], kind != "Startup");
            if kind != "Readiness" {
                continue;
            }
            world.run(600 * SECOND);
            let said = world.traffic.iter().filter(|((_, of), _)| of == "event").map(|(_, count)| count).sum::<u64>();
            assert!(said < 40, "{said} events were said of one probe in ten minutes");
        }
    }
}

#[test]
fn a_probe_that_cannot_be_run_is_seen_after_a_restart_of_the_agent() {
    let mut world = with_container(71, &json!({ "readinessProbe": { "httpGet": { "port": "nosuch" }, "periodSeconds": 1 } }));
    world.run(5 * SECOND);
    world.kill();
    world.start();
    world.run(5 * SECOND);
    let before = told(&world, "Unhealthy", "couldn't find port: nosuch");
    world.delete("p", None);
    world.run(5 * SECOND);
    assert!(before > 5 && world.pod("p").is_none(), "{before}");
}

#[test]
fn a_probe_whose_answer_never_came_is_asked_again() {
    for ready in [true, false] {
        let command = if ready { "well" } else { "ill" };
        let probe = json!({ "exec": { "command": [command] }, "periodSeconds": 5, "failureThreshold": 1 });
        let mut world = with_container(72, &json!({ "readinessProbe": probe, "livenessProbe": { "exec": { "command": ["well"] }, "periodSeconds": 5 } }));
        world.run(3 * SECOND);
        // The probes are on their way when the runtime goes.
        let before = world.runtime.probes;
        while world.runtime.probes == before {
            world.run(Duration::from_millis(1));
        }
        world.set_runtime(false);
        world.run(SECOND);
        world.set_runtime(true);
        let before = world.runtime.probes;
        world.run(20 * SECOND);
        assert!((6..=10).contains(&(world.runtime.probes - before)), "{} probes in 20 s", world.runtime.probes - before);
        assert_eq!((world.is_ready("p"), world.runtime.starts.values().sum::<u32>()), (ready, 1));
    }
}

#[test]
fn a_hook_that_cannot_be_run_is_told() {
    let hook = json!({ "lifecycle": { "postStart": { "httpGet": { "port": "nosuch" } } } });
    let mut world = with_container(73, &hook);
    world.run(5 * SECOND);
    assert!(told(&world, "FailedPostStartHook", "couldn't find port: nosuch") > 0, "{:?}", world.events_of("p"));
    assert!(!world.is_ready("p") && world.runtime.running().is_empty(), "a failed hook ends its container");

    let hook = json!({ "lifecycle": { "preStop": { "httpGet": { "port": "nosuch" } } } });
    let mut world = with_container(74, &hook);
    world.run(5 * SECOND);
    assert!(world.is_ready("p"));
    world.delete("p", None);
    world.run(5 * SECOND);
    assert!(world.pod("p").is_none() && world.runtime.pods.is_empty());
    assert_eq!(told(&world, "FailedPreStopHook", "couldn't find port: nosuch"), 1, "{:?}", world.events_of("p"));
}
