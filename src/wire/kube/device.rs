//! Devices and their models, as far as twins need them.
//!
//! Source: devices.kubeedge.io/v1beta1, devices.md 3.1.

use serde::Deserialize;

use super::ObjectMeta;

/// A Device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What is wished.
    pub spec: DeviceSpec,
}

/// What is wished of a device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeviceSpec {
    /// Its model, in the same namespace.
    pub device_model_ref: ModelRef,
    /// Its properties.
    pub properties: Vec<DeviceProperty>,
}

/// Name of a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ModelRef {
    /// The name.
    pub name: String,
}

/// A property of a device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceProperty {
    /// Its name.
    pub name: String,
    /// The value it shall have, if any is wished.
    pub desired: Option<Desired>,
}

/// A value that is wished.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Desired {
    /// The value.
    pub value: String,
}

/// A DeviceModel.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceModel {
    /// The metadata.
    pub metadata: ObjectMeta,
    /// What devices of it have.
    pub spec: DeviceModelSpec,
}

/// What devices of a model have.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DeviceModelSpec {
    /// Their properties.
    pub properties: Vec<ModelProperty>,
}

/// A property of all devices of a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ModelProperty {
    /// Its name.
    pub name: String,
    /// `INT`, `FLOAT`, `DOUBLE`, `STRING`, `BOOLEAN`, `BYTES` or `STREAM`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `ReadWrite` or `ReadOnly`.
    pub access_mode: String,
    /// Least value that may be wished; empty for none.
    pub minimum: String,
    /// Greatest value that may be wished; empty for none.
    pub maximum: String,
}
