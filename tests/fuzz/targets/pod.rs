//! Any pod, as far as what the runtime is told: refused, or within the limits.

use std::rc::Rc;

use prost::Message;
use selvedge::config::{Config, file};
use selvedge::node::ids::PodUid;
use selvedge::node::machine::Facts;
use selvedge::node::now::Wall;
use selvedge::node::pod::render::{self, Context, Lookup, Sources, TokenRequest};
use selvedge::node::runtime::{Image, VolumeSource};
use selvedge::wire::kube::{self, ConfigMap, Pod, Secret};

/// Every object is there, and the same.
struct Same;

impl Sources for Same {
    fn config_map(&self, _: &str, name: &str) -> Lookup<Rc<ConfigMap>> {
        let text = format!(r#"{{"data":{{"key":"{}","k":"v"}},"binaryData":{{"b":"AAEC"}}}}"#, "x".repeat(10_000));
        if name == "absent" { Lookup::Absent } else { Lookup::Here(Rc::new(kube::read(&text).expect("an object"))) }
    }

    fn secret(&self, _: &str, name: &str) -> Lookup<Rc<Secret>> {
        let text = format!(r#"{{"data":{{"key":"{}","k":"dg=="}}}}"#, "QUFB".repeat(3000));
        if name == "absent" { Lookup::Absent } else { Lookup::Here(Rc::new(kube::read(&text).expect("an object"))) }
    }

    fn token(&self, _: &TokenRequest) -> Lookup<String> {
        Lookup::Here("token".to_owned())
    }
}

/// A pod's JSON.
pub fn pod(data: &[u8]) {
    let Some(pod) = std::str::from_utf8(data).ok().and_then(|text| kube::read::<Pod>(text).ok()) else { return };
    let (config, facts) = (file::parse("", "edge").expect("a configuration"), Facts { cpus: 4, memory: 1 << 30, ..Facts::default() });
    if let Some(refusal) = render::refusal(&pod) {
        let is_named = refusal.starts_with("spec") || refusal.starts_with("metadata");
        assert!(is_named && refusal.len() < 100 << 10, "{refusal}");
    }
    let _ = render::needs(&pod);
    rendered(&pod, &config, &facts);
}

fn rendered(pod: &Pod, config: &Config, facts: &Facts) {
    let uid = PodUid::from("u");
    let context = Context {
        pod,
        uid: &uid,
        config: &config.edged,
        node: "edge",
        facts,
        systemd: false,
        sources: &Same,
        ips: &["10.0.0.7".to_owned()],
        started: Some(Wall(0)),
    };
    let sandbox = render::sandbox(&context, 0);
    assert!(sandbox.encoded_len() < 1 << 20, "{}", sandbox.encoded_len());
    if let Ok(prepare) = render::prepare(&context) {
        let files = prepare.volumes.iter().filter_map(|volume| match &volume.source {
            VolumeSource::Files { files, .. } => Some(files.values().map(|file| file.content.len()).sum::<usize>()),
            VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
        });
        assert!(files.sum::<usize>() <= 16 << 20);
    }
    let image = Image { reference: "i".to_owned(), uid: None, username: String::new(), pulled: None, size: 1 };
    for container in pod.all_containers() {
        let Ok(rendered) = render::container(&context, container, 0, &image) else { continue };
        let config = rendered.config;
        let strings = config.command.iter().chain(&config.args).map(String::len).sum::<usize>();
        let variables = config.envs.iter().map(|variable| variable.key.len() + variable.value.len()).sum::<usize>();
        assert!(strings + variables <= 2 << 20, "{strings} and {variables}");
        assert!(config.envs.iter().all(|variable| variable.key.len() + variable.value.len() < 128 << 10));
        assert!(rendered.sub_paths.iter().all(|part| !part.path.split('/').any(|step| step == "..")));
        assert!(rendered.sub_paths.iter().all(|part| part.mount < config.mounts.len() && !part.path.starts_with('/')));
    }
}
