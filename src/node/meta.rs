//! What the node knows of the cluster: objects the cloud sent, newer wins.
//! Not what they mean, nor when they are asked for.
//!
//! An object is kept as canonical JSON: without managed fields, version and
//! status (and but for pods without generation), for those change with every echo of our own reports. An update whose
//! canonical form is on disk already costs no write.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::ids::{ObjectName, PodUid, Ticket};
use super::now::Wall;
use super::packed::Packed;
use super::pod::render::TokenRequest;
use super::store::{Change, Key, Row, Rows, TokenKey, TokenRow};
use crate::wire::kube;
use crate::wire::resource::{Resource, kind};

/// The known objects.
#[derive(Debug, Default)]
pub struct Meta {
    objects: BTreeMap<String, Entry>,
    tokens: BTreeMap<TokenKey, Token>,
    /// Pods as they were before an update that cannot be obeyed.
    obeyed: BTreeMap<PodUid, Packed>,
    /// Deletes that are on their way to the disk, by name on the wire.
    pending_deletes: BTreeMap<String, PendingDelete>,
}

#[derive(Debug, Clone)]
struct Entry {
    version: u64,
    uid: Box<str>,
    json: Packed,
    /// The batch that writes it.
    written: Ticket,
}

/// A delete that is not on disk yet.
#[derive(Debug)]
struct PendingDelete {
    /// The object that was deleted.
    uid: String,
    /// Its version when it was deleted; 0 when the cloud did not tell.
    version: u64,
    /// The batch that removes its rows.
    ticket: Ticket,
}

#[derive(Clone)]
struct Token {
    token: Rc<str>,
    issued: Wall,
    expires: Wall,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token until {}", self.expires.0)
    }
}

/// An object as it came, made canonical.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its name on the wire.
    pub name: String,
    /// Its uid; empty in some deletes.
    pub uid: String,
    /// Its version; 0 when it has none.
    pub version: u64,
    /// The canonical form.
    pub json: Rc<str>,
    /// The same as it is kept.
    packed: Packed,
    /// The status as the cluster has it.
    pub status: Value,
}

/// What an update means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Older than what is known.
    Stale,
    /// Known, and on disk.
    Same,
    /// Known, and on its way to the disk.
    Pending(Ticket),
    /// News.
    News,
}

