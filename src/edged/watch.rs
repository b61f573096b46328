//! Follows the runtime: finds it, says what it is, reads everything once, then
//! re-reads a pod whenever the runtime says that something in it changed. A
//! slow relist is the net below; a runtime that dies shows by its connection.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;

use super::client::Error;
use super::events::{Change, Event, Events, Source};
use super::{Shell, boottime, info, seen};
use crate::host::tasks::Tasks;
use crate::node::ids::PodUid;
use crate::node::input::Input;
use crate::node::runtime::{ContainerState, PodSeen, RuntimeInfo};
use crate::wire::cri;

/// Between attempts to reach the runtime: first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A session this long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// The net below the events.
const RELIST: Duration = Duration::from_secs(300);
/// The only way to see changes in a runtime that tells of none.
const POLL: Duration = Duration::from_secs(5);
/// Between looks at a runtime that answers but says it is not ready: nothing
/// tells when its network is.
const UNREADY: Duration = Duration::from_secs(5);
/// containerd tells of an end just before its own CRI part notes it. A pod is
/// read again until it shows, after so many milliseconds each time.
const CATCH_UP: [u64; 9] = [0, 10, 20, 40, 80, 160, 320, 640, 1280];

/// Follows the runtime for as long as the shell lives.
pub(super) async fn run(shell: Rc<Shell>) {
    let mut watch = Watch { shell, source: Source::Cri, info: None, told_down: false };
    let mut pause = PAUSE.0;
    loop {
        let begun = boottime();
        let Err(cause) = watch.session().await;
        if watch.info.take().is_none() && !watch.told_down {
            log::warn!(target: "edged", "runtime is down: {cause}");
            watch.told_down = true;
            watch.shell.tell(Input::RuntimeDown(cause.to_string())).await;
        } else {
            log::debug!(target: "edged", "runtime is not followed: {cause}");
        }
        if boottime().saturating_sub(begun) >= GOOD {
            pause = PAUSE.0;
        }
        Timer::after(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

struct Watch {
    shell: Rc<Shell>,
    source: Source,
    /// What was last told of the runtime in this session.
    info: Option<RuntimeInfo>,
    told_down: bool,
}

enum Wake {
    Event(Event),
    /// The stream cannot be had from this source.
    NoEvents(Error),
    Relist,
    Check,
}

impl Watch {
    /// From reaching the runtime until that ends.
    async fn session(&mut self) -> Result<std::convert::Infallible, Error> {
        self.check().await?;
        let mut events = Events::open(&self.shell.client, self.source).await?;
        self.shell.look_at_all().await?;
        let (rereads, mut tasks) = (Rc::new(Rereads::default()), Tasks::new(&self.shell.executor));
        let mut relist = boottime() + self.net();
        loop {
            match self.wake(&mut events, relist).await? {
                Wake::Event(event) => {
                    if let Some(uid) = owner(&self.shell, &event).await?
                        && rereads.want(&uid, event)
                    {
                        tasks.spawn(reread(self.shell.clone(), rereads.clone(), uid));
                    }
                }
                Wake::NoEvents(cause) => {
                    self.source = self.source.next();
                    log::info!(target: "edged", "runtime has no such events, now from {}: {cause}", self.source);
                    events = Events::open(&self.shell.client, self.source).await?;
                    self.shell.relist.ask();
                }
                Wake::Relist => {
                    self.shell.look_at_all().await?;
                    relist = boottime() + self.net();
                }
                Wake::Check => self.check().await?,
            }
        }
    }

    fn net(&self) -> Duration {
        if self.source == Source::None { POLL } else { RELIST }
    }

    async fn wake(&self, events: &mut Events, relist: Duration) -> Result<Wake, Error> {
        let shell = &self.shell;
        let event = async {
            match events.next().await {
                Err(cause) if cause.is_unimplemented() => Ok(Wake::NoEvents(cause)),
                other => other.map(Wake::Event),
            }
        };
        let relist = async {
            or(shell.relist.asked(), pause(relist.saturating_sub(boottime()))).await;
            Ok(Wake::Relist)
        };
        let unready = self.info.as_ref().is_some_and(|info| info.not_ready.is_some() || info.network_not_ready.is_some());
        let check = async {
            if unready {
                or(shell.check.asked(), pause(UNREADY)).await
            } else {
                shell.check.asked().await
            }
            Ok(Wake::Check)
        };
        or(or(check, event), relist).await
    }

    /// Asks the runtime how it is and tells what is new.
    async fn check(&mut self) -> Result<(), Error> {
        let info = info::read(&self.shell.client).await?;
        if self.info.as_ref() == Some(&info) {
            return Ok(());
        }
        if self.info.is_none() {
            log::info!(target: "edged", "runtime is '{}' '{}'", info.name, info.version);
        }
        for why in [&info.not_ready, &info.network_not_ready].into_iter().flatten() {
            log::warn!(target: "edged", "runtime is not ready: {why}");
        }
        self.told_down = false;
        self.info = Some(info.clone());
        self.shell.systemd.set(self.shell.config.systemd_cgroups.or(info.systemd_cgroups).unwrap_or(false));
        self.shell.tell(Input::RuntimeUp(info)).await;
        Ok(())
    }
}

async fn pause(time: Duration) {
    Timer::after(time).await;
}

/// Pods to read again: each at most once at a time, and once more when
/// something happened meanwhile.
#[derive(Default)]
struct Rereads(RefCell<BTreeMap<PodUid, Vec<Event>>>);

impl Rereads {
    /// Notes that a pod changed; `true` when somebody has to begin reading it.
    fn want(&self, uid: &PodUid, event: Event) -> bool {
        let mut wanted = self.0.borrow_mut();
        let idle = !wanted.contains_key(uid);
        wanted.entry(uid.clone()).or_default().push(event);
        idle
    }

    /// What happened to a pod since this was asked; with nothing new the
    /// reading of it ends.
    fn news(&self, uid: &PodUid) -> Option<Vec<Event>> {
        let mut wanted = self.0.borrow_mut();
        let news = wanted.get_mut(uid).map(std::mem::take).filter(|news| !news.is_empty());
        if news.is_none() {
            wanted.remove(uid);
        }
        news
    }
}

/// Reads a pod until it shows all that was said of it.
async fn reread(shell: Rc<Shell>, rereads: Rc<Rereads>, uid: PodUid) {
    while let Some(news) = rereads.news(&uid) {
        for wait in CATCH_UP {
            pause(Duration::from_millis(wait)).await;
            let shown = Cell::new(true);
            let say = |seen: Option<PodSeen>| {
                shown.set(seen.as_ref().is_none_or(|pod| news.iter().all(|event| shows(pod, event))));
                seen.map(Input::Seen)
            };
            shell.look(&uid, None, say).await;
            if shown.get() {
                break;
            }
        }
    }
}

/// Whether the runtime's own picture has caught up with its event.
fn shows(pod: &PodSeen, event: &Event) -> bool {
    let container = pod.containers.iter().find(|container| container.id.as_str() == event.id);
    let sandbox = pod.sandboxes.iter().find(|sandbox| sandbox.id.as_str() == event.id);
    match event.change {
        Change::Some => true,
        Change::Ended => {
            !container.is_some_and(|container| matches!(container.state, ContainerState::Running { .. })) && !sandbox.is_some_and(|sandbox| sandbox.ready)
        }
        Change::Gone => container.is_none() && sandbox.is_none(),
    }
}

/// Whose container or sandbox an event is about; `None` when it is no pod's, or
/// is gone.
async fn owner(shell: &Shell, event: &Event) -> Result<Option<PodUid>, Error> {
    let known = || shell.known.borrow().owner(&event.id);
    if let Some(uid) = event.pod.clone().or_else(known) {
        return Ok(Some(uid));
    }
    let filter = cri::ContainerFilter { id: event.id.clone(), ..Default::default() };
    let found = shell.client.list_containers(&cri::ListContainersRequest { filter: Some(filter) }).await?;
    if let Some(container) = found.containers.first() {
        return Ok(seen::uid(&container.labels));
    }
    let filter = cri::PodSandboxFilter { id: event.id.clone(), ..Default::default() };
    let found = shell.client.list_pod_sandbox(&cri::ListPodSandboxRequest { filter: Some(filter) }).await?;
    Ok(found.items.first().and_then(|sandbox| seen::uid(&sandbox.labels)))
}
