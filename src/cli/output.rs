//! Lines and tables on stdout. A reader that went away is no error. What devices
//! and clouds say can hold anything: in lines and tables it is escaped, so that
//! no value can move the cursor of a terminal, and cells are cut.

use std::io::{self, Write};

use serde_json::Value;

use super::{Exit, Failure};

/// Columns of a cell that is cut; of one that somebody may want to type again,
/// as long as any name; and of the last in a row, which moves no other.
const CELL: usize = 64;
const NAME: usize = 253;
const LAST: usize = 256;
/// Columns up to which all cells are aligned; a longer one moves only the rest
/// of its own row.
const ALIGNED: usize = 40;

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Long values are cut.
    Short,
    /// They are not.
    Wide,
    /// As JSON, exactly.
    Json,
}

impl Form {
    /// Reads `--output`.
    pub fn of(output: &Option<String>) -> Result<Self, Failure> {
        match output.as_deref() {
            None => Ok(Self::Short),
            Some("wide") => Ok(Self::Wide),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Failure(Exit::Usage, format!("output '{other}': json and wide are known"))),
        }
    }
}

/// One line for people; false when nobody reads any more.
pub fn line(text: &str) -> bool {
    raw(&escaped(text))
}

/// Text exactly as it is, with a line end.
pub fn raw(text: &str) -> bool {
    writeln!(std::io::stdout(), "{text}").is_ok()
}

/// Bytes as they are.
///
/// # Errors
///
/// Nobody reads any more.
pub fn bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// An answer as JSON.
pub fn json(value: &Value) {
    raw(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Aligned columns, three spaces apart.
pub fn table(form: Form, head: &[&str], rows: &[Vec<String>]) {
    for text in laid_out(form, head, rows) {
        if !raw(&text) {
            return;
        }
    }
}

/// The lines of a table. Columns are as wide as their longest cell, those left
/// out that are longer than is aligned.
fn laid_out(form: Form, head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let limits: Vec<usize> = head.iter().enumerate().map(|(at, title)| limit(title, at + 1 == head.len())).collect();
    let cell = |(text, limit): (&String, &usize)| if form == Form::Wide { escaped(text) } else { cut(text, *limit) };
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().zip(&limits).map(cell).collect()).collect();
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in &rows {
        for (most, cell) in widths.iter_mut().zip(row).filter(|(_, cell)| width(cell) <= ALIGNED) {
            *most = width(cell).max(*most);
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, wide) in cells.zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', wide.saturating_sub(width(cell)) + 3));
        }
        text.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines
}

fn limit(title: &str, last: bool) -> usize {
    match title {
        "NAME" | "NAMESPACE" | "DEVICE" | "PROPERTY" | "OBJECT" | "NODE" | "TOPIC" => NAME,
        _ if last => LAST,
        _ => CELL,
    }
}

/// A text that is escaped and not wider than some columns; one that is longer
/// ends with `…`.
pub fn cut(text: &str, columns: usize) -> String {
    let mut kept = String::new();
    let mut used = 0;
    for char in text.chars() {
        let shown = escaped(char.encode_utf8(&mut [0; 4]));
        used += width(&shown);
        if used > columns {
            while width(&kept) >= columns.max(1) {
                kept.pop();
            }
            kept.push('…');
            return kept;
        }
        kept.push_str(&shown);
    }
    kept
}

/// A text without anything that a terminal obeys or that turns its direction.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\r' | '\t' => escaped.extend(char.escape_default()),
            _ if char.is_control() || is_format(char) => escaped.extend(char.escape_unicode()),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// Characters that show nothing and change how others are shown.
fn is_format(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that a text takes in a terminal.
fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// Columns of a character: two for those of East Asia and pictures, none for
/// marks above others (Unicode Standard Annex 11).
fn columns(char: char) -> usize {
    match char {
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{64b}'..='\u{65f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
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

/// A value on a line of its own, whole or cut.
pub fn value(form: Form, value: &Value) -> String {
    match form {
        Form::Short => cut(&text(value), LAST),
        Form::Wide | Form::Json => text(value),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[[&str; 3]]) -> Vec<Vec<String>> {
        cells.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    const HEAD: [&str; 3] = ["NAME", "VALUE", "AGE"];

    #[test]
    fn cells_of_any_length_are_cut_and_shown_whole_when_wanted() {
        for length in [65_536, 1 << 20] {
            let long = "v".repeat(length);
            let table = rows(&[["text", &long, &long], ["n", "7", "1s"]]);
            let short = laid_out(Form::Short, &HEAD, &table);
            assert_eq!(short[2], "n      7       1s");
            assert!(short.iter().all(|line| width(line) <= 4 + 3 + CELL + 3 + LAST) && short[1].ends_with('…'), "{}", short[1].len());
            let wide = laid_out(Form::Wide, &HEAD, &table);
            assert_eq!((wide[1].matches('v').count(), wide[2].as_str()), (2 * length, short[2].as_str()));
        }
    }

    #[test]
    fn nothing_reaches_the_terminal_but_what_is_shown() {
        let table = rows(&[["n", "\u{1b}[2J\u{7}a\nb\r\u{9b}31m\u{202e}x\u{200b}\t", "-"]]);
        let line = &laid_out(Form::Short, &HEAD, &table)[1];
        assert_eq!(line, "n      \\u{1b}[2J\\u{7}a\\nb\\r\\u{9b}31m\\u{202e}x\\u{200b}\\t   -");
        assert!(laid_out(Form::Wide, &HEAD, &table).iter().flat_map(|line| line.chars()).all(|char| !char.is_control()));
        assert_eq!(cut(&"\u{1b}".repeat(100), 10), "\\u{1b}…");
    }

    #[test]
    fn columns_are_as_wide_as_a_terminal_shows_them() {
        let table = rows(&[["温度", "e\u{301}", "1"], ["abcd", "ü", "2"]]);
        assert_eq!(laid_out(Form::Short, &HEAD, &table)[1..], ["温度   e\u{301}       1", "abcd   ü       2"]);
        assert_eq!(cut("温度温度", 5), "温度…");
        assert_eq!(cut("abcde", 5), "abcde");
        assert_eq!(cut("abcdef", 5), "abcd…");
    }

    #[test]
    fn one_long_name_moves_only_its_own_row() {
        let long = "n".repeat(100);
        let table = rows(&[["a", "1", "2"], [&long, "3", "4"], [&long[..40], "5", "6"]]);
        for form in [Form::Short, Form::Wide] {
            let lines = laid_out(form, &HEAD, &table);
            assert_eq!(lines[1], format!("a{}1       2", " ".repeat(42)));
            assert_eq!(lines[2], format!("{long}   3       4"));
            assert_eq!(lines[3], format!("{}   5       6", &long[..40]));
        }
    }

    #[test]
    fn names_are_not_cut_and_a_table_may_be_empty() {
        let name = "n".repeat(NAME);
        assert!(laid_out(Form::Short, &HEAD, &rows(&[[&name, "", ""]]))[1] == name);
        assert_eq!(laid_out(Form::Short, &[], &[]), [""]);
    }
}
