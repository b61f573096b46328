//! Where log lines go: stderr, without a time when the journal adds one. And
//! how seldom a line that repeats is written.

use std::io::Write;
use std::time::Duration;

use env_logger::{Builder, Target};

use crate::host::clock;

/// Starts logging; `filter` as env_logger reads it.
pub fn start(filter: &str) {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let mut builder = Builder::new();
    builder.parse_filters(filter).target(Target::Stderr).format(move |line, record| {
        if !journal {
            let seconds = clock::calendar_millis() / 1000;
            write!(line, "{:02}:{:02}:{:02} ", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)?;
        }
        writeln!(line, "{:5} {}: {}", record.level(), record.target(), record.args())
    });
    // A second call, as tests make them, changes nothing.
    let _ = builder.try_init();
}

/// Lets one of many equal lines through; what is held back is counted.
#[derive(Debug)]
pub struct Sparse {
    every: Duration,
    next: Duration,
    held: u64,
}

impl Sparse {
    /// At most one line in this time.
    pub const fn new(every: Duration) -> Self {
        Self { every, next: Duration::ZERO, held: 0 }
    }

    /// Whether a line may be written at `now` (monotonic); how many were held
    /// back before it.
    pub fn due(&mut self, now: Duration) -> Option<u64> {
        if now < self.next {
            self.held += 1;
            return None;
        }
        self.next = now + self.every;
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lines_are_counted() {
        let second = Duration::from_secs(1);
        let mut sparse = Sparse::new(10 * second);
        assert_eq!([1, 2, 9, 11, 12, 21].map(|at| sparse.due(at * second)), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
