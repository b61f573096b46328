//! How often a pod tells what keeps it from running, and in which words: each
//! failure is told at once, then ever more seldom, as one Event that counts.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge::node::input::Ask;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::answer::Answer;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How often each Event of pod `p` happened, by reason and message, also when the
/// cloud was not told.
fn counts(world: &mut World) -> BTreeMap<(String, String), i64> {
    let described = world.ask(Ask::DescribePod { pod: "p".to_owned() }).clone();
    let text = |event: &Value, member: &str| event[member].as_str().unwrap_or_default().to_owned();
    let mut counts = BTreeMap::new();
    for event in described["events"].as_array().into_iter().flatten() {
        *counts.entry((text(event, "reason"), text(event, "message"))).or_default() += event["count"].as_i64().unwrap_or(0);
    }
    counts
}

/// How often Events of one reason happened in each of so many minutes.
fn per_minute(world: &mut World, reason: &str, minutes: usize) -> Vec<i64> {
    let all = |world: &mut World| counts(world).iter().filter(|((of, _), _)| of == reason).map(|(_, count)| count).sum::<i64>();
    let (mut before, mut per_minute) = (0, Vec::new());
    for _ in 0..minutes {
        world.run(MINUTE);
        let now = all(world);
        per_minute.push(now - std::mem::replace(&mut before, now));
    }
    per_minute
}

/// Messages to the cloud that tell of Events.
fn said(world: &World) -> u64 {
    world.traffic.iter().filter(|((_, of), _)| of == "event").map(|(_, count)| count).sum()
}

