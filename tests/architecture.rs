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

/// The code of a file without its tests and comments. Tests in a file of their own
/// are declared at the top.
fn code(text: &str) -> impl Iterator<Item = &str> {
    const TESTS: &str = "#[cfg(test)]\nmod ";
    let is_inline = |at: &usize| text[at + TESTS.len()..].lines().next().is_some_and(|line| line.ends_with('{'));
    let end = text.match_indices(TESTS).map(|(at, _)| at).find(is_inline).unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//"))
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

/// Reading `value["member"]` of a JSON value gives null where there is none, whatever the
/// value is, and stays allowed: nothing can panic by it, and the fuzz target `world` gives
/// the node such values. What can panic is forbidden here and in the two tests below.
/// Writing `value["member"]` panics on what is no object: what came from outside is
/// written by `get_mut`, or as a map.
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
    assert!(wrong.is_empty(), "use get_mut, or write a map: {wrong:#?}");
}

/// Names that a file declares as maps.
fn maps(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for kind in ["Map<", "BTreeMap<", "HashMap<"] {
        for (at, _) in text.match_indices(kind) {
            let Some((before, declared)) = text[..at].rsplit_once(": ") else { continue };
            let is_type = declared.trim_start_matches(['&', ' ']).trim_start_matches("mut ");
            let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            if !name.is_empty() && matches!(is_type, "" | "serde_json::" | "std::collections::") {
                names.push(name);
            }
        }
    }
    names
}

/// Whether a line reads `map["key"]` or `map[&key]` of one of these.
fn indexes_a_map(line: &str, maps: &[&str]) -> bool {
    let begins_name = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    maps.iter().any(|name| {
        let mut found = line.match_indices(name);
        found.any(|(at, _)| begins_name(&line[..at]) && ["[\"", "[&"].iter().any(|index| line[at + name.len()..].starts_with(index)))
    })
}

/// Other than a JSON value, a map panics when a key is not there.
#[test]
fn no_map_is_read_by_index() {
    let text = "fn f(all: &BTreeMap<u8, u8>, object: &Map<String, Value>) {}\nstruct S { known: serde_json::Map<A, B> }";
    assert_eq!(maps(text), ["object", "known", "all"]);
    assert!(indexes_a_map("let x = self.known[&key].0;", &["known"]) && indexes_a_map("object[\"a\"]", &["object"]));
    assert!(!indexes_a_map("unknown[&key] + known.get(&key)", &["known"]));
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        let maps = maps(text.split("#[cfg(test)]").next().unwrap_or_default());
        // A value may have the name that a map has elsewhere in the file.
        let lines = code(&text).filter(|line| indexes_a_map(line, &maps) && !writes_by_index(line));
        wrong.extend(lines.map(|line| format!("{}: {} (use get)", path.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a line calculates with a number that it has just read from JSON.
fn calculates_with_json(line: &str) -> bool {
    [".as_i64()", ".as_u64()"].iter().any(|read| {
        let after = line.split_once(read).map_or("", |(_, after)| after);
        [" + ", " - ", " * "].iter().any(|sign| after.contains(sign))
    })
}

/// Any number may stand in JSON that came from outside, and in rows of a store.
#[test]
fn numbers_from_outside_do_not_overflow() {
    assert!(calculates_with_json("x = value[\"a\"].as_i64().unwrap_or(1) + 1;"));
    assert!(!calculates_with_json("x = value[\"a\"].as_i64().unwrap_or(1).saturating_add(1);"));
    let mut wrong = Vec::new();
    for (_, path, text) in sources() {
        let lines = code(&text).filter(|line| calculates_with_json(line));
        wrong.extend(lines.map(|line| format!("{}: {} (use saturating_add and the like)", path.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for (_, path, text) in sources() {
        let lines = code(&text).count();
        // One that is still to be parted.
        let most = if path.ends_with("node/pod/mod.rs") { 500 } else { 420 };
        assert!(lines <= most, "{} has {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{} does not say what it is for", path.display());
    }
}

/// Enums between the node and its shells: each file, and what is declared in it.
const SAID_BETWEEN: [(&str, &str); 8] = [
    ("node/input.rs", "Input"),
    ("node/input.rs", "LinkEnd"),
    ("node/link.rs", "Order"),
    ("node/runtime.rs", "Order"),
    ("node/runtime.rs", "Step"),
    ("node/bus.rs", "Order"),
    ("node/service.rs", "Order"),
    ("node/dmi.rs", "Order"),
];

/// Variants of an enum, in the code of the file that declares it.
fn variants(code: &str, name: &str) -> Vec<String> {
    let body = code.split(&format!("pub enum {name} {{")).nth(1).unwrap_or_else(|| panic!("no enum {name}"));
    let lines = body.split("\n}").next().unwrap_or_default().lines();
    let variant = |line: &str| line.strip_prefix("    ").map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>());
    lines.filter_map(variant).filter(|name| name.starts_with(|c: char| c.is_uppercase())).collect()
}

/// What follows a value's or a pattern's members.
fn after_members(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '{' if depth > 0 || at == 0 || text[..at].trim().is_empty() => depth += 1,
            ')' | '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return text[at + 1..].trim_start();
                }
            }
            _ if depth == 0 && !c.is_whitespace() => return text[at..].trim_start(),
            _ => {}
        }
    }
    ""
}

/// Whether a place names a variant to make it, and not to match it.
fn makes(rest: &str) -> bool {
    let after = after_members(rest);
    !(after.starts_with("=>") || after.starts_with('|') || after.starts_with("= ") || after.starts_with("if "))
}

/// Public items of a library are never told to be dead, so that this looks after
/// what nobody says any more.
#[test]
fn what_can_be_said_between_node_and_shells_is_said_by_somebody() {
    assert!(makes("(1), 2") && makes(" { a: 1 })") && makes(";") && !makes("(_) => 1") && !makes(" { .. } | X") && !makes("(x) = y else"));
    let sources: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|(_, path, _)| !path.ends_with("live.rs"))
        .map(|(_, path, text)| (path.to_string_lossy().replace('\\', "/"), code(&text).collect::<Vec<_>>().join("\n")))
        .collect();
    let mut dead = Vec::new();
    for (file, name) in SAID_BETWEEN {
        let (_, declared) = sources.iter().find(|(path, _)| path.ends_with(file)).unwrap_or_else(|| panic!("no {file}"));
        for variant in variants(declared, name) {
            let is_made = |named: &str, text: &str| {
                text.split(&format!("{named}::{variant}")).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') && makes(rest))
            };
            if !sources.iter().any(|(_, text)| is_made(name, text) || is_made("Self", text)) {
                dead.push(format!("{file}: {name}::{variant}"));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// The call that a line declares: `name(NameRequest) -> Answer`.
#[cfg(feature = "edged")]
fn declared(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().split_once('(')?;
    (rest.contains("Request) -> ") && !name.contains(' ')).then_some(name)
}

/// The same for calls to the runtime, which a macro declares.
#[cfg(feature = "edged")]
#[test]
fn every_call_of_the_runtime_is_made_by_somebody() {
    let sources = sources();
    let (_, _, client) = sources.iter().find(|(_, path, _)| path.ends_with("edged/client.rs")).expect("the client");
    let calls: Vec<&str> = client.lines().filter_map(declared).collect();
    assert!(calls.len() > 15, "{calls:?}");
    let is_made = |call: &str| sources.iter().any(|(_, _, text)| text.contains(&format!(".{call}(")));
    let unused: Vec<_> = calls.into_iter().filter(|call| !is_made(call)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
