//! `DeviceManagerService`: from a path and bytes to what the node is asked, and
//! from its answer to bytes.

use prost::Message;

use super::http2::Status;
use crate::host::grpc;
use crate::node::dmi::{Ask, Refusal, Reply};
use crate::wire::dmi::{Nothing, manager};

/// What is asked.
pub fn ask(path: &str, message: &[u8]) -> Result<Ask, Status> {
    let garbled = |why: prost::DecodeError| Status { code: 3, message: format!("{path}: {why}") };
    match path {
        manager::MAPPER_REGISTER => Message::decode(message).map(Ask::Register).map_err(garbled),
        manager::REPORT_DEVICE_STATUS => {
            are_few(message)?;
            Message::decode(message).map(Ask::ReportStatus).map_err(garbled)
        }
        manager::REPORT_DEVICE_STATES => Message::decode(message).map(Ask::ReportStates).map_err(garbled),
        _ => Err(Status::unimplemented(format!("no such call: {path}"))),
    }
}

/// Twins of a report. A Device object of the cluster's largest size has fewer.
const MAX_TWINS: usize = 20_000;
/// Entries of all `metadata` of a report; mappers send two for each value.
const MAX_METADATA: usize = 80_000;

/// Two bytes of a message are a twin of two hundred: they are counted before any is
/// made.
fn are_few(message: &[u8]) -> Result<(), Status> {
    const TWINS: [&[u32]; 2] = [&[2], &[1]];
    const METADATA: [&[u32]; 4] = [&[2], &[1], &[2, 3], &[2]];
    let limits = [("twins", &TWINS[..], MAX_TWINS), ("twins[].*.metadata entries", &METADATA[..], MAX_METADATA)];
    for (field, path, most) in limits {
        let found = grpc::count_fields(message, path);
        if found > most {
            return Err(Status::exhausted(format!("reportedDevice.{field}: {found}; at most {most} are taken")));
        }
    }
    Ok(())
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

    #[test]
    fn a_report_of_empty_twins_is_refused_before_they_are_made() {
        let report = |twins: usize, each: &[u8]| {
            let twins = [&[0x0a, u8::try_from(each.len()).expect("short")], each].concat().repeat(twins);
            let length = [twins.len() & 0x7f | 0x80, twins.len() >> 7 & 0x7f | 0x80, twins.len() >> 14 & 0x7f | 0x80, twins.len() >> 21];
            let length = length.map(|part| u8::try_from(part).expect("seven bits"));
            [&[0x12], &length[..], &twins].concat()
        };
        let refused = |message: &[u8]| ask(manager::REPORT_DEVICE_STATUS, message).expect_err("too many").message;
        // 4 MiB, which were 350 MB of structs.
        assert_eq!(refused(&report(2 << 20, &[])), "reportedDevice.twins: 2097152; at most 20000 are taken");
        let entries = [[0x12, 0].repeat(30)].concat();
        let twin = [&[0x1a, 60], &entries[..]].concat();
        assert_eq!(refused(&report(10_000, &twin)), "reportedDevice.twins[].*.metadata entries: 300000; at most 80000 are taken");
        let taken = ask(manager::REPORT_DEVICE_STATUS, &report(20_000, &[])).expect("just so many");
        let Ask::ReportStatus(request) = taken else { panic!("{taken:?}") };
        assert_eq!(request.reported_device.map(|device| device.twins.len()), Some(20_000));
    }

    fn unhex(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex")).collect()
    }
}
