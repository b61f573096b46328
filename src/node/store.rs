//! What the node asks of the disk: batches out, rows back in at the start.
//! The shell is `metamanager`.

use serde::{Deserialize, Serialize};

use super::ids::Ticket;
use super::twin::{ConfirmedRow, DeviceRow, PropertyRow};

/// Changes that reach the disk together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number; the disk answers with it.
    pub ticket: Ticket,
    /// In order.
    pub changes: Vec<Change>,
}

/// One row set or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which row.
    pub key: Key,
    /// The row, or `None` to remove it.
    pub row: Option<Row>,
}

/// Name of a row: table and key in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The table.
    pub table: Table,
    /// `NAMESPACE/TYPE/NAME` of an object, or what the table says.
    pub name: String,
}

/// Tables. Append only: the position is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// Cluster objects as JSON, by resource.
    Objects,
    /// Newer versions of objects that are otherwise unchanged, by resource.
    Versions,
    /// Service account tokens, by the request that brought them.
    Tokens,
    /// What the node knows of itself, by name.
    Node,
    /// Devices, by id.
    Devices,
    /// Properties of devices, by `ID/NAME`.
    Properties,
    /// What the cloud has confirmed of properties, by `ID/NAME`.
    Confirmed,
    /// User messages that wait for the cloud, by number.
    Spool,
    /// Filters that rules have subscribed, by filter.
    Subscriptions,
    /// What apps may ask the cloud for, by target.
    Targets,
    /// Mappers and what they were told, as JSON, by name.
    Mappers,
    /// Kubernetes Events that wait for the cloud, by number.
    Events,
}

/// A row. Append only: the position is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// JSON of an object, without its managed fields.
    Object(String),
    /// A resourceVersion.
    Version(u64),
    /// A token and its life, milliseconds since the epoch.
    Token {
        /// The token; a secret.
        token: String,
        /// When the cloud gave it.
        issued: i64,
        /// When it ends.
        expires: i64,
    },
    /// A short text.
    Text(String),
    /// A device.
    Device(DeviceRow),
    /// A property of a device.
    Property(PropertyRow),
    /// What the cloud has confirmed of a property.
    Confirmed(ConfirmedRow),
    /// A message that waits for the cloud.
    Spooled {
        /// When it came, milliseconds since the epoch.
        at: i64,
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
    },
}

impl Row {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Object(_) | Self::Version(_) | Self::Token { .. } | Self::Device(_) | Self::Property(_) | Self::Confirmed(_) | Self::Spooled { .. } => None,
        }
    }
}

impl Key {
    /// Names a row.
    pub fn new(table: Table, name: impl Into<String>) -> Self {
        Self { table, name: name.into() }
    }
}

impl Change {
    /// Sets a row.
    pub fn set(table: Table, name: impl Into<String>, row: Row) -> Self {
        Self { key: Key::new(table, name), row: Some(row) }
    }

    /// Removes a row.
    pub fn remove(table: Table, name: impl Into<String>) -> Self {
        Self { key: Key::new(table, name), row: None }
    }
}
