//! `DeviceManagerService`: from a path and bytes to what the node is asked, and
//! from its answer to bytes.

use prost::Message;

use super::http2::Status;
use crate::node::dmi::{Ask, Refusal, Reply};
use crate::wire::dmi::{Nothing, manager};

/// What is asked.
pub fn ask(path: &str, message: &[u8]) -> Result<Ask, Status> {
    let garbled = |why: prost::DecodeError| Status { code: 3, message: format!("{path}: {why}") };
    match path {
        manager::MAPPER_REGISTER => Message::decode(message).map(Ask::Register).map_err(garbled),
        manager::REPORT_DEVICE_STATUS => Message::decode(message).map(Ask::ReportStatus).map_err(garbled),
        manager::REPORT_DEVICE_STATES => Message::decode(message).map(Ask::ReportStates).map_err(garbled),
        _ => Err(Status::unimplemented(format!("no such call: {path}"))),
    }
}

/// What is answered.
pub fn answer(answer: Result<Reply, Refusal>) -> Result<Vec<u8>, Status> {
    match answer {
        Ok(Reply::Registered(response)) => Ok(response.encode_to_vec()),
        Ok(Reply::Taken) => Ok(Nothing {}.encode_to_vec()),
        Err(refusal) => Err(Status { code: u32::from(refusal.code as u8), message: refusal.message }),
    }
}
