//! The shell against a real containerd whose socket `SELVEDGE_CONTAINERD`
//! names, with the image busybox:1.36 and a network. Needs root. A command in
//! `SELVEDGE_CONTAINERD_RESTART` ends that containerd and starts it again after
//! a second or more. `make live` sets both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;
use smol::channel::{Receiver, bounded};

use super::*;
use crate::node::ids::{ContainerId, OpId, SandboxId};
use crate::node::runtime::*;

const IMAGE: &str = "docker.io/library/busybox:1.36";

struct Bench {
    edged: Edged,
    inputs: Receiver<Input>,
    root: PathBuf,
    uid: PodUid,
    ops: u64,
}

fn config(socket: PathBuf, root: &std::path::Path) -> config::Edged {
    config::Edged {
        runtime: socket,
        root: root.join("root"),
        pod_logs: root.join("pods"),
        container_logs: root.join("containers"),
        systemd_cgroups: None,
        cgroup_root: String::new(),
        cluster_dns: Vec::new(),
        cluster_domain: String::new(),
        resolv_conf: PathBuf::new(),
        max_pods: 10,
        reserved_cpu: 0,
        reserved_memory: 0,
        max_images: 10,
        events: false,
        log_max_size: 1 << 20,
        log_max_files: 3,
        allowed_unsafe_sysctls: Vec::new(),
        image_gc_high: 85,
        image_gc_low: 80,
        eviction: config::Eviction::default(),
        use_local_image_offline: true,
    }
}

impl Bench {
    fn new(socket: PathBuf, executor: &Executor) -> Self {
        let root = std::env::temp_dir().join(format!("selvedge-live-{}", std::process::id()));
        let (inbox, inputs) = bounded(64);
        Self { edged: open(config(socket, &root), inbox, executor), inputs, root, uid: format!("live-{}", std::process::id()).into(), ops: 0 }
    }

    /// The first input that `pick` takes; others are let by.
    async fn until<T>(&self, what: &str, pick: impl Fn(Input) -> Option<T>) -> T {
        let found = async {
            loop {
                let input = self.inputs.recv().await.unwrap();
                if let Some(found) = pick(input) {
                    return Some(found);
                }
            }
        };
        let late = async {
            Timer::after(Duration::from_secs(60)).await;
            None
        };
        or(found, late).await.unwrap_or_else(|| panic!("{what} did not come"))
    }

    async fn op(&mut self, step: Step) -> (Result<Outcome, Failure>, Option<PodSeen>) {
        self.ops += 1;
        let id = OpId(self.ops);
        self.edged.hand(Order::Op(Op { id, pod: self.uid.clone(), step }));
        self.until("answer of an op", |input| if let Input::Done { op, result, seen, .. } = input { (op == id).then_some((result, seen)) } else { None }).await
    }

    async fn probe(&self, container: &ContainerId, action: Action) -> ProbeResult {
        self.edged.hand(Order::Probe(Probe {
            pod: self.uid.clone(),
            container: container.clone(),
            kind: ProbeKind::Liveness,
            action,
            timeout: Duration::from_secs(1),
        }));
        self.until("answer of a probe", |input| if let Input::Probed { result, .. } = input { Some(result) } else { None }).await
    }

    async fn ensure(&mut self, image: &str, never: bool) -> Result<Outcome, Failure> {
        let sandbox = Box::new(self.sandbox());
        self.op(Step::EnsureImage(EnsureImage { image: image.into(), always: false, never, auths: Vec::new(), sandbox })).await.0
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [("io.kubernetes.pod.uid", self.uid.as_str()), ("io.kubernetes.pod.name", "live"), ("io.kubernetes.pod.namespace", "test")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    fn logs(&self) -> PathBuf {
        self.root.join(format!("pods/test_live_{}", self.uid))
    }

    fn cgroup(&self) -> String {
        format!("/selvedge-live/{}", self.uid)
    }

    fn sandbox(&self) -> cri::PodSandboxConfig {
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata { name: "live".into(), uid: self.uid.to_string(), namespace: "test".into(), attempt: 0 }),
            hostname: "live".into(),
            log_directory: self.logs().display().to_string(),
            labels: self.labels(),
            linux: Some(cri::LinuxPodSandboxConfig { cgroup_parent: self.cgroup(), ..Default::default() }),
            ..Default::default()
        }
    }

