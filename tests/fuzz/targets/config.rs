//! The configuration file: read whole, or every fault of it told.

use selvedge::config::file;

/// A file's text.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(faults) = file::parse(text, "edge") {
        assert!(!faults.0.is_empty() && faults.0.iter().all(|fault| !fault.trim().is_empty()), "{faults:?}");
    }
}
