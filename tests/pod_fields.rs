//! What becomes of each field that a pod can have: obeyed, irrelevant on a node, or
//! refused by name. `tests/data/pod-fields.txt` has a line for each, with a value:
//! all fields of PodSpec in the API of Kubernetes 1.36
//! (api/openapi-spec/swagger.json), generated once.

use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::Path;
use std::time::Duration;

use selvedge::node::pod::render::refusal;
use selvedge::wire::kube::{self, Pod};
use serde_json::{Map, Value, json};

use crate::sim::World;

struct Row<'a> {
    path: &'a str,
    fate: &'a str,
    sample: Value,
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let row = |line| -> Option<Row<'_>> {
        let (path, rest) = str::split_once(line, ' ')?;
        let (fate, sample) = rest.split_once(' ')?;
        Some(Row { path, fate, sample: serde_json::from_str(sample).ok()? })
    };
    table.lines().map(|line| row(line).unwrap_or_else(|| panic!("no row: {line}"))).collect()
}

/// Members that an object at this path cannot be without.
fn required(path: &str) -> Value {
    match path.rsplit('.').next().unwrap_or(path) {
        "spec" => json!({ "containers": [{ "name": "c", "image": "i:1" }], "volumes": [{ "name": "v" }, { "name": "x" }] }),
        "containers[]" | "initContainers[]" => json!({ "name": "c", "image": "i:1" }),
        "volumeMounts[]" => json!({ "name": "v" }),
        "volumes[]" => json!({ "name": "v" }),
        "httpGet" | "tcpSocket" | "grpc" => json!({ "port": 1 }),
        "restartPolicyRules[]" => json!({ "action": "RestartAllContainers" }),
        "exitCodes" => json!({ "operator": "In" }),
        "matchExpressions[]" | "matchFields[]" => json!({ "key": "k", "operator": "In" }),
        _ => json!({}),
    }
}

/// Puts a value at a path, with what its parents need; nothing for none.
fn put(object: &mut Map<String, Value>, done: &str, path: &[&str], value: Option<&Value>) {
    let (step, rest) = path.split_first().expect("a path has steps");
    let done = if done.is_empty() { (*step).to_owned() } else { format!("{done}.{step}") };
    if rest.is_empty() {
        if let Some(value) = value {
            object.insert((*step).to_owned(), value.clone());
        }
        return;
    }
    let name = step.trim_end_matches("[]");
    let is_list = name.len() < step.len();
    let member = object.entry(name).or_insert_with(|| if is_list { json!([]) } else { json!({}) });
    let mut inside = required(&done);
    let members = inside.as_object_mut().expect("an object");
    put(members, &done, rest, value);
    *member = if is_list { json!([inside]) } else { inside };
}

