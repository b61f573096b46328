//! Changes single values of a configuration as somebody has written it: comments,
//! order and everything else stay.
//!
//! TOML has several ways to write the same table, so where a key that is missing
//! can stand is found by trying: the first text that reads as it should is taken.

use std::ops::Range;

use toml::de::DeTable;
use toml::{Spanned, Table, Value};

/// A text that cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditError(String);

impl std::fmt::Display for EditError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EditError {}

/// Sets `table.key` to a string.
///
/// # Errors
///
/// The text is no TOML, or the table cannot have the key.
pub fn set(text: &str, table: &str, key: &str, value: &str) -> Result<String, EditError> {
    let before: Table = text.parse().map_err(|why: toml::de::Error| EditError(why.to_string()))?;
    let mut wanted = before;
    let Value::Table(members) = wanted.entry(table).or_insert_with(|| Value::Table(Table::new())) else {
        return Err(EditError(format!("{table}: not a table")));
    };
    members.insert(key.to_owned(), Value::String(value.to_owned()));
    let reads_right = |text: &String| text.parse::<Table>().is_ok_and(|read| read == wanted);
    candidates(text, table, key, &quoted(value)).into_iter().find(reads_right).ok_or_else(|| EditError(format!("{table}.{key}: cannot be set in this file")))
}

/// Whether a text sets `table.key`.
pub fn has(text: &str, table: &str, key: &str) -> bool {
    place(text, table, key).is_some()
}

/// Texts of which one has the key where it belongs, the nicest first.
fn candidates(text: &str, table: &str, key: &str, value: &str) -> Vec<String> {
    if let Some(range) = place(text, table, key) {
        return vec![replaced(text, range, value)];
    }
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let bare = |head: &str| head.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\'')).collect::<String>();
    let is_head = |line: &str| line.split('#').next().is_some_and(|head| bare(head) == format!("[{table}]"));
    let mut at = 0;
    let mut all = Vec::new();
    for line in text.split_inclusive('\n') {
        at += line.len();
        if is_head(line) {
            let lead = if line.ends_with('\n') { "" } else { end };
            all.push(replaced(text, at..at, &format!("{lead}{key} = {value}{end}")));
        }
    }
    if let Some(inline) = inline(text, table) {
        all.push(replaced(text, inline..inline, &format!(" {key} = {value},")));
        all.push(replaced(text, inline..inline, &format!(" {key} = {value} ")));
    }
    all.push(format!("{table}.{key} = {value}{end}{text}"));
    let lead = if text.is_empty() || text.ends_with('\n') { "" } else { end };
    all.push(format!("{text}{lead}[{table}]{end}{key} = {value}{end}"));
    all
}

fn replaced(text: &str, range: Range<usize>, with: &str) -> String {
    let (before, after) = (text.get(..range.start).unwrap_or(text), text.get(range.end..).unwrap_or_default());
    format!("{before}{with}{after}")
}

/// Where the value of a key stands.
fn place(text: &str, table: &str, key: &str) -> Option<Range<usize>> {
    let all = DeTable::parse(text).ok()?;
    let members = all.get_ref().get(table)?.get_ref().as_table()?;
    members.get(key).map(Spanned::span)
}

/// Where the members of a table in braces begin.
fn inline(text: &str, table: &str) -> Option<usize> {
    let start = DeTable::parse(text).ok()?.get_ref().get(table)?.span().start;
    text.get(start..)?.starts_with('{').then_some(start + 1)
}

/// A basic string of TOML.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text becomes, which is read again here.
    fn set_all(text: &str) -> String {
        let once = set(text, "edgehub", "websocket", "new:1").expect(text);
        let twice = set(&once, "edgehub", "https", "new:2").expect(text);
        let read: Table = twice.parse().expect(&twice);
        assert_eq!((read["edgehub"]["websocket"].as_str(), read["edgehub"]["https"].as_str()), (Some("new:1"), Some("new:2")), "{twice}");
        twice
    }

    #[test]
    fn every_way_to_write_a_table_is_kept() {
        for (before, after) in [
            ("", "edgehub.https = \"new:2\"\nedgehub.websocket = \"new:1\"\n"),
            ("edgehub.websocket = 'old'\n", "edgehub.https = \"new:2\"\nedgehub.websocket = \"new:1\"\n"),
            (
                "# mine\n[edgehub] # hub\nwebsocket = \"old:1\" # why\nhttps='old' \n[edged]\nmax_pods = 5\n",
                "# mine\n[edgehub] # hub\nwebsocket = \"new:1\" # why\nhttps=\"new:2\" \n[edged]\nmax_pods = 5\n",
            ),
            ("[edgehub]\r\nwebsocket = \"old\"\r\n", "[edgehub]\r\nhttps = \"new:2\"\r\nwebsocket = \"new:1\"\r\n"),
            ("[edgehub]\nwebsocket = \"old\"", "[edgehub]\nhttps = \"new:2\"\nwebsocket = \"new:1\""),
            ("[edgehub]", "[edgehub]\nhttps = \"new:2\"\nwebsocket = \"new:1\"\n"),
            ("edgehub = { heartbeat = \"10s\" }\n", "edgehub = { https = \"new:2\", websocket = \"new:1\", heartbeat = \"10s\" }\n"),
            ("edgehub = {}\n", "edgehub = { https = \"new:2\", websocket = \"new:1\" }\n"),
            ("[ \"edgehub\" ]\n\"websocket\" = \"\"\"old\n\"\"\"\n", "[ \"edgehub\" ]\nhttps = \"new:2\"\n\"websocket\" = \"new:1\"\n"),
            ("text = \"\"\"\n[edgehub]\n\"\"\"\n", "edgehub.https = \"new:2\"\nedgehub.websocket = \"new:1\"\ntext = \"\"\"\n[edgehub]\n\"\"\"\n"),
            ("[edgehub.more]\na = 1\n", "edgehub.https = \"new:2\"\nedgehub.websocket = \"new:1\"\n[edgehub.more]\na = 1\n"),
            (
                "name = \"Gerät ☃\" # größer\n[edgehub]\nwebsocket = \"ü\"\nhttps = \"ß\"\n",
                "name = \"Gerät ☃\" # größer\n[edgehub]\nwebsocket = \"new:1\"\nhttps = \"new:2\"\n",
            ),
        ] {
            let got = set_all(before);
            // Where there are several right ways, that it reads right is enough.
            assert!(got == after || got.parse::<Table>() == after.parse::<Table>(), "{before:?}\n{got:?}\n{after:?}");
            let lost = before.lines().filter(|line| line.contains('#')).flat_map(|line| line.split('#').skip(1)).find(|comment| !got.contains(comment));
            assert_eq!(lost, None, "{got}");
        }
    }

    #[test]
    fn any_text_is_read_back_as_it_was() {
        for value in ["", "a\"b", "C:\\n", "tab\there", "\u{1}\u{7f}\u{85}", "ü☃😀", "a\r\nb", "'''", "{x}"] {
            let text = set("[node]\nname = \"n\" # kept\n", "node", "name", value).expect(value);
            let read: Table = text.parse().expect(&text);
            assert_eq!(read["node"]["name"].as_str(), Some(value), "{text}");
            assert!(text.ends_with("# kept\n"));
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_a_reason() {
        assert_eq!(set("node = 7\n", "node", "name", "n"), Err(EditError("node: not a table".to_owned())));
        assert!(set("[node\n", "node", "name", "n").is_err());
        assert_eq!(set("[[node]]\n", "node", "name", "n"), Err(EditError("node: not a table".to_owned())));
    }
}
