//! What a pod refers to and the node must have before it can run.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::allowance::TOKENS;
use crate::node::store::TokenKey;
use crate::wire::kube::{Container, Pod};

/// Objects of the pod's namespace, and tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Secrets, those with registry credentials among them.
    pub secrets: BTreeSet<String>,
    /// Tokens.
    pub tokens: BTreeSet<TokenRequest>,
}

/// A token to ask for; it is kept by what was asked, for the answer tells
/// more than the question (edge-node.md 2.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub account: String,
    /// Name of the pod it is bound to.
    pub pod: String,
    /// Uid of that pod.
    pub uid: String,
    /// Who it is for; the API server when empty.
    pub audience: String,
    /// How long it shall live.
    pub seconds: i64,
}

impl TokenRequest {
    /// What its token is kept by.
    pub fn key(&self) -> TokenKey {
        TokenKey {
            pod: self.uid.as_str().into(),
            namespace: self.namespace.clone(),
            account: self.account.clone(),
            audience: self.audience.clone(),
            seconds: self.seconds,
        }
    }

    /// The TokenRequest object.
    pub fn body(&self) -> Value {
        let audiences = if self.audience.is_empty() { Value::Null } else { json!([self.audience]) };
        json!({
            "metadata": { "creationTimestamp": null },
            "spec": { "audiences": audiences, "expirationSeconds": self.seconds, "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": self.pod, "uid": self.uid } },
            "status": { "token": "", "expirationTimestamp": null },
        })
    }
}

/// All a pod refers to.
pub fn needs(pod: &Pod) -> Needs {
    let mut needs = Needs::default();
    needs.secrets.extend(pod.spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).filter(|name| !name.is_empty()));
    pod.all_containers().for_each(|container| of_env(container, &mut needs));
    let too_many_tokens = has_too_many_tokens(pod);
    for volume in &pod.spec.volumes {
        needs.config_maps.extend(volume.config_map.iter().map(|volume| volume.name.clone()));
        needs.secrets.extend(volume.secret.iter().map(|volume| volume.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            needs.config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            needs.secrets.extend(source.secret.iter().map(|source| source.name.clone()));
            let tokens = source.service_account_token.iter().filter(|_| !too_many_tokens);
            needs.tokens.extend(tokens.map(|token| token_request(pod, &token.audience, token.expiration_seconds)));
        }
    }
    needs
}

/// Whether a pod asks for more tokens than it gets; then it gets none.
pub(super) fn has_too_many_tokens(pod: &Pod) -> bool {
    let projected = pod.spec.volumes.iter().filter_map(|volume| volume.projected.as_ref());
    let sources = projected.flat_map(|projected| &projected.sources);
    sources.filter(|source| source.service_account_token.is_some()).count() > TOKENS
}

/// The request behind a projected token.
pub(super) fn token_request(pod: &Pod, audience: &str, seconds: Option<i64>) -> TokenRequest {
    let account = if pod.spec.service_account_name.is_empty() { "default" } else { &pod.spec.service_account_name };
    TokenRequest {
        namespace: pod.metadata.namespace.clone(),
        account: account.to_owned(),
        pod: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        audience: audience.to_owned(),
        seconds: seconds.unwrap_or(3600),
    }
}

fn of_env(container: &Container, needs: &mut Needs) {
    for from in &container.env_from {
        needs.config_maps.extend(from.config_map_ref.iter().map(|map| map.name.clone()));
        needs.secrets.extend(from.secret_ref.iter().map(|secret| secret.name.clone()));
    }
    for source in container.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
        needs.config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        needs.secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
}
