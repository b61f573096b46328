//! Everything that can wake the node: a closed list.

use super::ids::{AskId, CallId, ContainerId, ExchangeId, OpId, PodKey, PodUid, Session, Ticket};
use super::runtime::{Failure, ImageSeen, Outcome, PodSeen, ProbeKind, ProbeResult, RuntimeInfo};
use super::service::Called;
use crate::wire::message::Message;
use crate::wire::servicebus::Question;

/// Something happened.
#[derive(Debug)]
pub enum Input {
    /// A batch is on disk.
    Stored(Ticket),
    /// The disk takes nothing at the moment, and why; or it does again. No
    /// batch is lost meanwhile: the shell keeps them and tries again.
    StoreHealth(Result<(), String>),

    /// The WebSocket is open; whether the session lives is not known yet.
    LinkUp(Session),
    /// The WebSocket or the attempt to open it ended.
    LinkDown {
        /// Which, also for an attempt that got none.
        session: Session,
        /// How.
        end: LinkEnd,
    },
    /// A message came.
    Received(Session, Box<Message>),
    /// Something came that is no message; the link stays.
    Garbled(Session, String),
    /// The runtime is reached, or says something new about itself.
    RuntimeUp(RuntimeInfo),
    /// The runtime cannot be reached.
    RuntimeDown(String),
    /// All pods in the runtime; what is not here is gone.
    Relisted(Vec<PodSeen>),
    /// Pods that have directories on this machine: told once, after the first
    /// look at the runtime. The name is empty where only the uid is known.
    Directories(Vec<(PodUid, PodKey)>),
    /// One pod in the runtime as it is now.
    Seen(PodSeen),
    /// All images in the runtime.
    Images(Vec<ImageSeen>),
    /// An op ended.
    Done {
        /// Which.
        op: OpId,
        /// For which pod.
        pod: PodUid,
        /// How.
        result: Result<Outcome, Failure>,
        /// The pod as the runtime shows it right after, if it could be asked.
        seen: Option<PodSeen>,
    },
    /// A probe was answered.
    Probed {
        /// For which pod.
        pod: PodUid,
        /// Where.
        container: ContainerId,
        /// Which.
        kind: ProbeKind,
        /// How.
        result: ProbeResult,
    },

    /// The broker is reached, and knows none of our subscriptions of before
    /// unless it `kept` them.
    BusUp {
        /// It kept the session.
        kept: bool,
    },
    /// The broker cannot be reached.
    BusDown(String),
    /// A message came by the broker.
    Published(super::bus::Publication),

    /// An app asks the cloud something.
    ServiceAsked {
        /// The shell's number for it.
        id: ExchangeId,
        /// What.
        question: Question,
    },
    /// A call of the cloud to an app ended.
    ServiceAnswered {
        /// Which.
        id: ExchangeId,
        /// How.
        called: Called,
    },

    /// A mapper asks.
    MapperAsked(CallId, super::dmi::Ask),
    /// A call to a mapper ended.
    MapperAnswered(CallId, Result<(), super::dmi::MapperFailure>),

    /// What pods use.
    Usage(Vec<super::runtime::PodUsage>),
    /// The machine: capacity, addresses, pressure.
    Facts(Box<super::machine::Facts>),
    /// Somebody asks locally.
    Asked(AskId, Ask),
    /// The agent shall end. Pods stay.
    Stop,
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// The cloud's host refused the connection: it is there, CloudHub is not.
    Refused(String),
    /// Nobody answered the dial.
    Unreachable(String),
    /// The cloud closed it, or the network lost it.
    Closed(String),
    /// A message was larger than we take.
    TooLarge(String),
    /// We hung up ourselves.
    HungUp,
    /// There is no certificate, or it cannot be used.
    Unusable(String),
}

impl Ask {
    /// Whether it changes something: not everybody who may ask may do that.
    pub fn is_write(&self) -> bool {
        match self {
            Self::SetTwin { .. } => true,
            Self::Status | Self::Get { .. } | Self::DescribePod { .. } | Self::DescribeDevice { .. } | Self::WatchDevice { .. } | Self::LogOf { .. } => false,
        }
    }
}

/// A question asked on the local control socket.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// How is the agent.
    Status,
    /// Objects of a type: `node`, `pods`, `configmaps`, `secrets`, `devices`, `mappers`.
    Get {
        /// The type.
        kind: String,
    },
    /// One pod, told at length.
    DescribePod {
        /// `NAMESPACE/NAME`, or a name in `default`.
        pod: String,
    },
    /// One device, told at length.
    DescribeDevice {
        /// `NAMESPACE/NAME`, or a name in `default`.
        device: String,
    },
    /// Wish a value.
    SetTwin {
        /// `NAMESPACE/NAME`, or a name in `default`.
        device: String,
        /// Which property.
        property: String,
        /// What it shall be.
        value: String,
    },
    /// The same as `DescribeDevice`, answered once the device differs from what
    /// was seen, or after a while.
    WatchDevice {
        /// `NAMESPACE/NAME`, or a name in `default`.
        device: String,
        /// Number of the change that was seen.
        seen: u64,
    },
    /// Where a container's log is.
    LogOf {
        /// `NAMESPACE/NAME`, or a name in `default`.
        pod: String,
        /// The container; the only one when empty.
        container: String,
        /// The one before.
        previous: bool,
    },
}
