//! The one thread that owns the store's files: it syncs at once when idle and
//! gathers only while a sync runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

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

fn weight(batch: &Batch) -> usize {
    let row = |row: &Row| match row {
        Row::Object(text) | Row::Text(text) | Row::Token { token: text, .. } => text.len(),
        Row::Version(_) => 8,
    };
    batch.changes.iter().map(|change| change.key.name.len() + change.row.as_ref().map_or(0, row)).sum()
}

fn run(mut store: Store, batches: &Receiver<Batch>, waiting: &AtomicUsize, inbox: &Sender<Input>) {
    while let Ok(first) = batches.recv_blocking() {
        let mut group = vec![first];
        while let Ok(next) = batches.try_recv() {
            group.push(next);
        }
        waiting.fetch_sub(group.iter().map(weight).sum(), Ordering::Relaxed);
        write(&mut store, &group, inbox);
    }
    if let Err(why) = store.fold(None) {
        log::warn!(target: "metamanager", "the journal could not be folded at the end: {why}");
    }
}

/// Writes a group and tells which tickets are on disk. Tickets are answered in
/// order: the last one speaks for those before it.
fn write(store: &mut Store, group: &[Batch], inbox: &Sender<Input>) {
    let (done, result) = store.write(group);
    if let Some(last) = group[..done].last() {
        let _ = inbox.send_blocking(Input::Stored(last.ticket));
    }
    let Err(why) = result else { return };
    for batch in &group[done..] {
        let _ = inbox.send_blocking(Input::StoreFailed { ticket: batch.ticket, why: why.clone() });
    }
}
