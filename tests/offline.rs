//! What a node owes its pods while the cloud, the agent or the power is gone.

use std::time::Duration;

use selvedge::cloud::objects::{condition, name};
use selvedge::node::store::Key;
use selvedge::wire::rfc3339;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::world::Network;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A ready node with pods `a`, `b` and `c` on their way.
fn three_pods(seed: u64) -> World {
    let mut world = World::ready(seed);
    for name in ["a", "b", "c"] {
        world.apply_pod(name, &["runs"], json!({}));
    }
    world
}

#[test]
fn a_pod_runs_and_is_deleted_with_grace() {
    let mut world = World::ready(1);
    world.apply_pod("web", &["runs"], json!({}));
    world.run(SECOND);
    assert!(world.is_ready("web"), "{:#}", world.pod("web").expect("it is there")["status"]);
    world.delete("web", None);
    world.run(SECOND);
    assert!(world.pod("web").is_none() && world.runtime.pods.is_empty());
}

#[test]
fn a_second_word_shortens_the_grace() {
    let stubborn = |seed| {
        let mut world = World::ready(seed);
        world.apply_pod("p", &["ignores"], json!({ "terminationGracePeriodSeconds": 60 }));
        world.run(SECOND);
        world.delete("p", None);
        world.run(5 * SECOND);
        assert_eq!(world.runtime.running().len(), 1, "it has a minute");
        world
    };
    // With a shorter grace.
    let mut world = stubborn(50);
    world.delete("p", Some(10));
    world.run(9 * SECOND);
    assert_eq!(world.runtime.running().len(), 1, "it has ten seconds");
    world.run(2 * SECOND);
    assert!(world.pod("p").is_none() && world.runtime.pods.is_empty() && world.directories().is_empty());
    // By force.
    let mut world = stubborn(51);
    world.delete("p", Some(0));
    world.run(3 * SECOND);
    assert!(world.pod("p").is_none() && world.runtime.pods.is_empty() && world.directories().is_empty());
    // A longer one changes nothing.
    let mut world = stubborn(52);
    world.delete("p", Some(600));
    world.run(54 * SECOND);
    assert_eq!(world.runtime.running().len(), 1);
    world.run(3 * SECOND);
    assert!(world.pod("p").is_none() && world.runtime.pods.is_empty());
    assert_eq!(world.runtime.stopped.len(), 1);
}

/// As when the runtime's state is lost and its logs are not.
#[test]
fn restarts_are_counted_on_when_the_runtime_has_forgotten_them() {
    let count = |world: &World| world.pod("p").expect("it is there")["status"]["containerStatuses"][0]["restartCount"].as_i64();
    for dies in [false, true] {
        let mut world = World::ready(60);
        world.apply_pod("p", &["ends", "1000", "1"], json!({}));
        world.run(120 * SECOND);
        let before = count(&world);
        assert!(before > Some(2), "{before:?}");
        if dies {
            world.kill();
        }
        world.runtime.pods.clear();
        if dies {
            world.start();
        } else {
            world.set_runtime(false);
            world.run(SECOND);
            world.set_runtime(true);
        }
        world.run(SECOND);
        assert_eq!(count(&world), before.map(|count| count + 1), "the agent died too: {dies}");
    }
}

#[test]
fn a_week_offline_changes_nothing_for_the_pods() {
    let mut world = three_pods(2);
    world.run(5 * SECOND);
    world.set_network(Network::Cut);
    world.run(HOUR);
    world.kill();
    world.run(HOUR);
    world.start();
    world.run(7 * 24 * HOUR);
    assert_eq!(world.runtime.running().len(), 3);
    assert!(world.runtime.starts.values().all(|starts| *starts == 1), "{:?}", world.runtime.starts);
    world.delete("b", None);
    world.apply_pod("d", &["runs"], json!({}));
    world.set_network(Network::Up);
    world.run(10 * SECOND);
    assert!(world.is_ready("a") && world.is_ready("c") && world.is_ready("d") && world.pod("b").is_none());
    assert_eq!(world.node_ready(), Some("True"));
}

