//! What devices and clouds write about twins, read from JSON. Not whether it is
//! allowed.
//!
//! Members are found whatever their case, `null` is absence and unknown members
//! are ignored, for Go reads JSON so and clients rely on it (devices.md 10.7).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::property::Version;

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
    /// By name; `None` removes the property.
    pub properties: BTreeMap<String, Option<Wanted>>,
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
        let properties = twin.as_object().and_then(|twin| properties(twin).ok()).ok_or_else(|| unreadable(&event))?;
        let request = Self { event, properties };
        request.check_shape()?;
        Ok(request)
    }

    fn check_shape(&self) -> Result<(), Refusal> {
        let Some(name) = self.properties.keys().find(|name| !super::value::is_name(name)) else { return Ok(()) };
        let shown: String = name.chars().take(40).collect();
        let reason = format!(
            "The key of twin must only include upper or lowercase letters, number, english, and special letter - _ . , : / @ # and the length of key should be less than 128 bytes (not '{shown}')"
        );
        Err(Refusal::bad(&self.event, reason))
    }
}

/// Properties by name.
pub fn properties(twin: &Map<String, Value>) -> Result<BTreeMap<String, Option<Wanted>>, ()> {
    twin.iter().map(|(name, value)| Ok((name.clone(), wanted(value)?))).collect()
}

fn wanted(value: &Value) -> Result<Option<Wanted>, ()> {
    let object = match value {
        Value::Null => return Ok(None),
        Value::Object(object) => object,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return Err(()),
    };
    let metadata = member(object, "metadata").map(|metadata| metadata.as_object().ok_or(())).transpose()?;
    Ok(Some(Wanted {
        expected: part(object, "expected")?,
        actual: part(object, "actual")?,
        optional: member(object, "optional").map(|optional| optional.as_bool().ok_or(())).transpose()?,
        kind: metadata.map(|metadata| text(metadata, "type").map(Option::unwrap_or_default)).transpose()?,
        expected_version: version(object, "expected_version")?,
        actual_version: version(object, "actual_version")?,
    }))
}

/// The value of `expected` or `actual`; one without a value is no part.
fn part(object: &Map<String, Value>, name: &str) -> Result<Option<String>, ()> {
    let Some(part) = member(object, name) else { return Ok(None) };
    text(part.as_object().ok_or(())?, "value")?.map(Some).ok_or(())
}

fn version(object: &Map<String, Value>, name: &str) -> Result<Option<Version>, ()> {
    member(object, name).map(|version| serde_json::from_value(version.clone()).map_err(|_| ())).transpose()
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
        assert_eq!(request.properties["t"], Some(Wanted { actual: Some("1".into()), kind: Some("int".into()), ..Wanted::default() }));
        assert_eq!(request.properties["gone"], None);
        assert_eq!(read(r#"{"twin":{"t":{"metadata":{}}}}"#).properties["t"].as_ref().and_then(|wanted| wanted.kind.as_deref()), Some(""));
    }

    #[test]
    fn what_is_no_request_is_refused_and_its_id_is_known_when_it_can_be() {
        for bad in ["", "null", "[]", "{bad", "7", r#"{"event_id":7,"twin":{}}"#, r#"{"twin":[]}"#, r#"{"twin":{"t":{"actual":{"value":5}}}}"#] {
            assert!(reason(bad).contains("Unmarshal"), "{bad}");
        }
        assert!(reason(r#"{"twin":{"z":{"actual":{}}}}"#).contains("Unmarshal"), "a part needs a value");
        assert!(reason(r#"{"twin":null}"#).contains("key:twin"));
        assert!(reason(r#"{"twin":{"te mp":{}}}"#).contains("key of twin"));
        assert_eq!(Request::read(br#"{"event_id":"e9","twin":7}"#).expect_err("bad").event, "e9");
    }
}
