//! Questions to the running agent: status, get, describe, logs. They work
//! without a cloud.

use std::path::Path;

use argh::FromArgs;
use serde_json::{Value, json};

use super::ask::Asked;
use super::output::{Form, age, line, table, text, value};
use super::{Exit, Failure, output};
use crate::host::clock;

/// tell how the agent is
#[derive(FromArgs)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// output: json
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// list node, pods, configmaps, secrets, devices or mappers
#[derive(FromArgs)]
#[argh(subcommand, name = "get")]
pub struct Get {
    /// what: node, pods, configmaps, secrets (names only), devices, mappers
    #[argh(positional)]
    kind: String,
    /// only this namespace
    #[argh(option, short = 'n')]
    namespace: Option<String>,
    /// output: json, or wide: cells are not cut
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// tell everything about one pod or device
#[derive(FromArgs)]
#[argh(subcommand, name = "describe")]
pub struct Describe {
    /// what: pod or device
    #[argh(positional)]
    kind: String,
    /// NAMESPACE/NAME, or a name in the namespace
    #[argh(positional)]
    name: String,
    /// namespace (default: default)
    #[argh(option, short = 'n')]
    namespace: Option<String>,
    /// output: json, or wide: values are not cut
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// print the log of a container
#[derive(FromArgs)]
#[argh(subcommand, name = "logs")]
pub struct Logs {
    /// NAMESPACE/NAME of the pod, or a name in the namespace
    #[argh(positional)]
    pod: String,
    /// container, when the pod has several
    #[argh(option, short = 'c')]
    container: Option<String>,
    /// namespace (default: default)
    #[argh(option, short = 'n')]
    namespace: Option<String>,
    /// go on as the log grows
    #[argh(switch, short = 'f')]
    follow: bool,
    /// of the instance before
    #[argh(switch, short = 'p')]
    previous: bool,
    /// only so many of the last lines (default: -1, all)
    #[argh(option)]
    tail: Option<i64>,
}

/// Whether JSON was asked for.
pub(super) fn wants_json(output: &Option<String>) -> Result<bool, Failure> {
    match output.as_deref() {
        None => Ok(false),
        Some("json") => Ok(true),
        Some(other) => Err(Failure(Exit::Usage, format!("output '{other}': only json is known"))),
    }
}

const AGENT: Asked = Asked { name: "agent", start: "systemctl start selvedge, or selvedge run" };

pub(super) fn one(socket: &Path, question: &Value) -> Result<Value, Failure> {
    AGENT.one(socket, question)
}

/// `NAMESPACE/NAME`.
pub(super) fn full_name(name: &str, namespace: &Option<String>) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{}/{name}", namespace.as_deref().unwrap_or("default")) }
}

impl Status {
    /// Prints how the agent is.
    pub fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let status = one(socket, &json!({ "ask": "status" }))?;
        if wants_json(&self.output)? {
            output::json(&status);
            return Ok(Exit::Ok);
        }
        let (cloud, runtime, store, pods) = (&status["cloud"], &status["runtime"], &status["store"], &status["pods"]);
        let since = if cloud["since"].is_string() { format!(" for {}", age(&cloud["since"], clock::calendar_millis())) } else { String::new() };
        let last = cloud["last_error"].as_str().filter(|_| cloud["state"] != "online").map_or(String::new(), |why| format!(": {why}"));
        line(&format!("node      {} (selvedge {})", text(&status["node"]), text(&status["version"])));
        line(&format!("cloud     {}{since} at {}{last}", text(&cloud["state"]), text(&cloud["server"])));
        if let Some(warning) = cloud["warning"].as_str() {
            line(&format!("warning   {warning}"));
        }
        let why: Vec<String> = runtime["why"].as_array().into_iter().flatten().map(text).collect();
        line(
            &format!("runtime   {} {} {} {}", text(&runtime["state"]), text(&runtime["name"]), text(&runtime["version"]), why.join("; "))
                .trim_end()
                .replace(" - -", ""),
        );
        line(&format!("store     {}{}", text(&store["state"]), store["why"].as_str().map_or(String::new(), |why| format!(": {why}"))));
        line(&format!("pods      {} running of {}", pods["running"], pods["total"]));
        let (bus, devices, spool) = (&status["bus"], &status["devices"], &status["spool"]);
        line(&format!("bus       {}, {} dropped", text(&bus["state"]), bus["dropped"]));
        line(&format!("devices   {}, {} not reported yet", devices["total"], devices["unreported"]));
        line(&format!("spool     {} messages, {} bytes, {} dropped", spool["messages"], spool["bytes"], spool["dropped"]));
        for (name, count) in status["counters"].as_object().into_iter().flatten() {
            line(&format!("counter   {name} {count}"));
        }
        Ok(Exit::Ok)
    }
}

