//! The environment of a container, in every form a manifest knows.
//!
//! Source: edge-node.md 1.5 (env rows). Service variables are not injected.

use std::collections::BTreeMap;

use super::expand::expand;
use super::resources::container_resource;
use super::{Context, Wait};
use crate::wire::kube::{Container, EnvVarSource, FieldRef, KeyRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Name and value of every variable, in the order of the manifest.
pub fn environment(context: &Context<'_>, container: &Container) -> Result<Vec<(String, String)>, Wait> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: String, value: String| {
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for (name, value) in from_objects(context, container)? {
        set(name, value);
    }
    for variable in &container.env {
        let value = match &variable.value_from {
            None => Some(expand(&variable.value, &values)),
            Some(source) => from_source(context, container, source)?,
        };
        if let Some(value) = value
            && values.insert(variable.name.clone(), value).is_none()
        {
            order.push(variable.name.clone());
        }
    }
    Ok(order.into_iter().map(|name| (name.clone(), values.remove(&name).unwrap_or_default())).collect())
}

/// `envFrom`: later objects override earlier ones; the rest overrides both.
fn from_objects(context: &Context<'_>, container: &Container) -> Result<Vec<(String, String)>, Wait> {
    let namespace = &context.pod.metadata.namespace;
    let mut all = Vec::new();
    for from in &container.env_from {
        if let Some(reference) = &from.config_map_ref {
            let map = context.sources.config_map(namespace, &reference.name).get(|| format!("configmap \"{}\"", reference.name), reference.optional)?;
            all.extend(map.unwrap_or_default().data.into_iter().map(|(key, value)| (format!("{}{key}", from.prefix), value)));
        }
        if let Some(reference) = &from.secret_ref {
            let secret = context.sources.secret(namespace, &reference.name).get(|| format!("secret \"{}\"", reference.name), reference.optional)?;
            all.extend(secret.unwrap_or_default().data.into_iter().map(|(key, value)| (format!("{}{key}", from.prefix), decoded(&value))));
        }
    }
    Ok(all)
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
        let of = context.pod.container(&reference.container_name).unwrap_or(container);
        return container_resource(context, of, reference).map(Some).map_err(Wait::Missing);
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
