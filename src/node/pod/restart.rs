//! When an ended container may start again: kubelet's crash loop back-off.
//!
//! The first restart is immediate; then the wait after the end is 10 s, doubled
//! up to 5 min, and forgotten after 10 min of running. Kept in memory only, as
//! kubelet does: after a restart of the agent, the first is immediate again.
//!
//! Source: kubernetes `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `doBackOff`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::now::{Mono, Now, Wall};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// The back-off of one container, or of one image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackOff {
    wait: Option<Duration>,
    last: Mono,
}

impl BackOff {
    /// Whether a container that ended at `finished` may start now; else when,
    /// and the whole wait as people are told it.
    pub fn check(&self, now: Now, finished: Wall) -> Result<(), (Mono, Duration)> {
        let Some(wait) = self.wait else { return Ok(()) };
        let ended = self.ended(now, finished);
        let ago = now.mono.since(ended);
        if self.is_forgotten(ended) || ago >= wait { Ok(()) } else { Err((now.mono + (wait - ago), wait)) }
    }

    /// A failed try counts.
    pub fn count(&mut self, now: Now) {
        self.count_after(now, now.mono);
    }

    /// The start of a container that ended at `finished` counts.
    pub fn count_restart(&mut self, now: Now, finished: Wall) {
        self.count_after(now, self.ended(now, finished));
    }

    fn count_after(&mut self, now: Now, ended: Mono) {
        self.wait = Some(match self.wait {
            Some(wait) if !self.is_forgotten(ended) => (wait * 2).min(LONGEST),
            Some(_) | None => FIRST,
        });
        self.last = now.mono;
    }

    /// An end by the calendar, which may be wrong, is not before the last start.
    fn ended(&self, now: Now, finished: Wall) -> Mono {
        now.mono - now.wall.since(finished).min(now.mono.since(self.last))
    }

    /// A failed step of a whole pod counts, which has waits of its own: the first,
    /// and the longest.
    pub fn count_within(&mut self, now: Now, (first, longest): (Duration, Duration)) {
        self.wait = Some(self.wait.map_or(first, |wait| (wait * 2).min(longest)));
        self.last = now.mono;
    }

    /// The wait as it stands.
    pub fn wait(&self) -> Duration {
        self.wait.unwrap_or(FIRST)
    }

    /// Until when the last try bars the next.
    pub fn until(&self) -> Mono {
        self.wait.map_or(Mono(0), |wait| self.last + wait)
    }

    fn is_forgotten(&self, ended: Mono) -> bool {
        ended.since(self.last) > LONGEST * 2
    }
}

/// Back-offs by image. That of an image which comes back within 10 min goes on.
#[derive(Debug, Clone, Default)]
pub struct ByImage(BTreeMap<String, BackOff>);

impl ByImage {
    /// The back-off of an image.
    pub fn of(&self, image: &str) -> BackOff {
        self.0.get(image).copied().unwrap_or_default()
    }

    /// The back-off of an image, to be counted; others are dropped in time.
    pub fn of_mut(&mut self, now: Now, image: &str) -> &mut BackOff {
        self.0.retain(|other, back_off| other == image || !back_off.is_forgotten(now.mono));
        self.0.entry(image.to_owned()).or_default()
    }

    /// Whether anything was counted.
    pub fn has(&self, image: &str) -> bool {
        self.0.contains_key(image)
    }

    /// All is well with an image.
    pub fn reset(&mut self, image: &str) {
        self.0.remove(image);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(1_800_000_000_000 + i64::try_from(seconds).expect("small") * 1000) }
    }

    #[test]
    fn the_second_restart_waits_ten_seconds_after_the_end() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.check(at(1), at(1).wall), Ok(()));
        back_off.count(at(1));
        assert_eq!(back_off.check(at(3), at(2).wall), Err((at(12).mono, FIRST)));
        assert_eq!(back_off.check(at(12), at(2).wall), Ok(()));
        back_off.count(at(12));
        assert_eq!(back_off.wait(), Duration::from_secs(20));
        for second in 13..30 {
            back_off.count(at(second));
        }
        assert_eq!(back_off.wait(), LONGEST);
    }

    #[test]
    fn ten_minutes_of_running_forgive() {
        let mut back_off = BackOff::default();
        back_off.count(at(0));
        back_off.count(at(10));
        assert_eq!(back_off.check(at(700), at(699).wall), Ok(()));
        back_off.count(at(700));
        assert_eq!(back_off.wait(), FIRST);
    }

    #[test]
    fn the_time_between_start_and_end_forgives_not_the_wait_after_it() {
        let mut back_off = BackOff { wait: Some(LONGEST), last: at(0).mono };
        back_off.count_restart(at(780), at(480).wall);
        assert_eq!(back_off.wait(), LONGEST);
        back_off.count_restart(at(1400), at(1390).wall);
        assert_eq!(back_off.wait(), FIRST);
    }

    #[test]
    fn an_image_that_comes_back_has_its_back_off_until_that_is_forgotten() {
        let mut images = ByImage::default();
        images.of_mut(at(0), "a").count(at(0));
        images.of_mut(at(60), "b").count(at(60));
        assert_eq!((images.of("a").wait(), images.has("b"), images.has("c")), (FIRST, true, false));
        images.of_mut(at(601), "b");
        assert!(!images.has("a") && images.has("b"));
    }

    #[test]
    fn a_clock_set_back_does_not_bar_for_ever() {
        let mut back_off = BackOff::default();
        back_off.count(at(0));
        let later = Wall(at(0).wall.0 + 3_600_000);
        assert!(back_off.check(at(1), later).is_err_and(|(until, _)| until <= at(11).mono));
    }
}
