//! Calls to a mapper, each on a connection of its own, as mappers know it from
//! EdgeCore: they are rare, and a mapper may be gone in between.

use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;
use smol::net::unix::UnixStream;

use crate::host::grpc::{Channel, Code, Error, Peer};
use crate::host::tasks::Executor;
use crate::node::dmi::{Call, MapperFailure};
use crate::wire::dmi::{DeviceModelRequest, DeviceRequest, Nothing, mapper};

/// Carries out one call.
pub async fn carry_out(socket: &str, what: Call, limit: Duration, executor: &Executor) -> Result<(), MapperFailure> {
    let channel = Channel::new(Peer { name: "mapper", socket: socket.into() }, executor);
    let (one, of) = (|device| DeviceRequest { device: Some(device) }, |model| DeviceModelRequest { model: Some(model) });
    let answer: Result<Nothing, Error> = match what {
        Call::Probe => return probe(socket, limit).await,
        Call::RegisterDevice(device) => channel.call(mapper::REGISTER_DEVICE, &one(device), limit).await,
        Call::UpdateDevice(device) => channel.call(mapper::UPDATE_DEVICE, &one(device), limit).await,
        Call::RemoveDevice(name) => channel.call(mapper::REMOVE_DEVICE, &name, limit).await,
        Call::CreateDeviceModel(model) => channel.call(mapper::CREATE_DEVICE_MODEL, &of(model), limit).await,
        Call::UpdateDeviceModel(model) => channel.call(mapper::UPDATE_DEVICE_MODEL, &of(model), limit).await,
        Call::RemoveDeviceModel(name) => channel.call(mapper::REMOVE_DEVICE_MODEL, &name, limit).await,
    };
    answer.map(drop).map_err(failure)
}

async fn probe(socket: &str, limit: Duration) -> Result<(), MapperFailure> {
    let late = async {
        Timer::after(limit).await;
        Err(MapperFailure::Silent(format!("the mapper at '{socket}' takes no connection within {} s", limit.as_secs_f32())))
    };
    let dial = async {
        UnixStream::connect(socket).await.map(drop).map_err(|why| MapperFailure::Unreachable(format!("cannot reach the mapper at '{socket}': {why}")))
    };
    or(dial, late).await
}

fn failure(error: Error) -> MapperFailure {
    let words = error.to_string();
    match error {
        Error::Unreachable { .. } => MapperFailure::Unreachable(words),
        Error::Broken { .. } | Error::TimedOut { .. } | Error::Garbled { .. } => MapperFailure::Silent(words),
        Error::Refused { code: Code::UNAVAILABLE | Code::DEADLINE_EXCEEDED | Code::RESOURCE_EXHAUSTED | Code::ABORTED, .. } => MapperFailure::Silent(words),
        Error::Refused { code, .. } => MapperFailure::Refused { code: code.0, message: words },
    }
}
