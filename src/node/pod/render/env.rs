//! The environment of a container, in every form a manifest knows.
//!
//! Source: edge-node.md 1.5 (env rows). Service variables are not injected.

use std::collections::BTreeMap;

use super::allowance::{Allowance, longest_string};
use super::expand::expand;
use super::resource_field::resource_field;
use super::{Context, Wait};
use crate::wire::kube::{Container, EnvVarSource, FieldRef, KeyRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a variable takes beside its name and value: `=`, a zero, a pointer.
const OVERHEAD: usize = 10;

/// Name and value of every variable, in the order of the manifest.
pub fn environment(context: &Context<'_>, container: &Container, room: &mut Allowance) -> Result<Vec<(String, String)>, Wait> {
    let longest = longest_string(context.facts.page_size);
    let mut variables = Variables { order: Vec::new(), values: BTreeMap::new(), longest, room };
    from_objects(context, container, &mut variables)?;
    for (index, variable) in container.env.iter().enumerate() {
        let field = || format!("spec.containers{{{}}}.env[{index}] \"{}\"", container.name, variable.name);
        let value = match &variable.value_from {
            None => Some(variables.expanded(&variable.value, field)?),
            Some(source) => from_source(context, container, source)?,
        };
        if let Some(value) = value {
            variables.set(variable.name.clone(), value, field)?;
        }
    }
    Ok(variables.list())
}

/// The variables so far; a later one overrides an earlier one in its place.
struct Variables<'a> {
    order: Vec<String>,
    values: BTreeMap<String, String>,
    /// Longest `NAME=value`.
    longest: usize,
    room: &'a mut Allowance,
}

impl Variables<'_> {
    fn expanded(&self, text: &str, field: impl Fn() -> String) -> Result<String, Wait> {
        let value = |name: &str| self.values.get(name).map(String::as_str);
        expand(text, self.room.left().min(self.longest), value).map_err(|_| self.too_long(field))
    }

    fn set(&mut self, name: String, value: String, field: impl Fn() -> String) -> Result<(), Wait> {
        if name.len() + 1 + value.len() > self.longest {
            return Err(self.too_long(field));
        }
        self.room.take(name.len() + value.len() + OVERHEAD, field)?;
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
        Ok(())
    }

    fn too_long(&self, field: impl Fn() -> String) -> Wait {
        if self.room.left() < self.longest {
            return self.room.exceeded(field);
        }
        Wait::Missing(format!("{}: a variable with its name is longer than {} bytes", field(), self.longest))
    }

    fn list(mut self) -> Vec<(String, String)> {
        let value = |name: String| {
            let value = self.values.remove(&name).unwrap_or_default();
            (name, value)
        };
        self.order.into_iter().map(value).collect()
    }
}

/// `envFrom`: later objects override earlier ones; the rest overrides both.
fn from_objects(context: &Context<'_>, container: &Container, variables: &mut Variables<'_>) -> Result<(), Wait> {
    let namespace = &context.pod.metadata.namespace;
    for (index, from) in container.env_from.iter().enumerate() {
        let field = |key: &str| format!("spec.containers{{{}}}.envFrom[{index}] key \"{key}\"", container.name);
        if let Some(reference) = &from.config_map_ref {
            let map = context.sources.config_map(namespace, &reference.name).get(|| format!("configmap \"{}\"", reference.name), reference.optional)?;
            for (key, value) in map.iter().flat_map(|map| &map.data) {
                variables.set(format!("{}{key}", from.prefix), value.clone(), || field(key))?;
            }
        }
        if let Some(reference) = &from.secret_ref {
            let secret = context.sources.secret(namespace, &reference.name).get(|| format!("secret \"{}\"", reference.name), reference.optional)?;
            for (key, value) in secret.iter().flat_map(|secret| &secret.data) {
                variables.set(format!("{}{key}", from.prefix), decoded(value), || field(key))?;
            }
        }
    }
    Ok(())
}

fn decoded(base64: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(base64).unwrap_or_default()).into_owned()
}

fn from_source(context: &Context<'_>, container: &Container, source: &EnvVarSource) -> Result<Option<String>, Wait> {
    let namespace = &context.pod.metadata.namespace;
    if let Some(field) = &source.field_ref {
        return field_value(context, field).map(Some).map_err(Wait::Missing);
    }
    if let Some(reference) = &source.resource_field_ref {
        let of = match reference.container_name.as_str() {
            "" => container,
            name => context.pod.container(name).ok_or_else(|| Wait::Missing(format!("container {name} not found")))?,
        };
        return resource_field(context, of, reference).map(Some).map_err(Wait::Missing);
    }
    if let Some(key) = &source.config_map_key_ref {
        let map = context.sources.config_map(namespace, &key.name).get(|| format!("configmap \"{}\"", key.name), key.optional)?;
        return pick(map.and_then(|map| map.data.get(&key.key).cloned()), key, namespace, "ConfigMap");
    }
    if let Some(key) = &source.secret_key_ref {
        let secret = context.sources.secret(namespace, &key.name).get(|| format!("secret \"{}\"", key.name), key.optional)?;
        return pick(secret.and_then(|secret| secret.data.get(&key.key).map(|value| decoded(value))), key, namespace, "Secret");
    }
    Ok(None)
}

fn pick(value: Option<String>, key: &KeyRef, namespace: &str, kind: &str) -> Result<Option<String>, Wait> {
    if value.is_none() && !key.optional {
        return Err(Wait::Missing(format!("couldn't find key {} in {kind} {namespace}/{}", key.key, key.name)));
    }
    Ok(value)
}

/// The value of a field of the pod.
pub fn field_value(context: &Context<'_>, field: &FieldRef) -> Result<String, String> {
    let (pod, path) = (context.pod, field.field_path.as_str());
    let hosts = &context.facts.ips;
    let first = |ips: &[String]| ips.first().cloned().unwrap_or_default();
    let subscript = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("['")).and_then(|rest| rest.strip_suffix("']"));
    Ok(match path {
        "metadata.name" => pod.metadata.name.clone(),
        "metadata.namespace" => pod.metadata.namespace.clone(),
        "metadata.uid" => pod.metadata.uid.clone(),
        "metadata.labels" => lines(&pod.metadata.labels),
        "metadata.annotations" => lines(&pod.metadata.annotations),
        "spec.nodeName" => context.node.to_owned(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" => first(hosts),
        "status.hostIPs" => hosts.join(","),
        "status.podIP" => first(context.ips),
        "status.podIPs" => context.ips.join(","),
        _ => match (subscript("metadata.labels"), subscript("metadata.annotations")) {
            (Some(key), _) => pod.metadata.labels.get(key).cloned().unwrap_or_default(),
            (_, Some(key)) => pod.metadata.annotations.get(key).cloned().unwrap_or_default(),
            (None, None) => return Err(format!("unsupported fieldPath: {path}")),
        },
    })
}

/// `key="value"` lines, as the downward API writes maps.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}
