//! HTTP through the cloud's link, as messages: calls of the cloud to apps on the
//! node, and questions of apps to the cloud. Shapes and words only.
//!
//! Source: devices.md 5; common/types/http.go of KubeEdge for the two objects.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::message::{Message, raw, string};
use super::url::target;

/// Largest body, bytes, either way. An app's longer answer is cut, a longer
/// question of an app is refused.
pub const BODY: usize = 5_000_000;
/// Where apps are unless a resource names a host.
pub const LOOPBACK: &str = "127.0.0.1";

/// Headers with all their values.
pub type Headers = BTreeMap<String, Vec<String>>;

/// A call of the cloud to an app on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where the app is: [`LOOPBACK`] for most.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path and query, ready to be sent.
    pub path: String,
    /// HTTP method.
    pub method: String,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
}

/// An app's answer, or what is said in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Headers,
    /// Body, at most [`BODY`].
    pub body: Vec<u8>,
}

/// A question of an app to the cloud.
#[derive(Debug, Clone)]
pub struct Question {
    /// The target that a rule must have allowed.
    pub target: String,
    /// The whole body of the app's request, as it travels.
    pub content: Box<RawValue>,
}

/// What the app is told: always within HTTP status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200, 400 or 500.
    pub code: u16,
    /// A sentence.
    pub message: String,
    /// What the cloud said.
    pub body: String,
}

/// The object in a call's content; any member may be missing or null.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Content {
    header: Option<BTreeMap<String, Option<Vec<String>>>>,
    body: Option<String>,
    method: Option<String>,
}

impl Call {
    /// Reads a call, or says what is wrong with it as the app would.
    ///
    /// The resource is `PORT:/PATH`, or `HOST:PORT:/PATH` for an app on another
    /// host; a colon may stand in the path.
    pub fn read(message: &Message) -> Result<Self, Answer> {
        let resource = &message.route.resource;
        let (authority, path) = split(resource).ok_or_else(|| Answer::refusal(400, &format!("the format of resource {resource} is incorrect")))?;
        let unreadable = || Answer::refusal(400, "error to parse http request");
        let content: Content = object(message.content.get()).ok_or_else(unreadable)?;
        let body = STANDARD.decode(content.body.unwrap_or_default()).map_err(|_| unreadable())?;
        let method = content.method.filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".to_owned());
        let headers: Headers = content.header.unwrap_or_default().into_iter().map(|(name, values)| (name, values.unwrap_or_default())).collect();
        let (host, port) = authority.rsplit_once(':').unwrap_or((LOOPBACK, authority));
        let port = port.parse().map_err(|_| Answer::unreachable())?;
        if !is_token(&method) || !headers.iter().all(|(name, values)| is_token(name) && values.iter().all(|value| is_value(value))) {
            return Err(Answer::unreachable());
        }
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port, path: target(path), method, headers, body })
    }
}

/// Where a resource points, and the path there.
fn split(resource: &str) -> Option<(&str, &str)> {
    let (first, rest) = if resource.starts_with('[') { resource.split_at(resource.find("]:")? + 1) } else { resource.split_at(resource.find(':')?) };
    let rest = rest.strip_prefix(':')?;
    // A first part that is no port is a host, if a port follows it.
    match rest.split_once(':') {
        Some((port, path)) if first.parse::<u16>().is_err() && port.parse::<u16>().is_ok() => Some((&resource[..first.len() + 1 + port.len()], path)),
        Some(_) | None => Some((first, rest)),
    }
}

/// Content that is an object, or a string that holds one.
fn object<T: for<'a> Deserialize<'a>>(content: &str) -> Option<T> {
    match serde_json::from_str::<String>(content) {
        Ok(text) => serde_json::from_str(&text).ok(),
        Err(_) => serde_json::from_str(content).ok(),
    }
}

/// A method or the name of a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The value of a header: no control characters, so that nobody adds lines.
fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
}

impl Answer {
    /// What is said when the app could not.
    pub fn refusal(status: u16, why: &str) -> Self {
        let headers = [("Server".to_owned(), vec!["kubeedge-edgecore".to_owned()])].into();
        Self { status, headers, body: why.as_bytes().to_vec() }
    }

    /// The app did not answer, for whatever reason.
    pub fn unreachable() -> Self {
        Self::refusal(404, "error to call service")
    }

    /// As it travels.
    pub fn content(&self) -> Box<RawValue> {
        raw(&json!({ "header": self.headers, "status_code": self.status, "body": STANDARD.encode(&self.body) }))
    }
}

impl Question {
    /// Reads the body of an app's request: `{method, targetURL, payload}`.
    ///
    /// It travels as EdgeCore's does by WebSocket, where Go writes bytes as
    /// base64; what listens in the cloud knows no other form.
    pub fn read(body: &[u8]) -> Result<Self, Reply> {
        let invalid = || Reply::refusal("invalid params");
        let value: Value = serde_json::from_slice(body).map_err(|_| invalid())?;
        let map = value.as_object().ok_or_else(invalid)?;
        // Members are found as Go finds them: whatever their case.
        let text = |name: &str| match map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(invalid()),
        };
        text("method")?;
        Ok(Self { target: text("targetURL")?, content: string(&STANDARD.encode(body)) })
    }
}

