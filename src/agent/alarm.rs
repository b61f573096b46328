//! The loop's one timer. Arming it wakes the reactor, and nearly every input moves
//! the node's deadline: so it is armed anew only for an earlier instant. Ringing
//! too early is harmless, the node sees that nothing is due.

use smol::Timer;

use super::now;
use crate::node::now::Mono;

/// Rings at an instant or before it.
#[derive(Debug, Default)]
pub struct Alarm(Option<(Mono, Timer)>);

impl Alarm {
    /// Waits for the instant; without one, for ever.
    pub async fn at(&mut self, wanted: Option<Mono>) {
        let Some(wanted) = wanted else { return std::future::pending().await };
        let (_, timer) = match &mut self.0 {
            Some(armed) if armed.0 <= wanted => armed,
            armed => armed.insert((wanted, Timer::after(wanted.since(now().mono)))),
        };
        timer.await;
        self.0 = None;
    }
}
