//! Mappers that register, die, hang, refuse and come back.

use std::time::Duration;

use super::*;
use crate::node::now::Wall;
use crate::wire::resource::kind;

const SECOND: Duration = Duration::from_secs(1);

/// The machine with a cluster and a clock around it.
struct World {
    mappers: Mappers,
    objects: BTreeMap<String, (Resource, Rc<str>)>,
    rows: BTreeMap<String, String>,
    now: Now,
    chance: Chance,
}

/// A call as the mapper sees it: who, what, and its number.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    mapper: String,
    what: String,
    id: CallId,
}

impl World {
    fn new() -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_795_392_000_000) };
        Self { mappers: Mappers::load(1000, &[]), objects: BTreeMap::new(), rows: BTreeMap::new(), now, chance: Chance::new(3) }
    }

    /// The agent is restarted; the disk has what was written.
    fn restart(&mut self) {
        let rows: Vec<_> = self.rows.iter().map(|(name, json)| (Key::new(Table::Mappers, name.as_str()), Row::Text(json.clone()))).collect();
        self.mappers = Mappers::load(1000, &rows);
    }

    fn model(&mut self, name: &str, unit: &str) {
        self.put(kind::DEVICE_MODEL, name, json!({ "protocol": "modbus", "properties": [{ "name": "t", "type": "INT", "unit": unit }] }));
    }

    fn device(&mut self, name: &str, desired: &str) {
        let spec = json!({ "deviceModelRef": { "name": "m" }, "protocol": { "protocolName": "modbus" }, "properties": [{ "name": "t", "desired": { "value": desired } }, { "name": "u" }] });
        self.put(kind::DEVICE, name, spec);
    }

    fn put(&mut self, of: &str, name: &str, spec: Value) {
        let json = json!({ "metadata": { "namespace": "default", "name": name }, "spec": spec }).to_string();
        let resource = Resource::new("default", of, name);
        self.objects.insert(resource.to_string(), (resource, json.into()));
        self.mappers.stir();
    }

    fn delete(&mut self, of: &str, name: &str) {
        self.objects.remove(&Resource::new("default", of, name).to_string());
        self.mappers.stir();
    }

    fn learn(&mut self) {
        if self.mappers.is_stirred() {
            let of = |of: &'static str| self.objects.values().filter(move |(resource, _)| resource.kind == of).cloned().collect::<Vec<_>>();
            self.mappers.learn(of(kind::DEVICE).into_iter(), of(kind::DEVICE_MODEL).into_iter());
        }
    }

    /// Registers; names of the devices in the answer.
    fn register(&mut self, name: &str, with_data: bool) -> Vec<String> {
        let mapper = MapperInfo { name: name.into(), protocol: "modbus".into(), address: format!("/run/{name}.sock").into(), ..Default::default() };
        self.learn();
        let asked = self.mappers.asked(self.now, Ask::Register(MapperRegisterRequest { with_data, mapper: Some(mapper) }));
        let Asked::Registered(Reply::Registered(response)) = asked else { panic!("{asked:?}") };
        assert!(response.model_list.len() <= 1 && response.model_list.is_empty() == response.device_list.is_empty());
        response.device_list.into_iter().map(|device| device.name).collect()
    }

    /// Calls that go out now.
    fn calls(&mut self) -> Vec<Heard> {
        self.learn();
        self.mappers.work(self.now);
        for change in self.mappers.changes() {
            let Some(Row::Text(json)) = change.row else { panic!("{change:?}") };
            self.rows.insert(change.key.name, json);
        }
        let mut heard = Vec::new();
        while let Some(order) = self.mappers.poll() {
            let Order::Call { call, mapper, what, .. } = order else { panic!("{order:?}") };
            let name = match *what {
                Call::RegisterDevice(device) => format!("register {}", device.name),
                Call::UpdateDevice(device) => format!("update {}", device.name),
                Call::RemoveDevice(name) => format!("remove {}", name.name),
                Call::CreateDeviceModel(model) => format!("create model {}", model.name),
                Call::UpdateDeviceModel(model) => format!("update model {}", model.name),
                Call::RemoveDeviceModel(name) => format!("remove model {}", name.name),
                Call::Probe => "probe".to_owned(),
            };
            heard.push(Heard { mapper: mapper.to_string(), what: name, id: call });
        }
        heard
    }

    /// The only call that goes out now.
    fn call(&mut self) -> Heard {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().unwrap()
    }

    fn end(&mut self, call: &Heard, result: Result<(), MapperFailure>) {
        self.mappers.answered(self.now, call.id, result, &mut self.chance);
    }

    /// All calls to come, each answered well.
    fn settle(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let calls = self.calls();
            if calls.is_empty() {
                return all;
            }
            for call in calls {
                self.end(&call, Ok(()));
                all.push(call.what);
            }
        }
    }

    /// Time passes up to the next deadline; how much.
    fn wait(&mut self) -> Duration {
        let (due, _) = self.mappers.deadline().expect("something is due");
        let waited = due.since(self.now.mono);
        self.pass(waited);
        waited
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
    }

    fn states(&self) -> Vec<(String, String)> {
        self.mappers.rows().map(|row| (row["name"].as_str().unwrap().to_owned(), row["state"].as_str().unwrap().to_owned())).collect()
    }
}

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
    let json = world.rows.get_mut("x").unwrap();
    *json = "{}".to_owned();
    world.restart();
    assert!(world.states().is_empty(), "a row that makes no sense is no mapper");
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
