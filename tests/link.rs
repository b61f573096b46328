//! The link to the cloud over real sockets: stand-in and agent as processes, as
//! far as they go on a machine without a container runtime.

use serde_json::{Value, json};

use crate::live::stand::Stand;

/// Stand-in and agent that are not started yet.
fn stand(name: &str) -> Stand {
    let dir = std::env::temp_dir().join(format!("selvedge-link-{}-{name}", std::process::id()));
    Stand::new(&dir, &dir.join("no-runtime.sock"))
}

/// Both run and the node is registered; `edgehub` is more of the agent's table.
fn up(stand: &mut Stand, edgehub: &str) {
    stand.configure(edgehub);
    stand.start_cloud();
    stand.join();
    stand.start_agent();
    stand.until("the node is online", is_online);
}

fn is_online(stand: &Stand) -> bool {
    stand.status()["cloud"]["state"] == "online"
}

fn end(mut stand: Stand) {
    stand.kill_agent();
    let dir = stand.dir.clone();
    drop(stand);
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn a_message_over_the_limit_ends_the_session_with_1009_and_the_next_one_lives() {
    let mut stand = stand("limit");
    up(&mut stand, "max_message = \"64Ki\"\n");
    let mut pod = crate::live::stand::pod("large", "true");
    pod["metadata"]["annotations"]["text"] = "x".repeat(100 << 10).into();
    pod["spec"]["nodeName"] = "live".into();
    stand.apply(&pod);
    stand.until("the agent says why it goes", |stand| stand.said("cloud.log").contains("node 'live' says goodbye: 1009"));
    stand.until("people are told", |stand| stand.status()["cloud"]["last_error"].as_str().is_some_and(|why| why.contains("too long")));
    // The cloud sends it again in the next session, and the next one ends too.
    let goodbyes = |stand: &Stand| stand.said("cloud.log").matches("says goodbye: 1009").count();
    stand.until("it came back", |stand| goodbyes(stand) >= 2);
    stand.delete("large", Some(0));
    stand.until("the node is back", is_online);
    stand.apply(&json!({ "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "small" }, "spec": { "nodeName": "live", "containers": [{ "name": "c", "image": "i:1" }] } }));
    stand.until("a message within the limit arrives", |stand| {
        let output = stand.command(&["get", "pods", "-o", "json"]).output().expect("the program");
        let pods: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        pods["items"].as_array().is_some_and(|pods| pods.iter().any(|pod| pod["name"] == "small"))
    });
    end(stand);
}
