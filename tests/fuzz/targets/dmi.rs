//! HTTP/2 of mappers, what they ask by it, and messages that are read again as
//! they were written.

use bytes::BytesMut;
use prost::Message;
use selvedge::dmi::http2::{Budget, Connection, MAX_MESSAGE};
use selvedge::dmi::rpc;
use selvedge::node::dmi::Reply;
use selvedge::wire::dmi;

/// What unfinished requests may hold.
const BUDGET: usize = 1 << 20;

/// The first byte says in which pieces the rest comes.
pub fn dmi(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let budget = Budget::new(BUDGET);
    let mut connection = Connection::new(budget.clone());
    for piece in data.chunks(usize::from(*first) + 1) {
        connection.take(piece);
        while let Some(request) = connection.poll() {
            assert!(request.message.len() <= MAX_MESSAGE);
            match rpc::ask(&request.path, &request.message) {
                Ok(_) => connection.answer(request.stream, rpc::answer(Ok(Reply::Taken))),
                Err(status) => connection.answer(request.stream, Err(status)),
            }
        }
        let output = connection.output();
        assert!(output.len() <= (64 << 10) + 40 * data.len() + 1024, "{} bytes for {}", output.len(), data.len());
        BytesMut::clear(output);
        if connection.is_over() {
            break;
        }
    }
    drop(connection);
    assert_eq!(budget.left(), BUDGET, "what was given up is given back");
    for path in [dmi::manager::MAPPER_REGISTER, dmi::manager::REPORT_DEVICE_STATUS, dmi::manager::REPORT_DEVICE_STATES] {
        let _ = rpc::ask(path, data);
    }
    if let Ok(device) = dmi::Device::decode(data) {
        assert!(dmi::Device::decode(&device.encode_to_vec()[..]) == Ok(device));
    }
    if let Ok(model) = dmi::DeviceModel::decode(data) {
        assert!(dmi::DeviceModel::decode(&model.encode_to_vec()[..]) == Ok(model));
    }
    if let Some((device, model)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) {
        let tree = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
        let (device, model) = (tree(device), tree(model));
        let _ = dmi::device(&device, &model);
        let _ = dmi::model(&model);
    }
}
