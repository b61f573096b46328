//! `make bench`: figures of the agent beside those of the bare runtime, taken
//! in one run. Needs root and the containerd of `make bench`; no Kubernetes.
//! With the word `updates` or `pods`, only those.

// Figures are what it is for.
#![allow(clippy::print_stdout)]

#[path = "beside.rs"]
mod beside;
#[path = "load.rs"]
mod load;
#[path = "stand.rs"]
mod stand;
#[path = "updates.rs"]
mod updates;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use selvedge::cloud::objects::condition;
use selvedge::config::file;
use selvedge::edged::cgroup;
use selvedge::edged::client::Client;
use selvedge::host::tasks::Executor;
use selvedge::node::ids::PodKey;
use selvedge::node::input::Input;
use selvedge::node::machine::Facts;
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::runtime::{Image, Order, Outcome, PodSeen, RuntimeInfo, SandboxSeen, Step};
use selvedge::node::store::{Key, Row, Rows};
use selvedge::node::{Node, Restored};
use selvedge::wire::cri;
use serde_json::{Value, json};

use stand::{OBEDIENT, Stand, containerd, now, pause, pod};

/// Pods one after the other.
const ROUNDS: usize = 15;
/// Pods at once.
const BURST: usize = 20;
/// Properties of each device.
const PROPERTIES: usize = 10;
/// Steps the agent has under way at once; the bare runtime gets as many.
const SIDE_BY_SIDE: usize = 32;

fn main() {
    // `cargo test` builds benches too, and gives them arguments.
    if std::env::var_os("SELVEDGE_CONTAINERD").is_none() {
        return println!("NOT RUN: use make bench");
    }
    let only = |what: &str| std::env::args().any(|word| word == what);
    size();
    if !only("pods") {
        updates::figures();
    }
    if !only("updates") {
        pods();
    }
}

fn pods() {
    let raw = raw();
    let broker = updates::broker("bench");
    let mut stand = Stand::up_with("bench", |stand| stand.listen_to(&broker.tcp()));
    idle(&stand, "idle, connected", Duration::from_secs(30));
    cold_start(&mut stand);
    let watch = Watch::open(&stand);
    one_by_one(&stand, &watch, &raw);
    burst(&stand, &watch, &raw);
    idle(&stand, "idle, 20 pods", Duration::from_secs(30));
    echoes(&stand, &watch);
    updates::introduce(&stand, &broker, PROPERTIES);
    updates::report(&broker, PROPERTIES);
    // The cloud hears of so many at a bounded rate.
    stand.within(Duration::from_secs(300), "the cloud has heard of all", |stand| {
        pause(Duration::from_secs(1));
        stand.status()["devices"]["unreported"] == 0
    });
    idle(&stand, "and 1000 devices", Duration::from_secs(30));
}

fn size() {
    let path = std::env::var("SELVEDGE_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_selvedge").to_owned());
    let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
    println!("binary            {bytes} B ({path})");
}

fn agent_pid(stand: &Stand) -> u32 {
    stand.agent.as_ref().expect("it runs").id()
}

