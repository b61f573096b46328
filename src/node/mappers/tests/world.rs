//! The machine with a cluster, a disk and a clock around it.

use std::time::Duration;

use super::super::*;
use crate::node::now::Wall;
use crate::wire::resource::kind;

/// The machine with a cluster and a clock around it.
pub struct World {
    pub mappers: Mappers,
    pub objects: BTreeMap<String, (Resource, Packed)>,
    pub rows: BTreeMap<MapperName, MapperRow>,
    pub now: Now,
    pub chance: Chance,
}

/// A call as the mapper sees it: who, what, and its number.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub mapper: String,
    pub what: String,
    pub id: CallId,
}

impl World {
    pub fn new() -> Self {
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(1_795_392_000_000) };
        Self { mappers: Mappers::load(1000, Vec::new()), objects: BTreeMap::new(), rows: BTreeMap::new(), now, chance: Chance::new(3) }
    }

    /// The agent is restarted; the disk has what was written.
    pub fn restart(&mut self) {
        self.mappers = Mappers::load(1000, self.rows.clone().into_iter().collect());
    }

    pub fn model(&mut self, name: &str, unit: &str) {
        self.put(kind::DEVICE_MODEL, name, json!({ "protocol": "modbus", "properties": [{ "name": "t", "type": "INT", "unit": unit }] }));
    }

    pub fn device(&mut self, name: &str, desired: &str) {
        let spec = json!({ "deviceModelRef": { "name": "m" }, "protocol": { "protocolName": "modbus" }, "properties": [{ "name": "t", "desired": { "value": desired } }, { "name": "u" }] });
        self.put(kind::DEVICE, name, spec);
    }

    pub fn put(&mut self, of: &str, name: &str, spec: Value) {
        let json = json!({ "metadata": { "namespace": "default", "name": name }, "spec": spec }).to_string();
        let resource = Resource::new("default", of, name);
        self.objects.insert(resource.to_string(), (resource, Packed::new(&json)));
        self.mappers.stir();
    }

    pub fn delete(&mut self, of: &str, name: &str) {
        self.objects.remove(&Resource::new("default", of, name).to_string());
        self.mappers.stir();
    }

    pub fn learn(&mut self) {
        if self.mappers.is_stirred() {
            let of = |of: &'static str| self.objects.values().filter(move |(resource, _)| resource.kind == of).cloned().collect::<Vec<_>>();
            self.mappers.learn(of(kind::DEVICE).into_iter(), of(kind::DEVICE_MODEL).into_iter());
        }
    }

    /// Registers; names of the devices in the answer.
    pub fn register(&mut self, name: &str, with_data: bool) -> Vec<String> {
        let mapper = MapperInfo { name: name.into(), protocol: "modbus".into(), address: format!("/run/{name}.sock").into(), ..Default::default() };
        self.learn();
        let asked = self.mappers.asked(self.now, Ask::Register(MapperRegisterRequest { with_data, mapper: Some(mapper) }));
        let Asked::Registered(Reply::Registered(response)) = asked else { panic!("{asked:?}") };
        assert!(response.model_list.len() <= 1 && response.model_list.is_empty() == response.device_list.is_empty());
        response.device_list.into_iter().map(|device| device.name).collect()
    }

    /// Calls that go out now.
    pub fn calls(&mut self) -> Vec<Heard> {
        self.learn();
        self.mappers.work(self.now);
        for change in self.mappers.changes() {
            let (Key::Mapper(name), Some(Row::Mapper(row))) = (change.key, change.row) else { panic!("a row of another table") };
            self.rows.insert(name, row);
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
    pub fn call(&mut self) -> Heard {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.into_iter().next().unwrap()
    }

    pub fn end(&mut self, call: &Heard, result: Result<(), MapperFailure>) {
        self.mappers.answered(self.now, call.id, result, &mut self.chance);
    }

    /// All calls to come, each answered well.
    pub fn settle(&mut self) -> Vec<String> {
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
    pub fn wait(&mut self) -> Duration {
        let (due, _) = self.mappers.deadline().expect("something is due");
        let waited = due.since(self.now.mono);
        self.pass(waited);
        waited
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono + time, wall: self.now.wall + time };
    }

    pub fn states(&self) -> Vec<(String, String)> {
        self.mappers.rows().map(|row| (row["name"].as_str().unwrap().to_owned(), row["state"].as_str().unwrap().to_owned())).collect()
    }
}
