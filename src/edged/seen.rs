//! What is in the runtime, as the node wants it told: sandboxes and containers
//! gathered to pods by the labels they carry. Things without a pod's uid are
//! somebody else's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smol::lock::Semaphore;

use super::client::Client;
use super::files;
use super::grpc::Error;
use crate::host::tasks::Executor;
use crate::node::ids::{ContainerId, PodKey, PodUid, SandboxId};
use crate::node::now::Wall;
use crate::node::runtime::{ContainerSeen, ContainerState, Exit, ImageSeen, PodSeen, SandboxSeen};
use crate::wire::{cri, text};

const UID: &str = "io.kubernetes.pod.uid";
const NAME: &str = "io.kubernetes.pod.name";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const CONTAINER: &str = "io.kubernetes.container.name";
const RESTARTS: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Status calls side by side.
const CALLS: usize = 8;

type Labels = BTreeMap<String, String>;

/// A pod as read, and where its running containers log to.
pub(super) struct PodRead {
    pub(super) seen: PodSeen,
    logs: Vec<(ContainerId, PathBuf)>,
}

impl PodRead {
    /// A pod of which nothing is left.
    pub(super) fn gone(uid: &PodUid, key: Option<PodKey>) -> Self {
        let key = key.unwrap_or_else(|| PodKey { namespace: String::new(), name: String::new() });
        Self { seen: PodSeen { uid: uid.clone(), key, sandboxes: Vec::new(), containers: Vec::new() }, logs: Vec::new() }
    }
}

/// What the last looks left behind: who is who.
#[derive(Default)]
pub(super) struct Known {
    keys: BTreeMap<PodUid, PodKey>,
    ids: BTreeMap<String, PodUid>,
    logs: BTreeMap<ContainerId, (PodUid, PathBuf)>,
}

impl Known {
    pub(super) fn new(pods: &[PodRead]) -> Self {
        let mut known = Self::default();
        pods.iter().for_each(|pod| known.replace(pod));
        known
    }

    /// Takes the newer look at a pod.
    pub(super) fn replace(&mut self, pod: &PodRead) {
        let uid = &pod.seen.uid;
        self.ids.retain(|_, owner| owner != uid);
        self.logs.retain(|_, (owner, _)| owner != uid);
        if pod.seen.sandboxes.is_empty() && pod.seen.containers.is_empty() {
            self.keys.remove(uid);
            return;
        }
        self.keys.insert(uid.clone(), pod.seen.key.clone());
        let sandboxes = pod.seen.sandboxes.iter().map(|sandbox| sandbox.id.as_str());
        let containers = pod.seen.containers.iter().map(|container| container.id.as_str());
        self.ids.extend(sandboxes.chain(containers).map(|id| (id.to_owned(), uid.clone())));
        self.logs.extend(pod.logs.iter().map(|(id, path)| (id.clone(), (uid.clone(), path.clone()))));
    }

    /// A sandbox or container was just made: its events may come before the
    /// next look.
    pub(super) fn made(&mut self, id: &str, uid: &PodUid) {
        self.ids.insert(id.to_owned(), uid.clone());
    }

    pub(super) fn key(&self, uid: &PodUid) -> Option<PodKey> {
        self.keys.get(uid).cloned()
    }

    /// Whose sandbox or container this is.
    pub(super) fn owner(&self, id: &str) -> Option<PodUid> {
        self.ids.get(id).cloned()
    }

    pub(super) fn has_logs(&self) -> bool {
        !self.logs.is_empty()
    }

    /// Log files of running containers.
    pub(super) fn logs(&self) -> Vec<(ContainerId, PathBuf)> {
        self.logs.iter().map(|(id, (_, path))| (id.clone(), path.clone())).collect()
    }
}

