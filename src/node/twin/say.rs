//! What is said about twins on MQTT and to the cloud, as JSON. Members stand in
//! the order EdgeCore writes them.
//!
//! Source: devices.md 2.3-2.10.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::device::Device;
use super::property::{Part, Property, Version};
use super::request::Refusal;

/// Properties by name; `None` is written as `null`: gone.
pub type Shown<'a> = BTreeMap<&'a str, Option<PropertyView<'a>>>;

/// A property as it is said.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PropertyView<'a> {
    /// The value it shall have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<PartView<'a>>,
    /// The value it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<PartView<'a>>,
    /// Whether it may be removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TypeView>,
    /// Version of the expected value; to the cloud only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_version: Option<Version>,
    /// Version of the actual value; to the cloud only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual_version: Option<Version>,
}

/// A value as it is said; one that is gone has neither member.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PartView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Stamp>,
}

#[derive(Debug, Clone, Serialize)]
struct Stamp {
    timestamp: i64,
}

/// A type as it is said.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TypeView {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
}

impl<'a> From<&'a Part> for PartView<'a> {
    fn from(part: &'a Part) -> Self {
        Self { value: Some(&part.value), metadata: Some(Stamp { timestamp: part.at.into() }) }
    }
}

/// Which parts of a property are meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// The expected value.
    pub expected: bool,
    /// The actual value.
    pub actual: bool,
}

impl Parts {
    /// Both.
    pub const ALL: Self = Self { expected: true, actual: true };
}

/// Some parts of a property, without versions.
pub fn parts(property: &Property, which: Parts) -> PropertyView<'_> {
    PropertyView {
        expected: property.expected.as_ref().filter(|_| which.expected).map(PartView::from),
        actual: property.actual.as_ref().filter(|_| which.actual).map(PartView::from),
        optional: Some(property.optional),
        metadata: Some(TypeView { kind: property.kind.name() }),
        ..PropertyView::default()
    }
}

/// A whole property, without versions; `None` when it is gone.
pub fn whole(property: &Property) -> Option<PropertyView<'_>> {
    property.is_live().then(|| parts(property, Parts::ALL))
}

/// What the cloud is told: parts with their versions; those of a property that
/// is gone are empty.
pub fn report(property: &Property, which: Parts) -> PropertyView<'_> {
    let mut view = parts(property, which);
    if !property.is_live() {
        view.expected = view.expected.map(|_| PartView::default());
        view.actual = view.actual.map(|_| PartView::default());
    }
    view.expected_version = property.expected.as_ref().filter(|_| which.expected).map(|part| part.version);
    view.actual_version = property.actual.as_ref().filter(|_| which.actual).map(|part| part.version);
    view
}

#[derive(Serialize)]
struct Twins<'a> {
    event_id: &'a str,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    twin: &'a Shown<'a>,
}

/// A result of an update or a get.
pub fn twins(event: &str, now: i64, twin: &Shown<'_>) -> Vec<u8> {
    bytes(&Twins { event_id: event, timestamp: now, code: None, reason: None, twin })
}

/// A result of an update of which a part is refused.
pub fn partly(event: &str, now: i64, twin: &Shown<'_>, refused: &str) -> Vec<u8> {
    bytes(&Twins { event_id: event, timestamp: now, code: Some(400), reason: Some(refused), twin })
}

/// Members of an object, by name.
struct Members<'a, T>(&'a [(&'a str, T)]);

impl<T: Serialize> Serialize for Members<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// One message about all, or several of at most `limit` bytes each.
fn divided<T>(all: &[T], limit: usize, message: &impl Fn(&[T]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let whole = message(all);
    if whole.len() <= limit || all.len() < 2 {
        return vec![whole];
    }
    let (some, others) = all.split_at(all.len() / 2);
    let mut parts = divided(some, limit, message);
    parts.extend(divided(others, limit, message));
    parts
}

/// A property before and after a change.
#[derive(Debug, Serialize)]
pub struct Step<'a> {
    /// Before; `None` when it was not there.
    pub last: Option<PropertyView<'a>>,
    /// After; `None` when it is gone.
    pub current: Option<PropertyView<'a>>,
}

/// What became of a property.
pub fn step<'a>(device: &'a Device, name: &'a str, before: Option<&'a Property>) -> (&'a str, Step<'a>) {
    (name, Step { last: before.and_then(whole), current: device.property(name).and_then(whole) })
}

/// What changed, in messages of at most `limit` bytes.
pub fn document(event: &str, now: i64, steps: &[(&str, Step<'_>)], limit: usize) -> Vec<Vec<u8>> {
    #[derive(Serialize)]
    struct Document<'a> {
        event_id: &'a str,
        timestamp: i64,
        twin: Members<'a, Step<'a>>,
    }
    divided(steps, limit, &|steps| bytes(&Document { event_id: event, timestamp: now, twin: Members(steps) }))
}

/// What shall be and is not, in messages of at most `limit` bytes; none when
/// all is as it shall be.
pub fn delta(event: &str, now: i64, properties: &[Property], limit: usize) -> Vec<Vec<u8>> {
    #[derive(Serialize)]
    struct Delta<'a> {
        event_id: &'a str,
        timestamp: i64,
        twin: Shown<'a>,
        delta: BTreeMap<&'a str, &'a str>,
    }
    let is_wished = |property: &&Property| property.is_live() && property.expected.as_ref().is_some_and(|expected| !expected.value.is_empty());
    let wished: Vec<&Property> = properties.iter().filter(is_wished).collect();
    if wished.iter().all(|property| property.delta().is_none()) {
        return Vec::new();
    }
    let message = |some: &[&Property]| {
        let delta = some.iter().filter_map(|property| Some((&*property.name, property.delta()?))).collect();
        let twin = some.iter().map(|property| (&*property.name, whole(property))).collect();
        bytes(&Delta { event_id: event, timestamp: now, twin, delta })
    };
    divided(&wished, limit, &message)
}

/// Why a request was refused.
pub fn refusal(refusal: &Refusal, now: i64) -> Vec<u8> {
    #[derive(Serialize)]
    struct Refused<'a> {
        event_id: &'a str,
        timestamp: i64,
        code: u16,
        reason: &'a str,
    }
    bytes(&Refused { event_id: &refusal.event, timestamp: now, code: refusal.code, reason: &refusal.reason })
}

/// Anything as JSON.
pub fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers always serialise")
}
