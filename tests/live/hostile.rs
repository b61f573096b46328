//! Pods that try to make the agent, which is root, read, write or remove what
//! is not theirs.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::stand::{OBEDIENT, Stand, pod};

/// Something of the machine's that no pod may reach.
struct Victim(PathBuf);

impl Victim {
    fn new(stand: &Stand) -> Self {
        let dir = stand.dir.join("victim");
        std::fs::create_dir_all(dir.join("sub")).expect("room");
        std::fs::write(dir.join("0.log"), "T stderr F secret\n").expect("room");
        std::fs::write(dir.join("big"), vec![7; 8 << 20]).expect("room");
        Self(dir)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }

    #[track_caller]
    fn is_untouched(&self) {
        let mut names: Vec<_> = std::fs::read_dir(&self.0).expect("it is there").map(|entry| entry.expect("a name").file_name()).collect();
        names.sort();
        assert_eq!(names, ["0.log", "big", "sub"]);
        let log = self.0.join("0.log");
        assert_eq!(std::fs::read_to_string(&log).expect("it is there"), "T stderr F secret\n");
        for path in [&self.0, &log, &self.0.join("sub")] {
            let meta = std::fs::metadata(path).expect("it is there");
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7022), (0, 0, 0), "{}", path.display());
        }
    }
}

/// A pod whose only container has these mounts of these volumes.
fn with_volumes(name: &str, command: &str, volumes: Value, mounts: Value) -> Value {
    let mut pod = pod(name, command);
    pod["spec"]["volumes"] = volumes;
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    pod
}

fn config_map(name: &str, data: Value) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": data })
}

fn pod_directory(stand: &Stand, pod: &str) -> PathBuf {
    let uid = stand.pod(pod).expect("it is shown")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    stand.dir.join("kubelet/pods").join(uid)
}

fn said(stand: &Stand, pod: &str) -> String {
    let output = stand.command(&["logs", pod]).output().expect("the program");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_gone(stand: &Stand, pod: &str, directory: &Path) -> bool {
    stand.pod(pod).is_none() && !directory.exists()
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_volume_that_the_agent_writes_is_no_way_out() {
    let stand = Stand::up("hostile-files");
    let victim = Victim::new(&stand);
    stand.apply(&config_map("map", json!({ "k": "one" })));
    stand.apply(&json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "secret" }, "data": { "k": "b25l" } }));
    let volumes = json!([
        { "name": "map", "configMap": { "name": "map" } },
        { "name": "secret", "secret": { "secretName": "secret" } },
        { "name": "downward", "downwardAPI": { "items": [{ "path": "k", "fieldRef": { "fieldPath": "metadata.name" } }] } },
        { "name": "projected", "projected": { "sources": [{ "configMap": { "name": "map" } }] } }]);
    let names = ["map", "secret", "downward", "projected"];
    let mounts: Vec<_> = names.map(|name| json!({ "name": name, "mountPath": format!("/{name}"), "readOnly": false })).into();
    let tries = format!(
        "for v in /map /secret /downward /projected; do touch $v/new; ln -sfn {0} $v/..data; \
         rm -rf $v/k; mount -o remount,rw $v; cat $v/k >/dev/null && echo $v is read; done 2>&1; {OBEDIENT}",
        victim.path()
    );
    stand.apply(&with_volumes("attacker", &tries, volumes, mounts.into()));
    stand.until("ready", |stand| stand.is_ready("attacker"));
    stand.until("it tried all", |stand| said(stand, "attacker").contains("/projected is read"));
    let output = said(&stand, "attacker");
    assert_eq!(output.matches("Read-only file system").count(), 8, "{output}");
    // As a container may have left it that began before volumes were read-only.
    let directory = pod_directory(&stand, "attacker").join("volumes");
    for volume in ["kubernetes.io~configmap/map", "kubernetes.io~projected/projected"] {
        let data = directory.join(volume).join("..data");
        std::fs::remove_file(&data).expect("it is a link");
        symlink(&victim.0, &data).expect("room");
        symlink(&victim.0, directory.join(volume).join("..7")).expect("room");
    }
    stand.apply(&config_map("map", json!({ "k": "two", "sub": "new" })));
    for volume in ["kubernetes.io~configmap/map", "kubernetes.io~projected/projected"] {
        let file = |name: &str| std::fs::read_to_string(directory.join(volume).join(name)).unwrap_or_default();
        stand.within(Duration::from_secs(120), "the update is in", |_| file("k") == "two" && file("sub") == "new");
    }
    victim.is_untouched();
    let directory = pod_directory(&stand, "attacker");
    stand.delete("attacker", None);
    stand.until("gone", |stand| is_gone(stand, "attacker", &directory));
    victim.is_untouched();
}