impl Get {
    /// Prints a table of objects.
    pub fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let kind = match self.kind.as_str() {
            "node" | "nodes" | "no" => "node",
            "pod" | "pods" | "po" => "pods",
            "configmap" | "configmaps" | "cm" => "configmaps",
            "secret" | "secrets" => "secrets",
            "device" | "devices" => "devices",
            "mapper" | "mappers" => "mappers",
            other => return Err(Failure(Exit::Usage, format!("unknown type '{other}': node, pods, configmaps, secrets, devices or mappers"))),
        };
        let mut answer = one(socket, &json!({ "ask": "get", "kind": kind }))?;
        if let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut) {
            items.retain(|item| self.namespace.as_ref().is_none_or(|namespace| item["namespace"] == namespace.as_str()));
            items.sort_by_cached_key(|item| ["namespace", "name"].map(|part| item[part].as_str().unwrap_or_default().to_owned()));
        }
        let form = Form::of(&self.output)?;
        if form == Form::Json {
            output::json(&answer);
            return Ok(Exit::Ok);
        }
        let now = clock::calendar_millis();
        let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
        let rows = |columns: &[&str], since: &str| {
            items.iter().map(|item| columns.iter().map(|column| text(&item[*column])).chain([age(&item[since], now)]).collect()).collect::<Vec<Vec<String>>>()
        };
        match kind {
            "node" => table(
                form,
                &["NAME", "STATUS", "ROLES", "VERSION", "INTERNAL-IP", "AGE"],
                &rows(&["name", "status", "roles", "version", "internal_ip"], "started"),
            ),
            "pods" => table(
                form,
                &["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE"],
                &rows(&["namespace", "name", "ready", "status", "restarts", "ip"], "started"),
            ),
            "devices" => table(
                form,
                &["NAMESPACE", "NAME", "STATE", "MODEL", "PROPERTIES", "PENDING", "UNREPORTED", "ONLINE"],
                &rows(&["namespace", "name", "state", "model", "properties", "pending", "unreported"], "last_online"),
            ),
            "mappers" => {
                let columns = ["name", "protocol", "version", "state", "devices", "told", "last_error"];
                let rows: Vec<Vec<String>> = items.iter().map(|item| columns.iter().map(|column| text(&item[*column])).collect()).collect();
                table(form, &["NAME", "PROTOCOL", "VERSION", "STATE", "DEVICES", "TOLD", "LAST ERROR"], &rows);
            }
            "configmaps" => table(form, &["NAMESPACE", "NAME", "DATA", "AGE"], &rows(&["namespace", "name", "keys"], "created")),
            _ => table(form, &["NAMESPACE", "NAME", "TYPE", "DATA", "AGE"], &rows(&["namespace", "name", "type", "keys"], "created")),
        }
        Ok(Exit::Ok)
    }
}

impl Describe {
    /// Prints a pod at length.
    pub fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let name = full_name(&self.name, &self.namespace);
        let (question, describe): (Value, fn(Form, &Value)) = match self.kind.as_str() {
            "pod" | "pods" | "po" => (json!({ "ask": "describe-pod", "pod": name }), describe_pod),
            "device" | "devices" => (json!({ "ask": "describe-device", "device": name }), describe_device),
            other => return Err(Failure(Exit::Usage, format!("unknown type '{other}': pod or device"))),
        };
        let answer = one(socket, &question)?;
        let form = Form::of(&self.output)?;
        if form == Form::Json {
            output::json(&answer);
        } else {
            describe(form, &answer);
        }
        Ok(Exit::Ok)
    }
}

