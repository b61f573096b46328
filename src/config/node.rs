//! Table `[node]`: who this node is, checked as the API server checks it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use toml::Table;

use super::reader::{Faults, Section};
use super::{NodeConfig, Taint, names};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Reads the table.
pub fn read(file: &mut Table, hostname: &str, faults: &mut Faults) -> NodeConfig {
    let mut section = Section::take(file, "node", faults);
    let given = section.maybe("name");
    let is_given = given.is_some();
    let name = given.unwrap_or_else(|| hostname.to_owned());
    if let Err(why) = names::node(&name) {
        let origin = if is_given { "" } else { ", the host name," };
        section.fault("name", &format!("'{}'{origin} cannot be the name of a node: {why}", names::head(&name)));
    }
    let labels = section.map("labels");
    for (key, value) in &labels {
        label(&mut section, key, value);
    }
    let annotations = section.map("annotations");
    check_annotations(&mut section, &annotations);
    let config = NodeConfig { name, labels, annotations, taints: taints(&mut section), ip: section.maybe("ip") };
    if let Some(why) = config.ip.as_deref().and_then(unusable) {
        section.fault("ip", why);
    }
    section.end(faults);
    config
}

fn label(section: &mut Section, key: &str, value: &str) {
    if let Err(why) = names::key(key) {
        section.fault("labels", &format!("'{}' cannot be a key: {why}", names::head(key)));
    }
    if let Err(why) = names::value(value) {
        section.fault("labels", &format!("'{}' of '{}' cannot be a value: {why}", names::head(value), names::head(key)));
    }
}

fn check_annotations(section: &mut Section, annotations: &BTreeMap<String, String>) {
    for key in annotations.keys() {
        // Keys of annotations may have capitals in their prefix.
        if let Err(why) = names::key(&key.to_lowercase()) {
            section.fault("annotations", &format!("'{}' cannot be a key: {why}", names::head(key)));
        }
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > names::ANNOTATIONS {
        section.fault("annotations", &format!("they have {size} bytes together, at most {} are allowed", names::ANNOTATIONS));
    }
}

fn taints(section: &mut Section) -> Vec<Taint> {
    let mut taints: Vec<Taint> = Vec::new();
    for text in section.list("taints") {
        match taint(&text) {
            Ok(taint) if taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect) => {
                section.fault("taints", &format!("there are two of key '{}' and effect {}", taint.key, taint.effect));
            }
            Ok(taint) => taints.push(taint),
            Err(why) => section.fault("taints", &format!("'{}': {why}", text.chars().take(100).collect::<String>())),
        }
    }
    taints
}

fn taint(text: &str) -> Result<Taint, String> {
    let (pair, effect) = text.rsplit_once(':').ok_or("KEY[=VALUE]:EFFECT was expected, the effect is missing")?;
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !EFFECTS.contains(&effect) {
        let hint = super::reader::nearest(effect, &EFFECTS).map(|near| format!(", did you mean {near}?"));
        return Err(format!("'{effect}' is no effect{}", hint.unwrap_or_else(|| format!(": {} are", EFFECTS.join(", ")))));
    }
    names::key(key).map_err(|why| format!("its key cannot be one: {why}"))?;
    names::value(value).map_err(|why| format!("its value cannot be one: {why}"))?;
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

/// Why nobody could reach a node at an address.
fn unusable(text: &str) -> Option<&'static str> {
    let Ok(ip) = text.parse::<IpAddr>() else { return Some("it is no IP address") };
    if ip.is_unspecified() {
        Some("it is no address of a machine; leave it out for that of the default route")
    } else if ip.is_loopback() {
        Some("it is a loopback address, by which nobody else reaches this node")
    } else if ip.is_multicast() {
        Some("it is a multicast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let mut file: Table = format!("[node]\n{text}").parse().expect("TOML");
        let mut faults = Faults::default();
        read(&mut file, "h", &mut faults);
        faults.0
    }

    #[test]
    fn what_the_api_server_would_refuse_is_a_fault() {
        let (long, all) = ("x".repeat(64), "x".repeat(256 << 10));
        for (text, wanted) in [
            ("name = 'A_b'", "node.name: 'A_b' cannot be the name of a node: only lower-case"),
            ("labels = { 'a b' = 'x' }", "node.labels: 'a b' cannot be a key: only letters"),
            ("labels = { site = 'hall 3' }", "node.labels: 'hall 3' of 'site' cannot be a value: only letters"),
            ("labels = { 'EXAMPLE.com/x' = '' }", "node.labels: 'EXAMPLE.com/x' cannot be a key: its prefix"),
            (&format!("labels = {{ {long} = '' }}"), "node.labels: 'xxxxx"),
            (
                &format!("labels = {{ a = '{long}' }}"),
                "node.labels: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' of 'a' cannot be a value: it has 64 characters, at most 63",
            ),
            ("labels = { a = 5 }", "node.labels: a table of texts was expected"),
            ("annotations = { 'a/b/c' = '' }", "node.annotations: 'a/b/c' cannot be a key: it has more than one '/'"),
            (&format!("annotations = {{ a = '{all}' }}"), "node.annotations: they have 262145 bytes together, at most 262144"),
            ("taints = ['a']", "node.taints: 'a': KEY[=VALUE]:EFFECT was expected"),
            ("taints = ['a:NoSchedul']", "node.taints: 'a:NoSchedul': 'NoSchedul' is no effect, did you mean NoSchedule?"),
            ("taints = ['a:Never']", "node.taints: 'a:Never': 'Never' is no effect: NoSchedule, PreferNoSchedule, NoExecute are"),
            ("taints = [':NoSchedule']", "node.taints: ':NoSchedule': its key cannot be one: its name is empty"),
            ("taints = ['a=b c:NoSchedule']", "node.taints: 'a=b c:NoSchedule': its value cannot be one"),
            ("taints = ['a=1:NoSchedule', 'a=2:NoSchedule']", "node.taints: there are two of key 'a' and effect NoSchedule"),
            ("ip = '192.0.2'", "node.ip: it is no IP address"),
            ("ip = '127.0.0.1'", "node.ip: it is a loopback address"),
            ("ip = '::'", "node.ip: it is no address of a machine"),
            ("ip = 'ff02::1'", "node.ip: it is a multicast address"),
        ] {
            let faults = faults(text);
            assert!(faults.len() == 1 && faults[0].starts_with(wanted), "{text}: {faults:?}");
        }
        let good = "name = 'edge-1.site'\nlabels = { 'example.com/Site' = 'Hall-3', empty = '' }\n\
            annotations = { 'Example.com/x' = 'any text: ü' }\ntaints = ['a=1:NoSchedule', 'a:NoExecute', 'example.com/b:PreferNoSchedule']\nip = '2001:db8::1'";
        assert_eq!(faults(good), [""; 0]);
        assert_eq!(faults("name = 'A'\nip = 'x'\nlabels = { '' = ' ' }\ntaints = ['x', 'y']").len(), 6, "all in one run");
    }
}