impl Reply {
    /// The cloud answered; a text is shown as it is, anything else as JSON.
    pub fn answered(content: &RawValue) -> Self {
        let body = serde_json::from_str(content.get()).unwrap_or_else(|_| content.get().to_owned());
        Self { code: 200, message: "receive response from cloud successfully".to_owned(), body }
    }

    /// The question cannot be asked, or nobody answered it.
    pub fn refusal(why: &str) -> Self {
        Self { code: 400, message: why.to_owned(), body: String::new() }
    }

    /// The request cannot be read, or is larger than [`BODY`].
    pub fn unreadable() -> Self {
        Self::refusal("can't read data from body of the http's request")
    }

    /// No rule allows the target.
    pub fn forbidden(target: &str) -> Self {
        Self::refusal(&format!("url {target} is not allowed and please make a rule for this url in the cloud"))
    }

    /// The cloud did not answer in time.
    pub fn late(id: &str) -> Self {
        Self::refusal(&format!("timeout to get response for message {id}"))
    }

    /// As the app gets it.
    pub fn text(&self) -> String {
        json!({ "code": self.code, "msg": self.message, "body": self.body }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Header, Route};

    fn message(resource: &str, content: &Value) -> Message {
        Message { header: Header::default(), route: Route { resource: resource.to_owned(), ..Route::default() }, content: raw(content) }
    }

    fn place(resource: &str) -> Result<(String, u16, String), u16> {
        Call::read(&message(resource, &json!({}))).map(|call| (call.host, call.port, call.path)).map_err(|answer| answer.status)
    }

    #[test]
    fn a_resource_is_split_at_the_first_colon_that_is_not_before_a_port() {
        let at = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(place("8080:/a/b?q=1"), at(LOOPBACK, 8080, "/a/b?q=1"));
        assert_eq!(place("8080:/a:b"), at(LOOPBACK, 8080, "/a:b"));
        assert_eq!(place("8080:/a:9:b"), at(LOOPBACK, 8080, "/a:9:b"));
        assert_eq!(place("8080:ping"), at(LOOPBACK, 8080, "/ping"));
        assert_eq!(place("8080:"), at(LOOPBACK, 8080, "/"));
        assert_eq!(place("camera.local:81:/a:b"), at("camera.local", 81, "/a:b"));
        assert_eq!(place("192.0.2.7:81:/"), at("192.0.2.7", 81, "/"));
        assert_eq!(place("[2001:db8::7]:81:/"), at("2001:db8::7", 81, "/"));
        assert_eq!(place("8080:/a b#c"), at(LOOPBACK, 8080, "/a%20b"));
        assert_eq!((place("8080/a"), place(":/a"), place("80800:/a"), place("[::1:/a"), place("")), (Err(400), Err(404), Err(404), Err(400), Err(400)));
    }

    #[test]
    fn content_comes_as_an_object_or_as_its_text() {
        let content = json!({ "header": { "X-A": ["1"], "X-B": null }, "body": "aGVsbG8=", "method": "POST", "url": "" });
        for content in [content.clone(), content.to_string().into()] {
            let call = Call::read(&message("80:/", &content)).expect("a call");
            assert_eq!((call.method.as_str(), call.body.as_slice(), call.headers["X-A"].as_slice()), ("POST", &b"hello"[..], &["1".to_owned()][..]));
        }
        for wrong in [json!("zzz"), json!(7), json!({ "body": "%" }), json!({ "header": { "X": 1 } })] {
            assert_eq!(Call::read(&message("80:/", &wrong)).expect_err("it makes no sense").status, 400, "{wrong}");
        }
    }

    #[test]
    fn nobody_adds_lines_to_a_request() {
        for wrong in [json!({ "method": "GET / HTTP/1.1\r\nX:" }), json!({ "header": { "X": ["a\r\nY: b"] } }), json!({ "header": { "X: y": ["a"] } })] {
            assert_eq!(Call::read(&message("80:/", &wrong)).expect_err("it makes no sense").status, 404, "{wrong}");
        }
        assert!(!place("80:/a\r\nX: y").expect("a path").2.contains('\r'));
    }

    #[test]
    fn questions_are_read_as_go_reads_them() {
        let question = Question::read(br#"{"METHOD":"POST","targeturl":"/my/url","payload":1}"#).expect("a question");
        assert_eq!((question.target.as_str(), question.content.get().starts_with("\"eyJ")), ("/my/url", true));
        assert_eq!(Question::read(b"{}").expect("a question").target, "");
        for wrong in [&b"nope"[..], b"", b"[]", br#"{"targetURL":7}"#] {
            assert_eq!(Question::read(wrong).expect_err("it makes no sense").text(), r#"{"body":"","code":400,"msg":"invalid params"}"#);
        }
    }

    #[test]
    fn what_the_cloud_says_is_text_whatever_it_is() {
        assert_eq!(Reply::answered(&string("hi")).body, "hi");
        assert_eq!(Reply::answered(&raw(&json!({"a": 1}))).body, r#"{"a":1}"#);
    }
}
