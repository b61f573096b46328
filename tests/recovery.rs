//! What CloudCore loses while it is away: pods it never tells of, and ends.

use std::time::Duration;

use selvedge::wire::resource::kind;
use serde_json::json;

use crate::sim::World;
use crate::sim::world::{Canned, Network};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn world(seed: u64) -> World {
    let mut world = World::ready(seed);
    world.enable_dynamic_controller();
    world.apply_pod("old", &["runs"], json!({}));
    world.run(MINUTE);
    assert!(world.is_ready("old"));
    world
}

#[test]
fn a_pod_created_and_deleted_while_cloudcore_was_away_goes() {
    let mut world = world(1);
    world.set_cloudcore(false);
    world.run(MINUTE);
    world.apply_pod("new", &["runs"], json!({}));
    world.run(SECOND);
    world.delete("new", None);
    world.run(MINUTE);
    assert!(!world.pod("new").expect("it terminates")["metadata"]["deletionTimestamp"].is_null());
    world.set_cloudcore(true);
    world.run(30 * SECOND);
    assert_eq!(world.pod("new"), None);
    assert!(world.is_ready("old") && world.runtime.pods.len() == 1 && world.directories() == ["old"]);
}

#[test]
fn a_pod_created_while_cloudcore_was_away_runs() {
    let mut world = world(2);
    world.set_cloudcore(false);
    world.apply_pod("new", &["runs"], json!({}));
    world.run(MINUTE);
    world.set_cloudcore(true);
    world.run(30 * SECOND);
    assert!(world.is_ready("old") && world.is_ready("new"));
}

/// CloudCore does not remember that the node has the pod: no delete ever comes.
fn lose_delete(world: &mut World, name: &str) {
    let uid = world.pod(name).expect("it is there")["metadata"]["uid"].as_str().expect("it has one").to_owned();
    world.set_cloudcore(false);
    world.run(SECOND);
    world.delete(name, Some(0));
    world.cloud.forget_sync(&uid);
    world.set_cloudcore(true);
}

#[test]
fn a_pod_whose_delete_was_lost_ends() {
    let mut world = world(3);
    world.apply_pod("stays", &["runs"], json!({}));
    world.run(10 * SECOND);
    lose_delete(&mut world, "old");
    world.run(30 * SECOND);
    assert!(world.is_ready("stays") && world.directories() == ["stays"] && world.runtime.pods.len() == 1);
    // It does not come back with the next start, either.
    world.reboot();
    world.run(30 * SECOND);
    assert_eq!(world.directories(), ["stays"]);
}

#[test]
fn nothing_but_a_clear_answer_ends_a_pod() {
    let foreign = json!({ "status": "Failure", "code": 404, "reason": "NotFound", "message": "the server could not find the requested resource",
        "details": { "causes": [{ "reason": "UnexpectedServerResponse", "message": "404 page not found" }] } });
    for canned in
        [Canned::Silence, Canned::Content(json!({ "Object": {}, "Err": { "ErrStatus": foreign } })), Canned::Content(json!({ "Object": {}, "Err": {} }))]
    {
        let mut world = world(4);
        world.canned.insert(("patch", kind::POD_PATCH), canned);
        lose_delete(&mut world, "old");
        world.run(5 * MINUTE);
        assert_eq!(world.runtime.running().len(), 1, "nobody has said that it is gone");
        world.canned.clear();
        world.run(MINUTE);
        assert!(world.runtime.pods.is_empty());
    }
}

#[test]
fn an_empty_or_refused_list_ends_nothing_and_is_not_asked_for_all_the_time() {
    let answers = [
        json!({ "Status": "Approved", "RespBody": null }),
        json!({ "Status": "Rejected", "Reason": "no", "Error": { "ErrStatus": { "message": "pods is forbidden" } } }),
        json!([]),
        json!("OK"),
    ];
    for content in answers {
        let mut world = world(5);
        world.canned.insert(("null", "null"), Canned::Content(content));
        world.set_network(Network::Cut);
        world.run(SECOND);
        world.set_network(Network::Up);
        world.traffic.clear();
        world.run(10 * MINUTE);
        let asked = world.traffic.get(&("null".to_owned(), "null".to_owned())).copied().unwrap_or(0);
        assert!((1..=16).contains(&asked), "{asked} lists in ten minutes");
        assert!(world.is_ready("old"));
    }
}
