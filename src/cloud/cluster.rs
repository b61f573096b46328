//! The stand-in's cluster as one value: objects, workloads, sessions. No socket,
//! no file, no clock; the simulated world of the tests runs the same value.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::applications;
use super::controller::{self, Answer, Tokens};
use super::devices::{Devices, Word};
use super::devicestatus;
use super::hub::{self, Hub, Order, Session};
use super::objects::{Change, Name, Objects, Refusal, Verb, name};
use super::router::{self, Saying, Uploads};
use super::workloads;
use crate::wire::application::{ANSWERED, DYNAMIC_CONTROLLER, METASERVER};
use crate::wire::message::{DEVICE_CONTROLLER, EDGE_CONTROLLER, Header, Message, RESOURCE, Route, TWIN, operation, raw, string};
use crate::wire::resource::kind;

/// Changes kept for those who watch.
const NEWS: usize = 4096;

/// An instant, twice; milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since some start, never back.
    pub mono: i64,
    /// Since the epoch.
    pub wall: i64,
}

/// The whole cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    pub(super) objects: Objects,
    hub: Hub,
    #[serde(default)]
    devices: Devices,
    #[serde(skip)]
    uploads: Uploads,
    /// Makes names and ids: counted, so that a world repeats.
    counter: u64,
    #[serde(skip)]
    dynamic_controller: bool,
    /// CloudCore does not run: nodes hear nothing of what happens to objects.
    #[serde(skip)]
    is_away: bool,
    #[serde(skip)]
    salt: u32,
    #[serde(skip)]
    news: VecDeque<Change>,
    /// When a Deployment may make its next pod; milliseconds since the epoch.
    #[serde(skip)]
    workloads_due: Option<i64>,
}

impl Cluster {
    /// A new run: `salt` tells its messages from those of others.
    pub fn salted(mut self, salt: u32) -> Self {
        self.salt = salt;
        self.workloads_due = Some(0);
        self.objects.continued();
        self
    }

    /// Answers requests to the API server, or lets them be, as CloudCore does
    /// unless told.
    pub fn with_dynamic_controller(mut self, on: bool) -> Self {
        self.dynamic_controller = on;
        self
    }

    /// CloudCore ends; the API server goes on.
    pub fn go_away(&mut self) {
        self.is_away = true;
    }

    /// CloudCore starts, sees all objects there are, and tells of pods before
    /// any node is connected.
    pub fn come_back(&mut self, now: Now) {
        self.is_away = false;
        let pods: Vec<(Name, Value)> = self.objects.of(kind::POD).map(|(name, pod)| (name.clone(), pod.clone())).collect();
        for (name, pod) in pods {
            let Some(node) = pod["spec"]["nodeName"].as_str() else { continue };
            let verb = if pod["metadata"]["deletionTimestamp"].is_null() { operation::INSERT } else { operation::UPDATE };
            self.send(now, node, EDGE_CONTROLLER, verb, &name, &pod);
        }
    }

    /// What CloudCore remembers of an object on nodes is lost.
    pub fn forget_sync(&mut self, uid: &str) {
        self.hub.forget_object(uid);
    }

    /// The objects.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// As `kubectl create` does with a node.
    pub fn create_node(&mut self, now: Now, node: Value) {
        let own = name(kind::NODE, "", node["metadata"]["name"].as_str().unwrap_or_default());
        let _ = self.objects.create(now.wall, own, node);
        self.settle(now);
    }

    /// As `kubectl delete clusterobjectsync` does.
    pub fn remove_leftover(&mut self, node: &str) {
        self.hub.remove_leftover(node);
    }

    /// Whether a node is connected.
    pub fn is_connected(&self, node: &str) -> bool {
        self.hub.session(node).is_some()
    }

    fn id(&mut self) -> String {
        self.counter += 1;
        format!("{:08x}-c10d-4000-8000-{:012x}", self.salt, self.counter)
    }

    /// A node connects.
    pub fn connected(&mut self, now: Now, node: &str) -> Session {
        self.hub.connected(now.mono, node)
    }

    /// A connection ended.
    pub fn disconnected(&mut self, session: Session) {
        self.hub.disconnected(session);
    }

