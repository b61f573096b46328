//! What CloudCore's dynamicController does with requests to the API server: of
//! those, the stand-in knows list and get of what it has.
//!
//! Source: cloud-protocol.md 7.7.

use serde_json::{Value, json};

use super::objects::{self, Objects, Refusal};
use crate::wire::application::{ANY, Application, Bytes};

/// Fills the answer in.
pub fn answer(objects: &Objects, mut application: Application) -> Application {
    let result = match (parts(&application.key), application.verb.as_str()) {
        (Some(key), "list") => list(objects, key, &application.option.json().unwrap_or_default()),
        (Some(key), "get") => get(objects, key),
        (Some(_), verb) => Err(Reason::Plain(format!("the stand-in knows no {verb}"))),
        (None, _) => Err(Reason::Plain(format!("'{}' is no /GROUP/VERSION/RESOURCE/NAMESPACE/NAME", application.key))),
    };
    application.status = if result.is_ok() { "Approved" } else { "Rejected" }.to_owned();
    match result {
        Ok(found) => application.resp_body = Bytes::of(&found),
        Err(Reason::Plain(why)) => application.reason = why,
        Err(Reason::Refusal(refusal)) => application.error = refusal.json(),
    }
    application
}

enum Reason {
    Plain(String),
    Refusal(Refusal),
}

/// Kind, namespace and name of a key.
fn parts(key: &str) -> Option<[&str; 3]> {
    let [_, _, resource, namespace, name] = key.strip_prefix('/')?.split('/').collect::<Vec<_>>().try_into().ok()?;
    Some([resource.strip_suffix('s')?, namespace, name])
}

fn list(objects: &Objects, [kind, namespace, _]: [&str; 3], options: &Value) -> Result<Value, Reason> {
    let selectors: Vec<(String, &str)> = options["fieldSelector"]
        .as_str()
        .unwrap_or_default()
        .split(',')
        .filter_map(|one| one.split_once('='))
        .map(|(path, value)| (pointer(path), value))
        .collect();
    let chosen = |object: &Value| selectors.iter().all(|(path, value)| object.pointer(path).and_then(Value::as_str).unwrap_or_default() == *value);
    let items: Vec<&Value> =
        objects.of(kind).filter(|(name, object)| (namespace == ANY || name.1 == namespace) && chosen(object)).map(|(_, object)| object).collect();
    Ok(json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items }))
}

/// `spec.nodeName` as a JSON pointer.
fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn get(objects: &Objects, [kind, namespace, name]: [&str; 3]) -> Result<Value, Reason> {
    let name = objects::name(kind, namespace, name);
    objects.get(&name).cloned().ok_or_else(|| Reason::Refusal(Refusal::not_found(&name)))
}
