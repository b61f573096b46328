//! The command line as people meet it: what it prints, and the code it ends
//! with.

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
