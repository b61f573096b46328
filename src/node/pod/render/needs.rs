//! What a pod refers to and the node must have before it can run.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::allowance::TOKENS;
use crate::node::store::TokenKey;
use crate::wire::kube::{Container, Pod};
use crate::wire::resource::{Resource, kind};

/// Objects of the pod's namespace, and tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// ConfigMaps, and secrets, those with registry credentials among them: their
    /// names on the wire.
    pub names: BTreeSet<String>,
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
    let mut list = List { namespace: &pod.metadata.namespace, needs: &mut needs };
    pod.spec.image_pull_secrets.iter().filter(|secret| !secret.name.is_empty()).for_each(|secret| list.secret(&secret.name));
    pod.all_containers().for_each(|container| of_env(container, &mut list));
    let too_many_tokens = has_too_many_tokens(pod);
    for volume in &pod.spec.volumes {
        volume.config_map.iter().for_each(|volume| list.config_map(&volume.name));
        volume.secret.iter().for_each(|volume| list.secret(&volume.secret_name));
        for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
            source.config_map.iter().for_each(|source| list.config_map(&source.name));
            source.secret.iter().for_each(|source| list.secret(&source.name));
            let tokens = source.service_account_token.iter().filter(|_| !too_many_tokens);
            list.needs.tokens.extend(tokens.map(|token| token_request(pod, &token.audience, token.expiration_seconds)));
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

struct List<'a> {
    namespace: &'a str,
    needs: &'a mut Needs,
}

impl List<'_> {
    fn config_map(&mut self, name: &str) {
        self.needs.names.insert(Resource::new(self.namespace, kind::CONFIG_MAP, name).to_string());
    }

    fn secret(&mut self, name: &str) {
        self.needs.names.insert(Resource::new(self.namespace, kind::SECRET, name).to_string());
    }
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

fn of_env(container: &Container, list: &mut List<'_>) {
    for from in &container.env_from {
        from.config_map_ref.iter().for_each(|map| list.config_map(&map.name));
        from.secret_ref.iter().for_each(|secret| list.secret(&secret.name));
    }
    for source in container.env.iter().filter_map(|variable| variable.value_from.as_ref()) {
        source.config_map_key_ref.iter().for_each(|key| list.config_map(&key.name));
        source.secret_key_ref.iter().for_each(|key| list.secret(&key.name));
    }
}
