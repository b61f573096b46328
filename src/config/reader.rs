//! Walks a TOML table key by key, gathers every fault, and knows afterwards
//! which keys nobody asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use super::Secret;

/// Every fault of a file, each with its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

/// One table of the file.
#[derive(Debug)]
pub struct Section {
    name: &'static str,
    table: Table,
    asked: Vec<&'static str>,
    faults: Vec<String>,
}

impl Section {
    /// Takes a table out of the file; an absent one is empty.
    pub fn take(file: &mut Table, name: &'static str, faults: &mut Faults) -> Self {
        let table = match file.remove(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                faults.0.push(format!("[{name}]: a table was expected, not {}", other.type_str()));
                Table::new()
            }
        };
        Self { name, table, asked: Vec::new(), faults: Vec::new() }
    }

    fn get<T>(&mut self, key: &'static str, default: T, what: &str, read: impl Fn(&Value) -> Option<T>) -> T {
        self.asked.push(key);
        match self.table.remove(key) {
            None => default,
            Some(value) => read(&value).unwrap_or_else(|| {
                self.fault(key, &format!("{what} was expected, not {}", shown(&value)));
                default
            }),
        }
    }

    /// Notes that a value makes no sense.
    pub fn fault(&mut self, key: &str, why: &str) {
        self.faults.push(format!("{}.{key}: {why}", self.name));
    }

    /// Text.
    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        self.get(key, default.to_owned(), "a text", |value| value.as_str().map(str::to_owned))
    }

    /// Text that may be missing; empty is missing.
    pub fn maybe(&mut self, key: &'static str) -> Option<String> {
        Some(self.text(key, "")).filter(|text| !text.is_empty())
    }

    /// An absolute path.
    pub fn path(&mut self, key: &'static str, default: &str) -> std::path::PathBuf {
        self.get(key, default.into(), "a path", |value| value.as_str().map(Into::into))
    }

    /// `HOST:PORT`.
    pub fn address(&mut self, key: &'static str, default: &str) -> String {
        let text = self.get(key, default.to_owned(), "HOST:PORT", |value| value.as_str().map(str::to_owned));
        if let Err(why) = super::address::check(&text) {
            self.fault(key, &format!("'{text}': {why}"));
        }
        text
    }

    /// A password; a fault does not show it.
    pub fn secret(&mut self, key: &'static str) -> String {
        self.asked.push(key);
        match self.table.remove(key) {
            None => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => {
                self.fault(key, &format!("a text was expected, not {}", kind(&other)));
                String::new()
            }
        }
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.get(key, default, "true or false", Value::as_bool)
    }

    /// A whole number in a range.
    pub fn number<T: TryFrom<i64> + Copy + PartialOrd + std::fmt::Display>(&mut self, key: &'static str, default: T, least: T, most: T) -> T {
        let what = format!("a number from {least} to {most}");
        self.get(key, default, &what, |value| {
            value.as_integer().and_then(|number| T::try_from(number).ok()).filter(|number| *number >= least && *number <= most)
        })
    }

    /// Bytes: `8Mi`, or a number.
    pub fn size(&mut self, key: &'static str, default: u64, least: u64) -> u64 {
        let what = format!("a size of at least {least} bytes, such as \"10Mi\"");
        self.get(key, default, &what, |value| bytes(value).filter(|size| *size >= least))
    }

    /// A time: `15s`, `5m`, `1h`.
    pub fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.get(key, default, "a time such as \"15s\"", |value| time(value.as_str()?))
    }

    /// A list of texts.
    pub fn list(&mut self, key: &'static str) -> Vec<String> {
        self.list_or(key, &[])
    }

    /// A list of texts that has some unless told; it can be told to be empty.
    pub fn list_or(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let default = default.iter().map(|text| (*text).to_owned()).collect();
        self.get(key, default, "a list of texts", |value| value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect())
    }

    /// A table of texts.
    pub fn map(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.get(key, BTreeMap::new(), "a table of texts", |value| {
            value.as_table()?.iter().map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        })
    }

    /// A table of names and passwords; a fault does not show them.
    pub fn secrets(&mut self, key: &'static str) -> BTreeMap<String, Secret> {
        self.asked.push(key);
        let Some(value) = self.table.remove(key) else { return BTreeMap::new() };
        let read = |(name, password): (&String, &Value)| Some((name.clone(), Secret(password.as_str()?.to_owned())));
        value.as_table().and_then(|table| table.iter().map(read).collect()).unwrap_or_else(|| {
            self.fault(key, "a table of NAME = \"PASSWORD\" was expected");
            BTreeMap::new()
        })
    }

    /// Done with this table: what is left was meant for something.
    pub fn end(mut self, faults: &mut Faults) {
        for key in self.table.keys().cloned().collect::<Vec<_>>() {
            let hint = nearest(&key, &self.asked).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default();
            self.fault(&key, &format!("unknown key{hint}"));
        }
        faults.0.append(&mut self.faults);
    }
}

/// A value as somebody has written it, or what it is if that may be long.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > 60 => format!("'{}...'", text.chars().take(60).collect::<String>()),
        Value::String(text) => format!("'{text}'"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => kind(value).to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn bytes(value: &Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => crate::wire::quantity::Quantity::parse(text).and_then(|quantity| u64::try_from(quantity.units()).ok()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// A time: `15s`, `5m`, `1h`, `250ms`.
pub fn time(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => number,
        "s" => number.checked_mul(1000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// The known name that differs least, if any comes close.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known.iter().map(|other| (distance(word, other), *other)).filter(|(distance, other)| *distance <= 1 + other.len() / 4).min().map(|(_, other)| other)
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
