//! The doctor beside a container runtime of the tests, which says of itself
//! what a test lets it say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use selvedge::wire::cri;
use serde_json::{Value, json};
use smol::net::unix::{UnixListener, UnixStream};
use tokio_util::compat::FuturesAsyncReadCompatExt;

const PAUSE: &str = "registry.k8s.io/pause:3.6";

/// What a runtime is and has.
#[derive(Clone)]
enum Manner {
    /// No CRI, as with `disabled_plugins = ["cri"]`.
    NoCri,
    /// containerd with this configuration, which has the sandboxes' image or not.
    Containerd { config: Value, has_image: bool },
}

/// A folder with a runtime at `runtime.sock`.
struct Ward(PathBuf);

impl Ward {
    fn new(name: &str, manner: impl FnOnce(&Path) -> Manner) -> Self {
        let dir = std::env::temp_dir().join(format!("selvedge-doctor-{}-{name}", std::process::id()));
        fs::create_dir_all(dir.join("plugins")).expect("room");
        fs::write(dir.join("plugins/bridge"), "").expect("room");
        let text = format!("[edged]\nruntime = \"{0}/runtime.sock\"\n[metamanager]\ndir = \"{0}\"\n", dir.display());
        fs::write(dir.join("selvedge.toml"), text).expect("room");
        let (manner, socket) = (manner(&dir), dir.join("runtime.sock"));
        let listener = UnixListener::bind(socket).expect("a socket");
        std::thread::spawn(move || smol::block_on(serve(listener, manner)));
        Self(dir)
    }

    /// What the doctor finds of something: grade, why, mending command.
    fn check(&self, what: &str, arguments: &[&str]) -> Vec<[String; 3]> {
        let config = self.0.join("selvedge.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_selvedge"))
            .env("SELVEDGE_CONFIG", config)
            .args(["check", "-o", "json"])
            .args(arguments)
            .output()
            .expect("the program");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let findings = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next().expect("an answer").expect("JSON");
        let word = |finding: &Value, member: &str| finding[member].as_str().expect("text").to_owned();
        let of = |finding: &Value| ["grade", "why", "mend"].map(|member| word(finding, member));
        findings.as_array().expect("findings").iter().filter(|finding| finding["what"] == what).map(of).collect()
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn serve(listener: UnixListener, manner: Manner) {
    while let Ok((stream, _)) = listener.accept().await {
        calls(stream, &manner).await;
    }
}

/// One connection; it ends when the doctor goes.
async fn calls(stream: UnixStream, manner: &Manner) {
    let mut connection = h2::server::handshake(stream.compat()).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let head = http::Response::builder().header("content-type", "application/grpc");
        let Some(answer) = answer(request.uri().path(), manner) else {
            let head = head.header("grpc-status", "12").header("grpc-message", "unknown service").body(()).expect("a head");
            respond.send_response(head, true).expect("it waits");
            continue;
        };
        let mut framed = vec![0];
        framed.extend(u32::try_from(answer.len()).expect("small").to_be_bytes());
        framed.extend(answer);
        let mut body = respond.send_response(head.body(()).expect("a head"), false).expect("it waits");
        body.send_data(framed.into(), false).expect("it waits");
        body.send_trailers([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()).expect("it waits");
    }
}

fn answer(path: &str, manner: &Manner) -> Option<Vec<u8>> {
    let Manner::Containerd { config, has_image } = manner else { return None };
    match path {
        "/runtime.v1.RuntimeService/Version" => {
            Some(cri::VersionResponse { runtime_name: "containerd".into(), runtime_version: "1.6.20".into(), ..Default::default() }.encode_to_vec())
        }
        "/runtime.v1.RuntimeService/Status" => {
            let info = [("config".to_owned(), config.to_string())].into();
            Some(cri::StatusResponse { info, ..Default::default() }.encode_to_vec())
        }
        "/runtime.v1.ImageService/ImageStatus" => {
            Some(cri::ImageStatusResponse { image: has_image.then(|| cri::Image { id: "sha256:1".into(), ..Default::default() }) }.encode_to_vec())
        }
        _ => None,
    }
}

/// A containerd whose network is in a folder of its own.
fn containerd(dir: &Path, has_image: bool) -> Manner {
    let cni = json!({ "binDir": dir.join("plugins"), "confDir": dir.join("net.d") });
    Manner::Containerd { config: json!({ "sandboxImage": PAUSE, "cni": cni }), has_image }
}

#[test]
fn a_missing_sandbox_image_is_found_with_the_pull_that_mends_it() {
    let ward = Ward::new("image", |dir| containerd(dir, false));
    let pull = format!("ctr -a {}/runtime.sock -n k8s.io images pull {PAUSE}", ward.0.display());
    let [[grade, why, mend]] = ward.check("image", &[]).try_into().expect("one finding");
    assert_eq!((grade.as_str(), mend), ("warn", pull));
    assert!(why.starts_with(&format!("{PAUSE} of the sandboxes is not here")), "{why}");
    let ward = Ward::new("image-is-here", |dir| containerd(dir, true));
    assert_eq!(ward.check("image", &[]), [["ok".to_owned(), format!("{PAUSE} of the sandboxes is here"), String::new()]]);
}

#[test]
fn the_network_is_looked_for_and_mended_where_the_runtime_says() {
    let ward = Ward::new("network", |dir| containerd(dir, false));
    let dir = ward.0.join("net.d").display().to_string();
    let [[grade, why, _]] = ward.check("network", &[]).try_into().expect("one finding");
    assert!(grade == "warn" && why.starts_with(&dir), "{grade}: {why}");
    // The image cannot be pulled by this runtime, which keeps nothing else from being mended.
    ward.check("network", &["--fix"]);
    let written = fs::read(ward.0.join("net.d/10-selvedge.conflist")).expect("it was written");
    let bridge: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(bridge["plugins"][0]["type"], "bridge");
    let [[grade, why, _]] = ward.check("network", &[]).try_into().expect("one finding");
    assert!(grade == "ok" && why.contains(&dir), "{grade}: {why}");
    fs::remove_file(ward.0.join("plugins/bridge")).expect("it is ours");
    let [[grade, why, _]] = ward.check("network", &[]).try_into().expect("one finding");
    assert!(grade == "FAIL" && why.ends_with("plugins"), "{grade}: {why}");
}

#[test]
fn a_runtime_without_cri_is_not_taken_for_one() {
    let ward = Ward::new("no-cri", |_| Manner::NoCri);
    let [[grade, why, mend]] = ward.check("runtime", &[]).try_into().expect("one finding");
    assert!(grade == "FAIL" && why.contains("without CRI v1") && mend.contains("disabled_plugins"), "{why}; {mend}");
}

#[test]
fn a_runtime_that_keeps_its_events_to_itself_is_asked_to_tell() {
    let crio =
        |tells: bool| move |_: &Path| Manner::Containerd { config: json!({ "sandboxImage": PAUSE, "crio": { "EnablePodEvents": tells } }), has_image: true };
    let [[grade, _, mend]] = Ward::new("silent", crio(false)).check("events", &[]).try_into().expect("one finding");
    assert!(grade == "warn" && mend.contains("/etc/crio/crio.conf.d"), "{grade}: {mend}");
    assert!(Ward::new("telling", crio(true)).check("events", &[]).is_empty());
}
