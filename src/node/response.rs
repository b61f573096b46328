//! The cloud's answers to requests: the object, or why there is none.
//!
//! Source: KubeEdge's `cloud/pkg/edgecontroller/controller/upstream.go`: some
//! answers are the object or a Kubernetes status error, others hold both as
//! `Object` and `Err`.

use std::fmt;

use serde_json::Value;

use crate::wire::resource::Resource;

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// HTTP status code, as the API server gave it; 500 when it gave none.
    pub code: u16,
    /// In the cloud's words, or in ours when it said nothing usable.
    pub message: String,
}

/// Code of an object that does not exist.
pub const NOT_FOUND: u16 = 404;
/// Code of an object that another one stands in the way of.
pub const CONFLICT: u16 = 409;
/// Code of an answer that did not come.
const TIMEOUT: u16 = 504;

impl Refused {
    /// The answer is not what was asked for.
    pub fn unusable(why: impl Into<String>) -> Self {
        Self { code: 500, message: why.into() }
    }

    /// No answer came.
    pub fn silence() -> Self {
        Self { code: TIMEOUT, message: "no response from CloudCore".to_owned() }
    }

    /// No answer came.
    pub fn is_silence(&self) -> bool {
        self.code == TIMEOUT
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == NOT_FOUND
    }

    fn read(error: &Value) -> Self {
        let status = error.get("ErrStatus");
        let member = |name: &str| status.and_then(|status| status.get(name));
        let code = member("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
        let told = member("message").or_else(|| member("reason")).and_then(Value::as_str).filter(|text| !text.is_empty());
        // A proxy or an API server that is starting says 404 as well: client-go
        // marks what is no statement about the object.
        let causes = status.and_then(|status| status.pointer("/details/causes")).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let foreign = causes.iter().any(|cause| cause.get("reason").and_then(Value::as_str) == Some("UnexpectedServerResponse"));
        let code = if foreign && code == NOT_FOUND { 500 } else { code };
        // Errors of Go's net package are objects whose innermost `Err` says why.
        let inner = || error.pointer("/Err/Err").or_else(|| error.get("Err")).or(Some(error)).and_then(Value::as_str);
        let message = told.or_else(inner).map_or_else(|| format!("CloudCore reports error {code}"), str::to_owned);
        Self { code, message }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Reads an answer in either shape.
///
/// # Errors
///
/// The API server's error, or that the answer is not JSON.
pub fn read(content: &str) -> Result<Value, Refused> {
    let mut value: Value = serde_json::from_str(content).map_err(|why| Refused::unusable(format!("the answer is not JSON: {why}")))?;
    if value.get("ErrStatus").is_some() {
        return Err(Refused::read(&value));
    }
    let Some(map) = value.as_object_mut().filter(|map| map.contains_key("Err") && map.contains_key("Object")) else { return Ok(value) };
    // A failure may be an empty object; only null is success.
    match map.get("Err") {
        Some(Value::Null) | None => {
            let mut object = map.remove("Object").unwrap_or_default();
            strip(&mut object);
            Ok(object)
        }
        Some(error) => Err(Refused::read(error)),
    }
}

/// Reads an answer that shall be this object.
///
/// # Errors
///
/// As [`read`], or that it is something else.
pub fn read_object(content: &str, asked: &Resource) -> Result<Value, Refused> {
    let object = read(content)?;
    let metadata = |member: &str| object.get("metadata").and_then(|metadata| metadata.get(member)).and_then(Value::as_str);
    let Some(name) = metadata("name") else { return Err(Refused::unusable("the answer is not an object with a name")) };
    let namespace = metadata("namespace").unwrap_or(&asked.namespace);
    if name != asked.name || namespace != asked.namespace {
        return Err(Refused::unusable(format!("the answer is about '{namespace}/{name}'")));
    }
    Ok(object)
}

/// What the agent never looks at and the cloud sends every time.
fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resource::kind;

    #[test]
    fn a_refusal_is_found_in_both_shapes_of_answers() {
        let refused = |code, message: &str| Err(Refused { code, message: message.to_owned() });
        assert_eq!(read(r#"{"ErrStatus":{"code":404,"message":"secrets \"s\" not found"}}"#), refused(404, "secrets \"s\" not found"));
        assert_eq!(read(r#"{"Object":{},"Err":{"ErrStatus":{"code":409}}}"#), refused(409, "CloudCore reports error 409"));
        assert_eq!(read(r#"{"Object":{},"Err":{}}"#), refused(500, "CloudCore reports error 500"));
        assert_eq!(read(r#"{"Object":{},"Err":{"Op":"Get","URL":"u","Err":{"Err":"refused"}}}"#), refused(500, "refused"));
        let foreign = r#"{"ErrStatus":{"code":404,"message":"m","details":{"causes":[{"reason":"UnexpectedServerResponse","message":"404 page not found"}]}}}"#;
        assert_eq!(read(foreign), refused(500, "m"));
        assert_eq!(read(r#"{"Object":{},"Err":"no"}"#), refused(500, "no"));
        assert_eq!(read(r#"{"Object":{"metadata":{"name":"a","managedFields":[1]}},"Err":null}"#), Ok(serde_json::json!({"metadata":{"name":"a"}})));
        assert_eq!(read(r#""OK""#), Ok("OK".into()));
        assert!(read("{").is_err());
    }

    #[test]
    fn an_answer_about_something_else_is_not_taken() {
        let asked = Resource::new("default", kind::CONFIG_MAP, "a");
        assert!(read_object(r#"{"metadata":{"name":"a","namespace":"default"}}"#, &asked).is_ok());
        for other in ["null", "[]", r#""OK""#, "{}", r#"{"metadata":[]}"#, r#"{"metadata":{"name":"b"}}"#, r#"{"metadata":{"name":"a","namespace":"x"}}"#] {
            assert!(read_object(other, &asked).is_err(), "{other}");
        }
    }
}
