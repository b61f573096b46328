//! The socket mappers look for, and the connections on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::lock::Semaphore;
use smol::net::unix::{UnixListener, UnixStream};

use super::http2::{Budget, Connection, MAX_STREAMS, Request};
use super::rpc;
use crate::config;
use crate::host::beneath;
use crate::host::tasks::{Executor, Tasks};
use crate::node::dmi::{Refusal, Reply};
use crate::node::ids::CallId;
use crate::node::input::Input;

/// Connections at a time; more wait in the socket's own queue.
const CROWD: usize = 64;
/// Bytes of unfinished requests, all connections together.
const UNFINISHED: usize = 16 << 20;
/// A connection on which nothing happens for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Between tries to get the socket: from, to.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Read at a time.
const CHUNK: usize = 16 << 10;

/// An answer of the node.
type Answer = Result<Reply, Refusal>;
/// Those who wait for one, by the number of their call.
pub type Waiting = Rc<RefCell<BTreeMap<CallId, Asker>>>;

/// One who waits for an answer.
#[derive(Debug)]
pub struct Asker {
    stream: u32,
    connection: Sender<(u32, Answer)>,
}

impl Asker {
    /// Gives him the answer; he may be gone.
    pub fn give(self, answer: Answer) {
        if self.connection.try_send((self.stream, answer)).is_err() {
            log::debug!(target: "dmi", "a mapper did not wait for its answer");
        }
    }
}

/// What all connections share.
#[derive(Debug, Clone)]
struct Door {
    inbox: Sender<Input>,
    waiting: Waiting,
    budget: Budget,
    last: Rc<Cell<CallId>>,
}

/// Serves mappers for ever.
pub async fn serve(config: config::Dmi, inbox: Sender<Input>, waiting: Waiting, executor: Executor) {
    let listener = insist(&config.socket).await;
    let door = Door { inbox, waiting, budget: Budget::new(UNFINISHED), last: Rc::default() };
    let places = Arc::new(Semaphore::new(CROWD));
    let mut connections = Tasks::new(&executor);
    loop {
        let place = places.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let door = door.clone();
                connections.spawn(async move {
                    match converse(stream, &door).await {
                        // Most go away as soon as they were answered.
                        Err(why) if !matches!(why.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                            log::debug!(target: "dmi", "a mapper's connection ended: {why}");
                        }
                        Ok(()) | Err(_) => {}
                    }
                    drop(place);
                });
            }
            Err(why) => {
                log::warn!(target: "dmi", "'{}' takes no connection: {why}", config.socket.display());
                Timer::after(AGAIN.0).await;
            }
        }
    }
}

/// The socket, whenever it can be had.
async fn insist(path: &Path) -> UnixListener {
    let (mut pause, most) = AGAIN;
    loop {
        match listen(path) {
            Ok(listener) => {
                log::info!(target: "dmi", "mappers are served at '{}'", path.display());
                return listener;
            }
            Err(why) => log::error!(target: "dmi", "mappers cannot be served at '{}': {why}; it is tried again", path.display()),
        }
        Timer::after(pause).await;
        pause = most.min(pause * 2);
    }
}

