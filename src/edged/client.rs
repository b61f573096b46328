//! gRPC to the container runtime: unary calls and server streams over HTTP/2 on
//! its unix socket. One connection carries all; it is opened when first needed
//! and again after it died. Nothing here knows what the calls mean.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_lite::future::or;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use smol::lock::Mutex;
use smol::net::unix::UnixStream;
use smol::{Task, Timer};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use crate::host::tasks::Executor;
use crate::wire::cri;

/// Largest message taken, as Go's clients have it.
const MAX_MESSAGE: usize = 16 << 20;
/// Reading something the runtime knows by heart.
const READ: Duration = Duration::from_secs(10);
/// Making or ending something.
const WORK: Duration = Duration::from_secs(120);
/// Layers over a slow link; a stuck pull must end some day.
const PULL: Duration = Duration::from_secs(1800);
/// What a call that has its own limit may take beyond it.
const BEYOND: Duration = Duration::from_secs(10);
/// Opening the socket.
const DIAL: Duration = Duration::from_secs(5);
/// Of one stream, and of all together: a reader that is late with its stream
/// never stops the answers of the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why a call has no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody listens on the socket.
    Unreachable {
        /// Of the runtime.
        socket: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The connection ended or broke.
    Broken {
        /// Of the runtime.
        socket: PathBuf,
        /// Path of the call.
        call: &'static str,
        /// Why.
        cause: h2::Error,
    },
    /// The runtime says no.
    Refused {
        /// Path of the call.
        call: &'static str,
        /// gRPC's status code.
        code: Code,
        /// The runtime's words.
        message: String,
    },
    /// No answer in time.
    TimedOut {
        /// Of the runtime.
        socket: PathBuf,
        /// Path of the call.
        call: &'static str,
        /// Which time.
        limit: Duration,
    },
    /// What came is no answer.
    Garbled {
        /// Of the runtime.
        socket: PathBuf,
        /// Path of the call.
        call: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// A status code of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Its own time limit passed.
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    /// There is no such thing.
    pub const NOT_FOUND: Self = Self(5);
    /// There is no such call.
    pub const UNIMPLEMENTED: Self = Self(12);
    /// Not now.
    pub const UNAVAILABLE: Self = Self(14);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        match usize::try_from(self.0).ok().and_then(|at| names.get(at)) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl Error {
    /// The runtime's code, if it answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => None,
        }
    }

    /// The runtime knows no such thing.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NOT_FOUND)
    }

    /// The runtime has no such call.
    pub fn is_unimplemented(&self) -> bool {
        self.code() == Some(Code::UNIMPLEMENTED)
    }

    /// The runtime is not there, rather than against it.
    pub fn is_down(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { code, .. } => *code == Code::UNAVAILABLE,
            Self::TimedOut { .. } | Self::Garbled { .. } => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |call: &'static str| call.rsplit('/').next().unwrap_or(call);
        match self {
            Self::Unreachable { socket, cause } => write!(f, "cannot reach the runtime at '{}': {cause}", socket.display()),
            Self::Broken { socket, call, cause } => write!(f, "lost the runtime at '{}' during {}: {cause}", socket.display(), name(call)),
            Self::Refused { call, code, message } => write!(f, "{} failed ({code}): {message}", name(call)),
            Self::TimedOut { socket, call, limit } => write!(f, "runtime at '{}' did not answer {} within {} s", socket.display(), name(call), limit.as_secs()),
            Self::Garbled { socket, call, why } => write!(f, "runtime at '{}' answered {} with {why}", socket.display(), name(call)),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { cause, .. } => Some(cause),
            Self::Broken { cause, .. } => Some(cause),
            Self::Refused { .. } | Self::TimedOut { .. } | Self::Garbled { .. } => None,
        }
    }
}

/// The runtime behind a socket. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Client(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    executor: Executor,
    live: Mutex<Option<Live>>,
}

