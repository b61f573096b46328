//! Why the cloud was asked something: what the node wants to know again when
//! the answer comes.

use std::rc::Rc;

use serde_json::Value;

use super::ids::{ExchangeId, MsgId, PodUid};
use super::packed::Packed;
use super::pod::render::TokenRequest;
use super::requests::RequestKey;
use super::store::Sequence;
use super::twin::Sent;

/// Why the cloud was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Purpose {
    /// To create the Node object.
    NodeInsert,
    /// To read it.
    NodeQuery,
    /// To set its labels.
    NodeLabels,
    /// To report its status.
    NodeStatus {
        /// The whole status that the patch leads to.
        sent: Value,
    },
    /// To read the lease.
    LeaseQuery,
    /// To create it.
    LeaseInsert,
    /// To renew it.
    LeaseUpdate,
    /// To report a pod's status.
    PodStatus {
        /// Whose.
        uid: PodUid,
        /// The whole status that the patch leads to.
        sent: Packed,
        /// It was the last word: everything of the pod had stopped.
        ended: bool,
    },
    /// To learn of a pod that only the runtime knows.
    Orphan(PodUid),
    /// To learn of all pods of this node.
    PodList,
    /// To delete a pod's object.
    PodDelete(PodUid),
    /// To have an object, by its name on the wire.
    Object(String),
    /// To have a device model, by `NAMESPACE/NAME`.
    DeviceModel(Rc<str>),
    /// To have a token.
    Token(TokenRequest),
    /// To report of a device.
    DeviceReport(Sent),
    /// To know that all uploads up to one have arrived.
    Proof(Sequence),
    /// An app wants to know.
    App {
        /// Its question.
        id: ExchangeId,
        /// The message that asks.
        by: MsgId,
    },
}

impl Purpose {
    /// It is about the Node object or its lease.
    pub fn is_of_node(&self) -> bool {
        match self {
            Self::NodeInsert | Self::NodeQuery | Self::NodeLabels | Self::NodeStatus { .. } | Self::LeaseQuery | Self::LeaseInsert | Self::LeaseUpdate => true,
            Self::PodStatus { .. }
            | Self::Orphan(_)
            | Self::PodList
            | Self::PodDelete(_)
            | Self::Object(_)
            | Self::DeviceModel(_)
            | Self::Token(_)
            | Self::DeviceReport(_)
            | Self::Proof(_)
            | Self::App { .. } => false,
        }
    }

    /// The request to repeat when it brings nothing; none for those that are
    /// repeated by a plan of their own, or not at all.
    pub fn key(&self) -> Option<RequestKey> {
        match self {
            Self::PodStatus { uid, .. } => Some(RequestKey::PodStatus(uid.clone())),
            Self::PodDelete(uid) => Some(RequestKey::PodDelete(uid.clone())),
            Self::Orphan(uid) => Some(RequestKey::Orphan(uid.clone())),
            Self::Object(name) => Some(RequestKey::Object(name.clone())),
            Self::Token(request) => Some(RequestKey::Token(request.clone())),
            Self::NodeInsert
            | Self::NodeQuery
            | Self::NodeLabels
            | Self::NodeStatus { .. }
            | Self::LeaseQuery
            | Self::LeaseInsert
            | Self::LeaseUpdate
            | Self::PodList
            | Self::DeviceModel(_)
            | Self::DeviceReport(_)
            | Self::Proof(_)
            | Self::App { .. } => None,
        }
    }
}