/// Opens the socket in place of one that is left over, without an instant in
/// which there is none. One that answers is somebody else's.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent serves it"));
    }
    if let Some(dir) = path.parent().filter(|dir| !dir.is_dir()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push("~");
    let new = PathBuf::from(new);
    let _ = std::fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    // To connect is to write: root's own. Mappers in pods have its directory.
    beneath::restrict_socket(&new, 0o755, None)?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// What can happen on a connection.
enum Turn {
    Read(usize),
    Wrote(usize),
    Answered(u32, Answer),
    Idle,
}

async fn converse(mut stream: UnixStream, door: &Door) -> io::Result<()> {
    let mut connection = Connection::new(door.budget.clone());
    // More than streams, for those that were given up are answered too.
    let (give, answers) = channel::bounded(4 * MAX_STREAMS);
    let mut chunk = vec![0; CHUNK];
    loop {
        while let Some(Request { stream, path, message }) = connection.poll() {
            match rpc::ask(&path, &message) {
                Ok(ask) => door.ask(ask, Asker { stream, connection: give.clone() }).await,
                Err(status) => connection.answer(stream, Err(status)),
            }
        }
        if connection.is_over() && connection.output().is_empty() {
            return connection.fault().map_or(Ok(()), |fault| Err(io::Error::other(fault.why)));
        }
        match turn(&mut stream, &mut connection, &answers, &mut chunk).await? {
            Turn::Read(0) | Turn::Wrote(0) => return Ok(()),
            Turn::Read(length) => connection.take(&chunk[..length]),
            Turn::Wrote(length) => connection.output().advance(length),
            Turn::Answered(stream, answer) => connection.answer(stream, rpc::answer(answer)),
            Turn::Idle if connection.is_idle() && !connection.is_over() => connection.close(),
            Turn::Idle => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Waits for the next thing. What is dropped while it waits has done nothing.
async fn turn(stream: &mut UnixStream, connection: &mut Connection, answers: &Receiver<(u32, Answer)>, chunk: &mut [u8]) -> io::Result<Turn> {
    let over = connection.is_over();
    let output = connection.output();
    let (mut reading, mut writing) = (stream.clone(), stream.clone());
    let read = async {
        // A peer that does not read what it asked for is not read either.
        if over || output.len() > 4 * CHUNK { std::future::pending().await } else { reading.read(chunk).await.map(Turn::Read) }
    };
    let write = async { if output.is_empty() { std::future::pending().await } else { writing.write(output).await.map(Turn::Wrote) } };
    let answered = async {
        let (stream, answer) = answers.recv().await.map_err(io::Error::other)?;
        Ok(Turn::Answered(stream, answer))
    };
    let idle = async {
        Timer::after(IDLE).await;
        Ok(Turn::Idle)
    };
    or(write, or(answered, or(read, idle))).await
}

impl Door {
    /// Asks the node; the answer comes by the connection's channel.
    async fn ask(&self, ask: crate::node::dmi::Ask, asker: Asker) {
        let call = self.last.get().next();
        self.last.set(call);
        self.waiting.borrow_mut().insert(call, asker);
        let _ = self.inbox.send(Input::MapperAsked(call, ask)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::grpc::{Channel, Code, Peer};
    use crate::node::dmi::Ask;
    use crate::wire::dmi::{Device, MapperInfo, MapperRegisterRequest, MapperRegisterResponse, Nothing, ReportDeviceStatesRequest, manager};
    use std::os::unix::fs::PermissionsExt;

    const LIMIT: Duration = Duration::from_secs(10);

    fn config(name: &str) -> config::Dmi {
        let socket = std::env::temp_dir().join(format!("selvedge-dmi-{}-{name}/dmi.sock", std::process::id()));
        config::Dmi { enabled: true, socket, call_timeout: LIMIT, rate: 1000 }
    }

    /// A shell whose node answers as `node` says, and a client of it.
    fn with<T>(name: &str, node: impl Fn(Ask) -> Answer + 'static, work: impl AsyncFnOnce(Channel) -> T) -> T {
        let (config, executor) = (config(name), Executor::default());
        let (inbox, inputs) = channel::bounded(4);
        let shell = super::super::open(config.clone(), inbox, &executor);
        let _node = executor.spawn(async move {
            while let Ok(Input::MapperAsked(call, ask)) = inputs.recv().await {
                shell.hand(crate::node::dmi::Order::Answer(call, node(ask)));
            }
        });
        let channel = Channel::new(Peer { name: "agent", socket: config.socket.clone() }, &executor);
        let result = executor.block_on(async {
            while UnixStream::connect(&config.socket).await.is_err() {
                smol::future::yield_now().await;
            }
            work(channel).await
        });
        std::fs::remove_dir_all(config.socket.parent().unwrap()).unwrap();
        result
    }

    #[test]
    fn a_mapper_gets_all_its_devices_however_many() {
        let node = |ask| {
            let Ask::Register(request) = ask else { panic!("{ask:?}") };
            assert_eq!(request.mapper.unwrap().name, "m");
            let device = Device { name: "d".repeat(1000), ..Default::default() };
            Ok(Reply::Registered(MapperRegisterResponse { device_list: vec![device; 3000], ..Default::default() }))
        };
        let request = MapperRegisterRequest { with_data: true, mapper: Some(MapperInfo { name: "m".into(), ..Default::default() }) };
        let response: MapperRegisterResponse = with("many", node, async |channel| channel.call(manager::MAPPER_REGISTER, &request, LIMIT).await.unwrap());
        assert!(response.device_list.len() == 3000 && response.device_list[2999].name.len() == 1000);
    }

    #[test]
    fn refusals_keep_their_code_and_words() {
        let node = |_| Err(Refusal::invalid("state: missing"));
        with("refused", node, async |channel| {
            let refused = async |path, message: &[u8]| channel.call::<Nothing>(path, &message.to_vec(), LIMIT).await.unwrap_err();
            let cause = refused(manager::REPORT_DEVICE_STATES, b"").await;
            assert_eq!((cause.code(), cause.to_string()), (Some(Code(3)), "ReportDeviceStates failed (InvalidArgument): state: missing".to_owned()));
            assert!(refused("/v1beta1.DeviceManagerService/Nothing", b"").await.is_unimplemented());
            // A bytes message is field 1; here a text must be UTF-8.
            assert_eq!(refused(manager::REPORT_DEVICE_STATES, b"\xff").await.code(), Some(Code(3)));
        });
    }

    #[test]
    fn many_calls_share_a_connection_and_each_gets_its_own_answer() {
        let node = |ask| {
            let Ask::ReportStates(request) = ask else { panic!("{ask:?}") };
            if request.device_name.ends_with('7') { Err(Refusal::invalid(request.device_name)) } else { Ok(Reply::Taken) }
        };
        with("shared", node, async |channel| {
            for number in 0..200 {
                let request = ReportDeviceStatesRequest { device_name: format!("d{number}"), state: "ok".into(), ..Default::default() };
                let result: Result<Nothing, _> = channel.call(manager::REPORT_DEVICE_STATES, &request, LIMIT).await;
                assert_eq!(result.is_err(), number % 10 == 7, "{number}: {result:?}");
            }
        });
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_a_living_one_is_not() {
        let path = config("left").socket;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let executor = Executor::default();
        executor.block_on(async {
            drop(listen(&path).unwrap());
            let living = listen(&path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
            assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(living);
        });
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(listen(Path::new("/proc/none/dmi.sock")).is_err());
    }
}
