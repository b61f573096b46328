//! The Node object in the cluster: deleted by somebody, registered again, and a
//! cloud that will not have the node.

use std::time::Duration;

use selvedge::cloud::objects::name;
use selvedge::wire::resource::kind;
use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn node(world: &World) -> Option<&Value> {
    world.cloud.objects().get(&name(kind::NODE, "", "edge"))
}

fn uid(world: &World) -> String {
    node(world).expect("it is registered")["metadata"]["uid"].as_str().expect("it has one").to_owned()
}

#[test]
fn a_node_that_was_deleted_stays_away_until_the_cloud_has_forgotten_it() {
    let mut world = World::ready(3);
    world.apply_pod("p", &["runs"], json!({}));
    world.run(MINUTE);
    let before = uid(&world);
    world.delete_node();
    world.run(25 * SECOND);
    assert!(node(&world).is_none() && !world.cloud.is_connected("edge"), "it stays away");
    assert!(world.warning().is_some_and(|warning| warning.contains("was deleted in the cluster; it registers again in")));
    world.run(15 * SECOND);
    assert!(world.node_ready() == Some("True") && uid(&world) != before);
    let dials = world.dials;
    world.run(10 * MINUTE);
    assert_eq!(world.dials, dials, "no session is cut");
    assert_eq!(world.warning(), None);
}

#[test]
fn the_agent_that_starts_after_its_node_was_deleted_stays_away_too() {
    let mut world = World::ready(4);
    world.kill();
    world.delete_node();
    world.start();
    world.run(25 * SECOND);
    assert!(node(&world).is_none() && !world.cloud.is_connected("edge"));
    world.run(15 * SECOND);
    assert_eq!(world.node_ready(), Some("True"));
}

/// Somebody creates the node at once, before CloudCore has cleaned up.
#[test]
fn a_session_that_is_cut_again_and_again_is_opened_ever_less_and_people_are_told() {
    let mut world = World::ready(5);
    world.run(MINUTE);
    let before = uid(&world);
    world.delete_node();
    world.create_node();
    let dials = world.dials;
    world.run(10 * MINUTE);
    let dialled = world.dials - dials;
    assert!((4..=9).contains(&dialled), "{dialled} sessions in ten minutes");
    let warning = world.warning().expect("people are told");
    assert!(warning.contains(&format!("kubectl delete clusterobjectsyncs.reliablesyncs.kubeedge.io edge.{before}")), "{warning}");
    world.cloud.remove_leftover("edge");
    world.run(15 * MINUTE);
    assert_eq!(world.warning(), None);
    assert_eq!(world.node_ready(), Some("True"));
    let dials = world.dials;
    world.run(10 * MINUTE);
    assert_eq!(world.dials, dials);
}