fn map(world: &mut World) {
    world.apply(json!({ "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "key": "1" } }));
}

fn answer(world: &mut World, step: &'static str, answer: Answer) {
    world.runtime.answers.insert(("p".to_owned(), step), answer);
}

/// What a pod lacks: what its container or it has beside the usual, how it waits,
/// the Event, and how often that is told in the first minute.
struct Lack {
    container: Value,
    pod: Value,
    /// Reason and message of the waiting container.
    waiting: (&'static str, &'static str),
    /// Reason and message of the Event.
    event: (&'static str, &'static str),
    first_minute: i64,
}

fn volume(source: &Value) -> Value {
    let mut volume = source.clone();
    volume["name"] = "v".into();
    json!({ "volumes": [volume] })
}

fn mount(source: &Value, event: &'static str) -> Lack {
    let waiting = ("ContainerCreating", "");
    // After 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
    Lack { container: json!({}), pod: volume(source), waiting, event: ("FailedMount", event), first_minute: 7 }
}

/// `told` is the Event's message; that of the container comes without `Error: `.
fn config(container: Value, told: &'static str) -> Lack {
    let message = told.strip_prefix("Error: ").expect("an error");
    // After 0, 10 and 30 s.
    Lack { container, pod: json!({}), waiting: ("CreateContainerConfigError", message), event: ("Failed", told), first_minute: 3 }
}

fn env(from: &Value) -> Value {
    json!({ "env": [{ "name": "A", "valueFrom": from }] })
}

fn lacks() -> Vec<Lack> {
    let (absent, there) = (json!({ "name": "x", "key": "k" }), json!({ "name": "m", "key": "k" }));
    let missing_key = json!({ "configMap": { "name": "m", "items": [{ "key": "k", "path": "f" }] } });
    let image = |container: Value, waiting, event| Lack { container, pod: json!({}), waiting, event, first_minute: 3 };
    vec![
        mount(&json!({ "configMap": { "name": "x" } }), "MountVolume.SetUp failed for volume \"v\" : configmap \"x\" not found"),
        mount(&json!({ "secret": { "secretName": "x" } }), "MountVolume.SetUp failed for volume \"v\" : secret \"x\" not found"),
        mount(
            &json!({ "projected": { "sources": [{ "configMap": { "name": "m" } }, { "secret": { "name": "x" } }] } }),
            "MountVolume.SetUp failed for volume \"v\" : secret \"x\" not found",
        ),
        mount(&missing_key, "MountVolume.SetUp failed for volume \"v\" : references non-existent config key: k"),
        config(env(&json!({ "configMapKeyRef": absent })), "Error: configmap \"x\" not found"),
        config(env(&json!({ "secretKeyRef": absent })), "Error: secret \"x\" not found"),
        config(env(&json!({ "configMapKeyRef": there })), "Error: couldn't find key k in ConfigMap default/m"),
        config(json!({ "envFrom": [{ "secretRef": { "name": "x" } }] }), "Error: secret \"x\" not found"),
        image(
            json!({ "image": "Not An Image" }),
            ("InvalidImageName", "Failed to apply default image tag \"Not An Image\": "),
            ("Failed", "Error: Failed to apply default image tag \"Not An Image\": "),
        ),
        image(
            json!({ "image": "busybox:9", "imagePullPolicy": "Never" }),
            ("ErrImageNeverPull", "Container image \"busybox:9\" is not present with pull policy of Never"),
            ("ErrImageNeverPull", "Container image \"busybox:9\" is not present with pull policy of Never"),
        ),
        image(
            json!({ "image": "missing:1" }),
            ("ImagePullBackOff", "Back-off pulling image \"missing:1\": ErrImagePull: no such image"),
            ("Failed", "Failed to pull image \"missing:1\": no such image"),
        ),
    ]
}

/// A world with pod `p`, whose container is ready unless something keeps it from
/// that.
fn world(seed: u64, container: &Value, more: &Value) -> World {
    let mut world = World::ready(seed);
    map(&mut world);
    let mut spec = more.clone();
    spec["containers"] = json!([{ "name": "c", "image": "busybox:1", "command": ["runs"] }]);
    for (key, value) in container.as_object().into_iter().flatten() {
        spec["containers"][0][key] = value.clone();
    }
    world.apply_pod("p", &[], spec);
    world
}

#[test]
fn what_a_pod_lacks_is_told_in_kubelets_words_and_ever_more_seldom() {
    for Lack { container, pod, waiting, event, first_minute } in lacks() {
        let what = format!("{container} {pod}");
        let mut world = world(320, &container, &pod);
        let of = |all: &BTreeMap<(String, String), i64>| -> i64 {
            all.iter().filter(|((reason, message), _)| reason == event.0 && message.starts_with(event.1)).map(|(_, count)| count).sum()
        };
        world.run(MINUTE);
        let first = of(&counts(&mut world));
        assert!((first_minute..=first_minute + 1).contains(&first), "{what}: told {first} times in a minute: {:?}", counts(&mut world));
        let state = &world.pod("p").expect("it is there")["status"]["containerStatuses"][0]["state"]["waiting"];
        let message = state["message"].as_str().unwrap_or_default();
        assert!(state["reason"] == waiting.0 && message.starts_with(waiting.1), "{what}: {state}");
        world.run(9 * MINUTE);
        let before = of(&counts(&mut world));
        world.run(20 * MINUTE);
        let later = of(&counts(&mut world)) - before;
        assert!((3..=10).contains(&later), "{what}: told {later} times in twenty minutes");
        assert!(said(&world) <= 25 + 6 + 2, "{what}: {} messages in half an hour", said(&world));
    }
}

#[test]
fn what_was_lacking_is_used_as_soon_as_it_is_here() {
    for (container, pod) in
        [(json!({}), volume(&json!({ "configMap": { "name": "x" } }))), (env(&json!({ "configMapKeyRef": { "name": "x", "key": "key" } })), json!({}))]
    {
        let mut world = world(321, &container, &pod);
        world.run(20 * MINUTE);
        assert!(world.runtime.starts.is_empty());
        world.apply(json!({ "kind": "ConfigMap", "metadata": { "name": "x" }, "data": { "key": "1" } }));
        // The cloud sends it only when it is asked again.
        world.run(2 * MINUTE + SECOND);
        assert!(world.is_ready("p"), "{container} {pod}");
    }
}

#[test]
fn a_source_that_goes_while_its_pod_runs_is_told() {
    let mut world = world(322, &json!({}), &volume(&json!({ "configMap": { "name": "m" } })));
    world.run(5 * SECOND);
    assert!(world.is_ready("p"));
    world.delete_object("configmap", "m");
    world.run(30 * MINUTE);
    let told = counts(&mut world);
    let gone = ("FailedMount".to_owned(), "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found".to_owned());
    assert!(world.is_ready("p") && matches!(told.get(&gone), Some(10..=30)), "{told:?}");
}

/// Every step that can fail, how it is told, and when that was: while the pod
/// starts, or while it ends.
const STEPS: [(&str, &str, bool); 8] = [
    ("prepare", "FailedMount", false),
    ("make sandbox", "FailedCreatePodSandBox", false),
    ("start", "Failed", false),
    ("postStart", "FailedPostStartHook", false),
    ("look", "FailedSync", true),
    ("stop", "FailedKillPod", true),
    ("remove", "FailedKillPod", true),
    ("clean", "FailedKillPod", true),
];

#[test]
fn a_step_that_fails_is_told_as_one_event_that_counts() {
    for (step, reason, ends) in STEPS {
        for how in [Answer::Refused("Internal"), Answer::DoneAndRefused, Answer::Refused("Unavailable")] {
            // What is done is not tried again.
            if how == Answer::DoneAndRefused && step != "prepare" {
                continue;
            }
            let hook = json!({ "lifecycle": { "postStart": { "exec": { "command": ["true"] } } } });
            let mut world = world(323, &hook, &json!({}));
            if ends {
                world.run(5 * SECOND);
                if step == "look" {
                    answer(&mut world, "stop", how);
                }
                answer(&mut world, step, how);
                world.delete("p", None);
            } else {
                answer(&mut world, step, how);
            }
            let told = per_minute(&mut world, reason, 15);
            assert!((1..=8).contains(&told[0]), "'{step}' answered by {how:?}: {told:?}, {:?}", counts(&mut world));
            assert!(told[5..].iter().all(|count| *count <= 2), "'{step}' answered by {how:?}: {told:?}");
            assert!(told[5..].iter().sum::<i64>() > 0, "'{step}' answered by {how:?} is told no more: {told:?}");
            assert!(said(&world) <= 25 + 3 + 2, "'{step}': {} messages in a quarter of an hour", said(&world));
        }
    }
}

#[test]
fn a_stop_is_told_once_however_often_the_runtime_goes_and_comes() {
    for force in [None, Some(0)] {
        let mut world = world(324, &json!({ "command": ["ignores"] }), &json!({ "terminationGracePeriodSeconds": 30 }));
        world.run(5 * SECOND);
        world.delete("p", force);
        world.run(Duration::from_millis(100));
        for _ in 0..11 {
            world.set_runtime(false);
            world.run(Duration::from_millis(200));
            world.set_runtime(true);
            world.run(Duration::from_millis(150));
        }
        answer(&mut world, "stop", Answer::Refused("Unavailable"));
        world.run(MINUTE);
        let told: i64 = counts(&mut world).iter().filter(|((reason, _), _)| reason == "Killing").map(|(_, count)| count).sum();
        assert_eq!(told, 1, "{:?}", counts(&mut world));
    }
}

#[test]
fn a_new_sandbox_is_told_once_however_often_the_old_one_is_stopped() {
    let mut world = world(325, &json!({}), &json!({}));
    world.run(5 * SECOND);
    answer(&mut world, "stop", Answer::Refused("Internal"));
    // Not ready: a container is left running in it.
    for pod in world.runtime.pods.values_mut() {
        pod.sandboxes.iter_mut().for_each(|sandbox| sandbox.ips.clear());
    }
    world.set_runtime(false);
    world.run(SECOND);
    world.set_runtime(true);
    world.run(5 * MINUTE);
    let told = counts(&mut world);
    let count = |of: &str| told.iter().filter(|((reason, _), _)| reason == of).map(|(_, count)| count).sum::<i64>();
    assert_eq!((count("SandboxChanged"), count("Killing")), (1, 1), "{told:?}");
    assert!(count("FailedKillPod") > 3);
}

#[test]
fn probes_and_crashes_of_one_pod_leave_the_link_alone() {
    let probe = json!({ "exec": { "command": ["ill"] }, "periodSeconds": 1 });
    for container in [json!({ "readinessProbe": probe }), json!({ "livenessProbe": probe }), json!({ "command": ["ends", "100", "1"] })] {
        let mut world = world(326, &container, &json!({}));
        world.run(60 * MINUTE);
        assert!(said(&world) <= 25 + 12 + 2, "{container}: {} messages in an hour", said(&world));
    }
}
