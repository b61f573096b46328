//! Requests to the API server that CloudCore's dynamicController passes on, and
//! its answers. One JSON object for both, as Go's `metaserver.Application`
//! writes it; what is `[]byte` there is base64 here.
//!
//! Source: cloud-protocol.md 7.7.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Source of the requests.
pub const METASERVER: &str = "metaserver";
/// Group of the requests, source of the answers.
pub const DYNAMIC_CONTROLLER: &str = "dynamiccontroller";
/// Operation and resource of a request: its content tells both.
pub const UNTOLD: &str = "null";
/// Resource of an answer.
pub const ANSWERED: &str = "ignore/Application/ignore";
/// What stands for a namespace or name that is not told.
pub const ANY: &str = "null";

/// A request, or with the last four members its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Application {
    /// Only a watch needs one that repeats.
    #[serde(rename = "ID")]
    pub id: String,
    /// `/GROUP/VERSION/RESOURCE/NAMESPACE/NAME`, group `core` for none.
    pub key: String,
    /// `get`, `list` and the like.
    pub verb: String,
    /// The node that asks.
    pub nodename: String,
    /// `ListOptions` and the like.
    pub option: Bytes,
    /// An object to create.
    pub req_body: Bytes,
    /// `status` and the like.
    pub subresource: String,
    /// The object or list.
    pub resp_body: Bytes,
    /// `InApplying`, then `Approved` or `Rejected`.
    pub status: String,
    /// Why it was rejected, when not by the API server.
    pub reason: String,
    /// Why the API server rejected it, in `ErrStatus`.
    pub error: Value,
    /// Of no use on the wire.
    pub timestamp: String,
}

impl Default for Application {
    fn default() -> Self {
        Self {
            id: String::new(),
            key: String::new(),
            verb: String::new(),
            nodename: String::new(),
            option: Bytes::default(),
            req_body: Bytes::default(),
            subresource: String::new(),
            resp_body: Bytes::default(),
            status: "InApplying".to_owned(),
            reason: String::new(),
            error: json!({ "ErrStatus": { "metadata": {} } }),
            timestamp: "0001-01-01T00:00:00Z".to_owned(),
        }
    }
}

/// JSON in Go's `[]byte`: base64, or null for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(Option<String>);

impl Bytes {
    /// A value as it travels.
    pub fn of(value: &Value) -> Self {
        Self(Some(STANDARD.encode(value.to_string())))
    }

    /// The value; `None` when there is none, or none that can be read.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&STANDARD.decode(self.0.as_ref()?).ok()?).ok()
    }
}

impl Application {
    /// Asks for all objects of a resource, in every namespace, with this field.
    pub fn list(id: String, node: &str, resource: &str, field: &str) -> Self {
        Self {
            id,
            key: format!("/core/v1/{resource}/{ANY}/{ANY}"),
            verb: "list".to_owned(),
            nodename: node.to_owned(),
            option: Bytes::of(&json!({ "fieldSelector": field })),
            ..Self::default()
        }
    }

    /// Asks for one object.
    pub fn get(id: String, node: &str, key: String) -> Self {
        Self { id, key, verb: "get".to_owned(), nodename: node.to_owned(), ..Self::default() }
    }

    /// The object of an answer, or why there is none.
    pub fn object(&self) -> Result<Value, String> {
        if self.status != "Approved" {
            let told = self.error["ErrStatus"]["message"].as_str().unwrap_or_default();
            return Err(format!("{}: {}", self.status, if told.is_empty() { &self.reason } else { told }));
        }
        self.resp_body.json().filter(Value::is_object).ok_or_else(|| "the answer is no object".to_owned())
    }

    /// The items of an answered list, or why there are none.
    pub fn items(&self) -> Result<Vec<Value>, String> {
        match self.object()?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            Some(_) | None => Err("the answer is no list".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_list_says_why() {
        let mut answer = Application { status: "Rejected".to_owned(), reason: "get current list error".to_owned(), ..Application::default() };
        assert_eq!(answer.items(), Err("Rejected: get current list error".to_owned()));
        answer.error["ErrStatus"]["message"] = "pods is forbidden".into();
        assert_eq!(answer.items(), Err("Rejected: pods is forbidden".to_owned()));
        for body in [Bytes::default(), Bytes(Some("!".into())), Bytes::of(&json!({ "items": 1 })), Bytes::of(&json!([]))] {
            assert!(Application { status: "Approved".to_owned(), resp_body: body, ..Application::default() }.items().is_err());
        }
    }
}
