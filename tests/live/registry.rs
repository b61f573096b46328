//! A registry that lets nobody in without a password, with one image: the pull
//! of a private image on a real containerd.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::stand::{OBEDIENT, Stand, containerd, pod};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LOGIN: &str = "edge:s3cret";

/// Blobs by their digest, and the manifest by its tag too.
type Blobs = BTreeMap<String, Vec<u8>>;

fn hash(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The image that the live containerd was given, as a registry has it; with an
/// author it is another image, whose name no other test can meet.
fn blobs() -> Blobs {
    let archive = containerd().with_file_name("busybox.tar");
    let member = |name: &str| {
        let output = Command::new("tar").arg("-xOf").arg(&archive).arg(name).output().expect("tar");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let mut config: Value = serde_json::from_slice(&member("config.json")).expect("JSON");
    config["author"] = "live".into();
    let (config, layer) = (config.to_string().into_bytes(), member("layer.tar"));
    let part = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": hash(bytes) });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": part("application/vnd.docker.container.image.v1+json", &config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    [("1".to_owned(), manifest.clone()), (hash(&manifest), manifest), (hash(&config), config), (hash(&layer), layer)].into()
}

/// Serves until the test ends; the port.
fn serve(blobs: Blobs) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            let blobs = blobs.clone();
            std::thread::spawn(move || while answer(&visitor, &blobs).is_some() {});
        }
    });
    port
}

/// Answers one request; nothing when there are no more.
fn answer(mut visitor: &TcpStream, blobs: &Blobs) -> Option<()> {
    let lines: Vec<String> = BufReader::new(visitor).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let (method, path) = lines.first()?.split_once(' ').map(|(method, rest)| (method, rest.split(' ').next().unwrap_or_default()))?;
    let login = format!("Basic {}", STANDARD.encode(LOGIN));
    let may = lines.iter().any(|line| line.split_once(": ").is_some_and(|(name, value)| name.eq_ignore_ascii_case("authorization") && value == login));
    let (status, more, body) = match blobs.get(path.rsplit('/').next().unwrap_or_default()) {
        _ if !may => ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"live\"\r\n".to_owned(), &[][..]),
        None => ("404 Not Found", String::new(), &[][..]),
        Some(blob) => {
            let kind = if path.contains("/manifests/") { MANIFEST } else { "application/octet-stream" };
            ("200 OK", format!("Content-Type: {kind}\r\nDocker-Content-Digest: {}\r\n", hash(blob)), blob.as_slice())
        }
    };
    write!(visitor, "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n", body.len()).ok()?;
    if method == "HEAD" { Some(()) } else { visitor.write_all(body).ok() }
}

fn waiting(stand: &Stand, name: &str) -> String {
    let pod = stand.pod(name).unwrap_or_default();
    pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_private_image_is_pulled_with_its_secret_only() {
    let image = format!("127.0.0.1:{}/private/busybox:1", serve(blobs()));
    let stand = Stand::up("private");
    let of = |name: &str, secret: Option<&str>| {
        let mut pod = pod(name, OBEDIENT);
        pod["spec"]["containers"][0]["image"] = image.as_str().into();
        pod["spec"]["imagePullSecrets"] = secret.into_iter().map(|name| json!({ "name": name })).collect::<Value>();
        pod
    };
    stand.apply(&of("nobody", None));
    stand.until("it is refused", |stand| matches!(waiting(stand, "nobody").as_str(), "ErrImagePull" | "ImagePullBackOff"));
    let registry = image.split('/').next().expect("a host").to_owned();
    let config = json!({ "auths": { registry: { "auth": STANDARD.encode(LOGIN) } } });
    stand.apply(&json!({ "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "login" }, "type": "kubernetes.io/dockerconfigjson",
        "data": { ".dockerconfigjson": STANDARD.encode(config.to_string()) } }));
    stand.apply(&of("somebody", Some("login")));
    stand.until("it runs", |stand| stand.is_ready("somebody"));
    let log = std::fs::read_to_string(stand.dir.join("agent.log")).expect("a log");
    assert!(log.contains(&format!("image '{image}' pulled")) && !log.contains("s3cret"), "{log}");
    stand.remove_image(&image);
}
