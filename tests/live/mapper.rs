//! A mapper as people write them: a Modbus thermostat. It registers with the
//! agent, takes its devices and what becomes of them on a socket of its own, and
//! reports temperatures. And the agent's part of it, node and shell, without a
//! cloud or pods.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::{or, pending};
use prost::Message as _;
use selvedge::config::{Config, file};
use selvedge::dmi::Dmi;
use selvedge::host::clock;
use selvedge::host::grpc::{Channel, Error, Peer};
use selvedge::host::tasks::{Executor, Tasks};
use selvedge::node::ids::{AskId, Session};
use selvedge::node::input::{Ask, Input};
use selvedge::node::now::{Mono, Now, Wall};
use selvedge::node::store::{Key, Row, Rows};
use selvedge::node::{Node, Restored, link};
use selvedge::wire::dmi::{
    Device, DeviceModelRequest, DeviceRequest, DeviceStatus, MapperInfo, MapperRegisterRequest, MapperRegisterResponse, NameRequest, Nothing,
    ReportDeviceStatesRequest, ReportDeviceStatusRequest, Twin, TwinProperty, manager, mapper,
};
use selvedge::wire::message::Message;
use serde_json::{Value, json};
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::net::unix::{UnixListener, UnixStream};
use tokio_util::compat::FuturesAsyncReadCompatExt;

const LIMIT: Duration = Duration::from_secs(10);

/// A room with a thermostat.
#[derive(Debug, Clone, Default)]
struct Room {
    /// Where its value is, as the model says.
    register: String,
    desired: String,
    temperature: i64,
}

/// The mapper: all rooms, and what it heard.
pub struct Mapper {
    socket: PathBuf,
    agent: Channel,
    rooms: Rc<RefCell<BTreeMap<String, Room>>>,
    hears: Sender<String>,
    heard: Receiver<String>,
}

fn room(device: &Device) -> Room {
    let property = device.spec.as_ref().and_then(|spec| spec.properties.first()).expect("a property");
    let settings = property.visitors.as_ref().and_then(|visitors| visitors.config_data.as_ref()).expect("settings");
    let register = String::decode(&settings.data["register"].value[..]).expect("a text");
    Room { register, desired: property.desired.as_ref().expect("always there").value.clone(), temperature: 19 }
}

impl Mapper {
    /// A mapper at `socket` for the agent at `agent`.
    pub fn new(agent: &Path, socket: PathBuf, executor: &Executor) -> Self {
        let (hears, heard) = channel::bounded(100);
        let agent = Channel::new(Peer { name: "agent", socket: agent.to_owned() }, executor);
        Self { socket, agent, rooms: Rc::default(), hears, heard }
    }

    /// Says where it is, and gets its devices.
    pub async fn register(&self) -> Result<(), Error> {
        let info = MapperInfo {
            name: "thermostats".into(),
            version: "v1".into(),
            api_version: "v1beta1".into(),
            protocol: "modbus".into(),
            address: self.socket.to_str().expect("text").into(),
            state: "ok".into(),
        };
        let request = MapperRegisterRequest { with_data: true, mapper: Some(info) };
        let response: MapperRegisterResponse = self.agent.call(manager::MAPPER_REGISTER, &request, LIMIT).await?;
        *self.rooms.borrow_mut() = response.device_list.iter().map(|device| (device.name.clone(), room(device))).collect();
        Ok(())
    }

    /// Reports every room; heating is quick here.
    pub async fn report(&self) -> Result<(), Error> {
        let rooms: Vec<(String, Room)> = self.rooms.borrow().iter().map(|(name, room)| (name.clone(), room.clone())).collect();
        for (name, room) in rooms {
            let value = |value: &str| Some(TwinProperty { value: value.to_owned(), metadata: [("type".to_owned(), "int".to_owned())].into_iter().collect() });
            let twin = Twin { property_name: "temperature".into(), observed_desired: value(&room.desired), reported: value(&room.temperature.to_string()) };
            let reported_device = Some(DeviceStatus { twins: vec![twin], ..DeviceStatus::default() });
            let status = ReportDeviceStatusRequest { device_name: name.clone(), device_namespace: "default".into(), reported_device };
            self.agent.call::<Nothing>(manager::REPORT_DEVICE_STATUS, &status, LIMIT).await?;
            let state = ReportDeviceStatesRequest { device_name: name.clone(), device_namespace: "default".into(), state: "ok".into() };
            self.agent.call::<Nothing>(manager::REPORT_DEVICE_STATES, &state, LIMIT).await?;
            self.rooms.borrow_mut().entry(name).and_modify(|room| room.temperature = room.desired.parse().expect("a number"));
        }
        Ok(())
    }

