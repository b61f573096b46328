//! The files of one log: the one that is written, those moved aside, and what a
//! crash leaves between.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use super::gzip;
use crate::edged::files::{place_of_log, rotated};
use crate::host::beneath::Dir;

/// A log that was moved aside.
pub(super) struct Moved {
    directory: Dir,
    log: OsString,
    old: OsString,
    /// Why an older one is still not compressed: it is kept, and tried again.
    pub(super) uncompressed: Option<io::Error>,
}

impl Moved {
    /// Moves it back.
    pub(super) fn undo(self) -> io::Result<()> {
        self.directory.rename(&self.old, &self.log)
    }
}

/// Moves a log aside, so that with the new one no more than `keep` files are left.
/// Nothing of the log is lost when this ends at any point.
///
/// # Errors
///
/// Files could not be read, removed or moved.
pub(super) fn rotate(log: &Path, keep: usize, now: OffsetDateTime) -> io::Result<Moved> {
    let (directory, name) = place_of_log(log)?.ok_or(io::ErrorKind::NotFound)?;
    let mut old = rotated(&directory, &name)?;
    remove_unused(&directory, &mut old)?;
    // Beside them are the one that is moved now, and the new one.
    let excess = old.len().saturating_sub(keep.saturating_sub(2));
    old.drain(..excess).try_for_each(|name| directory.remove_file(name))?;
    let plain = old.iter().filter(|name| !ends_with(name, GZIP));
    let uncompressed = plain.map(|name| compress(&directory, name)).find_map(Result::err);
    let aside = free_name(&directory, &name, now)?;
    directory.rename(&name, &aside)?;
    Ok(Moved { directory, log: name, old: aside, uncompressed })
}

const GZIP: &str = ".gz";
const UNFINISHED: &str = ".tmp";

fn with(name: &OsStr, end: &str) -> OsString {
    let mut longer = name.to_owned();
    longer.push(end);
    longer
}

fn ends_with(name: &OsStr, end: &str) -> bool {
    name.as_encoded_bytes().ends_with(end.as_bytes())
}

/// Removes what was not finished, and what was compressed already.
fn remove_unused(directory: &Dir, old: &mut Vec<OsString>) -> io::Result<()> {
    let all = old.clone();
    let is_unused = |name: &OsString| ends_with(name, UNFINISHED) || all.contains(&with(name, GZIP));
    all.iter().filter(|name| is_unused(name)).try_for_each(|name| directory.remove_file(name))?;
    old.retain(|name| !is_unused(name));
    Ok(())
}

/// Compresses a file: it is there in one form or the other at any time.
fn compress(directory: &Dir, name: &OsStr) -> io::Result<()> {
    let unfinished = with(name, UNFINISHED);
    let mode = directory.stat(name)?.map_or(0o640, |stat| stat.st_mode & 0o777);
    let written = directory
        .create(&unfinished, mode)
        .and_then(|to| gzip::compress(directory.read(name)?, to))
        .and_then(|()| directory.rename(&unfinished, with(name, GZIP)));
    if written.is_err() {
        // It takes room that may be what is missing; the next rotation removes it, too.
        let _ = directory.remove_file(&unfinished);
    }
    written.and_then(|()| directory.remove_file(name))
}

/// `LOG.YYYYMMDD-HHMMSS`, as kubelet has it, so log shippers know them; one that is
/// there already is not overwritten.
fn free_name(directory: &Dir, log: &OsStr, now: OffsetDateTime) -> io::Result<OsString> {
    let old = rotated(directory, log)?;
    let mut at = now;
    loop {
        let name = with(log, &stamp(at));
        let is_start_of = |old: &OsString| old.as_encoded_bytes().starts_with(name.as_encoded_bytes());
        if !old.iter().any(is_start_of) {
            return Ok(name);
        }
        at += Duration::SECOND;
    }
}

fn stamp(at: OffsetDateTime) -> String {
    let (month, day) = (u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!(".{:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}", at.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    /// A directory with a log, and what lies beside it.
    struct Logs(PathBuf);

    impl Logs {
        fn new(name: &str, files: &[&str]) -> Self {
            let root = std::env::temp_dir();
            let path = root.join(format!("selvedge-logs-{name}-{}", std::process::id()));
            let logs = Self(path.join("pod/c"));
            fs::create_dir_all(&logs.0).expect("a directory");
            for file in files {
                fs::write(logs.0.join(file), file).expect("a file");
            }
            logs
        }

        fn rotate(&self, keep: usize, second: i64) -> io::Result<Moved> {
            let now = OffsetDateTime::from_unix_timestamp(1_767_225_600 + second).expect("a time");
            rotate(&self.0.join("0.log"), keep, now)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).expect("it is there");
            let name = |entry: io::Result<fs::DirEntry>| entry.expect("a file").file_name();
            let mut names: Vec<_> = entries.map(|entry| name(entry).into_string().expect("text")).collect();
            names.sort();
            names
        }
    }

    impl Drop for Logs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.parent().and_then(Path::parent).expect("above"));
        }
    }

    #[test]
    fn all_but_the_newest_are_compressed_and_all_are_counted() {
        let logs = Logs::new("count", &[]);
        for second in 0..6 {
            fs::write(logs.0.join("0.log"), format!("{second}")).expect("a log");
            let moved = logs.rotate(4, second).expect("it rotates");
            assert!(moved.uncompressed.is_none());
        }
        fs::write(logs.0.join("0.log"), "now").expect("a log");
        let old = |second: u32, end: &str| format!("0.log.20260101-00000{second}{end}");
        assert_eq!(logs.names(), ["0.log".into(), old(3, ".gz"), old(4, ".gz"), old(5, "")]);
        assert_eq!(fs::read_to_string(logs.0.join(old(5, ""))).expect("a file"), "5");
        // The least there can be.
        logs.rotate(2, 9).expect("it rotates");
        assert_eq!(logs.names(), [old(9, "")]);
    }

    #[test]
    fn what_a_crash_left_is_cleared_up() {
        let files =
            ["0.log", "0.log.20260101-000001.tmp", "0.log.20260101-000001", "0.log.20260101-000002", "0.log.20260101-000002.gz", "1.log.20260101-000002.tmp"];
        let logs = Logs::new("crash", &files);
        logs.rotate(5, 3).expect("it rotates");
        let expected = ["0.log.20260101-000001.gz", "0.log.20260101-000002.gz", "0.log.20260101-000003", files[5]];
        assert_eq!(logs.names(), expected);
    }

    #[test]
    fn a_file_is_not_overwritten_when_the_clock_was_set_back() {
        let files = ["0.log", "0.log.20260101-000001.gz", "0.log.20260101-000002"];
        let logs = Logs::new("clock", &files);
        logs.rotate(9, 1).expect("it rotates");
        let expected = ["0.log.20260101-000001.gz", "0.log.20260101-000002.gz", "0.log.20260101-000003"];
        assert_eq!(logs.names(), expected);
    }

    #[test]
    fn a_log_is_moved_back_or_is_not_there() {
        let logs = Logs::new("undo", &["0.log"]);
        let moved = logs.rotate(5, 1).expect("it rotates");
        assert_eq!(logs.names(), ["0.log.20260101-000001"]);
        moved.undo().expect("it goes back");
        assert_eq!(logs.names(), ["0.log"]);
        fs::remove_file(logs.0.join("0.log")).expect("it is ours");
        assert_eq!(logs.rotate(5, 1).map(drop).expect_err("nothing").kind(), io::ErrorKind::NotFound);
    }
}
