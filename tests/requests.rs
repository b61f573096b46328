//! Nothing is asked of the cloud again and again without a pause, whatever it
//! answers; and what it answers is told.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge::wire::resource::kind;
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::world::{Canned, Network};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Everything a node asks of the cloud for its pods.
const POD_REQUESTS: [(&str, &str); 5] =
    [("query", kind::CONFIG_MAP), ("query", kind::SECRET), ("query", kind::TOKEN), ("patch", kind::POD_PATCH), ("delete", kind::POD)];

/// And for itself.
const NODE_REQUESTS: [(&str, &str); 6] =
    [("query", kind::NODE), ("insert", kind::NODE), ("patch", kind::NODE_PATCH), ("query", kind::LEASE), ("insert", kind::LEASE), ("update", kind::LEASE)];

fn status(code: u16) -> Value {
    json!({ "ErrStatus": { "status": "Failure", "code": code, "message": format!("the test says {code}") } })
}

/// Everything a cloud can answer, well-formed or not.
fn answers() -> Vec<(String, Canned)> {
    let mut contents: Vec<(String, Value)> = [404, 409, 500, 503].into_iter().map(|code| (format!("error {code}"), status(code))).collect();
    contents.extend([403, 404, 409, 500].map(|code| (format!("wrapped error {code}"), json!({ "Object": {}, "Err": status(code) }))));
    let token = |end: &str| json!({ "metadata": {}, "status": { "token": "t", "expirationTimestamp": end } });
    contents.extend(
        [
            ("an unnamed error", json!({ "Object": {}, "Err": {} })),
            ("an error that is text", json!({ "Object": {}, "Err": "no" })),
            ("nothing", Value::Null),
            ("no text", json!("")),
            ("some text", json!("OK")),
            ("a number", json!(7)),
            ("a list", json!([{ "metadata": {} }])),
            ("an empty object", json!({})),
            ("an empty object, wrapped", json!({ "Object": {}, "Err": null })),
            ("no object, wrapped", json!({ "Object": null, "Err": null })),
            ("a list for metadata", json!({ "metadata": ["name"], "status": [], "spec": 1 })),
            ("another object", json!({ "metadata": { "name": "other", "namespace": "elsewhere", "uid": "u" } })),
            ("a token that has ended", token("2020-01-01T00:00:00Z")),
            ("a token without end", token("never")),
        ]
        .map(|(name, content)| (name.to_owned(), content)),
    );
    let mut all = vec![("silence".to_owned(), Canned::Silence), ("an answer to somebody else".to_owned(), Canned::Foreign(status(404)))];
    all.push(("error 500, twice".to_owned(), Canned::Twice(status(500))));
    all.extend(contents.into_iter().map(|(name, content)| (name, Canned::Content(content))));
    all
}

/// A pod that needs one of everything the cloud is asked for.
fn apply_needy(world: &mut World, name: &str) {
    let volumes = json!([
        { "name": "c", "configMap": { "name": "c" } }, { "name": "s", "secret": { "secretName": "s" } },
        { "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } }] } },
    ]);
    world.apply_pod(name, &["runs"], json!({ "volumes": volumes }));
}

fn world() -> World {
    let mut world = World::new(7);
    world.apply(json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "c" }, "data": { "a": "b" } }));
    world.apply(json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "s" }, "data": {} }));
    world
}

/// Messages of each kind in the next minute, the most of any; and batches written.
fn in_a_minute(world: &mut World) -> (String, u64, u64) {
    let (before, writes) = (std::mem::take(&mut world.traffic), world.disk.writes);
    drop(before);
    world.run(MINUTE);
    let most: BTreeMap<u64, String> = world.traffic.iter().map(|((verb, of), count)| (*count, format!("{verb} {of}"))).collect();
    let (count, what) = most.into_iter().next_back().unwrap_or_default();
    (what, count, world.disk.writes - writes)
}