    /// Takes calls until it is dropped.
    pub fn serve(&self, executor: &Executor) -> Tasks {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).expect("a socket");
        let (rooms, hears, owner) = (Rc::clone(&self.rooms), self.hears.clone(), executor.clone());
        let mut server = Tasks::new(executor);
        server.spawn(async move {
            let mut connections = Tasks::new(&owner);
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(converse(stream, Rc::clone(&rooms), hears.clone()));
            }
        });
        server
    }
}

async fn converse(stream: UnixStream, rooms: Rc<RefCell<BTreeMap<String, Room>>>, hears: Sender<String>) {
    let mut connection = h2::server::handshake(stream.compat()).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let take = async {
            let mut bytes = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                bytes.extend_from_slice(&chunk);
            }
            bytes
        };
        // The connection moves the bytes of its streams.
        let bytes = or(take, async {
            while connection.accept().await.is_some() {}
            pending().await
        })
        .await;
        let what = carry_out(head.uri.path(), &bytes[5..], &rooms);
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
        let mut answer = respond.send_response(head, false).expect("room");
        answer.send_data(Bytes::from_static(&[0; 5]), false).expect("room");
        answer.send_trailers([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()).expect("room");
        hears.send(what).await.expect("the test listens");
    }
}

fn carry_out(path: &str, message: &[u8], rooms: &RefCell<BTreeMap<String, Room>>) -> String {
    let device = || DeviceRequest::decode(message).expect("a request").device.expect("a device");
    let name = || NameRequest::decode(message).expect("a request").name;
    let model = || DeviceModelRequest::decode(message).expect("a request").model.expect("a model").name;
    let keep = |verb: &str, device: Device| {
        rooms.borrow_mut().insert(device.name.clone(), room(&device));
        format!("{verb} {}", device.name)
    };
    match path {
        mapper::REGISTER_DEVICE => keep("register", device()),
        mapper::UPDATE_DEVICE => keep("update", device()),
        mapper::REMOVE_DEVICE => {
            rooms.borrow_mut().remove(&name());
            format!("remove {}", name())
        }
        mapper::CREATE_DEVICE_MODEL | mapper::UPDATE_DEVICE_MODEL => format!("model {}", model()),
        mapper::REMOVE_DEVICE_MODEL => format!("remove model {}", name()),
        other => panic!("{other}"),
    }
}

/// The agent's loop with a disk that never fails and a cloud that says nothing.
struct Agent {
    config: Config,
    node: Node,
    shell: Dmi,
    inputs: Receiver<Input>,
    rows: BTreeMap<Key, Row>,
    session: Option<Session>,
}

fn now() -> Now {
    Now { mono: Mono(u64::try_from(clock::monotonic().as_nanos()).expect("small")), wall: Wall(clock::calendar_millis()) }
}

impl Agent {
    fn start(config: Config, rows: BTreeMap<Key, Row>, executor: &Executor) -> Self {
        let (inbox, inputs) = channel::bounded(64);
        let shell = selvedge::dmi::open(config.dmi.clone(), inbox, executor);
        let restored = Restored { rows: Rows::new(rows.clone().into_iter().collect()).expect("rows of their tables"), ..Restored::default() };
        Self { node: Node::new(config.clone(), restored, 1, now()), config, shell, inputs, rows, session: None }
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(now(), input);
        self.hand_out();
    }

    fn hand_out(&mut self) {
        while let Some(batch) = self.node.poll_store() {
            for change in batch.changes {
                match change.row {
                    Some(row) => self.rows.insert(change.key, row),
                    None => self.rows.remove(&change.key),
                };
            }
            self.node.handle(now(), Input::Stored(batch.ticket));
        }
        while let Some(order) = self.node.poll_cloud() {
            if let link::Order::Dial(session) = order {
                self.session = Some(session);
                self.node.handle(now(), Input::LinkUp(session));
            }
        }
        while let Some(order) = self.node.poll_dmi() {
            self.shell.hand(order);
        }
    }

    /// Takes the next thing that happens.
    async fn turn(&mut self) {
        self.hand_out();
        let wake = self.node.deadline().map_or(LIMIT, |(at, _)| at.since(now().mono));
        let due = async {
            Timer::after(wake).await;
            None
        };
        match or(async { Some(self.inputs.recv().await.expect("the shell lives")) }, due).await {
            Some(input) => self.tell(input),
            None => self.node.on_deadline(now()),
        }
    }

