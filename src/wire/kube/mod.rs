//! The Kubernetes objects the agent reads, as far as it reads them.
//!
//! Objects are kept as the JSON the cloud sent; these types are a view of it.
//! Fields the agent does not support are listed as [`Unsupported`], so that a
//! pod that needs one is refused by the field's name instead of half obeyed.
//!
//! Source: Kubernetes API reference, core/v1.

mod affinity;
mod container;
mod device;
mod meta;
mod pod;
mod security;
mod volume;

pub use affinity::*;
pub use container::*;
pub use device::*;
pub use meta::*;
pub use pod::*;
pub use security::*;
pub use volume::*;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads an object; the error names the field, `spec.containers[0].image`.
///
/// Go writes `null` for what is empty, so nulls are absence here.
pub fn read<T: DeserializeOwned>(json: &str) -> Result<T, Malformed> {
    let mut value: Value = serde_json::from_str(json).map_err(|why| Malformed { field: String::new(), why: why.to_string() })?;
    drop_nulls(&mut value);
    from_value(value)
}

/// Reads an object that is already parsed and free of nulls.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Malformed> {
    serde_path_to_error::deserialize(value).map_err(|error| Malformed { field: error.path().to_string(), why: error.inner().to_string() })
}

/// Removes every null member, however deep.
pub fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", if self.field.is_empty() { "." } else { &self.field }, self.why)
    }
}

impl std::error::Error for Malformed {}

/// A field that is there although the agent has no support for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A port or a target written as a number or as a name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A name, or a number in quotes.
    String(String),
}
