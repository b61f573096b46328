//! What mappers ask of the edge, and what the edge asks of mappers. All calls
//! are unary.

use super::device::{Device, DeviceModel, DeviceStatus};

/// Calls a mapper makes, `DeviceManagerService`.
pub mod manager {
    /// A mapper says where it is and for which protocol.
    pub const MAPPER_REGISTER: &str = "/v1beta1.DeviceManagerService/MapperRegister";
    /// Values of a device.
    pub const REPORT_DEVICE_STATUS: &str = "/v1beta1.DeviceManagerService/ReportDeviceStatus";
    /// How a device is.
    pub const REPORT_DEVICE_STATES: &str = "/v1beta1.DeviceManagerService/ReportDeviceStates";
}

/// Calls a mapper takes, `DeviceMapperService`.
pub mod mapper {
    /// A device is new to it.
    pub const REGISTER_DEVICE: &str = "/v1beta1.DeviceMapperService/RegisterDevice";
    /// A device is another.
    pub const UPDATE_DEVICE: &str = "/v1beta1.DeviceMapperService/UpdateDevice";
    /// A device is gone.
    pub const REMOVE_DEVICE: &str = "/v1beta1.DeviceMapperService/RemoveDevice";
    /// A model is new to it.
    pub const CREATE_DEVICE_MODEL: &str = "/v1beta1.DeviceMapperService/CreateDeviceModel";
    /// A model is another.
    pub const UPDATE_DEVICE_MODEL: &str = "/v1beta1.DeviceMapperService/UpdateDeviceModel";
    /// A model is gone.
    pub const REMOVE_DEVICE_MODEL: &str = "/v1beta1.DeviceMapperService/RemoveDeviceModel";
}

/// Who a mapper is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MapperInfo {
    /// Its name, unique on the node.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version, for people.
    #[prost(string, tag = "2")]
    pub version: String,
    /// Version of the interface it speaks, for people.
    #[prost(string, tag = "3")]
    pub api_version: String,
    /// The protocol of its devices.
    #[prost(string, tag = "4")]
    pub protocol: String,
    /// Path of its unix socket, as text.
    #[prost(bytes = "vec", tag = "5")]
    pub address: Vec<u8>,
    /// How it is, in its own words.
    #[prost(string, tag = "6")]
    pub state: String,
}

/// A mapper says where it is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MapperRegisterRequest {
    /// The answer shall have its devices and their models.
    #[prost(bool, tag = "1")]
    pub with_data: bool,
    /// Who it is.
    #[prost(message, optional, tag = "2")]
    pub mapper: Option<MapperInfo>,
}

/// What it takes care of.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MapperRegisterResponse {
    /// Models of the devices, each once.
    #[prost(message, repeated, tag = "1")]
    pub model_list: Vec<DeviceModel>,
    /// Its devices.
    #[prost(message, repeated, tag = "2")]
    pub device_list: Vec<Device>,
}

/// Values of a device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportDeviceStatusRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub device_name: String,
    /// The values.
    #[prost(message, optional, tag = "2")]
    pub reported_device: Option<DeviceStatus>,
    /// Its namespace.
    #[prost(string, tag = "3")]
    pub device_namespace: String,
}

/// How a device is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ReportDeviceStatesRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub device_name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub device_namespace: String,
    /// One word: `ok`, `online`, `offline`, `unhealthy`, `unknown`.
    #[prost(string, tag = "3")]
    pub state: String,
}

/// Registers or updates a device; both requests have the same shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeviceRequest {
    /// The device.
    #[prost(message, optional, tag = "1")]
    pub device: Option<Device>,
}

/// Creates or updates a model; both requests have the same shape.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceModelRequest {
    /// The model.
    #[prost(message, optional, tag = "1")]
    pub model: Option<DeviceModel>,
}

/// Names a device or a model; the requests that remove either have the same
/// shape.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NameRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
}

/// Any reply whose content does not matter.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Nothing {}
