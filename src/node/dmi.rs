//! What the node asks of the shell `dmi`, and what it hears by it: mappers'
//! questions and the answers to them, calls to mappers and how they ended.

use super::ids::{CallId, MapperName};
use crate::wire::dmi::{Device, DeviceModel, MapperRegisterRequest, MapperRegisterResponse, NameRequest, ReportDeviceStatesRequest, ReportDeviceStatusRequest};

/// What a mapper asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// It says where it is.
    Register(MapperRegisterRequest),
    /// Values of a device.
    ReportStatus(ReportDeviceStatusRequest),
    /// How a device is.
    ReportStates(ReportDeviceStatesRequest),
}

/// The answer to a mapper.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It is known now, and this is what it takes care of.
    Registered(MapperRegisterResponse),
    /// Its report was taken.
    Taken,
}

/// Why a mapper does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of reason.
    pub code: Code,
    /// The reason, with the field.
    pub message: String,
}

/// Kinds of reasons, by gRPC's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A field is missing or makes no sense.
    InvalidArgument = 3,
    /// There is no such device.
    NotFound = 5,
    /// It asks too often, or there are too many.
    ResourceExhausted = 8,
    /// Not now.
    Unavailable = 14,
}

impl Refusal {
    /// A field is missing or makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into() }
    }
}

/// Something for the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The answer to what a mapper asked.
    Answer(CallId, Result<Reply, Refusal>),
    /// A call to a mapper. At most one is under way for each.
    Call {
        /// Its number; the end of the call has the same.
        call: CallId,
        /// To whom.
        mapper: MapperName,
        /// Path of its unix socket.
        socket: String,
        /// What.
        what: Box<Call>,
    },
}

/// What is asked of a mapper.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A device is new to it.
    RegisterDevice(Device),
    /// A device is another.
    UpdateDevice(Device),
    /// A device is not its any longer.
    RemoveDevice(NameRequest),
    /// A model is new to it.
    CreateDeviceModel(DeviceModel),
    /// A model is another.
    UpdateDeviceModel(DeviceModel),
    /// A model is not needed any longer.
    RemoveDeviceModel(NameRequest),
    /// Whether somebody listens at its socket; no call is made.
    Probe,
}

/// How a call to a mapper failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapperFailure {
    /// Nobody listens at its socket: it did not hear of the call.
    Unreachable(String),
    /// No answer, or none now: whether the call took effect is not known.
    Silent(String),
    /// It says no.
    Refused {
        /// gRPC's number.
        code: u32,
        /// Its words.
        message: String,
    },
}

impl MapperFailure {
    /// It has no such call, `UNIMPLEMENTED`.
    pub const UNIMPLEMENTED: u32 = 12;
    /// It knows no such thing, `NOT_FOUND`.
    pub const NOT_FOUND: u32 = 5;
}

impl std::fmt::Display for MapperFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Silent(why) | Self::Refused { message: why, .. } => f.write_str(why),
        }
    }
}
