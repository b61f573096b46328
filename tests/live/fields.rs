//! Fields of a pod as its containers see them.

use serde_json::json;

use super::stand::{OBEDIENT, Stand, pod};

/// What the pod printed.
fn log(stand: &Stand, name: &str) -> String {
    let logs = stand.command(&["logs", name]).output().expect("the program");
    String::from_utf8_lossy(&logs.stdout).into_owned()
}

#[test]
#[ignore = "needs a containerd: make live"]
fn labels_names_and_resolvers_reach_the_containers() {
    let stand = Stand::up("fields");
    let mut seen = pod("seen", &format!("hostname; cat /etc/hosts /etc/resolv.conf; echo cpu $CPU storage $STORAGE; echo done; {OBEDIENT}"));
    let label = json!({ "user": "system_u", "role": "system_r", "type": "container_t", "level": "s0:c0,c1" });
    let spec = &mut seen["spec"];
    spec["securityContext"] = json!({ "seLinuxOptions": label, "appArmorProfile": { "type": "Unconfined" } });
    spec["containers"][0]["securityContext"] = json!({ "seLinuxOptions": { "level": "s0:c2,c3" } });
    spec["hostnameOverride"] = "db.example.com".into();
    spec["dnsPolicy"] = "None".into();
    spec["dnsConfig"] = json!({ "nameservers": ["192.0.2.53"], "searches": ["a.example"], "options": [{ "name": "ndots", "value": "3" }] });
    let field = |name: &str, resource: &str| json!({ "name": name, "valueFrom": { "resourceFieldRef": { "resource": resource } } });
    spec["containers"][0]["env"] = json!([field("CPU", "limits.cpu"), field("STORAGE", "limits.ephemeral-storage")]);
    spec["volumes"] = json!([{ "name": "e", "emptyDir": {} }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "e", "mountPath": "/e" }]);
    stand.apply(&seen);
    stand.until("it runs and has printed all", |stand| stand.is_ready("seen") && log(stand, "seen").contains("done"));
    let text = log(&stand, "seen");
    assert!(text.starts_with("db.example.com\n"), "{text}");
    for wanted in ["\tdb.example.com\n", "nameserver 192.0.2.53\n", "search a.example\n", "options ndots:3\n"] {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    let node = &stand.get("node")[0]["status"]["allocatable"];
    let storage = node["ephemeral-storage"].as_str().expect("it is told");
    assert!(text.contains(&format!(" storage {storage}\n")), "{storage} in {text}");
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_rule_starts_a_container_again_although_its_policy_does_not() {
    let stand = Stand::up("rules");
    let mut again = pod("again", "exit 42");
    again["spec"]["containers"][0]["restartPolicy"] = "Never".into();
    let rule = json!({ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } });
    again["spec"]["containers"][0]["restartPolicyRules"] = json!([rule]);
    stand.apply(&again);
    let restarts = |stand: &Stand, name: &str| stand.pod(name).and_then(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64());
    stand.until("it was started again", |stand| restarts(stand, "again").is_some_and(|count| count > 0));
    let mut once = pod("once", "exit 41");
    once["spec"]["containers"][0] = again["spec"]["containers"][0].clone();
    once["spec"]["containers"][0]["command"] = json!(["sh", "-c", "exit 41"]);
    stand.apply(&once);
    stand.until("it failed", |stand| stand.pod("once").is_some_and(|pod| pod["status"]["phase"] == "Failed"));
    assert_eq!(restarts(&stand, "once"), Some(0));
}
