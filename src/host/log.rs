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
            let at = clock::calendar_millis();
            let text = time::OffsetDateTime::from_unix_timestamp(at / 1000).map(|at| at.time().to_string()).unwrap_or_default();
            write!(line, "{} ", text.trim_end_matches(".0"))?;
        }
        writeln!(line, "{:5} {}: {}", record.level(), record.target(), record.args())
    });
    // A second call, as tests make them, changes nothing.
    let _ = builder.try_init();
}
