//! Cloud and agent as processes, below a folder of their own. The bench uses it
//! too, each a part.
#![allow(dead_code)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use selvedge::cloud::objects::condition;
use selvedge::edged::client::Client;
use selvedge::host::tasks::Executor;
use selvedge::host::{grpc, socket};
use selvedge::wire::cri;
use serde_json::{Value, json};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stand {
    pub dir: PathBuf,
    pub cloud: Option<Running>,
    pub agent: Option<Running>,
    agent_binary: PathBuf,
    runtime: PathBuf,
    /// Of the WebSocket and of the HTTPS server.
    pub ports: [String; 2],
    /// Further words for `selvedge cloud run`.
    pub cloud_options: Vec<&'static str>,
}

/// The containerd to try.
pub fn containerd() -> PathBuf {
    std::env::var_os("SELVEDGE_CONTAINERD").expect("SELVEDGE_CONTAINERD names a containerd: use make live").into()
}

impl Stand {
    /// Everything runs and the node is ready.
    pub fn up(name: &str) -> Self {
        Self::up_with(name, |_| {})
    }

    /// As `up`, with more in the configuration.
    pub fn up_with(name: &str, more: impl FnOnce(&Self)) -> Self {
        let mut stand = Self::new(&containerd().parent().and_then(Path::parent).expect("a folder").join(name), &containerd());
        stand.configure("");
        more(&stand);
        stand.start_cloud();
        stand.join();
        stand.start_agent();
        stand.until("the node is ready", |stand| stand.get("node").iter().any(|node| condition(node, "Ready") == Some("True")));
        stand
    }

