//! YAML as `kubectl` reads it: YAML 1.1 scalars (`0400` is octal, `yes` is
//! true), merge keys, anchors, several documents in a file, or JSON.
//!
//! Source: sigs.k8s.io/yaml, whose reader is a fork of go-yaml 2. Unlike there,
//! a key that stands twice in a mapping is an error and not silently the last.

mod scalar;

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScanError, Span};
use serde_json::{Map, Value};

/// How deep a document may be nested. The control socket takes no more either.
const MAX_DEPTH: usize = 100;
/// Values in a file, with what its aliases repeat.
const MAX_VALUES: usize = 200_000;
/// Bytes of text in a file, with what its aliases repeat.
const MAX_BYTES: usize = 8 << 20;

/// A text that cannot be read as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Counted from 1.
    line: usize,
    why: String,
}

impl std::fmt::Display for YamlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for YamlError {}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        Self { line: error.marker().line(), why: error.info().to_owned() }
    }
}

/// The documents of a text, empty ones left out.
///
/// # Errors
///
/// The text is no YAML, is nested too deeply, or its anchors multiply to more
/// than an object of the cluster can be.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') && text.len() <= MAX_BYTES {
        let json = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>();
        // What begins like JSON and is none may be YAML in braces.
        if let Ok(values) = json {
            return Ok(values);
        }
    }
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event?;
        builder.take(event, span)?;
    }
    builder.documents.retain(|document| !document.is_null());
    Ok(builder.documents)
}

/// Makes values of the parser's events.
#[derive(Default)]
struct Builder {
    documents: Vec<Value>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Value, Size)>,
    made: Size,
}

/// A collection whose end has not come yet.
struct Open {
    /// 0 for none.
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Value>),
    Mapping {
        map: Map<String, Value>,
        /// Keys that stand in the mapping itself.
        own: BTreeSet<String>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

enum Key {
    /// `<<`: the mapping, or the list of mappings, that follows is merged.
    Merge,
    Name(String),
}

/// What a value takes.
#[derive(Debug, Default, Clone, Copy)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn of(value: &Value) -> Self {
        let mut size = Self { values: 1, bytes: 0 };
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => size.bytes = text.len(),
            Value::Array(items) => items.iter().for_each(|item| size.add(Self::of(item))),
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                size.bytes += key.len();
                size.add(Self::of(value));
            }),
        }
        size
    }

    fn add(&mut self, other: Self) {
        self.values += other.values;
        self.bytes += other.bytes;
    }
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        let failed = |why: String| YamlError { line, why };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            Event::DocumentEnd => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = scalar::is_merge(&text, style, tag.as_deref());
                if is_merge && self.expects_key() {
                    return self.key(Key::Merge).map_err(failed);
                }
                let scalar = scalar::resolve(&text, style, tag.as_deref()).map_err(failed)?;
                if self.expects_key() {
                    let name = scalar.key().ok_or_else(|| failed(format!("'{text}' cannot be a key")))?;
                    self.remember(anchor, &Value::String(name.clone())).map_err(failed)?;
                    return self.key(Key::Name(name)).map_err(failed);
                }
                let value = scalar.value().ok_or_else(|| failed(format!("'{text}' has no equivalent in JSON")))?;
                self.value(anchor, value).map_err(failed)?;
            }
            Event::Alias(anchor) => self.alias(anchor).map_err(failed)?,
            Event::SequenceStart(anchor, _) => self.begin(anchor, Content::Sequence(Vec::new())).map_err(failed)?,
            Event::MappingStart(anchor, _) => {
                let content = Content::Mapping { map: Map::new(), own: BTreeSet::new(), key: None };
                self.begin(anchor, content).map_err(failed)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, content }) = self.open.pop() else { return Ok(()) };
                let value = match content {
                    Content::Sequence(items) => Value::Array(items),
                    Content::Mapping { map, .. } => Value::Object(map),
                };
                self.value(anchor, value).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Mapping { key: None, .. }, .. }))
    }

    fn begin(&mut self, anchor: usize, content: Content) -> Result<(), String> {
        if self.expects_key() {
            return Err("a key must be a text, a number or true or false".to_owned());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        self.open.push(Open { anchor, content });
        Ok(())
    }

    fn key(&mut self, next: Key) -> Result<(), String> {
        let Some(Open { content: Content::Mapping { own, key, .. }, .. }) = self.open.last_mut() else { return Ok(()) };
        if let Key::Name(name) = &next
            && !own.insert(name.clone())
        {
            return Err(format!("key '{name}' stands twice in this mapping"));
        }
        *key = Some(next);
        Ok(())
    }

    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        let Some((value, size)) = self.anchors.get(&anchor) else {
            return Err("an anchor's value contains itself".to_owned());
        };
        if self.expects_key() {
            let name = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return Err("a key must be a text, a number or true or false".to_owned()),
            };
            return self.key(Key::Name(name));
        }
        self.spend(*size)?;
        let value = self.anchors.get(&anchor).map(|(value, _)| value.clone()).unwrap_or_default();
        self.place(value)
    }

    /// A value that stands in the text itself.
    fn value(&mut self, anchor: usize, value: Value) -> Result<(), String> {
        let own = match &value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => 0,
            Value::String(text) => text.len(),
        };
        self.spend(Size { values: 1, bytes: own })?;
        self.remember(anchor, &value)?;
        self.place(value)
    }

    /// Keeps an anchor's value. That counts as once more, for anchors in anchors are kept
    /// again by each.
    fn remember(&mut self, anchor: usize, value: &Value) -> Result<(), String> {
        if anchor != 0 {
            let size = Size::of(value);
            self.spend(size)?;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(())
    }

    fn spend(&mut self, size: Size) -> Result<(), String> {
        self.made.add(size);
        if self.made.values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values, those counted that anchors and aliases repeat"));
        }
        if self.made.bytes > MAX_BYTES {
            return Err(format!("more than {} MiB of text, that counted which anchors and aliases repeat", MAX_BYTES >> 20));
        }
        Ok(())
    }

    /// Puts a value where it belongs.
    fn place(&mut self, value: Value) -> Result<(), String> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.documents.push(value),
            Some(Content::Sequence(items)) => items.push(value),
            Some(Content::Mapping { map, key, .. }) => match key.take() {
                Some(Key::Name(name)) => drop(map.insert(name, value)),
                Some(Key::Merge) => merge(map, value)?,
                None => return Err("a value without a key".to_owned()),
            },
        }
        Ok(())
    }
}

/// Merges where `<<` stands: keys before it are overridden, keys after it
/// override it, and of several mappings the first prevails.
fn merge(map: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    let maps = match value {
        Value::Object(_) => vec![value],
        Value::Array(items) => items,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::from([Value::Null]),
    };
    for value in maps.into_iter().rev() {
        let Value::Object(other) = value else { return Err("'<<' needs a mapping or a list of mappings".to_owned()) };
        map.extend(other);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