/// What goes wrong when one kind of request gets one kind of answer.
fn misbehaviour(request: (&'static str, &'static str), name: &str, canned: Canned) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut world = world();
    world.canned.insert(request, canned);
    world.apply_pod("plain", &["runs"], json!({}));
    apply_needy(&mut world, "needy");
    for minute in 1..=3 {
        if minute == 2 {
            world.delete("plain", None);
        }
        let (what, count, writes) = in_a_minute(&mut world);
        // Registration and pods that start make the first minute lively.
        let (most, most_writes) = if minute == 1 { (32, 40) } else { (16, 16) };
        if count > most || writes > most_writes {
            wrong.push(format!("{request:?} answered with {name}: {count} x {what}, {writes} writes in minute {minute}"));
        }
    }
    if request == ("patch", kind::POD_PATCH) && name.ends_with("error 404") {
        // Then the cluster has it no more.
        assert!(world.runtime.pods.is_empty(), "{:?}", world.runtime.pods);
        return wrong;
    }
    if request == ("patch", kind::POD_PATCH) && world.runtime.running().is_empty() {
        wrong.push(format!("{request:?} answered with {name}: ended the pods"));
    }
    world.canned.clear();
    world.run(2 * MINUTE + 10 * SECOND);
    if world.node_ready() != Some("True") || !world.is_ready("needy") || request != ("delete", kind::POD) && world.pod("plain").is_some() {
        wrong.push(format!("{request:?} answered with {name}: not well again"));
    }
    wrong
}

fn all_answers_to(requests: &[(&'static str, &'static str)]) {
    let all = requests.iter().flat_map(|request| answers().into_iter().map(|(name, canned)| (*request, name, canned)));
    let wrong: Vec<String> = all.flat_map(|(request, name, canned)| misbehaviour(request, &name, canned)).collect();
    assert!(wrong.is_empty(), "{} of them: {wrong:#?}", wrong.len());
}

#[test]
fn whatever_the_cloud_answers_for_pods_it_is_asked_seldom_and_all_goes_on_afterwards() {
    all_answers_to(&POD_REQUESTS);
}

#[test]
fn whatever_the_cloud_answers_for_the_node_it_is_asked_seldom_and_all_goes_on_afterwards() {
    all_answers_to(&NODE_REQUESTS);
}

/// Messages of Events about a pod.
fn messages(world: &World, pod: &str) -> Vec<String> {
    let all = world.cloud.objects().of(kind::EVENT).map(|(_, event)| event).filter(|event| event["involvedObject"]["name"] == pod);
    all.map(|event| format!("{}: {}", event["reason"].as_str().unwrap_or_default(), event["message"].as_str().unwrap_or_default())).collect()
}

#[test]
fn a_token_that_is_refused_is_asked_for_with_growing_pauses_and_the_pod_says_why() {
    let mut world = world();
    world.canned.insert(("query", kind::TOKEN), Canned::Content(json!({ "ErrStatus": { "code": 404, "message": "serviceaccounts \"default\" not found" } })));
    apply_needy(&mut world, "needy");
    world.run(10 * MINUTE);
    let asked = world.traffic[&("query".to_owned(), kind::TOKEN.to_owned())];
    assert!((8..=16).contains(&asked), "{asked} questions in 10 minutes");
    let told = messages(&world, "needy");
    assert_eq!(told, ["FailedMount: MountVolume.SetUp failed for volume \"t\" : token of service account \"default\": serviceaccounts \"default\" not found"]);
    // A session that is new asks at once.
    world.canned.clear();
    world.set_network(Network::Cut);
    world.run(SECOND);
    world.set_network(Network::Up);
    world.run(15 * SECOND);
    assert!(world.is_ready("needy"), "{:#}", world.pod("needy").expect("it is there")["status"]);
}

#[test]
fn a_token_that_has_ended_by_our_clock_is_used_and_asked_for_again_without_a_write_each_time() {
    let mut world = World::new(7);
    world.step_calendar(3 * 3_600_000);
    world.apply(json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "c" }, "data": {} }));
    world.apply(json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "s" }, "data": {} }));
    apply_needy(&mut world, "needy");
    world.run(10 * SECOND);
    assert!(world.is_ready("needy"), "an old token is better than none");
    world.run(2 * MINUTE);
    let (_, _, writes) = in_a_minute(&mut world);
    let before = world.traffic.clone();
    world.run(10 * MINUTE);
    let asked = |traffic: &BTreeMap<(String, String), u64>| traffic.get(&("query".to_owned(), kind::TOKEN.to_owned())).copied().unwrap_or(0);
    let asked = asked(&world.traffic) - asked(&before);
    assert!((4..=12).contains(&asked) && writes <= 8, "{asked} questions in 10 minutes, {writes} writes in a minute");
}
