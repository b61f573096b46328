//! What a DeviceModel says of properties: type, access, range. Not what devices
//! of it are wished to be.

use std::collections::BTreeMap;

use super::value::{Kind, number};
use crate::wire::kube::DeviceModel;

/// Properties of a model, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model(BTreeMap<String, Rules>);

/// What holds for one property.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Its type.
    pub kind: Kind,
    /// Only the device itself says its value.
    pub read_only: bool,
    least: Option<f64>,
    most: Option<f64>,
}

impl Model {
    /// Reads a model.
    pub fn new(model: &DeviceModel) -> Self {
        let rules = |property: &crate::wire::kube::ModelProperty| Rules {
            kind: Kind::parse(&property.kind).unwrap_or(Kind::String),
            read_only: property.access_mode == "ReadOnly",
            least: number(&property.minimum),
            most: number(&property.maximum),
        };
        Self(model.spec.properties.iter().map(|property| (property.name.clone(), rules(property))).collect())
    }

    /// Its type by the model, if the model has it.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.rules(name).map(|rules| rules.kind)
    }

    /// What holds for a property, if the model has it.
    pub fn rules(&self, name: &str) -> Option<&Rules> {
        self.0.get(name)
    }
}

impl Rules {
    /// Whether a value may be wished. What a device reports is never measured
    /// by it: a value out of range is the news.
    pub fn permits(&self, name: &str, value: &str) -> Result<(), String> {
        if self.read_only {
            return Err(format!("property '{name}' is read-only by its model"));
        }
        let Some(wished) = number(value) else { return Ok(()) };
        match (self.least, self.most) {
            (Some(least), _) if wished < least => Err(format!("value {value} of '{name}' is below its minimum {least}")),
            (_, Some(most)) if wished > most => Err(format!("value {value} of '{name}' is above its maximum {most}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_measured_by_the_model() {
        let model: DeviceModel = serde_json::from_str(
            r#"{"spec":{"properties":[{"name":"t","type":"FLOAT","accessMode":"ReadOnly"},{"name":"s","type":"INT","accessMode":"ReadWrite","minimum":"0","maximum":"30"}]}}"#,
        )
        .expect("a model");
        let model = Model::new(&model);
        let permits = |name: &str, value: &str| model.rules(name).expect("a property").permits(name, value);
        assert!(permits("t", "1").expect_err("no").contains("read-only"));
        assert!(permits("s", "30").is_ok() && permits("s", "").is_ok());
        assert!(permits("s", "-1").expect_err("no").contains("minimum") && permits("s", "31").expect_err("no").contains("maximum"));
    }
}
