//! What the broker is to send us, and what a retained message means by that.
//!
//! A retained message is the last one of its topic, sent because of a new
//! subscription (MQTT 3.1.1, 3.3.1.3), and no fresh report. For values of
//! devices the twins say what is made of it. A user's message is an event: one
//! that the broker kept was heard when it was published, unless nobody
//! listened for it then, because the session or the rule is new.

use std::collections::BTreeSet;

use super::store::{Change, Key, Row};
use crate::wire::topic;

/// Filters, those that rules have subscribed among them.
#[derive(Debug, Default)]
pub struct Subscriptions {
    rules: BTreeSet<String>,
    /// The broker kept our session.
    kept: bool,
    /// A rule came since the session was last taken up.
    new_rule: bool,
}

impl Subscriptions {
    /// Reads what was on disk.
    pub fn load(rules: Vec<String>) -> Self {
        Self { rules: rules.into_iter().collect(), ..Self::default() }
    }

    /// The broker is reached: all that it is to send.
    pub fn connected(&mut self, kept: bool, legacy: bool) -> Vec<String> {
        self.kept = kept;
        let legacy = if legacy { &topic::LEGACY_FILTERS[..] } else { &[] };
        let fixed = topic::FILTERS.iter().chain(legacy).map(|filter| (*filter).to_owned());
        fixed.chain(self.rules.iter().cloned()).collect()
    }

    /// The broker is lost.
    pub fn disconnected(&mut self) {
        self.new_rule = false;
    }

    /// A rule wants a filter; the row to write when it is a new one.
    pub fn add(&mut self, filter: &str) -> Option<Change> {
        let new = self.rules.insert(filter.to_owned());
        self.new_rule |= new;
        new.then(|| Change::set(Key::Subscription(filter.to_owned()), Row::Subscription))
    }

    /// A rule wants it no longer; the row to remove when it was there.
    pub fn remove(&mut self, filter: &str) -> Option<Change> {
        self.rules.remove(filter).then(|| Change::remove(Key::Subscription(filter.to_owned())))
    }

    /// Whether a user's message that the broker kept may never have been heard.
    pub fn retained_is_news(&self) -> bool {
        !self.kept || self.new_rule
    }
}
