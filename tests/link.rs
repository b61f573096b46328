//! The link to the cloud over real sockets: stand-in and agent as processes, as
//! far as they go on a machine without a container runtime.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

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

/// A proxy that knows CONNECT and nothing else.
struct Proxy {
    port: u16,
    /// Where it was asked to connect to.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// With `login`, this `Proxy-Authorization` is asked for.
    fn start(login: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (port, asked) = (listener.local_addr().expect("an address").port(), Arc::new(Mutex::new(Vec::new())));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = seen.clone();
                std::thread::spawn(move || tunnel(stream, login, &seen));
            }
        });
        Self { port, asked }
    }

    fn asked_for(&self, port: &str) -> bool {
        self.asked.lock().expect("nobody panicked").iter().any(|peer| *peer == format!("127.0.0.1:{port}"))
    }
}

/// One connection to the proxy, from its request to its end.
fn tunnel(mut client: TcpStream, login: Option<&str>, asked: &Mutex<Vec<String>>) -> Option<()> {
    let (mut head, mut byte) = (String::new(), [0]);
    while !head.ends_with("\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(char::from(byte[0]));
    }
    let given = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    if given != login {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").ok();
    }
    let peer = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    asked.lock().expect("nobody panicked").push(peer.to_owned());
    let mut server = TcpStream::connect(peer).ok()?;
    // The head and what the server says come in one piece as often as not.
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut up, mut down) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut down);
        down.shutdown(Shutdown::Both)
    });
    let _ = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Both).ok()
}

#[test]
fn join_and_session_go_through_the_proxy() {
    // "node:p@ss" in base64.
    for (name, url, login) in [("proxy", "", None), ("proxy-login", "node:p%40ss@", Some("Basic bm9kZTpwQHNz"))] {
        let proxy = Proxy::start(login);
        let mut stand = stand(name);
        up(&mut stand, &format!("proxy = \"http://{url}127.0.0.1:{}\"\n", proxy.port));
        let [websocket, https] = stand.ports.clone();
        assert!(proxy.asked_for(&https) && proxy.asked_for(&websocket), "{:?}", proxy.asked);
        end(stand);
    }
}

#[test]
fn a_proxy_that_refuses_is_named_without_the_password() {
    let proxy = Proxy::start(Some("Basic bm9kZTpwQHNz"));
    let mut stand = stand("proxy-refuses");
    stand.configure(&format!("proxy = \"http://node:wrong@127.0.0.1:{}\"\n", proxy.port));
    stand.start_cloud();
    let output = stand.try_join();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("proxy 127.0.0.1:{}: HTTP status 407", proxy.port)) && !said.contains("wrong"), "{said}");
    end(stand);
}

#[test]
fn a_certificate_that_is_due_is_renewed_and_so_is_the_session() {
    let mut stand = stand("renewal");
    // It begins five minutes before it is given: 20 s more are less than a tenth.
    stand.cloud_options = vec!["--certificate-life", "20s"];
    stand.configure("");
    stand.start_cloud();
    stand.join();
    let files = ["node.crt", "node.key", "ca.crt"];
    let read = |stand: &Stand| files.map(|file| std::fs::read_to_string(stand.dir.join(file)).expect("it is there"));
    let before = read(&stand);
    stand.start_agent();
    stand.until("a session is opened with the new certificate", |stand| stand.has_renewed() && is_online(stand));
    let after = read(&stand);
    assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2], "certificate and key are new, the CA is the same");
    let mode = std::fs::metadata(stand.dir.join("node.key")).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    end(stand);
}
