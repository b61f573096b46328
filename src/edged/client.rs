//! The calls to the container runtime and how long each may take. Nothing here
//! knows what they mean; `host::grpc` carries them.

use std::path::Path;
use std::time::Duration;

use super::grpc::{Channel, Error, Peer, Stream};
use crate::host::tasks::Executor;
use crate::wire::cri;

/// Reading something the runtime knows by heart.
const READ: Duration = Duration::from_secs(10);
/// Making or ending something.
const WORK: Duration = Duration::from_secs(120);
/// Layers over a slow link; a stuck pull must end some day.
const PULL: Duration = Duration::from_secs(1800);
/// What a call that has its own limit may take beyond it.
const BEYOND: Duration = Duration::from_secs(10);

/// The runtime behind a socket. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client(Channel);

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident, $path:literal, $limit:expr;)+) => {
        impl Client {$(
            $(#[$doc])*
            pub async fn $name(&self, request: &cri::$request) -> Result<cri::$answer, Error> {
                self.0.call($path, request, $limit).await
            }
        )+}
    };
}

calls! {
    /// Name and version of the runtime.
    version(VersionRequest) -> VersionResponse, "/runtime.v1.RuntimeService/Version", READ;
    /// Its conditions.
    status(StatusRequest) -> StatusResponse, "/runtime.v1.RuntimeService/Status", READ;
    /// Its cgroup driver.
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse, "/runtime.v1.RuntimeService/RuntimeConfig", READ;
    /// Runs a sandbox.
    run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse, "/runtime.v1.RuntimeService/RunPodSandbox", WORK;
    /// Stops a sandbox and what is in it.
    stop_pod_sandbox(StopPodSandboxRequest) -> Empty, "/runtime.v1.RuntimeService/StopPodSandbox", WORK;
    /// Removes a sandbox and what is in it.
    remove_pod_sandbox(RemovePodSandboxRequest) -> Empty, "/runtime.v1.RuntimeService/RemovePodSandbox", WORK;
    /// A sandbox at length.
    pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse, "/runtime.v1.RuntimeService/PodSandboxStatus", READ;
    /// Sandboxes in short.
    list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse, "/runtime.v1.RuntimeService/ListPodSandbox", READ;
    /// Creates a container.
    create_container(CreateContainerRequest) -> CreateContainerResponse, "/runtime.v1.RuntimeService/CreateContainer", WORK;
    /// Starts it.
    start_container(StartContainerRequest) -> Empty, "/runtime.v1.RuntimeService/StartContainer", WORK;
    /// Removes it, ended or not.
    remove_container(RemoveContainerRequest) -> Empty, "/runtime.v1.RuntimeService/RemoveContainer", WORK;
    /// Containers in short.
    list_containers(ListContainersRequest) -> ListContainersResponse, "/runtime.v1.RuntimeService/ListContainers", READ;
    /// A container at length.
    container_status(ContainerStatusRequest) -> ContainerStatusResponse, "/runtime.v1.RuntimeService/ContainerStatus", READ;
    /// What containers use.
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse, "/runtime.v1.RuntimeService/ListContainerStats", READ;
    /// Begins a new log file.
    reopen_container_log(ReopenContainerLogRequest) -> Empty, "/runtime.v1.RuntimeService/ReopenContainerLog", READ;
    /// An image.
    image_status(ImageStatusRequest) -> ImageStatusResponse, "/runtime.v1.ImageService/ImageStatus", READ;
    /// All images.
    list_images(ListImagesRequest) -> ListImagesResponse, "/runtime.v1.ImageService/ListImages", READ;
    /// Brings an image.
    pull_image(PullImageRequest) -> PullImageResponse, "/runtime.v1.ImageService/PullImage", PULL;
    /// Takes an image away.
    remove_image(RemoveImageRequest) -> Empty, "/runtime.v1.ImageService/RemoveImage", WORK;
}

impl Client {
    /// A client for `socket`; nothing is opened yet.
    pub fn new(socket: &Path, executor: &Executor) -> Self {
        Self(Channel::new(Peer { name: "runtime", socket: socket.to_owned() }, executor))
    }

    /// Stops a container; may take its timeout and then some.
    pub async fn stop_container(&self, request: &cri::StopContainerRequest) -> Result<cri::Empty, Error> {
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        self.0.call("/runtime.v1.RuntimeService/StopContainer", request, grace.saturating_add(WORK)).await
    }

    /// Runs a command in a container for at most `limit`.
    pub async fn exec_sync(&self, container: &str, command: &[String], limit: Duration) -> Result<cri::ExecSyncResponse, Error> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).max(1);
        let request = cri::ExecSyncRequest { container_id: container.to_owned(), cmd: command.to_vec(), timeout };
        self.0.call("/runtime.v1.RuntimeService/ExecSync", &request, limit.saturating_add(BEYOND)).await
    }

    /// Begins a call whose answers go on and on. Returns before the runtime
    /// answered: a refusal shows with the first message.
    pub async fn stream(&self, call: &'static str, header: Option<(&'static str, &'static str)>, request: &impl prost::Message) -> Result<Stream, Error> {
        self.0.stream(call, header, request).await
    }
}
