//! Messages that wait for the socket, counted in bytes, and who waits for room.

use std::cell::Cell;

use smol::channel::{self, Receiver, Sender};

use crate::wire::message::Message;

/// Bytes that may wait for the socket.
const ROOM: usize = 256 << 10;
/// And a message without content counts for so many.
const LEAST: usize = 512;
/// So many messages can wait at most.
pub const MESSAGES: usize = ROOM / LEAST + 1;

/// The bytes that wait.
#[derive(Debug)]
pub struct Queued {
    bytes: Cell<usize>,
    was_full: Cell<bool>,
    freed: (Sender<()>, Receiver<()>),
}

impl Default for Queued {
    fn default() -> Self {
        Self { bytes: Cell::new(0), was_full: Cell::new(false), freed: channel::bounded(1) }
    }
}

impl Queued {
    /// Another message may be handed over.
    pub fn has_room(&self) -> bool {
        let has_room = self.bytes.get() < ROOM;
        self.was_full.set(!has_room);
        has_room
    }

    /// Waits until there is room again for one who found none.
    pub async fn freed(&self) {
        let _ = self.freed.1.recv().await;
    }

    /// A message waits.
    pub fn add(&self, message: &Message) {
        self.set(self.bytes.get().saturating_add(weight(message)));
    }

    /// A message was written.
    pub fn remove(&self, message: &Message) {
        self.set(self.bytes.get().saturating_sub(weight(message)));
    }

    /// Nothing waits: the session ended.
    pub fn clear(&self) {
        self.set(0);
    }

    fn set(&self, bytes: usize) {
        self.bytes.set(bytes);
        if bytes < ROOM && self.was_full.take() {
            let _ = self.freed.0.try_send(());
        }
    }
}

/// Bytes a message takes while it waits.
fn weight(message: &Message) -> usize {
    message.content.get().len() + LEAST
}
