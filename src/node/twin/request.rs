//! What devices and clouds write about twins, read from JSON. Not whether it is
//! allowed.
//!
//! Members are found whatever their case, `null` is absence and unknown members
//! are ignored, for Go reads JSON so and clients rely on it (devices.md 10.7).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::property::Version;
use super::value;

/// Why a request is not carried out; goes back to its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 400 for a bad request, 404 for an unknown device.
    pub code: u16,
    /// Id of the request, if it could be read.
    pub event: String,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// A bad request.
    pub fn bad(event: &str, reason: impl Into<String>) -> Self {
        Self { code: 400, event: event.to_owned(), reason: reason.into() }
    }
}

/// A request about a device's properties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Its id; the answer has the same.
    pub event: String,
    /// What it wants.
    pub properties: Properties,
}

/// What is wanted of properties. One that cannot be read spoils none of the
/// others. EdgeCore refuses the whole request; but a device sends all it
/// measures in one, and would lose it for one broken sensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// By name; `None` removes the property.
    pub wanted: BTreeMap<String, Option<Wanted>>,
    /// Those that are refused, and why.
    pub faults: Faults,
}

/// Why properties are refused, by name.
pub type Faults = BTreeMap<String, String>;

/// More than so many faults are only counted.
const FAULTS: usize = 10;

/// All faults in one text. Of a request about a single property the text is
/// EdgeCore's.
pub fn reason(faults: &Faults, single: bool) -> String {
    if let (true, Some(fault)) = (single, faults.values().next()) {
        return fault.clone();
    }
    let shown = |name: &String| name.escape_debug().take(40).collect::<String>();
    let mut all: Vec<String> = faults.iter().take(FAULTS).map(|(name, fault)| format!("{}: {fault}", shown(name))).collect();
    if let Some(more) = faults.len().checked_sub(FAULTS).filter(|more| *more > 0) {
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

/// What a request wants of one property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The value it shall have.
    pub expected: Option<String>,
    /// The value it has.
    pub actual: Option<String>,
    /// Whether it may be removed.
    pub optional: Option<bool>,
    /// Its type's name; empty for metadata without one.
    pub kind: Option<String>,
    /// Version of the expected value, from clouds only.
    pub expected_version: Option<Version>,
    /// Version of the actual value, from clouds only.
    pub actual_version: Option<Version>,
}

/// A member whatever its case, unless it is `null`.
pub fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)).filter(|value| !value.is_null())
}

/// A text member; `Err` when it is something else.
fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, ()> {
    member(object, name).map(|value| value.as_str().map(str::to_owned).ok_or(())).transpose()
}

/// A JSON object and its `event_id`.
pub fn event(payload: &[u8]) -> Result<(Map<String, Value>, String), ()> {
    let Ok(Value::Object(object)) = serde_json::from_slice(payload) else { return Err(()) };
    let event = text(&object, "event_id")?.unwrap_or_default();
    Ok((object, event))
}

impl Request {
    /// Reads `{"event_id", "twin": {NAME: null | {...}}}`.
    pub fn read(payload: &[u8]) -> Result<Self, Refusal> {
        let unreadable = |event: &str| Refusal::bad(event, "Unmarshal update request body failed, please check the request");
        let (object, event) = event(payload).map_err(|()| unreadable(""))?;
        let twin = member(&object, "twin").ok_or_else(|| Refusal::bad(&event, "Update twin error, key:twin does not exist"))?;
        let properties = Properties::read(twin.as_object().ok_or_else(|| unreadable(&event))?);
        Ok(Self { event, properties })
    }
}

impl Properties {
    /// Reads `{NAME: null | {...}}`.
    pub fn read(twin: &Map<String, Value>) -> Self {
        let mut properties = Self::default();
        for (name, value) in twin {
            let read = if value::is_name(name) { wanted(value) } else { Err(NO_NAME.to_owned()) };
            match read {
                Ok(wanted) => drop(properties.wanted.insert(name.clone(), wanted)),
                Err(fault) => drop(properties.faults.insert(name.clone(), fault)),
            }
        }
        properties
    }

    /// Whether it is about one property only.
    pub fn is_single(&self) -> bool {
        self.wanted.len() + self.faults.len() == 1
    }
}

/// EdgeCore's words.
const NO_NAME: &str = "The key of twin must only include upper or lowercase letters, number, english, and special letter - _ . , : / @ # and the length of key should be less than 128 bytes";

fn wanted(value: &Value) -> Result<Option<Wanted>, String> {
    let object = match value {
        Value::Null => return Ok(None),
        Value::Object(object) => object,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Err("an object or null was expected".to_owned()),
    };
    let metadata = inner(object, "metadata")?;
    let optional = member(object, "optional").map(|optional| optional.as_bool().ok_or("optional: true or false was expected"));
    let told = |metadata| text(metadata, "type").map(Option::unwrap_or_default).map_err(|()| "metadata.type: a string was expected");
    Ok(Some(Wanted {
        expected: part(object, "expected")?,
        actual: part(object, "actual")?,
        optional: optional.transpose()?,
        kind: metadata.map(told).transpose()?,
        expected_version: version(object, "expected_version")?,
        actual_version: version(object, "actual_version")?,
    }))
}

fn inner<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    member(object, name).map(|inner| inner.as_object().ok_or_else(|| format!("{name}: an object was expected"))).transpose()
}