#[test]
#[ignore = "needs a containerd: make live"]
fn what_is_mounted_within_a_read_only_volume_has_its_place_and_hinders_no_update() {
    let stand = Stand::up("hostile-nested");
    stand.apply(&config_map("outer", json!({ "psk": "p1" })));
    stand.apply(&config_map("inner", json!({ "agent.yaml": "a: 1" })));
    let volumes = json!([
        { "name": "outer", "configMap": { "name": "outer" } },
        { "name": "memory", "projected": { "sources": [{ "configMap": { "name": "outer" } }] } },
        { "name": "inner", "configMap": { "name": "inner" } },
        { "name": "scratch", "emptyDir": {} },
        { "name": "host", "hostPath": { "path": "/etc/hostname" } }]);
    let mounts = json!([
        { "name": "inner", "mountPath": "/etc/mesh/config" },
        { "name": "outer", "mountPath": "/etc/mesh" },
        { "name": "scratch", "mountPath": "/etc/mesh/deep/er" },
        { "name": "inner", "mountPath": "/etc/mesh/one.yaml", "subPath": "agent.yaml" },
        { "name": "host", "mountPath": "/etc/mesh/hostname" },
        { "name": "memory", "mountPath": "/etc/mesh/memory" },
        { "name": "inner", "mountPath": "/etc/mesh/memory/in" }]);
    let shows = "while :; do cd /; cat /etc/mesh/psk /etc/mesh/config/agent.yaml /etc/mesh/one.yaml \
                 /etc/mesh/memory/in/agent.yaml /etc/mesh/memory/psk /etc/mesh/extra 2>/dev/null | tr '\\n' ' '; \
                 touch /etc/mesh/deep/er/file && test -s /etc/mesh/hostname && echo all; sleep 1; done";
    let mut nest = with_volumes("nest", shows, volumes, mounts);
    nest["spec"]["containers"][0]["terminationMessagePath"] = "/etc/mesh/words".into();
    stand.apply(&nest);
    stand.until("ready", |stand| stand.is_ready("nest"));
    stand.until("all is mounted", |stand| said(stand, "nest").contains("p1a: 1a: 1a: 1p1all"));
    stand.apply(&config_map("outer", json!({ "psk": "p2", "extra": "new", "config": "covered" })));
    let shown = |stand: &Stand| said(stand, "nest").contains("p2a: 1a: 1a: 1p2newall");
    stand.within(Duration::from_secs(120), "the update is in", shown);
    let outer = pod_directory(&stand, "nest").join("volumes/kubernetes.io~configmap/outer");
    assert!(outer.join("config").is_dir() && !outer.join("..1").exists() && outer.join("..2").exists());
}