    /// Lives until `work` is done.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let live = async {
            loop {
                self.turn().await;
            }
        };
        or(work, or(live, late())).await
    }

    /// Lives until the mapper is up, or down, as far as the agent knows.
    async fn until_the_mapper_is(&mut self, state: &str) {
        let watch = async {
            while self.get("mappers")[0]["state"] != state {
                self.turn().await;
            }
        };
        or(watch, late()).await;
    }

    /// The cloud says something of an object.
    fn cloud(&mut self, verb: &str, resource: &str, object: &Value) {
        let message = json!({ "header": { "msg_id": "m", "timestamp": 1 }, "route": { "source": "devicecontroller", "group": "resource", "operation": verb, "resource": resource }, "content": object });
        let session = self.session.expect("it dialed");
        self.tell(Input::Received(session, Box::new(Message::parse(&message.to_string()).expect("a message"))));
    }

    fn get(&mut self, kind: &str) -> Vec<Value> {
        self.tell(Input::Asked(AskId(1), Ask::Get { kind: kind.to_owned() }));
        let (_, answer) = self.node.poll_answer().expect("an answer");
        answer["items"].as_array().expect("items").clone()
    }

    fn temperature(&mut self) -> Value {
        self.tell(Input::Asked(AskId(1), Ask::DescribeDevice { device: "hall".to_owned() }));
        let (_, answer) = self.node.poll_answer().expect("an answer");
        answer["properties"][0].clone()
    }
}

async fn late<T>() -> T {
    Timer::after(LIMIT).await;
    panic!("not within {LIMIT:?}")
}

fn hall(version: u32, desired: &str) -> Value {
    json!({ "metadata": { "namespace": "default", "name": "hall", "uid": "u", "resourceVersion": version.to_string() }, "spec": {
        "deviceModelRef": { "name": "thermostat" }, "nodeName": "edge", "protocol": { "protocolName": "modbus", "configData": { "slave": 3 } },
        "properties": [{ "name": "temperature", "desired": { "value": desired }, "reportToCloud": true }] } })
}

fn model() -> Value {
    json!({ "metadata": { "namespace": "default", "name": "thermostat", "uid": "m", "resourceVersion": "1" }, "spec": { "protocol": "modbus", "properties": [
        { "name": "temperature", "type": "INT", "accessMode": "ReadWrite", "visitors": { "protocolName": "modbus", "configData": { "register": "HoldingRegister", "offset": 2 } } }] } })
}

#[test]
fn a_thermostat_follows_the_cloud() {
    let dir = std::env::temp_dir().join(format!("selvedge-mapper-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room");
    let text = format!("[node]\nname = \"edge\"\n[dmi]\nsocket = \"{}/dmi.sock\"\n", dir.display());
    let config = file::parse(&text, "edge").expect("a configuration");
    let executor = Executor::default();
    let objects = [("default/device/hall", hall(1, "21")), ("default/devicemodel/thermostat", model())];
    let rows = objects.map(|(name, object)| (Key::Object(name.into()), Row::Object(object.to_string()))).into_iter().collect();
    let mut agent = Agent::start(config, rows, &executor);
    executor.block_on(async {
        let mapper = Mapper::new(&agent.config.dmi.socket.clone(), dir.join("mapper.sock"), &executor);
        agent.hand_out();

        // It gets its device by registering, with what the model says.
        agent
            .until(async {
                while mapper.register().await.is_err_and(|error| error.is_down()) {
                    smol::future::yield_now().await;
                }
            })
            .await;
        assert_eq!(mapper.rooms.borrow()["hall"].register, "HoldingRegister");
        let serving = mapper.serve(&executor);
        agent.until(mapper.report()).await.expect("it is taken");
        assert_eq!(agent.temperature()["actual"]["value"], "19");
        agent.until(mapper.report()).await.expect("it is taken");
        assert_eq!(agent.temperature()["actual"]["value"], "21");
        assert_eq!(agent.get("devices")[0]["state"], "ok");

        // The cloud wishes something else.
        agent.cloud("update", "default/device/hall", &hall(2, "23"));
        assert_eq!(agent.until(mapper.heard.recv()).await.expect("a call"), "update hall");
        for _ in 0..2 {
            agent.until(mapper.report()).await.expect("it is taken");
        }
        assert_eq!(agent.temperature()["actual"]["value"], "23");

        // The agent is restarted; the mapper goes on and need not register.
        let (config, rows) = (agent.config.clone(), agent.rows.clone());
        drop(agent);
        let mut agent = Agent::start(config, rows, &executor);
        agent.hand_out();
        agent.cloud("update", "default/device/hall", &hall(3, "24"));
        assert_eq!(agent.until(mapper.heard.recv()).await.expect("a call"), "update hall");

        // It is away when its device goes, and hears of it when it is back.
        drop(serving);
        std::fs::remove_file(dir.join("mapper.sock")).expect("it was there");
        agent.cloud("delete", "default/device/hall", &hall(3, "24"));
        agent.until_the_mapper_is("down").await;
        let _serving = mapper.serve(&executor);
        assert_eq!(agent.until(mapper.heard.recv()).await.expect("a call"), "remove hall");
        assert!(mapper.rooms.borrow().is_empty());
        agent.until_the_mapper_is("up").await;
    });
    std::fs::remove_dir_all(dir).expect("it was there");
}