fn pod(path: &str, value: Option<&Value>) -> Pod {
    let steps: Vec<&str> = path.split('.').collect();
    let mut object = Map::new();
    put(&mut object, "", &steps, value);
    kube::read(&Value::Object(object).to_string()).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// Whether a refusal names the field, or an object that it is in.
fn names(refusal: Option<&str>, path: &str) -> bool {
    let path = path.replace("[]", "[0]");
    let is_around = |named: &str| path == named || path.strip_prefix(named).is_some_and(|rest| rest.starts_with(['.', '[']));
    refusal.into_iter().flat_map(|refusal| refusal.split("; ")).any(|part| part.split(": ").next().is_some_and(is_around))
}

/// What becomes of a field, as far as can be seen of it here.
fn fate(row: &Row<'_>) -> &'static str {
    let (without, with) = (pod(row.path, None), pod(row.path, Some(&row.sample)));
    if names(refusal(&with).as_deref(), row.path) {
        "refused"
    } else if with == without {
        "irrelevant"
    } else {
        "obeyed"
    }
}

#[test]
fn each_field_of_a_pod_is_obeyed_irrelevant_or_refused() {
    let table = include_str!("data/pod-fields.txt");
    assert!(table.lines().is_sorted(), "the table is sorted");
    let rows = rows(table);
    let wrong: Vec<String> =
        rows.iter().filter(|row| fate(row) != row.fate).map(|row| format!("{} {}: {}, not {}", row.path, row.sample, fate(row), row.fate)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.len() > 800, "{}", rows.len());
    let bare = kube::read(r#"{"spec":{"containers":[{"name":"c","image":"i:1"}]}}"#).expect("a pod");
    assert_eq!(refusal(&bare), None);
}

/// Text of all files below a directory, but those of one folder.
fn sources(dir: &Path, but: &str, text: &mut String) {
    for entry in read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with(but) {
            sources(&path, but, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn no_field_is_read_and_then_not_looked_at() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut text = String::new();
    sources(&src, "wire/kube", &mut text);
    let used: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for file in ["affinity", "container", "pod", "security", "volume"] {
        let types = read_to_string(src.join("wire/kube").join(file).with_extension("rs")).expect("a source");
        let fields = types.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(": ")).map(|(name, _)| name);
        let fields = fields.filter(|name| !name.starts_with("fn "));
        let unused: Vec<&str> = fields.filter(|field| !used.contains(field)).collect();
        assert!(unused.is_empty(), "{file}.rs: {unused:?}");
    }
}

/// Reason and message of a pod with this security context, and its phase.
fn ends(security_context: Value) -> [String; 3] {
    let mut world = World::ready(1);
    world.apply_pod("p", &["runs"], json!({ "securityContext": security_context }));
    world.run(Duration::from_secs(10));
    let status = &world.pod("p").expect("it is there")["status"];
    ["phase", "reason", "message"].map(|member| status[member].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_the_node_cannot_enforce_is_refused_with_kubelets_reason() {
    let rejected = |reason: &str, why: &str| ["Failed".to_owned(), reason.to_owned(), format!("Pod was rejected: {why}")];
    let app_armor = rejected("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host");
    assert_eq!(ends(json!({ "appArmorProfile": { "type": "RuntimeDefault" } })), app_armor);
    assert_eq!(ends(json!({ "appArmorProfile": { "type": "Localhost", "localhostProfile": "p" } })), app_armor);
    let groups = rejected("SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node");
    assert_eq!(ends(json!({ "supplementalGroupsPolicy": "Strict" })), groups);
    let sysctl = rejected("SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    assert_eq!(ends(json!({ "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] })), sysctl);
}

#[test]
fn what_changes_nothing_on_this_node_does_not_bar_a_pod() {
    for context in [
        json!({ "seLinuxOptions": { "level": "s0:c0,c1" } }),
        json!({ "appArmorProfile": { "type": "Unconfined" } }),
        json!({ "supplementalGroupsPolicy": "Merge", "windowsOptions": { "hostProcess": false } }),
    ] {
        let told = context.to_string();
        assert_eq!(ends(context)[0], "Running", "{told}");
    }
}

#[test]
fn a_container_starts_again_after_the_exit_codes_of_its_rules_only() {
    let starts = |rule: Value| {
        let mut world = World::ready(1);
        let container = json!({ "name": "c", "image": "i:1", "command": ["ends", "100", "42"], "restartPolicy": "Never", "restartPolicyRules": [rule] });
        world.apply_pod("p", &[], json!({ "restartPolicy": "Always", "containers": [container] }));
        world.run(Duration::from_secs(60));
        (world.phase("p").map(str::to_owned), world.runtime.starts.values().sum::<u32>())
    };
    let rule = |values: Value| json!({ "action": "Restart", "exitCodes": { "operator": "In", "values": values } });
    let (phase, count) = starts(rule(json!([42])));
    assert!(phase.as_deref() == Some("Running") && count > 2, "{phase:?}, {count} starts");
    assert_eq!(starts(rule(json!([41]))), (Some("Failed".to_owned()), 1));
}
