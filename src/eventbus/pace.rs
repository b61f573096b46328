//! When to read on. A broker that writes every message by itself wakes its reader
//! for each; of a crowd it is cheaper, for both, to let some gather. A message
//! that comes alone waits for nothing.

use std::time::Duration;

/// What comes so soon behind the last belongs to a crowd.
const CLOSE: Duration = Duration::from_micros(200);
/// How long a crowd gathers.
const BREATH: Duration = Duration::from_millis(1);

/// The instants of reading.
#[derive(Debug, Default)]
pub struct Pace {
    last: Duration,
}

impl Pace {
    /// Something was read at this time, that many messages: how long to wait
    /// before more is.
    pub fn read(&mut self, now: Duration, messages: usize) -> Option<Duration> {
        let is_close = now.saturating_sub(std::mem::replace(&mut self.last, now)) < CLOSE;
        (messages > 1 || messages == 1 && is_close).then_some(BREATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_gathers_and_a_message_alone_does_not_wait() {
        let mut pace = Pace::default();
        let at = Duration::from_micros;
        assert_eq!(pace.read(at(1000), 1), None);
        assert_eq!(pace.read(at(1500), 1), None, "one after the other");
        assert_eq!(pace.read(at(1600), 1), Some(BREATH), "close behind the last");
        assert_eq!(pace.read(at(2600), 30), Some(BREATH), "several at once");
        assert_eq!(pace.read(at(3600), 1), None, "the crowd is gone");
        assert_eq!(pace.read(at(3601), 0), None, "half of a packet");
    }
}
