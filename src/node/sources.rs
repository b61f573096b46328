//! What pods are made from: objects and tokens that are known, and why others
//! are not.

use std::rc::Rc;

use super::meta::Meta;
use super::pod::render::{Lookup, Sources, TokenRequest};
use super::requests::{RequestKey, Requests};
use crate::wire::kube::{self, ConfigMap, Secret};
use crate::wire::resource::{Resource, kind};

/// A view of both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub meta: &'a Meta,
    pub requests: &'a Requests,
}

impl Known<'_> {
    fn object<T: serde::de::DeserializeOwned>(&self, of: &str, namespace: &str, name: &str) -> Lookup<Rc<T>> {
        let name = Resource::new(namespace, of, name).to_string();
        match self.meta.json(&name).map(|json| kube::read(&json)) {
            Some(Ok(object)) => Lookup::Here(Rc::new(object)),
            Some(Err(why)) => Lookup::Failed(why.to_string()),
            None => match self.requests.error(&RequestKey::Object(name)) {
                Some(error) if error.is_not_found() => Lookup::Absent,
                Some(error) => Lookup::Failed(error.to_string()),
                None => Lookup::Unknown,
            },
        }
    }
}

impl Sources for Known<'_> {
    fn config_map(&self, namespace: &str, name: &str) -> Lookup<Rc<ConfigMap>> {
        self.object(kind::CONFIG_MAP, namespace, name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Lookup<Rc<Secret>> {
        self.object(kind::SECRET, namespace, name)
    }

    /// An old token is used while there is no newer one.
    fn token(&self, request: &TokenRequest) -> Lookup<String> {
        if let Some(token) = self.meta.token(request) {
            return Lookup::Here(token);
        }
        self.requests.error(&RequestKey::Token(request.clone())).map_or(Lookup::Unknown, |error| Lookup::Failed(error.to_string()))
    }
}
