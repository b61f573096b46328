//! The shell towards the container runtime: carries out what the node orders
//! and tells it what the runtime shows. It decides nothing about pods.
//!
//! `client` has the calls, `watch` follows the runtime by its `events` and
//! `info`, `seen` reads what is in it, `operate` does one step of a pod's life,
//! `images` has images here, `probe` tries things on containers, `logs` keeps
//! log files small; `volumes`, `subpath`, `cgroup`, `slice` and `files` are a
//! pod's part of this machine.

pub mod cgroup;
pub mod client;
mod events;
mod files;
mod images;
mod info;
#[cfg(test)]
mod live;
mod logs;
mod operate;
mod probe;
mod seen;
mod slice;
pub mod subpath;
mod usage;
pub mod volumes;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use smol::Task;
use smol::channel::{Receiver, Sender, bounded};
use smol::lock::{Mutex, RwLock, Semaphore};

use crate::config;
use crate::host::grpc;
use crate::host::tasks::{Executor, Tasks};
use crate::node::ids::{OpId, PodKey, PodUid};
use crate::node::input::Input;
use crate::node::runtime::{Cgroup, ImageSeen, Op, Order, PodSeen, RuntimeInfo};
use crate::wire::cri;
use client::Client;
use grpc::Error;

/// Orders in hand at most, ops of pods aside, of which each pod has one; beyond
/// that the node keeps them.
const ORDERS: usize = 1024;
/// Steps carried out side by side; as many more of those that end a pod.
const STEPS: usize = 32;
/// Pulls side by side: they share one uplink and one flash chip.
const PULLS: usize = 2;
/// Probes side by side.
const PROBES: usize = 32;
/// Threads busy with files.
const FILES: usize = 4;

/// The runtime's shell. What it does ends when it is dropped; pods do not.
pub struct Edged {
    shell: Rc<Shell>,
    tasks: RefCell<Tasks>,
    /// What a pod's step is given up by.
    ops: RefCell<BTreeMap<OpId, UnderWay>>,
}

/// A step of a pod that is being carried out.
struct UnderWay {
    pod: PodUid,
    /// It changes what the runtime has.
    changes: bool,
    task: Task<()>,
}

/// Starts the shell. It reaches for the runtime by itself and goes on doing so.
pub fn open(config: config::Edged, inbox: Sender<Input>, executor: &Executor) -> Edged {
    let shell = Rc::new(Shell::new(config, inbox, executor));
    let mut tasks = Tasks::new(executor);
    tasks.spawn(watch::run(shell.clone()));
    tasks.spawn(logs::watch(shell.clone()));
    Edged { shell, tasks: RefCell::new(tasks), ops: RefCell::default() }
}

/// How the runtime at a socket is, and whether it has the image of its
/// sandboxes: for those who look without an agent.
pub fn ask(socket: &Path) -> Result<(RuntimeInfo, bool), Error> {
    let executor = Executor::default();
    executor.block_on(async {
        let client = Client::new(socket, &executor);
        let info = info::read(&client).await?;
        let request = cri::ImageStatusRequest { image: Some(info.sandbox_image.as_str().into()) };
        let is_here = !info.sandbox_image.is_empty() && client.image_status(&request).await?.image.is_some();
        Ok((info, is_here))
    })
}

impl Edged {
    /// Whether another order is taken.
    pub fn room(&self) -> bool {
        self.tasks.borrow_mut().running() < ORDERS
    }

    fn begin(&self, op: Op) {
        let (id, pod, changes) = (op.id, op.pod.clone(), operate::changes(&op.step));
        let task = self.shell.executor.spawn(operate::run(self.shell.clone(), op));
        let mut ops = self.ops.borrow_mut();
        ops.retain(|_, op| !op.task.is_finished());
        ops.insert(id, UnderWay { pod, changes, task });
    }

    /// Dropping what waits for a call tells the runtime to give it up.
    fn cancel(&self, op: OpId) {
        let Some(UnderWay { pod, changes, task }) = self.ops.borrow_mut().remove(&op) else { return };
        log::debug!(target: "edged", "op {op} of pod '{pod}' is cancelled");
        drop(task);
        if changes {
            self.spawn(operate::look_later(self.shell.clone(), pod));
        }
    }

    /// Takes an order; it is answered by an input, unless it says otherwise.
    /// Never waits.
    pub fn hand(&self, order: Order) {
        let shell = self.shell.clone();
        match order {
            Order::Op(op) => self.begin(op),
            Order::Cancel(op) => self.cancel(op),
            Order::Weigh(classes) => {
                shell.classes.replace(classes);
                self.spawn(async move { operate::weigh(&shell).await });
            }
            Order::Probe(probe) => self.spawn(probe::run(shell, probe)),
            Order::RemoveImage(image) => self.spawn(async move { shell.remove_image(&image).await }),
            Order::Measure(pods) => self.spawn(async move { usage::measure(&shell, pods).await }),
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().spawn(work);
    }
}

/// What all tasks of the shell share.
struct Shell {
    config: config::Edged,
    client: Client,
    inbox: Sender<Input>,
    executor: Executor,
    known: RefCell<seen::Known>,
    /// Held while the runtime is read and until that is told, so that what was
    /// seen earlier never arrives later: shared by looks at single pods, alone
    /// by a look at all.
    looking: RwLock<()>,
    /// The same between looks at one pod.
    looks: RefCell<BTreeMap<PodUid, Rc<Mutex<()>>>>,
    /// The same for work on files of a pod, which cannot be stopped once begun.
    pod_files: RefCell<BTreeMap<PodUid, Weak<Mutex<()>>>>,
    /// What classes of pods shall weigh, empty once they do; one writes it at a
    /// time, so that the newest word stands.
    classes: RefCell<Vec<Cgroup>>,
    weighing: Mutex<()>,
    /// Processes are grouped by systemd slices.
    systemd: Cell<bool>,
    steps: Semaphore,
    ends: Semaphore,
    pulls: Semaphore,
    probes: Semaphore,
    files: Semaphore,
    /// Look at everything.
    relist: Bell,
    /// Ask the runtime how it is.
    check: Bell,
    /// Containers with logs appeared.
    logging: Bell,
}

/// Rings once, however often it was pulled before it was heard.
struct Bell(Sender<()>, Receiver<()>);

impl Bell {
    fn new() -> Self {
        let (pull, heard) = bounded(1);
        Self(pull, heard)
    }

