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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::Value;

    use super::super::http2::{Budget, Connection};
    use super::*;

    /// What Go's mapper-framework sent, and what it asked by that.
    #[test]
    fn a_real_mapper_is_understood() {
        let recorded: Value = serde_json::from_str(include_str!("../../tests/data/go-mapper.json")).expect("JSON");
        let mut asked = Vec::new();
        for chunks in recorded["connections"].as_array().expect("a list") {
            let mut connection = Connection::new(Budget::new(1 << 20));
            for chunk in chunks.as_array().expect("a list") {
                connection.take(&unhex(chunk.as_str().expect("text")));
                while let Some(request) = connection.poll() {
                    asked.push(ask(&request.path, &request.message).expect("it asks"));
                    connection.answer(request.stream, answer(Ok(Reply::Taken)));
                }
                BytesMut::clear(connection.output());
            }
            assert_eq!(connection.fault(), None);
        }
        let [Ask::Register(register), Ask::ReportStatus(status), Ask::ReportStates(states), Ask::ReportStatus(empty)] = &asked[..] else { panic!("{asked:?}") };
        let mapper = register.mapper.as_ref().expect("a mapper");
        assert!(register.with_data && mapper.name == "modbus-mapper" && mapper.protocol == "modbus" && mapper.address == b"/tmp/kubeedge/mapper.sock");
        let twin = &status.reported_device.as_ref().expect("values").twins[0];
        assert_eq!((twin.property_name.as_str(), twin.reported.as_ref().map(|part| part.value.as_str())), ("temp", Some("25")));
        assert_eq!(twin.reported.as_ref().and_then(|part| part.metadata.get("type")).map(String::as_str), Some("int"));
        assert_eq!((states.device_namespace.as_str(), states.device_name.as_str(), states.state.as_str()), ("default", "dev1", "ok"));
        assert_eq!(empty.reported_device, None);
    }

    fn unhex(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex")).collect()
    }
}