#[test]
#[ignore = "needs a containerd: make live"]
fn links_in_an_empty_dir_are_not_counted_owned_or_removed() {
    let mut stand = Stand::up("hostile-scratch");
    let victim = Victim::new(&stand);
    let volumes = json!([
        { "name": "scratch", "emptyDir": { "sizeLimit": "1Mi" } },
        { "name": "deep", "emptyDir": {} },
        { "name": "memory", "emptyDir": { "medium": "Memory" } }]);
    let mounts: Vec<_> = ["scratch", "deep", "memory"].map(|name| json!({ "name": name, "mountPath": format!("/{name}") })).into();
    let mounts = json!(mounts);
    let plants = format!(
        "for d in /scratch /memory; do cd $d; ln -s {0} all; ln -s {0}/big file; ln -s /proc proc; mkfifo pipe; \
         mknod null c 1 3; mkdir -p a/b; ln -s {0} a/b/all; truncate -s 1G sparse; ls -ldn .; done; \
         cd /deep; d=$(printf 'ddddddddd/%.0s' $(seq 300)); mkdir -p $d e/$d; mv e $d && echo planted; {OBEDIENT}",
        victim.path()
    );
    let mut attacker = with_volumes("attacker", &plants, volumes.clone(), mounts.clone());
    attacker["spec"]["securityContext"] = json!({ "fsGroup": 4321 });
    stand.apply(&attacker);
    stand.until("it planted all", |stand| said(stand, "attacker").contains("planted"));
    // In memory nobody removes another's files.
    for mode in ["drwxrwsrwx", "drwxrwsrwt"] {
        assert_eq!(said(&stand, "attacker").matches(mode).count(), 1, "{}", said(&stand, "attacker"));
    }
    assert_eq!(said(&stand, "attacker").matches("4321").count(), 2);
    // Everything is prepared once more.
    stand.kill_agent();
    stand.start_agent();
    let fills = format!("sleep 1; dd if=/dev/zero of=/scratch/file bs=64k count=48; {OBEDIENT}");
    stand.apply(&with_volumes("greedy", &fills, volumes, mounts));
    stand.until("who is too large is evicted", |stand| stand.pod("greedy").is_some_and(|pod| pod["status"]["reason"] == "Evicted"));
    assert!(stand.is_ready("attacker"), "what links lead to is not counted");
    victim.is_untouched();
    let directory = pod_directory(&stand, "attacker");
    stand.delete("attacker", None);
    stand.until("all of it is removed", |stand| is_gone(stand, "attacker", &directory));
    victim.is_untouched();
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_part_of_a_volume_is_never_outside_of_it() {
    let stand = Stand::up("hostile-parts");
    let victim = Victim::new(&stand);
    for (name, link) in [("absolute", victim.path()), ("relative", "../../../../../../victim"), ("swapped", "near")] {
        let mut pod = with_volumes(
            name,
            &format!("touch /part/new; echo ran; {OBEDIENT}"),
            json!([{ "name": "scratch", "emptyDir": {} }]),
            json!([{ "name": "scratch", "mountPath": "/part", "subPathExpr": "$(PART)/sub" }]),
        );
        pod["spec"]["containers"][0]["env"] = json!([{ "name": "PART", "value": "part" }]);
        let plant = format!("mkdir -p /scratch/near/sub; ln -s {link} /scratch/part");
        pod["spec"]["initContainers"] = json!([{ "name": "plant", "image": "docker.io/library/busybox:1.36",
            "command": ["sh", "-c", plant], "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }] }]);
        stand.apply(&pod);
    }
    // A link that stays in the volume is as good as a directory.
    stand.until("ready", |stand| stand.is_ready("swapped"));
    let near = pod_directory(&stand, "swapped").join("volumes/kubernetes.io~empty-dir/scratch/near/sub/new");
    stand.until("it wrote", |_| near.exists());
    let refused = |stand: &Stand, name: &str| {
        let waiting = stand.pod(name).expect("it is shown")["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        let message = waiting["message"].as_str().unwrap_or_default();
        waiting["reason"] == "CreateContainerConfigError"
            && message.starts_with("failed to prepare subPath for volumeMount \"scratch\" of container \"c\"")
            && message.ends_with("/scratch/part/sub': it leads out of the volume")
    };
    for name in ["absolute", "relative"] {
        stand.until("it is refused", |stand| refused(stand, name));
        assert!(!said(&stand, name).contains("ran"));
    }
    victim.is_untouched();
}

/// With a log shipper's and a backup's mounts, but writable.
#[test]
#[ignore = "needs a containerd: make live"]
fn links_in_place_of_logs_and_last_words_lead_nowhere() {
    let stand = Stand::up("hostile-logs");
    let victim = Victim::new(&stand);
    let mut chatty = pod("chatty", "trap 'exit 3' TERM; echo mine; while :; do sleep 0.1; done");
    chatty["spec"]["restartPolicy"] = "Never".into();
    chatty["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    for name in ["chatty", "piped"] {
        chatty["metadata"]["name"] = name.into();
        stand.apply(&chatty);
        stand.until("ready", |stand| stand.is_ready(name));
        stand.until("it spoke", |stand| said(stand, name) == "mine\n");
    }
    let directories = ["chatty", "piped"].map(|name| pod_directory(&stand, name));
    let uid = |at: usize| directories[at].file_name().expect("a uid").to_str().expect("text").to_owned();
    let root = stand.dir.display();
    let plants = format!(
        "cd /pods/default_chatty_{0}; rm -rf c; ln -s {2} c; cd /kubelet/pods/{0}/containers/c; ln -sf {2}/0.log *; \
         cd /pods/default_piped_{1}/c; rm 0.log; mkfifo 0.log; cd /kubelet/pods/{1}/containers/c; \
         f=$(ls); rm $f; mkfifo $f; echo planted; {OBEDIENT}",
        uid(0),
        uid(1),
        victim.path()
    );
    let volumes = json!([
        { "name": "pods", "hostPath": { "path": format!("{root}/pods") } },
        { "name": "kubelet", "hostPath": { "path": format!("{root}/kubelet") } }]);
    let mounts = json!([{ "name": "pods", "mountPath": "/pods" }, { "name": "kubelet", "mountPath": "/kubelet" }]);
    stand.apply(&with_volumes("attacker", &plants, volumes, mounts));
    stand.until("it planted all", |stand| said(stand, "attacker").contains("planted"));
    assert_eq!((said(&stand, "chatty"), said(&stand, "piped")), (String::new(), String::new()), "nothing of the victim is shown");
    for (pod, _, id) in stand.containers() {
        if pod != "attacker" {
            stand.kill_container(&id);
        }
    }
    for name in ["chatty", "piped"] {
        let ended = |stand: &Stand| {
            let state = stand.pod(name).expect("it is shown")["status"]["containerStatuses"][0]["state"]["terminated"].clone();
            (!state.is_null()).then(|| state["message"].as_str().unwrap_or_default().to_owned())
        };
        stand.until("its end is known", |stand| ended(stand).is_some());
        assert_eq!(ended(&stand).as_deref(), Some(""), "{name}");
    }
    let logs = [0, 1].map(|at| stand.dir.join(format!("pods/default_{}_{}", ["chatty", "piped"][at], uid(at))));
    for (at, name) in ["chatty", "piped"].into_iter().enumerate() {
        stand.delete(name, None);
        stand.until("all of it is removed", |stand| is_gone(stand, name, &directories[at]) && !logs[at].exists());
    }
    victim.is_untouched();
}

#[test]
#[ignore = "needs a containerd: make live"]
fn nothing_is_made_through_a_link_in_a_shared_directory() {
    let stand = Stand::up("hostile-share");
    let victim = Victim::new(&stand);
    let share = stand.dir.join("share");
    std::fs::create_dir(&share).expect("room");
    let shared = json!({ "name": "share", "hostPath": { "path": share } });
    let mount = json!([{ "name": "share", "mountPath": "/share" }]);
    let plants = format!("cd /share; ln -s {0} link; ln -s {0}/new dangling; echo planted; {OBEDIENT}", victim.path());
    stand.apply(&with_volumes("attacker", &plants, json!([shared]), mount.clone()));
    stand.until("it planted all", |stand| said(stand, "attacker").contains("planted"));
    for (name, path, kind) in [("directory", "link/new", "DirectoryOrCreate"), ("file", "dangling", "FileOrCreate")] {
        let made = json!({ "name": "made", "hostPath": { "path": share.join(path), "type": kind } });
        stand.apply(&with_volumes(name, OBEDIENT, json!([shared, made]), mount.clone()));
        let refused = |stand: &Stand| {
            let events = stand.get("event");
            let why = format!("MountVolume.SetUp failed for volume \"made\" : '{}", share.display());
            events.iter().any(|event| event["message"].as_str().is_some_and(|text| text.starts_with(&why)))
        };
        stand.until("it is refused", refused);
    }
    let made = json!({ "name": "made", "hostPath": { "path": share.join("good/dir"), "type": "DirectoryOrCreate" } });
    stand.apply(&with_volumes("good", OBEDIENT, json!([shared, made]), mount));
    stand.until("ready", |stand| stand.is_ready("good"));
    assert!(share.join("good/dir").is_dir());
    victim.is_untouched();
}
