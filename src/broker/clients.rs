//! All clients, by number and by name, and which of them wants what.

use std::collections::BTreeMap;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;

use super::session::{Place, Session};
use super::topic::{self, Tree};
use super::{Client, Connection};

/// All sessions.
#[derive(Debug, Default)]
pub struct Clients {
    sessions: BTreeMap<Client, Session>,
    names: BTreeMap<String, Client>,
    tree: Tree,
    last: u64,
}

impl Clients {
    /// How many there are, those away included.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// A client.
    pub fn get(&self, client: Client) -> Option<&Session> {
        self.sessions.get(&client)
    }

    /// A client, to be changed; its filters only by this page.
    pub fn get_mut(&mut self, client: Client) -> Option<&mut Session> {
        self.sessions.get_mut(&client)
    }

    /// A client by its name.
    pub fn named(&self, name: &str) -> Option<&Session> {
        self.sessions.get(self.names.get(name)?)
    }

    /// Takes a client's session up again, or makes one with a queue of `limit`
    /// bytes.
    pub fn enter(&mut self, name: String, clean: bool, connection: Connection, limit: usize) -> Client {
        if let Some(client) = self.names.get(&name)
            && let Some(session) = self.sessions.get_mut(client)
        {
            session.place = Place::On(connection);
            return *client;
        }
        self.last += 1;
        let client = Client(self.last);
        self.names.insert(name.clone(), client);
        self.sessions.insert(client, Session::new(name, clean, connection, limit));
        client
    }

    /// A client's connection ended; a clean session ends with it.
    pub fn leave(&mut self, now: Duration, client: Client) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.outbox.disconnected();
        session.place = Place::Away(now);
        if session.clean {
            let name = session.name.clone();
            self.forget(&name);
        }
    }

    /// Forgets a client and all it wanted.
    pub fn forget(&mut self, name: &str) {
        if let Some(client) = self.names.remove(name)
            && let Some(session) = self.sessions.remove(&client)
        {
            session.filters.keys().for_each(|filter| self.tree.remove(filter, client));
        }
    }

    /// Name of the client that is away longest.
    pub fn longest_away(&self) -> Option<String> {
        let away = |session: &Session| match session.place {
            Place::Away(since) => Some((since, session.name.clone())),
            Place::On(_) => None,
        };
        self.sessions.values().filter_map(away).min().map(|(_, name)| name)
    }

    /// A client wants what matches a filter, or why it may not.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) -> Result<(), &'static str> {
        // Shared subscriptions are MQTT 5: taken as a filter they would never match.
        if !topic::is_filter(filter) || filter.starts_with("$share/") {
            return Err("it is no filter of MQTT 3.1.1 with at most 200 levels");
        }
        if !self.get_mut(client).is_some_and(|session| session.subscribe(filter, qos)) {
            return Err("the client's filters would exceed 64 KiB");
        }
        self.tree.insert(filter, client, qos);
        Ok(())
    }

    /// A client wants it no longer.
    pub fn unsubscribe(&mut self, client: Client, filter: &str) {
        if self.get_mut(client).is_some_and(|session| session.unsubscribe(filter)) {
            self.tree.remove(filter, client);
        }
    }

    /// Who wants a message, each once and as surely as its surest filter says.
    pub fn wanting(&self, topic: &str, found: &mut Vec<(Client, QoS)>) {
        self.tree.find(topic, found);
        found.sort_unstable_by_key(|(client, qos)| (*client, u8::MAX - *qos as u8));
        found.dedup_by_key(|(client, _)| *client);
    }
}