    /// A container named `name` that runs a shell script.
    fn container(&self, sandbox: &SandboxId, image: &str, name: &str, script: &str) -> Step {
        let words = self.root.join(format!("root/pods/{}/containers/{name}/0", self.uid)).display().to_string();
        let mut labels = self.labels();
        labels.insert("io.kubernetes.container.name".into(), name.into());
        let annotations = [
            ("io.kubernetes.container.restartCount", "4"),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "FallbackToLogsOnError"),
        ];
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(image.into()),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            mounts: vec![cri::Mount { container_path: "/dev/termination-log".into(), host_path: words.clone(), ..Default::default() }],
            labels,
            annotations: annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            log_path: format!("{name}/0.log"),
            linux: Some(cri::LinuxContainerConfig {
                security_context: Some(cri::LinuxContainerSecurityContext {
                    namespace_options: Some(cri::NamespaceOption { pid: cri::NamespaceMode::Container.into(), ..Default::default() }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        Step::Start(Box::new(Start {
            sandbox: sandbox.clone(),
            sandbox_config: self.sandbox(),
            config,
            hosts: None,
            termination_log: words,
            sub_paths: Vec::new(),
            mount_points: Vec::new(),
            replaces: Vec::new(),
        }))
    }

    async fn start(&mut self, sandbox: &SandboxId, image: &str, name: &str, script: &str) -> (ContainerId, PodSeen) {
        let step = self.container(sandbox, image, name, script);
        match self.op(step).await {
            (Ok(Outcome::Container(id)), Some(seen)) => (id, seen),
            other => panic!("{other:?}"),
        }
    }
}

fn exit(pod: &PodSeen, id: &ContainerId) -> Option<Exit> {
    let container = pod.containers.iter().find(|container| container.id == *id)?;
    if let ContainerState::Exited(exit) = &container.state { Some(exit.clone()) } else { None }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_pod_lives_and_ends_in_a_real_runtime() {
    let socket = std::env::var_os("SELVEDGE_CONTAINERD").expect("a socket of a containerd to try");
    let executor = Executor::default();
    let mut bench = Bench::new(socket.into(), &executor);
    executor.block_on(async {
        let info = bench.until("runtime", |input| if let Input::RuntimeUp(info) = input { Some(info) } else { None }).await;
        assert_eq!((info.name.as_str(), info.systemd_cgroups, info.not_ready, info.network_not_ready), ("containerd", Some(false), None, None));
        let images = bench.until("images", |input| if let Input::Images(images) = input { Some(images) } else { None }).await;
        assert!(images.iter().any(|image| image.names.contains(&info.sandbox_image)), "{images:?}");
        images_are_told_apart(&mut bench).await;

        let sandbox = a_sandbox_runs(&mut bench).await;
        let Ok(Outcome::Image(image)) = bench.ensure(IMAGE, true).await else { panic!("no image") };
        a_crash_is_told_without_asking(&mut bench, &sandbox, &image.reference).await;
        let script = "trap 'echo bye > /dev/termination-log; exit 7' TERM; mkdir /www; echo hi > /www/index.html; httpd -p 8080 -h /www; echo begun; while :; do sleep 0.1; done";
        let (web, seen) = bench.start(&sandbox, &image.reference, "web", script).await;
        assert_eq!((seen.containers[0].restarts, seen.containers[0].image.as_str()), (4, IMAGE));
        assert!(matches!(seen.containers[0].state, ContainerState::Running { .. }));
        let ip = seen.sandboxes[0].ips[0].clone();
        probes_are_answered(&mut bench, &web, &ip).await;
        a_log_is_rotated(&mut bench, &web).await;
        let crashed = seen.containers.iter().find(|container| container.name == "crash").unwrap().id.clone();
        let side = one_takes_anothers_place(&mut bench, &sandbox, &image.reference, crashed).await;
        they_end_in_order(&mut bench, &web, &side, &sandbox).await;
    });
    std::fs::remove_dir_all(&bench.root).unwrap();
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_runtime_that_was_away_is_found_again() {
    let socket = std::env::var_os("SELVEDGE_CONTAINERD").expect("a socket of a containerd to try");
    let restart = std::env::var_os("SELVEDGE_CONTAINERD_RESTART").expect("a command that restarts it");
    let executor = Executor::default();
    let bench = Bench::new(socket.into(), &executor);
    executor.block_on(async {
        let relisted = |input| matches!(input, Input::Relisted(_)).then_some(());
        bench.until("list", relisted).await;
        let mut command = std::process::Command::new(restart).spawn().unwrap();
        let why = bench.until("outage", |input| if let Input::RuntimeDown(why) = input { Some(why) } else { None }).await;
        assert!(why.starts_with("cannot reach the runtime at '/"), "{why}");
        let mut seen = Vec::new();
        loop {
            let input = bench.until("anything", Some).await;
            let end = matches!(input, Input::Relisted(_));
            seen.push(input);
            if end {
                break;
            }
        }
        assert!(matches!(seen[..], [Input::RuntimeUp(_), Input::Relisted(_)]), "{seen:?}");
        assert!(command.wait().unwrap().success());
    });
}

async fn images_are_told_apart(bench: &mut Bench) {
    let at = |result: Result<Outcome, Failure>| result.map_err(|failure| failure.at);
    assert_eq!(at(bench.ensure("docker.io/library/none:1", true).await), Err(FailedAt::ImageNeverPull));
    assert_eq!(at(bench.ensure("localhost:1/none:1", false).await), Err(FailedAt::ImagePull));
    assert_eq!(at(bench.ensure("docker.io/NONE:1", false).await), Err(FailedAt::ImageName));
}

async fn a_sandbox_runs(bench: &mut Bench) -> SandboxId {
    let logs = bench.logs().display().to_string();
    let cgroup = Cgroup { parent: bench.cgroup(), cpu_shares: 2, ..Cgroup::default() };
    assert_eq!(bench.op(Step::Prepare(Prepare { logs, cgroup, volumes: Vec::new() })).await.0, Ok(Outcome::Prepared(BTreeMap::new())));
    let config = bench.sandbox();
    let (Ok(Outcome::Sandbox(sandbox)), Some(seen)) = bench.op(Step::MakeSandbox(Box::new(config))).await else { panic!("no sandbox") };
    assert_eq!((seen.key.to_string().as_str(), seen.sandboxes[0].ready, seen.sandboxes[0].ips.len()), ("test/live", true, 1));
    sandbox
}

async fn a_crash_is_told_without_asking(bench: &mut Bench, sandbox: &SandboxId, image: &str) {
    let (id, _) = bench.start(sandbox, image, "crash", "sleep 0.5; echo one; echo two; exit 3").await;
    let exit = bench.until("end", |input| if let Input::Seen(pod) = input { exit(&pod, &id) } else { None }).await;
    eprintln!("the end of a container was told after {} ms", crate::host::clock::calendar_millis() - exit.finished.0);
    assert_eq!((exit.code, exit.reason.as_str(), exit.message.as_str()), (3, "Error", "one\ntwo\n"));
    // A start that fails leaves a container that tells why.
    let Step::Start(mut broken) = bench.container(sandbox, image, "broken", "") else { unreachable!() };
    broken.config.command = vec!["/none".into()];
    let (Err(failure), Some(seen)) = bench.op(Step::Start(broken)).await else { panic!("it started") };
    assert_eq!((failure.at, seen.containers.len()), (FailedAt::Start, 2));
}

async fn probes_are_answered(bench: &mut Bench, web: &ContainerId, ip: &str) {
    let exec = |words: &[&str]| Action::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    let http = |path: &str| Action::Http { host: ip.into(), port: 8080, path: path.into(), tls: false, headers: Vec::new() };
    assert_eq!(bench.probe(web, exec(&["test", "-e", "/www"])).await, ProbeResult::Success);
    assert_eq!(bench.probe(web, exec(&["sh", "-c", "echo ill; exit 2"])).await, ProbeResult::Failure("ill".into()));
    // Twice in the same words, so that its Event counts.
    let ProbeResult::Unknown(why) = bench.probe(web, exec(&["/no/such"])).await else { panic!("there is no such command") };
    assert!(why.contains("exec: \"/no/such\": stat /no/such: no such file or directory"), "{why}");
    assert_eq!(bench.probe(web, exec(&["/no/such"])).await, ProbeResult::Unknown(why));
    assert_eq!(bench.probe(web, exec(&["sleep", "5"])).await, ProbeResult::Failure("command timed out: \"sleep 5\" timed out after 1s".into()));
    assert_eq!(bench.probe(web, http("/")).await, ProbeResult::Success);
    assert_eq!(bench.probe(web, http("/none")).await, ProbeResult::Failure("HTTP probe failed with statuscode: 404".into()));
    assert_eq!(bench.probe(web, Action::Tcp { host: ip.into(), port: 8080 }).await, ProbeResult::Success);
    assert!(matches!(bench.probe(web, Action::Tcp { host: ip.into(), port: 8081 }).await, ProbeResult::Failure(_)));
    assert!(matches!(bench.probe(&"none".into(), exec(&["true"])).await, ProbeResult::Unknown(_)));
}

async fn a_log_is_rotated(bench: &mut Bench, web: &ContainerId) {
    let link = bench.root.join(format!("containers/live_test_web-{web}.log"));
    assert!(std::fs::read_to_string(&link).unwrap().ends_with("stdout F begun\n"));
    let log = bench.logs().join("web/0.log");
    let (directory, name) = files::place_of_log(&log).unwrap().unwrap();
    let old = || files::rotated(&directory, &name).unwrap();
    let fill = "yes 'a line of a log' | head -c 1500000 > /proc/1/fd/1";
    let fill = || Action::Exec(["sh", "-c", fill].map(str::to_owned).into());
    let length = || std::fs::metadata(&log).map_or(0, |found| found.len());
    assert_eq!(bench.probe(web, fill()).await, ProbeResult::Success);
    while old().is_empty() || length() > 0 {
        Timer::after(Duration::from_millis(100)).await;
    }
    let first = old();
    assert_eq!(bench.probe(web, fill()).await, ProbeResult::Success);
    while old().len() < 2 || length() > 0 {
        Timer::after(Duration::from_millis(100)).await;
    }
    assert_eq!(old()[0].to_str(), first[0].to_str().map(|name| format!("{name}.gz")).as_deref());
    assert!(!old()[1].to_str().unwrap().ends_with(".gz"));
    // As if the agent had ended before it told the runtime.
    std::fs::rename(&log, log.with_extension("aside")).unwrap();
    while !log.exists() {
        Timer::after(Duration::from_millis(100)).await;
    }
    assert_eq!(bench.probe(web, Action::Exec(["sh", "-c", "echo more > /proc/1/fd/1"].map(str::to_owned).into())).await, ProbeResult::Success);
    while length() == 0 {
        Timer::after(Duration::from_millis(10)).await;
    }
}

async fn one_takes_anothers_place(bench: &mut Bench, sandbox: &SandboxId, image: &str, crashed: ContainerId) -> ContainerId {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let Step::Start(mut start) = bench.container(sandbox, image, "crash", script) else { unreachable!() };
    let hosts = bench.root.join("root/pods/hosts").display().to_string();
    start.config.metadata = Some(cri::ContainerMetadata { name: "crash".into(), attempt: 1 });
    start.config.log_path = "crash/1.log".into();
    start.config.mounts.push(cri::Mount { container_path: "/etc/hosts".into(), host_path: hosts.clone(), ..Default::default() });
    start.hosts = Some((hosts, "10.0.0.9 nine\n".into()));
    start.replaces = vec![crashed.clone()];
    let (Ok(Outcome::Container(id)), Some(seen)) = bench.op(Step::Start(start)).await else { panic!("it did not start") };
    assert!(seen.containers[0].id == id && seen.containers.iter().all(|container| container.id != crashed));
    assert!(!bench.logs().join("crash/0.log").exists() && bench.logs().join("crash/1.log").exists());
    let command = ["grep", "nine", "/etc/hosts"].map(str::to_owned).to_vec();
    assert_eq!(bench.probe(&id, Action::Exec(command)).await, ProbeResult::Success);
    id
}

async fn they_end_in_order(bench: &mut Bench, web: &ContainerId, side: &ContainerId, sandbox: &SandboxId) {
    let pre_stop = Some(Action::Exec(["sh", "-c", "sleep 0.5; echo last >> /proc/1/fd/1"].map(str::to_owned).to_vec()));
    let stop = Stop { container: web.clone(), grace: 10, pre_stop, after: vec![web.clone(), "none".into()] };
    let later = Stop { container: side.clone(), grace: 10, pre_stop: None, after: vec![web.clone()] };
    let (result, seen) = bench.op(Step::Stop { containers: vec![later, stop.clone()], sandboxes: vec![sandbox.clone()] }).await;
    let seen = seen.unwrap();
    let (first, second) = (exit(&seen, web).unwrap(), exit(&seen, side).unwrap());
    assert_eq!((result, first.code, first.message.as_str(), seen.sandboxes[0].ready), (Ok(Outcome::Done), 7, "bye\n", false));
    assert!(second.code == 0 && second.finished > first.finished, "{first:?} {second:?}");
    assert!(std::fs::read_to_string(bench.logs().join("web/0.log")).unwrap().ends_with("stdout F last\n"));

    let containers: Vec<_> = seen.containers.iter().map(|container| container.id.clone()).collect();
    for _ in 0..2 {
        let step = Step::Remove { containers: containers.clone(), sandboxes: vec![sandbox.clone()] };
        let (result, seen) = bench.op(step).await;
        assert_eq!((result, seen.map(|pod| pod.containers.len() + pod.sandboxes.len())), (Ok(Outcome::Done), Some(0)));
    }
    let (again, seen) = bench.op(Step::Stop { containers: vec![stop], sandboxes: vec![sandbox.clone()] }).await;
    assert!(matches!(again, Ok(Outcome::NotFound(_))) && seen.is_some_and(|pod| pod.is_empty()), "{again:?}");
    let step = Step::Clean { key: PodKey { namespace: "test".into(), name: "live".into() }, cgroups: vec![bench.cgroup()] };
    assert_eq!(bench.op(step).await.0, Ok(Outcome::Done));
    assert!(!bench.logs().exists() && std::fs::read_dir(bench.root.join("containers")).unwrap().next().is_none());
}