/// A number of `/proc/PID/FILE` after a word.
fn proc_number(pid: u32, file: &str, word: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(word)?.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Voluntary switches of all threads.
fn wakeups(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    threads
        .filter_map(|thread| thread.ok()?.file_name().to_str().map(str::to_owned))
        .map(|thread| proc_number(pid, &format!("task/{thread}/status"), "voluntary_ctxt_switches:"))
        .sum()
}

fn idle(stand: &Stand, what: &str, time: Duration) {
    let pid = agent_pid(stand);
    pause(Duration::from_secs(10));
    let before = (wakeups(pid), proc_number(pid, "io", "write_bytes:"));
    pause(time);
    let woken = (wakeups(pid) - before.0) as f64 / time.as_secs_f64();
    let written = proc_number(pid, "io", "write_bytes:") - before.1;
    let pss = proc_number(pid, "smaps_rollup", "Pss:") as f64 / 1024.0;
    let anonymous = proc_number(pid, "smaps_rollup", "Anonymous:") as f64 / 1024.0;
    println!("{what:18}PSS {pss:.1} MiB (anonymous {anonymous:.1}), {woken:.2} wakeups/s, {written} B written in {} s", time.as_secs());
}

/// What the bare runtime takes, milliseconds.
struct Raw {
    start: f64,
    stop: f64,
    burst: f64,
}

fn raw() -> Raw {
    let executor = Executor::default();
    let client = Client::new(&containerd(), &executor);
    executor.block_on(async {
        let (mut starts, mut stops) = (Vec::new(), Vec::new());
        for number in 0..ROUNDS {
            let configs = configs(&format!("raw-{number}"));
            let begun = now();
            let (sandbox, container) = start_raw(&client, configs).await;
            starts.push(millis(begun.elapsed()));
            stops.push(stop_raw(&client, sandbox, container).await);
        }
        let all: Vec<_> = (0..BURST).map(|number| configs(&format!("raw-burst-{number}"))).collect();
        let begun = now();
        let mut tasks = Vec::new();
        let turns = std::rc::Rc::new(smol::lock::Semaphore::new(SIDE_BY_SIDE));
        for configs in all {
            let (client, turns) = (client.clone(), turns.clone());
            tasks.push(executor.spawn(async move {
                let _turn = turns.acquire().await;
                start_raw(&client, configs).await
            }));
        }
        let mut started = Vec::new();
        for task in tasks {
            started.push(task.await);
        }
        let burst = millis(begun.elapsed());
        for (sandbox, container) in started {
            stop_raw(&client, sandbox, container).await;
        }
        let raw = Raw { start: median(&mut starts), stop: median(&mut stops), burst };
        println!("bare runtime      start p50 {:.0} ms, stop p50 {:.0} ms, {BURST} at once {:.0} ms", raw.start, raw.stop, raw.burst);
        raw
    })
}

/// What the agent asks of the runtime for a pod of this name, whose cgroups are
/// made: its own node decides, and is told that everything went well.
fn configs(name: &str) -> (cri::PodSandboxConfig, cri::ContainerConfig) {
    let root = std::env::temp_dir().join("selvedge-bench");
    let text = format!("[edged]\nroot = \"{0}\"\npod_logs = \"{0}/logs\"\ncgroup_root = \"selvedge-live\"\n", root.display());
    let config = file::parse(&text, "bench").expect("a configuration");
    let mut object = pod(name, OBEDIENT);
    object["metadata"]["uid"] = format!("uid-{name}").into();
    object["metadata"]["namespace"] = "bench".into();
    let row = (Key::Object(format!("bench/pod/{name}").into()), Row::Object(object.to_string()));
    let instant = Now { mono: Mono(1), wall: Wall(1_795_392_000_000) };
    let mut node = Node::new(config, Restored { rows: Rows::new(vec![row]).expect("rows of their tables"), ..Restored::default() }, 1, instant);
    node.handle(instant, Input::Facts(Box::new(Facts { ips: vec!["192.0.2.1".to_owned()], cpus: 2, memory: 1 << 30, pids: 1 << 15, ..Facts::default() })));
    node.handle(instant, Input::RuntimeUp(RuntimeInfo { name: "containerd".to_owned(), ..RuntimeInfo::default() }));
    node.handle(instant, Input::Relisted(Vec::new()));
    let mut sandbox = None;
    loop {
        let op = match node.poll_runtime().expect("the node goes on") {
            Order::Op(op) => op,
            Order::Weigh(classes) => {
                classes.iter().for_each(|class| cgroup::ensure(class, false).expect("root may"));
                continue;
            }
            Order::Cancel(_) | Order::Probe(_) | Order::RemoveImage(_) | Order::Measure(_) => continue,
        };
        let mut seen = None;
        let outcome = match op.step {
            Step::EnsureImage(wish) => Outcome::Image(Image { reference: wish.image, uid: None, username: String::new(), pulled: None, size: 1 }),
            Step::MakeSandbox(config) => {
                let key = PodKey { namespace: "bench".to_owned(), name: name.to_owned() };
                let ready = SandboxSeen {
                    id: "s".into(),
                    attempt: 0,
                    ready: true,
                    created: instant.wall,
                    ips: vec!["10.0.0.1".to_owned()],
                    annotations: BTreeMap::new(),
                };
                seen = Some(PodSeen { uid: op.pod.clone(), key, sandboxes: vec![ready], containers: Vec::new() });
                sandbox = Some(*config);
                Outcome::Sandbox("s".into())
            }
            Step::Start(start) => {
                for mount in &start.config.mounts {
                    std::fs::create_dir_all(Path::new(&mount.host_path).parent().expect("a folder")).expect("room");
                    std::fs::write(&mount.host_path, "").expect("room");
                }
                return (sandbox.expect("it came before"), start.config);
            }
            Step::Prepare(wish) => {
                cgroup::ensure(&wish.cgroup, false).expect("root may");
                Outcome::Prepared(BTreeMap::new())
            }
            Step::PostStart { .. } | Step::Stop { .. } | Step::Remove { .. } | Step::Empty | Step::Look | Step::Clean { .. } => Outcome::Done,
        };
        node.handle(instant, Input::Done { op: op.id, pod: op.pod, result: Ok(outcome), seen });
    }
}

async fn start_raw(client: &Client, (sandbox_config, config): (cri::PodSandboxConfig, cri::ContainerConfig)) -> (String, String) {
    std::fs::create_dir_all(Path::new(&sandbox_config.log_directory).join("c")).expect("room");
    let request = cri::RunPodSandboxRequest { config: Some(sandbox_config.clone()), ..Default::default() };
    let sandbox = client.run_pod_sandbox(&request).await.expect("a sandbox").pod_sandbox_id;
    let request = cri::CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(config), sandbox_config: Some(sandbox_config) };
    let container = client.create_container(&request).await.expect("a container").container_id;
    client.start_container(&cri::StartContainerRequest { container_id: container.clone() }).await.expect("it starts");
    (sandbox, container)
}

