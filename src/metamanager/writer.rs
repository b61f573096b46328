//! The one thread that owns the store's files: it syncs at once when idle. Once
//! batches overtake a sync it gathers for a moment before the next, for a sync
//! costs the flash a page however little is in it. A disk that takes nothing loses nothing: what
//! was to be written is kept and tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::channel::{Receiver, Sender, TrySendError};

use super::Store;
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

impl Store {
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

fn run(mut store: Store, batches: &Receiver<Batch>, waiting: &AtomicUsize, inbox: &Sender<Input>) {
    let mut group = Vec::new();
    let mut wait = RETRY.0;
    let (mut ill, mut crowded) = (false, false);
    while gather(&mut group, batches, ill.then_some(wait)) {
        if crowded {
            linger(&mut group, batches);
        }
        crowded = group.len() > 1;
        match write(&mut store, &mut group, waiting, inbox) {
            Ok(()) if ill => {
                (ill, wait) = (false, RETRY.0);
                let _ = inbox.send_blocking(Input::StoreHealth(Ok(())));
            }
            Ok(()) => {}
            Err(why) => {
                wait = if ill { (wait * 2).min(RETRY.1) } else { RETRY.0 };
                ill = true;
                let _ = inbox.send_blocking(Input::StoreHealth(Err(why)));
            }
        }
    }
    if let Err(why) = store.fold(None) {
        log::warn!(target: "metamanager", "the journal could not be folded at the end: {why}");
    }
}

/// Waits for something to write, or for the time to try again; false at the
/// end.
fn gather(group: &mut Vec<Batch>, batches: &Receiver<Batch>, retry: Option<Duration>) -> bool {
    let next = match retry {
        None => batches.recv_blocking().ok(),
        Some(wait) => smol::block_on(future::or(async { batches.recv().await.ok() }, async {
            Timer::after(wait).await;
            None
        })),
    };
    if next.is_none() && (group.is_empty() || batches.is_closed()) {
        return false;
    }
    group.extend(next);
    take_all(group, batches);
    true
}

fn take_all(group: &mut Vec<Batch>, batches: &Receiver<Batch>) {
    group.extend(std::iter::from_fn(|| batches.try_recv().ok()));
}

/// Waits for more of a crowd, until nothing came for a breath. The thread is the
/// store's own, and smol's timers would have it look after everybody's sockets.
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
fn write(store: &mut Store, group: &mut Vec<Batch>, waiting: &AtomicUsize, inbox: &Sender<Input>) -> Result<(), String> {
    let (done, result) = store.write(group);
    let written: Vec<Batch> = group.drain(..done).collect();
    waiting.fetch_sub(written.iter().map(weight).sum(), Ordering::Relaxed);
    if let Some(last) = written.last() {
        let _ = inbox.send_blocking(Input::Stored(last.ticket));
    }
    result
}
