//! Devices and their models, as mappers are told them.

use std::collections::BTreeMap;

use super::push::PushMethod;

/// A model.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceModel {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What its devices have.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<DeviceModelSpec>,
    /// Its namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// What devices of a model have.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceModelSpec {
    /// Their properties.
    #[prost(message, repeated, tag = "1")]
    pub properties: Vec<ModelProperty>,
}

/// A property of all devices of a model.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ModelProperty {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is, for people.
    #[prost(string, tag = "2")]
    pub description: String,
    /// `INT`, `FLOAT`, `DOUBLE`, `STRING`, `BOOLEAN`, `BYTES` or `STREAM`.
    #[prost(string, tag = "3")]
    pub r#type: String,
    /// `ReadWrite` or `ReadOnly`.
    #[prost(string, tag = "4")]
    pub access_mode: String,
    /// Least value; empty for none.
    #[prost(string, tag = "5")]
    pub minimum: String,
    /// Greatest value; empty for none.
    #[prost(string, tag = "6")]
    pub maximum: String,
    /// Its unit, for people.
    #[prost(string, tag = "7")]
    pub unit: String,
}

/// A device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Device {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What is wished of it.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<DeviceSpec>,
    /// How its state is reported.
    #[prost(message, optional, tag = "3")]
    pub status: Option<DeviceStatus>,
    /// Its namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
}

/// What is wished of a device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeviceSpec {
    /// Name of its model, in the same namespace.
    #[prost(string, tag = "1")]
    pub device_model_reference: String,
    /// How it is reached.
    #[prost(message, optional, tag = "2")]
    pub protocol: Option<Config>,
    /// Its properties.
    #[prost(message, repeated, tag = "3")]
    pub properties: Vec<DeviceProperty>,
    /// What can be done to it.
    #[prost(message, repeated, tag = "4")]
    pub methods: Vec<DeviceMethod>,
}

/// Something that can be done to a device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceMethod {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is, for people.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Properties it sets.
    #[prost(string, repeated, tag = "3")]
    pub property_names: Vec<String>,
}

/// A property of a device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeviceProperty {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value it shall have.
    #[prost(message, optional, tag = "2")]
    pub desired: Option<TwinProperty>,
    /// Where it is found on the device.
    #[prost(message, optional, tag = "3")]
    pub visitors: Option<Config>,
    /// Between reports, milliseconds.
    #[prost(int64, tag = "4")]
    pub report_cycle: i64,
    /// Between readings, milliseconds.
    #[prost(int64, tag = "5")]
    pub collect_cycle: i64,
    /// Readings go to the cloud.
    #[prost(bool, tag = "6")]
    pub report_to_cloud: bool,
    /// Where else readings go.
    #[prost(message, optional, tag = "7")]
    pub push_method: Option<PushMethod>,
}

/// Settings of a protocol: of a device (`ProtocolConfig`) or of one of its
/// properties (`VisitorConfig`); both have the same shape.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Config {
    /// Name of the protocol.
    #[prost(string, tag = "1")]
    pub protocol_name: String,
    /// Its settings.
    #[prost(message, optional, tag = "2")]
    pub config_data: Option<Settings>,
}

/// Settings by name (`CustomizedValue` and `AnomalyDetection`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Settings {
    /// Each a wrapped value.
    #[prost(btree_map = "string, message", tag = "1")]
    pub data: BTreeMap<String, Any>,
}

/// A message of any type, `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Any {
    /// Its type.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// What a device says of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeviceStatus {
    /// Its values.
    #[prost(message, repeated, tag = "1")]
    pub twins: Vec<Twin>,
    /// Its state goes to the cloud.
    #[prost(bool, tag = "2")]
    pub report_to_cloud: bool,
    /// Between reports of the state, milliseconds.
    #[prost(int64, tag = "3")]
    pub report_cycle: i64,
}

/// A property as it is and as the mapper believes it shall be.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Twin {
    /// Its name.
    #[prost(string, tag = "1")]
    pub property_name: String,
    /// The value it shall have.
    #[prost(message, optional, tag = "2")]
    pub observed_desired: Option<TwinProperty>,
    /// The value it has.
    #[prost(message, optional, tag = "3")]
    pub reported: Option<TwinProperty>,
}

/// A value, and what is known about it: `timestamp`, `type`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TwinProperty {
    /// The value.
    #[prost(string, tag = "1")]
    pub value: String,
    /// What is known about it.
    #[prost(btree_map = "string, string", tag = "2")]
    pub metadata: BTreeMap<String, String>,
}
