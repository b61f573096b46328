//! Which nodes a pod may run on.

use serde::Deserialize;

/// The part of an affinity that a node looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Affinity {
    /// Which nodes the pod may run on.
    pub node_affinity: NodeAffinity,
}

/// Affinity to nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeAffinity {
    /// What must hold when the pod is bound; afterwards the node may change.
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub required: Option<NodeSelector>,
}

/// Terms of which one must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelector {
    /// Terms of which one must hold; none at all holds for no node.
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// Requirements that must all hold; a term without any holds for no node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSelectorTerm {
    /// Of the node's labels.
    pub match_expressions: Vec<NodeRequirement>,
    /// Of its fields: `metadata.name`.
    pub match_fields: Vec<NodeRequirement>,
}

/// A requirement of a label or field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeRequirement {
    /// The label or field.
    pub key: String,
    /// How it is compared.
    pub operator: NodeOperator,
    /// The values it is compared with.
    #[serde(default)]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum NodeOperator {
    /// It is one of the values.
    In,
    /// It is none of them, or missing.
    NotIn,
    /// It is there.
    Exists,
    /// It is missing.
    DoesNotExist,
    /// It is a greater number.
    Gt,
    /// It is a smaller number.
    Lt,
}
