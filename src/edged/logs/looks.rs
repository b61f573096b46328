//! When to look at logs again, and what they need.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::ids::ContainerId;

/// Between looks: kubelet's `containerLogMonitorInterval`.
const PERIOD: Duration = Duration::from_secs(10);
/// Between looks at a log that fills faster.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest pause after something failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What a log needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It has reached the limit.
    Rotate,
    /// It is not there: the agent ended between moving it aside and telling the
    /// runtime, which still writes to what was moved.
    Reopen,
}

/// What was seen of the logs of running containers.
#[derive(Debug)]
pub(super) struct Looks {
    /// The size at which a log is rotated, bytes.
    limit: u64,
    known: BTreeMap<ContainerId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The last look, on the monotonic clock, and the bytes then.
    at: Duration,
    size: u64,
    /// How long the rest lasts at the present rate.
    left: Option<Duration>,
    /// What failed in a row, and until when it is left alone.
    failures: u32,
    until: Duration,
}

impl Looks {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, known: BTreeMap::new() }
    }

    /// Bytes of every log, `None` where it is missing; the others are forgotten.
    pub(super) fn look(&mut self, now: Duration, sizes: Vec<(ContainerId, Option<u64>)>) -> Vec<(ContainerId, Need)> {
        let mut before = std::mem::take(&mut self.known);
        let mut needs = Vec::new();
        for (container, size) in sizes {
            let mut known = before.remove(&container).unwrap_or(Known { at: now, ..Known::default() });
            if let Some(need) = known.look(now, size, self.limit) {
                needs.push((container.clone(), need));
            }
            self.known.insert(container, known);
        }
        needs
    }

    /// What a log needed was done, or failed: then it is tried again, ever later.
    pub(super) fn done(&mut self, container: &ContainerId, now: Duration, succeeded: bool) {
        let Some(known) = self.known.get_mut(container) else { return };
        if succeeded {
            *known = Known { at: now, left: known.left, ..Known::default() };
            return;
        }
        let pause = PERIOD.saturating_mul(1 << known.failures.min(8)).min(LONGEST_PAUSE);
        known.failures += 1;
        known.until = now + pause;
    }

    /// How long until the next look.
    pub(super) fn pause(&self) -> Duration {
        let left = self.known.values().filter(|known| known.failures == 0).filter_map(|it| it.left);
        left.min().unwrap_or(PERIOD).clamp(SHORTEST, PERIOD)
    }
}

impl Known {
    fn look(&mut self, now: Duration, size: Option<u64>, limit: u64) -> Option<Need> {
        let found = size.unwrap_or(0);
        let (time, grown) = (now.saturating_sub(self.at), found.saturating_sub(self.size));
        // A log that is at its limit begins anew.
        let rest = if found < limit { limit - found } else { limit };
        self.left = lasts(rest, grown, time);
        (self.at, self.size) = (now, found);
        if now < self.until {
            return None;
        }
        match size {
            None => Some(Need::Reopen),
            Some(size) if size >= limit => Some(Need::Rotate),
            Some(_) => None,
        }
    }
}

/// How long `rest` bytes last when `grown` came in `time`; `None` for ever.
fn lasts(rest: u64, grown: u64, time: Duration) -> Option<Duration> {
    let millis = u128::from(rest) * time.as_millis();
    let millis = millis.checked_div(u128::from(grown))?.min(PERIOD.as_millis());
    u64::try_from(millis).ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn look(looks: &mut Looks, seconds: u64, size: Option<u64>) -> Option<Need> {
        let needs = looks.look(at(seconds), vec![("c".into(), size)]);
        needs.first().map(|(_, need)| *need)
    }

    #[test]
    fn a_log_is_rotated_at_its_limit() {
        let mut looks = Looks::new(10 * MIB);
        assert_eq!(look(&mut looks, 0, Some(10 * MIB - 1)), None);
        assert_eq!(look(&mut looks, 10, Some(10 * MIB)), Some(Need::Rotate));
        looks.done(&"c".into(), at(10), true);
        assert_eq!(look(&mut looks, 20, Some(MIB)), None);
    }

    #[test]
    fn a_log_that_fills_fast_is_looked_at_sooner() {
        let mut looks = Looks::new(10 * MIB);
        assert_eq!(looks.pause(), PERIOD);
        look(&mut looks, 0, Some(0));
        look(&mut looks, 10, Some(MIB));
        assert_eq!(looks.pause(), PERIOD);
        // 1 MiB a second: the rest lasts 4 s.
        look(&mut looks, 15, Some(6 * MIB));
        assert_eq!(looks.pause(), at(4));
        look(&mut looks, 16, Some(500 * MIB));
        looks.done(&"c".into(), at(16), true);
        assert_eq!(looks.pause(), SHORTEST);
        look(&mut looks, 26, Some(0));
        assert_eq!(looks.pause(), PERIOD);
    }

    #[test]
    fn a_log_that_is_missing_is_begun_again() {
        let mut looks = Looks::new(MIB);
        assert_eq!(look(&mut looks, 0, None), Some(Need::Reopen));
        looks.done(&"c".into(), at(0), true);
        assert_eq!(look(&mut looks, 10, Some(0)), None);
    }

    #[test]
    fn what_fails_is_tried_again_ever_later() {
        let mut looks = Looks::new(MIB);
        let mut tries = 0;
        for second in (0..3600).step_by(10) {
            if look(&mut looks, second, Some(2 * MIB)).is_some() {
                tries += 1;
                looks.done(&"c".into(), at(second), false);
            }
        }
        assert_eq!((tries, looks.pause()), (16, PERIOD));
        // Another container begins anew.
        looks.look(at(3600), vec![("d".into(), None)]);
        assert_eq!(look(&mut looks, 3610, Some(2 * MIB)), Some(Need::Rotate));
    }
}
