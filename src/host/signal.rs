//! The signals that end the agent.

use async_signal::{Signal, Signals};
use futures_lite::StreamExt;

/// Waits for SIGTERM or SIGINT.
pub async fn termination() {
    match Signals::new([Signal::Term, Signal::Int]) {
        Ok(mut signals) => drop(signals.next().await),
        // Without a handler the signal ends the process by itself.
        Err(_) => std::future::pending().await,
    }
}
