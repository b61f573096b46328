//! MQTT topics of devices, both ways. Not what travels on them.
//!
//! Source: devices.md 1.4, 1.7. Topics are split by position, so that no
//! namespace or name, `dev` or `hw`, can be mistaken for a part of the prefix.

/// What the agent has the broker send to it: all that devices and users may
/// say.
pub const FILTERS: [&str; 6] = [
    "$hw/events/upload/#",
    "$hw/events/device/+/+/state/update",
    "$hw/events/device/+/+/twin/+",
    "$hw/events/node/+/membership/get",
    "SYS/dis/upload_records",
    "+/user/#",
];
/// The same of KubeEdge up to 1.16, which had no namespaces.
pub const LEGACY_FILTERS: [&str; 2] = ["$hw/events/device/+/state/update", "$hw/events/device/+/twin/+"];

/// A topic that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topic {
    /// A device says something of itself.
    Device {
        /// Its id, `NAMESPACE/NAME`.
        id: String,
        /// How the topic names it, and the answers' topics must: by its id, or
        /// on topics without namespaces by its name.
        named: String,
        /// What is said.
        verb: Verb,
    },
    /// Somebody asks which devices there are.
    MembershipGet,
    /// A topic below `$hw/events/device` or `node` that means nothing.
    Unknown,
    /// Anything else goes to the cloud as it is.
    User,
}

/// What a device says, or is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `twin/update`.
    TwinUpdate,
    /// `twin/get`.
    TwinGet,
    /// `twin/cloud_updated`: values with versions, as old clouds sent them.
    CloudUpdated,
    /// `state/update`.
    StateUpdate,
    /// `updated`: attributes; only when a rule subscribes it.
    Attributes,
}

impl Verb {
    fn parse(rest: &[&str]) -> Option<Self> {
        match rest {
            ["twin", "update"] => Some(Self::TwinUpdate),
            ["twin", "get"] => Some(Self::TwinGet),
            ["twin", "cloud_updated"] => Some(Self::CloudUpdated),
            ["state", "update"] => Some(Self::StateUpdate),
            ["updated"] => Some(Self::Attributes),
            _ => None,
        }
    }
}

impl Topic {
    /// Reads a topic; `legacy` also takes device topics without a namespace.
    pub fn parse(topic: &str, legacy: bool) -> Self {
        let Some(rest) = topic.strip_prefix("$hw/events/") else { return Self::User };
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            ["device", device @ ..] => Self::device(device, legacy).unwrap_or(Self::Unknown),
            ["node", _, "membership", "get"] => Self::MembershipGet,
            ["node", ..] => Self::Unknown,
            _ => Self::User,
        }
    }

    fn device(parts: &[&str], legacy: bool) -> Option<Self> {
        match parts {
            ["", ..] | [_, "", ..] => None,
            [namespace, name, rest @ ..] if let Some(verb) = Verb::parse(rest) => {
                let id = format!("{namespace}/{name}");
                Some(Self::Device { named: id.clone(), id, verb })
            }
            [name, rest @ ..] if legacy => Verb::parse(rest).map(|verb| Self::Device { id: format!("default/{name}"), named: (*name).to_owned(), verb }),
            _ => None,
        }
    }
}

/// `$hw/events/device/ID/REST`.
pub fn of_device(id: &str, rest: &str) -> String {
    format!("$hw/events/device/{id}/{rest}")
}

/// `$hw/events/node/NODE/REST`.
pub fn of_node(node: &str, rest: &str) -> String {
    format!("$hw/events/node/{node}/{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str, named: &str, verb: Verb) -> Topic {
        Topic::Device { id: id.into(), named: named.into(), verb }
    }

    #[test]
    fn namespaces_that_look_like_the_prefix_are_no_trouble() {
        for id in ["dev/x1", "hw/events", "device/device", "e/e", "default/twin"] {
            assert_eq!(Topic::parse(&of_device(id, "twin/update"), true), device(id, id, Verb::TwinUpdate));
            assert_eq!(Topic::parse(&of_device(id, "state/update"), false), device(id, id, Verb::StateUpdate));
        }
    }

    #[test]
    fn a_topic_without_a_namespace_means_the_default_one_when_allowed() {
        assert_eq!(Topic::parse("$hw/events/device/x1/twin/update", true), device("default/x1", "x1", Verb::TwinUpdate));
        assert_eq!(Topic::parse("$hw/events/device/x1/twin/update", false), Topic::Unknown);
    }

    #[test]
    fn short_and_strange_topics_mean_nothing() {
        for topic in
            ["$hw/events/device", "$hw/events/device/", "$hw/events/device/x1", "$hw/events/device///twin/update", "$hw/events/node", "$hw/events/node/a/b"]
        {
            assert_eq!(Topic::parse(topic, true), Topic::Unknown, "{topic}");
        }
        for topic in ["", "/", "$hw/events/upload/a", "SYS/dis/upload_records", "a/user/b", "$hw"] {
            assert_eq!(Topic::parse(topic, true), Topic::User, "{topic}");
        }
    }
}
