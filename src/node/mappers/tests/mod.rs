//! Mappers that register, die, hang, refuse and come back.

mod world;

use std::time::Duration;

use super::*;
use crate::wire::resource::kind;
use world::World;

const SECOND: Duration = Duration::from_secs(1);

fn down() -> Result<(), MapperFailure> {
    Err(MapperFailure::Unreachable("cannot reach the mapper: No such file or directory".into()))
}

fn silent() -> Result<(), MapperFailure> {
    Err(MapperFailure::Silent("the mapper did not answer within 10 s".into()))
}

fn refused(code: u32) -> Result<(), MapperFailure> {
    Err(MapperFailure::Refused { code, message: "no".into() })
}

#[test]
fn a_mapper_without_data_is_told_one_by_one_the_model_first() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.device("b", "1");
    assert!(world.register("x", false).is_empty());
    assert_eq!(world.settle(), ["create model m", "register a", "register b"]);
    assert!(world.calls().is_empty() && world.mappers.deadline().is_none());
}

#[test]
fn a_mapper_with_data_hears_only_what_is_new() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    assert_eq!(world.register("x", true), ["a"]);
    assert!(world.settle().is_empty());
    world.device("a", "2");
    world.device("b", "1");
    assert_eq!(world.settle(), ["update a", "register b"]);
    world.model("m", "F");
    assert_eq!(world.settle(), ["update model m"]);
    world.delete(kind::DEVICE, "a");
    assert_eq!(world.settle(), ["remove a"]);
    world.delete(kind::DEVICE_MODEL, "m");
    assert!(world.settle().is_empty(), "device b needs its model");
    world.delete(kind::DEVICE, "b");
    assert_eq!(world.settle(), ["remove b", "remove model m"]);
}

#[test]
fn another_order_of_properties_is_no_change() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.register("x", true);
    let spec = json!({ "protocol": { "configData": {}, "protocolName": "modbus" }, "properties": [{ "name": "u" }, { "name": "t", "desired": { "value": "1" } }], "deviceModelRef": { "name": "m" } });
    world.put(kind::DEVICE, "a", spec);
    assert!(world.settle().is_empty());
}

#[test]
fn a_device_comes_before_its_model_and_waits_for_it() {
    let mut world = World::new();
    world.register("x", true);
    world.device("a", "1");
    assert!(world.settle().is_empty());
    world.model("m", "C");
    assert_eq!(world.settle(), ["create model m", "register a"]);
}

#[test]
fn a_hung_mapper_stops_only_itself() {
    let mut world = World::new();
    world.model("m", "C");
    for number in 0..20 {
        world.device(&format!("d{number}"), "1");
    }
    world.register("x", true);
    world.register("y", false);
    world.settle();
    // The one that was there first has them all; both are told of new ones.
    for number in 20..40 {
        world.device(&format!("d{number}"), "1");
    }
    let calls = world.calls();
    let to = |name: &str| calls.iter().find(|call| call.mapper == name).cloned().unwrap();
    let (hung, other) = (to("x"), to("y"));
    assert_eq!(calls.len(), 2);
    world.end(&other, Ok(()));
    let others = world.settle();
    assert!(!others.is_empty(), "the other goes on");
    world.end(&hung, silent());
    assert!(world.calls().is_empty(), "it is given some time");
    world.wait();
    assert_eq!(world.call().what, hung.what.replace("register", "update"), "it may have heard, so it is told in a way that does no harm");
}

#[test]
fn what_a_mapper_missed_it_hears_when_it_is_back() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.register("x", true);
    world.delete(kind::DEVICE, "a");
    let mut waits = Vec::new();
    for _ in 0..10 {
        let call = world.call();
        assert_eq!(call.what, "remove a");
        world.end(&call, down());
        waits.push(world.wait());
    }
    assert!(waits[0] <= SECOND && waits[9] >= 15 * SECOND && waits[9] <= 30 * SECOND, "{waits:?}");
    assert_eq!(world.states()[0].1, "down");
    assert_eq!(world.settle(), ["remove a", "remove model m"]);
    assert_eq!(world.states()[0].1, "up");
    // Or it was restarted, and knows nothing of it.
    world.device("b", "1");
    world.settle();
    world.delete(kind::DEVICE, "b");
    let call = world.call();
    world.end(&call, down());
    assert!(world.register("x", true).is_empty());
    assert!(world.settle().is_empty());
}

#[test]
fn what_is_refused_is_tried_again_and_stops_nothing_else() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.device("b", "1");
    world.register("x", false);
    let mut rounds = 0;
    let mut told = Vec::new();
    while rounds < 4 {
        let calls = world.calls();
        if calls.is_empty() {
            let waited = world.wait();
            assert!(waited >= SECOND && waited <= 300 * SECOND);
            rounds += 1;
        }
        for call in calls {
            let result = if call.what == "register a" { refused(2) } else { Ok(()) };
            world.end(&call, result);
            told.push(call.what);
        }
    }
    assert_eq!(told.iter().filter(|what| *what == "register b").count(), 1);
    assert_eq!(told.iter().filter(|what| *what == "register a").count(), 4);
    assert_eq!(world.states()[0].1, "up");
    // A device that is refused to go is gone, and a model call may be missing.
    world.delete(kind::DEVICE, "b");
    world.delete(kind::DEVICE, "a");
    let call = world.call();
    assert_eq!(call.what, "remove b");
    world.end(&call, refused(2));
    let call = world.call();
    assert_eq!(call.what, "remove model m");
    world.end(&call, refused(MapperFailure::UNIMPLEMENTED));
    assert!(world.calls().is_empty());
}

