//! Follows the runtime: finds it, says what it is, reads everything once, then
//! re-reads a pod whenever the runtime says that something in it changed. A
//! slow relist is the net below; a runtime that dies shows by its connection.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::{or, poll_once};
use smol::Timer;

use super::events::{Change, Event, Events, Source};
use super::grpc::Error;
use super::{Shell, files, info, seen};
use crate::host::clock;
use crate::host::tasks::Tasks;
use crate::node::ids::PodUid;
use crate::node::input::Input;
use crate::node::runtime::{ContainerState, PodSeen, RuntimeInfo};
use crate::wire::cri;

/// Between attempts to reach the runtime: first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The same to one that is there and cannot be followed: each attempt costs it
/// a list of everything.
const UNFOLLOWED: Duration = Duration::from_secs(60);
/// A session this long was a good one.
const GOOD: Duration = Duration::from_secs(60);
/// The net below the events.
const RELIST: Duration = Duration::from_secs(300);
/// The only way to see changes in a runtime that tells of none; kubelet's pace.
const POLL: Duration = Duration::from_secs(1);
/// Between looks at a runtime that answers but says it is not ready: nothing
/// tells when its network is.
const UNREADY: Duration = Duration::from_secs(5);
/// Looks at a pod until it shows an end that was told, and those of them that
/// come close together.
const LOOKS: u32 = 60;
const CLOSE_LOOKS: u32 = 35;

/// Follows the runtime for as long as the shell lives.
pub(super) async fn run(shell: Rc<Shell>) {
    let mut watch = Watch { shell, info: None, told_down: false, told_directories: false };
    let mut pause = PAUSE.0;
    loop {
        let begun = clock::monotonic();
        let Err(cause) = watch.session().await;
        let was_good = clock::monotonic().saturating_sub(begun) >= GOOD;
        if watch.info.take().is_none() && !watch.told_down {
            log::warn!(target: "edged", "runtime is down: {cause}");
            watch.told_down = true;
            watch.shell.tell(Input::RuntimeDown(cause.to_string())).await;
        } else if !watch.told_down {
            log::warn!(target: "edged", "runtime cannot be followed, trying again: {cause}");
        }
        if was_good {
            pause = PAUSE.0;
        }
        Timer::after(pause).await;
        pause = after(pause, &cause);
    }
}

/// The pause after this one.
fn after(pause: Duration, cause: &Error) -> Duration {
    (pause * 2).min(if cause.is_down() { PAUSE.1 } else { UNFOLLOWED })
}

struct Watch {
    shell: Rc<Shell>,
    /// What was last told of the runtime in this session.
    info: Option<RuntimeInfo>,
    told_down: bool,
    told_directories: bool,
}

enum Wake {
    Event(Event),
    /// This source has none, or no more.
    NoEvents(String),
    Relist,
    Check,
}

