//! The stand-in and devices: what it says is what the real cloud said in
//! `data/session.jsonl`, in the same order and shape.

use std::time::Duration;

use selvedge::cloud::cluster::{Cluster, Now};
use selvedge::cloud::controller::Tokens;
use selvedge::cloud::devicestatus::DEVICE_STATUS;
use selvedge::cloud::hub::{Order, Session};
use selvedge::cloud::objects::name;
use selvedge::cloud::router::Saying;
use selvedge::wire::message::{Header, Message, RESOURCE, Route, operation, raw};
use serde_json::{Value, json};

struct NoTokens;

impl Tokens for NoTokens {
    fn token(&self, _: &str, _: &str, _: &[Value], _: i64) -> String {
        String::new()
    }
}

/// A cloud and a node that acknowledges all it is sent.
struct Bench {
    cloud: Cluster,
    session: Option<Session>,
    millis: i64,
    heard: Vec<Message>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { cloud: Cluster::default().salted(7), session: None, millis: 1000, heard: Vec::new() };
        bench.connect();
        bench
    }

    fn now(&self) -> Now {
        Now { mono: self.millis, wall: 1_795_346_000_000 + self.millis }
    }

    fn connect(&mut self) {
        self.session = Some(self.cloud.connected(self.now(), "edge-go"));
    }

    fn cut(&mut self) {
        self.session.take().into_iter().for_each(|session| self.cloud.disconnected(session));
    }

    fn apply(&mut self, manifest: &Value) {
        self.cloud.apply(self.now(), manifest.clone()).expect("it is served");
        self.listen();
    }

    fn delete(&mut self, kind: &str, own: &str) {
        self.cloud.delete(self.now(), &name(kind, "default", own), None).expect("it is there");
        self.listen();
    }

    /// Takes what the cloud sends and acknowledges what wants it.
    fn listen(&mut self) {
        while let Some(order) = self.cloud.poll() {
            let Order::Send(session, message) = order else { continue };
            let ack = message.wants_ack().then(|| message.ack(format!("ack-{}", self.heard.len()), 0));
            self.heard.push(*message);
            if let Some(ack) = ack {
                self.cloud.received(self.now(), session, &ack, &NoTokens);
            }
        }
    }

    fn report(&mut self, resource: &str, content: &Value) {
        let route = Route { source: "twin".into(), group: RESOURCE.into(), operation: "update".into(), resource: resource.into(), ..Route::default() };
        let message = Message { header: Header { msg_id: "report".into(), ..Header::default() }, route, content: raw(content) };
        self.cloud.received(self.now(), self.session.expect("connected"), &message, &NoTokens);
        self.listen();
    }

    /// Time passes; a node that is connected keeps its pulse.
    fn pass(&mut self, time: Duration) {
        self.millis += i64::try_from(time.as_millis()).expect("small");
        self.cloud.on_deadline(self.now());
        self.listen();
    }

    /// What was heard since the last call, in short.
    fn said(&mut self) -> Vec<String> {
        let short = |message: &Message| format!("{} {} {}", message.route.source, message.route.operation, message.route.resource);
        std::mem::take(&mut self.heard).iter().map(short).collect()
    }
}

/// Messages of the recording that carry devices to the node.
fn recorded() -> Vec<Value> {
    let lines = include_str!("data/session.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let down = lines.filter(|line| line["dir"] == "down").map(|mut line| line["message"].take());
    down.filter(|message| message["route"]["source"] == "devicecontroller").collect()
}

/// Route, members of the header and of the content, who comes and goes. An old
/// device has a status of its own, which nobody reads.
fn shape(message: &Value) -> Value {
    let members = |value: &Value| value.as_object().map(|map| map.keys().filter(|key| *key != "status").cloned().collect::<Vec<_>>());
    let content = &message["content"];
    json!({ "route": message["route"], "header": members(&message["header"]), "content": members(content), "added": content["added_devices"], "removed": content["removed_devices"] })
}

fn manifest(recorded: &Value) -> Value {
    let object = &recorded["content"];
    json!({ "kind": object["kind"], "apiVersion": object["apiVersion"], "metadata": { "name": object["metadata"]["name"], "annotations": {} }, "spec": object["spec"] })
}

#[test]
fn devices_are_told_as_the_real_cloud_told_them() {
    let real = recorded();
    let mut bench = Bench::new();
    let with = |resource: &str, verb: &str| {
        real.iter().find(|message| message["route"]["resource"] == resource && message["route"]["operation"] == verb).expect("it was recorded")
    };
    bench.apply(&manifest(with("default/devicemodel/thermo-model", "insert")));
    bench.apply(&manifest(with("default/device/thermo-01", "insert")));
    bench.apply(&manifest(with("default/device/thermo-01", "update")));
    bench.delete("device", "thermo-01");
    let ours: Vec<Value> = bench.heard.iter().map(|message| serde_json::from_str(&message.text()).expect("JSON")).collect();
    // Joining, and a wish that changes.
    for (theirs, ours) in real.iter().take(4).zip(&ours) {
        assert_eq!(shape(ours), shape(theirs));
    }
    assert_eq!(
        bench.said()[4..],
        ["devicecontroller update membership", "devicecontroller delete default/devicemodel/thermo-model", "devicecontroller delete default/device/thermo-01"]
    );
}

fn thermometer(wish: &str) -> Value {
    json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": "t" },
        "spec": { "nodeName": "edge-go", "deviceModelRef": { "name": "m" }, "properties": [{ "name": "setpoint", "desired": { "value": wish } }] } })
}

