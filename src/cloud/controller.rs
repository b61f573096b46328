//! What nodes ask and tell, answered as the edge controller answers: objects
//! created, patched, deleted and read. Delivery is not its business.
//!
//! Source: cloud-protocol.md 7.

use serde_json::{Value, json};

use super::objects::{Name, Objects, Refusal, name};
use crate::wire::message::{Message, operation};
use crate::wire::resource::{LEASES, Resource, kind};

/// Makes tokens of service accounts.
pub trait Tokens {
    /// A token for `namespace/account` that ends at `expires` (seconds since
    /// the epoch), for this audience.
    fn token(&self, namespace: &str, account: &str, audiences: &[Value], expires: i64) -> String;
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// Sent once.
    Plain(Value),
    /// An object the node will be kept informed of: sent until acknowledged.
    Kept(Name, Value),
    /// Nothing is said.
    Silence,
}

/// Does what a node asks for, at `wall` milliseconds since the epoch.
pub fn answer(objects: &mut Objects, wall: i64, node: &str, message: &Message, tokens: &dyn Tokens) -> Answer {
    let Some(resource) = message.resource() else { return Answer::Silence };
    let content = content(message);
    let Resource { namespace, kind: of, name: own } = &resource;
    match (of.as_str(), message.route.operation.as_str()) {
        (kind::NODE, operation::INSERT) => wrapped(objects.create(wall, name(kind::NODE, "", node), content)),
        (kind::NODE, operation::QUERY) => bare(find(objects, &name(kind::NODE, "", node))),
        (kind::NODE, operation::UPDATE) => bare(objects.update(&name(kind::NODE, "", node), |object| marks(object, &content)).map(|_| "OK".into())),
        (kind::NODE_PATCH, operation::PATCH) => wrapped(objects.patch_status(&name(kind::NODE, "", node), &content)),
        (kind::POD_PATCH, operation::PATCH) => wrapped(objects.patch_status(&name(kind::POD, namespace, own), &content)),
        (kind::POD, operation::DELETE) => delete_pod(objects, wall, &name(kind::POD, namespace, own), &content),
        (kind::CONFIG_MAP | kind::SECRET, operation::QUERY) => kept(objects, name(of, namespace, own)),
        (kind::TOKEN, operation::QUERY) => bare(token(objects, wall, &resource, content, tokens)),
        (kind::LEASE, operation::QUERY) => wrapped(find(objects, &name(kind::LEASE, LEASES, own))),
        (kind::LEASE, operation::INSERT) => wrapped(objects.create(wall, name(kind::LEASE, LEASES, own), content)),
        (kind::LEASE, operation::UPDATE) => wrapped(replace(objects, &name(kind::LEASE, LEASES, own), content)),
        (kind::EVENT, operation::INSERT | operation::UPDATE | operation::PATCH) => {
            event(objects, wall, &name(kind::EVENT, namespace, own), content);
            Answer::Silence
        }
        _ => Answer::Silence,
    }
}

/// A string that holds JSON means the JSON.
pub fn content(message: &Message) -> Value {
    let value: Value = serde_json::from_str(message.content.get()).unwrap_or_default();
    match value.as_str() {
        Some(text) => serde_json::from_str(text).unwrap_or(value),
        None => value,
    }
}

fn wrapped(result: Result<Value, Refusal>) -> Answer {
    Answer::Plain(match result {
        Ok(object) => json!({ "Object": object, "Err": null }),
        Err(refusal) => json!({ "Object": {}, "Err": refusal.json() }),
    })
}

fn bare(result: Result<Value, Refusal>) -> Answer {
    Answer::Plain(result.unwrap_or_else(|refusal| refusal.json()))
}

fn kept(objects: &Objects, name: Name) -> Answer {
    match find(objects, &name) {
        Ok(object) => Answer::Kept(name, object),
        Err(refusal) => Answer::Plain(refusal.json()),
    }
}

fn find(objects: &Objects, name: &Name) -> Result<Value, Refusal> {
    objects.get(name).cloned().ok_or_else(|| Refusal::not_found(name))
}

fn marks(object: &mut Value, wanted: &Value) {
    for part in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][part].as_object().into_iter().flatten() {
            object["metadata"][part][key] = value.clone();
        }
    }
}

/// A lease of another version is refused.
fn replace(objects: &mut Objects, name: &Name, wanted: Value) -> Result<Value, Refusal> {
    let found = find(objects, name)?;
    let given = &wanted["metadata"]["resourceVersion"];
    if given.is_string() && *given != found["metadata"]["resourceVersion"] {
        return Err(Refusal::conflict(name));
    }
    objects.update(name, |object| object["spec"] = wanted["spec"].clone())
}

/// A pod that is gone, or another one by now, is as good as deleted.
fn delete_pod(objects: &mut Objects, wall: i64, name: &Name, options: &Value) -> Answer {
    let uid = options["preconditions"]["uid"].as_str().or_else(|| options.as_str());
    match objects.delete(wall, name, options["gracePeriodSeconds"].as_i64().or(Some(0)), uid) {
        Ok(()) | Err(Refusal { code: 404 | 409, .. }) => Answer::Plain("OK".into()),
        Err(refusal) => Answer::Plain(refusal.json()),
    }
}

fn token(objects: &Objects, wall: i64, resource: &Resource, mut request: Value, tokens: &dyn Tokens) -> Result<Value, Refusal> {
    let pod = &request["spec"]["boundObjectRef"]["name"];
    let bound = name(kind::POD, &resource.namespace, pod.as_str().unwrap_or_default());
    if pod.is_string() && objects.get(&bound).is_none() {
        return Err(Refusal::not_found(&bound));
    }
    let life = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
    let expires = wall / 1000 + life;
    let audiences = request["spec"]["audiences"].as_array().cloned().unwrap_or_default();
    let token = tokens.token(&resource.namespace, &resource.name, &audiences, expires);
    request["status"] = json!({ "token": token, "expirationTimestamp": crate::wire::rfc3339::seconds(expires * 1000) });
    Ok(request)
}

/// Events that are kept; more push the oldest out.
const EVENTS: usize = 1000;

fn event(objects: &mut Objects, wall: i64, name: &Name, content: Value) {
    let event = if content["event"].is_object() { content["event"].clone() } else { content };
    if objects.update(name, |object| object.clone_from(&with_metadata_of(object, &event))).is_ok() {
        return;
    }
    let oldest = objects.of(kind::EVENT).min_by_key(|(_, object)| super::objects::version(object)).map(|(name, _)| name.clone());
    if let Some(oldest) = oldest.filter(|_| objects.of(kind::EVENT).count() >= EVENTS) {
        let _ = objects.delete(wall, &oldest, Some(0), None);
    }
    let _ = objects.create(wall, name.clone(), event);
}

fn with_metadata_of(object: &Value, event: &Value) -> Value {
    let mut event = event.clone();
    event["metadata"] = object["metadata"].clone();
    event
}