#[derive(Debug)]
struct Live {
    send: SendRequest<Bytes>,
    /// Moves the bytes of all streams; it ends with the connection.
    connection: Task<()>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident, $path:literal, $limit:expr;)+) => {
        impl Client {$(
            $(#[$doc])*
            pub async fn $name(&self, request: &cri::$request) -> Result<cri::$answer, Error> {
                self.call($path, request, $limit).await
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
    /// Where images are and how much they take.
    image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse, "/runtime.v1.ImageService/ImageFsInfo", READ;
}

impl Client {
    /// A client for `socket`; nothing is opened yet.
    pub fn new(socket: &Path, executor: &Executor) -> Self {
        Self(Rc::new(Shared { socket: socket.to_owned(), executor: executor.clone(), live: Mutex::new(None) }))
    }

    /// Stops a container; may take its timeout and then some.
    pub async fn stop_container(&self, request: &cri::StopContainerRequest) -> Result<cri::Empty, Error> {
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        self.call("/runtime.v1.RuntimeService/StopContainer", request, grace.saturating_add(WORK)).await
    }

    /// Runs a command in a container for at most `limit`.
    pub async fn exec_sync(&self, container: &str, command: &[String], limit: Duration) -> Result<cri::ExecSyncResponse, Error> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX).max(1);
        let request = cri::ExecSyncRequest { container_id: container.to_owned(), cmd: command.to_vec(), timeout };
        self.call("/runtime.v1.RuntimeService/ExecSync", &request, limit.saturating_add(BEYOND)).await
    }

    async fn call<A: prost::Message + Default>(&self, call: &'static str, request: &impl prost::Message, limit: Duration) -> Result<A, Error> {
        let answer = self.exchange(call, frame(&request.encode_to_vec()), limit).await?;
        A::decode(answer).map_err(|cause| self.garbled(call, cause.to_string()))
    }

    async fn exchange(&self, call: &'static str, request: Bytes, limit: Duration) -> Result<Bytes, Error> {
        let talk = async {
            let mut stream = self.open(call, None, request).await?;
            let answer = stream.message().await?.ok_or_else(|| self.garbled(call, "nothing".into()))?;
            // The verdict comes after the answer.
            match stream.message().await? {
                None => Ok(answer),
                Some(_) => Err(self.garbled(call, "two messages".into())),
            }
        };
        let late = async {
            Timer::after(limit).await;
            Err(Error::TimedOut { socket: self.0.socket.clone(), call, limit })
        };
        or(talk, late).await
    }

    /// Begins a call whose answers go on and on. Returns before the runtime
    /// answered: a refusal shows with the first message.
    pub async fn stream(&self, call: &'static str, header: Option<(&'static str, &'static str)>, request: &impl prost::Message) -> Result<Stream, Error> {
        self.open(call, header, frame(&request.encode_to_vec())).await
    }

    async fn open(&self, call: &'static str, header: Option<(&'static str, &'static str)>, request: Bytes) -> Result<Stream, Error> {
        let broken = |cause| Error::Broken { socket: self.0.socket.clone(), call, cause };
        let mut builder = Request::post(format!("http://localhost{call}")).header("content-type", "application/grpc").header("te", "trailers");
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        let head = builder.body(()).expect("path and headers are constants of ours");
        let mut send = self.ready(call).await?;
        let (response, mut body) = send.send_request(head, false).map_err(broken)?;
        body.send_data(request, true).map_err(broken)?;
        Ok(Stream { client: self.clone(), call, state: State::Asked(response), judged: false, buffer: BytesMut::new() })
    }

    /// A connection that takes a request. One that died since is opened again,
    /// once: nothing was sent on it.
    async fn ready(&self, call: &'static str) -> Result<SendRequest<Bytes>, Error> {
        let mut live = self.0.live.lock().await;
        if let Some(connection) = live.take_if(|live| live.connection.is_finished()) {
            drop(connection);
        }
        if let Some(found) = live.as_ref() {
            if let Ok(send) = found.send.clone().ready().await {
                return Ok(send);
            }
            *live = None;
        }
        let new = self.dial(call).await?;
        let send = new.send.clone().ready().await.map_err(|cause| Error::Broken { socket: self.0.socket.clone(), call, cause })?;
        *live = Some(new);
        Ok(send)
    }

    async fn dial(&self, call: &'static str) -> Result<Live, Error> {
        let socket = &self.0.socket;
        let late = async {
            Timer::after(DIAL).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let stream = or(UnixStream::connect(socket), late).await.map_err(|cause| Error::Unreachable { socket: socket.clone(), cause })?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW).enable_push(false);
        let (send, connection) = builder.handshake(stream.compat()).await.map_err(|cause| Error::Broken { socket: socket.clone(), call, cause })?;
        let connection = self.0.executor.spawn(async move {
            if let Err(cause) = connection.await {
                log::debug!(target: "edged", "connection to the runtime ended: {cause}");
            }
        });
        Ok(Live { send, connection })
    }

    fn garbled(&self, call: &'static str, why: String) -> Error {
        Error::Garbled { socket: self.0.socket.clone(), call, why }
    }
}

/// Answers of one call. Dropping it tells the runtime to stop.
pub struct Stream {
    client: Client,
    call: &'static str,
    state: State,
    /// The runtime said how it ended.
    judged: bool,
    buffer: BytesMut,
}

enum State {
    Asked(ResponseFuture),
    Answering(RecvStream),
    Ended,
}

impl Stream {
    /// The next message; `None` when the runtime is done and content. May be
    /// dropped while it waits without losing anything.
    pub async fn next<A: prost::Message + Default>(&mut self) -> Result<Option<A>, Error> {
        match self.message().await? {
            None => Ok(None),
            Some(message) => A::decode(message).map(Some).map_err(|cause| self.client.garbled(self.call, cause.to_string())),
        }
    }

    /// The next message of a stream that should never end.
    pub async fn expect<A: prost::Message + Default>(&mut self) -> Result<A, Error> {
        self.next().await?.ok_or_else(|| self.client.garbled(self.call, "an end of the stream".into()))
    }

    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            match &mut self.state {
                State::Asked(response) => {
                    let response = response.await;
                    self.answered(response.map_err(|cause| self.broken(cause))?)?;
                }
                State::Answering(body) => match body.data().await {
                    Some(Ok(chunk)) => {
                        // Else the runtime stops after one window.
                        let released = body.flow_control().release_capacity(chunk.len());
                        self.buffer.extend_from_slice(&chunk);
                        released.map_err(|cause| self.broken(cause))?;
                    }
                    Some(Err(cause)) => return Err(self.broken(cause)),
                    None => {
                        let trailers = body.trailers().await;
                        let trailers = trailers.map_err(|cause| self.broken(cause))?;
                        self.state = State::Ended;
                        if !self.judged {
                            self.verdict(&trailers.unwrap_or_default())?;
                        }
                    }
                },
                State::Ended if self.buffer.is_empty() => return Ok(None),
                State::Ended => return Err(self.client.garbled(self.call, "half a message".into())),
            }
        }
    }

    fn answered(&mut self, response: http::Response<RecvStream>) -> Result<(), Error> {
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            return Err(self.client.garbled(self.call, format!("HTTP status {}", head.status)));
        }
        if head.headers.contains_key("grpc-status") {
            self.verdict(&head.headers)?;
        }
        self.state = State::Answering(body);
        Ok(())
    }

    /// `grpc-status`: in the trailers, or in the head when there is nothing else.
    fn verdict(&mut self, headers: &HeaderMap) -> Result<(), Error> {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        self.judged = true;
        match text("grpc-status").map(|code| code.parse()) {
            Some(Ok(0)) => Ok(()),
            Some(Ok(code)) => Err(Error::Refused { call: self.call, code: Code(code), message: unescape(&text("grpc-message").unwrap_or_default()) }),
            None | Some(Err(_)) => Err(self.client.garbled(self.call, "no status".into())),
        }
    }

    /// Cuts a whole message from what came.
    fn whole(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<5>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 || length > MAX_MESSAGE {
            return Err(self.client.garbled(self.call, format!("a message of {length} bytes, compression {compressed}")));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn broken(&self, cause: h2::Error) -> Error {
        Error::Broken { socket: self.client.0.socket.clone(), call: self.call, cause }
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(message.len()).expect("no message of ours has 4 GiB").to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// `grpc-message` is percent-encoded.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        match escaped.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
