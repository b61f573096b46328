//! Nothing a device says is lost, whatever dies meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use selvedge::cloud::objects::name;
use selvedge::node::dmi;
use selvedge::node::input::Ask;
use selvedge::node::store::{Key, Row};
use selvedge::wire::dmi::{DeviceStatus, ReportDeviceStatusRequest, Twin, TwinProperty};
use serde_json::{Value, json};

use crate::sim::World;
use crate::sim::world::Network;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const UPDATE: &str = "$hw/events/device/default/thermo/twin/update";
const RESULT: &str = "$hw/events/device/default/thermo/twin/update/result";
const DELTA: &str = "$hw/events/device/default/thermo/twin/update/delta";

fn device(name: &str, desired: &str) -> Value {
    json!({
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "deviceModelRef": { "name": "thermo-model" }, "nodeName": "edge", "protocol": { "protocolName": "modbus" },
            "properties": [{ "name": "t", "reportToCloud": true }, { "name": "s", "desired": { "value": desired }, "reportToCloud": true }],
        },
    })
}

fn model() -> Value {
    json!({
        "apiVersion": "devices.kubeedge.io/v1beta1", "kind": "DeviceModel", "metadata": { "name": "thermo-model", "namespace": "default" },
        "spec": { "protocol": "modbus", "properties": [
            { "name": "t", "type": "FLOAT", "accessMode": "ReadOnly" },
            { "name": "s", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "30" },
        ] },
    })
}

/// A node with a thermometer.
fn thermometer(seed: u64) -> World {
    let mut world = World::ready(seed);
    world.apply(model());
    world.apply(device("thermo", "21"));
    world.run(5 * SECOND);
    world
}

fn says(value: &str) -> String {
    json!({ "event_id": value, "twin": { "t": { "actual": { "value": value } } } }).to_string()
}

/// What the cluster shows as the thermometer's temperature.
fn shown(world: &World, property: &str) -> Option<String> {
    let status = world.cloud.objects().get(&name("devicestatus", "default", "thermo"))?;
    let twins = status["status"]["twins"].as_array()?;
    twins.iter().find(|twin| twin["propertyName"] == property)?["reported"]["value"].as_str().map(str::to_owned)
}

fn results(world: &World) -> Vec<String> {
    world.broker.heard.iter().filter(|(topic, _)| topic == RESULT).map(|(_, payload)| payload["event_id"].as_str().unwrap_or_default().to_owned()).collect()
}

fn last_delta(world: &World) -> Option<&Value> {
    world.broker.heard.iter().rev().find(|(topic, _)| topic == DELTA).map(|(_, payload)| &payload["delta"])
}

#[test]
fn the_first_report_of_a_property_is_shown_although_the_cloud_loses_it() {
    let mut world = thermometer(1);
    world.publish(UPDATE, &says("20.5"));
    world.run(5 * SECOND);
    assert_eq!(shown(&world, "t").as_deref(), Some("20.5"));
    assert_eq!(results(&world), ["20.5"]);
}

#[test]
fn the_newest_of_a_week_offline_is_shown_when_the_cloud_is_back() {
    let mut world = thermometer(2);
    world.publish(UPDATE, &says("20"));
    world.run(5 * SECOND);
    world.set_network(Network::Cut);
    for hour in 0..7 * 24 {
        world.publish(UPDATE, &says(&hour.to_string()));
        world.run(HOUR);
        if hour % 50 == 0 {
            world.reboot();
        }
    }
    assert_eq!((results(&world).len(), world.broker.waiting()), (1 + 7 * 24, 0), "everything is answered without the cloud");
    world.set_network(Network::Up);
    world.run(30 * SECOND);
    assert_eq!(shown(&world, "t").as_deref(), Some("167"));
}

