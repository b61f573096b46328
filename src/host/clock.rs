//! The only file that asks the time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since boot, sleep included.
pub fn monotonic() -> Duration {
    duration(ClockId::Boottime)
}

/// Calendar time, milliseconds since the epoch.
pub fn calendar_millis() -> i64 {
    i64::try_from(duration(ClockId::Realtime).as_millis()).unwrap_or(0)
}

fn duration(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
