//! What the node asks of the disk: batches out, rows back in at the start. The
//! shell is `metamanager`.
//!
//! A row is a [`Key`], which names its table, and a [`Row`] of that table. Both are
//! written with postcard, so their variants and fields are a format: variants are
//! added at the end only, and a changed shape needs a new format number and an
//! upgrade (`metamanager/record`).

use serde::{Deserialize, Serialize};

use super::ids::{DeviceId, MapperName, ObjectName, PodUid, Ticket};
use super::mappers::MapperRow;
use super::pod::record::PodRecord;
use super::twin::{ConfirmedRow, DeviceRow, PropertyRow, Text};

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
    /// The row, of the key's table, or `None` to remove it.
    pub row: Option<Row>,
}

/// Table of a row, and what names it there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A cluster object.
    Object(ObjectName),
    /// The newest resourceVersion of an object that is otherwise unchanged.
    Version(ObjectName),
    /// A service account token.
    Token(TokenKey),
    /// That this node is registered.
    Registration,
    /// That an earlier store was lost and the cloud has not told of all pods since.
    StoreLost,
    /// A device of this node, beside its properties.
    Device(DeviceId),
    /// A property of a device, by the property's name.
    Property(DeviceId, Text),
    /// What the cloud has confirmed of a property.
    Confirmed(DeviceId, Text),
    /// A user message that waits for the cloud.
    Upload(Sequence),
    /// An MQTT topic filter that a rule of the cloud has subscribed.
    Subscription(String),
    /// A path of the cloud that apps on this node may call.
    Target(String),
    /// A mapper that has registered, by the name it gave.
    Mapper(MapperName),
    /// A Kubernetes Event that waits for the cloud.
    Event(Sequence),
    /// What is kept of a pod beside its object.
    PodRecord(PodUid),
    /// The object of a pod by whose spec it is cared for, while the newest one is
    /// another that cannot be obeyed.
    ObeyedPod(PodUid),
}

/// Place of a row in a queue. On disk its bytes are in the order of the numbers, so
/// that what is queued together is stored together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "[u8; 8]", into = "[u8; 8]")]
pub struct Sequence(pub u64);

/// What a service account token was requested with, less the pod's name
/// (<https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenKey {
    /// Uid of the pod that the token is bound to.
    pub pod: PodUid,
    /// Namespace of the service account.
    pub namespace: String,
    /// Name of the service account.
    pub account: String,
    /// The intended audience; empty for the API server.
    pub audience: String,
    /// The requested lifetime, seconds.
    pub seconds: i64,
}

/// What is stored under a [`Key`]; each variant belongs to the key of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// JSON of an object, in the form that `Incoming` makes of it.
    Object(String),
    /// A resourceVersion.
    Version(u64),
    /// A token and its life.
    Token(TokenRow),
    /// Uid of the node object.
    Registration(String),
    /// Why the earlier store was lost.
    StoreLost(String),
    /// State, description and attributes of a device.
    Device(DeviceRow),
    /// Type, desired and reported value of a property.
    Property(PropertyRow),
    /// What the cloud has confirmed of a property.
    Confirmed(ConfirmedRow),
    /// A user message and when it came.
    Upload(UploadRow),
    /// A subscription; its filter is all there is.
    Subscription,
    /// A target; its path is all there is.
    Target,
    /// Where a mapper listens, and which devices and models it surely knows.
    Mapper(MapperRow),
    /// A Kubernetes Event as JSON, and whether the cloud is to create or update it.
    Event(EventRow),
    /// When a pod began and what of it has ended.
    PodRecord(PodRecord),
}

/// A service account token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The token; a secret.
    pub token: String,
    /// When the cloud gave it, milliseconds since the epoch.
    pub issued: i64,
    /// When it ends, milliseconds since the epoch.
    pub expires: i64,
}

/// A user message that waits for the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRow {
    /// When it came, milliseconds since the epoch.
    pub at: i64,
    /// Its MQTT topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A Kubernetes Event that waits for the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    /// The cloud does not have it yet: it is created, else updated.
    pub is_new: bool,
    /// Namespace of the Event.
    pub namespace: String,
    /// Name of the Event.
    pub name: String,
    /// The Event as JSON.
    pub event: String,
}

