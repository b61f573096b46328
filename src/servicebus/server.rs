//! Hears apps that ask the cloud: one request a connection, answered when the
//! node has a reply.
//!
//! Source: devices.md 5.4.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt, future};
use futures_rustls::TlsAcceptor;
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::net::{TcpListener, TcpStream};

use super::budget::{Budget, Share};
use super::{ServiceError, tls};
use crate::config;
use crate::host::http1::{self, Incoming, Length, header, request_length};
use crate::host::tasks::{Executor, Tasks};
use crate::host::tls::Secured;
use crate::node::ids::ExchangeId;
use crate::node::input::Input;
use crate::wire::servicebus::{BODY, Question, Reply};

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// How long a request may take to come in.
const READ: Duration = Duration::from_secs(30);
/// How long requests may still be answered when nothing may be asked any more.
const GRACE: Duration = Duration::from_secs(5);
/// How long a port or certificate that cannot be used is left alone.
const AGAIN: Duration = Duration::from_secs(10);
/// How much of a request that was refused is still read, and for how long.
const LINGER: (usize, Duration) = (4 * BODY, Duration::from_secs(2));

/// Where questions are handed in and replies handed out.
#[derive(Debug)]
pub struct Desk {
    inbox: Sender<Input>,
    budget: Budget,
    last: Cell<ExchangeId>,
    waiting: RefCell<BTreeMap<ExchangeId, Sender<Reply>>>,
}

impl Desk {
    /// An empty one.
    pub fn new(inbox: Sender<Input>, budget: Budget) -> Self {
        Self { inbox, budget, last: Cell::default(), waiting: RefCell::default() }
    }

    /// Gives a reply to whoever waits for it, if he still does.
    pub fn reply(&self, id: ExchangeId, reply: Reply) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
            let _ = waiting.try_send(reply);
        }
    }

    async fn ask(&self, question: Question) -> Reply {
        let id = self.last.get().next();
        self.last.set(id);
        let (sender, reply) = channel::bounded(1);
        self.waiting.borrow_mut().insert(id, sender);
        let _place = Place { desk: self, id };
        let ended = || Reply::refusal("the agent ends");
        match self.inbox.send(Input::ServiceAsked { id, question }).await {
            Ok(()) => reply.recv().await.unwrap_or_else(|_| ended()),
            Err(_) => ended(),
        }
    }
}

/// A place at the desk; one who goes away gives it up.
struct Place<'a> {
    desk: &'a Desk,
    id: ExchangeId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.desk.waiting.borrow_mut().remove(&self.id);
    }
}

/// Listens until told to close; then answers what is under way. A port that
/// cannot be had is tried again: somebody may give it up.
pub async fn serve(config: Rc<config::ServiceBus>, desk: Rc<Desk>, executor: Executor, close: Receiver<()>) {
    let mut tasks = Tasks::new(&executor);
    let closed = async {
        let _ = close.recv().await;
    };
    let listening = async {
        loop {
            match open(&config).await {
                Ok(listener) => {
                    log::info!(target: "servicebus", "apps may ask at {}", config.listen);
                    accept(&listener, &config, &desk, &mut tasks).await;
                }
                Err(why) => {
                    log::error!(target: "servicebus", "apps are not heard: {why}");
                    Timer::after(AGAIN).await;
                }
            }
        }
    };
    future::or(closed, listening).await;
    log::info!(target: "servicebus", "apps are heard no more at {}", config.listen);
    if tasks.running() > 0 {
        Timer::after(GRACE).await;
    }
}

/// With a certificate that cannot be used nothing is opened: never plain HTTP
/// where TLS was asked for.
async fn open(config: &config::ServiceBus) -> Result<TcpListener, ServiceError> {
    tls::config(config)?;
    TcpListener::bind(config.listen.as_str()).await.map_err(|why| ServiceError::Listen { address: config.listen.clone(), why })
}

async fn accept(listener: &TcpListener, config: &Rc<config::ServiceBus>, desk: &Rc<Desk>, tasks: &mut Tasks) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // No more files, most likely.
            Timer::after(Duration::from_millis(100)).await;
            continue;
        };
        if tasks.running() >= CONNECTIONS {
            log::warn!(target: "servicebus", "{peer} is turned away: {CONNECTIONS} apps ask already");
            continue;
        }
        let (config, desk) = (config.clone(), desk.clone());
        tasks.spawn(async move {
            if let Err(why) = greet(stream, &config, &desk).await {
                log::debug!(target: "servicebus", "{peer}: {why}");
            }
        });
    }
}

/// Does the handshake, if there is to be one.
async fn greet(stream: TcpStream, config: &config::ServiceBus, desk: &Desk) -> io::Result<()> {
    let late = async {
        Timer::after(READ).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    match tls::config(config).map_err(io::Error::other)? {
        None => converse(stream, desk).await,
        Some(tls) => {
            let handshake = async { TlsAcceptor::from(tls).accept(stream).await };
            converse(Secured(future::or(handshake, late).await?), desk).await
        }
    }
}

/// One request and its reply.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, desk: &Desk) -> io::Result<()> {
    let mut incoming = Incoming::new(stream);
    let mut share = desk.budget.share();
    let late = async {
        Timer::after(READ).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    let read = future::or(read(&mut incoming, &mut share), late).await;
    let (text, whole) = match read {
        Ok(Ok(question)) => (response(&desk.ask(question).await)?, true),
        Ok(Err(reply)) => (response(&reply)?, false),
        Err(why) => (malformed(&why)?, false),
    };
    incoming.stream.write_all(&text).await?;
    incoming.stream.close().await?;
    if !whole {
        let (most, time) = LINGER;
        let end = async {
            Timer::after(time).await;
        };
        future::or(incoming.linger(most), end).await;
    }
    Ok(())
}

/// Reads a question; an error is what is no HTTP at all.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(incoming: &mut Incoming<S>, share: &mut Share) -> io::Result<Result<Question, Reply>> {
    let head = incoming.request().await?;
    let length = request_length(&head)?;
    if matches!(length, Length::Bytes(bytes) if bytes > BODY as u64) {
        return Ok(Err(Reply::unreadable()));
    }
    if header(&head.headers, "expect").is_some_and(|expected| expected.eq_ignore_ascii_case("100-continue")) {
        incoming.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    Ok(match incoming.body(length, BODY, |bytes| share.take(bytes)).await {
        Ok(body) if !body.cut => Question::read(&body.bytes),
        Ok(_) | Err(_) => Err(Reply::unreadable()),
    })
}

fn response(reply: &Reply) -> io::Result<Vec<u8>> {
    plain("200 OK", &reply.text())
}

fn malformed(why: &io::Error) -> io::Result<Vec<u8>> {
    plain("400 Bad Request", &format!("400 Bad Request: {why}"))
}

fn plain(status: &str, text: &str) -> io::Result<Vec<u8>> {
    let headers = [("Content-Type", "text/plain; charset=utf-8")];
    http1::response(status, &headers, text.as_bytes()).map_err(io::Error::other)
}
