//! What one mapper was told, and the next thing it must be told: want, seen,
//! plan. A model comes before its devices and goes after them.
//!
//! mapper-framework ignores `RegisterDevice` of a device it knows, and takes
//! `UpdateDevice` of one it does not know. So what the mapper may or may not
//! have heard is updated; only what it surely does not know is registered.

use std::collections::{BTreeMap, BTreeSet};

use super::want::{Digest, Id};

/// A device or a model. Models are before devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A model.
    Model(Id),
    /// A device.
    Device(Id),
}

impl Item {
    /// Its `NAMESPACE/NAME`.
    pub fn id(&self) -> &Id {
        match self {
            Self::Model(id) | Self::Device(id) => id,
        }
    }
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model(id) => write!(f, "model '{id}'"),
            Self::Device(id) => write!(f, "device '{id}'"),
        }
    }
}

/// What the mapper knows of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing, surely.
    Nothing,
    /// Perhaps something: a call was not answered, or the agent was restarted.
    Unsure,
    /// This.
    As(Digest),
}

/// What is done about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is told for the first time.
    Add,
    /// It is told anew.
    Change,
    /// It is taken away.
    Remove,
}

/// What one mapper shall know.
#[derive(Debug, Default)]
pub struct Share {
    /// Its devices and their models; `None` for a device that cannot be told of
    /// at the moment.
    pub items: BTreeMap<Item, Option<Digest>>,
    /// Model of each device.
    pub models: BTreeMap<Id, Id>,
}

/// What one mapper was told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    items: BTreeMap<Item, Known>,
    /// What is not in `items` was surely never told.
    sure: bool,
}

impl Told {
    /// A mapper that has just begun, and got all this with the answer.
    pub fn begin(items: impl Iterator<Item = (Item, Digest)>) -> Self {
        Self { items: items.map(|(item, digest)| (item, Known::As(digest))).collect(), sure: true }
    }

    /// What the disk knows; the last words before the restart may be missing.
    pub fn restored(items: impl Iterator<Item = (Item, Digest)>) -> Self {
        Self { sure: false, ..Self::begin(items) }
    }

    /// What is known surely, for the disk.
    pub fn surely(&self) -> impl Iterator<Item = (&Item, Digest)> {
        self.items.iter().filter_map(|(item, known)| match known {
            Known::As(digest) => Some((item, *digest)),
            Known::Nothing | Known::Unsure => None,
        })
    }

    /// Devices the mapper has, or may have.
    pub fn devices(&self) -> impl Iterator<Item = &Id> {
        self.items.iter().filter_map(|(item, known)| match (item, known) {
            (Item::Device(id), Known::As(_) | Known::Unsure) => Some(id),
            (Item::Device(_), Known::Nothing) | (Item::Model(_), _) => None,
        })
    }

    /// What the mapper knows of an item.
    pub fn knows(&self, item: &Item) -> Known {
        self.items.get(item).copied().unwrap_or(if self.sure { Known::Nothing } else { Known::Unsure })
    }

    /// Notes it.
    pub fn note(&mut self, item: Item, known: Known) {
        self.items.insert(item, known);
    }

    /// The item is not the mapper's any longer.
    pub fn forget(&mut self, item: &Item) {
        self.items.remove(item);
    }

    /// Everything that must be told, in order.
    pub fn plan<'a>(&'a self, share: &'a Share) -> impl Iterator<Item = (Verb, &'a Item)> {
        let gone = |item: &&Item| !share.items.contains_key(*item) && self.knows(item) != Known::Nothing;
        let devices_gone = self.items.keys().filter(|item| matches!(item, Item::Device(_))).filter(gone);
        let models_gone = self.items.keys().filter(|item| matches!(item, Item::Model(_))).filter(gone);
        // Models of devices that it has stay, even when they left the cluster.
        let has = |id: &Id| self.knows(&Item::Device(id.clone())) != Known::Nothing;
        let needed: BTreeSet<&Id> = share.models.iter().filter(|(id, _)| has(id)).map(|(_, model)| model).collect();
        let models_gone = models_gone.filter(move |item| !needed.contains(item.id()));
        let told = share.items.iter().filter_map(|(item, digest)| {
            let ready = match item {
                Item::Model(_) => true,
                Item::Device(id) => share.models.get(id).is_some_and(|model| matches!(self.knows(&Item::Model(model.clone())), Known::As(_))),
            };
            let verb = match (self.knows(item), item) {
                (Known::As(known), _) => (Some(known) != *digest).then_some(Verb::Change),
                // Creating a model that is known is no harm.
                (Known::Nothing, _) | (Known::Unsure, Item::Model(_)) => Some(Verb::Add),
                (Known::Unsure, Item::Device(_)) => Some(Verb::Change),
            };
            verb.filter(|_| ready && digest.is_some()).map(|verb| (verb, item))
        });
        devices_gone.map(|item| (Verb::Remove, item)).chain(told).chain(models_gone.map(|item| (Verb::Remove, item)))
    }
}