#[test]
fn wishes_made_while_the_node_was_away_become_a_delta() {
    let mut world = thermometer(3);
    assert_eq!(last_delta(&world), Some(&json!({ "s": "21" })));
    world.set_network(Network::Cut);
    world.run(60 * SECOND);
    world.apply(device("thermo", "25"));
    world.run(60 * SECOND);
    world.set_network(Network::Up);
    world.run(30 * SECOND);
    assert_eq!(last_delta(&world), Some(&json!({ "s": "25" })));
}

#[test]
fn a_device_that_went_while_the_node_was_away_is_told_to_be_gone() {
    let mut world = thermometer(4);
    world.set_network(Network::Cut);
    world.run(60 * SECOND);
    world.delete_object("device", "thermo");
    world.run(60 * SECOND);
    world.set_network(Network::Up);
    world.run(60 * SECOND);
    let gone =
        world.broker.heard.iter().any(|(topic, payload)| topic.ends_with("membership/updated") && payload["removed_devices"][0]["id"] == "default/thermo");
    assert!(gone, "{:#?}", world.broker.heard);
}

#[test]
fn equal_values_cost_no_write_and_no_message() {
    let mut world = thermometer(5);
    world.publish(UPDATE, &says("20"));
    world.run(30 * SECOND);
    let before = (world.disk.writes, reports(&world));
    for _ in 0..100 {
        world.publish(UPDATE, &says("20"));
        world.run(SECOND / 10);
    }
    assert_eq!((world.disk.writes, reports(&world)), before);
    assert_eq!(results(&world).len(), 101);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_forgets_nothing() {
    let mut world = thermometer(6);
    world.set_disk_full(true);
    world.run(SECOND);
    for value in 0..50 {
        world.publish(UPDATE, &says(&value.to_string()));
    }
    world.publish("a/user/b", "\"kept\"");
    world.run(20 * SECOND);
    assert_eq!((world.broker.waiting(), results(&world).len()), (51, 0));
    assert_eq!(shown(&world, "t").as_deref(), Some("49"), "the cloud hears of it all the same");
    world.set_disk_full(false);
    world.run(5 * SECOND);
    assert_eq!((world.broker.waiting(), results(&world).len()), (0, 50));
}

#[test]
fn a_value_that_is_only_in_memory_is_not_acknowledged_when_it_is_said_again() {
    let mut world = thermometer(9);
    world.set_disk_full(true);
    world.run(SECOND);
    for _ in 0..2 {
        world.publish(UPDATE, &says("7"));
        world.run(SECOND);
    }
    assert_eq!((world.broker.waiting(), results(&world).len()), (2, 0));
    world.publish("$hw/events/device/default/thermo/twin/get", "{}");
    world.run(SECOND);
    let told = world.broker.heard.iter().any(|(topic, payload)| topic.ends_with("twin/get/result") && payload["twin"]["t"]["actual"]["value"] == "7");
    assert!(told && world.broker.waiting() == 2, "reading needs no disk");
    world.set_disk_full(false);
    world.run(5 * SECOND);
    assert_eq!((world.broker.waiting(), results(&world).len()), (0, 2));
}

#[test]
fn a_broker_that_flaps_loses_nothing_of_qos_1() {
    let mut world = thermometer(7);
    for value in 0..40 {
        world.publish(UPDATE, &says(&value.to_string()));
        world.publish("a/user/b", &value.to_string());
        world.run(Duration::from_millis(3 * value));
        world.set_broker(value % 3 == 0);
    }
    world.set_broker(true);
    world.run(20 * SECOND);
    assert_eq!((world.broker.waiting(), shown(&world, "t").as_deref()), (0, Some("39")));
    assert!((0..40).all(|value| uploaded(&world).contains(&value.to_string())), "{:?}", uploaded(&world));
}

fn uploaded(world: &World) -> Vec<String> {
    world.cloud.uploads().map(|upload| upload["content"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Whenever the agent dies: what a mapper's report was answered for is there
/// afterwards.
#[test]
fn a_mapper_that_was_answered_is_believed() {
    let (mut answered, mut unanswered) = (0, 0);
    for at in 0..40 {
        let mut world = thermometer(at);
        let reported = TwinProperty { value: "7".into(), ..TwinProperty::default() };
        let twin = Twin { property_name: "t".into(), reported: Some(reported), ..Twin::default() };
        let reported_device = Some(DeviceStatus { twins: vec![twin], ..DeviceStatus::default() });
        world.mapper_asks(dmi::Ask::ReportStatus(ReportDeviceStatusRequest {
            device_name: "thermo".into(),
            device_namespace: "default".into(),
            reported_device,
        }));
        world.run(Duration::from_millis(at));
        let safe = world.mappers.answers == 1;
        world.reboot();
        world.run(90 * SECOND);
        assert!(!safe || shown(&world, "t").as_deref() == Some("7"), "died at {at} ms");
        *(if safe { &mut answered } else { &mut unanswered }) += 1;
    }
    assert!(answered > 5 && unanswered > 5, "{answered} were answered, {unanswered} were not");
}

/// Twenty values and twenty user messages; the agent or the power dies at some
/// instant, and the network comes and goes.
#[test]
fn the_agent_may_die_at_any_instant_of_a_report() {
    for at in (0..1000).step_by(9) {
        for power in [false, true] {
            let mut world = thermometer(at);
            let mut dead = false;
            for value in 0..20u64 {
                world.publish(UPDATE, &says(&value.to_string()));
                world.publish("a/user/b", &value.to_string());
                match value {
                    5 => world.set_network(Network::Cut),
                    9 => world.set_network(Network::Up),
                    _ => {}
                }
                let (begin, end) = (value * 50, value * 50 + 50);
                if !dead && (begin..end).contains(&at) {
                    world.run(Duration::from_millis(at - begin));
                    if power {
                        world.reboot();
                    } else {
                        world.kill();
                        world.start();
                    }
                    dead = true;
                }
                world.run(Duration::from_millis(50));
            }
            world.run(90 * SECOND);
            let when = format!("died at {at} ms, power lost: {power}");
            assert_eq!(world.broker.waiting(), 0, "{when}");
            assert_eq!(shown(&world, "t").as_deref(), Some("19"), "{when}");
            let uploaded = uploaded(&world);
            assert!((0..20).all(|value| uploaded.contains(&value.to_string())), "{when}: {uploaded:?}");
        }
    }
}

#[test]
fn reports_keep_to_their_rate_and_the_newest_wins() {
    let mut world = World::ready(8);
    world.apply(model());
    for number in 0..200 {
        world.apply(device(&format!("d{number}"), "21"));
    }
    world.run(60 * SECOND);
    let before = reports(&world);
    for round in 0..100 {
        for number in 0..200 {
            world.publish(&format!("$hw/events/device/default/d{number}/twin/update"), &says(&round.to_string()));
        }
        world.run(SECOND / 10);
    }
    let sent = reports(&world) - before;
    assert!(sent <= 30 * 11 + 30, "{sent} messages in 10 s for 20,000 updates");
    world.run(60 * SECOND);
    for number in 0..200 {
        let status = world.cloud.objects().get(&name("devicestatus", "default", &format!("d{number}"))).expect("it reports");
        assert!(status.to_string().contains("\"99\""), "d{number}: {status}");
    }
}

/// Reports of devices the cloud heard, whatever the type in their resource.
fn reports(world: &World) -> u64 {
    world.traffic.iter().filter(|((operation, of), _)| operation == "update" && of.starts_with("device/")).map(|(_, count)| count).sum()
}

const STATE: &str = "$hw/events/device/default/thermo/state/update";

fn temperature_at_the_edge(world: &World) -> Option<&Value> {
    let result = |topic: &str| topic.ends_with("twin/get/result");
    world.broker.heard.iter().rev().find(|(topic, _)| result(topic)).map(|(_, payload)| &payload["twin"]["t"]["actual"]["value"])
}

/// What the broker kept is old: whoever restarts, the newest value stays, here
/// and in the cloud, and users' messages go up once.
#[test]
fn a_retained_report_overrides_nothing_whoever_restarts() {
    for session_kept in [true, false] {
        let mut world = thermometer(10);
        world.publish_retained(UPDATE, &says("77"));
        world.publish_retained(STATE, r#"{"state":"offline"}"#);
        world.publish_retained("a/user/b", "kept");
        world.run(10 * SECOND);
        world.publish(UPDATE, &says("5"));
        world.publish(STATE, r#"{"state":"online"}"#);
        world.run(10 * SECOND);
        let before = reports(&world);
        for restart in ["broker", "agent", "machine"] {
            world.set_broker(false);
            world.run(SECOND);
            if !session_kept {
                world.broker.forget_session();
            }
            match restart {
                "agent" => {
                    world.kill();
                    world.broker.down = false;
                    world.start();
                }
                "machine" => {
                    world.broker.down = false;
                    world.reboot();
                }
                _ => world.set_broker(true),
            }
            world.run(90 * SECOND);
            world.publish("$hw/events/device/default/thermo/twin/get", "{}");
            world.run(SECOND);
            let when = format!("the {restart} restarted, session kept: {session_kept}");
            assert_eq!((world.broker.waiting(), temperature_at_the_edge(&world)), (0, Some(&json!("5"))), "{when}");
            assert_eq!(shown(&world, "t").as_deref(), Some("5"), "{when}");
            let status = &world.cloud.objects().get(&name("devicestatus", "default", "thermo")).expect("it reports")["status"];
            assert_eq!(status["state"], "online", "{when}");
        }
        assert_eq!(results(&world), ["77", "5"], "nobody waits for an answer to a retained message");
        let uploads = uploaded(&world).len();
        assert!(if session_kept { uploads == 1 } else { uploads > 1 }, "{uploads}: a session that is new may have missed it");
        assert!(reports(&world) - before <= 3 * 2, "{} reports of values that did not change", reports(&world) - before);
    }
}

#[test]
fn what_a_retained_report_says_first_is_taken() {
    let mut world = World::ready(11);
    world.set_broker(false);
    world.run(SECOND);
    world.apply(model());
    world.apply(device("thermo", "21"));
    world.run(5 * SECOND);
    world.broker.retain(UPDATE, &says("77"));
    world.broker.retain("a/user/b", "kept");
    world.broker.forget_session();
    world.set_broker(true);
    world.run(5 * SECOND);
    assert_eq!(shown(&world, "t").as_deref(), Some("77"));
    assert_eq!((results(&world), uploaded(&world)), (vec!["77".to_owned()], vec!["kept".to_owned()]));
}

fn bus(world: &mut World) -> Value {
    world.ask(Ask::Status)["bus"].clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Messages on topics with this end, in order.
fn heard<'a>(world: &'a World, end: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    world.broker.heard.iter().filter(move |(topic, _)| topic.ends_with(end)).map(|(topic, payload)| (topic.as_str(), payload))
}

/// A broker that reads a thousand messages a second is told all deltas once, and
/// next to nothing waits meanwhile.
#[test]
fn ten_thousand_devices_start_beside_a_slow_broker_and_no_delta_is_dropped() {
    let mut world = World::ready(12);
    world.kill();
    let keep = |world: &mut World, resource: String, object: &Value| {
        world.disk.rows.insert(Key::Object(resource.as_str().into()), Row::Object(object.to_string()));
    };
    keep(&mut world, "default/devicemodel/thermo-model".to_owned(), &model());
    for number in 0..10_000 {
        let name = format!("d{number}");
        keep(&mut world, format!("default/device/{name}"), &device(&name, "21"));
    }
    world.broker.pace = Some(1);
    world.start();
    let mut most = 0;
    for _ in 0..15 {
        world.run(SECOND);
        let bus = bus(&mut world);
        assert_eq!(bus["dropped"], 0);
        most = most.max(number(&bus["waiting"]) + number(&bus["held"]));
    }
    let told: BTreeSet<&str> = heard(&world, "/twin/update/delta").map(|(topic, _)| topic).collect();
    assert_eq!((told.len(), heard(&world, "/twin/update/delta").count()), (10_000, 10_000), "each once");
    assert!(most < 64 << 10, "{most} bytes waited");
}

/// More than there is room for: changes of a property are told together, in
/// order and without a gap, and each answer is given.
#[test]
fn documents_leave_no_gap_however_slow_the_broker_is() {
    let mut world = thermometer(13);
    world.broker.heard.clear();
    world.broker.pace = Some(0);
    let value = |number: usize| format!("{number}{}", "x".repeat(60_000));
    for number in 0..100 {
        world.publish(UPDATE, &json!({ "event_id": number.to_string(), "twin": { "text": { "actual": { "value": value(number) } } } }).to_string());
        world.run(SECOND / 50);
    }
    let bus = bus(&mut world);
    assert!(number(&bus["waiting"]) > 1 << 20, "{bus}");
    world.broker.pace = None;
    world.broker.read_again();
    world.run(SECOND);
    assert_eq!(results(&world), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    let mut last = Value::Null;
    for (_, document) in heard(&world, "/twin/update/document") {
        let step = &document["twin"]["text"];
        assert_eq!(step["last"]["actual"]["value"], last);
        last = step["current"]["actual"]["value"].clone();
    }
    assert_eq!(last, value(99));
    let documents = heard(&world, "/twin/update/document").count();
    assert!(documents < 30, "{documents} documents");
}

#[test]
fn an_answer_that_no_packet_can_carry_says_so_and_documents_are_divided() {
    let mut world = thermometer(14);
    world.broker.heard.clear();
    let property = |number: usize| (format!("p{number}"), json!({ "actual": { "value": "v" }, "expected": { "value": "w" } }));
    let twin: serde_json::Map<String, Value> = (0..1500).map(property).collect();
    world.publish(UPDATE, &json!({ "event_id": "many", "twin": twin }).to_string());
    world.run(5 * SECOND);
    let (_, result) = heard(&world, "/twin/update/result").next().expect("it is answered");
    assert_eq!((&result["event_id"], &result["code"]), (&json!("many"), &json!(413)));
    assert!(result["reason"].as_str().is_some_and(|why| why.contains("eventbus.max_packet")), "{result}");
    for end in ["/twin/update/document", "/twin/update/delta"] {
        let parts: Vec<&Value> = heard(&world, end).map(|(_, payload)| payload).collect();
        assert!(parts.iter().all(|part| part.to_string().len() < 256 << 10));
        let names: BTreeSet<&String> = parts.iter().flat_map(|part| part["twin"].as_object().expect("an object").keys()).collect();
        assert!((1500..=1501).contains(&names.len()), "{end}: {}", names.len());
    }
    world.publish("$hw/events/device/default/thermo/twin/get", r#"{"event_id":"all"}"#);
    world.run(SECOND);
    let (_, result) = heard(&world, "/twin/get/result").next().expect("it is answered");
    assert_eq!((&result["event_id"], &result["code"]), (&json!("all"), &json!(413)));
}

/// An hour of a full disk and QoS 0: what is held stays bounded, who asks hears
/// that nothing is safe, and the newest of each is there afterwards.
#[test]
fn a_full_disk_holds_no_more_than_is_waited_for() {
    let mut world = thermometer(15);
    world.set_disk_full(true);
    world.run(SECOND);
    let (mut most_bytes, mut most_rows) = (0, 0);
    for burst in 0..60 {
        for value in 0..350 {
            let value = burst * 350 + value;
            world.publish_once(UPDATE, &says(&value.to_string()));
            world.publish_once("a/user/b", &format!("{value}{}", "x".repeat(100)));
        }
        world.run(60 * SECOND);
        let status = world.ask(Ask::Status);
        most_bytes = most_bytes.max(number(&status["bus"]["held"]) + number(&status["bus"]["waiting"]));
        most_rows = most_rows.max(number(&status["store"]["rows"]));
    }
    let late = heard(&world, "/twin/update/result").filter(|(_, payload)| payload["code"] == 503).count();
    let answered = heard(&world, "/twin/update/result").filter(|(_, payload)| payload["code"].is_null()).count();
    assert!(late > 5_000 && answered == 0, "{late} were told that nothing is safe, {answered} that it is");
    assert!(most_bytes < 5 << 20, "{most_bytes} bytes");
    assert!(most_rows < 10_000, "{most_rows} rows");
    world.set_disk_full(false);
    world.run(60 * SECOND);
    let row = world.disk.rows.get(&Key::Property("default/thermo".into(), "t".into()));
    assert!(matches!(row, Some(Row::Property(row)) if row.actual.as_ref().is_some_and(|part| part.value == "20999")), "{row:?}");
    assert_eq!(shown(&world, "t").as_deref(), Some("20999"));
    let answered = heard(&world, "/twin/update/result").filter(|(_, payload)| payload["code"].is_null()).count();
    assert_eq!(answered + late, 21_000, "each is answered once");
    let (_, document) = heard(&world, "/twin/update/document").last().expect("it is told");
    assert_eq!(document["twin"]["t"]["current"]["actual"]["value"], "20999");
}

/// On a new node the broker sends what it kept before the cloud tells of devices.
#[test]
fn a_retained_report_waits_for_its_device() {
    let mut world = World::ready(19);
    world.broker.retain(UPDATE, &says("77"));
    world.broker.retain(STATE, r#"{"state":"online"}"#);
    world.set_broker(false);
    world.run(SECOND);
    world.broker.forget_session();
    world.set_broker(true);
    world.run(5 * SECOND);
    assert_eq!((world.broker.waiting(), results(&world).len()), (0, 0));
    world.apply(model());
    world.apply(device("thermo", "21"));
    world.run(10 * SECOND);
    assert_eq!(shown(&world, "t").as_deref(), Some("77"));
    assert_eq!(results(&world), ["77"]);
}

/// A device of a model that makes `t` an INT from 0 to 90 and `n` read-only.
fn early(desired: &str) -> Value {
    let mut device = device("thermo", "7");
    device["spec"]["properties"] = json!([
        { "name": "t", "desired": { "value": desired }, "reportToCloud": true },
        { "name": "n", "desired": { "value": "7" } },
    ]);
    device
}

fn late_model() -> Value {
    let mut model = model();
    model["spec"]["properties"] = json!([
        { "name": "t", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "90" },
        { "name": "n", "type": "INT", "accessMode": "ReadOnly" },
    ]);
    model
}

fn set(world: &mut World, property: &str, value: &str) -> String {
    let ask = Ask::SetTwin { device: "thermo".to_owned(), property: property.to_owned(), value: value.to_owned() };
    world.ask(ask)["error"].as_str().unwrap_or_default().to_owned()
}

fn described(world: &mut World) -> Value {
    world.ask(Ask::DescribeDevice { device: "thermo".to_owned() }).clone()
}

/// Device, model, a report and a restart in every order; the model comes by
/// itself with a change of the device, or because the node asks for it.
#[test]
fn types_are_the_models_whatever_comes_first() {
    let steps = ["device", "model", "report", "restart"];
    let orders = (0..256usize).map(|number| [0, 2, 4, 6].map(|shift| steps[number >> shift & 3]));
    let orders: Vec<[&str; 4]> = orders.filter(|order| order.iter().collect::<BTreeSet<_>>().len() == 4).collect();
    assert_eq!(orders.len(), 24);
    for (number, order) in orders.iter().enumerate() {
        for asks in [false, true] {
            let mut world = World::ready(16 + number as u64);
            if asks {
                world.enable_dynamic_controller();
            }
            for step in order {
                match *step {
                    "device" => world.apply(early("7")),
                    "model" => world.apply(late_model()),
                    "report" => drop(world.publish(UPDATE, &says("warm"))),
                    _ => world.reboot(),
                }
                world.run(20 * SECOND);
            }
            let when = format!("{order:?}, asks: {asks}");
            if asks {
                // Another session asks again.
                world.reboot();
            } else {
                world.apply(early("8"));
            }
            world.run(20 * SECOND);
            let answer = described(&mut world);
            assert_eq!((&answer["model"], &answer["model_missing"]), (&json!("default/thermo-model"), &json!(false)), "{when}");
            for property in answer["properties"].as_array().expect("a list") {
                assert_eq!(property["type"], "int", "{when}: {property}");
                let kept = property["actual"]["value"] == "warm";
                let misfit = property["misfit"].as_str().unwrap_or_default();
                assert!(
                    if kept { misfit.contains("'warm' of 't'") } else { property["name"] == "t" || misfit.contains("'n' is read-only") },
                    "{when}: {property}"
                );
            }
            for (property, value, words) in
                [("n", "1", "read-only"), ("t", "91", "maximum 90"), ("t", "-1", "minimum 0"), ("t", "x", "not int"), ("typo", "1", "not declared")]
            {
                let error = set(&mut world, property, value);
                assert!(error.contains(words) && error.contains(property), "{when}: {property}={value}: {error}");
            }
            assert_eq!(set(&mut world, "t", "9"), "", "{when}");
            world.publish(UPDATE, &says("cold"));
            world.publish(UPDATE, &says("12"));
            world.run(5 * SECOND);
            assert_eq!(shown(&world, "t").as_deref(), Some("12"), "{when}");
        }
    }
}

#[test]
fn without_its_model_a_device_reports_and_nothing_is_set() {
    let mut world = World::ready(17);
    world.apply(early("7"));
    world.run(20 * SECOND);
    world.publish(UPDATE, &says("warm"));
    world.run(5 * SECOND);
    assert_eq!(shown(&world, "t").as_deref(), Some("warm"));
    assert_eq!(described(&mut world)["model_missing"], true);
    for property in ["t", "n", "typo"] {
        let error = set(&mut world, property, "1");
        assert!(error.contains("default/thermo-model") && error.contains("not on this node") && error.contains(property), "{error}");
    }
    world.publish(UPDATE, r#"{"event_id":"wish","twin":{"t":{"expected":{"value":"1"},"actual":{"value":"1"}}}}"#);
    world.run(SECOND);
    let (_, refusal) = heard(&world, "/twin/update/result").last().expect("it is answered");
    assert_eq!((&refusal["event_id"], &refusal["code"]), (&json!("wish"), &json!(400)));
}

#[test]
fn one_bad_property_spoils_no_other_and_the_clouds_wish_stays() {
    let mut world = thermometer(18);
    world.publish(UPDATE, r#"{"event_id":"mixed","twin":{"t":{"actual":{"value":"20"}},"s":null,"u":{"actual":{}},"v":7,"w":{"actual":{"value":true}}}}"#);
    world.run(5 * SECOND);
    let (_, result) = heard(&world, "/twin/update/result").next().expect("it is answered");
    assert_eq!((&result["event_id"], &result["code"], &result["twin"]["t"]["actual"]["value"]), (&json!("mixed"), &json!(400), &json!("20")));
    let reason = result["reason"].as_str().expect("a reason");
    let named = ["s: ", "v: an object or null", "w: actual.value"].iter().all(|words| reason.contains(words));
    assert!(named && !reason.starts_with("t: ") && !reason.contains("; u: "), "{reason}");
    assert_eq!(shown(&world, "t").as_deref(), Some("20"));
    assert_eq!(last_delta(&world), Some(&json!({ "s": "21" })));
}
