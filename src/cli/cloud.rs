//! `selvedge cloud`: the stand-in for one bench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ask::Asked;
use super::output::{self, Form, age, raw, table, text};
use super::{Exit, Failure};
use crate::cloud::devicestatus::DEVICE_STATUS;
use crate::cloud::{self, Options, manifests};
use crate::config;
use crate::host::{self, clock};
use crate::wire::message::{ROUTER_BUS, ROUTER_SERVICE, operation};
use crate::wire::rfc3339;

/// a small cloud for one bench, tests and demos; at scale use KubeEdge's
#[derive(FromArgs)]
#[argh(subcommand, name = "cloud")]
pub struct Cloud {
    /// folder with CA, objects and socket (default ./run/cloud)
    #[argh(option, default = "PathBuf::from(\"run/cloud\")")]
    state: PathBuf,
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(Run),
    Token(Token),
    Get(Get),
    Apply(Apply),
    Delete(Delete),
    Publish(Publish),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    Call(Call),
    Allow(Allow),
    Forbid(Forbid),
    Watch(Watch),
}

/// serve nodes until Ctrl-C
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
struct Run {
    /// address to listen on (default 127.0.0.1)
    #[argh(option, default = "\"127.0.0.1\".to_owned()")]
    listen: String,
    /// port of the WebSocket (default 10000)
    #[argh(option, default = "10000")]
    port: u16,
    /// port of the HTTPS server (default 10002)
    #[argh(option, default = "10002")]
    https_port: u16,
    /// folder of Kubernetes manifests in YAML, followed
    #[argh(option)]
    manifests: Option<PathBuf>,
    /// answer nodes that list objects, as CloudCore does when its dynamicController is on
    #[argh(switch)]
    dynamic_controller: bool,
    /// how long certificates of nodes are good, such as 60s (default a year)
    #[argh(option, from_str_fn(life))]
    certificate_life: Option<Duration>,
}

/// print a token to join with
#[derive(FromArgs)]
#[argh(subcommand, name = "token")]
struct Token {}

