//! What a manifest multiplies has limits, and each is told by the field's name.

use std::time::Duration;

use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);

/// A world with one pod, of one container that has `parts` beside its command,
/// and what else its spec has.
fn with_pod(world: &mut World, parts: &Value, more: &Value) {
    let mut container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"] });
    for (key, value) in parts.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    let mut spec = more.clone();
    spec["containers"] = json!([container]);
    world.apply_pod("p", &[], spec);
    world.run(5 * SECOND);
}

/// Why the container waits.
fn waits(world: &World) -> (String, String) {
    let waiting = &world.pod("p").expect("it is there")["status"]["containerStatuses"][0]["state"]["waiting"];
    let text = |key: &str| waiting[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Variables, each twice the one before.
fn doubling(count: usize) -> Vec<Value> {
    let first = json!({ "name": "E0", "value": "0123456789" });
    let next = |number| json!({ "name": format!("E{number}"), "value": format!("$(E{0})$(E{0})", number - 1) });
    std::iter::once(first).chain((1..count).map(next)).collect()
}

fn config_map(world: &mut World, name: &str, data: &Value) {
    world.apply(json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": data }));
}

#[test]
fn variables_that_double_end_at_what_a_process_may_be_given() {
    let mut world = World::ready(80);
    with_pod(&mut world, &json!({ "env": doubling(31) }), &json!({}));
    let config_error = |field: &str| ("CreateContainerConfigError".to_owned(), field.to_owned());
    assert_eq!(waits(&world), config_error("spec.containers{c}.env[14] \"E14\": a variable with its name is longer than 131071 bytes"));

    // What is just possible runs.
    let mut world = World::ready(81);
    with_pod(&mut world, &json!({ "env": doubling(14) }), &json!({}));
    assert!(world.is_ready("p"), "{:?}", waits(&world));

    let full = "$(E13)$(E13)".repeat(100);
    let many: Vec<Value> = (0..40).map(|number| json!({ "name": format!("M{number}"), "value": "$(E13)" })).collect();
    let all = "more than 2097152 bytes of arguments and environment";
    for (parts, wanted) in [
        (json!({ "env": doubling(14), "args": [full] }), format!("spec.containers{{c}}.args[0]: {all}")),
        (json!({ "env": doubling(14), "command": ["runs", full] }), format!("spec.containers{{c}}.command[1]: {all}")),
        (json!({ "env": doubling(14).into_iter().chain(many).collect::<Vec<_>>() }), format!("spec.containers{{c}}.env[37] \"M23\": {all}")),
    ] {
        let mut world = World::ready(82);
        with_pod(&mut world, &parts, &json!({}));
        assert_eq!(waits(&world), config_error(&wanted));
        let told = world.events_of("p");
        assert_eq!(told.get(&("Failed".to_owned(), format!("Error: {wanted}"))), Some(&1), "{told:?}");
    }
}

#[test]
fn sub_paths_end_at_the_longest_path() {
    let scratch = json!({ "volumes": [{ "name": "v", "emptyDir": {} }] });
    let mount = |number: usize| json!({ "name": "v", "mountPath": format!("/m{number}"), "subPathExpr": "$(E8)" });
    for (parts, wanted) in [
        (
            json!({ "env": doubling(14), "volumeMounts": [{ "name": "v", "mountPath": "/m", "subPathExpr": "$(E13)" }] }),
            "failed to prepare subPath for volumeMount \"v\" of container \"c\": subPathExpr: a path of more than 4096 bytes",
        ),
        (
            json!({ "env": doubling(14), "volumeMounts": (0..500).map(mount).collect::<Vec<_>>() }),
            "spec.containers{c}.volumeMounts[409]: more than 1048576 bytes of sub paths",
        ),
    ] {
        let mut world = World::ready(83);
        with_pod(&mut world, &parts, &scratch);
        assert_eq!(waits(&world), ("CreateContainerConfigError".to_owned(), wanted.to_owned()));
    }
}

#[test]
fn an_object_named_many_times_is_read_once_and_counts_each_time() {
    let mut world = World::ready(84);
    config_map(&mut world, "large", &json!({ "key": "x".repeat(900 << 10), "small": "s" }));
    config_map(&mut world, "keys", &json!({ "k": "x".repeat(100 << 10) }));
    let from: Vec<Value> = (0..1000).map(|number| json!({ "prefix": format!("P{number}_"), "configMapRef": { "name": "keys" } })).collect();
    with_pod(&mut world, &json!({ "envFrom": from }), &json!({}));
    let (reason, message) = waits(&world);
    assert_eq!(reason, "CreateContainerConfigError");
    assert_eq!(message, "spec.containers{c}.envFrom[20] key \"k\": more than 2097152 bytes of arguments and environment");

    // Small parts of a large object are no trouble.
    let mut world = World::ready(85);
    config_map(&mut world, "large", &json!({ "key": "x".repeat(900 << 10), "small": "s" }));
    let small = |number| json!({ "name": format!("S{number}"), "valueFrom": { "configMapKeyRef": { "name": "large", "key": "small" } } });
    with_pod(&mut world, &json!({ "env": (0..1000).map(small).collect::<Vec<_>>() }), &json!({}));
    assert!(world.is_ready("p"), "{:?}", waits(&world));
}

#[test]
fn files_of_volumes_end_at_a_size_that_is_told() {
    let labels: Vec<Value> = (0..2000).map(|number| json!({ "path": format!("f{number}"), "fieldRef": { "fieldPath": "metadata.annotations" } })).collect();
    let keys: Vec<Value> = (0..2000).map(|number| json!({ "key": "key", "path": format!("f{number}") })).collect();
    let secrets: Vec<Value> = (0..2000).map(|_| json!({ "secret": { "name": "secret" } })).collect();
    let tokens: Vec<Value> =
        (0..65).map(|number| json!({ "serviceAccountToken": { "path": format!("t{number}"), "audience": format!("a{number}") } })).collect();
    let too_large =
        |file: &str| format!("MountVolume.SetUp failed for volume \"v\" : file \"{file}\": more than 16777216 bytes of files in the volumes of a pod");
    for (volume, wanted) in [
        (json!({ "downwardAPI": { "items": labels } }), too_large("f167")),
        (json!({ "projected": { "sources": [{ "downwardAPI": { "items": labels } }] } }), too_large("f167")),
        (json!({ "configMap": { "name": "large", "items": keys } }), too_large("f18")),
        (json!({ "secret": { "secretName": "secret", "items": keys } }), too_large("f18")),
        (json!({ "projected": { "sources": secrets } }), too_large("key")),
        (json!({ "projected": { "sources": tokens } }), "spec.volumes: more than 64 service account tokens of a pod".to_owned()),
    ] {
        let mut world = World::ready(86);
        config_map(&mut world, "large", &json!({ "key": "x".repeat(900 << 10) }));
        let secret = json!({ "key": "QUFB".repeat(300 << 10) });
        world.apply(json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "secret" }, "data": secret }));
        let mut volume = volume;
        volume["name"] = "v".into();
        let container = json!({ "name": "c", "image": "busybox:1", "command": ["runs"] });
        world.apply(json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": "p", "annotations": { "a": "x".repeat(100_000) } },
            "spec": { "automountServiceAccountToken": false, "containers": [container], "volumes": [volume] },
        }));
        world.run(5 * SECOND);
        let told = world.events_of("p");
        assert!(told.contains_key(&("FailedMount".to_owned(), wanted.clone())), "{wanted} in {told:?}");
    }
}
