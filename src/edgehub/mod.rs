//! The link's shell: joins a cloud (CA, token, certificate), opens the
//! WebSocket over mTLS, reads and writes messages, renews the certificate. When
//! to dial and what to say is the node's business.

pub mod dial;
pub mod enrol;
mod http;
pub mod identity;
mod proxy;
mod queued;
mod renew;
mod session;
pub mod tls;
pub mod x509;

use std::rc::Rc;

use smol::channel::{self, Sender};

use crate::config;
use crate::host::tasks::{Executor, Tasks};
use crate::node::ids::Session;
use crate::node::input::{Input, LinkEnd};
use crate::node::link::Order;
use crate::wire::message::Message;
use queued::Queued;

/// The link, as the agent's loop sees it.
#[derive(Debug)]
pub struct EdgeHub {
    config: Rc<config::EdgeHub>,
    node: String,
    inbox: Sender<Input>,
    executor: Executor,
    session: Option<Running>,
    queued: Rc<Queued>,
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
    EdgeHub { config, node: node.to_owned(), inbox, executor: executor.clone(), session: None, queued: Rc::default(), _renewal: renewal, close, closes }
}

impl EdgeHub {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        self.queued.has_room()
    }

    /// Waits until there is room again for one who found none.
    pub async fn freed(&self) {
        self.queued.freed().await;
    }

    /// Carries an order out; what it leads to comes as input.
    pub fn hand(&mut self, order: Order) {
        match order {
            Order::Dial(number) => self.dial(number),
            Order::Send(number, message) => {
                if let Some(session) = self.session.as_ref().filter(|session| session.number == number) {
                    self.queued.add(&message);
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
        self.queued.clear();
        while self.closes.try_recv().is_ok() {}
        // `room` bounds it in bytes; more places would be memory that is never used.
        let (queue, messages) = channel::bounded(queued::MESSAGES);
        let (config, node, inbox, queued, closes) = (self.config.clone(), self.node.clone(), self.inbox.clone(), self.queued.clone(), self.closes.clone());
        let mut tasks = Tasks::new(&self.executor);
        tasks.spawn(async move {
            let end = match dial::dial(&config, &node).await {
                Ok(socket) => session::run(socket, number, &inbox, &messages, &queued, &closes).await,
                Err(error) => error.into(),
            };
            ended(&queued, &inbox, number, end).await;
        });
        self.session = Some(Running { number, queue, _tasks: tasks });
    }
}

/// A session, or the attempt to open one, ended. The order to dial again needs
/// room, too.
async fn ended(queued: &Queued, inbox: &Sender<Input>, number: Session, end: LinkEnd) {
    queued.clear();
    let _ = inbox.send(Input::LinkDown { session: number, end }).await;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_tungstenite::WebSocketStream;
    use async_tungstenite::tungstenite::protocol::Role;
    use futures_lite::{StreamExt, future};
    use smol::Timer;
    use smol::net::unix::UnixStream;

    use super::*;
    use crate::wire::message::{Header, Route, string};

    fn large() -> Box<Message> {
        Box::new(Message { header: Header::default(), route: Route::default(), content: string(&"x".repeat(10 << 10)) })
    }

    async fn soon<T>(what: impl Future<Output = T>) -> Option<T> {
        future::or(async { Some(what.await) }, async {
            Timer::after(Duration::from_secs(5)).await;
            None
        })
        .await
    }

    /// A hub with an open session, whose other end is the second value.
    async fn connected(executor: &Executor) -> (EdgeHub, WebSocketStream<UnixStream>, channel::Receiver<Input>) {
        let (inbox, inputs) = channel::bounded(64);
        let config = crate::config::file::parse("[node]\nname = \"edge\"\n", "edge").expect("a configuration").edgehub;
        let mut hub = open(config, "edge", inbox.clone(), executor);
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let [ours, theirs] = [(ours, Role::Client), (theirs, Role::Server)].map(|(stream, role)| WebSocketStream::from_raw_socket(stream, role, None));
        let (queue, messages) = channel::bounded(queued::MESSAGES);
        let (mut tasks, queued, closes, ours) = (Tasks::new(executor), hub.queued.clone(), hub.closes.clone(), ours.await);
        tasks.spawn(async move {
            let end = session::run(ours, Session(1), &inbox, &messages, &queued, &closes).await;
            ended(&queued, &inbox, Session(1), end).await;
        });
        hub.session = Some(Running { number: Session(1), queue, _tasks: tasks });
        (hub, theirs.await, inputs)
    }

    fn fill(hub: &mut EdgeHub) -> usize {
        let mut handed = 0;
        while hub.room() {
            hub.hand(Order::Send(Session(1), large()));
            handed += 1;
        }
        handed
    }

    #[test]
    fn one_who_found_no_room_hears_when_there_is_some() {
        let executor = Executor::default();
        executor.clone().block_on(async {
            let (mut hub, mut theirs, _inputs) = connected(&executor).await;
            let mut left = fill(&mut hub);
            let read = executor.spawn(async move {
                while left > 0 {
                    theirs.next().await.expect("open").expect("a message");
                    left -= 1;
                }
                theirs
            });
            soon(hub.freed()).await.expect("the loop is woken");
            assert!(hub.room());
            soon(read).await.expect("all of it arrives");
        });
    }

    #[test]
    fn a_session_that_ends_full_leaves_room_to_dial_the_next() {
        let executor = Executor::default();
        executor.clone().block_on(async {
            let (mut hub, theirs, inputs) = connected(&executor).await;
            fill(&mut hub);
            drop(theirs);
            let down = async { while !matches!(inputs.recv().await, Ok(Input::LinkDown { .. }) | Err(_)) {} };
            soon(down).await.expect("it ends");
            assert!(hub.room(), "else no order to dial is taken");
        });
    }
}
