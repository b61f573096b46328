//! A strategic merge patch, applied as the API server applies it to a status.

use serde_json::{Map, Value};

/// Lists that merge by a member of their elements; the others are replaced.
fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "conditions" | "addresses" => Some("type"),
        "podIPs" | "hostIPs" => Some("ip"),
        _ => None,
    }
}

/// Applies a patch.
pub fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("it was made an object above");
    for (key, change) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        match (change, merge_key(key)) {
            (Value::Null, _) => drop(map.remove(key)),
            (Value::Array(elements), Some(by)) => elements_merged(map.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new())), elements, by),
            (Value::Object(_), _) => apply(map.entry(key.clone()).or_insert(Value::Null), change),
            _ => drop(map.insert(key.clone(), change.clone())),
        }
    }
}

fn elements_merged(list: &mut Value, changes: &[Value], by: &str) {
    let replace = changes.iter().any(|change| change["$patch"] == "replace");
    if replace || !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let list = list.as_array_mut().expect("it was made a list above");
    for change in changes.iter().filter(|change| change["$patch"] != "replace") {
        let at = list.iter().position(|element| element[by] == change[by]);
        match (at, change["$patch"] == "delete") {
            (Some(at), true) => drop(list.remove(at)),
            (Some(at), false) => apply(&mut list[at], change),
            (None, true) => {}
            (None, false) => {
                let mut element = Value::Null;
                apply(&mut element, change);
                list.push(element);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::patch;
    use serde_json::json;

    #[test]
    fn what_the_agent_sends_leads_to_what_it_means() {
        let old = json!({"phase": "Pending", "reason": "x", "conditions": [{"type": "Ready", "status": "False", "reason": "r"}], "podIPs": [{"ip": "1"}]});
        let new =
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "podIPs": [{"ip": "2"}], "containerStatuses": [{"name": "c"}]});
        let mut target = old.clone();
        apply(&mut target, &patch::status(&old, &new, &["reason"]).expect("they differ"));
        assert_eq!(target, new);
        let mut foreign = json!({"conditions": [{"type": "Mine", "status": "True"}]});
        apply(&mut foreign, &json!({"conditions": [{"type": "Ready", "status": "True"}, {"$patch": "delete", "type": "Gone"}]}));
        assert_eq!(foreign["conditions"].as_array().map(Vec::len), Some(2));
    }
}
