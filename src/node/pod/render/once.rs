//! Objects read once for a rendering, however often a manifest names them: they
//! are kept packed, and reading one takes as long as it is large.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Lookup, Sources, TokenRequest};
use crate::wire::kube::{ConfigMap, Secret};

type Read<T> = RefCell<BTreeMap<(String, String), Lookup<Rc<T>>>>;

/// Sources that remember what was asked.
pub struct Once<'a> {
    sources: &'a dyn Sources,
    config_maps: Read<ConfigMap>,
    secrets: Read<Secret>,
}

impl<'a> Once<'a> {
    /// Nothing was asked yet.
    pub fn new(sources: &'a dyn Sources) -> Self {
        Self { sources, config_maps: RefCell::default(), secrets: RefCell::default() }
    }
}

impl Sources for Once<'_> {
    fn config_map(&self, namespace: &str, name: &str) -> Lookup<Rc<ConfigMap>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut read = self.config_maps.borrow_mut();
        read.entry(key).or_insert_with(|| self.sources.config_map(namespace, name)).clone()
    }

    fn secret(&self, namespace: &str, name: &str) -> Lookup<Rc<Secret>> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut read = self.secrets.borrow_mut();
        read.entry(key).or_insert_with(|| self.sources.secret(namespace, name)).clone()
    }

    fn token(&self, request: &TokenRequest) -> Lookup<String> {
        self.sources.token(request)
    }
}