/// The process's own end and StopPodSandbox; milliseconds.
async fn stop_raw(client: &Client, sandbox: String, container: String) -> f64 {
    let begun = now();
    client.stop_container(&cri::StopContainerRequest { container_id: container, timeout: 1 }).await.expect("it stops");
    client.stop_pod_sandbox(&cri::StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.expect("it stops");
    let took = millis(begun.elapsed());
    client.remove_pod_sandbox(&cri::RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.expect("it goes");
    took
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The stand-in's changes of pods with its own instants, milliseconds.
struct Watch(mpsc::Receiver<(f64, String, Value)>);

impl Watch {
    fn open(stand: &Stand) -> Self {
        let mut stream = UnixStream::connect(stand.socket()).expect("the cloud runs");
        stream.write_all(b"\"watch\"\n").expect("it reads");
        let mut lines = BufReader::new(stream).lines();
        lines.next();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut change: Value = serde_json::from_str(&line).expect("JSON");
                if change["kind"] == "pod" {
                    let (at, verb) = (change["at"].as_f64().expect("a number"), change["verb"].as_str().expect("text").to_owned());
                    let _ = sender.send((at, verb, change["object"].take()));
                }
            }
        });
        Self(receiver)
    }

    /// The instant something first held of a pod.
    fn until(&self, name: &str, holds: impl Fn(&str, &Value) -> bool) -> f64 {
        self.until_all(&[name.to_owned()], holds)[name]
    }

    fn until_all(&self, names: &[String], holds: impl Fn(&str, &Value) -> bool) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        while found.len() < names.len() {
            let (at, verb, object) = self.0.recv_timeout(Duration::from_secs(60)).expect("it happens within a minute");
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if names.contains(&name) && !found.contains_key(&name) && holds(&verb, &object) {
                found.insert(name, at);
            }
        }
        found
    }
}

fn is_ready(_: &str, pod: &Value) -> bool {
    condition(pod, "Ready") == Some("True")
}

