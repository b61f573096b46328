//! The router's part of the cloud: messages to the node's broker and apps, and
//! what comes up from them. Lost when the node is away; nobody confirms them.
//!
//! Source: devices.md 1.6 and 6.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::wire::message::{Header, Message, Route, SERVICE, USER, operation, raw, string};

/// Uploads that are kept.
const UPLOADS: usize = 100;
/// And how large they may be in total, bytes of JSON.
const SIZE: usize = 1 << 20;
/// A larger content is not kept, only how large it was.
const LARGEST: usize = SIZE / 4;

/// What is said to a node by rules.
#[derive(Debug, Deserialize)]
pub struct Saying {
    /// `router_eventbus` or `router_servicebus`.
    pub source: String,
    /// What to do.
    pub operation: String,
    /// A topic, a target.
    pub resource: String,
    /// A payload, or nothing.
    #[serde(default)]
    pub content: Value,
}

impl Saying {
    /// As it travels.
    pub fn message(self, id: String, wall: i64) -> Message {
        let Self { source, operation, resource, content } = self;
        Message {
            header: Header { msg_id: id, timestamp: wall, ..Header::default() },
            route: Route { source, group: USER.to_owned(), operation, resource, ..Route::default() },
            content: raw(&content),
        }
    }
}

/// What an app that asks the cloud is answered: a Rule would ask a server.
pub fn answer(id: String, wall: i64, message: &Message) -> Option<Message> {
    let asked = message.route.source == SERVICE && message.header.parent_msg_id.is_empty();
    asked.then(|| Message {
        header: Header { msg_id: id, parent_msg_id: message.header.msg_id.clone(), timestamp: wall, ..Header::default() },
        route: Route { operation: operation::RESPONSE.to_owned(), ..message.route.clone() },
        content: string(&format!("the stand-in heard it for {}", message.route.resource)),
    })
}

/// The newest messages that came up.
#[derive(Debug, Default)]
pub struct Uploads {
    kept: VecDeque<Value>,
    size: usize,
}

impl Uploads {
    /// Whether a message is one of them.
    pub fn are(message: &Message) -> bool {
        message.route.group == USER && message.route.operation == operation::UPLOAD
    }

    /// Keeps one; the oldest make room.
    pub fn keep(&mut self, wall: i64, node: &str, message: &Message) {
        let content = match message.content.get() {
            long if long.len() > LARGEST => format!("{} bytes, too many to be kept", long.len()).into(),
            text => serde_json::from_str::<Value>(text).unwrap_or_default(),
        };
        let Route { source, resource, .. } = &message.route;
        let upload = json!({ "at": wall, "node": node, "source": source, "resource": resource, "parent": message.header.parent_msg_id, "content": content });
        self.size += upload.to_string().len();
        self.kept.push_back(upload);
        while self.kept.len() > UPLOADS || self.size > SIZE {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.size -= oldest.to_string().len();
        }
    }

    /// All that are kept, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Value> {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_app_that_asks_is_answered() {
        let mut message = Saying { source: SERVICE.to_owned(), operation: operation::UPLOAD.to_owned(), resource: "/x".to_owned(), content: Value::Null }
            .message("1".to_owned(), 0);
        let answer = answer("2".to_owned(), 0, &message).expect("it asks");
        assert_eq!((answer.header.parent_msg_id.as_str(), answer.route.operation.as_str()), ("1", operation::RESPONSE));
        message.header.parent_msg_id = "0".to_owned();
        assert!(self::answer("2".to_owned(), 0, &message).is_none(), "it answers a call");
    }

    #[test]
    fn uploads_are_bounded_in_number_and_bytes() {
        let mut uploads = Uploads::default();
        let saying = |content: Value| Saying { source: "bus".to_owned(), operation: operation::UPLOAD.to_owned(), resource: "t".to_owned(), content };
        let small = saying("x".into()).message("1".to_owned(), 0);
        assert!(Uploads::are(&small));
        (0..150).for_each(|at| uploads.keep(at, "n", &small));
        assert_eq!((uploads.iter().count(), uploads.iter().next().expect("some")["at"].as_i64()), (UPLOADS, Some(50)));
        (150..155).for_each(|at| uploads.keep(at, "n", &saying("y".repeat(LARGEST - 2).into()).message("2".to_owned(), 0)));
        assert_eq!(uploads.iter().map(|upload| upload["at"].as_i64().unwrap_or_default()).collect::<Vec<_>>(), [152, 153, 154]);
        uploads.keep(155, "n", &saying("y".repeat(SIZE).into()).message("3".to_owned(), 0));
        assert_eq!(uploads.iter().last().expect("some")["content"], "1048578 bytes, too many to be kept");
    }
}
