//! One device: who it is, how it is, its attributes and its properties. What may
//! be done to them is said elsewhere.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::property::Property;
use super::report::Reporting;
use super::untold::Untold;
use super::value::Text;
use crate::node::ids::Ticket;

/// A device of this node.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// What is known of it beside its properties.
    pub row: DeviceRow,
    /// Its model, `NAMESPACE/NAME`.
    pub model: Option<Rc<str>>,
    /// In order of their names.
    pub properties: Vec<Property>,
    /// The last batch that holds something of it.
    pub ticket: Ticket,
    /// Counts what changed, for those who watch.
    pub changes: u64,
    /// How its reports to the cloud stand.
    pub reporting: Reporting,
    /// What those who listen are still to be told of it.
    pub untold: Option<Box<Untold>>,
}

/// A device on disk. Append only: a field more is another row type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Its name.
    pub name: Text,
    /// What people say of it.
    pub description: Text,
    /// How it is, in its own spelling; empty when it never said.
    pub state: Text,
    /// When it was last online, seconds since the epoch.
    pub last_online: Option<i64>,
    /// The cloud has confirmed the state.
    pub state_confirmed: bool,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// Something that holds for a device as long as nobody changes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its value.
    pub value: String,
    /// Whether it may be removed, if it was told; else it may.
    pub optional: Option<bool>,
    /// Its type, if it was told.
    pub kind: Option<String>,
}

impl Attribute {
    /// As it is said.
    pub fn view(&self) -> Value {
        let mut view = json!({ "value": self.value });
        if let Some(optional) = self.optional {
            view["optional"] = optional.into();
        }
        if let Some(kind) = &self.kind {
            view["metadata"] = json!({ "type": kind });
        }
        view
    }
}

impl Device {
    /// A device that says nothing yet.
    pub fn new(name: &str) -> Self {
        Self { row: DeviceRow { name: name.into(), ..DeviceRow::default() }, ..Self::default() }
    }

    /// Where a property is, or belongs.
    pub fn position(&self, name: &str) -> Result<usize, usize> {
        self.properties.binary_search_by(|property| (*property.name).cmp(name))
    }

    /// A property that is there, live or not.
    pub fn property(&self, name: &str) -> Option<&Property> {
        self.position(name).ok().map(|at| &self.properties[at])
    }

    /// A property, made by `new` when it is not there.
    pub fn property_or(&mut self, name: &str, new: impl FnOnce() -> Property) -> &mut Property {
        let at = self.position(name).unwrap_or_else(|at| {
            // Devices are many and seldom get another property.
            self.properties.reserve_exact(1);
            self.properties.insert(at, new());
            at
        });
        &mut self.properties[at]
    }

    /// As it is listed.
    pub fn view(&self, id: &str) -> Value {
        let mut view = json!({ "id": id, "name": self.row.name });
        for (member, text) in [("description", &self.row.description), ("state", &self.row.state)] {
            if !text.is_empty() {
                view[member] = text.as_str().into();
            }
        }
        if let Some(at) = self.row.last_online {
            view["last_online"] = crate::wire::rfc3339::of_seconds(at).into();
        }
        if !self.row.attributes.is_empty() {
            view["attributes"] = self.row.attributes.iter().map(|(name, attribute)| (name.clone(), attribute.view())).collect::<serde_json::Map<_, _>>().into();
        }
        view
    }
}
