//! Who may know whom, and what is pure: read from the sources, so that a wrong
//! arrow fails here and not in somebody's head.

use std::path::{Path, PathBuf};

/// Every source file and the module it belongs to.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 80, "{} files", found.len());
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<(String, PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).expect("the sources").map(|entry| entry.expect("a file").path()) {
        if entry.is_dir() {
            walk(root, &entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let module =
                entry.strip_prefix(root).expect("below").components().next().expect("a name").as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&entry).expect("text");
            found.push((module, entry, text));
        }
    }
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]").next().unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Modules of ours a line names.
fn named(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            let list = rest.strip_prefix('{').map_or_else(|| vec![rest], |list| list.split('}').next().unwrap_or_default().split(',').collect());
            list.into_iter().map(|name| name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()).collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

const MAY_KNOW: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["agent", "cloud", "config", "edgehub", "eventbus", "host", "modules", "node", "wire"]),
    ("agent", &["config", "host", "modules", "node"]),
    ("modules", &["broker", "config", "dmi", "edged", "edgehub", "eventbus", "host", "metamanager", "node", "servicebus"]),
    ("config", &["wire"]),
    ("node", &["config", "wire"]),
    ("wire", &[]),
    ("host", &[]),
    ("edgehub", &["config", "host", "node", "wire"]),
    ("metamanager", &["config", "host", "node"]),
    ("edged", &["config", "host", "node", "wire"]),
    ("eventbus", &["config", "host", "node", "wire"]),
    ("servicebus", &["config", "host", "node", "wire"]),
    ("dmi", &["config", "host", "node", "wire"]),
    ("broker", &["config", "host", "wire"]),
    ("cloud", &["edgehub", "host", "wire"]),
    ("lib", &[]),
];

#[test]
fn nobody_knows_more_than_he_may() {
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let (_, allowed) = MAY_KNOW.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no place in the picture"));
        for line in code(&text) {
            wrong.extend(
                named(line)
                    .into_iter()
                    .filter(|other| *other != module && !allowed.contains(&other.as_str()))
                    .map(|other| format!("{} knows {other}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn decisions_have_no_clock_socket_task_or_await() {
    let impure = [
        "async ",
        ".await",
        "smol::",
        "futures",
        "std::fs",
        "std::net",
        "std::thread",
        "std::process",
        "Instant",
        "SystemTime",
        "std::env",
        "rustix",
        "std::sync::Mutex",
        "std::io",
    ];
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        let pure_cloud = module == "cloud"
            && [
                "cluster.rs",
                "hub.rs",
                "controller.rs",
                "applications.rs",
                "apply.rs",
                "objects.rs",
                "merge.rs",
                "rollout.rs",
                "scheduler.rs",
                "workloads.rs",
                "defaults.rs",
                "devices.rs",
                "devicestatus.rs",
                "router.rs",
                "yaml/mod.rs",
                "scalar.rs",
            ]
            .iter()
            .any(|name| path.ends_with(name));
        let pure_broker = module == "broker"
            && ["access.rs", "clients.rs", "outbox.rs", "packet.rs", "peer.rs", "retained.rs", "router.rs", "session.rs", "topic.rs"]
                .iter()
                .any(|name| path.ends_with(name));
        if module == "node" || module == "wire" || pure_cloud || pure_broker {
            wrong.extend(code(&text).filter(|line| impure.iter().any(|word| line.contains(word))).map(|line| format!("{}: {}", path.display(), line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Files that write members of values they have just made themselves.
const WRITE_BY_INDEX: [&str; 9] = [
    "cloud/",
    "node/events.rs",
    "node/nodestatus.rs",
    "node/pod/conditions.rs",
    "node/pod/status.rs",
    "node/reports.rs",
    "node/twin/device.rs",
    "node/twin/mod.rs",
    "agent/",
];

/// Whether a line writes through `value["member"]`, or borrows it to do so.
fn writes_by_index(line: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find("[\"") {
        let (before, index) = rest.split_at(at);
        let name_begins = before.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']' | '"'))).map_or(0, |at| at + 1);
        let is_value = before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ']'));
        let mut after = index;
        while let Some((_, rest)) = after.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            after = rest;
        }
        let assigned = after.trim_start().strip_prefix('=').is_some_and(|rest| !rest.starts_with(['=', '>']));
        let taken = after.starts_with(".take()") || after.split('(').next().is_some_and(|call| call.ends_with("_mut"));
        if is_value && (assigned || taken || before[..name_begins].ends_with("&mut ")) {
            return true;
        }
        rest = &index[1..];
    }
    false
}

/// Reading `value["member"]` of what is no object gives null; writing to it
/// panics. What came from outside is written by `get_mut`, or as a map.
#[test]
fn nothing_from_outside_is_written_by_index() {
    for line in ["lease[\"metadata\"][\"name\"] = name;", "set(&mut object[\"spec\"])", "let all = answer[\"items\"].as_array_mut();", "x = a[\"b\"].take();"] {
        assert!(writes_by_index(line), "{line}");
    }
    for line in ["if a[\"b\"] == 1 {", "let [\"a\", b] = x else", "let x = a[\"b\"].as_str();", "for x in [\"a\", \"b\"] {", "[\"a\"] => 1,"] {
        assert!(!writes_by_index(line), "{line}");
    }
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        let name = path.to_string_lossy().replace('\\', "/");
        if WRITE_BY_INDEX.iter().any(|allowed| name.contains(&format!("/src/{allowed}"))) {
            continue;
        }
        wrong.extend(code(&text).filter(|line| writes_by_index(line)).map(|line| format!("{name}: {}", line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (_, path, text) in sources() {
        let lines = code(&text).count();
        assert!(lines <= 420, "{} has {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}
