//! A mark that stands in the directory while the store is opened. It says how often an
//! opening has crashed: a file that redb cannot bear would crash the agent at each
//! start, for ever.
//!
//! The mark is not synced. A process that crashes leaves it to the next one; a power
//! loss mostly takes it along, and is none of the store's fault.

use std::io::Write;
use std::path::Path;

/// Name of the file. It holds a byte for each opening that has not come to its end.
pub const FILE: &str = "opening";

/// Sets the mark; the number of openings before this one that crashed.
pub fn begin(dir: &Path) -> usize {
    let path = dir.join(FILE);
    let crashed = std::fs::metadata(&path).map_or(0, |data| data.len());
    let mark = std::fs::OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| file.write_all(b"."));
    if let Err(why) = mark
        && dir.is_dir()
    {
        // A full disk must not keep the store from being opened.
        log::debug!(target: "metamanager", "{}: {why}", path.display());
    }
    usize::try_from(crashed).unwrap_or(usize::MAX)
}

/// Takes the mark away.
pub fn end(dir: &Path) {
    let path = dir.join(FILE);
    match std::fs::remove_file(&path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => log::warn!(target: "metamanager", "{}: {why}", path.display()),
        Ok(()) | Err(_) => {}
    }
}
