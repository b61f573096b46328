//! The one thread that owns the store's files: it syncs at once when idle. Once
//! batches overtake a sync it gathers for a moment before the next, for a sync
//! costs the flash a page however little is in it. A disk that takes nothing loses nothing: what
//! was to be written is kept and tried again.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use smol::channel::{Receiver, Sender, TrySendError};

use super::medium::Medium;
use super::{Store, StoreError};
use crate::host::clock;
use crate::node::input::Input;
use crate::node::store::{Batch, Row};

/// Bytes that may wait for the disk.
const ROOM: usize = 4 << 20;
/// Batches that may wait for the disk.
const QUEUE: usize = 256;

/// The way to the thread.
#[derive(Debug)]
pub struct Writer {
    queue: Option<Sender<Batch>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Medium + Send + 'static> Store<M>
where
    M::Ring: Send,
{
    /// Starts the thread.
    pub fn start(self, inbox: Sender<Input>) -> std::io::Result<Writer> {
        let (queue, batches) = smol::channel::bounded(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = waiting.clone();
        let thread = std::thread::Builder::new().name("store".to_owned()).stack_size(256 << 10).spawn(move || run(self, &batches, &counted, &inbox))?;
        Ok(Writer { queue: Some(queue), waiting, thread: Some(thread) })
    }
}

impl Writer {
    /// Another batch may be handed over.
    pub fn room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < ROOM && self.queue.as_ref().is_some_and(|queue| !queue.is_full())
    }

    /// Hands a batch over; gives it back when there was no room.
    pub fn put(&self, batch: Batch) -> Result<(), Batch> {
        self.waiting.fetch_add(weight(&batch), Ordering::Relaxed);
        match self.queue.as_ref().expect("the queue is there until the end").try_send(batch) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(batch) | TrySendError::Closed(batch)) => {
                self.waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
                Err(batch)
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A key in memory, about; bytes.
const KEY: usize = 64;

fn weight(batch: &Batch) -> usize {
    let row = |row: &Row| match row {
        Row::Object(text) | Row::Registration(text) | Row::StoreLost(text) => text.len(),
        Row::Token(row) => row.token.len(),
        Row::Version(_) | Row::Confirmed(_) | Row::Subscription | Row::Target => 8,
        Row::Device(row) => 64 + row.description.len() + row.attributes.iter().map(|(name, attribute)| name.len() + attribute.value.len()).sum::<usize>(),
        Row::Property(row) => 64 + [&row.expected, &row.actual].into_iter().flatten().map(|part| part.value.len()).sum::<usize>(),
        Row::Upload(row) => row.topic.len() + row.payload.len(),
        Row::Event(row) => row.event.len(),
        Row::PodRecord(record) => 64 + record.containers.values().map(|end| 256 + end.message.len()).sum::<usize>(),
        Row::Mapper(row) => 64 + 32 * (row.devices.len() + row.models.len()),
    };
    batch.changes.iter().map(|change| KEY + change.row.as_ref().map_or(0, row)).sum()
}

/// First wait before a disk that took nothing is tried again, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A crowd is gathered for at most so many breaths, and no longer than it comes.
const BREATHS: u32 = 5;
/// One breath.
const BREATH: Duration = Duration::from_millis(4);

/// Once nothing came for so long, what is safe is noted on disk. The note costs the
/// flash a page: a sensor that reports every minute must not pay it each time.
const QUIET: Duration = Duration::from_secs(300);

/// Openings in a row that may find the store damaged before it is given up.
const DAMAGED: u32 = 3;

fn run<M: Medium>(mut store: Store<M>, batches: &Receiver<Batch>, waiting: &AtomicUsize, inbox: &Sender<Input>) {
    let mut group = Vec::new();
    let mut wait = RETRY.0;
    let (mut ill, mut crowded, mut noted) = (false, false, true);
    let mut damaged = 0;
    loop {
        if ill {
            wait_out(&mut group, batches, wait);
        }
        let patience = if ill { Some(Duration::ZERO) } else { Some(QUIET).filter(|_| !noted) };
        match gather(&mut group, batches, patience) {
            Gathered::End => break,
            Gathered::Nothing => {
                store.note();
                noted = true;
                continue;
            }
            Gathered::Batches => noted = false,
        }
        if crowded {
            linger(&mut group, batches);
        }
        crowded = group.len() > 1;
        match write(&mut store, &mut group, waiting, inbox) {
            Ok(()) if ill => {
                (ill, wait, damaged) = (false, RETRY.0, 0);
                let _ = inbox.send_blocking(Input::StoreHealth(Ok(())));
            }
            Ok(()) => {}
            Err(why) => {
                damaged = if why.is_damage() { damaged + 1 } else { 0 };
                // The next start moves it aside and asks the cloud; this process knows
                // the rows only as what the node made of them.
                assert!(damaged < DAMAGED, "the store is damaged and the agent starts again: {why}");
                wait = if ill { (wait * 2).min(RETRY.1) } else { RETRY.0 };
                ill = true;
                let _ = inbox.send_blocking(Input::StoreHealth(Err(why.to_string())));
            }
        }
    }
    if let Err(why) = store.fold() {
        log::warn!(target: "metamanager", "the journal could not be folded at the end: {why}");
    }
}

enum Gathered {
    /// There is something to write.
    Batches,
    /// Nothing came in time, and nothing waits.
    Nothing,
    /// There will be nothing more, and what waits cannot be written.
    End,
}

/// Waits for something to write, or for the time to try again.
fn gather(group: &mut Vec<Batch>, batches: &Receiver<Batch>, patience: Option<Duration>) -> Gathered {
    let next = match patience {
        None => batches.recv_blocking().ok(),
        Some(patience) => receive_within(batches, patience),
    };
    if next.is_none() && batches.is_closed() {
        return Gathered::End;
    }
    group.extend(next);
    take_all(group, batches);
    if group.is_empty() { Gathered::Nothing } else { Gathered::Batches }
}

/// Takes what comes until it is time to try again: what comes does not make it
/// sooner, for each try opens the store anew.
fn wait_out(group: &mut Vec<Batch>, batches: &Receiver<Batch>, wait: Duration) {
    let end = clock::monotonic() + wait;
    while let Some(rest) = end.checked_sub(clock::monotonic()).filter(|rest| !rest.is_zero() && !batches.is_closed()) {
        group.extend(receive_within(batches, rest));
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits once. A timer of smol would have this thread look after everybody's sockets.
fn receive_within(batches: &Receiver<Batch>, patience: Duration) -> Option<Batch> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut next = pin!(batches.recv());
    if let Poll::Ready(next) = next.as_mut().poll(&mut context) {
        return next.ok();
    }
    std::thread::park_timeout(patience);
    match next.poll(&mut context) {
        Poll::Ready(next) => next.ok(),
        Poll::Pending => None,
    }
}

fn take_all(group: &mut Vec<Batch>, batches: &Receiver<Batch>) {
    group.extend(std::iter::from_fn(|| batches.try_recv().ok()));
}

/// Waits for more of a crowd, until nothing came for a breath. The thread is the
/// store's own.
#[allow(clippy::disallowed_methods)]
fn linger(group: &mut Vec<Batch>, batches: &Receiver<Batch>) {
    for _ in 0..BREATHS {
        let before = group.len();
        std::thread::sleep(BREATH);
        take_all(group, batches);
        if group.len() == before {
            return;
        }
    }
}

/// Writes a group and tells up to which ticket everything is on disk; what is
/// not stays in the group.
fn write<M: Medium>(store: &mut Store<M>, group: &mut Vec<Batch>, waiting: &AtomicUsize, inbox: &Sender<Input>) -> Result<(), StoreError> {
    let (done, result) = store.write(group);
    let written: Vec<Batch> = group.drain(..done).collect();
    waiting.fetch_sub(written.iter().map(weight).sum(), Ordering::Relaxed);
    if let Some(last) = written.last() {
        let _ = inbox.send_blocking(Input::Stored(last.ticket));
    }
    result
}