#[test]
fn after_a_reboot_offline_every_pod_runs_again() {
    let mut world = World::ready(3);
    world.apply_pod("a", &["runs"], json!({}));
    world.apply_pod("done", &["ends", "100", "0"], json!({ "restartPolicy": "Never" }));
    world.run(5 * SECOND);
    assert_eq!(world.phase("done"), Some("Succeeded"));
    world.set_network(Network::Cut);
    world.reboot();
    world.run(5 * SECOND);
    assert_eq!(world.runtime.running(), [("a".to_owned(), "c".to_owned())]);
    assert_eq!(world.runtime.starts[&("done".to_owned(), "c".to_owned())], 1, "a job that is done stays done");
    world.set_network(Network::Up);
    world.run(5 * SECOND);
    assert!(world.is_ready("a"));
    assert_eq!(world.pod("a").expect("it is there")["status"]["containerStatuses"][0]["restartCount"], 1);
}

#[test]
fn a_frozen_cloud_is_left_and_found_again() {
    let mut world = World::ready(4);
    world.set_network(Network::Frozen);
    world.run(120 * SECOND);
    world.set_network(Network::Up);
    world.apply_pod("late", &["runs"], json!({}));
    world.run(60 * SECOND);
    assert!(world.is_ready("late"));
}

#[test]
fn a_full_disk_keeps_pods_running_and_ends_those_that_shall_end() {
    let mut world = World::ready(5);
    world.apply_pod("old", &["runs"], json!({}));
    world.apply_pod("gone", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.set_disk_full(true);
    world.run(SECOND);
    world.delete("gone", None);
    world.apply_pod("new", &["runs"], json!({}));
    world.run(60 * SECOND);
    assert_eq!(world.runtime.running(), [("old".to_owned(), "c".to_owned())], "ends need no disk, starts do");
    let node = world.cloud.objects().get(&name("node", "", "edge")).expect("it is there");
    assert_eq!(condition(node, "StoreProblem"), Some("True"));
    world.set_disk_full(false);
    world.run(60 * SECOND);
    assert!(world.is_ready("new") && world.pod("gone").is_none());
    let node = world.cloud.objects().get(&name("node", "", "edge")).expect("it is there");
    assert_eq!(condition(node, "StoreProblem"), None, "the condition goes with the trouble");
}

#[test]
fn a_removal_that_never_reached_the_disk_comes_again() {
    let mut world = World::ready(6);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.set_disk_full(true);
    world.run(SECOND);
    world.delete("p", Some(0));
    world.run(40 * SECOND);
    world.kill();
    world.set_disk_full(false);
    world.start();
    world.run(60 * SECOND);
    assert!(
        world.runtime.running().is_empty() && world.disk.rows.keys().all(|key| !matches!(key, Key::Object(name) if name.as_str().contains("/pod/p"))),
        "{:?}",
        world.runtime.running()
    );
}

#[test]
fn a_lost_store_is_told_again_and_no_pod_is_killed_for_it() {
    for (seed, why) in [(20, None), (21, Some("corrupt"))] {
        let mut world = three_pods(seed);
        world.run(5 * SECOND);
        world.set_network(Network::Cut);
        world.kill();
        world.disk.lose(why);
        world.start();
        world.run(HOUR);
        assert_eq!(world.runtime.running().len(), 3, "offline nobody is touched");
        // Also not by an agent that starts again and finds a store that is new but not empty.
        world.kill();
        world.start();
        world.delete("b", Some(0));
        world.run(HOUR);
        assert_eq!(world.runtime.running().len(), 3);
        world.set_network(Network::Up);
        world.run(30 * SECOND);
        assert!(world.is_ready("a") && world.is_ready("c") && world.node_ready() == Some("True"));
        assert_eq!(world.runtime.running(), [("a".to_owned(), "c".to_owned()), ("c".to_owned(), "c".to_owned())], "what was deleted meanwhile is gone");
        assert!(world.runtime.starts.values().all(|starts| *starts == 1), "nobody was restarted");
        world.delete("a", None);
        world.run(10 * SECOND);
        assert!(world.pod("a").is_none());
    }
}

/// A node with a pod that runs, one that is done and one that ran and is gone
/// from the runtime, whose store is lost.
fn lost_with_three_pods(world: &mut World) {
    world.apply_pod("runs", &["runs"], json!({}));
    world.apply_pod("done", &["ends", "100", "0"], json!({ "restartPolicy": "Never" }));
    world.apply_pod("gone", &["runs"], json!({}));
    world.run(5 * SECOND);
    assert_eq!((world.phase("done"), world.is_ready("gone")), (Some("Succeeded"), true));
    world.kill();
    world.disk.lose(Some("corrupt"));
    world.runtime.pods.retain(|_, pod| pod.key.name == "runs");
    world.start();
}

#[test]
fn pods_of_a_lost_store_that_did_not_run_are_listed_by_the_cloud() {
    let mut world = World::ready(30);
    world.enable_dynamic_controller();
    lost_with_three_pods(&mut world);
    world.run(5 * SECOND);
    assert_eq!(world.runtime.running(), [("gone".to_owned(), "c".to_owned()), ("runs".to_owned(), "c".to_owned())]);
    assert!(world.is_ready("gone") && world.is_ready("runs") && world.node_ready() == Some("True"));
    assert_eq!(world.runtime.starts[&("runs".to_owned(), "c".to_owned())], 1, "what ran is not touched");
    assert_eq!(world.runtime.starts[&("done".to_owned(), "c".to_owned())], 1, "a job that is done stays done");
    assert_eq!(world.phase("done"), Some("Succeeded"));
    assert_eq!(world.directories(), ["done", "gone", "runs"], "those of wanted pods stay");
    world.delete("done", None);
    world.run(5 * SECOND);
    assert!(world.pod("done").is_none(), "it can be deleted as any other");
    let lists = world.traffic[&("null".to_owned(), "null".to_owned())];
    world.kill();
    world.start();
    world.run(HOUR);
    assert_eq!(world.traffic[&("null".to_owned(), "null".to_owned())], lists + 1, "one with each session");
}

#[test]
fn a_cloud_that_lists_no_pods_keeps_none_from_running() {
    let mut world = World::ready(31);
    lost_with_three_pods(&mut world);
    assert_eq!(world.directories(), ["done", "gone", "runs"]);
    world.run(9 * SECOND);
    assert_eq!(world.node_ready(), Some("False"), "until the list is given up");
    world.run(5 * SECOND);
    assert_eq!(world.node_ready(), Some("True"));
    assert_eq!(world.runtime.running(), [("runs".to_owned(), "c".to_owned())]);
    assert_eq!(world.directories(), ["done", "gone", "runs"], "whose they are is not known");
    // What README tells people to do then.
    world.annotate("gone");
    world.run(5 * SECOND);
    assert!(world.is_ready("gone") && world.is_ready("runs"));
    assert_eq!(world.runtime.starts[&("runs".to_owned(), "c".to_owned())], 1);
}

/// The same name on a new flash.
#[test]
fn a_node_that_begins_anew_has_the_pods_it_had() {
    let mut world = World::ready(32);
    world.enable_dynamic_controller();
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.kill();
    world.disk.lose(None);
    world.runtime.pods.clear();
    world.start();
    world.run(5 * SECOND);
    assert!(world.is_ready("p") && world.node_ready() == Some("True"));
}

#[test]
fn a_runtime_that_was_away_has_its_pods_back() {
    let mut world = World::ready(7);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.set_runtime(false);
    world.run(60 * SECOND);
    assert_eq!(world.node_ready(), Some("False"));
    world.set_runtime(true);
    world.run(20 * SECOND);
    assert_eq!((world.node_ready(), world.is_ready("p"), world.runtime.starts.values().sum::<u32>()), (Some("True"), true, 1));
}

#[test]
fn a_node_that_has_not_seen_its_pods_yet_is_not_ready() {
    let mut world = World::ready(33);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.runtime.slow = 20_000;
    world.kill();
    world.start();
    world.run(10 * SECOND);
    assert_eq!(world.node_ready(), Some("False"), "the runtime answers, and what it runs is not known");
    world.run(15 * SECOND);
    assert_eq!((world.node_ready(), world.is_ready("p"), world.runtime.starts.values().sum::<u32>()), (Some("True"), true, 1));
}

#[test]
fn a_clock_that_steps_harms_nobody() {
    for step in [-1_795_000_000_000, -86_400_000, 86_400_000, 315_360_000_000] {
        let mut world = World::ready(8);
        world.apply_pod("p", &["runs"], json!({}));
        world.apply_pod("crash", &["ends", "500", "1"], json!({}));
        world.run(30 * SECOND);
        world.step_calendar(step);
        world.run(HOUR);
        world.step_calendar(-step);
        world.run(HOUR);
        assert!(world.is_ready("p") && world.node_ready() == Some("True"), "step {step}");
        assert_eq!(world.runtime.starts[&("p".to_owned(), "c".to_owned())], 1);
        let crashes = world.runtime.starts[&("crash".to_owned(), "c".to_owned())];
        assert!((20..40).contains(&crashes), "back-off goes on through step {step}: {crashes} starts");
    }
}

#[test]
fn an_idle_node_says_and_writes_little() {
    let mut world = three_pods(9);
    world.run(600 * SECOND);
    let (writes, said) = (world.disk.writes, world.traffic.values().sum::<u64>());
    world.run(HOUR);
    assert_eq!(world.disk.writes, writes, "an idle hour writes nothing");
    // 240 keepalives, 360 lease updates, 12 node statuses and the acks of their echoes.
    let said = world.traffic.values().sum::<u64>() - said;
    assert!(said < 640, "{said} messages in an idle hour: {:?}", world.traffic);
}

#[test]
fn an_agent_that_died_before_it_cleaned_up_does_so_later() {
    for millis in 0..120 {
        let mut world = World::ready(40);
        world.apply_pod("stays", &["runs"], json!({}));
        world.apply_pod("gone", &["runs"], json!({}));
        world.run(SECOND);
        world.delete("gone", Some(0));
        world.run(Duration::from_millis(millis));
        world.kill();
        world.start();
        world.run(5 * SECOND);
        assert_eq!(world.directories(), ["stays"], "died {millis} ms after the end was told");
        assert_eq!(world.runtime.running(), [("stays".to_owned(), "c".to_owned())]);
    }
}

#[test]
fn the_agent_may_die_at_any_instant() {
    for at in (0..2500).step_by(7) {
        for power in [false, true] {
            let mut world = World::ready(at);
            world.apply_pod("stays", &["runs"], json!({}));
            world.run(Duration::from_millis(600));
            let script = |world: &mut World| {
                world.delete("stays", None);
                world.apply_pod("comes", &["runs"], json!({ "initContainers": [{ "name": "i", "image": "busybox:1", "command": ["ends", "200", "0"] }] }));
            };
            if at % 2 == 0 {
                script(&mut world);
            }
            world.run(Duration::from_millis(at));
            if power {
                world.reboot();
            } else {
                world.kill();
                world.start();
            }
            if at % 2 == 1 {
                script(&mut world);
            }
            world.run(60 * SECOND);
            assert!(world.pod("stays").is_none() && world.is_ready("comes"), "died at {at} ms, power lost: {power}");
            assert_eq!(world.runtime.running(), [("comes".to_owned(), "c".to_owned())]);
            assert_eq!(world.directories(), ["comes"], "nothing is left over: died at {at} ms, power lost: {power}");
        }
    }
}

/// What happened in the night is read in the morning, although the machine lost
/// power in between.
#[test]
fn events_of_a_night_offline_are_told_afterwards() {
    let mut world = World::ready(31);
    world.apply_pod("web", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.set_network(Network::Cut);
    world.run(SECOND);
    let container = world.runtime.pods.values().next().and_then(|pod| pod.containers.first()).map(|container| container.id.clone()).expect("it runs");
    world.crash(&container);
    world.run(60 * SECOND);
    let before = rfc3339::seconds(world.now().wall.0);
    world.reboot();
    world.run(3600 * SECOND);
    world.set_network(Network::Up);
    world.run(60 * SECOND);
    let started = |event: &&Value| event["reason"] == "Started" && event["involvedObject"]["name"] == "web";
    let times: Vec<String> =
        world.cloud.objects().of("event").map(|(_, event)| event).filter(started).map(|event| event["lastTimestamp"].to_string()).collect();
    // When it was made, after the crash and after the reboot; the first two are
    // one event, counted twice.
    assert_eq!(times.len(), 2, "{times:?}");
    assert_eq!(times.iter().filter(|time| time.trim_matches('"') < before.as_str()).count(), 1, "{times:?} and the reboot at {before}");
    world.reboot();
    world.run(60 * SECOND);
    let repeated = world.cloud.objects().of("event").map(|(_, event)| event).filter(started).count();
    assert_eq!(repeated, 3, "told once each, and the third start");
}

/// A new pod of the same name came before the end of the old one; the cloud must not
/// hear that the old one is gone while its row is all that is on disk.
#[test]
fn the_end_of_a_pod_that_was_replaced_is_acknowledged_after_the_replacement_is_on_disk() {
    let mut world = World::ready(5_057_265_158_905);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(5 * SECOND);
    world.set_network(Network::Cut);
    world.delete("p", Some(0));
    world.run(10 * SECOND);
    world.kill();
    world.set_disk_full(true);
    world.start();
    world.apply_pod("p", &["runs"], json!({}));
    world.set_network(Network::Up);
    world.run(60 * SECOND);
    assert!(!world.is_ready("p"), "it waits for the disk");
    world.set_disk_full(false);
    world.run(60 * SECOND);
    assert!(world.is_ready("p"));
}
