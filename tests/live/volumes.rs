//! Every kind of volume in one pod.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::stand::{OBEDIENT, Stand, pod};

/// A block device of this machine, or one made here: it is only looked at.
fn block_device(stand: &Stand) -> Option<String> {
    let is_block = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    let known = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"].into_iter().map(Path::new);
    if let Some(found) = known.into_iter().find(|path| is_block(path)) {
        return Some(found.display().to_string());
    }
    let made = stand.dir.join("block");
    let _ = Command::new("mknod").arg(&made).args(["b", "7", "200"]).status();
    is_block(&made).then(|| made.display().to_string())
}

fn host_paths(stand: &Stand) -> Vec<(&'static str, Value)> {
    let dir = stand.dir.display();
    std::fs::create_dir(stand.dir.join("directory")).expect("room");
    std::fs::write(stand.dir.join("file"), "of the host").expect("room");
    let mut paths = vec![
        ("untyped", json!({ "path": format!("{dir}/directory") })),
        ("directory", json!({ "path": format!("{dir}/directory"), "type": "Directory" })),
        ("made", json!({ "path": format!("{dir}/made/here"), "type": "DirectoryOrCreate" })),
        ("file", json!({ "path": format!("{dir}/file"), "type": "File" })),
        ("new", json!({ "path": format!("{dir}/new"), "type": "FileOrCreate" })),
        ("socket", json!({ "path": format!("{dir}/socket"), "type": "Socket" })),
        ("char", json!({ "path": "/dev/null", "type": "CharDevice" })),
    ];
    match block_device(stand) {
        Some(path) => paths.push(("block", json!({ "path": path, "type": "BlockDevice" }))),
        None => eprintln!("not tried: this machine has no block device and none can be made"),
    }
    paths
}

/// With an agent that systemd started, this is what its unit must leave to it.
#[test]
#[ignore = "needs a containerd: make live"]
fn a_pod_has_volumes_of_every_kind() {
    let mut stand = Stand::up("volumes");
    let _listener = UnixListener::bind(stand.dir.join("socket")).expect("a socket");
    stand.apply(&json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "map" }, "data": { "k": "map" } }));
    stand.apply(&json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "secret" }, "data": { "k": "c2VjcmV0" } }));
    let name = json!({ "fieldRef": { "fieldPath": "metadata.name" }, "path": "k" });
    let mut volumes = vec![
        json!({ "name": "disk", "emptyDir": {} }),
        json!({ "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
        json!({ "name": "config-map", "configMap": { "name": "map" } }),
        json!({ "name": "secret", "secret": { "secretName": "secret", "defaultMode": 0o400 } }),
        json!({ "name": "downward", "downwardAPI": { "items": [name] } }),
        json!({ "name": "projected", "projected": { "sources": [{ "secret": { "name": "secret" } }, { "configMap": { "name": "map" } }] } }),
    ];
    let mut mounts: Vec<_> =
        ["disk", "memory", "config-map", "secret", "downward", "projected"].map(|name| json!({ "name": name, "mountPath": format!("/v/{name}") })).into();
    for (name, path) in host_paths(&stand) {
        volumes.push(json!({ "name": name, "hostPath": path }));
        mounts.push(json!({ "name": name, "mountPath": format!("/v/{name}") }));
    }
    mounts.push(json!({ "name": "disk", "mountPath": "/v/part", "subPath": "a/b" }));
    mounts.push(json!({ "name": "config-map", "mountPath": "/v/key", "subPath": "k" }));
    mounts.push(json!({ "name": "disk", "mountPath": "/v/config-map/nested" }));
    let shows = "cd /v; for k in config-map/k secret/k downward/k projected/k key file; do echo \"$k is $(cat $k)\"; done; \
                 for d in disk memory untyped directory made part config-map/nested new; do \
                 if [ -d $d ]; then echo mine >$d/written && echo \"$d is written\"; else echo mine >$d && echo \"$d is written\"; fi; done; \
                 [ -S socket ] && echo socket; [ -c char ] && echo char; [ -b block ] && echo block; \
                 stat -c '%n %a %g' disk memory disk/written secret/..data/k; id; echo done; ";
    let mut whole = pod("whole", &format!("{shows}{OBEDIENT}"));
    whole["spec"]["volumes"] = volumes.into();
    whole["spec"]["securityContext"] = json!({ "fsGroup": 4321 });
    whole["spec"]["containers"][0]["volumeMounts"] = mounts.into();
    stand.apply(&whole);
    let said = |stand: &Stand| {
        let output = stand.command(&["logs", "whole"]).output().expect("the program");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    stand.until("it looked at all", |stand| said(stand).contains("done"));
    let output = said(&stand);
    for line in [
        "config-map/k is map",
        "secret/k is secret",
        "downward/k is whole",
        "projected/k is map",
        "key is map",
        "file is of the host",
        "disk is written",
        "memory is written",
        "untyped is written",
        "directory is written",
        "made is written",
        "part is written",
        "config-map/nested is written",
        "new is written",
        "socket",
        "char",
        "disk 2777 4321",
        "memory 3777 4321",
        "disk/written 644 4321",
        "secret/..data/k 440 4321",
    ] {
        assert!(output.lines().any(|said| said == line), "{line} is missing: {output}");
    }
    let uid = stand.pod("whole").expect("it is shown")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let directory = stand.dir.join("kubelet/pods").join(uid);
    assert!(directory.join("volumes/kubernetes.io~empty-dir/disk/a/b/written").exists());
    stand.agent_is_confined_but_mounts_for_all();
    let before = stand.containers();
    stand.kill_agent();
    stand.start_agent();
    stand.until("the agent is back", |stand| stand.status()["cloud"]["state"] == "online" && stand.is_ready("whole"));
    assert_eq!(stand.containers(), before, "the container is the same");
    stand.delete("whole", None);
    stand.until("nothing is left", |stand| stand.pod("whole").is_none() && !directory.exists());
    let kept = ["directory/written", "made/here/written", "new", "file"].map(|name| stand.dir.join(name).exists());
    assert_eq!(kept, [true; 4], "what is the host's stays");
}
