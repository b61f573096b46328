//! Where log lines go: stderr, without a time when the journal adds one.

use std::io::Write;

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