/// The value of `expected` or `actual`. A part without a value says nothing: in
/// EdgeCore's own type the value is optional (devices.md 2.6), and what ends
/// its worker, `"actual": {}`, must not end a message either (11.1).
fn part(object: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    let Some(part) = inner(object, name)? else { return Ok(None) };
    text(part, "value").map_err(|()| format!("{name}.value: a string was expected"))
}

fn version(object: &Map<String, Value>, name: &str) -> Result<Option<Version>, String> {
    let read = |version: &Value| serde_json::from_value(version.clone()).map_err(|_| format!("{name}: an object with numbers was expected"));
    member(object, name).map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(payload: &str) -> String {
        Request::read(payload.as_bytes()).expect_err("it is bad").reason
    }

    #[test]
    fn any_case_and_nulls_are_read_as_go_reads_them() {
        let read = |text: &str| Request::read(text.as_bytes()).expect("it is good");
        let request = read(r#"{"Event_ID":"e","TWIN":{"t":{"Actual":{"VALUE":"1","metadata":{}},"expected":null,"metadata":{"Type":"int"}},"gone":null}}"#);
        assert_eq!(request.event, "e");
        let wanted = |request: &Request| request.properties.wanted.clone();
        assert_eq!(wanted(&request)["t"], Some(Wanted { actual: Some("1".into()), kind: Some("int".into()), ..Wanted::default() }));
        assert_eq!(wanted(&request)["gone"], None);
        let untyped = read(r#"{"twin":{"t":{"metadata":{}}}}"#);
        assert_eq!(wanted(&untyped)["t"].as_ref().and_then(|wanted| wanted.kind.as_deref()), Some(""));
    }

    #[test]
    fn what_is_no_request_is_refused_and_its_id_is_known_when_it_can_be() {
        let deep = format!(r#"{{"twin":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for bad in ["", "null", "[]", "{bad", "7", r#"{"event_id":7,"twin":{}}"#, r#"{"twin":[]}"#, r#"{"twin":{"t":{"a":1e999}}}"#, &deep] {
            assert!(reason(bad).contains("Unmarshal"), "{bad}");
        }
        assert!(reason(r#"{"twin":null}"#).contains("key:twin"));
        assert_eq!(Request::read(br#"{"event_id":"e9","twin":7}"#).expect_err("bad").event, "e9");
    }

    /// Every shape that a property may have: taken, or refused by name beside
    /// a good one.
    #[test]
    fn a_property_that_cannot_be_read_spoils_no_other() {
        let taken = [
            "null",
            "{}",
            r#"{"actual":null,"expected":null,"metadata":null,"optional":null}"#,
            r#"{"actual":{}}"#,
            r#"{"actual":{"value":null},"expected":{"metadata":{"timestamp":1}}}"#,
            r#"{"actual":{"value":""},"more":[1,{"deep":{}}]}"#,
        ];
        let refused = [
            ("7", "an object or null"),
            ("true", "an object or null"),
            ("[]", "an object or null"),
            (r#""text""#, "an object or null"),
            (r#"{"actual":7}"#, "actual: an object"),
            (r#"{"actual":[]}"#, "actual: an object"),
            (r#"{"actual":{"value":5}}"#, "actual.value: a string"),
            (r#"{"actual":{"value":1e300}}"#, "actual.value: a string"),
            (r#"{"expected":{"value":{"nested":{}}}}"#, "expected.value: a string"),
            (r#"{"expected":{"value":false}}"#, "expected.value: a string"),
            (r#"{"metadata":"int"}"#, "metadata: an object"),
            (r#"{"metadata":{"type":7}}"#, "metadata.type: a string"),
            (r#"{"optional":"yes"}"#, "optional: true or false"),
            (r#"{"actual_version":{"cloud":"1"}}"#, "actual_version: an object with numbers"),
        ];
        let read = |property: &str| {
            let text = format!(r#"{{"twin":{{"bad":{property},"good":{{"actual":{{"value":"1"}}}}}}}}"#);
            Request::read(text.as_bytes()).expect("it is a request").properties
        };
        for property in taken {
            let properties = read(property);
            assert_eq!((properties.wanted.len(), properties.faults.len()), (2, 0), "{property}");
            let parts = properties.wanted["bad"].as_ref().map(|wanted| (wanted.expected.clone(), wanted.actual.clone()));
            let empty = property.contains(r#""value":"""#).then(String::new);
            assert!(parts.is_none_or(|(expected, actual)| expected.is_none() && actual == empty), "{property}");
        }
        for (property, fault) in refused {
            let properties = read(property);
            assert_eq!(properties.wanted.keys().collect::<Vec<_>>(), ["good"], "{property}");
            assert!(properties.faults["bad"].contains(fault), "{property}: {:?}", properties.faults);
        }
        for name in ["", "te mp", "a+b", "\u{fc}", "a\\n", &"x".repeat(129)] {
            let text = format!(r#"{{"twin":{{"{name}":{{}},"good":{{}}}}}}"#);
            let properties = Request::read(text.as_bytes()).expect("it is a request").properties;
            assert_eq!((properties.wanted.len(), properties.faults.len()), (1, 1), "{name}");
        }
    }

    #[test]
    fn faults_are_named_and_counted() {
        let faults: Faults = (10..25).map(|number| (format!("p{number}"), "wrong".to_owned())).collect();
        assert!(super::reason(&faults, false).starts_with("p10: wrong; p11: wrong; ") && super::reason(&faults, false).ends_with("; and 5 more"));
        assert_eq!(super::reason(&faults, true), "wrong");
    }
}
