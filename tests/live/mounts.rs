//! Mounts within mounts, parts of volumes, and what is told when one fails.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::stand::{OBEDIENT, Stand, pod};

/// What cannot be mounted: volumes, the mounts of the container, the reason that its
/// status or an Event gives, and how the message begins and ends.
struct Wrong {
    name: &'static str,
    volumes: Value,
    mounts: Value,
    reason: &'static str,
    begin: String,
    end: String,
}

fn wrong(dir: &Path) -> Vec<Wrong> {
    let file = dir.join("file").display().to_string();
    let missing = dir.join("missing").display().to_string();
    let host = |path: &str, kind: &str| json!([{ "name": "v", "hostPath": { "path": path, "type": kind } }]);
    let scratch = json!([{ "name": "v", "emptyDir": {} }]);
    let mount = json!([{ "name": "v", "mountPath": "/v" }]);
    let part = |path: &str| json!([{ "name": "v", "mountPath": "/v", "subPath": path }]);
    let set_up = || "MountVolume.SetUp failed for volume \"v\" : ".to_owned();
    let sub_path = |path: &str| format!("failed to prepare subPath for volumeMount \"v\" of container \"c\": subPath \"{path}\": ");
    vec![
        Wrong {
            name: "directory",
            volumes: host(&file, "Directory"),
            mounts: mount.clone(),
            reason: "FailedMount",
            begin: set_up() + "hostPath type check failed: ",
            end: format!("{file} is not a directory"),
        },
        Wrong {
            name: "socket",
            volumes: host(&missing, "Socket"),
            mounts: mount.clone(),
            reason: "FailedMount",
            begin: set_up() + "hostPath type check failed: ",
            end: format!("{missing} is not a socket file"),
        },
        Wrong {
            name: "create",
            volumes: host(&format!("{file}/below"), "DirectoryOrCreate"),
            mounts: mount.clone(),
            reason: "FailedMount",
            begin: set_up() + &format!("'{file}"),
            end: "Not a directory (os error 20)".to_owned(),
        },
        Wrong {
            name: "no-map",
            volumes: json!([{ "name": "v", "configMap": { "name": "none" } }]),
            mounts: mount.clone(),
            reason: "FailedMount",
            begin: set_up(),
            end: "configmap \"none\" not found".to_owned(),
        },
        Wrong {
            name: "no-key",
            volumes: json!([{ "name": "v", "secret": { "secretName": "secret", "items": [{ "key": "none", "path": "p" }] } }]),
            mounts: mount,
            reason: "FailedMount",
            begin: set_up(),
            end: "references non-existent secret key: none".to_owned(),
        },
        Wrong {
            name: "through-a-file",
            volumes: host(&dir.display().to_string(), ""),
            mounts: part("file/below"),
            reason: "CreateContainerConfigError",
            begin: sub_path("file/below"),
            end: format!("'{file}/below': Not a directory (os error 20)"),
        },
        Wrong {
            name: "no-variable",
            volumes: scratch,
            mounts: json!([{ "name": "v", "mountPath": "/v", "subPathExpr": "$(NONE)/x" }]),
            reason: "CreateContainerConfigError",
            begin: "failed to prepare subPath for volumeMount \"v\" of container \"c\"".to_owned(),
            end: "missing value for NONE".to_owned(),
        },
        Wrong {
            name: "on-a-file",
            volumes: json!([{ "name": "v", "secret": { "secretName": "secret" } }, { "name": "w", "emptyDir": {} }]),
            mounts: json!([{ "name": "v", "mountPath": "/v" }, { "name": "w", "mountPath": "/v/key" }]),
            reason: "CreateContainerConfigError",
            begin: "failed to make the mount point \"/v/key\" of container \"c\": ".to_owned(),
            end: "/v/key': a directory cannot be mounted on a file".to_owned(),
        },
    ]
}

/// The message that is told with a reason: in the status of the container, and in an
/// Event of its pod.
fn told(stand: &Stand, wrong: &Wrong) -> Option<String> {
    let events = stand.get("event").into_iter().filter(|event| event["involvedObject"]["name"] == wrong.name);
    let events = events.map(|event| (event["reason"].clone(), event["message"].as_str().unwrap_or_default().to_owned()));
    if wrong.reason == "FailedMount" {
        return events.into_iter().find(|(reason, _)| reason == wrong.reason).map(|(_, message)| message);
    }
    let waiting = stand.pod(wrong.name)?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    let message = waiting["message"].as_str().filter(|_| waiting["reason"] == wrong.reason)?.to_owned();
    let said = format!("Error: {message}");
    events.into_iter().any(|(reason, told)| reason == "Failed" && told == said).then_some(message)
}

fn secret(data: &Value) -> Value {
    json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "secret" }, "data": data })
}

fn with_volumes(name: &str, command: &str, volumes: &Value, mounts: &Value) -> Value {
    let mut pod = pod(name, command);
    pod["spec"]["volumes"] = volumes.clone();
    pod["spec"]["containers"][0]["volumeMounts"] = mounts.clone();
    pod
}