impl Watch {
    /// From reaching the runtime until that ends.
    async fn session(&mut self) -> Result<std::convert::Infallible, Error> {
        let mut source = Source::Cri;
        let mut events = Events::open(&self.shell.client, source).await?;
        self.check().await?;
        // A refusal has come by now; events need not be heeded before the look
        // at everything.
        if let Some(Wake::NoEvents(cause)) = poll_once(next(&mut events)).await.transpose()? {
            (source, events) = self.other_source(source, &cause).await?;
        }
        self.shell.look_at_all().await?;
        if !std::mem::replace(&mut self.told_directories, true) {
            let (root, logs) = (self.shell.config.root.clone(), self.shell.config.pod_logs.clone());
            let pods = self.shell.on_disk(move || files::pods(&root, &logs)).await;
            self.shell.tell(Input::Directories(pods)).await;
        }
        let (rereads, mut tasks) = (Rc::new(Rereads::default()), Tasks::new(&self.shell.executor));
        let mut relist = clock::monotonic() + net(source);
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
                    (source, events) = self.other_source(source, &cause).await?;
                    self.shell.relist.ask();
                }
                Wake::Relist => {
                    self.shell.look_at_all().await?;
                    relist = clock::monotonic() + net(source);
                }
                Wake::Check => self.check().await?,
            }
        }
    }

    async fn other_source(&self, source: Source, cause: &str) -> Result<(Source, Events), Error> {
        let source = source.next();
        log::info!(target: "edged", "runtime has no such events, now from {source}: {cause}");
        Ok((source, Events::open(&self.shell.client, source).await?))
    }

    async fn wake(&self, events: &mut Events, relist: Duration) -> Result<Wake, Error> {
        let shell = &self.shell;
        let event = next(events);
        let relist = async {
            or(shell.relist.asked(), pause(relist.saturating_sub(clock::monotonic()))).await;
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

/// The next event, or that there are none.
async fn next(events: &mut Events) -> Result<Wake, Error> {
    match events.next().await {
        Ok(Some(event)) => Ok(Wake::Event(event)),
        // CRI-O without `enable_pod_events`.
        Ok(None) => Ok(Wake::NoEvents("the stream ends".to_owned())),
        Err(cause) if cause.is_unimplemented() => Ok(Wake::NoEvents(cause.to_string())),
        Err(cause) => Err(cause),
    }
}

/// How long until everything is looked at again.
fn net(source: Source) -> Duration {
    if source == Source::None { POLL } else { RELIST }
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
        for look in 0..LOOKS {
            pause(catch_up(look)).await;
            let shown = Cell::new(true);
            let say = |seen: Result<PodSeen, Error>| {
                shown.set(seen.as_ref().map_or(true, |pod| news.iter().all(|event| shows(pod, event))));
                seen.ok().map(Input::Seen)
            };
            shell.look(&uid, None, say).await;
            if shown.get() {
                break;
            }
        }
    }
}

/// containerd tells of an end before its own CRI part has it on disk, which
/// takes as long as its disk does.
fn catch_up(look: u32) -> Duration {
    match look {
        0 => Duration::ZERO,
        1..CLOSE_LOOKS => Duration::from_millis((10 << look.min(4)).min(100)),
        _ => Duration::from_secs(1),
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

#[cfg(test)]
mod tests {
    use super::super::grpc::Code;
    use super::*;
    use crate::node::ids::PodKey;
    use crate::node::now::Wall;
    use crate::node::runtime::{ContainerSeen, Exit, SandboxSeen};

    fn event(id: &str, change: Change) -> Event {
        Event { id: id.into(), pod: None, change }
    }

    fn pod(state: ContainerState) -> PodSeen {
        let sandbox = SandboxSeen { id: "s".into(), attempt: 0, ready: true, created: Wall(0), ips: Vec::new(), annotations: BTreeMap::new() };
        let container = ContainerSeen {
            id: "c".into(),
            sandbox: "s".into(),
            name: "web".into(),
            restarts: 0,
            image: String::new(),
            image_id: String::new(),
            state,
            annotations: BTreeMap::new(),
        };
        PodSeen { uid: "u".into(), key: PodKey { namespace: "n".into(), name: "p".into() }, sandboxes: vec![sandbox], containers: vec![container] }
    }

    #[test]
    fn a_pod_is_read_by_one_reader_and_once_more_for_what_came_meanwhile() {
        let (rereads, uid) = (Rereads::default(), PodUid::from("u"));
        assert!(rereads.want(&uid, event("a", Change::Some)));
        assert_eq!(rereads.news(&uid), Some(vec![event("a", Change::Some)]));
        assert!(!rereads.want(&uid, event("b", Change::Some)));
        assert!(!rereads.want(&uid, event("c", Change::Some)));
        assert_eq!(rereads.news(&uid).map(|news| news.len()), Some(2));
        assert_eq!(rereads.news(&uid), None);
        assert!(rereads.want(&uid, event("d", Change::Some)));
    }

    #[test]
    fn a_runtime_that_lags_behind_its_own_event_is_asked_again() {
        let running = pod(ContainerState::Running { started: Wall(1) });
        let exit = Exit { started: Wall(1), finished: Wall(2), code: 0, reason: "Completed".into(), message: String::new() };
        assert!(!shows(&running, &event("c", Change::Ended)));
        assert!(shows(&pod(ContainerState::Exited(exit)), &event("c", Change::Ended)));
        assert!(!shows(&running, &event("s", Change::Ended)));
        assert!(!shows(&running, &event("c", Change::Gone)));
        assert!(shows(&running, &event("other", Change::Gone)));
        assert!(shows(&running, &event("c", Change::Some)));
    }

    #[test]
    fn a_runtime_that_refuses_is_asked_less_and_less_often() {
        let refused = Error::Refused { call: "/x/ListPodSandbox", code: Code(13), message: String::new() };
        let waits: Vec<_> = std::iter::successors(Some(PAUSE.0), |pause| Some(after(*pause, &refused))).take(20).collect();
        assert!(waits.iter().take_while(|wait| **wait < UNFOLLOWED).count() < 10 && waits[19] == UNFOLLOWED, "{waits:?}");
        let away = Error::Refused { call: "/x/ListPodSandbox", code: Code::UNAVAILABLE, message: String::new() };
        assert_eq!(after(PAUSE.1, &away), PAUSE.1);
    }

    #[test]
    fn looks_end_within_a_minute_and_are_close_at_first() {
        let waits: Vec<_> = (0..LOOKS).map(catch_up).collect();
        assert!(waits.iter().sum::<Duration>() < Duration::from_secs(60));
        assert!(waits[..30].iter().all(|wait| *wait <= Duration::from_millis(100)));
    }
}
