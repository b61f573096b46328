//! The command line as people meet it: what it prints, and the code it ends
//! with.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

fn selvedge(config: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selvedge")).env_remove("SELVEDGE_TOKEN").env("SELVEDGE_CONFIG", config).args(arguments).output().expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(name: &str, content: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("selvedge-cli-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("room");
    path
}

#[test]
fn the_version_names_the_modules() {
    let output = selvedge("/none", &["--version"]);
    assert!(output.status.success() && text(&output.stdout).starts_with(concat!("selvedge ", env!("CARGO_PKG_VERSION"), " (")), "{output:?}");
}

#[test]
fn no_command_is_told_which_there_are() {
    let output = selvedge("/none", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("join"));
    let help = selvedge("/none", &["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("status"));
}

#[test]
fn all_faults_of_a_configuration_are_told_in_one_run() {
    let path = file("faults.toml", "[edged]\nmax_pod = 3\nlog_max_files = \"many\"\n[edgehub]\nheartbeat = \"soon\"\n[nodes]\nx = 1\n");
    let output = selvedge(path.to_str().expect("text"), &["run"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["max_pod", "did you mean", "max_pods", "log_max_files", "heartbeat", "nodes"] {
        assert!(told.contains(part), "'{part}' is missing in: {told}");
    }
    std::fs::remove_file(path).expect("it is ours");
}

#[test]
fn an_agent_that_is_not_there_is_said_to_be() {
    let path = file("away.toml", "[control]\nsocket = \"/nonexistent/control.sock\"\n");
    for arguments in [&["status"][..], &["get", "pods"], &["describe", "pod", "x"], &["logs", "x"]] {
        let output = selvedge(path.to_str().expect("text"), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains("the agent is not running"), "{output:?}");
    }
    std::fs::remove_file(path).expect("it is ours");
}

#[test]
#[cfg(feature = "edgehub")]
fn a_token_that_is_none_is_refused_and_not_shown() {
    let token = file("token", "not-a-token-but-secret\n");
    let output = selvedge("/nonexistent/selvedge.toml", &["join", "--cloud", "127.0.0.1:1", "--node", "n", "--token-file", token.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("token") && !told.contains("secret"), "{told}");
    assert_eq!(selvedge("/nonexistent/selvedge.toml", &["join", "--cloud", "127.0.0.1:1", "--node", "n"]).status.code(), Some(2), "no token at all");
    std::fs::remove_file(token).expect("it is ours");
}

#[test]
fn the_doctor_ends_with_a_code_and_speaks_json() {
    let path = file("check.toml", "[edged]\nruntime = \"/nonexistent/containerd.sock\"\n[metamanager]\ndir = \"/tmp/selvedge-cli-none\"\n");
    let output = selvedge(path.to_str().expect("text"), &["check", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told = findings.to_string();
    assert!(told.contains("/nonexistent/containerd.sock"), "{told}");
    assert_eq!(selvedge(path.to_str().expect("text"), &["check", "-o", "yaml"]).status.code(), Some(2), "there is no such output");
    std::fs::remove_file(path).expect("it is ours");
}

#[test]
#[cfg(feature = "eventbus")]
fn a_broker_that_is_not_there_is_said_to_be_and_what_may_mend_it() {
    for (server, words) in [("unix:///nonexistent/mqtt.sock", "is it running"), ("tcp://127.0.0.1:1", "broker 127.0.0.1:1")] {
        let path = file("broker.toml", &format!("[eventbus]\nserver = \"{server}\"\n"));
        let output = selvedge(path.to_str().expect("text"), &["mqtt", "test"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
        std::fs::remove_file(path).expect("it is ours");
    }
}

#[test]
fn the_configuration_is_named_before_or_after_the_command() {
    let path = file("after.toml", "[control]\nsocket = \"/nonexistent/named.sock\"\n");
    let path_text = path.to_str().expect("text");
    let equals = format!("--config={path_text}");
    for arguments in [
        &["--config", path_text, "status"][..],
        &["status", "--config", path_text],
        &["status", &equals],
        &["get", "pods", "--config", path_text, "-o", "json"],
        &["describe", "--config", path_text, "pod", "x"],
        &["logs", "x", "--config", path_text],
        &["twin", "get", "x", "--config", path_text],
    ] {
        let output = selvedge("/none", arguments);
        assert!(text(&output.stderr).contains("/nonexistent/named.sock"), "{arguments:?}: {output:?}");
    }
    let checked = selvedge("/none", &["check", "--config", path_text, "-o", "json"]);
    assert!(text(&checked.stdout).contains(path_text), "{checked:?}");
    for twice in [&["--config", path_text, "check", "--config", path_text][..], &["check", "--config"]] {
        let output = selvedge("/none", twice);
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains("--config"), "{twice:?}: {output:?}");
    }
    std::fs::remove_file(path).expect("it is ours");
}

#[cfg(feature = "edgehub")]
const TOKEN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.x.yy.zzz";

#[test]
#[cfg(feature = "edgehub")]
fn a_cloud_that_cannot_be_meant_is_refused_with_one_sentence() {
    let join = |cloud: &str| selvedge("/nonexistent/selvedge.toml", &["join", "--cloud", cloud, "--node", "n", "--token", TOKEN]);
    for cloud in ["http://127.0.0.1:1", "127.0.0.1:1/x", "127.0.0.1:x", "a b"] {
        let output = join(cloud);
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(&format!("--cloud '{cloud}': ")), "{output:?}");
    }
    let understood = join("https://127.0.0.1:1/");
    assert!(text(&understood.stderr).contains("127.0.0.1:10002"), "{understood:?}");
}

#[test]
#[cfg(feature = "edgehub")]
fn the_key_of_another_node_is_never_replaced_unasked() {
    let dir = std::env::temp_dir().join(format!("selvedge-cli-{}-keys", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room");
    let (config, key) = (dir.join("node.toml"), dir.join("node.key"));
    std::fs::write(&key, "another node's").expect("room");
    let config = config.to_str().expect("text");
    let join = |more: &[&str]| {
        selvedge("/none", &[&["join", "--config", config, "--cloud", "127.0.0.1:1", "--https-port", "1", "--node", "n", "--token", TOKEN], more].concat())
    };
    let output = join(&["--reuse"]);
    let told = text(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("node.key") && told.contains("--force"), "{output:?}");
    // It goes as far as the cloud, which is not there.
    let forced = join(&["--force"]);
    assert!(text(&forced.stderr).contains("127.0.0.1:1 refuses the connection"), "{forced:?}");
    assert_eq!(std::fs::read(&key).expect("it is there"), b"another node's");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
#[cfg(feature = "cloud")]
fn a_token_of_a_cloud_that_is_not_up_is_an_error() {
    let dir = std::env::temp_dir().join(format!("selvedge-cli-{}-cloud", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room");
    let state = dir.to_str().expect("text");
    let token = || selvedge("/none", &["cloud", "--state", state, "token"]);
    let output = token();
    assert!(output.status.code() == Some(3) && output.stdout.is_empty(), "{output:?}");
    assert!(text(&output.stderr).contains("the stand-in is not running: selvedge cloud run"), "{output:?}");
    let listener = std::os::unix::net::UnixListener::bind(dir.join("control.sock")).expect("a socket");
    let ending = std::thread::spawn(move || drop(listener.accept().expect("one asks")));
    let output = token();
    ending.join().expect("it ends");
    assert!(output.status.code() == Some(3) && output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    std::fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
#[cfg(feature = "eventbus")]
fn the_doctor_looks_at_the_broker() {
    for (server, found) in [("mode = \"off\"", None), ("server = \"tcp://127.0.0.1:1\"", Some("127.0.0.1:1"))] {
        let path = file("mqtt.toml", &format!("[eventbus]\n{server}\n[edged]\nruntime = \"/nonexistent/x.sock\"\n"));
        let output = selvedge(path.to_str().expect("text"), &["check", "-o", "json"]);
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mqtt = findings.as_array().into_iter().flatten().find(|finding| finding["what"] == "mqtt");
        assert_eq!(mqtt.is_some(), found.is_some(), "{findings}");
        assert!(mqtt.is_none_or(|mqtt| mqtt["why"].as_str().is_some_and(|why| found.is_some_and(|found| why.contains(found)))), "{findings}");
        std::fs::remove_file(path).expect("it is ours");
    }
}

/// A stand-in that ends with the test.
#[cfg(feature = "cloud")]
struct Running(std::process::Child);

#[cfg(feature = "cloud")]
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg(feature = "cloud")]
fn a_cloud_on_ipv6_is_joined_by_its_url_and_again_by_its_own_node_only() {
    let dir = std::env::temp_dir().join(format!("selvedge-cli-{}-join", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room");
    let free = || std::net::TcpListener::bind("[::1]:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let (port, https) = (free().to_string(), free().to_string());
    let state = dir.join("cloud");
    let cloud = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
        command.args(["cloud", "--state", state.to_str().expect("text")]).args(arguments);
        command
    };
    let run = ["run", "--listen", "::1", "--port", &port, "--https-port", &https];
    let mut running = Running(cloud(&run).stderr(std::process::Stdio::piped()).spawn().expect("the program"));
    let mut said = BufReader::new(running.0.stderr.take().expect("a pipe")).lines();
    assert!(said.next().is_some_and(|line| line.is_ok_and(|line| line.contains(&format!("[::1]:{port}")))));
    let token = text(&cloud(&["token"]).output().expect("the program").stdout);
    let (config, url) = (dir.join("node.toml"), format!("https://[::1]:{port}/"));
    let join = |node: &str, more: &[&str]| {
        let arguments = ["join", "--cloud", &url, "--https-port", &https, "--node", node, "--token", token.trim(), "--config", config.to_str().expect("text")];
        selvedge("/none", &[&arguments, more].concat())
    };
    let key = || std::fs::read(dir.join("node.key")).expect("beside the configuration");
    assert!(join("one", &[]).status.success());
    let first = key();
    let read = std::fs::read_to_string(&config).expect("it was written");
    assert!(read.contains(&format!("websocket = \"[::1]:{port}\"")) && read.contains(&dir.join("node.key").display().to_string()), "{read}");
    assert!(join("one", &[]).status.success() && key() != first, "the same node may join again");
    let second = key();
    let other = join("two", &["--reuse"]);
    assert!(other.status.code() == Some(1) && text(&other.stderr).contains("--force") && key() == second, "{other:?}");
    // Another cloud: the same node's key is kept, too.
    let ca = dir.join("ca.crt");
    std::fs::copy(dir.join("node.crt"), &ca).expect("it is there");
    let other = join("one", &["--reuse"]);
    assert!(other.status.code() == Some(1) && text(&other.stderr).contains("they are for another cloud") && key() == second, "{other:?}");
    assert!(join("two", &["--force"]).status.success() && key() != second);
    drop(running);
    std::fs::remove_dir_all(dir).expect("it is ours");
}

/// What was asked of an agent that answers so, and what the command printed.
fn asked_of_agent(name: &str, arguments: &[&str], answer: &'static [u8]) -> (String, Output) {
    let socket = file(&format!("{name}.sock"), "");
    std::fs::remove_file(&socket).expect("it is ours");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let config = format!("[node]\nname = \"n\"\n[control]\nsocket = {:?}\n", socket);
    let config = file(&format!("{name}.toml"), &config);
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let mut question = String::new();
        BufReader::new(&stream).read_line(&mut question).expect("a line");
        stream.write_all(answer).expect("he reads");
        question
    });
    let output = selvedge(&config.display().to_string(), arguments);
    std::fs::remove_file(socket).and(std::fs::remove_file(config)).expect("they are ours");
    (agent.join().expect("it answered"), output)
}

#[test]
fn a_log_is_printed_as_it_is() {
    let (question, output) = asked_of_agent("bytes", &["logs", "p"], b"{}\n\xff\xfe\0\x1b[31m\r\nhalf");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"\xff\xfe\0\x1b[31m\r\nhalf");
    assert!(question.contains("\"tail\":null"), "{question}");
    let (_, output) = asked_of_agent("refused", &["logs", "p"], b"{\"error\":\"no such pod\"}\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "selvedge: no such pod\n".into()));
}

#[test]
fn as_many_lines_of_a_log_are_shown_as_kubectl_would() {
    for (arguments, tail) in [(&["--tail", "-1"][..], "null"), (&["--tail=-1"], "null"), (&["--tail=3"], "3"), (&["--tail", "0"], "0")] {
        let (question, output) = asked_of_agent("tail", &[&["logs", "p"], arguments].concat(), b"{}\n");
        assert!(output.status.success() && question.contains(&format!("\"tail\":{tail}")), "{question} {output:?}");
    }
    let output = selvedge("/none", &["logs", "p", "--tail", "-2"]);
    assert!(text(&output.stderr).contains("--tail -2: the number of lines must be -1 (all) or more"), "{output:?}");
}