#[test]
#[ignore = "needs a containerd: make live"]
fn what_cannot_be_mounted_is_told_with_reason_volume_and_path() {
    let stand = Stand::up("mount-errors");
    std::fs::write(stand.dir.join("file"), "of the host").expect("room");
    stand.apply(&secret(&json!({ "key": "b25l" })));
    let all = wrong(&stand.dir);
    for wrong in &all {
        stand.apply(&with_volumes(wrong.name, OBEDIENT, &wrong.volumes, &wrong.mounts));
    }
    for wrong in &all {
        stand.until(&format!("{} is told", wrong.name), |stand| told(stand, wrong).is_some());
        let message = told(&stand, wrong).expect("it was told");
        let is_right = message.starts_with(&wrong.begin) && message.ends_with(&wrong.end);
        assert!(is_right, "{}: {message}\nbut {} ... {}", wrong.name, wrong.begin, wrong.end);
    }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn updates_arrive_in_every_volume_that_others_are_mounted_in() {
    let stand = Stand::up("mounts-nested");
    stand.apply(&secret(&json!({ "key": "b25l", "token": "dDE=" })));
    let map = |text: &str| json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "map" }, "data": { "k": text } });
    stand.apply(&map("one"));
    let item = |key: &str, path: &str| json!({ "key": key, "path": path });
    let volumes = json!([
        { "name": "outer", "secret": { "secretName": "secret", "optional": true,
            "items": [item("key", "dir/key"), item("token", "token")] } },
        { "name": "middle", "projected": { "sources": [{ "configMap": { "name": "map" } },
            { "configMap": { "name": "none", "optional": true } }] } },
        { "name": "down", "downwardAPI": { "items": [{ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } }] } },
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "scratch", "emptyDir": {} }]);
    // Three levels; a file on a file of the volume; a part as the outer one.
    let mounts = json!([
        { "name": "outer", "mountPath": "/o" },
        { "name": "middle", "mountPath": "/o/in/middle" },
        { "name": "down", "mountPath": "/o/in/middle/down" },
        { "name": "scratch", "mountPath": "/o/in/middle/down/scratch" },
        { "name": "map", "mountPath": "/o/token", "subPath": "k" },
        { "name": "outer", "mountPath": "/part", "subPath": "dir" },
        { "name": "scratch", "mountPath": "/part/scratch" }]);
    // What is mounted on a file, and a part, are those of the begin, as kubelet has it.
    let shows = "cat /o/token /part/key && touch /part/scratch/f && echo begun; \
                 while :; do cat /o/dir/key /o/in/middle/k /o/in/middle/down/name | tr '\\n' ' '; \
                 touch /o/in/middle/down/scratch/f && echo .; sleep 1; done";
    stand.apply(&with_volumes("nest", shows, &volumes, &mounts));
    stand.until("ready", |stand| stand.is_ready("nest"));
    let said = |stand: &Stand| String::from_utf8_lossy(&stand.command(&["logs", "nest"]).output().expect("the program").stdout).into_owned();
    stand.until("all is mounted", |stand| said(stand).contains("oneonebegun\noneonenest."));
    stand.apply(&secret(&json!({ "key": "dHdv", "token": "dDI=" })));
    stand.apply(&map("two"));
    stand.within(Duration::from_secs(120), "the updates are in", |stand| said(stand).contains("\ntwotwonest."));
}

#[test]
#[ignore = "needs a containerd: make live"]
fn scratch_volumes_have_the_modes_that_kubelet_gives_them() {
    let stand = Stand::up("mount-modes");
    let volumes = json!([
        { "name": "disk", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory" } },
        { "name": "limited", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }]);
    let mut mounts = Vec::new();
    for name in ["disk", "memory", "limited"] {
        mounts.push(json!({ "name": name, "mountPath": format!("/{name}") }));
        mounts.push(json!({ "name": name, "mountPath": format!("/{name}-part"), "subPath": "a/b" }));
    }
    let shows = format!("stat -c '%n %a %g' /disk* /memory* /limited* /memory/a; echo all; {OBEDIENT}");
    for (name, group, disk, memory) in [("plain", None, "777 0", "1777 0"), ("grouped", Some(4321), "2777 4321", "3777 4321")] {
        let mut pod = with_volumes(name, &shows, &volumes, &json!(mounts));
        pod["spec"]["securityContext"] = json!({ "fsGroup": group });
        stand.apply(&pod);
        let said = |stand: &Stand| String::from_utf8_lossy(&stand.command(&["logs", name]).output().expect("the program").stdout).into_owned();
        stand.until("it looked", |stand| said(stand).contains("all"));
        let said = said(&stand);
        for path in ["/disk", "/disk-part", "/memory", "/memory-part", "/memory/a", "/limited", "/limited-part"] {
            let mode = if path.starts_with("/disk") { disk } else { memory };
            assert!(said.lines().any(|line| line == format!("{path} {mode}")), "{path} is not {mode}: {said}");
        }
    }
}