fn describe_device(form: Form, answer: &Value) {
    let device = &answer["device"];
    let model = match (&answer["model"], answer["model_missing"] == true) {
        (Value::String(name), true) => json!(format!("{name} (not on this node: types are not checked, and nothing can be set here)")),
        (model, _) => model.clone(),
    };
    for (title, value) in
        [("Device", &device["id"]), ("Model", &model), ("Description", &device["description"]), ("State", &device["state"]), ("Online", &device["last_online"])]
    {
        if !value.is_null() {
            line(&format!("{:14}{}", format!("{title}:"), text(value)));
        }
    }
    for (name, attribute) in device["attributes"].as_object().into_iter().flatten() {
        line(&format!("Attribute:    {name} = {}", value(form, &attribute["value"])));
    }
    line("Properties:");
    for property in answer["properties"].as_array().into_iter().flatten() {
        let reported = if property["reported"] == true { "" } else { ", not yet known to the cloud" };
        line(&format!("  {} ({}{reported})", text(&property["name"]), text(&property["type"])));
        if let Some(misfit) = property["misfit"].as_str() {
            line(&format!("    problem   {misfit}"));
        }
        for part in ["actual", "expected"].iter().filter(|part| property[**part].is_object()) {
            let shown = value(form, &property[*part]["value"]);
            line(&format!("    {part:9} {shown} since {}", text(&property[*part]["changed"])));
        }
    }
}

fn describe_pod(_: Form, answer: &Value) {
    let (pod, status) = (&answer["pod"], &answer["status"]);
    for (title, value) in [
        ("Name", &pod["metadata"]["name"]),
        ("Namespace", &pod["metadata"]["namespace"]),
        ("UID", &pod["metadata"]["uid"]),
        ("Phase", &status["phase"]),
        ("Reason", &status["reason"]),
        ("Message", &status["message"]),
        ("IP", &status["podIP"]),
        ("Started", &status["startTime"]),
        ("QoS", &status["qosClass"]),
    ] {
        if !value.is_null() {
            line(&format!("{:12}{}", format!("{title}:"), text(value)));
        }
    }
    line("Containers:");
    for container in status["initContainerStatuses"].as_array().into_iter().flatten().chain(status["containerStatuses"].as_array().into_iter().flatten()) {
        line(&format!("  {}: {} ready={} restarts={}", text(&container["name"]), text(&container["image"]), container["ready"], container["restartCount"]));
        line(&format!("    state: {}", state(&container["state"])));
        if container["lastState"].as_object().is_some_and(|last| !last.is_empty()) {
            line(&format!("    last:  {}", state(&container["lastState"])));
        }
    }
    line("Conditions:");
    for condition in status["conditions"].as_array().into_iter().flatten() {
        line(&format!("  {:28}{} {}", text(&condition["type"]), text(&condition["status"]), condition["message"].as_str().unwrap_or_default()));
    }
    line("Events:");
    for event in answer["events"].as_array().into_iter().flatten() {
        line(&format!("  {:8}{:24}x{} {} {}", text(&event["type"]), text(&event["reason"]), event["count"], text(&event["time"]), text(&event["message"])));
    }
}

fn state(state: &Value) -> String {
    let Some((kind, inner)) = state.as_object().and_then(|map| map.iter().next()) else { return "-".to_owned() };
    let parts = ["reason", "message", "exitCode", "startedAt", "finishedAt"]
        .iter()
        .filter(|key| !inner[**key].is_null())
        .map(|key| format!("{key}={}", text(&inner[*key])));
    format!("{kind} {}", parts.collect::<Vec<_>>().join(" "))
}

impl Logs {
    /// Prints a log.
    pub fn run(self, socket: &Path) -> Result<Exit, Failure> {
        // As kubectl has it, -1 stands for all.
        let tail = match self.tail {
            None | Some(-1) => None,
            Some(lines) => Some(usize::try_from(lines).map_err(|_| {
                let why = format!("--tail {lines}: the number of lines must be -1 (all) or more");
                Failure(Exit::Usage, why)
            })?),
        };
        let question = json!({
            "logs": full_name(&self.pod, &self.namespace), "container": self.container.unwrap_or_default(), "previous": self.previous, "follow": self.follow, "tail": tail,
        });
        let mut heard = true;
        let result = AGENT.ask_bytes(socket, &question, |bytes| output::bytes(bytes).inspect_err(|_| heard = false));
        if heard { result.map(|()| Exit::Ok) } else { Ok(Exit::Ok) }
    }
}
