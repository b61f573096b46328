//! `NAMESPACE/TYPE/NAME`, the name of an object on the wire, both ways.

use std::fmt;

/// Namespace of everything that belongs to the cluster as a whole.
pub const CLUSTER: &str = "null";
/// Namespace of node leases.
pub const LEASES: &str = "kube-node-lease";

/// One object, or all of a type when the name is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Namespace, or [`CLUSTER`].
    pub namespace: String,
    /// Type in lower case, singular.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}

/// Types this agent asks for or is sent.
pub mod kind {
    /// A pod.
    pub const POD: &str = "pod";
    /// A status patch of a pod.
    pub const POD_PATCH: &str = "podpatch";
    /// A node.
    pub const NODE: &str = "node";
    /// A status patch of a node.
    pub const NODE_PATCH: &str = "nodepatch";
    /// A ConfigMap.
    pub const CONFIG_MAP: &str = "configmap";
    /// A Secret.
    pub const SECRET: &str = "secret";
    /// A node lease.
    pub const LEASE: &str = "lease";
    /// A token of a service account.
    pub const TOKEN: &str = "serviceaccounttoken";
    /// A device.
    pub const DEVICE: &str = "device";
    /// A device model.
    pub const DEVICE_MODEL: &str = "devicemodel";
    /// A Kubernetes Event.
    pub const EVENT: &str = "event";
}

impl Resource {
    /// Names an object.
    pub fn new(namespace: &str, kind: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
    }

    /// Reads `NAMESPACE/TYPE/NAME` or `NAMESPACE/TYPE`; a leading `node/NODE/`,
    /// as the cloud writes it internally, is cut. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split('/').collect();
        if parts.first() == Some(&"node") && parts.len() > 3 {
            parts.drain(..2);
        }
        let [namespace, kind, rest @ ..] = parts.as_slice() else { return None };
        let name = match rest {
            [] => "",
            [name] => name,
            _ => return None,
        };
        (!namespace.is_empty() && !kind.is_empty()).then(|| Self::new(namespace, kind, name))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, "/{}", self.name) }
    }
}