fn one_by_one(stand: &Stand, watch: &Watch, raw: &Raw) {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let name = format!("one-{number}");
        stand.apply(&pod(&name, OBEDIENT));
        let begun = watch.until(&name, |verb, _| verb == "added");
        starts.push(watch.until(&name, is_ready) - begun);
        stand.delete(&name, None);
        let begun = watch.until(&name, |_, pod| pod["metadata"]["deletionTimestamp"].is_string());
        ends.push(watch.until(&name, |verb, _| verb == "deleted") - begun);
        // The runtime takes the sandbox away after that; the next start shall
        // not wait for it, as it does not in the bare round.
        pause(Duration::from_millis(700));
    }
    let (start, end) = (median(&mut starts), median(&mut ends));
    println!("pod start         p50 {start:.0} ms, bare {:.0} ms: {:+.0} ms (limit +30)", raw.start, start - raw.start);
    println!("pod delete        p50 {end:.0} ms, bare {:.0} ms: {:+.0} ms (limit +50)", raw.stop, end - raw.stop);
}

fn burst(stand: &Stand, watch: &Watch, raw: &Raw) {
    let names: Vec<String> = (0..BURST).map(|number| format!("burst-{number}")).collect();
    names.iter().for_each(|name| stand.apply(&pod(name, OBEDIENT)));
    let begun = watch.until(&names[0], |verb, _| verb == "added");
    let ready = watch.until_all(&names, is_ready);
    let took = ready.values().fold(0.0, |last: f64, at| last.max(*at)) - begun;
    println!("burst of {BURST}       {took:.0} ms, bare {:.0} ms: {:.2} x (limit 1.2)", raw.burst, took / raw.burst);
}

/// Readiness that comes and goes is reported, echoed and stored nowhere.
fn echoes(stand: &Stand, watch: &Watch) {
    let names: Vec<String> = (0..5).map(|number| format!("flips-{number}")).collect();
    for name in &names {
        let mut pod = pod(name, OBEDIENT);
        let command = "test $(($(date +%s) / 3 % 2)) = 0";
        pod["spec"]["containers"][0]["readinessProbe"] = json!({ "exec": { "command": ["sh", "-c", command] }, "periodSeconds": 1, "failureThreshold": 1 });
        stand.apply(&pod);
    }
    stand.until("all were ready once", |stand| names.iter().all(|name| stand.is_ready(name)));
    pause(Duration::from_secs(1));
    while watch.0.try_recv().is_ok() {}
    let pid = agent_pid(stand);
    let before = proc_number(pid, "io", "write_bytes:");
    pause(Duration::from_secs(20));
    let written = proc_number(pid, "io", "write_bytes:") - before;
    println!("status echoes     {written} B written for {} reports and their echoes (limit 0)", watch.0.try_iter().count());
    names.iter().for_each(|name| stand.delete(name, Some(0)));
}

/// From the start of the process to its first call, with 50 pods on disk and no
/// cloud.
fn cold_start(stand: &mut Stand) {
    let names: Vec<String> = (0..50).map(|number| format!("cached-{number}")).collect();
    for name in &names {
        let mut pod = pod(name, OBEDIENT);
        pod["spec"]["containers"][0]["image"] = json!("localhost/none:1");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Never");
        stand.apply(&pod);
    }
    stand.until("all are refused", |stand| {
        stand.get("pod").iter().filter(|pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull").count() == 50
    });
    stand.stop_cloud();
    let mut times: Vec<f64> = (0..9).map(|_| first_call(stand)).collect();
    println!("start             p50 {:.1} ms to the first call with 50 pods on disk, offline (limit 80)", median(&mut times));
    stand.start_agent();
    stand.start_cloud();
    stand.until("the node is back", |stand| stand.get("node")[0]["connected"] == true);
    names.iter().for_each(|name| stand.delete(name, Some(0)));
    stand.until("all are gone", |stand| stand.get("pod").is_empty());
}

fn first_call(stand: &mut Stand) -> f64 {
    stand.kill_agent();
    let config = stand.dir.join("selvedge.toml");
    let text = std::fs::read_to_string(&config).expect("it is ours");
    let other = stand.dir.join("first.sock");
    let _ = std::fs::remove_file(&other);
    let listener = UnixListener::bind(&other).expect("a socket");
    std::fs::write(&config, text.replace(path(&containerd()), path(&other))).expect("room");
    let begun = now();
    stand.start_agent();
    drop(listener.accept().expect("it calls"));
    let took = millis(begun.elapsed());
    stand.kill_agent();
    std::fs::write(&config, text).expect("room");
    took
}

fn path(path: &Path) -> &str {
    path.to_str().expect("text")
}
