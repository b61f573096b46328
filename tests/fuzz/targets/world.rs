//! A whole node in its simulated world: anything from the cloud, the broker,
//! mappers, apps and people, with cuts and restarts in between.

use std::time::Duration;

use selvedge::node::dmi;
use selvedge::node::ids::{AskId, ExchangeId};
use selvedge::node::input::{Ask, Input};
use selvedge::wire::message::{Header, Message, Route, json};
use selvedge::wire::servicebus::Question;

use super::{steps, word};
use crate::sim::World;
use crate::sim::world::Network;

/// Steps that are played of one input.
const STEPS: usize = 60;

/// Lines: `m OPERATION RESOURCE CONTENT` or a whole message `M` from the cloud,
/// `p TOPIC PAYLOAD` and the retained `P`, `q` a question of people, `s` one of
/// an app, `1` to `3` protobuf of a mapper, and what happens to the node.
pub fn world(data: &[u8]) {
    let mut world = World::ready(1);
    for (number, (what, rest)) in steps(data).take(STEPS).enumerate() {
        step(&mut world, number, what, rest);
        world.run(Duration::from_millis(50));
    }
    // Whatever happened, the node can be spoken to and starts again.
    world.set_network(Network::Up);
    world.set_disk_full(false);
    world.set_runtime(true);
    world.run(Duration::from_secs(60));
    world.kill();
    world.start();
    world.run(Duration::from_secs(60));
}

fn step(world: &mut World, number: usize, what: u8, rest: &[u8]) {
    let text = String::from_utf8_lossy(rest);
    match what {
        b'm' => world.hear(message(number, rest)),
        b'M' => {
            if let Ok(message) = Message::parse(&text) {
                world.hear(message);
            }
        }
        b'p' | b'P' => {
            let (topic, payload) = word(rest);
            let (topic, payload) = (String::from_utf8_lossy(topic), String::from_utf8_lossy(payload));
            if what == b'p' {
                world.publish(&topic, &payload);
            } else {
                world.publish_retained(&topic, &payload);
            }
        }
        b'q' => {
            if let Ok(ask) = serde_json::from_str::<Ask>(&text) {
                world.tell(Input::Asked(AskId::default().next(), ask));
            }
        }
        b's' => {
            if let Ok(question) = Question::read(rest) {
                world.tell(Input::ServiceAsked { id: ExchangeId::default(), question });
            }
        }
        b'1'..=b'3' => mapper(world, what, rest),
        b'k' => {
            world.kill();
            world.start();
        }
        b'b' => world.reboot(),
        b'c' => world.set_network(Network::Cut),
        b'f' => world.set_network(Network::Frozen),
        b'u' => world.set_network(Network::Up),
        b'd' => world.set_disk_full(true),
        b'D' => world.set_disk_full(false),
        b'r' => world.set_runtime(false),
        b'R' => world.set_runtime(true),
        b'l' => world.set_broker(false),
        b'L' => world.set_broker(true),
        b't' => world.run(Duration::from_secs(u64::try_from(rest.len()).unwrap_or(1))),
        b'T' => world.step_calendar(i64::try_from(rest.len()).unwrap_or(1) * 3_600_000 - 10_000_000),
        _ => {}
    }
}

fn mapper(world: &mut World, what: u8, rest: &[u8]) {
    let ask = match what {
        b'1' => rest_of(rest).map(dmi::Ask::Register),
        b'2' => rest_of(rest).map(dmi::Ask::ReportStatus),
        _ => rest_of(rest).map(dmi::Ask::ReportStates),
    };
    if let Some(ask) = ask {
        world.mapper_asks(ask);
    }
}

fn rest_of<M: prost::Message + Default>(rest: &[u8]) -> Option<M> {
    M::decode(rest).ok()
}

/// `OPERATION RESOURCE CONTENT`; a parent's id may follow the operation.
fn message(number: usize, rest: &[u8]) -> Message {
    let (operation, rest) = word(rest);
    let (resource, content) = word(rest);
    let operation = String::from_utf8_lossy(operation);
    let (operation, parent) = operation.split_once(',').unwrap_or((&operation, ""));
    let content = String::from_utf8_lossy(content);
    let is_json = serde_json::from_str::<serde_json::Value>(&content).is_ok();
    let route = Route {
        source: "edgecontroller".to_owned(),
        group: "resource".to_owned(),
        operation: operation.to_owned(),
        resource: String::from_utf8_lossy(resource).into_owned(),
        ..Route::default()
    };
    let header = Header { msg_id: format!("fuzz-{number}"), parent_msg_id: parent.to_owned(), ..Header::default() };
    Message { header, route, content: json(if is_json { &content } else { "null" }) }
}
