//! Updates of running pods: those that cannot be obeyed end no care for what runs,
//! and another image begins anew.

use std::time::Duration;

use selvedge::cloud::objects::condition;
use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);
const REFUSED: &str = "selvedge.io/UpdateRefused";

/// A part of a pod's spec, what it becomes, and how the refusal names it.
fn bad_updates() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        ("/spec/runtimeClassName", json!("gvisor"), "Unsupported", "spec.runtimeClassName"),
        ("/spec/hostUsers", json!(false), "Unsupported", "spec.hostUsers"),
        ("/spec/containers/0/volumeDevices", json!([{}]), "Unsupported", "spec.containers[0].volumeDevices"),
        ("/spec/containers/0/image", json!("Not An Image"), "Unsupported", "Not An Image"),
        ("/spec/containers/0/ports", json!("none"), "Malformed", "spec.containers[0].ports"),
        ("/spec/containers/0/resources", json!({ "limits": { "cpu": "many" } }), "Malformed", "spec.containers[0].resources.limits.cpu"),
        ("/spec/containers/0/env", json!({ "A": "1" }), "Malformed", "spec.containers[0].env"),
        ("/spec/restartPolicy", json!("Sometimes"), "Malformed", "spec.restartPolicy"),
        ("/spec/containers", json!([]), "Unsupported", "spec.containers"),
        ("/spec/containers/0/resources", json!({ "limits": { "cpu": "1" } }), "Unsupported", "spec.containers[0].resources"),
        ("/spec/resources", json!({ "limits": { "cpu": "1" } }), "Unsupported", "spec.resources"),
    ]
}

fn set(pod: &mut Value, path: &str, value: Value) {
    let (parent, member) = path.rsplit_once('/').expect("a path");
    pod.pointer_mut(parent).expect("it is there")[member] = value;
}

fn starts(world: &World) -> u32 {
    world.runtime.starts.values().sum()
}

/// A ready pod whose probe runs each second, and that was updated so.
fn updated(seed: u64, path: &str, value: Value) -> World {
    let mut world = World::ready(seed);
    let probe = json!({ "exec": { "command": ["well"] }, "periodSeconds": 1 });
    let container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"], "livenessProbe": probe });
    world.apply_pod("p", &[], json!({ "containers": [container] }));
    world.run(5 * SECOND);
    world.edit_pod("p", |pod| set(pod, path, value));
    world.run(5 * SECOND);
    world
}

/// What runs is watched, probed and started again.
fn is_cared_for(world: &mut World, what: &str) {
    let (before, probes) = (starts(world), world.runtime.probes);
    let id = world.runtime.running_ids().pop().unwrap_or_else(|| panic!("{what}: it runs"));
    world.crash(&id);
    world.run(40 * SECOND);
    assert_eq!((starts(world), world.runtime.running().len()), (before + 1, 1), "{what}: it is started again");
    assert!(world.runtime.probes > probes + 20, "{what}: it is probed");
    assert_eq!((world.phase("p"), world.is_ready("p")), (Some("Running"), true), "{what}");
}

#[test]
fn an_update_that_cannot_be_obeyed_ends_no_care() {
    for (path, value, reason, named) in bad_updates() {
        let mut world = updated(90, path, value);
        let told = world.events_of("p");
        let is_told = |((of, message), _): (&(String, String), &i64)| of == reason && message.contains(named);
        assert!(told.iter().any(is_told), "{path}: {told:?}");
        let pod = world.pod("p").expect("it is there");
        assert_eq!(condition(pod, REFUSED), Some("True"), "{path}: {:#}", pod["status"]);
        assert_eq!((starts(&world), &world.pod("p").expect("it is there")["status"]["reason"]), (1, &Value::Null), "{path}");
        is_cared_for(&mut world, path);
        // The agent starts on a disk that has the refused object.
        world.kill();
        world.start();
        world.run(5 * SECOND);
        assert_eq!((starts(&world), world.runtime.stopped.len()), (2, 0), "{path}: a restart of the agent disturbs nothing");
        is_cared_for(&mut world, path);
        // So does the machine.
        world.reboot();
        world.run(10 * SECOND);
        is_cared_for(&mut world, path);
        world.delete("p", None);
        world.run(5 * SECOND);
        assert!(world.pod("p").is_none() && world.runtime.pods.is_empty() && world.directories().is_empty(), "{path}");
        assert!(world.disk.rows.keys().all(|key| !format!("{key:?}").contains("Pod")), "{path}: {:?}", world.disk.rows.keys());
    }
}