/// list nodes, pods, deployments, configmaps, events, devices, devicestatuses
/// or uploads
#[derive(FromArgs)]
#[argh(subcommand, name = "get")]
struct Get {
    /// what to list
    #[argh(positional)]
    what: String,
    /// output: json, or wide: cells are not cut
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// create or change the objects of a YAML file
#[derive(FromArgs)]
#[argh(subcommand, name = "apply")]
struct Apply {
    /// the file
    #[argh(option, short = 'f')]
    file: PathBuf,
}

/// delete an object: delete pod NAME
#[derive(FromArgs)]
#[argh(subcommand, name = "delete")]
struct Delete {
    /// its kind
    #[argh(positional)]
    kind: String,
    /// its name
    #[argh(positional)]
    name: String,
    /// its namespace (default "default")
    #[argh(option, short = 'n', default = "\"default\".to_owned()")]
    namespace: String,
    /// seconds a pod has to end; 0 ends it at once
    #[argh(option)]
    grace: Option<i64>,
}

/// publish a payload on a node's broker
#[derive(FromArgs)]
#[argh(subcommand, name = "publish")]
struct Publish {
    /// the topic
    #[argh(positional)]
    topic: String,
    /// the payload
    #[argh(positional)]
    payload: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// have a node send up what its broker gets: see 'get uploads'
#[derive(FromArgs)]
#[argh(subcommand, name = "subscribe")]
struct Subscribe {
    /// the topic, or a filter
    #[argh(positional)]
    topic: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// have a node send up no more of a topic
#[derive(FromArgs)]
#[argh(subcommand, name = "unsubscribe")]
struct Unsubscribe {
    /// the topic, or a filter
    #[argh(positional)]
    topic: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// call an app on a node by HTTP: see 'get uploads' for its answer
#[derive(FromArgs)]
#[argh(subcommand, name = "call")]
struct Call {
    /// GET, POST, ...
    #[argh(positional)]
    method: String,
    /// PORT:/PATH
    #[argh(positional)]
    target: String,
    /// the body
    #[argh(positional, default = "String::new()")]
    body: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// let apps on a node ask for a target
#[derive(FromArgs)]
#[argh(subcommand, name = "allow")]
struct Allow {
    /// the target
    #[argh(positional)]
    target: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// let apps on a node ask for a target no more
#[derive(FromArgs)]
#[argh(subcommand, name = "forbid")]
struct Forbid {
    /// the target
    #[argh(positional)]
    target: String,
    /// the node (default: the only one)
    #[argh(option)]
    node: Option<String>,
}

/// print every change, one JSON line each
#[derive(FromArgs)]
#[argh(subcommand, name = "watch")]
struct Watch {}

const CLOUD: Asked = Asked { name: "stand-in", start: "selvedge cloud run" };

impl Cloud {
    /// Does it.
    pub fn run(self) -> Result<Exit, Failure> {
        let socket = self.state.join("control.sock");
        let tell = |question: Value| CLOUD.one(&socket, &question).map(drop);
        match self.command {
            Command::Run(run) => serve(self.state, run)?,
            Command::Token(Token {}) => {
                let answer = CLOUD.one(&socket, &json!("token"))?;
                raw(answer["token"].as_str().ok_or_else(|| Failure::new("the stand-in answered without a token"))?);
            }
            Command::Get(get) => get.run(&socket)?,
            Command::Apply(apply) => return apply.run(tell),
            Command::Delete(delete) => {
                let namespace = if delete.kind.starts_with("node") { "" } else { &delete.namespace };
                tell(json!({ "delete": { "kind": singular(&delete.kind), "namespace": namespace, "name": delete.name, "grace": delete.grace } }))?;
            }
            Command::Publish(publish) => tell(by_rule(ROUTER_BUS, operation::PUBLISH, publish.node, &publish.topic, publish.payload.into()))?,
            Command::Subscribe(subscribe) => tell(by_rule(ROUTER_BUS, operation::SUBSCRIBE, subscribe.node, &subscribe.topic, Value::Null))?,
            Command::Unsubscribe(unsubscribe) => tell(by_rule(ROUTER_BUS, operation::UNSUBSCRIBE, unsubscribe.node, &unsubscribe.topic, Value::Null))?,
            Command::Call(call) => {
                let content = json!({ "header": null, "body": STANDARD.encode(&call.body), "method": call.method, "url": "" });
                tell(by_rule(ROUTER_SERVICE, &call.method, call.node, &call.target, content))?;
            }
            Command::Allow(allow) => tell(by_rule(ROUTER_SERVICE, operation::START, allow.node, &allow.target, Value::Null))?,
            Command::Forbid(forbid) => tell(by_rule(ROUTER_SERVICE, operation::STOP, forbid.node, &forbid.target, Value::Null))?,
            Command::Watch(Watch {}) => {
                CLOUD.ask(&socket, &json!("watch"), |answer| if raw(&answer.to_string()) { Ok(()) } else { Err(Failure::new("nobody reads")) })?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn life(text: &str) -> Result<Duration, String> {
    config::time(text).ok_or_else(|| format!("'{text}' is no time such as 60s"))
}

fn serve(state: PathBuf, run: Run) -> Result<(), Failure> {
    host::log::start("info");
    let Run { listen, port: websocket, https_port: https, manifests, dynamic_controller, certificate_life } = run;
    let options = Options { listen, websocket, https, state, manifests, dynamic_controller, certificate_life };
    let address = options.address(options.websocket);
    cloud::run(&options, |_| log::info!(target: "cloud", "nodes may join {address}; 'selvedge cloud token' prints a token")).map_err(Failure::new)
}

/// What a Rule would say.
fn by_rule(source: &str, operation: &str, node: Option<String>, resource: &str, content: Value) -> Value {
    json!({ "say": { "node": node, "source": source, "operation": operation, "resource": resource, "content": content } })
}

fn singular(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix("statuses").or_else(|| kind.strip_suffix("status")) {
        Some(of) => format!("{of}status"),
        None => kind.trim_end_matches('s').to_owned(),
    }
}

impl Apply {
    /// Applies what can be applied, and tells of each object that cannot.
    fn run(self, tell: impl Fn(Value) -> Result<(), Failure>) -> Result<Exit, Failure> {
        let objects = manifests::read(&self.file).map_err(|why| Failure::new(format!("{}: {why}", self.file.display())))?;
        let mut exit = Exit::Ok;
        for object in objects {
            let title = manifests::title_of(&object);
            match tell(json!({ "apply": object })) {
                Ok(()) => {}
                Err(Failure(Exit::Failed, why)) => {
                    eprintln!("selvedge: {}: {title}: {why}", self.file.display());
                    exit = Exit::Failed;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(exit)
    }
}

impl Get {
    fn run(self, socket: &Path) -> Result<(), Failure> {
        let what = singular(&self.what);
        let form = Form::of(&self.output)?;
        let answer = CLOUD.one(socket, &json!({ "get": what }))?;
        if form == Form::Json {
            output::json(&answer);
            return Ok(());
        }
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        match what.as_str() {
            "node" => table(form, &["NAME", "READY", "CONNECTED", "VERSION", "RUNTIME"], &rows(items, node)),
            "pod" => table(form, &["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"], &rows(items, pod)),
            "event" => table(form, &["LAST SEEN", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"], &rows(items, event)),
            "device" => table(form, &["NAMESPACE", "NAME", "MODEL", "NODE", "AGE"], &rows(items, device)),
            DEVICE_STATUS => {
                let rows: Vec<_> = items.iter().flat_map(device_status).collect();
                table(form, &["NAMESPACE", "DEVICE", "STATE", "PROPERTY", "REPORTED", "OBSERVED DESIRED"], &rows);
            }
            "upload" => table(form, &["AGE", "NODE", "SOURCE", "TOPIC", "PAYLOAD"], &rows(items, upload)),
            _ => table(form, &["NAMESPACE", "NAME", "AGE"], &rows(items, plain)),
        }
        Ok(())
    }
}

fn rows(items: &[Value], row: impl Fn(&Value) -> Vec<String>) -> Vec<Vec<String>> {
    items.iter().map(row).collect()
}

fn node(node: &Value) -> Vec<String> {
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let info = &node["status"]["nodeInfo"];
    vec![
        text(&node["metadata"]["name"]),
        ready.map_or("-".to_owned(), |ready| text(&ready["status"])),
        if node["connected"] == true { "yes" } else { "no" }.to_owned(),
        text(&info["kubeletVersion"]),
        text(&info["containerRuntimeVersion"]),
    ]
}

fn pod(pod: &Value) -> Vec<String> {
    let (meta, status) = (&pod["metadata"], &pod["status"]);
    let containers = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = containers.iter().filter(|container| container["ready"] == true).count();
    let restarts: u64 = containers.iter().filter_map(|container| container["restartCount"].as_u64()).sum();
    let waiting = containers.iter().find_map(|container| container["state"]["waiting"]["reason"].as_str());
    let state = if meta["deletionTimestamp"].is_string() { "Terminating".to_owned() } else { waiting.map_or_else(|| text(&status["phase"]), str::to_owned) };
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    vec![
        text(&meta["namespace"]),
        text(&meta["name"]),
        format!("{ready}/{total}"),
        state,
        restarts.to_string(),
        age(&meta["creationTimestamp"], clock::calendar_millis()),
        text(&status["podIP"]),
        text(&pod["spec"]["nodeName"]),
    ]
}

fn event(event: &Value) -> Vec<String> {
    let object = &event["involvedObject"];
    vec![
        age(&event["lastTimestamp"], clock::calendar_millis()),
        text(&event["type"]),
        text(&event["reason"]),
        format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["name"])),
        text(&event["count"]),
        text(&event["message"]),
    ]
}

fn device(device: &Value) -> Vec<String> {
    let (meta, spec) = (&device["metadata"], &device["spec"]);
    vec![
        text(&meta["namespace"]),
        text(&meta["name"]),
        text(&spec["deviceModelRef"]["name"]),
        text(&spec["nodeName"]),
        age(&meta["creationTimestamp"], clock::calendar_millis()),
    ]
}

/// A row for each property; one without any for a device that reported none.
fn device_status(object: &Value) -> Vec<Vec<String>> {
    let (meta, status) = (&object["metadata"], &object["status"]);
    let row = |twin: &Value| {
        let (property, reported, desired) = (&twin["propertyName"], &twin["reported"]["value"], &twin["observedDesired"]["value"]);
        [&meta["namespace"], &meta["name"], &status["state"], property, reported, desired].map(text).to_vec()
    };
    match status["twins"].as_array() {
        Some(twins) if !twins.is_empty() => twins.iter().map(row).collect(),
        Some(_) | None => vec![row(&Value::Null)],
    }
}

fn upload(upload: &Value) -> Vec<String> {
    let at = upload["at"].as_i64().map_or(Value::Null, |at| rfc3339::seconds(at).into());
    let content = &upload["content"];
    // An app's answer, or text as it is.
    let payload = match (content["status_code"].as_u64(), content.as_str()) {
        (Some(status), _) => {
            let body = STANDARD.decode(content["body"].as_str().unwrap_or_default()).unwrap_or_default();
            format!("{status} {}", String::from_utf8_lossy(&body).trim_end())
        }
        (None, Some(text)) => text.to_owned(),
        (None, None) => content.to_string(),
    };
    vec![age(&at, clock::calendar_millis()), text(&upload["node"]), text(&upload["source"]), text(&upload["resource"]), payload]
}

fn plain(object: &Value) -> Vec<String> {
    let meta = &object["metadata"];
    vec![text(&meta["namespace"]), text(&meta["name"]), age(&meta["creationTimestamp"], clock::calendar_millis())]
}
