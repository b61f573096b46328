//! How kept messages reach clients with new filters.

use std::collections::BTreeMap;

use rumqttc::mqttbytes::v4::{self, SubscribeFilter};

use super::tests::{ONE, ZERO, words, world_of};
use super::*;

#[test]
fn many_kept_messages_reach_a_client_with_a_small_queue() {
    let mut world = world_of(Limits { clients: 10, queue: 4096, retained: 1 << 20 }, Access { anonymous: true, users: BTreeMap::new() });
    let a = world.client("a", true);
    for number in 0..500 {
        world.keep(a, &format!("k/{number:03}"), &"x".repeat(200));
    }
    let b = world.client("b", true);
    let heard = world.subscribe(b, "k/#", ZERO);
    let wanted: Vec<String> = (0..500).map(|number| format!("k/{number:03} {} qos0 #0 kept", "x".repeat(200))).collect();
    assert_eq!(heard[1..], wanted);
}

/// A SUBSCRIBE answers at once; what was kept is looked through in portions,
/// between which others have their turn.
#[test]
fn many_filters_and_many_kept_messages_keep_nobody_waiting() {
    let mut world = world_of(Limits { clients: 10, queue: 1 << 20, retained: 8 << 20 }, Access { anonymous: true, users: BTreeMap::new() });
    let a = world.client("a", true);
    for number in 0..7600 {
        world.keep(a, &format!("site/line/dev{number}/state"), "x");
        world.hear(a);
    }
    let b = world.client("b", true);
    let filter = |number: usize| SubscribeFilter::new(if number == 0 { "+/+/dev7599/#".to_owned() } else { format!("+/+/+/none{number}") }, ONE);
    world.say(b, Packet::Subscribe(Subscribe { pkid: 9, filters: (0..800).map(filter).collect() }));
    let (mut all, mut portions) = (BytesMut::new(), 0);
    while let Some(order) = world.router.poll() {
        if order == Order::Write(b) {
            world.router.fill(world.now, b, &mut all);
            portions += 1;
        }
    }
    let mut heard = std::iter::from_fn(|| v4::Packet::read(&mut all, 1 << 20).ok()).map(words);
    let suback = heard.next().expect("an answer");
    assert!(suback.starts_with("suback") && !suback.contains("Failure"), "{suback}");
    assert_eq!(heard.collect::<Vec<_>>(), ["site/line/dev7599/state x qos1 #1 kept"]);
    assert!((5..50).contains(&portions), "{portions}");
}