#[test]
fn the_rest_of_an_update_that_cannot_be_obeyed_holds() {
    let mut world = updated(91, "/spec/runtimeClassName", json!("gvisor"));
    world.edit_pod("p", |pod| pod["spec"]["activeDeadlineSeconds"] = 60.into());
    world.run(30 * SECOND);
    assert_eq!(world.phase("p"), Some("Running"));
    world.run(60 * SECOND);
    assert_eq!((world.phase("p"), world.runtime.running().len()), (Some("Failed"), 0));
}

#[test]
fn an_update_that_is_well_again_is_applied() {
    for restarts in [false, true] {
        for (path, value, ..) in bad_updates() {
            let mut world = updated(92, path, value);
            let good = json!([{ "name": "c", "image": "busybox:2", "command": ["runs"] }]);
            if restarts {
                world.kill();
                world.start();
            }
            world.edit_pod("p", |pod| {
                let spec = pod["spec"].as_object_mut().expect("a spec");
                ["runtimeClassName", "hostUsers", "restartPolicy", "resources"].iter().for_each(|member| drop(spec.remove(*member)));
                spec.insert("containers".to_owned(), good);
            });
            world.run(10 * SECOND);
            let pod = world.pod("p").expect("it is there");
            assert_eq!((condition(pod, REFUSED), condition(pod, "Ready")), (Some("False"), Some("True")), "{path}");
            let container = &pod["status"]["containerStatuses"][0];
            assert_eq!((container["image"].as_str(), container["restartCount"].as_i64()), (Some("busybox:2"), Some(1)), "{path}");
            assert!(world.disk.rows.keys().all(|key| !format!("{key:?}").starts_with("ObeyedPod")));
        }
    }
}

#[test]
fn a_pod_that_never_could_be_obeyed_waits_for_an_update() {
    for (path, value, reason) in [("/spec/runtimeClassName", json!("gvisor"), "Unsupported"), ("/spec/hostUsers", json!(false), "Unsupported")] {
        let mut world = World::ready(93);
        let mut spec = json!({ "spec": {} });
        set(&mut spec, path, value);
        world.apply_pod("p", &["runs"], spec["spec"].clone());
        world.run(5 * SECOND);
        let status = world.pod("p").expect("it is there")["status"].clone();
        assert_eq!((status["phase"].as_str(), status["reason"].as_str()), (Some("Pending"), Some(reason)), "{status:#}");
        assert!(world.events_of("p").keys().any(|(of, _)| of == reason));
        let member = path.rsplit('/').next().expect("a path").to_owned();
        world.edit_pod("p", |pod| drop(pod["spec"].as_object_mut().expect("a spec").remove(&member)));
        world.run(5 * SECOND);
        assert!(world.is_ready("p"));
        assert_eq!(world.pod("p").expect("it is there")["status"]["reason"], Value::Null);
    }
}

#[test]
fn a_source_that_went_ends_no_care_after_a_restart_of_the_agent() {
    let mut world = World::ready(94);
    let map = json!({ "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "key": "1" } });
    world.apply(map);
    let container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"], "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        "livenessProbe": { "exec": { "command": ["well"] }, "periodSeconds": 1 } });
    world.apply_pod("p", &[], json!({ "containers": [container], "volumes": [{ "name": "v", "configMap": { "name": "m" } }] }));
    world.run(5 * SECOND);
    world.delete_object("configmap", "m");
    world.run(5 * SECOND);
    world.kill();
    world.start();
    world.run(5 * SECOND);
    is_cared_for(&mut world, "a ConfigMap that went");
}

/// A pod with a container in `part` and, when that is no main one, one that runs.
fn with_part(world: &mut World, part: &str, image: &str, command: &[&str]) {
    let tried = json!({ "name": "t", "image": image, "command": command });
    let main = json!({ "name": "c", "image": "busybox:1", "command": ["runs"] });
    let more = if part == "containers" { json!({ "containers": [tried] }) } else { json!({ "initContainers": [tried], "containers": [main] }) };
    world.apply_pod("p", &[], more);
}

#[test]
fn another_image_has_a_back_off_of_its_own() {
    for part in ["containers", "initContainers"] {
        let mut world = World::ready(95);
        with_part(&mut world, part, "busybox:1", &["ends", "1000", "1"]);
        world.run(1800 * SECOND);
        let tried = |world: &World| world.runtime.starts[&("p".to_owned(), "t".to_owned())];
        let before = tried(&world);
        world.run(60 * SECOND);
        assert!(tried(&world) <= before + 1, "{part}: it waits five minutes by now");
        let before = tried(&world);
        world.edit_pod("p", |pod| set(pod, &format!("/spec/{part}/0/image"), json!("busybox:2")));
        world.run(30 * SECOND);
        // At once, and soon after it ended.
        assert!((2..=5).contains(&(tried(&world) - before)), "{part}: {} starts", tried(&world) - before);
        world.run(1800 * SECOND);
        let before = tried(&world);
        world.run(600 * SECOND);
        assert!(tried(&world) <= before + 2, "{part}: and waits again");
    }
}

