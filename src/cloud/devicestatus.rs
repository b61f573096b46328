//! What devices report, kept in DeviceStatus objects as the device controller
//! keeps it, its fault included: the first report of a property makes an empty
//! entry, only the second brings a value.
//!
//! Source: devices.md 2.7 and 3.4.

use serde_json::{Value, json};

use super::controller::content;
use super::objects::{Change, Objects, Verb, name};
use crate::wire::message::Message;
use crate::wire::resource::kind;

/// Kind of the objects that hold what devices report.
pub const DEVICE_STATUS: &str = "devicestatus";

/// A device has a status from its beginning to its end.
pub fn changed(objects: &mut Objects, wall: i64, change: &Change) {
    let (kind, namespace, own) = &change.name;
    if kind != kind::DEVICE {
        return;
    }
    let status = name(DEVICE_STATUS, namespace, own);
    match change.verb {
        Verb::Added => {
            let owner = json!([{ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "name": own, "uid": change.object["metadata"]["uid"] }]);
            let object = json!({ "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceStatus", "metadata": { "ownerReferences": owner }, "spec": {}, "status": {} });
            // Refused when a device of that name left one.
            let _ = objects.create(wall, status, object);
        }
        Verb::Modified => {}
        Verb::Deleted => {
            let _ = objects.delete(wall, &status, None, None);
        }
    }
}

/// Takes a report; whether it is confirmed. One of an unknown device is not.
pub fn reported(objects: &mut Objects, message: &Message) -> bool {
    let parts: Vec<&str> = message.route.resource.split('/').collect();
    let ["device", namespace, own, what @ ..] = parts.as_slice() else { return false };
    let Some(device) = objects.get(&name(kind::DEVICE, namespace, own)).cloned() else { return false };
    let content = content(message);
    let status = name(DEVICE_STATUS, namespace, own);
    match what {
        ["twin", "edge_updated"] => objects.update(&status, |object| twins(&mut object["status"], &device["spec"], &content["twin"])).is_ok(),
        ["state", "update"] => objects.update(&status, |object| state(&mut object["status"], &content["device"])).is_ok(),
        _ => false,
    }
}

/// Properties the device does not declare are left out.
fn twins(status: &mut Value, spec: &Value, reports: &Value) {
    if !status["twins"].is_array() {
        status["twins"] = json!([]);
    }
    let Some(twins) = status["twins"].as_array_mut() else { return };
    for (property, report) in reports.as_object().into_iter().flatten() {
        let declared = spec["properties"].as_array().into_iter().flatten().any(|declared| declared["name"] == property.as_str());
        match twins.iter_mut().find(|twin| twin["propertyName"] == property.as_str()) {
            Some(twin) => {
                take(&mut twin["reported"], report, "actual");
                take(&mut twin["observedDesired"], report, "expected");
            }
            None if declared => twins.push(json!({ "propertyName": property, "reported": { "value": "" }, "observedDesired": { "value": "" } })),
            None => {}
        }
    }
}

fn take(value: &mut Value, report: &Value, part: &str) {
    let Some(told) = report[part]["value"].as_str() else { return };
    *value = json!({ "value": told, "metadata": {} });
    if let Some(at) = report[part]["metadata"]["timestamp"].as_i64() {
        value["metadata"]["timestamp"] = at.to_string().into();
    }
    if report["metadata"]["type"].is_string() {
        value["metadata"]["type"] = report["metadata"]["type"].clone();
    }
}

/// A device that is not online keeps the time when it last was.
fn state(status: &mut Value, device: &Value) {
    status["state"] = device["state"].clone();
    if device["lastOnlineTime"].as_str().is_some_and(|time| !time.is_empty()) {
        status["lastOnlineTime"] = device["lastOnlineTime"].clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{Header, Route, raw};

    fn report(resource: &str, content: &Value) -> Message {
        Message { header: Header::default(), route: Route { resource: resource.to_owned(), ..Route::default() }, content: raw(content) }
    }

    fn world() -> Objects {
        let mut objects = Objects::default();
        let device = json!({ "metadata": {}, "spec": { "properties": [{ "name": "temperature" }] } });
        objects.create(0, name(kind::DEVICE, "default", "t"), device).expect("it is new");
        settle(&mut objects);
        objects
    }

    fn settle(objects: &mut Objects) {
        while let Some(change) = objects.poll() {
            changed(objects, 0, &change);
        }
    }

    #[test]
    fn the_first_report_of_a_property_is_lost() {
        let mut objects = world();
        let twin = json!({ "twin": {
            "temperature": { "actual": { "value": "22.5", "metadata": { "timestamp": 7 } }, "expected": { "value": "23" }, "metadata": { "type": "float" } },
            "undeclared": { "actual": { "value": "1" } },
        } });
        let status = |objects: &Objects| objects.get(&name(DEVICE_STATUS, "default", "t")).expect("it was made")["status"].clone();
        assert!(reported(&mut objects, &report("device/default/t/twin/edge_updated", &twin)));
        assert_eq!(status(&objects)["twins"], json!([{ "propertyName": "temperature", "reported": { "value": "" }, "observedDesired": { "value": "" } }]));
        // Written as text, as some agents do.
        assert!(reported(&mut objects, &report("device/default/t/twin/edge_updated", &twin.to_string().into())));
        assert_eq!(
            status(&objects)["twins"],
            json!([{
                "propertyName": "temperature",
                "reported": { "value": "22.5", "metadata": { "timestamp": "7", "type": "float" } },
                "observedDesired": { "value": "23", "metadata": { "type": "float" } },
            }])
        );
        assert!(!reported(&mut objects, &report("device/default/other/twin/edge_updated", &twin)), "an unknown device is not confirmed");
    }

    #[test]
    fn a_state_keeps_the_last_time_online() {
        let mut objects = world();
        let device = |state: &str, time: &str| json!({ "device": { "name": "t", "state": state, "lastOnlineTime": time } });
        assert!(reported(&mut objects, &report("device/default/t/state/update", &device("online", "2026-11-22T11:25:23Z"))));
        assert!(reported(&mut objects, &report("device/default/t/state/update", &device("offline", ""))));
        let status = &objects.get(&name(DEVICE_STATUS, "default", "t")).expect("it was made")["status"];
        assert_eq!(*status, json!({ "state": "offline", "lastOnlineTime": "2026-11-22T11:25:23Z" }));
        objects.delete(0, &name(kind::DEVICE, "default", "t"), None, None).expect("it is there");
        settle(&mut objects);
        assert!(objects.get(&name(DEVICE_STATUS, "default", "t")).is_none());
    }
}
