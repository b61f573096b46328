//! One connection: two tasks that move bytes between a stream and the router.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::BytesMut;
use futures_lite::io::{ReadHalf, WriteHalf};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future, io};
use smol::channel::{self, Receiver, Sender};
use smol::{Task, Timer};

use super::Connection;
use super::packet;
use super::router::{Order, Router};
use crate::host::clock;
use crate::host::tasks::Executor;

/// Read at once from a client.
const CHUNK: usize = 4 << 10;
/// A buffer that grew beyond this is not kept for the next packets.
const SPARE: usize = 32 << 10;

/// The router and the lines to all clients; one thread.
#[derive(Debug)]
pub struct Hub {
    router: RefCell<Router>,
    lines: RefCell<BTreeMap<Connection, Line>>,
    max_packet: usize,
    executor: Executor,
    rearm: (Sender<()>, Receiver<()>),
}

/// A connection; dropping it closes it.
#[derive(Debug)]
struct Line {
    stirred: Sender<()>,
    _tasks: [Task<()>; 2],
}

impl Hub {
    /// Nobody is connected yet.
    pub fn new(router: Router, max_packet: usize, executor: &Executor) -> Rc<Self> {
        let lines = RefCell::default();
        Rc::new(Self { router: RefCell::new(router), lines, max_packet, executor: executor.clone(), rearm: channel::bounded(1) })
    }

    /// Does something with the router, and what it leads to.
    fn act<T>(&self, what: impl FnOnce(&mut Router) -> T) -> T {
        let mut router = self.router.borrow_mut();
        let result = what(&mut router);
        while let Some(order) = router.poll() {
            // Full means: it is known already.
            match order {
                Order::Write(connection) => drop(self.lines.borrow().get(&connection).map(|line| line.stirred.try_send(()))),
                Order::Close(connection) => drop(self.lines.borrow_mut().remove(&connection)),
                Order::Rearm => drop(self.rearm.0.try_send(())),
            }
        }
        result
    }

    /// Serves one who connected.
    pub fn welcome(self: &Rc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, trusted: bool) {
        let Some(connection) = self.act(|router| router.connected(clock::monotonic(), trusted)) else { return };
        let (reader, writer) = io::split(stream);
        let (stirred, stir) = channel::bounded(1);
        let (relieved, relief) = channel::bounded(1);
        let tasks =
            [self.executor.spawn(read(self.clone(), connection, reader, relief)), self.executor.spawn(write(self.clone(), connection, writer, stir, relieved))];
        self.lines.borrow_mut().insert(connection, Line { stirred, _tasks: tasks });
    }

    /// Takes all whole packets off what came.
    fn take(&self, connection: Connection, input: &mut BytesMut) {
        let now = clock::monotonic();
        self.act(|router| {
            loop {
                match packet::read(input, self.max_packet) {
                    Ok(Some(packet)) => router.received(now, connection, packet),
                    Ok(None) => return,
                    Err(fault) => return router.faulty(now, connection, &fault),
                }
            }
        });
    }

    fn is_choked(&self, connection: Connection) -> bool {
        self.router.borrow().is_choked(connection)
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(hub: Rc<Hub>, connection: Connection, mut stream: ReadHalf<S>, relief: Receiver<()>) {
    let (mut input, mut chunk) = (BytesMut::new(), vec![0; CHUNK]);
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        input.extend_from_slice(&chunk[..count]);
        hub.take(connection, &mut input);
        if input.is_empty() && input.capacity() > SPARE {
            input = BytesMut::new();
        }
        while hub.is_choked(connection) {
            if relief.recv().await.is_err() {
                return;
            }
        }
        // A client that never pauses must not keep the others waiting.
        future::yield_now().await;
    }
    hub.act(|router| router.lost(clock::monotonic(), connection));
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(hub: Rc<Hub>, connection: Connection, mut stream: WriteHalf<S>, stir: Receiver<()>, relieved: Sender<()>) {
    let mut out = BytesMut::new();
    loop {
        hub.act(|router| router.fill(clock::monotonic(), connection, &mut out));
        // What follows at once must not keep the others waiting either.
        future::yield_now().await;
        if out.is_empty() {
            out = BytesMut::new();
            if stir.recv().await.is_err() {
                return;
            }
            continue;
        }
        // Flushed, because TLS gathers.
        if stream.write_all(&out).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        out.clear();
        let _ = relieved.try_send(());
    }
    hub.act(|router| router.lost(clock::monotonic(), connection));
}

/// Comes back to the router when it asked for it.
pub async fn keep_time(hub: Rc<Hub>) {
    loop {
        let at = hub.router.borrow().deadline();
        let due = async {
            match at {
                Some(at) => drop(Timer::after(at.saturating_sub(clock::monotonic())).await),
                None => future::pending().await,
            }
            true
        };
        let rearmed = async { hub.rearm.1.recv().await.is_err() };
        if future::or(due, rearmed).await {
            hub.act(|router| router.on_deadline(clock::monotonic()));
        }
    }
}