    /// A node says something.
    pub fn received(&mut self, now: Now, session: Session, message: &Message, tokens: &dyn Tokens) {
        let Some(node) = self.hub.node(session).map(str::to_owned) else { return };
        match message.route.operation.as_str() {
            operation::KEEPALIVE => self.hub.keepalive(now.mono, session),
            _ if Uploads::are(message) => {
                self.uploads.keep(now.wall, &node, message);
                if let Some(answer) = router::answer(self.id(), now.wall, message) {
                    self.hub.direct(session, answer);
                }
            }
            operation::RESPONSE => self.hub.acknowledged(now.mono, session, &message.header.parent_msg_id),
            _ if message.route.source == TWIN => {
                if devicestatus::reported(&mut self.objects, message) {
                    self.confirm(now, session, message);
                }
            }
            _ if message.route.source == METASERVER => self.apply_for(now, session, message),
            _ => {
                let answer = controller::answer(&mut self.objects, now.wall, &node, message, tokens);
                self.reply(now, session, &node, message, answer);
            }
        }
        self.settle(now);
    }

    fn reply(&mut self, now: Now, session: Session, node: &str, question: &Message, answer: Answer) {
        let (kept, content) = match answer {
            Answer::Silence => return,
            Answer::Plain(content) => (None, content),
            Answer::Kept(name, object) => (Some(name), object),
        };
        let version = content["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let header = Header { resourceversion: version, ..self.header(now, question) };
        let route = Route {
            source: EDGE_CONTROLLER.to_owned(),
            group: RESOURCE.to_owned(),
            operation: operation::RESPONSE.to_owned(),
            resource: question.route.resource.clone(),
            ..Route::default()
        };
        let message = Message { header, route, content: raw(&content) };
        match kept {
            Some(name) => self.hub.offer(now.mono, node, &name, &content, message),
            None => self.hub.direct(session, message),
        }
    }

    /// What a device reported is in its DeviceStatus.
    fn confirm(&mut self, now: Now, session: Session, report: &Message) {
        let header = self.header(now, report);
        let route = Route {
            source: DEVICE_CONTROLLER.to_owned(),
            group: TWIN.to_owned(),
            operation: operation::RESPONSE.to_owned(),
            resource: TWIN.to_owned(),
            ..Route::default()
        };
        self.hub.direct(session, Message { header, route, content: string("OK") });
    }

    /// Says something to a node's broker or apps; without a name, to the only
    /// node that is connected.
    pub fn say(&mut self, now: Now, node: Option<&str>, saying: Saying) -> Result<String, String> {
        let connected: Vec<&str> = self.hub.connected_nodes().collect();
        let node = match (node, connected.as_slice()) {
            (Some(node), _) => node.to_owned(),
            (None, [only]) => (*only).to_owned(),
            (None, []) => return Err("no node is connected".to_owned()),
            (None, several) => return Err(format!("say which node: {}", several.join(", "))),
        };
        let session = self.hub.session(&node).ok_or_else(|| format!("node {node} is not connected"))?;
        let message = saying.message(self.id(), now.wall);
        let id = message.header.msg_id.clone();
        self.hub.direct(session, message);
        Ok(id)
    }

    /// What came up from brokers and apps, oldest first.
    pub fn uploads(&self) -> impl Iterator<Item = &Value> {
        self.uploads.iter()
    }

    fn header(&mut self, now: Now, question: &Message) -> Header {
        Header { msg_id: self.id(), parent_msg_id: question.header.msg_id.clone(), timestamp: now.wall, ..Header::default() }
    }

    /// A request to the API server.
    fn apply_for(&mut self, now: Now, session: Session, question: &Message) {
        let Ok(application) = serde_json::from_str(question.content.get()) else { return };
        if !self.dynamic_controller {
            return;
        }
        let route = Route {
            source: DYNAMIC_CONTROLLER.to_owned(),
            group: RESOURCE.to_owned(),
            operation: operation::APPLICATION_RESPONSE.to_owned(),
            resource: ANSWERED.to_owned(),
            ..Route::default()
        };
        let content = raw(&applications::answer(&self.objects, application));
        let message = Message { header: self.header(now, question), route, content };
        self.hub.direct(session, message);
    }

    /// Changes an object as whoever may change all of it.
    pub fn edit(&mut self, now: Now, own: &Name, change: impl FnOnce(&mut Value)) -> Result<(), Refusal> {
        self.objects.update(own, change)?;
        self.settle(now);
        Ok(())
    }

    /// Deletes an object, a pod with grace.
    pub fn delete(&mut self, now: Now, own: &Name, grace: Option<i64>) -> Result<(), Refusal> {
        self.objects.delete(now.wall, own, grace, None)?;
        self.settle(now);
        Ok(())
    }

    /// Six characters that make a name unique.
    pub(super) fn suffix(&mut self) -> String {
        self.counter += 1;
        suffix(self.counter)
    }

    /// What must be sent or closed.
    pub fn poll(&mut self) -> Option<Order> {
        self.hub.poll()
    }

    /// The next change for those who watch.
    pub fn poll_news(&mut self) -> Option<Change> {
        self.news.pop_front()
    }

    /// When to come back; monotonic milliseconds.
    pub fn deadline(&self, now: Now) -> i64 {
        let workloads = self.workloads_due.map(|due| now.mono + (due - now.wall).max(0));
        workloads.into_iter().chain([self.hub.deadline()]).min().unwrap_or(i64::MAX)
    }

    /// That instant came.
    pub fn on_deadline(&mut self, now: Now) {
        for missing in self.hub.on_deadline(now.mono, &self.objects) {
            let verb = if missing.gone { operation::DELETE } else { operation::UPDATE };
            self.send(now, &missing.node, EDGE_CONTROLLER, verb, &missing.name, &missing.object);
        }
        if self.workloads_due.is_some_and(|due| due <= now.wall) {
            self.step_workloads(now);
        }
        self.settle(now);
    }

    fn step_workloads(&mut self, now: Now) {
        let (objects, counter) = (&mut self.objects, &mut self.counter);
        self.workloads_due = workloads::step(objects, now.wall, &mut || {
            *counter += 1;
            suffix(*counter)
        });
    }

    /// Changes lead to messages and to others, until nothing changes.
    pub(super) fn settle(&mut self, now: Now) {
        loop {
            let changes: Vec<Change> = std::iter::from_fn(|| self.objects.poll()).collect();
            if changes.is_empty() {
                return;
            }
            for change in changes {
                self.tell(now, &change);
                devicestatus::changed(&mut self.objects, now.wall, &change);
                if self.news.len() == NEWS {
                    self.news.pop_front();
                }
                self.news.push_back(change);
            }
            self.step_workloads(now);
        }
    }

    fn tell(&mut self, now: Now, change: &Change) {
        if self.is_away {
            return;
        }
        let object = &change.object;
        if change.name.0 == kind::DEVICE {
            return self.devices.changed(&self.objects, change).into_iter().for_each(|word| self.tell_of_device(now, word));
        }
        let nodes = match change.name.0.as_str() {
            kind::POD => object["spec"]["nodeName"].as_str().map(str::to_owned).into_iter().collect(),
            kind::NODE => vec![change.name.2.clone()],
            kind::CONFIG_MAP | kind::SECRET => self.hub.holders(object["metadata"]["uid"].as_str().unwrap_or_default()),
            _ => Vec::new(),
        };
        if change.name.0 == kind::NODE && change.verb == Verb::Deleted {
            return self.hub.forget(now.mono, &change.name.2);
        }
        if change.name.0 == kind::NODE && change.verb == Verb::Added {
            self.hub.made(now.mono, &change.name.2);
        }
        let verb = match change.verb {
            Verb::Deleted => operation::DELETE,
            // Binding is the first a node hears of a pod.
            Verb::Added => operation::INSERT,
            Verb::Modified => operation::UPDATE,
        };
        for node in nodes {
            self.send(now, &node, EDGE_CONTROLLER, verb, &change.name, object);
        }
    }

    fn tell_of_device(&mut self, now: Now, word: Word) {
        match word {
            Word::Object { node, verb, name, object } => self.send(now, &node, DEVICE_CONTROLLER, verb, &name, &object),
            Word::Members { node, added, removed } => {
                let Some(session) = self.hub.session(&node) else { return };
                let list = |device: Option<Value>| device.map_or(Value::Null, |device| json!([device]));
                let content = json!({ "event_id": self.id(), "timestamp": now.wall, "added_devices": list(added), "removed_devices": list(removed) });
                let header = Header { msg_id: self.id(), timestamp: now.wall, ..Header::default() };
                let route = Route {
                    source: DEVICE_CONTROLLER.to_owned(),
                    group: TWIN.to_owned(),
                    operation: operation::UPDATE.to_owned(),
                    resource: "membership".to_owned(),
                    ..Route::default()
                };
                self.hub.direct(session, Message { header, route, content: raw(&content) });
            }
        }
    }

    fn send(&mut self, now: Now, node: &str, source: &str, verb: &str, name: &Name, object: &Value) {
        let message = hub::message(self.id(), now.wall, source, verb, name, object);
        self.hub.offer(now.mono, node, name, object, message);
    }

    /// The CA that pods are given.
    pub fn set_root_ca(&mut self, now: Now, pem: &str) {
        let own = name(kind::CONFIG_MAP, "kube-system", super::defaults::ROOT_CA);
        if self.objects.get(&own).is_none() {
            let _ = self.objects.create(now.wall, own, json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": { "ca.crt": pem } }));
        }
        self.settle(now);
    }
}

fn suffix(number: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    let letter = |_| {
        let letter = LETTERS[usize::try_from(rest % 27).unwrap_or(0)];
        rest /= 27;
        char::from(letter)
    };
    (0..5).map(letter).collect()
}