#[test]
fn another_image_is_pulled_at_once() {
    for part in ["containers", "initContainers"] {
        let mut world = World::ready(96);
        with_part(&mut world, part, "missing:1", &["ends", "1000", "0"]);
        world.run(1800 * SECOND);
        assert!(world.runtime.starts.is_empty());
        world.edit_pod("p", |pod| set(pod, &format!("/spec/{part}/0/image"), json!("busybox:2")));
        world.run(SECOND);
        assert_eq!(world.runtime.starts.get(&("p".to_owned(), "t".to_owned())), Some(&1), "{part}");
    }
}

#[test]
fn containers_of_one_image_share_its_back_off() {
    let mut world = World::ready(97);
    let container = |name: &str| json!({ "name": name, "image": "missing:1", "command": ["runs"] });
    world.apply_pod("p", &[], json!({ "containers": [container("a"), container("b")] }));
    world.run(600 * SECOND);
    let failed: i64 = world.events_of("p").iter().filter(|((_, message), _)| message.starts_with("Failed to pull")).map(|(_, count)| count).sum();
    assert!((5..=8).contains(&failed), "{failed} pulls in ten minutes");
    for container in world.pod("p").expect("it is there")["status"]["containerStatuses"].as_array().expect("two") {
        assert_eq!(container["state"]["waiting"]["reason"], "ImagePullBackOff");
    }
}

/// Whatever is under way when the image changes, the new one runs and nothing else.
#[test]
fn the_image_may_change_at_any_instant() {
    for millis in (0..200).step_by(3) {
        let mut world = World::ready(98);
        world.apply_pod("p", &["runs"], json!({}));
        world.run(Duration::from_millis(millis));
        world.edit_pod("p", |pod| set(pod, "/spec/containers/0/image", json!("busybox:2")));
        world.run(20 * SECOND);
        let images: Vec<&str> = world.runtime.pods.values().flat_map(|pod| pod.running()).map(|seen| seen.image.as_str()).collect();
        assert_eq!((images, world.is_ready("p")), (vec!["busybox:2"], true), "after {millis} ms");
        assert!(starts(&world) <= 2);
    }
}

#[test]
fn the_status_tells_which_generation_is_obeyed() {
    let observed = |world: &World| {
        let status = &world.pod("p").expect("it is there")["status"];
        let conditions = status["conditions"].as_array().expect("conditions");
        let of_conditions: Vec<_> = conditions.iter().map(|condition| condition["observedGeneration"].as_i64()).collect();
        let all_equal = of_conditions.iter().all(|generation| *generation == of_conditions[0]);
        assert!(all_equal, "{status}");
        assert_eq!(status["observedGeneration"].as_i64(), of_conditions[0]);
        of_conditions[0]
    };
    let mut world = World::ready(1);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    assert_eq!(observed(&world), Some(1));
    world.edit_pod("p", |pod| set(pod, "/spec/containers/0/image", json!("busybox:2")));
    world.run(5 * SECOND);
    assert_eq!(observed(&world), Some(2));
    world.edit_pod("p", |pod| set(pod, "/spec/runtimeClassName", json!("gvisor")));
    world.run(5 * SECOND);
    assert_eq!(observed(&world), Some(2), "the third is not obeyed");
    world.kill();
    world.start();
    world.run(5 * SECOND);
    assert_eq!(observed(&world), Some(2), "after a restart of the agent neither");
    world.edit_pod("p", |pod| set(pod, "/spec/runtimeClassName", Value::Null));
    world.run(5 * SECOND);
    assert_eq!(observed(&world), Some(4));
}

#[test]
fn what_a_resolver_file_cannot_take_is_told_once_a_sandbox() {
    let mut world = World::ready(1);
    let servers = ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"];
    world.apply_pod("p", &["runs"], json!({ "dnsPolicy": "None", "dnsConfig": { "nameservers": servers } }));
    world.apply_pod("q", &["runs"], json!({ "dnsPolicy": "ClusterFirst" }));
    world.run(60 * SECOND);
    let count = |pod: &str, reason: &str| world.events_of(pod).into_iter().filter(|((told, _), _)| told == reason).map(|(_, count)| count).sum::<i64>();
    assert_eq!((count("p", "DNSConfigForming"), count("q", "MissingClusterDNS"), count("p", "MissingClusterDNS")), (1, 1, 0));
}
