//! Nothing that the node waits for outlives the end of a pod and its grace.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::answer::Answer;

const SECOND: Duration = Duration::from_secs(1);

/// Steps that never come to their end.
const HANGING: [&str; 5] = ["prepare", "ensure image", "make sandbox", "start", "postStart"];

/// A pod with so many seconds of grace, of which one step hangs.
fn hanging(step: &'static str, grace: u64, seed: u64) -> World {
    let mut world = World::ready(seed);
    world.runtime.answers.insert(("p".to_owned(), step), Answer::Silence);
    let hook = json!({ "postStart": { "exec": { "command": ["sleep"] } } });
    let container = |name: &str, hook: &Value| json!({ "name": name, "image": "busybox:1", "command": ["ignores"], "lifecycle": hook });
    let containers = [container("first", &json!({})), container("second", &hook)];
    world.apply_pod("p", &[], json!({ "terminationGracePeriodSeconds": grace, "containers": containers }));
    world.run(10 * SECOND);
    world
}

/// Nothing of the pod is left, in the cluster and here.
fn is_gone(world: &World) -> bool {
    world.pod("p").is_none() && world.runtime.pods.is_empty() && world.directories().is_empty()
}

#[test]
fn what_hangs_while_a_pod_starts_does_not_hold_up_its_end() {
    for (number, step) in HANGING.into_iter().enumerate() {
        let seed = 200 + number as u64;
        let mut world = hanging(step, 30, seed);
        world.delete("p", None);
        world.run(45 * SECOND);
        assert!(is_gone(&world), "'{step}' hangs, deleted: {:?}", world.runtime.asked);

        let mut world = hanging(step, 30, seed);
        world.delete("p", Some(0));
        world.run(15 * SECOND);
        assert!(is_gone(&world), "'{step}' hangs, deleted by force: {:?}", world.runtime.asked);

        let mut world = hanging(step, 600, seed);
        world.delete("p", None);
        world.run(5 * SECOND);
        world.delete("p", Some(10));
        world.run(25 * SECOND);
        assert!(is_gone(&world), "'{step}' hangs, grace shortened: {:?}", world.runtime.asked);

        let mut world = hanging(step, 30, seed);
        world.kill();
        world.start();
        world.run(10 * SECOND);
        world.delete("p", None);
        world.run(45 * SECOND);
        assert!(is_gone(&world), "'{step}' hangs, agent restarted: {:?}", world.runtime.asked);
    }
}

#[test]
fn a_deadline_of_the_pod_ends_what_hangs() {
    for step in HANGING {
        let mut world = World::ready(220);
        world.runtime.answers.insert(("p".to_owned(), step), Answer::Silence);
        let hook = json!({ "postStart": { "exec": { "command": ["sleep"] } } });
        let container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"], "lifecycle": hook });
        world.apply_pod("p", &[], json!({ "activeDeadlineSeconds": 20, "containers": [container] }));
        world.run(30 * SECOND);
        let status = &world.pod("p").expect("it is there")["status"];
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")), "'{step}' hangs");
        assert!(world.runtime.running().is_empty());
    }
}

/// As kubelet has it: the grace counts from the deletion, not from the end of
/// what was under way.
#[test]
fn a_container_that_is_being_restarted_has_no_more_time_than_its_pod() {
    let mut world = World::ready(230);
    let stubborn = |name: &str, image: &str| json!({ "name": name, "image": image, "command": ["ignores"] });
    let pod = |image: &str| json!({ "terminationGracePeriodSeconds": 60, "containers": [stubborn("first", image), stubborn("second", "busybox:1")] });
    world.apply_pod("p", &[], pod("busybox:1"));
    world.run(5 * SECOND);
    world.apply_pod("p", &[], pod("busybox:2"));
    world.run(5 * SECOND);
    world.delete("p", Some(10));
    world.run(13 * SECOND);
    assert!(is_gone(&world), "{:?}", world.runtime.asked);
}

#[test]
fn a_pod_that_the_runtime_does_not_end_goes_when_it_can() {
    for (number, step) in ["stop", "remove", "clean", "look"].into_iter().enumerate() {
        for (grace, fault) in [(None, Answer::Silence), (Some(0), Answer::Silence), (None, Answer::Refused("NotFound")), (Some(0), Answer::DoneAndRefused)] {
            let mut world = World::ready(240 + number as u64);
            world.apply_pod("p", &["runs"], json!({}));
            world.run(5 * SECOND);
            world.runtime.answers.insert(("p".to_owned(), step), fault);
            world.delete("p", grace);
            world.run(600 * SECOND);
            world.runtime.answers.clear();
            world.run(180 * SECOND);
            assert!(is_gone(&world), "'{step}' {fault:?}, {grace:?}: {:?}", world.runtime.asked);
        }
    }
}

#[test]
fn a_hook_whose_answer_was_lost_is_run_once_more_and_not_after_a_restart_of_the_agent() {
    let hooks = |world: &World| world.runtime.asked.iter().filter(|(_, _, step)| *step == "postStart").count();
    let mut world = hanging("postStart", 2, 250);
    assert_eq!(hooks(&world), 1);
    world.set_runtime(false);
    world.run(5 * SECOND);
    world.runtime.answers.clear();
    world.set_runtime(true);
    world.run(10 * SECOND);
    assert_eq!(hooks(&world), 2, "nobody knows what came of the first");
    assert!(world.is_ready("p"));

    let mut world = hanging("postStart", 2, 251);
    world.kill();
    world.runtime.answers.clear();
    world.start();
    world.run(20 * SECOND);
    assert_eq!(hooks(&world), 1, "a container that runs is left alone");
    assert!(world.is_ready("p"));
}

/// A legal name whose log directory has a name that is too long for a file.
#[test]
fn a_pod_that_can_never_start_is_told_once_and_can_be_deleted() {
    let name = "n".repeat(253);
    for grace in [None, Some(0)] {
        let mut world = World::ready(260);
        world.apply_pod(&name, &["runs"], json!({}));
        world.run(1800 * SECOND);
        let events = world.events_of(&name);
        let told = events.iter().filter(|((reason, _), _)| reason == "Unsupported").collect::<Vec<_>>();
        assert!(matches!(told[..], [((_, message), 1)] if message.contains("a file has at most 255")), "{events:?}");
        assert_eq!(world.phase(&name), Some("Pending"));
        assert!(world.runtime.asked.is_empty(), "{:?}", world.runtime.asked);
        world.delete(&name, grace);
        world.run(10 * SECOND);
        assert!(world.pod(&name).is_none() && world.directories().is_empty());
    }
}