/// Reads all pods, or the one asked for if there is anything of it.
pub(super) async fn read(client: &Client, executor: &Executor, only: Option<&PodUid>) -> Result<Vec<PodRead>, Error> {
    let labels: Labels = only.iter().map(|uid| (UID.to_owned(), uid.to_string())).collect();
    let filter = cri::PodSandboxFilter { label_selector: labels.clone(), ..Default::default() };
    let sandboxes = client.list_pod_sandbox(&cri::ListPodSandboxRequest { filter: Some(filter) }).await?.items;
    let filter = cri::ContainerFilter { label_selector: labels, ..Default::default() };
    let containers = client.list_containers(&cri::ListContainersRequest { filter: Some(filter) }).await?.containers;

    let turns = Rc::new(Semaphore::new(CALLS));
    let sandboxes: Vec<_> = sandboxes
        .into_iter()
        .filter(|sandbox| sandbox.labels.contains_key(UID))
        .map(|sandbox| {
            let (client, turns) = (client.clone(), turns.clone());
            executor.spawn(async move {
                let _turn = turns.acquire().await;
                read_sandbox(&client, sandbox).await
            })
        })
        .collect();
    let containers: Vec<_> = containers
        .into_iter()
        .filter(|container| container.labels.contains_key(UID))
        .map(|container| {
            let (client, turns) = (client.clone(), turns.clone());
            executor.spawn(async move {
                let _turn = turns.acquire().await;
                read_container(&client, container).await
            })
        })
        .collect();
    let mut pods = Gathered::default();
    for sandbox in sandboxes {
        if let Some((created, labels, sandbox)) = sandbox.await? {
            pods.of(&labels).sandboxes.push((created, sandbox));
        }
    }
    for container in containers {
        if let Some(read) = container.await? {
            pods.of(&read.labels).containers.push(read);
        }
    }
    Ok(pods.finish())
}

struct ContainerRead {
    created: i64,
    attempt: u32,
    labels: Labels,
    seen: ContainerSeen,
    log: PathBuf,
}

/// `None`: it went away meanwhile. One that is listed, and not known when it is
/// asked for, is there all the same, without addresses.
async fn read_sandbox(client: &Client, sandbox: cri::PodSandbox) -> Result<Option<(i64, Labels, SandboxSeen)>, Error> {
    let ready = sandbox.state() == cri::PodSandboxState::Ready;
    // One that is not ready has no addresses any more.
    let status = if ready {
        match client.pod_sandbox_status(&sandbox.id.as_str().into()).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(cause) if cause.is_not_found() => {
                let filter = cri::PodSandboxFilter { id: sandbox.id.clone(), ..Default::default() };
                if client.list_pod_sandbox(&cri::ListPodSandboxRequest { filter: Some(filter) }).await?.items.is_empty() {
                    return Ok(None);
                }
                cri::PodSandboxStatus::default()
            }
            Err(cause) => return Err(cause),
        }
    } else {
        cri::PodSandboxStatus::default()
    };
    let seen = SandboxSeen {
        id: sandbox.id.into(),
        attempt: sandbox.metadata.map_or(0, |metadata| metadata.attempt),
        ready,
        created: wall(sandbox.created_at),
        ips: addresses(status),
        annotations: sandbox.annotations,
    };
    Ok(Some((sandbox.created_at, sandbox.labels, seen)))
}

fn addresses(status: cri::PodSandboxStatus) -> Vec<String> {
    let namespaces = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
    if namespaces.is_some_and(|options| options.network() == cri::NamespaceMode::Node) {
        return Vec::new();
    }
    let network = status.network.unwrap_or_default();
    std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|more| more.ip)).filter(|ip| !ip.is_empty()).collect()
}

/// `None`: it went away meanwhile. One that is listed, and not known when it is
/// asked for, is there in a state that nobody knows.
async fn read_container(client: &Client, container: cri::Container) -> Result<Option<ContainerRead>, Error> {
    let status = match client.container_status(&container.id.as_str().into()).await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(cause) if cause.is_not_found() => {
            let filter = cri::ContainerFilter { id: container.id.clone(), ..Default::default() };
            if client.list_containers(&cri::ListContainersRequest { filter: Some(filter) }).await?.containers.is_empty() {
                return Ok(None);
            }
            cri::ContainerStatus { state: cri::ContainerState::Unknown.into(), ..Default::default() }
        }
        Err(cause) => return Err(cause),
    };
    let words = match last_words_of(&status) {
        Some(wish) => smol::unblock(move || wish.read()).await,
        None => String::new(),
    };
    Ok(Some(parse(container, status, &words)))
}

