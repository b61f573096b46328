//! The local control socket: questions to the node, logs to people.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};
use smol::channel::{self, Sender};
use smol::net::unix::{UnixListener, UnixStream};

use super::{AgentError, Waiting};
use crate::host::follow;
use crate::host::socket::{self, Conversation};
use crate::host::tasks::{Executor, Tasks};
use crate::node::ids::AskId;
use crate::node::input::{Ask, Input};

/// Group that may ask besides root.
const GROUP: &str = "selvedge";
/// Conversations at a time; more wait in the socket's own queue.
const CROWD: usize = 16;

/// Opens the socket.
pub fn listen(path: &Path) -> Result<UnixListener, AgentError> {
    socket::listen(path, GROUP).map_err(|why| AgentError::Control { path: path.to_owned(), why })
}

/// Brings answers to those who asked.
#[derive(Debug, Clone, Default)]
pub struct Answers(Rc<RefCell<(AskId, Waiting)>>);

impl Answers {
    /// Nobody asked yet; both handles are the same.
    pub fn new() -> (Self, Self) {
        let answers = Self::default();
        (answers.clone(), answers)
    }

    fn ask(&self) -> (AskId, channel::Receiver<Value>) {
        let (sender, receiver) = channel::bounded(1);
        let mut inner = self.0.borrow_mut();
        inner.0 = inner.0.next();
        let id = inner.0;
        inner.1.insert(id, sender);
        (id, receiver)
    }

    /// An answer for one who asked; he may be gone.
    pub fn give(&self, id: AskId, answer: Value) {
        if let Some(sender) = self.0.borrow_mut().1.remove(&id) {
            let _ = sender.try_send(answer);
        }
    }
}

/// A question as it comes in.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Question {
    Logs(Logs),
    Node(Ask),
}

/// The log of a container. The answer is `{}` or an error on one line, then the
/// bytes that the container wrote, as they are, to the end of the connection.
#[derive(serde::Deserialize)]
struct Logs {
    logs: String,
    #[serde(default)]
    container: String,
    #[serde(default)]
    previous: bool,
    #[serde(default)]
    follow: bool,
    tail: Option<usize>,
}

/// Answers everybody who connects.
pub async fn serve(listener: UnixListener, inbox: Sender<Input>, answers: Answers, executor: Executor) {
    let mut tasks = Tasks::new(&executor);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if tasks.running() < CROWD {
            tasks.spawn(converse(stream, inbox.clone(), answers.clone()));
        }
    }
}

async fn converse(stream: UnixStream, inbox: Sender<Input>, answers: Answers) {
    let Ok(mut conversation) = socket::question(stream).await else { return };
    let said = match serde_json::from_str::<Question>(&conversation.line) {
        Ok(Question::Node(ask)) if ask.is_write() && !conversation.may_write() => {
            conversation.say(&json!({ "error": "only root, or who the agent runs as, may change something" }).to_string()).await
        }
        Ok(Question::Node(ask)) => {
            let answer = ask_node(&inbox, &answers, ask).await;
            conversation.say(&answer.to_string()).await
        }
        Ok(Question::Logs(logs)) => show_logs(&mut conversation, &inbox, &answers, logs).await,
        Err(why) => conversation.say(&json!({ "error": format!("the question is not understood: {why}") }).to_string()).await,
    };
    if let Err(why) = said {
        log::debug!(target: "agent", "one who asked went away: {why}");
    }
}

async fn ask_node(inbox: &Sender<Input>, answers: &Answers, ask: Ask) -> Value {
    let (id, answer) = answers.ask();
    if inbox.send(Input::Asked(id, ask)).await.is_err() {
        return json!({ "error": "the agent is ending" });
    }
    answer.recv().await.unwrap_or_else(|_| json!({ "error": "the agent is ending" }))
}

async fn show_logs(conversation: &mut Conversation, inbox: &Sender<Input>, answers: &Answers, logs: Logs) -> std::io::Result<()> {
    let place = ask_node(inbox, answers, Ask::LogOf { pod: logs.logs, container: logs.container, previous: logs.previous }).await;
    let Some(path) = place["path"].as_str() else { return conversation.say(&place.to_string()).await };
    let follow = logs.follow && place["running"] == true;
    let (path, tail) = (PathBuf::from(path), logs.tail);
    // A long log is searched for its last lines.
    let opened = smol::unblock(move || follow::Follower::open(&path, tail)).await;
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(why) => {
            let error = format!("the log cannot be read: {why}");
            return conversation.say(&json!({ "error": error }).to_string()).await;
        }
    };
    conversation.say("{}").await?;
    loop {
        while let Some(mut piece) = reader.next_piece()? {
            piece.bytes.extend(piece.is_last.then_some(b'\n'));
            conversation.send(&piece.bytes).await?;
        }
        if !follow || !reader.grown().await? {
            return Ok(());
        }
    }
}
