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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Counts how often an object was read.
    #[derive(Default)]
    struct Counting(Cell<usize>);

    impl Sources for Counting {
        fn config_map(&self, _: &str, _: &str) -> Lookup<Rc<ConfigMap>> {
            self.0.set(self.0.get() + 1);
            Lookup::Here(Rc::default())
        }

        fn secret(&self, _: &str, _: &str) -> Lookup<Rc<Secret>> {
            self.0.set(self.0.get() + 1);
            Lookup::Absent
        }

        fn token(&self, _: &TokenRequest) -> Lookup<String> {
            Lookup::Unknown
        }
    }

    #[test]
    fn each_object_is_read_once() {
        let counting = Counting::default();
        let once = Once::new(&counting);
        for name in ["a", "b", "a", "a"] {
            assert!(matches!(once.config_map("default", name), Lookup::Here(_)));
            assert!(matches!(once.secret("default", name), Lookup::Absent));
        }
        assert_eq!(counting.0.get(), 4);
        once.config_map("other", "a");
        assert_eq!(counting.0.get(), 5);
    }
}
