//! The stand-in's local socket: what `selvedge cloud get`, `token`, `apply`,
//! `delete`, `publish`, `subscribe` and `watch` ask.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};
use smol::channel;
use smol::net::unix::{UnixListener, UnixStream};

use super::objects::{self, Change, Refusal, Verb};
use super::router::Saying;
use super::{Stand, now};
use crate::host::socket::{self, Conversation};
use crate::host::tasks::{Executor, Tasks};

/// Changes that may wait for one who watches; then he is dropped.
const LAG: usize = 4096;

/// What came up is asked for like objects of a kind.
const UPLOAD: &str = "upload";

/// A question as it comes in, one JSON line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Question {
    /// All objects of a kind, or what came up from brokers and apps.
    Get(String),
    /// A token to join with.
    Token,
    /// An object to create or change.
    Apply(Value),
    /// An object to delete.
    Delete { kind: String, namespace: String, name: String, grace: Option<i64> },
    /// Something for a node's broker or apps; for the only node unless told.
    Say {
        node: Option<String>,
        #[serde(flatten)]
        saying: Saying,
    },
    /// All changes from now on.
    Watch,
}

/// Answers everybody who connects.
pub async fn serve(listener: UnixListener, stand: Rc<Stand>, executor: Executor) {
    let mut tasks = Tasks::new(&executor);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let stand = stand.clone();
        tasks.spawn(async move {
            if let Err(why) = converse(stream, &stand).await {
                log::debug!(target: "cloud", "one who asked went away: {why}");
            }
        });
    }
}

async fn converse(stream: UnixStream, stand: &Stand) -> std::io::Result<()> {
    let mut conversation = socket::question(stream).await?;
    let answer = match serde_json::from_str(&conversation.line) {
        Ok(Question::Watch) => return watch(&mut conversation, stand).await,
        Ok(Question::Get(kind)) if kind == UPLOAD => json!({ "items": stand.cluster.borrow().uploads().collect::<Vec<_>>() }),
        Ok(Question::Get(kind)) => {
            let cluster = stand.cluster.borrow();
            let items: Vec<Value> = cluster.objects().of(&kind).map(|(name, object)| shown(object, cluster.is_connected(&name.2))).collect();
            json!({ "items": items })
        }
        Ok(Question::Token) => json!({ "token": stand.authority.join_token(now().wall) }),
        Ok(Question::Apply(manifest)) => told(stand.act(|cluster| cluster.apply(now(), manifest)).map(|name| json!({ "applied": name }))),
        Ok(Question::Delete { kind, namespace, name, grace }) => {
            let own = objects::name(&kind, &namespace, &name);
            told(stand.act(|cluster| cluster.delete(now(), &own, grace)).map(|()| json!({ "deleted": own })))
        }
        Ok(Question::Say { node, saying }) => match stand.act(|cluster| cluster.say(now(), node.as_deref(), saying)) {
            Ok(id) => json!({ "said": id }),
            Err(why) => json!({ "error": why }),
        },
        Err(why) => json!({ "error": format!("the question is not understood: {why}") }),
    };
    conversation.say(&answer.to_string()).await
}

/// An object, and for a node whether it is connected.
fn shown(object: &Value, connected: bool) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Node" || object["status"]["nodeInfo"].is_object() {
        object["connected"] = connected.into();
    }
    object
}

fn told(result: Result<Value, Refusal>) -> Value {
    result.unwrap_or_else(|refusal| json!({ "error": refusal.message }))
}

async fn watch(conversation: &mut Conversation, stand: &Stand) -> std::io::Result<()> {
    let (sender, changes) = channel::bounded(LAG);
    stand.watchers.borrow_mut().push(sender);
    conversation.say("{\"watching\":true}").await?;
    while let Ok(line) = changes.recv().await {
        conversation.say(&line).await?;
    }
    Ok(())
}

/// A change as one who watches sees it; `at` is monotonic milliseconds.
pub fn line(change: &Change) -> String {
    let verb = match change.verb {
        Verb::Added => "added",
        Verb::Modified => "modified",
        Verb::Deleted => "deleted",
    };
    json!({ "at": now().mono, "verb": verb, "kind": change.name.0, "object": change.object }).to_string()
}
