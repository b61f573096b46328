//! Lines and tables on stdout. A reader that went away is no error.

use std::io::Write;

use serde_json::Value;

/// One line; false when nobody reads any more.
pub fn line(text: &str) -> bool {
    writeln!(std::io::stdout(), "{text}").is_ok()
}

/// A part of a line; false when nobody reads any more.
pub fn piece(text: &str) -> bool {
    let mut out = std::io::stdout();
    write!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// An answer as JSON.
pub fn json(value: &Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Aligned columns, three spaces apart.
pub fn table(head: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let print = |cells: Vec<&str>| {
        let text: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(text.join("   ").trim_end())
    };
    print(head.to_vec());
    for row in rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// A member as text; `-` when it is missing or empty.
pub fn text(value: &Value) -> String {
    match value.as_str() {
        _ if value.is_null() => "-".to_owned(),
        Some("") => "-".to_owned(),
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

/// Time since an RFC 3339 instant, as kubectl prints ages.
pub fn age(since: &Value, now: i64) -> String {
    let Some(since) = since.as_str().and_then(crate::wire::rfc3339::parse) else { return "-".to_owned() };
    let seconds = (now - since).max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
