//! One message of the CloudHub link: a JSON object in one WebSocket text
//! message. Not the frames around it, nor what any content means.
//!
//! Source: KubeEdge's `beehive/pkg/core/model/message.go`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::resource::{Resource, kind};

/// A message as it travels: header, route and any JSON as content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// Identity and correlation.
    #[serde(default)]
    pub header: Header,
    /// Who says it, about what.
    #[serde(default)]
    pub route: Route,
    /// The payload, kept as text: it is parsed once, by whoever it is for.
    #[serde(default = "null")]
    pub content: Box<RawValue>,
}

/// Identity and correlation of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// A UUID; the key by which answers and acks find their message.
    pub msg_id: String,
    /// The message this one answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_msg_id: String,
    /// Creation time, milliseconds since the epoch; informational.
    pub timestamp: i64,
    /// Version of the object inside, set by the cloud on reliable messages.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resourceversion: String,
    /// Internal to Go agents, never true on the wire.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// Kind of channel inside Go agents; echoed when present.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

/// Sender, verb and object of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// Sender module; the cloud routes by it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Unused by the cloud.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// Target group; the cloud looks at it only for `user`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The verb.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// `NAMESPACE/TYPE/NAME` as the edge sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
}

/// Source of everything a kubelet would say.
pub const EDGED: &str = "edged";
/// Source of keepalives.
pub const WEBSOCKET: &str = "websocket";
/// Source of what the cloud's edge controller sends.
pub const EDGE_CONTROLLER: &str = "edgecontroller";
/// Source of what the cloud's device controller sends.
pub const DEVICE_CONTROLLER: &str = "devicecontroller";
/// Group of requests to the edge controller.
pub const META: &str = "meta";
/// Group of cluster objects.
pub const RESOURCE: &str = "resource";
/// Source of reports about devices, and group of what the cloud says of them.
pub const TWIN: &str = "twin";
/// Source of what users say by MQTT.
pub const BUS: &str = "bus";
/// Group of what users say and hear.
pub const USER: &str = "user";
/// Source of what rules publish and subscribe.
pub const ROUTER_BUS: &str = "router_eventbus";
/// Source of what rules ask of apps, and allow them.
pub const ROUTER_SERVICE: &str = "router_servicebus";
/// Source of what apps say.
pub const SERVICE: &str = "servicebus";

/// Types whose objects the cloud sends again when they change, once asked for.
const KEPT: [&str; 5] = [kind::CONFIG_MAP, kind::SECRET, "persistentvolume", "persistentvolumeclaim", "volumeattachment"];

/// Verbs of the protocol.
pub mod operation {
    /// A new object, or a request to create one.
    pub const INSERT: &str = "insert";
    /// A changed object; after an outage everything comes as this.
    pub const UPDATE: &str = "update";
    /// An object that is gone.
    pub const DELETE: &str = "delete";
    /// A question about one object.
    pub const QUERY: &str = "query";
    /// A merge patch, as a string.
    pub const PATCH: &str = "patch";
    /// An answer, or an ack.
    pub const RESPONSE: &str = "response";
    /// An answer of the dynamic controller.
    pub const APPLICATION_RESPONSE: &str = "applicationResponse";
    /// A failure told to the cloud, which only logs it.
    pub const ERROR: &str = "error";
    /// Something users say.
    pub const UPLOAD: &str = "upload";
    /// Something for a topic.
    pub const PUBLISH: &str = "publish";
    /// A rule wants a topic.
    pub const SUBSCRIBE: &str = "subscribe";
    /// And no longer.
    pub const UNSUBSCRIBE: &str = "unsubscribe";
    /// A rule lets apps ask for a target.
    pub const START: &str = "start";
    /// And no longer.
    pub const STOP: &str = "stop";
    /// The pulse of a session.
    pub const KEEPALIVE: &str = "keepalive";
}

impl Message {
    /// Reads one WebSocket text message.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        // Go decodes the first value and ignores the rest of the message.
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Self>();
        values.next().unwrap_or_else(|| serde_json::from_str(text))
    }

    /// The text to send.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and raw JSON always serialise")
    }

    /// The object the route names, if the string has the usual form.
    pub fn resource(&self) -> Option<Resource> {
        Resource::parse(&self.route.resource)
    }

    /// The ack of this message: a response with its source, group and resource.
    pub fn ack(&self, id: String, timestamp: i64) -> Self {
        Self {
            header: Header { msg_id: id, parent_msg_id: self.header.msg_id.clone(), timestamp, kind: self.header.kind.clone(), ..Header::default() },
            route: Route { operation: operation::RESPONSE.to_owned(), ..self.route.clone() },
            content: string("OK"),
        }
    }

    /// Whether the cloud waits for an ack before it sends the next object:
    /// objects, and answers that hold one it keeps the node informed of. A
    /// superfluous ack does no harm.
    ///
    /// Source: cloud-protocol.md 6.1.
    pub fn wants_ack(&self) -> bool {
        let kept = || self.resource().is_some_and(|resource| KEPT.contains(&resource.kind.as_str()));
        self.route.group == RESOURCE
            && match self.route.operation.as_str() {
                operation::INSERT | operation::UPDATE | operation::DELETE => true,
                operation::RESPONSE => kept(),
                _ => false,
            }
    }
}

/// JSON `null` as content.
pub fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// A JSON string as content.
pub fn string(text: &str) -> Box<RawValue> {
    raw(&text)
}

/// JSON that is written already, as content.
pub fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| null())
}

/// Any value as content.
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a value with string keys always serialises")
}