    /// Nothing runs yet.
    pub fn new(dir: &Path, runtime: &Path) -> Self {
        let agent_binary = std::env::var_os("SELVEDGE_BINARY").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_selvedge")), PathBuf::from);
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).expect("a folder");
        // Both at once, or the second could be the first again.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = free.map(|listener| listener.local_addr().expect("an address").port().to_string());
        Self { dir: dir.to_owned(), cloud: None, agent: None, agent_binary, runtime: runtime.to_owned(), ports, cloud_options: Vec::new() }
    }

    /// Writes the agent's configuration; `more` is further keys of edgehub.
    pub fn configure(&self, more: &str) {
        let dir = self.dir.display();
        let text = format!(
            "[edgehub]\n{more}ca = \"{dir}/ca.crt\"\ncertificate = \"{dir}/node.crt\"\nkey = \"{dir}/node.key\"\n[metamanager]\ndir = \"{dir}/state\"\n[edged]\nruntime = \"{}\"\nroot = \"{dir}/kubelet\"\npod_logs = \"{dir}/pods\"\ncontainer_logs = \"{dir}/containers\"\ncgroup_root = \"selvedge-live\"\neviction_memory = \"0\"\neviction_disk = 0\n[dmi]\nsocket = \"{dir}/dmi.sock\"\n[control]\nsocket = \"{dir}/agent.sock\"\n",
            self.runtime.display()
        );
        std::fs::write(self.config(), text).expect("room");
    }

    /// And where its broker is, written behind it.
    pub fn listen_to(&self, server: &str) {
        let text = std::fs::read_to_string(self.config()).expect("it is ours");
        std::fs::write(self.config(), format!("{text}[eventbus]\nserver = '{server}'\n")).expect("room");
    }

    fn config(&self) -> PathBuf {
        self.dir.join("selvedge.toml")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("cloud")
    }

    /// A command of the program under test.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let is_cloud = arguments.first() == Some(&"cloud");
        let mut command = Command::new(if is_cloud { Path::new(env!("CARGO_BIN_EXE_selvedge")) } else { &self.agent_binary });
        command.env("SELVEDGE_CONFIG", self.config()).args(arguments);
        command
    }

    fn spawn(&self, log: &str, arguments: &[&str]) -> Running {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join(log)).expect("a log");
        Running::Process(self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().expect("the program"))
    }

    pub fn start_cloud(&mut self) {
        let state = self.state();
        let mut words = vec!["cloud", "--state", state.to_str().expect("text"), "run", "--port", &self.ports[0], "--https-port", &self.ports[1]];
        words.extend(&self.cloud_options);
        self.cloud = Some(self.spawn("cloud.log", &words));
        self.until("the cloud answers", |stand| stand.ask(&json!("token")).is_some());
    }

    pub fn join(&self) {
        let output = self.try_join();
        assert!(output.status.success(), "{output:?}");
    }

    /// What `selvedge join` did.
    pub fn try_join(&self) -> Output {
        let token = self.ask(&json!("token")).expect("a token")["token"].as_str().expect("text").to_owned();
        let cloud = format!("127.0.0.1:{}", self.ports[0]);
        let words = ["join", "--cloud", &cloud, "--https-port", &self.ports[1], "--node", "live", "--reuse"];
        self.command(&words).env("SELVEDGE_TOKEN", token).output().expect("the program")
    }

    /// By its unit, where systemd runs and `SELVEDGE_UNIT` has more lines for it.
    pub fn start_agent(&mut self) {
        let more = std::env::var("SELVEDGE_UNIT").unwrap_or_default();
        self.agent = Some(if more.is_empty() { self.spawn("agent.log", &["run"]) } else { self.start_unit(&more) });
    }

    /// As a package installs it, but for the program, its configuration and
    /// where its log goes.
    fn start_unit(&self, more: &str) -> Running {
        let units = Path::new("/run/systemd/system");
        std::fs::create_dir_all(units.join("selvedge.service.d")).expect("root may");
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/init/selvedge.service");
        std::fs::copy(unit, units.join("selvedge.service")).expect("the unit");
        let own = format!(
            "[Service]\nExecStart=\nExecStart={} run\nEnvironment=SELVEDGE_CONFIG={}\nStandardError=append:{}\n{more}\n",
            self.agent_binary.display(),
            self.config().display(),
            self.dir.join("agent.log").display()
        );
        std::fs::write(units.join("selvedge.service.d/test.conf"), own).expect("root may");
        systemctl(&["daemon-reload"]);
        systemctl(&["start", "selvedge"]);
        Running::Unit
    }

    /// SIGKILL, as the kernel does it when memory is short.
    pub fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// Ends by SIGTERM: what it knows is on disk.
    pub fn stop_cloud(&mut self) {
        if let Some(Running::Process(cloud)) = &mut self.cloud {
            let pid = rustix::process::Pid::from_child(cloud);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
            cloud.wait().expect("it ends");
        }
        self.cloud = None;
    }

    /// The agent is in the mount namespace of the machine: the runtime sees the
    /// volumes that it mounts. And systemd restricts it, if that started it.
    pub fn agent_is_confined_but_mounts_for_all(&self) {
        let agent = self.agent.as_ref().expect("it runs");
        let own = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).expect("it runs");
        let pid = agent.id().to_string();
        match agent {
            Running::Process(_) => assert_eq!(own(&pid), own("self")),
            Running::Unit => {
                assert_eq!(own(&pid), own("1"));
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
                let is_set = |line: &str| status.lines().any(|known| known == line);
                assert!(is_set("NoNewPrivs:\t1") && is_set("Seccomp:\t2"), "{status}");
            }
        }
    }

    /// The agent's own answer to `selvedge status`.
    pub fn status(&self) -> Value {
        let output = self.command(&["status", "-o", "json"]).output().expect("the program");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What one of the two wrote so far: `cloud.log`, `agent.log`.
    pub fn said(&self, log: &str) -> String {
        std::fs::read_to_string(self.dir.join(log)).unwrap_or_default()
    }

    /// The agent renewed its certificate and opened a session after that.
    pub fn has_renewed(&self) -> bool {
        let log = self.said("agent.log");
        log.find("certificate of node 'live' was renewed").is_some_and(|at| log[at..].contains("connected to"))
    }

    /// Asks the stand-in.
    pub fn ask(&self, question: &Value) -> Option<Value> {
        let mut answer = None;
        let each = |line: &str| {
            answer = serde_json::from_str(line).ok();
            Ok(())
        };
        smol::block_on(socket::ask(&self.state().join("control.sock"), &question.to_string(), each)).ok()?;
        answer
    }

    /// Objects of a kind.
    pub fn get(&self, kind: &str) -> Vec<Value> {
        self.ask(&json!({ "get": kind })).and_then(|mut answer| answer["items"].as_array_mut().map(std::mem::take)).unwrap_or_default()
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.get("pod").into_iter().find(|pod| pod["metadata"]["name"] == name)
    }

    /// Where the stand-in's changes can be heard.
    pub fn socket(&self) -> PathBuf {
        self.state().join("control.sock")
    }

    pub fn apply(&self, manifest: &Value) {
        let answer = self.ask(&json!({ "apply": manifest })).expect("an answer");
        assert!(answer["error"].is_null(), "{answer}");
    }

    pub fn delete(&self, pod: &str, grace: Option<i64>) {
        self.ask(&json!({ "delete": { "kind": "pod", "namespace": "default", "name": pod, "grace": grace } })).expect("an answer");
    }

    pub fn is_ready(&self, pod: &str) -> bool {
        self.pod(pod).is_some_and(|pod| condition(&pod, "Ready") == Some("True"))
    }

    /// Waits for something; how long it took.
    pub fn until(&self, what: &str, holds: impl FnMut(&Self) -> bool) -> Duration {
        self.within(PATIENCE, what, holds)
    }

    /// As `until`, with a patience of its own.
    pub fn within(&self, patience: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) -> Duration {
        let begun = now();
        while !holds(self) {
            assert!(begun.elapsed() < patience, "{what}: not within {patience:?}; see {}", self.dir.display());
            pause(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// A call to the runtime, beside the agent.
    pub fn ask_runtime<T>(&self, call: impl AsyncFnOnce(Client) -> Result<T, grpc::Error>) -> T {
        let executor = Executor::default();
        executor.block_on(call(Client::new(&self.runtime, &executor))).expect("the runtime answers")
    }

    /// Containers in the runtime, sandboxes left out: pod name, container, id.
    pub fn containers(&self) -> Vec<(String, String, String)> {
        let answer = self.ask_runtime(async |client| client.list_containers(&cri::ListContainersRequest::default()).await);
        let label = |container: &cri::Container, name: &str| container.labels.get(name).cloned().unwrap_or_default();
        let one = |container: cri::Container| (label(&container, "io.kubernetes.pod.name"), label(&container, "io.kubernetes.container.name"), container.id);
        let mut all: Vec<_> = answer.containers.into_iter().map(one).collect();
        all.sort();
        all
    }

    /// Nothing of any pod is left in the runtime, nor its logs, which go last.
    /// Without a runtime there were no pods.
    fn is_clean(&self) -> bool {
        if !self.runtime.exists() {
            return true;
        }
        let answer = self.ask_runtime(async |client| client.list_pod_sandbox(&cri::ListPodSandboxRequest::default()).await);
        let logs = std::fs::read_dir(self.dir.join("pods")).into_iter().flatten();
        answer.items.is_empty() && self.containers().is_empty() && logs.count() == 0
    }

    /// Ends a container behind the agent's back.
    pub fn kill_container(&self, id: &str) {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: 0 };
        self.ask_runtime(async |client| client.stop_container(&request).await);
    }

    /// Takes an image away behind the agent's back.
    pub fn remove_image(&self, image: &str) {
        let request = cri::RemoveImageRequest { image: Some(image.into()) };
        self.ask_runtime(async |client| client.remove_image(&request).await);
    }
}

/// A pod that sleeps.
pub fn pod(name: &str, command: &str) -> Value {
    json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name }, "spec": {
        "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
        "containers": [{ "name": "c", "image": "docker.io/library/busybox:1.36", "command": ["sh", "-c", command] }] } })
}

/// Ends at once when told.
pub const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done";

/// Real time, because the runtime is real.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A process that ends with its owner, also when a test fails.
pub enum Running {
    Process(Child),
    /// The agent, started by its unit.
    Unit,
}

impl Running {
    pub fn id(&self) -> u32 {
        match self {
            Self::Process(child) => child.id(),
            Self::Unit => systemctl(&["show", "--property=MainPID", "--value", "selvedge"]).trim().parse().expect("it runs"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self {
            Self::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::Unit => {
                systemctl(&["kill", "--signal=KILL", "selvedge"]);
                systemctl(&["stop", "selvedge"]);
            }
        }
    }
}

/// What systemd answered.
fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl").args(words).output().expect("systemctl");
    assert!(output.status.success() || std::thread::panicking(), "systemctl {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Drop for Stand {
    /// Pods go first, so that the next agent meets none of another.
    fn drop(&mut self) {
        if !std::thread::panicking() && self.cloud.is_some() && self.agent.is_some() {
            let names: Vec<String> = self.get("pod").iter().filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect();
            names.iter().for_each(|name| self.delete(name, Some(0)));
            self.until("nothing is left", Self::is_clean);
        }
    }
}