/// All rows of a store, by table: each machine of the node takes its own.
#[derive(Debug, Default)]
pub struct Rows {
    /// JSON of cluster objects.
    pub objects: Vec<(ObjectName, String)>,
    /// resourceVersions of cluster objects.
    pub versions: Vec<(ObjectName, u64)>,
    /// Service account tokens.
    pub tokens: Vec<(TokenKey, TokenRow)>,
    /// Uid of the node object, once registered.
    pub registration: Option<String>,
    /// Why an earlier store was lost, until the cloud has told of all pods.
    pub store_lost: Option<String>,
    /// Devices.
    pub devices: Vec<(DeviceId, DeviceRow)>,
    /// Properties of devices.
    pub properties: Vec<(DeviceId, Text, PropertyRow)>,
    /// What the cloud has confirmed of properties.
    pub confirmed: Vec<(DeviceId, Text, ConfirmedRow)>,
    /// User messages in the order they came.
    pub uploads: Vec<(Sequence, UploadRow)>,
    /// Topic filters of rules.
    pub subscriptions: Vec<String>,
    /// Paths that apps may call.
    pub targets: Vec<String>,
    /// Mappers.
    pub mappers: Vec<(MapperName, MapperRow)>,
    /// Kubernetes Events in the order they came.
    pub events: Vec<(Sequence, EventRow)>,
    /// What is kept of pods beside their objects.
    pub pod_records: Vec<(PodUid, PodRecord)>,
    /// JSON of pods by whose spec they are cared for, when that is not the newest.
    pub obeyed_pods: Vec<(PodUid, String)>,
    count: usize,
}

impl Rows {
    /// Sorts rows out by their tables; the order inside a table is that of the keys.
    ///
    /// # Errors
    ///
    /// The first key whose row is one of another table.
    pub fn new(mut rows: Vec<(Key, Row)>) -> Result<Self, Key> {
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut all = Self::default();
        for (key, row) in rows {
            all.add(key, row)?;
            all.count += 1;
        }
        Ok(all)
    }

    /// Number of rows there were, whether somebody has taken them or not.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there were no rows at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, key: Key, row: Row) -> Result<(), Key> {
        match (key, row) {
            (Key::Object(name), Row::Object(json)) => self.objects.push((name, json)),
            (Key::Version(name), Row::Version(version)) => self.versions.push((name, version)),
            (Key::Token(key), Row::Token(token)) => self.tokens.push((key, token)),
            (Key::Registration, Row::Registration(uid)) => self.registration = Some(uid),
            (Key::StoreLost, Row::StoreLost(why)) => self.store_lost = Some(why),
            (Key::Device(id), Row::Device(row)) => self.devices.push((id, row)),
            (Key::Property(id, name), Row::Property(row)) => self.properties.push((id, name, row)),
            (Key::Confirmed(id, name), Row::Confirmed(row)) => self.confirmed.push((id, name, row)),
            (Key::Upload(number), Row::Upload(row)) => self.uploads.push((number, row)),
            (Key::Subscription(filter), Row::Subscription) => self.subscriptions.push(filter),
            (Key::Target(path), Row::Target) => self.targets.push(path),
            (Key::Mapper(name), Row::Mapper(row)) => self.mappers.push((name, row)),
            (Key::Event(number), Row::Event(row)) => self.events.push((number, row)),
            (Key::PodRecord(uid), Row::PodRecord(record)) => self.pod_records.push((uid, record)),
            (Key::ObeyedPod(uid), Row::Object(json)) => self.obeyed_pods.push((uid, json)),
            (key, _) => return Err(key),
        }
        Ok(())
    }
}

impl Change {
    /// Sets a row.
    pub fn set(key: Key, row: Row) -> Self {
        Self { key, row: Some(row) }
    }

    /// Removes a row.
    pub fn remove(key: Key) -> Self {
        Self { key, row: None }
    }
}

impl Sequence {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<[u8; 8]> for Sequence {
    fn from(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}

impl From<Sequence> for [u8; 8] {
    fn from(number: Sequence) -> Self {
        number.0.to_be_bytes()
    }
}

impl std::fmt::Debug for TokenRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token until {}", self.expires)
    }
}
