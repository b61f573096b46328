//! One connection as the router sees it.
//!
//! ```text
//! Silent -CONNECT-> Live -DISCONNECT, loss, takeover, fault-> gone
//!    |  refused
//!    +-----------> Leaving -answer written-> gone
//! ```

use std::time::Duration;

use bytes::BytesMut;

use super::Client;
use super::packet::Publication;

/// The first packet must have come by then.
const FIRST: Duration = Duration::from_secs(10);
/// How long one who is refused may take to read it.
const LAST: Duration = Duration::from_secs(5);
/// Answers that may wait for a client; it is not read before it has read them.
pub const ANSWERS: usize = 64 << 10;

/// A connection.
#[derive(Debug)]
pub struct Peer {
    /// It is the agent's own: no password, always room.
    pub trusted: bool,
    /// How far it is.
    pub state: State,
    /// What waits besides messages.
    pub answers: BytesMut,
    /// It is known that something can be written.
    pub stirred: bool,
}

/// How far a connection is.
#[derive(Debug)]
pub enum State {
    /// It has not said who it is.
    Silent {
        /// By then it must.
        until: Duration,
    },
    /// It is a client.
    Live {
        /// Which.
        client: Client,
        /// When it was last heard.
        heard: Duration,
        /// How long it may be silent.
        patience: Option<Duration>,
        /// What to publish when it is lost.
        will: Option<Publication>,
    },
    /// It is refused.
    Leaving {
        /// By then it must have read why.
        until: Duration,
    },
}

impl Peer {
    /// Somebody who has said nothing yet.
    pub fn new(now: Duration, trusted: bool) -> Self {
        Self { trusted, state: State::Silent { until: now + FIRST }, answers: BytesMut::new(), stirred: false }
    }

    /// It is refused; the answer is written.
    pub fn leave(&mut self, now: Duration) {
        self.state = State::Leaving { until: now + LAST };
    }

    /// It is let in.
    pub fn live(&mut self, now: Duration, client: Client, keepalive: u16, will: Option<Publication>) {
        // MQTT 3.1.1, 3.1.2.10: one and a half times the keepalive.
        let patience = (keepalive > 0).then(|| Duration::from_millis(u64::from(keepalive) * 1500));
        self.state = State::Live { client, heard: now, patience, will };
    }

    /// When it is too late for what must come.
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Silent { until } | State::Leaving { until } => Some(*until),
            State::Live { heard, patience, .. } => patience.map(|patience| *heard + patience),
        }
    }
}
