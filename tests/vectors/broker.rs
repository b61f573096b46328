//! What EdgeCore does at a broker that is not its own, and after a restart.
//!
//! Different on purpose: one connection instead of two, with one SUBSCRIBE and a
//! session that is kept (EdgeCore: two clean ones and a SUBSCRIBE for each
//! filter); what the cloud said while the broker was away is kept (EdgeCore
//! loses the message and forgets the subscription).

use selvedge::node::input::Input;
use serde_json::{Value, json};

use super::{Edge, Said, is_like, replay_on, scenario, tells};

fn step(scenario: &[Value], id: &str) -> Value {
    scenario.iter().find(|step| step["id"] == id).expect("a step").clone()
}

/// Filters of the SUBSCRIBE packets of a step.
fn subscribed(step: &Value) -> Vec<String> {
    let packets = step["expect"]["packets_seen_by_external_broker"].as_array().expect("packets");
    let filter = |packet: &Value| Some(packet.as_str()?.split_once("Subscriptions=[\"")?.1.split_once("\"=>1]")?.0.to_owned());
    packets.iter().filter_map(filter).collect()
}

/// Topic and payload of the first PUBLISH packet of a step.
fn published(step: &Value) -> (String, Value) {
    let packet = step["expect"]["packets_seen_by_external_broker"][0].as_str().expect("a packet");
    let topic = packet.split_once("Topic=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a topic").0.to_owned();
    let bytes = packet.split_once("Payload=[").and_then(|(_, rest)| rest.split_once(']')).expect("a payload").0;
    let bytes: Vec<u8> = bytes.split(' ').map(|byte| byte.parse().expect("a byte")).collect();
    (topic, serde_json::from_slice(&bytes).expect("JSON"))
}

#[test]
fn whatever_edgecore_subscribes_and_publishes_is_there() {
    let steps = scenario("eventbus-external-broker-packets");
    let mut edge = Edge::new();
    let filters = subscribed(&step(&steps, "ext-connect"));
    assert_eq!(filters.len(), 6);
    assert!(filters.iter().all(|filter| edge.filters.contains(filter)), "wanted {filters:?}, subscribed {:?}", edge.filters);
    edge.said = Said::default();
    let added = step(&steps, "mem-add-ext");
    let (topic, mut payload) = published(&added);
    (payload["event_id"], payload["timestamp"]) = (json!("<uuid>"), json!("<ms>"));
    let said = edge.step(&added).expect("it is played");
    assert!(said.mqtt.len() == 1 && said.mqtt[0].0 == topic && is_like(&payload, &said.mqtt[0].1, true), "{:?}", said.mqtt);
    let rule = step(&steps, "ext-subscribe");
    edge.step(&rule).expect("it is played");
    assert!(subscribed(&rule).iter().all(|filter| edge.filters.contains(filter)));
}

#[test]
fn an_outage_of_the_broker_loses_no_rule_and_no_message() {
    let steps = scenario("eventbus-external-broker-outage");
    let mut edge = Edge::new();
    edge.step(&step(&steps, "ext-subscribe")).expect("it is played");
    edge.tell(Input::BusDown("the broker is killed".to_owned()));
    edge.filters.clear();
    edge.said = Said::default();
    edge.receive("router_eventbus", "user", "publish", "lost/topic", "\"before\"");
    edge.receive("router_eventbus", "user", "subscribe", "default/late", "\"\"");
    edge.tell(Input::BusUp { kept: false });
    assert!(["default/test", "default/late"].iter().all(|filter| edge.filters.iter().any(|known| known == filter)), "{:?}", edge.filters);
    assert_eq!(std::mem::take(&mut edge.said).mqtt, [("lost/topic".to_owned(), json!("before"))]);
    edge.publish("default/test", "after");
    let wanted = &step(&steps, "ext-broker-back")["expect"]["to_cloud"][0];
    assert!(edge.said.cloud.iter().any(|message| tells(message, wanted)), "wanted {wanted}");
}

/// The step of a mapper that is still known is played in `node::mappers`:
/// `after_a_restart_mappers_hear_only_what_is_new`.
#[test]
fn a_restart_finds_everything_as_it_was() {
    let mut edge = Edge::new();
    edge.said = Said::default();
    replay_on(&mut edge, "twin-core");
    // The cloud proves the last uploads, then the agent ends in order.
    edge.millis += 60_000;
    edge.tell(Input::BusUp { kept: true });
    edge.tell(Input::Stop);
    let mut edge = Edge::started(std::mem::take(&mut edge.disk));
    assert!(edge.said.mqtt.is_empty() && edge.said.cloud.is_empty(), "{:?}", edge.said);
    edge.said = Said::default();
    for id in ["reload-twin-get", "reload-mem-get"] {
        let step = step(&scenario("restart"), id);
        let said = edge.step(&step).expect("it is played");
        super::check(id, &step["expect"], &said).expect("as EdgeCore");
    }
}