impl Incoming {
    /// Reads an object; the error says what is wrong with it.
    pub fn read(resource: &Resource, content: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(content).map_err(|why| format!("the object is no JSON: {why}"))?;
        kube::drop_nulls(&mut value);
        let object = value.as_object_mut().ok_or("the object is no JSON object")?;
        let status = object.remove("status").unwrap_or_default();
        object.remove("kind");
        object.remove("apiVersion");
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or("metadata: missing")?;
        metadata.remove("managedFields");
        // A pod's status tells which of its specs is obeyed.
        if resource.kind != kind::POD {
            metadata.remove("generation");
        }
        let version = metadata.remove("resourceVersion").and_then(|version| version.as_str()?.parse().ok()).unwrap_or(0);
        let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        if resource.kind == kind::POD && matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
            let told = ["phase", "reason", "message"].into_iter().filter_map(|member| Some((member.to_owned(), status.get(member)?.clone())));
            object.insert("status".into(), told.collect::<serde_json::Map<_, _>>().into());
        }
        let json: Rc<str> = value.to_string().into();
        Ok(Self { name: resource.to_string(), uid, version, packed: Packed::new(&json), json, status })
    }

    /// A member of the metadata.
    fn metadata(&self) -> kube::ObjectMeta {
        kube::read::<kube::Object>(&self.json).map(|object| object.metadata).unwrap_or_default()
    }

    /// Whether a graceful deletion began.
    pub fn is_terminating(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

impl Meta {
    /// The objects and tokens that are on disk.
    pub fn load(rows: &mut Rows) -> Self {
        let mut meta = Self::default();
        for (name, json) in std::mem::take(&mut rows.objects) {
            let uid = kube::read::<kube::Object>(&json).map(|object| object.metadata.uid).unwrap_or_default();
            let entry = Entry { version: 0, uid: uid.into(), json: Packed::new(&json), written: Ticket::default() };
            meta.objects.insert(name.as_str().to_owned(), entry);
        }
        for (name, version) in std::mem::take(&mut rows.versions) {
            if let Some(entry) = meta.objects.get_mut(name.as_str()) {
                entry.version = version;
            }
        }
        for (uid, json) in std::mem::take(&mut rows.obeyed_pods) {
            meta.obeyed.insert(uid, Packed::new(&json));
        }
        for (key, TokenRow { token, issued, expires }) in std::mem::take(&mut rows.tokens) {
            meta.tokens.insert(key, Token { token: token.into(), issued: Wall(issued), expires: Wall(expires) });
        }
        meta
    }

    /// What an update means for what is known; everything up to `on_disk` is.
    pub fn judge(&self, incoming: &Incoming, on_disk: Ticket) -> Verdict {
        let Some(known) = self.objects.get(&incoming.name) else {
            return self.delete_after(incoming).map_or(Verdict::News, Verdict::Pending);
        };
        let is_pending = known.written > on_disk;
        if *known.uid == *incoming.uid && incoming.version < known.version {
            return if is_pending { Verdict::Pending(known.written) } else { Verdict::Stale };
        }
        if known.json != incoming.packed {
            return Verdict::News;
        }
        if is_pending { Verdict::Pending(known.written) } else { Verdict::Same }
    }

    /// The batch of a delete that came before and is newer: CloudCore repeats an
    /// update that was not acknowledged, also behind the delete of its object.
    fn delete_after(&self, incoming: &Incoming) -> Option<Ticket> {
        let delete = self.pending_deletes.get(&incoming.name)?;
        let is_newer = delete.uid == incoming.uid && incoming.version <= delete.version;
        is_newer.then_some(delete.ticket)
    }

    /// A newer version of an otherwise known object, worth writing lazily.
    pub fn bump(&mut self, incoming: &Incoming) -> Option<(Key, Row)> {
        let known = self.objects.get_mut(&incoming.name)?;
        known.version = known.version.max(incoming.version);
        Some((Key::Version(incoming.name.as_str().into()), Row::Version(known.version)))
    }

    /// The rows that make an object known.
    pub fn changes(incoming: &Incoming) -> Vec<Change> {
        let name = ObjectName::from(incoming.name.as_str());
        vec![Change::set(Key::Object(name.clone()), Row::Object(incoming.json.to_string())), Change::set(Key::Version(name), Row::Version(incoming.version))]
    }

    /// Knows an object from now on; it is on its way to the disk.
    pub fn keep(&mut self, incoming: &Incoming, ticket: Ticket) {
        self.pending_deletes.remove(&incoming.name);
        let entry = Entry { version: incoming.version, uid: incoming.uid.as_str().into(), json: incoming.packed.clone(), written: ticket };
        self.objects.insert(incoming.name.clone(), entry);
    }

    /// Forgets an object: the rows to remove. Nothing when another one, of
    /// another uid, has its name by now.
    pub fn drop(&mut self, name: &str, uid: &str) -> Option<Vec<Change>> {
        let known = self.objects.get(name)?;
        if !uid.is_empty() && !known.uid.is_empty() && *known.uid != *uid {
            return None;
        }
        self.objects.remove(name);
        let name = ObjectName::from(name);
        Some(vec![Change::remove(Key::Object(name.clone())), Change::remove(Key::Version(name))])
    }

    /// The rows of an object are removed with this batch.
    pub fn deleted(&mut self, name: String, uid: String, version: u64, ticket: Ticket) {
        self.pending_deletes.insert(name, PendingDelete { uid, version, ticket });
    }

    /// The batch that removes an object, until it is on disk.
    pub fn pending_delete(&self, name: &str) -> Option<Ticket> {
        self.pending_deletes.get(name).map(|delete| delete.ticket)
    }

    /// The batch that writes an object, until it is on disk; `done` is.
    pub fn pending_write(&self, name: &str, done: Ticket) -> Option<Ticket> {
        self.objects.get(name).map(|known| known.written).filter(|written| *written > done)
    }

    /// Everything up to this batch is on disk.
    pub fn settled(&mut self, ticket: Ticket) {
        self.pending_deletes.retain(|_, delete| delete.ticket > ticket);
    }

    /// The row for a pod that goes on as it was, whatever its object is now.
    pub fn keep_obeyed(&mut self, uid: PodUid, json: String) -> Change {
        self.obeyed.insert(uid.clone(), Packed::new(&json));
        Change::set(Key::ObeyedPod(uid), Row::Object(json))
    }

    /// A pod as it was before an update that cannot be obeyed.
    pub fn obeyed(&self, uid: &PodUid) -> Option<String> {
        self.obeyed.get(uid).map(Packed::text)
    }

    /// All pods that go on as they were.
    pub fn all_obeyed(&self) -> impl Iterator<Item = (&PodUid, String)> {
        self.obeyed.iter().map(|(uid, json)| (uid, json.text()))
    }

    /// A pod is as its object says, or gone: the row to remove.
    pub fn drop_obeyed(&mut self, uid: &PodUid) -> Option<Change> {
        self.obeyed.remove(uid).map(|_| Change::remove(Key::ObeyedPod(uid.clone())))
    }

    /// The uid of a known object.
    pub fn uid(&self, name: &str) -> Option<&str> {
        self.objects.get(name).map(|entry| &*entry.uid)
    }

    /// The canonical JSON of an object.
    pub fn json(&self, name: &str) -> Option<String> {
        self.objects.get(name).map(|entry| entry.json.text())
    }

    /// Whether an object is known.
    pub fn has(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// All objects of a type, by name on the wire.
    pub fn all(&self, of: &str) -> impl Iterator<Item = (Resource, Packed)> {
        self.objects
            .iter()
            .filter_map(move |(name, entry)| Resource::parse(name).filter(|resource| resource.kind == of).map(|resource| (resource, entry.json.clone())))
    }

    /// Keeps a token: the row for it, unless it is the one that is known.
    pub fn keep_token(&mut self, request: &TokenRequest, token: &str, issued: Wall, expires: Wall) -> Option<Change> {
        let key = request.key();
        if self.tokens.get(&key).is_some_and(|known| *known.token == *token && known.expires == expires) {
            return None;
        }
        let row = TokenRow { token: token.to_owned(), issued: issued.0, expires: expires.0 };
        let change = Change::set(Key::Token(key.clone()), Row::Token(row));
        self.tokens.insert(key, Token { token: token.into(), issued, expires });
        Some(change)
    }

    /// A token, however old.
    pub fn token(&self, request: &TokenRequest) -> Option<String> {
        self.tokens.get(&request.key()).map(|token| token.token.to_string())
    }

    /// Whether a token is missing or past 80 % of its life (or a day): the
    /// cloud should be asked, and until it answers the old one is used.
    pub fn token_is_due(&self, key: &TokenKey, now: Wall) -> bool {
        self.tokens.get(key).is_none_or(|token| {
            let (age, life) = (now.since(token.issued), token.expires.since(token.issued));
            age >= life.mul_f64(0.8) || age >= Duration::from_secs(24 * 3600)
        })
    }

    /// Forgets the tokens of a pod: the rows to remove.
    pub fn drop_tokens(&mut self, pod: &PodUid) -> Vec<Change> {
        let gone: Vec<TokenKey> = self.tokens.keys().filter(|key| key.pod == *pod).cloned().collect();
        self.tokens.retain(|key, _| key.pod != *pod);
        gone.into_iter().map(|key| Change::remove(Key::Token(key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: u32, extra: &str) -> Incoming {
        let content = format!(
            r#"{{"kind":"Pod","metadata":{{"name":"p","uid":"u","resourceVersion":"{version}","managedFields":[1]}},"spec":{{"x":1{extra}}},"status":{{"phase":"Running","n":{version}}}}}"#
        );
        Incoming::read(&Resource::new("default", kind::POD, "p"), &content).expect("an object")
    }

    #[test]
    fn an_echo_of_our_own_status_is_no_news() {
        let mut meta = Meta::default();
        let first = pod(5, "");
        assert_eq!(meta.judge(&first, Ticket(0)), Verdict::News);
        meta.keep(&first, Ticket(1));
        assert_eq!(meta.judge(&pod(6, ""), Ticket(0)), Verdict::Pending(Ticket(1)));
        assert_eq!(meta.judge(&pod(6, ""), Ticket(1)), Verdict::Same);
        assert_eq!(meta.judge(&pod(6, r#","y":2"#), Ticket(1)), Verdict::News);
        assert_eq!(meta.judge(&pod(4, r#","y":2"#), Ticket(1)), Verdict::Stale);
        let is_told = "an older version is acknowledged once the newer one is on disk";
        assert_eq!(meta.judge(&pod(4, r#","y":2"#), Ticket(0)), Verdict::Pending(Ticket(1)), "{is_told}");
    }

    #[test]
    fn only_a_pod_keeps_its_generation() {
        let read = |kind: &str| {
            let content = r#"{"metadata":{"name":"o","resourceVersion":"1","generation":3}}"#;
            Incoming::read(&Resource::new("default", kind, "o"), content).expect("an object").json.to_string()
        };
        assert_eq!(read(kind::POD), r#"{"metadata":{"generation":3,"name":"o"}}"#);
        assert_eq!(read(kind::CONFIG_MAP), r#"{"metadata":{"name":"o"}}"#);
    }

    #[test]
    fn an_update_from_before_a_delete_brings_nothing_back() {
        let mut meta = Meta::default();
        meta.keep(&pod(5, ""), Ticket(1));
        meta.drop("default/pod/p", "u").expect("it was known");
        meta.deleted("default/pod/p".to_owned(), "u".to_owned(), 8, Ticket(2));
        assert_eq!(meta.judge(&pod(7, ""), Ticket(1)), Verdict::Pending(Ticket(2)));
        assert_eq!(meta.judge(&pod(9, ""), Ticket(1)), Verdict::News);
        meta.settled(Ticket(2));
        assert_eq!(meta.pending_delete("default/pod/p"), None);
    }

    #[test]
    fn a_delete_of_an_older_pod_of_the_same_name_is_ignored() {
        let mut meta = Meta::default();
        meta.keep(&pod(5, ""), Ticket(1));
        assert!(meta.drop("default/pod/p", "older").is_none());
        assert!(meta.drop("default/pod/p", "").is_some());
        assert!(meta.drop("default/pod/p", "u").is_none());
    }
}