fn model() -> Value {
    json!({ "kind": "DeviceModel", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": "m" }, "spec": { "properties": [{ "name": "setpoint", "type": "INT" }] } })
}

#[test]
fn after_an_outage_the_sync_loop_brings_what_changed_but_never_members() {
    let mut bench = Bench::new();
    bench.apply(&model());
    bench.apply(&thermometer("1"));
    bench.said();
    bench.cut();
    bench.apply(&thermometer("2"));
    bench.connect();
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.said(), ["edgecontroller update default/device/t"]);
    bench.cut();
    bench.delete("device", "t");
    bench.delete("devicemodel", "m");
    bench.connect();
    bench.pass(Duration::from_secs(6));
    let mut said = bench.said();
    said.sort();
    assert_eq!(said, ["edgecontroller delete default/device/t", "edgecontroller delete default/devicemodel/m"]);
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.said(), [""; 0]);
}

#[test]
fn reports_are_confirmed_and_kept_from_the_second_on() {
    let mut bench = Bench::new();
    bench.apply(&model());
    bench.apply(&thermometer("1"));
    bench.said();
    let report = json!({ "twin": { "setpoint": { "actual": { "value": "1" } } } });
    bench.report("device/default/t/twin/edge_updated", &report);
    let confirmation = bench.heard.last().expect("it is confirmed");
    assert_eq!((confirmation.header.parent_msg_id.as_str(), confirmation.route.group.as_str(), confirmation.content.get()), ("report", "twin", "\"OK\""));
    let reported = |bench: &Bench| bench.cloud.objects().get(&name(DEVICE_STATUS, "default", "t")).expect("made")["status"]["twins"][0]["reported"].clone();
    assert_eq!(reported(&bench), json!({ "value": "" }));
    bench.report("device/default/t/twin/edge_updated", &report);
    assert_eq!(reported(&bench)["value"], "1");
    assert_eq!(bench.said(), ["devicecontroller response twin"; 2]);
    bench.report("device/default/nobody/twin/edge_updated", &report);
    assert_eq!(bench.said(), [""; 0], "a device nobody knows is never confirmed, and statuses are told to nobody");
}

#[test]
fn rules_reach_the_broker_and_what_comes_up_is_kept() {
    let mut bench = Bench::new();
    let saying = |operation: &str, content: Value| Saying { source: "router_eventbus".into(), operation: operation.into(), resource: "cmd".into(), content };
    let now = bench.now();
    bench.cloud.say(now, None, saying(operation::PUBLISH, "{\"cmd\":\"open\"}".into())).expect("one node is connected");
    bench.listen();
    let real = include_str!("data/session.jsonl").lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["message"].clone());
    let theirs = real.into_iter().find(|message| message["route"]["operation"] == "publish").expect("it was recorded");
    let ours: Value = serde_json::from_str(&bench.heard[0].text()).expect("JSON");
    assert_eq!((shape(&ours), &ours["content"]), (shape(&theirs), &theirs["content"]));
    let route = Route { source: "bus".into(), group: "user".into(), operation: "upload".into(), resource: "default/sensor/up".into(), ..Route::default() };
    let upload = Message { header: Header::default(), route, content: raw(&"{\"x\":1}") };
    bench.cloud.received(now, bench.session.expect("connected"), &upload, &NoTokens);
    let kept: Vec<&Value> = bench.cloud.uploads().collect();
    assert_eq!((kept.len(), &kept[0]["resource"], &kept[0]["content"]), (1, &json!("default/sensor/up"), &json!("{\"x\":1}")));
    bench.cut();
    assert!(bench.cloud.say(now, None, saying(operation::SUBSCRIBE, Value::Null)).is_err(), "it would be lost");
}

fn config_map(own: &str) -> Value {
    json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": own }, "data": { "a": "1" } })
}