fn parse(container: cri::Container, status: cri::ContainerStatus, words: &str) -> ContainerRead {
    let state = state(&status, words);
    let attempt = container.metadata.map_or(0, |metadata| metadata.attempt);
    let image = status.image.unwrap_or_default();
    let seen = ContainerSeen {
        id: container.id.into(),
        sandbox: SandboxId::from(container.pod_sandbox_id),
        name: container.labels.get(CONTAINER).cloned().unwrap_or_default(),
        restarts: container.annotations.get(RESTARTS).and_then(|count| count.parse().ok()).unwrap_or(attempt),
        image: if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image },
        image_id: status.image_ref,
        state,
        annotations: container.annotations,
    };
    ContainerRead { created: container.created_at, attempt, labels: container.labels, seen, log: status.log_path.into() }
}

fn state(status: &cri::ContainerStatus, words: &str) -> ContainerState {
    match status.state() {
        cri::ContainerState::Created => ContainerState::Created,
        cri::ContainerState::Running => ContainerState::Running { started: wall(status.started_at) },
        cri::ContainerState::Unknown => ContainerState::Unknown,
        cri::ContainerState::Exited => ContainerState::Exited(Exit {
            started: wall(status.started_at),
            finished: wall(status.finished_at),
            code: status.exit_code,
            reason: match (status.reason.as_str(), status.exit_code) {
                ("", 0) => "Completed".to_owned(),
                ("", _) => "Error".to_owned(),
                (reason, _) => text::prefix(reason, text::EVENT_MESSAGE).to_owned(),
            },
            message: match (text::prefix(&status.message, text::TERMINATION_MESSAGE), words) {
                (message, "") => message.to_owned(),
                ("", words) => words.to_owned(),
                (message, words) => format!("{message}: {words}"),
            },
        }),
    }
}

