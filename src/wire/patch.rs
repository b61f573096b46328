//! Strategic merge patches of a status: only what changed.
//!
//! Source: Kubernetes' strategic merge patch; `conditions` merge by `type`,
//! pod `podIPs`/`hostIPs` by `ip`, node `addresses` by `type`, every other list
//! is replaced as a whole.

use serde_json::{Map, Value, json};

/// What turns `old` into `new`, or `None` when nothing would change.
///
/// Members that `old` has and `new` lacks are set to null if they are among
/// `own`; the others belong to somebody else, as conditions of other types do.
pub fn status(old: &Value, new: &Value, own: &[&str]) -> Option<Value> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let mut patch = Map::new();
    for (key, value) in new {
        match key.as_str() {
            "conditions" => conditions(old.get(key), value, &mut patch),
            "podIPs" | "hostIPs" | "addresses" => replace(key, old.get(key), value, &mut patch),
            _ => {
                if let Some(change) = merge(old.get(key), value) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    for key in own.iter().filter(|key| old.contains_key(**key) && !new.contains_key(**key)) {
        patch.insert((*key).to_owned(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Only the conditions that differ, each whole, and their order.
fn conditions(old: Option<&Value>, new: &Value, patch: &mut Map<String, Value>) {
    let (old, new) = (typed(old), typed(Some(new)));
    let by_type = |kind: &str| old.iter().find(|(other, _)| *other == kind).map(|(_, condition)| *condition);
    let changed: Vec<Value> = new
        .iter()
        .filter_map(|(kind, condition)| match by_type(kind) {
            None => Some(Value::Object((*condition).clone())),
            Some(before) => member(kind, before, condition),
        })
        .collect();
    if changed.is_empty() {
        return;
    }
    patch.insert("$setElementOrder/conditions".into(), new.iter().map(|(kind, _)| json!({ "type": kind })).collect());
    patch.insert("conditions".into(), Value::Array(changed));
}

/// The conditions of a list by their type; what is none is left out.
fn typed(list: Option<&Value>) -> Vec<(&str, &Map<String, Value>)> {
    let objects = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    objects.filter_map(|condition| Some((condition.get("type")?.as_str()?, condition))).collect()
}

/// A changed element of a list merged by type: its key and what differs.
fn member(kind: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Option<Value> {
    let mut change = merge_maps(before, after)?;
    change.insert("type".to_owned(), kind.into());
    Some(Value::Object(change))
}

/// A list merged by key that shall be exactly the new one.
fn replace(key: &str, old: Option<&Value>, new: &Value, patch: &mut Map<String, Value>) {
    if old == Some(new) || (old.is_none() && new.as_array().is_some_and(Vec::is_empty)) {
        return;
    }
    let mut list = new.as_array().cloned().unwrap_or_default();
    if old.is_some() {
        list.push(json!({ "$patch": "replace" }));
    }
    patch.insert(key.to_owned(), Value::Array(list));
}

/// What differs, or `None`. Maps are merged, all else is replaced.
fn merge(old: Option<&Value>, new: &Value) -> Option<Value> {
    match (old, new) {
        (Some(old), new) if old == new => None,
        (Some(Value::Object(old)), Value::Object(new)) => merge_maps(old, new).map(Value::Object),
        (None, Value::Null) => None,
        (_, new) => Some(new.clone()),
    }
}

/// What differs between two maps; what is gone becomes null.
fn merge_maps(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut change: Map<String, Value> = new.iter().filter_map(|(key, value)| Some((key.clone(), merge(old.get(key), value)?))).collect();
    let gone = old.iter().filter(|(key, value)| !value.is_null() && !new.contains_key(key.as_str()));
    change.extend(gone.map(|(key, _)| (key.clone(), Value::Null)));
    (!change.is_empty()).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statuses come from the cloud: whatever stands where a list or an object
    /// should, a patch is made of the rest.
    #[test]
    fn what_changes_its_type_is_replaced_or_left_out() {
        let shapes = [
            json!(null),
            json!("x"),
            json!(7),
            json!([]),
            json!({}),
            json!([1, "Ready", null, [], {}]),
            json!([{ "status": "True" }]),
            json!([{ "type": 7 }]),
            json!([{ "type": "Ready", "status": {} }]),
            json!([{ "type": "Ready", "status": "True", "reason": null }]),
        ];
        for old in &shapes {
            for new in &shapes {
                let of = |value: &Value| json!({ "conditions": value, "podIPs": value, "capacity": value });
                for (old, new) in [(of(old), of(new)), (old.clone(), of(new)), (of(old), new.clone())] {
                    let _ = status(&old, &new, &["reason"]);
                }
            }
        }
        let ready = |ready: Value| json!({ "conditions": [{ "type": "Ready", "status": ready }] });
        let change = status(&ready(json!({ "a": 1 })), &ready("True".into()), &[]).expect("it differs");
        assert_eq!(change["conditions"], json!([{ "type": "Ready", "status": "True" }]));
        let change = status(&json!({ "conditions": ["Ready"] }), &ready("True".into()), &[]).expect("it differs");
        assert_eq!(change["conditions"], json!([{ "type": "Ready", "status": "True" }]));
    }

    #[test]
    fn only_what_changed_is_said() {
        let old = json!({"phase": "Pending", "qosClass": "Burstable", "reason": "x", "conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "Mine", "status": "True"}]});
        let new = json!({"phase": "Running", "qosClass": "Burstable", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(
            status(&old, &new, &["reason"]),
            Some(json!({"phase": "Running", "reason": null, "podIPs": [{"ip": "10.0.0.1"}],
                "$setElementOrder/conditions": [{"type": "Ready"}], "conditions": [{"type": "Ready", "status": "True", "reason": null}]}))
        );
        assert_eq!(status(&new, &new, &[]), None);
        assert_eq!(status(&old, &json!({"phase": "Pending", "qosClass": "Burstable"}), &[]), None);
    }

    #[test]
    fn keyed_lists_are_replaced_and_maps_merged() {
        let old = json!({"addresses": [{"type": "InternalIP", "address": "1"}], "capacity": {"cpu": "1", "gone": "1"}});
        let new = json!({"addresses": [{"type": "InternalIP", "address": "2"}], "capacity": {"cpu": "2"}});
        assert_eq!(
            status(&old, &new, &[]),
            Some(json!({"addresses": [{"type": "InternalIP", "address": "2"}, {"$patch": "replace"}], "capacity": {"cpu": "2", "gone": null}}))
        );
    }
}
