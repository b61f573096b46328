//! What must hold on a real runtime.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use selvedge::cloud::objects::condition;
use selvedge::node::chance::Chance;
use serde_json::json;

use super::stand::{OBEDIENT, Stand, pause, pod};

#[test]
#[ignore = "needs a containerd: make live"]
fn a_pod_lives_is_seen_and_ends() {
    let stand = Stand::up("life");
    stand.apply(&pod("hello", &format!("echo hello; {OBEDIENT}")));
    stand.until("ready", |stand| stand.is_ready("hello"));
    let said = |arguments: &[&str]| {
        let output = stand.command(arguments).output().expect("the program");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(said(&["logs", "hello"]), "hello\n");
    assert!(said(&["get", "pods"]).contains("hello") && said(&["describe", "pod", "hello"]).contains("Running"));
    assert!(said(&["status"]).contains("1 running of 1") && said(&["get", "node", "-o", "json"]).contains("live"));
    stand.delete("hello", None);
    stand.until("gone", |stand| stand.pod("hello").is_none());
    stand.until("nothing is left", |stand| stand.containers().is_empty());
}

#[test]
#[ignore = "needs a containerd: make live"]
fn pods_outlive_cloud_and_agent_and_both_are_found_again() {
    let mut stand = Stand::up("cut");
    stand.apply(&pod("stays", OBEDIENT));
    stand.until("ready", |stand| stand.is_ready("stays"));
    let before = stand.containers();
    stand.stop_cloud();
    stand.kill_agent();
    stand.start_agent();
    pause(Duration::from_secs(3));
    assert_eq!(stand.containers(), before, "the container is the same");
    // What dies offline is started again, offline.
    stand.kill_container(&before[0].2);
    stand.until("a new container runs", |stand| stand.containers().iter().any(|container| !before.contains(container)));
    stand.start_cloud();
    let took = stand.until("the cloud knows", |stand| {
        stand.pod("stays").is_some_and(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1 && condition(&pod, "Ready") == Some("True"))
    });
    eprintln!("in sync {} ms after the cloud listens again", took.as_millis());
    assert!(took < Duration::from_secs(3), "in sync after {took:?}");
}

/// A process that ends, and one that cannot be begun.
#[test]
#[ignore = "needs a containerd: make live"]
fn a_container_that_ends_starts_again_at_once_and_then_waits() {
    let stand = Stand::up("restarts");
    let mut broken = pod("broken", "");
    broken["spec"]["containers"][0]["command"] = json!(["/no/such/program"]);
    for (name, manifest, reason) in [("ends", pod("ends", "exit 3"), "Error"), ("broken", broken, "StartError")] {
        stand.apply(&manifest);
        let took = stand.until("it waits after its first restart", |stand| {
            let status = &stand.pod(name).unwrap_or_default()["status"]["containerStatuses"][0];
            let waits = status["state"]["waiting"]["reason"] == "CrashLoopBackOff" && status["restartCount"] == 1;
            waits && status["lastState"]["terminated"]["reason"] == reason
        });
        eprintln!("'{name}' waits after its first restart, {} ms after it was applied", took.as_millis());
        assert!(took < Duration::from_secs(9), "'{name}' took {took:?}: the first restart waits for nothing");
        let wait = &stand.pod(name).unwrap_or_default()["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
        assert!(wait.as_str().unwrap_or_default().starts_with("back-off 10s restarting failed container=c pod="), "{wait}");
    }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_renewed_certificate_touches_no_pod() {
    let mut stand = Stand::up("renewal");
    stand.apply(&pod("stays", OBEDIENT));
    stand.until("ready", |stand| stand.is_ready("stays"));
    let before = stand.containers();
    // From now on certificates are due as soon as they are given.
    stand.stop_cloud();
    stand.cloud_options = vec!["--certificate-life", "20s"];
    stand.start_cloud();
    stand.join();
    stand.kill_agent();
    stand.start_agent();
    stand.until("a session is opened with the new certificate", |stand| stand.has_renewed() && stand.status()["cloud"]["state"] == "online");
    assert!(stand.is_ready("stays"));
    assert_eq!(stand.containers(), before, "the container is the same");
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_pod_that_will_not_end_is_ended_by_force() {
    let stand = Stand::up("force");
    for (name, grace) in [("shorter", Some(2)), ("by-force", Some(0))] {
        let mut stubborn = pod(name, "trap '' TERM; while :; do sleep 1; done");
        stubborn["spec"]["terminationGracePeriodSeconds"] = 300.into();
        stand.apply(&stubborn);
        stand.until("ready", |stand| stand.is_ready(name));
        stand.delete(name, None);
        pause(Duration::from_secs(1));
        assert!(stand.pod(name).is_some() && !stand.containers().is_empty(), "it has five minutes");
        stand.delete(name, grace);
        let took = stand.until("nothing is left", |stand| stand.pod(name).is_none() && stand.containers().is_empty());
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_hook_that_hangs_does_not_hold_up_the_end() {
    let stand = Stand::up("hook");
    let hang = |words: &str| json!({ "exec": { "command": ["sh", "-c", words] } });
    for (name, hook, grace, most) in [
        ("post-start", "postStart", None, 8),
        ("post-start-forced", "postStart", Some(0), 6),
        ("pre-stop", "preStop", None, 10),
        ("pre-stop-shortened", "preStop", Some(1), 8),
    ] {
        let mut pod = pod(name, OBEDIENT);
        pod["spec"]["terminationGracePeriodSeconds"] = if name == "pre-stop-shortened" { 300 } else { 3 }.into();
        pod["spec"]["containers"][0]["lifecycle"][hook] = hang("sleep 100000");
        stand.apply(&pod);
        stand.until("a container runs", |stand| !stand.containers().is_empty());
        pause(Duration::from_secs(1));
        if name == "pre-stop-shortened" {
            stand.delete(name, None);
            pause(Duration::from_secs(1));
        }
        stand.delete(name, grace);
        let took = stand.until("nothing is left", |stand| stand.pod(name).is_none() && stand.containers().is_empty());
        eprintln!("{name} ended {} ms after its deletion", took.as_millis());
        assert!(took < Duration::from_secs(most), "{name}: {took:?}");
    }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_port_of_the_node_leads_into_the_pod() {
    let stand = Stand::up("host-port");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut web = pod("web", "mkdir /www; echo hello from inside >/www/index.html; exec httpd -f -p 8080 -h /www");
    web["spec"]["containers"][0]["ports"] = json!([{ "containerPort": 8080, "hostPort": port }]);
    stand.apply(&web);
    stand.until("ready", |stand| stand.is_ready("web"));
    let node = stand.get("node")[0]["status"]["addresses"][0]["address"].as_str().expect("an address").to_owned();
    let ask = || {
        let mut stream = TcpStream::connect((node.as_str(), port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| answer)
    };
    stand.until("it answers", |_| ask().is_some_and(|answer| answer.contains("hello from inside")));
    // Two pods cannot have it: the cloud binds no second one, and the node rejects one
    // that is bound to it all the same.
    let mut other = web.clone();
    other["metadata"]["name"] = "other".into();
    other["spec"]["nodeName"] = "live".into();
    stand.apply(&other);
    stand.until("the other is rejected", |stand| stand.pod("other").is_some_and(|pod| pod["status"]["reason"] == "NodePorts"));
    stand.delete("web", None);
    stand.until("nothing answers any more", |_| ask().is_none());
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_pod_that_overfills_its_volume_makes_room() {
    let stand = Stand::up("evict");
    let mut greedy = pod("greedy", &format!("sleep 1; dd if=/dev/zero of=/scratch/file bs=64k count=48; {OBEDIENT}"));
    greedy["spec"]["volumes"] = json!([{ "name": "scratch", "emptyDir": { "sizeLimit": "1Mi" } }]);
    greedy["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "scratch", "mountPath": "/scratch" }]);
    greedy["spec"]["terminationGracePeriodSeconds"] = 300.into();
    stand.apply(&greedy);
    stand.apply(&pod("modest", OBEDIENT));
    stand.until("both are ready", |stand| stand.is_ready("greedy") && stand.is_ready("modest"));
    stand.until("it is evicted", |stand| stand.pod("greedy").is_some_and(|pod| pod["status"]["phase"] == "Failed"));
    let status = stand.pod("greedy").expect("it is shown")["status"].clone();
    assert_eq!((&status["reason"], &status["message"]), (&json!("Evicted"), &json!("Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ")));
    let uid = stand.pod("greedy").expect("it is shown")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let directory = stand.dir.join("kubelet/pods").join(uid);
    stand.until("its volumes are gone", |_| !directory.join("volumes").exists());
    let logs = stand.command(&["logs", "greedy"]).output().expect("the program");
    assert!(String::from_utf8_lossy(&logs.stdout).contains("48+0 records out"), "its logs are still there: {logs:?}");
    assert!(stand.is_ready("modest"));
    stand.delete("greedy", None);
    stand.until("nothing is left", |stand| stand.pod("greedy").is_none() && !directory.exists());
}

/// A cgroup of pods, by cgroup v1 or v2, under systemd or not.
struct Group {
    class: &'static str,
    uid: Option<String>,
}

impl Group {
    fn of(stand: &Stand, class: &'static str, pod: &str) -> Self {
        let uid = stand.pod(pod).expect("it is shown")["metadata"]["uid"].as_str().expect("a uid").to_owned();
        Self { class, uid: Some(uid) }
    }

    /// The slice's name, where the tests' containerd uses slices.
    fn slice(&self) -> Option<String> {
        std::env::var_os("SELVEDGE_SLICES").filter(|set| !set.is_empty())?;
        let class = if self.class.is_empty() { String::new() } else { format!("-{}", self.class) };
        let pod = self.uid.as_ref().map_or_else(String::new, |uid| format!("-pod{}", uid.replace('-', "_")));
        Some(format!("kubepods{class}{pod}.slice"))
    }

    fn path(&self, controller: &str) -> PathBuf {
        let base = Path::new("/sys/fs/cgroup").join(if is_v2() { "" } else { controller });
        let pod = self.uid.as_ref().map_or_else(String::new, |uid| format!("pod{uid}"));
        match self.slice() {
            None => base.join("selvedge-live/kubepods").join(self.class).join(pod),
            Some(slice) if self.class.is_empty() => base.join("kubepods.slice").join(slice),
            Some(slice) => base.join(format!("kubepods.slice/kubepods-{}.slice", self.class)).join(if pod.is_empty() { "" } else { &slice }),
        }
    }

    /// CPU weight, CPU quota and memory limit as the kernel shows them.
    fn limits(&self) -> [String; 3] {
        let files = if is_v2() { ["cpu.weight", "cpu.max", "memory.max"] } else { ["cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes"] };
        let read = |file: &str| std::fs::read_to_string(self.path(file.split('.').next().expect("a controller")).join(file));
        files.map(|file| read(file).unwrap_or_default().trim().to_owned())
    }
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
#[ignore = "needs a containerd: make live"]
fn limits_of_pods_and_their_classes_are_those_of_their_cgroups() {
    let stand = Stand::up("limits");
    let resources = [("guaranteed", json!({ "limits": { "cpu": "500m", "memory": "64Mi" } })), ("burstable", json!({ "requests": { "cpu": "250m" } }))];
    for (name, resources) in resources {
        let mut pod = pod(name, OBEDIENT);
        pod["spec"]["containers"][0]["resources"] = resources;
        stand.apply(&pod);
    }
    stand.apply(&pod("besteffort", OBEDIENT));
    stand.until("all are ready", |stand| ["guaranteed", "burstable", "besteffort"].iter().all(|pod| stand.is_ready(pod)));
    let (guaranteed, burstable) = (Group::of(&stand, "", "guaranteed"), Group::of(&stand, "burstable", "burstable"));
    let classes = ["burstable", "besteffort"].map(|class| Group { class, uid: None });
    let weight = |v1: &str, v2: &str| if is_v2() { v2.to_owned() } else { v1.to_owned() };
    let [cpu, quota, memory] = guaranteed.limits();
    assert_eq!((cpu, quota, memory.as_str()), (weight("512", "20"), weight("50000", "50000 100000"), "67108864"));
    assert_eq!(burstable.limits()[..2], [weight("256", "10"), weight("-1", "max 100000")]);
    stand.until("classes weigh what their pods ask for", |_| {
        [&classes[0], &classes[1]].map(|class| class.limits()[0].clone()) == [weight("256", "10"), weight("2", "1")]
    });
    stand.delete("burstable", None);
    stand.until("the class weighs nothing", |_| classes[0].limits()[0] == weight("2", "1"));
    stand.until("its cgroup is gone", |_| !burstable.path("cpu").exists() && !burstable.path("memory").exists());
    if let Some(slice) = burstable.slice() {
        let shown = Command::new("systemctl").args(["is-active", &slice]).output().expect("systemctl");
        assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "inactive", "systemd has forgotten it");
    }
}

/// As an agent leaves it that dies between the end of a pod and its clean-up.
#[test]
#[ignore = "needs a containerd: make live"]
fn what_a_dead_agent_left_of_a_pod_is_taken_away() {
    let mut stand = Stand::up("left-over");
    stand.apply(&pod("stays", OBEDIENT));
    stand.until("ready", |stand| stand.is_ready("stays"));
    stand.kill_agent();
    let uid = "0f9c2c8e-3b4a-4e6f-9d53-7a1c5b2e9f01";
    let (directory, logs) = (stand.dir.join("kubelet/pods").join(uid), stand.dir.join(format!("pods/default_gone_{uid}")));
    let secret = directory.join("volumes/kubernetes.io~secret/s");
    let cgroup = Group { class: "besteffort", uid: Some(uid.to_owned()) }.path("pids");
    for made in [&secret, &logs.join("c"), &cgroup] {
        std::fs::create_dir_all(made).expect("root may");
    }
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&secret).status().expect("mount");
    assert!(mounted.success());
    std::fs::write(secret.join("password"), "secret").expect("room");
    std::fs::write(logs.join("c/0.log"), "said").expect("room");
    let before = stand.containers();
    stand.start_agent();
    stand.until("it is gone", |_| [&directory, &logs, &cgroup].iter().all(|path| !path.exists()));
    assert!(std::fs::read_dir(stand.dir.join("kubelet/pods")).expect("it is there").count() == 1 && stand.containers() == before, "the other pod stays");
}

/// No started container restarts, no pod is lost, none is there twice.
#[test]
#[ignore = "needs a containerd: make live"]
fn a_hundred_kills_of_the_agent_disturb_nothing() {
    let mut stand = Stand::up("kills");
    let mut chance = Chance::new(7);
    let steady: Vec<String> = (0..4).map(|number| format!("steady-{number}")).collect();
    steady.iter().for_each(|name| stand.apply(&pod(name, OBEDIENT)));
    stand.until("steady pods are ready", |stand| steady.iter().all(|name| stand.is_ready(name)));
    let before: Vec<_> = stand.containers();
    for round in 0..100 {
        stand.apply(&pod(&format!("churn-{round}"), OBEDIENT));
        if round >= 3 {
            stand.delete(&format!("churn-{}", round - 3), Some(if round % 2 == 0 { 0 } else { 1 }));
        }
        pause(Duration::from_millis(chance.draw() % 300));
        stand.kill_agent();
        stand.start_agent();
    }
    let last: Vec<String> = (97..100).map(|round| format!("churn-{round}")).collect();
    stand.until("the cluster has just the last pods", |stand| {
        let pods = stand.get("pod");
        pods.len() == steady.len() + last.len() && pods.iter().all(|pod| condition(pod, "Ready") == Some("True"))
    });
    let after = stand.containers();
    assert!(before.iter().all(|container| after.contains(container)), "steady containers are the same: {before:?} and {after:?}");
    for pod in stand.get("pod") {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{}", pod["metadata"]["name"]);
    }
    stand.until("the runtime has just them", |stand| {
        let mut count: BTreeMap<String, u32> = BTreeMap::new();
        stand.containers().into_iter().for_each(|(pod, _, _)| *count.entry(pod).or_default() += 1);
        count.len() == steady.len() + last.len() && count.values().all(|count| *count == 1)
    });
}