    fn ask(&self) {
        // Full means: somebody asked and nobody looked yet.
        let _ = self.0.try_send(());
    }

    async fn asked(&self) {
        self.1.recv().await.expect("the bell holds its own sender");
    }
}

impl Shell {
    fn new(config: config::Edged, inbox: Sender<Input>, executor: &Executor) -> Self {
        Self {
            client: Client::new(&config.runtime, executor),
            systemd: Cell::new(config.systemd_cgroups.unwrap_or(false)),
            config,
            inbox,
            executor: executor.clone(),
            classes: RefCell::default(),
            weighing: Mutex::new(()),
            known: RefCell::default(),
            looking: RwLock::new(()),
            looks: RefCell::default(),
            steps: Semaphore::new(STEPS),
            ends: Semaphore::new(STEPS),
            pod_files: RefCell::default(),
            pulls: Semaphore::new(PULLS),
            probes: Semaphore::new(PROBES),
            files: Semaphore::new(FILES),
            relist: Bell::new(),
            check: Bell::new(),
            logging: Bell::new(),
        }
    }

    /// Tells the node. When nobody listens any more, the agent is ending.
    async fn tell(&self, input: Input) {
        let _ = self.inbox.send(input).await;
    }

    /// Work on files, off this thread.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let _turn = self.files.acquire().await;
        smol::unblock(work).await
    }

    /// Who works on files of a pod holds this; it is kept as long as somebody
    /// does.
    fn files_of(&self, uid: &PodUid) -> Arc<Mutex<()>> {
        let mut all = self.pod_files.borrow_mut();
        if let Some(turns) = all.get(uid).and_then(Weak::upgrade) {
            return turns;
        }
        all.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Mutex::new(()));
        all.insert(uid.clone(), Arc::downgrade(&turns));
        turns
    }

    /// Reads one pod and tells of it, or why it could not be read.
    async fn look(&self, uid: &PodUid, key: Option<PodKey>, say: impl FnOnce(Result<PodSeen, Error>) -> Option<Input>) {
        let _shared = self.looking.read().await;
        let turns = self.looks.borrow_mut().entry(uid.clone()).or_default().clone();
        let _turn = turns.lock().await;
        let pod = match seen::read(&self.client, &self.executor, Some(uid)).await {
            Ok(pods) => Ok(self.remember(uid, key, pods)),
            Err(cause) => {
                log::debug!(target: "edged", "cannot read pod '{uid}': {cause}");
                self.check.ask();
                Err(cause)
            }
        };
        if let Some(input) = say(pod) {
            self.tell(input).await;
        }
    }

    fn remember(&self, uid: &PodUid, key: Option<PodKey>, mut pods: Vec<seen::PodRead>) -> PodSeen {
        let mut known = self.known.borrow_mut();
        let found = pods.pop().unwrap_or_else(|| seen::PodRead::gone(uid, key.or_else(|| known.key(uid))));
        known.replace(&found);
        if known.has_logs() {
            self.logging.ask();
        }
        found.seen
    }

    /// Reads everything and tells of it.
    async fn look_at_all(&self) -> Result<(), Error> {
        let _alone = self.looking.write().await;
        self.looks.borrow_mut().clear();
        let pods = seen::read(&self.client, &self.executor, None).await?;
        self.known.replace(seen::Known::new(&pods));
        self.logging.ask();
        self.tell(Input::Relisted(pods.into_iter().map(|pod| pod.seen).collect())).await;
        let images = self.images().await?;
        self.tell(Input::Images(images)).await;
        Ok(())
    }

    async fn images(&self) -> Result<Vec<ImageSeen>, Error> {
        let answer = self.client.list_images(&cri::ListImagesRequest {}).await?;
        Ok(answer.images.into_iter().map(seen::image).collect())
    }

    /// Images changed.
    async fn look_at_images(&self) {
        match self.images().await {
            Ok(images) => self.tell(Input::Images(images)).await,
            Err(cause) => self.odd("cannot list images", &cause),
        }
    }

    async fn remove_image(&self, image: &str) {
        match self.client.remove_image(&cri::RemoveImageRequest { image: Some(image.into()) }).await {
            Ok(cri::Empty {}) => log::info!(target: "edged", "image '{image}' removed"),
            Err(cause) => self.odd(&format!("image '{image}' stays"), &cause),
        }
        self.look_at_images().await;
    }

    /// Something failed that has no one to answer to.
    fn odd(&self, what: &str, cause: &dyn Display) {
        log::warn!(target: "edged", "{what}: {cause}");
        self.check.ask();
    }
}
