//! One property of a device: the value it shall have, the value it has, and
//! their versions. Not how either is changed.

use std::num::NonZeroI64;

use serde::{Deserialize, Serialize};

use super::value::{Kind, Text};

/// Who changed a value how often: one count for the cloud, one for the edge.
/// Neither counts for both, so they are only partly ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Changes by the cloud.
    #[serde(default)]
    pub cloud: i64,
    /// Changes by the edge.
    #[serde(default)]
    pub edge: i64,
}

impl Version {
    /// One more change at the edge.
    #[must_use]
    pub fn bumped(self) -> Self {
        Self { cloud: self.cloud, edge: self.edge.saturating_add(1) }
    }

    /// Whether a value with the other version may replace one with this.
    pub fn yields_to(self, other: Self) -> bool {
        self.cloud <= other.cloud && self.edge <= other.edge
    }
}

/// Milliseconds since the epoch, in a form that leaves room to say that there are
/// none: a property has two of them, and there are thousands of properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct Millis(NonZeroI64);

impl From<i64> for Millis {
    fn from(millis: i64) -> Self {
        // The earliest of all has no room, and nothing happened then.
        Self(NonZeroI64::new(millis ^ i64::MIN).unwrap_or(NonZeroI64::MIN))
    }
}

impl From<Millis> for i64 {
    fn from(millis: Millis) -> Self {
        millis.0.get() ^ Self::MIN
    }
}

/// A value, when it became so, and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The value.
    pub value: Text,
    /// When it became so.
    pub at: Millis,
    /// Its version.
    pub version: Version,
}

/// What the cloud has not confirmed of a property.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The expected value.
    pub expected: bool,
    /// The actual value.
    pub actual: bool,
    /// Anything at all. CloudCore loses the first report of a property and
    /// confirms it (devices.md 3.4), so that one counts for nothing.
    pub first: bool,
}

/// One property of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: Text,
    /// What its values are.
    pub kind: Kind,
    /// Whether a device may remove it.
    pub optional: bool,
    /// The value it shall have.
    pub expected: Option<Part>,
    /// The value it has.
    pub actual: Option<Part>,
    /// The last wish seen in the Device object. Wishes have no version there:
    /// only a change against this one overrides what the edge set since.
    pub wished: Option<Text>,
    /// What the cloud has not confirmed.
    pub unconfirmed: Unconfirmed,
}

impl Property {
    /// A property without values.
    pub fn new(name: &str, kind: Kind, optional: bool) -> Self {
        let unconfirmed = Unconfirmed { first: true, ..Unconfirmed::default() };
        Self { name: name.into(), kind, optional, expected: None, actual: None, wished: None, unconfirmed }
    }

    /// Whether it is there, and not only remembered.
    pub fn is_live(&self) -> bool {
        self.kind != Kind::Deleted
    }

    /// The value it shall have and has not.
    pub fn delta(&self) -> Option<&str> {
        let expected = self.expected.as_ref().filter(|expected| self.is_live() && !expected.value.is_empty())?;
        (self.actual.as_ref().map(|actual| &actual.value) != Some(&expected.value)).then_some(&expected.value)
    }

    /// Removes it: its versions stay, so that a late value cannot bring it back.
    pub fn bury(&mut self, now: i64) {
        self.kind = Kind::Deleted;
        for part in [&mut self.expected, &mut self.actual].into_iter().flatten() {
            *part = Part { value: "".into(), at: now.into(), version: part.version.bumped() };
        }
        self.unconfirmed.expected = self.expected.is_some();
        self.unconfirmed.actual = true;
    }

    /// Whether the cloud should be told something.
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.expected || self.unconfirmed.actual
    }
}

/// A property on disk. Append only: a field more is another row type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyRow {
    /// What its values are.
    pub kind: Kind,
    /// Whether a device may remove it.
    pub optional: bool,
    /// The value it shall have.
    pub expected: Option<Part>,
    /// The value it has.
    pub actual: Option<Part>,
    /// The last wish seen in the Device object.
    pub wished: Option<Text>,
}

/// What the cloud has confirmed of a property, on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedRow {
    /// Version of the expected value.
    pub expected: Option<Version>,
    /// Version of the actual value.
    pub actual: Option<Version>,
}

impl Property {
    /// As it goes to disk.
    pub fn row(&self) -> PropertyRow {
        PropertyRow { kind: self.kind, optional: self.optional, expected: self.expected.clone(), actual: self.actual.clone(), wished: self.wished.clone() }
    }

    /// As it was on disk; nothing of it is confirmed.
    pub fn restored(name: &str, row: PropertyRow) -> Self {
        let unconfirmed = Unconfirmed { expected: row.expected.is_some(), actual: row.actual.is_some(), first: true };
        Self { name: name.into(), kind: row.kind, optional: row.optional, expected: row.expected, actual: row.actual, wished: row.wished, unconfirmed }
    }

    /// The cloud has confirmed these versions.
    pub fn confirmed(&mut self, confirmed: ConfirmedRow) {
        let differs = |part: &Option<Part>, known: Option<Version>| part.as_ref().is_some_and(|part| known != Some(part.version));
        self.unconfirmed = Unconfirmed { expected: differs(&self.expected, confirmed.expected), actual: differs(&self.actual, confirmed.actual), first: false };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_only_partly_ordered() {
        let version = |cloud, edge| Version { cloud, edge };
        assert!(version(1, 2).yields_to(version(1, 2)) && version(1, 2).yields_to(version(2, 2)));
        assert!(!version(1, 2).yields_to(version(2, 1)) && !version(2, 1).yields_to(version(1, 2)));
    }

    #[test]
    fn a_delta_is_there_while_the_wish_is_not_met() {
        let mut property = Property::new("p", Kind::Int, true);
        let part = |value: &str| Some(Part { value: value.into(), at: 0.into(), version: Version::default() });
        assert_eq!(property.delta(), None);
        property.expected = part("25");
        assert_eq!(property.delta(), Some("25"));
        property.actual = part("25");
        assert_eq!(property.delta(), None);
        property.expected = part("");
        assert_eq!(property.delta(), None);
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_property_is_small() {
        assert_eq!((size_of::<Option<Part>>(), size_of::<Property>()), (40, 128), "on machines of 64 bits");
        for millis in [0, -1, 1_800_000_000_000, i64::MAX, i64::MIN + 1] {
            assert_eq!(i64::from(Millis::from(millis)), millis);
        }
    }
}
