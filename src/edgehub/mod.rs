//! The link's shell: joins a cloud (CA, token, certificate), opens the
//! WebSocket over mTLS, reads and writes messages, renews the certificate. When
//! to dial and what to say is the node's business.

pub mod dial;
pub mod enrol;
mod http;
pub mod identity;
mod proxy;
mod renew;
mod session;
pub mod tls;

use std::cell::Cell;
use std::rc::Rc;

use smol::channel::{self, Sender};

use crate::config;
use crate::host::tasks::{Executor, Tasks};
use crate::node::ids::Session;
use crate::node::input::{Input, LinkEnd};
use crate::node::link::Order;
use crate::wire::message::Message;

/// Bytes that may wait for the socket.
const ROOM: usize = 256 << 10;
/// And one without content counts for so many.
const LEAST: usize = 512;

/// The link, as the agent's loop sees it.
#[derive(Debug)]
pub struct EdgeHub {
    config: Rc<config::EdgeHub>,
    node: String,
    inbox: Sender<Input>,
    executor: Executor,
    session: Option<Running>,
    waiting: Rc<Cell<usize>>,
    _renewal: smol::Task<()>,
    close: channel::Sender<()>,
    closes: channel::Receiver<()>,
}

#[derive(Debug)]
struct Running {
    number: Session,
    queue: Sender<Box<Message>>,
    _tasks: Tasks,
}

/// Opens the shell; nothing is dialed before the node says so.
pub fn open(config: config::EdgeHub, node: &str, inbox: Sender<Input>, executor: &Executor) -> EdgeHub {
    let config = Rc::new(config);
    let (close, closes) = channel::bounded(1);
    let renewal = executor.spawn(renew::keep_fresh(config.clone(), node.to_owned(), close.clone()));
    EdgeHub { config, node: node.to_owned(), inbox, executor: executor.clone(), session: None, waiting: Rc::default(), _renewal: renewal, close, closes }
}

impl EdgeHub {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        self.waiting.get() < ROOM
    }

    /// Carries an order out; what it leads to comes as input.
    pub fn hand(&mut self, order: Order) {
        match order {
            Order::Dial(number) => self.dial(number),
            Order::Send(number, message) => {
                if let Some(session) = self.session.as_ref().filter(|session| session.number == number) {
                    self.waiting.set(self.waiting.get() + weight(&message));
                    let _ = session.queue.try_send(message);
                }
            }
            Order::HangUp(_) => {
                let _ = self.close.try_send(());
            }
        }
    }

    /// The old session's tasks end with it.
    fn dial(&mut self, number: Session) {
        self.session = None;
        self.waiting.set(0);
        while self.closes.try_recv().is_ok() {}
        // `room` bounds it in bytes; more places would be memory that is never used.
        let (queue, messages) = channel::bounded(ROOM / LEAST + 1);
        let (config, node, inbox, waiting, closes) = (self.config.clone(), self.node.clone(), self.inbox.clone(), self.waiting.clone(), self.closes.clone());
        let mut tasks = Tasks::new(&self.executor);
        tasks.spawn(async move {
            let end = match dial::dial(&config, &node).await {
                Ok(socket) => session::run(socket, number, &inbox, &messages, &waiting, &closes).await,
                Err(error) => error.into(),
            };
            let _ = inbox.send(Input::LinkDown { session: number, end }).await;
        });
        self.session = Some(Running { number, queue, _tasks: tasks });
    }
}

/// Bytes a message takes while it waits.
fn weight(message: &Message) -> usize {
    message.content.get().len() + LEAST
}

impl From<dial::DialError> for LinkEnd {
    fn from(error: dial::DialError) -> Self {
        let text = error.to_string();
        match error {
            dial::DialError::Identity(_) => Self::Unusable(text),
            dial::DialError::Refused { .. } => Self::Refused(text),
            dial::DialError::Unreachable { .. }
            | dial::DialError::Proxy { .. }
            | dial::DialError::Tls { .. }
            | dial::DialError::Upgrade { .. }
            | dial::DialError::TimedOut { .. } => Self::Unreachable(text),
        }
    }
}
