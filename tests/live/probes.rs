//! HTTP probes of a server of many shapes, and what a container prints.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::stand::{OBEDIENT, Stand, pause, pod};

/// Answers at once and keeps every connection open.
fn serve(listener: &TcpListener) {
    let mut open = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let path = asked(&mut stream);
        let found = |location: &str| format!("302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let answer = match path.as_str() {
            "/kept" => "200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned(),
            "/empty" => "204 No Content\r\n\r\n".to_owned(),
            "/chunks" => "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
            "/moved" => found("kept"),
            "/away" => found("http://example.invalid/"),
            "/loop" => found("/loop"),
            "/lost" => found("/nowhere"),
            _ => "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        open.push(stream);
    }
}

fn asked(stream: &mut TcpStream) -> String {
    let mut request = [0; 1024];
    let length = stream.read(&mut request).unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs a containerd: make live"]
fn probes_see_what_kubelet_would_see() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || serve(&listener));
    let stand = Stand::up("probes");
    let (ready, ill) = (["kept", "empty", "chunks", "moved", "away"], ["loop", "lost", "none"]);
    let container = |name: &&str| {
        let get = json!({ "host": "127.0.0.1", "port": port, "path": format!("/{name}") });
        let probe = json!({ "httpGet": get, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 1 });
        let command = ["sh", "-c", OBEDIENT];
        json!({ "name": name, "image": "busybox:1.36", "command": command, "readinessProbe": probe })
    };
    let mut probed = pod("probed", OBEDIENT);
    probed["spec"]["containers"] = ready.iter().chain(&ill).map(container).collect();
    stand.apply(&probed);
    let are_ready = |stand: &Stand| {
        let pod = stand.pod("probed").unwrap_or_default();
        let all = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let ready = all.into_iter().filter(|container| container["ready"] == true);
        let mut names: Vec<Value> = ready.map(|container| container["name"].clone()).collect();
        names.sort_by_key(ToString::to_string);
        names
    };
    let mut expected = ready;
    expected.sort_unstable();
    stand.until("those that are well are ready", |stand| are_ready(stand) == expected);
    pause(Duration::from_secs(3));
    assert_eq!(are_ready(&stand), expected);
    let output = stand.command(&["describe", "pod", "probed"]).output().expect("the program");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    for event in [
        "Readiness probe warning: Probe terminated redirects, Response body:",
        "Readiness probe failed: Get \"/loop\": stopped after 10 redirects",
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    ] {
        assert!(told.contains(event), "{event} is not in {told}");
    }
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_log_is_printed_byte_for_byte() {
    let stand = Stand::up("bytes");
    stand.apply(&pod("bytes", &format!("printf 'a\\377\\376\\033[31m\\001\\nlast\\n'; {OBEDIENT}")));
    let said = |arguments: &[&str]| {
        let arguments = [&["logs", "bytes"], arguments].concat();
        stand.command(&arguments).output().expect("the program").stdout
    };
    let whole = b"a\xff\xfe\x1b[31m\x01\nlast\n";
    stand.until("it printed", |_| said(&[]).len() >= whole.len());
    assert_eq!(said(&[]), whole);
    assert_eq!(said(&["--tail", "-1"]), whole);
    assert_eq!(said(&["--tail=1"]), b"last\n");
    assert_eq!(said(&["--tail=0"]), b"");
}