#[test]
fn a_mapper_that_lost_a_device_gets_it_again() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.register("x", true);
    world.device("a", "2");
    let call = world.call();
    assert_eq!(call.what, "update a");
    world.end(&call, refused(MapperFailure::NOT_FOUND));
    assert!(world.calls().is_empty());
    world.wait();
    assert_eq!(world.settle(), ["register a"]);
}

#[test]
fn after_a_restart_mappers_hear_only_what_is_new() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.device("b", "1");
    world.register("x", true);
    world.settle();
    world.restart();
    assert!(world.settle().is_empty());
    assert_eq!(world.states(), [("x".to_owned(), "unknown".to_owned())]);
    // Changed while the agent was away, and one more whose last word was lost.
    world.restart();
    world.device("a", "2");
    world.delete(kind::DEVICE, "b");
    world.device("c", "1");
    assert_eq!(world.settle(), ["remove b", "update a", "update c"]);
    world.restart();
    assert!(world.settle().is_empty());
}

#[test]
fn a_mapper_that_moved_is_called_at_its_new_place() {
    let mut world = World::new();
    world.model("m", "C");
    world.register("x", true);
    let mapper = MapperInfo { name: "x".into(), protocol: "modbus".into(), address: "/run/moved.sock".into(), ..Default::default() };
    world.mappers.asked(world.now, Ask::Register(MapperRegisterRequest { with_data: true, mapper: Some(mapper) }));
    world.device("a", "1");
    world.calls();
    world.restart();
    assert_eq!(world.mappers.rows().next().unwrap()["socket"], "/run/moved.sock");
}

#[test]
fn the_devices_of_a_lost_mapper_go_to_another_and_stay_there() {
    let mut world = World::new();
    world.model("m", "C");
    for name in ["a", "b", "c"] {
        world.device(name, "1");
    }
    world.register("old", true);
    assert!(world.register("new", true).is_empty(), "the old one may live");
    let mut told = Vec::new();
    let begun = world.now.mono;
    while told.len() < 4 {
        for call in world.calls() {
            let is_old = call.mapper == "old";
            world.end(&call, if is_old { down() } else { Ok(()) });
            if !is_old {
                told.push(call.what);
            }
        }
        if told.len() < 4 {
            world.wait();
        }
    }
    assert_eq!(told, ["create model m", "register a", "register b", "register c"]);
    let took = world.now.mono.since(begun);
    assert!(took >= 60 * SECOND && took <= 120 * SECOND, "{took:?}");
    assert!(world.register("old", true).is_empty(), "the new one has them");
}

#[test]
fn a_restarted_mapper_gets_its_devices_back() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.register("x", true);
    world.register("y", true);
    world.settle();
    for _ in 0..3 {
        assert_eq!(world.register("x", true), ["a"]);
        assert!(world.register("y", true).is_empty());
    }
    world.restart();
    assert_eq!(world.register("x", true), ["a"]);
}

#[test]
fn one_mapper_that_asks_too_often_stops_no_other() {
    let mut world = World::new();
    world.model("m", "C");
    world.device("a", "1");
    world.register("x", true);
    let state =
        |name: &str| Ask::ReportStates(crate::wire::dmi::ReportDeviceStatesRequest { device_name: name.into(), state: "ok".into(), ..Default::default() });
    let granted = (0..1500).filter(|_| matches!(world.mappers.asked(world.now, state("a")), Asked::Report(_))).count();
    assert_eq!(granted, 1000);
    let Asked::Refused(refusal) = world.mappers.asked(world.now, state("a")) else { panic!("it is too often") };
    assert!(refusal.code == Code::ResourceExhausted && refusal.message.contains("default/a"));
    assert!(matches!(world.mappers.asked(world.now, state("nobodys")), Asked::Report(_)));
}

#[test]
fn a_registration_that_makes_no_sense_names_the_field() {
    let mut world = World::new();
    let info = || MapperInfo { name: "x".into(), protocol: "p".into(), address: "/run/x.sock".into(), ..Default::default() };
    let cases = [
        (None, "mapper: missing"),
        (Some(MapperInfo { name: String::new(), ..info() }), "mapper.name: missing"),
        (Some(MapperInfo { protocol: String::new(), ..info() }), "mapper.protocol: missing"),
        (Some(MapperInfo { protocol: "p".repeat(300), ..info() }), "mapper.protocol: longer"),
        (Some(MapperInfo { address: vec![0xff], ..info() }), "mapper.address: the absolute path"),
        (Some(MapperInfo { address: b"x.sock".into(), ..info() }), "mapper.address: the absolute path"),
    ];
    for (mapper, wanted) in cases {
        let Asked::Refused(refusal) = world.mappers.asked(world.now, Ask::Register(MapperRegisterRequest { with_data: true, mapper })) else {
            panic!("{wanted}")
        };
        assert!(refusal.code == Code::InvalidArgument && refusal.message.starts_with(wanted), "{refusal:?}");
    }
    for number in 0..MOST {
        world.register(&format!("x{number}"), true);
    }
    let Asked::Refused(refusal) = world.mappers.asked(world.now, Ask::Register(MapperRegisterRequest { with_data: true, mapper: Some(info()) })) else {
        panic!("there are enough")
    };
    assert_eq!(refusal.code, Code::ResourceExhausted);
}