/// Where the last words of an ended container are.
fn last_words_of(status: &cri::ContainerStatus) -> Option<files::LastWords> {
    if status.state() != cri::ContainerState::Exited {
        return None;
    }
    let inside = status.annotations.get(MESSAGE_PATH)?;
    let mount = status.mounts.iter().find(|mount| mount.container_path == *inside);
    let or_log = status.exit_code != 0 && status.annotations.get(MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    Some(files::LastWords { file: mount.map(|mount| mount.host_path.clone().into()), log: or_log.then(|| status.log_path.clone().into()) })
}

/// An image, told.
pub(super) fn image(image: cri::Image) -> ImageSeen {
    ImageSeen { id: image.id, names: image.repo_tags.into_iter().chain(image.repo_digests).collect(), size: image.size, pinned: image.pinned }
}

/// `/var/log/containers` names a container so; from its labels.
pub(super) fn log_link(labels: &Labels, id: &str) -> String {
    let part = |label| labels.get(label).map_or("", String::as_str);
    files::link_name(part(NAME), part(NAMESPACE), part(CONTAINER), id)
}

/// The pod's uid and the container's name that labels tell.
pub(super) fn owner(labels: &Labels) -> Option<(&str, &str)> {
    Some((labels.get(UID)?, labels.get(CONTAINER)?))
}

/// Uid of the pod that labels name.
pub(super) fn uid(labels: &Labels) -> Option<PodUid> {
    labels.get(UID).map(|uid| uid.as_str().into())
}

fn wall(nanoseconds: i64) -> Wall {
    Wall(nanoseconds / 1_000_000)
}

#[derive(Default)]
struct Gathered(BTreeMap<String, Parts>);

#[derive(Default)]
struct Parts {
    key: Option<PodKey>,
    sandboxes: Vec<(i64, SandboxSeen)>,
    containers: Vec<ContainerRead>,
}

impl Gathered {
    fn of(&mut self, labels: &Labels) -> &mut Parts {
        let text = |label| labels.get(label).cloned().unwrap_or_default();
        let parts = self.0.entry(text(UID)).or_default();
        parts.key.get_or_insert_with(|| PodKey { namespace: text(NAMESPACE), name: text(NAME) });
        parts
    }

    fn finish(self) -> Vec<PodRead> {
        self.0.into_iter().map(|(uid, parts)| parts.finish(uid.into())).collect()
    }
}

impl Parts {
    /// Newest first.
    fn finish(mut self, uid: PodUid) -> PodRead {
        self.sandboxes.sort_by_key(|(created, sandbox)| std::cmp::Reverse((*created, sandbox.attempt)));
        self.containers.sort_by_key(|container| std::cmp::Reverse((container.created, container.attempt)));
        let running = |container: &&ContainerRead| matches!(container.seen.state, ContainerState::Running { .. }) && container.log != Path::new("");
        let logs = self.containers.iter().filter(running).map(|container| (container.seen.id.clone(), container.log.clone())).collect();
        let mut pod = PodRead::gone(&uid, self.key);
        pod.logs = logs;
        pod.seen.sandboxes = self.sandboxes.into_iter().map(|(_, sandbox)| sandbox).collect();
        pod.seen.containers = self.containers.into_iter().map(|container| container.seen).collect();
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(uid: &str) -> Labels {
        [(UID, uid), (NAME, "web-0"), (NAMESPACE, "shop"), (CONTAINER, "web")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    fn container(id: &str, created: i64, attempt: u32, state: cri::ContainerState) -> ContainerRead {
        let metadata = Some(cri::ContainerMetadata { name: "web".into(), attempt });
        let short = cri::Container { id: id.into(), metadata, created_at: created, labels: labels("u"), state: state.into(), ..Default::default() };
        let status = cri::ContainerStatus { state: state.into(), log_path: "/l/0.log".into(), exit_code: 1, ..Default::default() };
        parse(short, status, "")
    }

    #[test]
    fn the_newest_container_comes_first_and_attempts_decide_a_tie() {
        let mut pods = Gathered::default();
        for (id, created, attempt) in [("a", 1, 0), ("c", 2, 3), ("b", 2, 1)] {
            let read = container(id, created, attempt, cri::ContainerState::Running);
            pods.of(&read.labels).containers.push(read);
        }
        let pods = pods.finish();
        let ids: Vec<_> = pods[0].seen.containers.iter().map(|container| container.id.as_str()).collect();
        assert_eq!((pods[0].seen.key.to_string().as_str(), ids), ("shop/web-0", vec!["c", "b", "a"]));
        assert_eq!(Known::new(&pods).logs().len(), 3);
    }

    #[test]
    fn an_end_without_a_reason_is_named_by_its_code() {
        let exit = |code, reason: &str, message: &str, words: &str| {
            let state = cri::ContainerState::Exited.into();
            let status = cri::ContainerStatus { state, exit_code: code, reason: reason.into(), message: message.into(), ..Default::default() };
            let ContainerState::Exited(exit) = super::state(&status, words) else { unreachable!() };
            (exit.reason, exit.message)
        };
        assert_eq!(exit(0, "", "", ""), ("Completed".into(), String::new()));
        assert_eq!(exit(1, "", "", "why"), ("Error".into(), "why".into()));
        assert_eq!(exit(137, "OOMKilled", "m", "w"), ("OOMKilled".into(), "m: w".into()));
    }

    #[test]
    fn the_log_stands_in_for_last_words_only_after_an_error_and_when_asked() {
        let wish = |code, policy: &str| {
            let annotations = [(MESSAGE_PATH, "/dev/termination-log"), (MESSAGE_POLICY, policy)].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let mounts = vec![cri::Mount { container_path: "/dev/termination-log".into(), host_path: "/h/0".into(), ..Default::default() }];
            let state = cri::ContainerState::Exited.into();
            let words =
                last_words_of(&cri::ContainerStatus { state, exit_code: code, annotations, mounts, log_path: "/l".into(), ..Default::default() }).unwrap();
            (words.file.is_some(), words.log.is_some())
        };
        assert_eq!(wish(1, "FallbackToLogsOnError"), (true, true));
        assert_eq!(wish(0, "FallbackToLogsOnError"), (true, false));
        assert_eq!(wish(1, "File"), (true, false));
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_was_just_made_is_known() {
        let mut pods = Gathered::default();
        let read = container("a", 1, 0, cri::ContainerState::Running);
        pods.of(&read.labels).containers.push(read);
        let (mut known, uid) = (Known::new(&pods.finish()), PodUid::from("u"));
        known.made("b", &uid);
        assert_eq!((known.owner("a"), known.owner("b"), known.has_logs()), (Some(uid.clone()), Some(uid.clone()), true));
        known.replace(&PodRead::gone(&uid, None));
        assert_eq!((known.owner("a"), known.owner("b"), known.has_logs(), known.key(&uid)), (None, None, false, None));
    }
}