/// The folder has this now: file and object each.
fn follow(bench: &mut Bench, files: &[(&str, Value)]) {
    let now = bench.now();
    let alive: Vec<_> = files.iter().map(|(file, object)| bench.cloud.apply_from(now, object.clone(), file).expect("it is served")).collect();
    bench.cloud.prune(now, &alive);
    bench.listen();
}

#[test]
fn the_folder_takes_back_only_what_it_brought() {
    let mut bench = Bench::new();
    let has = |bench: &Bench, own: &str| bench.cloud.objects().get(&name("configmap", "default", own)).is_some();
    bench.apply(&config_map("applied"));
    bench.apply(&config_map("first-applied"));
    bench.apply(&model());
    bench.apply(&thermometer("1"));
    let twin = json!({ "twin": { "setpoint": { "actual": { "value": "1" } } } });
    for _ in 0..2 {
        bench.report("device/default/t/twin/edge_updated", &twin);
    }
    let files = ["brought", "first-applied", "then-applied"].map(|own| ("a.yaml", config_map(own)));
    follow(&mut bench, &files);
    bench.apply(&config_map("then-applied"));
    // Another file changes, one is renamed, and the stand-in starts again.
    follow(&mut bench, &files.clone().map(|(_, object)| ("b.yaml", object)));
    let state = serde_json::to_string(&bench.cloud).expect("it can be written");
    bench.cloud = serde_json::from_str::<Cluster>(&state).expect("as it was written").salted(8);
    follow(&mut bench, &files.clone().map(|(_, object)| ("b.yaml", object)));
    assert!(["applied", "brought", "first-applied", "then-applied"].iter().all(|own| has(&bench, own)));
    follow(&mut bench, &[("c.yaml", config_map("unrelated"))]);
    for (own, stays) in [("applied", true), ("first-applied", true), ("then-applied", true), ("unrelated", true), ("brought", false)] {
        assert_eq!(has(&bench, own), stays, "{own}");
    }
    let status = bench.cloud.objects().get(&name(DEVICE_STATUS, "default", "t")).expect("its device is there");
    assert_eq!(status["status"]["twins"][0]["reported"]["value"], "1");
    follow(&mut bench, &[]);
    assert!(!has(&bench, "unrelated") && has(&bench, "applied"));
}

#[test]
fn an_object_that_was_read_and_applied_again_is_not_of_the_folder() {
    let mut bench = Bench::new();
    follow(&mut bench, &[("a.yaml", config_map("read"))]);
    let read = bench.cloud.objects().get(&name("configmap", "default", "read")).expect("it was brought").clone();
    let mut copy = config_map("copy");
    copy["metadata"]["annotations"] = read["metadata"]["annotations"].clone();
    bench.apply(&copy);
    follow(&mut bench, &[]);
    assert!(bench.cloud.objects().get(&name("configmap", "default", "copy")).is_some());
}

/// Time passes as the stand-in asks for it, and no pod lives.
fn pods_made(bench: &mut Bench, time: Duration) -> usize {
    let end = bench.millis + i64::try_from(time.as_millis()).expect("small");
    let mut made = std::collections::BTreeSet::new();
    while bench.millis < end {
        let pods: Vec<_> = bench.cloud.objects().of("pod").map(|(name, pod)| (name.clone(), pod["metadata"]["uid"].to_string())).collect();
        for (pod, uid) in pods {
            made.insert(uid);
            // The oldest of many that failed may be gone by now.
            let _ = bench.cloud.edit(bench.now(), &pod, |pod| pod["status"]["phase"] = "Failed".into());
        }
        bench.listen();
        bench.millis = bench.cloud.deadline(bench.now()).clamp(bench.millis + 1, end);
        bench.cloud.on_deadline(bench.now());
    }
    made.len()
}

#[test]
fn a_node_that_refuses_all_pods_is_not_flooded() {
    let mut bench = Bench::new();
    let node = json!({ "metadata": { "name": "edge-go" }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    bench.cloud.create_node(bench.now(), node);
    let template = json!({ "metadata": { "labels": { "a": "hp" } }, "spec": { "containers": [{ "name": "c", "image": "busybox:1.36" }] } });
    bench.apply(&json!({ "kind": "Deployment", "apiVersion": "apps/v1", "metadata": { "name": "hp" }, "spec": { "template": template } }));
    let first = pods_made(&mut bench, Duration::from_secs(90));
    assert!((3..=5).contains(&first), "{first} pods in 90 s");
    let later = pods_made(&mut bench, Duration::from_secs(3600));
    assert!((12..=30).contains(&later), "{later} pods in an hour, those counted that were kept");
}
