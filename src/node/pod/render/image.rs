//! Image names, pull policy and registry credentials.
//!
//! Source: edge-node.md 1.15.

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::wire::cri::AuthConfig;
use crate::wire::kube::{Container, PullPolicy, Secret};

/// The reference with a tag or digest; the error is what people are told.
pub fn image_reference(image: &str) -> Result<String, String> {
    let bad = |why: &str| Err(format!("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {why}"));
    if image.is_empty() {
        return bad("it is empty");
    }
    if let Some(other) = image.chars().find(|c| !c.is_ascii_graphic()) {
        return bad(&format!("invalid character {other:?}"));
    }
    let repository = image.split('@').next().unwrap_or_default();
    let (path, tag) = split_tag(repository);
    if path.split_once('/').map_or(path, |(_, rest)| rest).chars().any(|c| c.is_ascii_uppercase()) || path.is_empty() {
        return bad("repository name must be lowercase");
    }
    Ok(if tag.is_none() && !image.contains('@') { format!("{image}:latest") } else { image.to_owned() })
}

/// A tag follows the last colon, unless that belongs to a port.
fn split_tag(repository: &str) -> (&str, Option<&str>) {
    match repository.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (repository, None),
    }
}

/// When to pull; `latest` is pulled at every start unless told.
pub fn pull_policy(container: &Container) -> PullPolicy {
    container.image_pull_policy.unwrap_or_else(|| {
        let tag = split_tag(container.image.split('@').next().unwrap_or_default()).1;
        if !container.image.contains('@') && tag.is_none_or(|tag| tag == "latest") { PullPolicy::Always } else { PullPolicy::IfNotPresent }
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Login>,
}

/// Credentials that fit an image, most specific first.
pub fn auths(image: &str, secrets: &[Rc<Secret>]) -> Vec<AuthConfig> {
    let mut fitting: Vec<(String, AuthConfig)> = secrets
        .iter()
        .flat_map(|secret| logins(secret))
        .filter_map(|(key, login)| {
            let key = normal(&key);
            fits(&key, &normal_image(image)).then(|| (key, credentials(login)))
        })
        .collect();
    fitting.sort_by(|(a, _), (b, _)| b.cmp(a));
    fitting.into_iter().map(|(_, auth)| auth).collect()
}

fn logins(secret: &Secret) -> BTreeMap<String, Login> {
    let content = |key: &str| secret.data.get(key).and_then(|value| STANDARD.decode(value).ok()).unwrap_or_default();
    match secret.kind.as_str() {
        "kubernetes.io/dockercfg" => serde_json::from_slice(&content(".dockercfg")).unwrap_or_default(),
        _ => serde_json::from_slice::<DockerConfig>(&content(".dockerconfigjson")).map(|config| config.auths).unwrap_or_default(),
    }
}

/// Without the server's address, as kubelet gives them: containerd takes a bare
/// host and port for no address, and then sends no credentials at all.
fn credentials(login: Login) -> AuthConfig {
    let decoded = STANDARD.decode(login.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let (username, password) = match decoded.split_once(':') {
        Some((username, password)) => (username.to_owned(), password.trim_end_matches('\0').to_owned()),
        None => (login.username, login.password),
    };
    AuthConfig { username, password, identity_token: login.identitytoken, ..Default::default() }
}

fn normal(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let bare = bare.trim_end_matches('/');
    bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare).to_owned()
}

/// `docker.io` is known to keyrings as `index.docker.io`.
fn normal_image(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    if first.contains('.') || first.contains(':') || first == "localhost" {
        if first == "docker.io" { format!("index.docker.io/{rest}") } else { image.to_owned() }
    } else {
        format!("index.docker.io/{image}")
    }
}

/// Same number of host parts, each equal or `*`; same port; path is a prefix.
fn fits(key: &str, image: &str) -> bool {
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = image.split_once('/').unwrap_or((image, ""));
    let key_host = if key_host == "docker.io" { "index.docker.io" } else { key_host };
    let (key_parts, parts): (Vec<&str>, Vec<&str>) = (key_host.split('.').collect(), host.split('.').collect());
    key_parts.len() == parts.len() && key_parts.iter().zip(&parts).all(|(key, part)| glob(key, part)) && path.starts_with(key_path)
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag_and_bad_ones_are_told() {
        assert_eq!(image_reference("nginx").as_deref(), Ok("nginx:latest"));
        assert_eq!(image_reference("host:5000/nginx").as_deref(), Ok("host:5000/nginx:latest"));
        assert_eq!(image_reference("nginx:1.27").as_deref(), Ok("nginx:1.27"));
        assert_eq!(image_reference("nginx@sha256:abc").as_deref(), Ok("nginx@sha256:abc"));
        assert!(image_reference("Nginx").is_err() && image_reference("").is_err() && image_reference("a b").is_err());
    }

    #[test]
    fn the_most_specific_credentials_come_first() {
        let secret = |json: &str| Secret {
            kind: "kubernetes.io/dockerconfigjson".into(),
            data: BTreeMap::from([(".dockerconfigjson".to_owned(), STANDARD.encode(json))]),
            ..Secret::default()
        };
        let auth = STANDARD.encode("u:p");
        let secrets = [Rc::new(secret(&format!(
            r#"{{"auths":{{"*.example.com":{{"auth":"{auth}"}},"https://r.example.com/team/":{{"username":"t","password":"q"}},"https://index.docker.io/v1/":{{"auth":"{auth}"}}}}}}"#
        )))];
        let names = |image: &str| auths(image, &secrets).into_iter().map(|auth| auth.username).collect::<Vec<_>>();
        assert_eq!(names("r.example.com/team/app:1"), ["t", "u"]);
        assert_eq!(names("r.example.com/other:1"), ["u"]);
        assert_eq!(names("busybox:1"), ["u"]);
        assert!(names("evil.org/x").is_empty());
    }
}
