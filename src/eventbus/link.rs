//! One connection to the broker, from its first word to its end.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::BytesMut;
use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use log::Level;
use smol::Timer;
use smol::channel::{self, Receiver, Sender};

use super::codec::{self, Hello, Said};
use super::dial::{BusError, Stream};
use super::pace::Pace;
use super::session::{Remark, Session};
use crate::host::clock;
use crate::host::log::Sparse;
use crate::node::bus::Order;
use crate::node::input::Input;

/// How long the broker may take to let us in.
const WELCOME: Duration = Duration::from_secs(10);
/// And to take what we write.
const WRITE: Duration = Duration::from_secs(15);
/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Lines that repeat are written so often.
const SPARSE: Duration = Duration::from_secs(60);

/// A session that several may use, a pen that is taken up when there is
/// something to write, and a bell for who found no room.
#[derive(Debug)]
pub struct Shared {
    session: RefCell<Session>,
    pen: (Sender<()>, Receiver<()>),
    bell: (Sender<()>, Receiver<()>),
    was_full: Cell<bool>,
    lines: RefCell<[Sparse; 4]>,
}

impl Shared {
    /// Shares a session.
    pub fn new(session: Session) -> Self {
        Self {
            session: RefCell::new(session),
            pen: channel::bounded(1),
            bell: channel::bounded(1),
            was_full: Cell::new(false),
            lines: RefCell::new([const { Sparse::new(SPARSE) }; 4]),
        }
    }

    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        let room = self.session.borrow().room();
        self.was_full.set(!room);
        room
    }

    /// Waits until there is room again for one who found none.
    pub async fn freed(&self) {
        let _ = self.bell.1.recv().await;
    }

    /// Takes an order of the node.
    pub fn hand(&self, order: Order) {
        self.with(|session| session.hand(order));
    }

    /// The connection is gone; whether there was one.
    pub fn down(&self) -> bool {
        self.with(Session::down)
    }

    /// Does something to the session, and what follows from it.
    fn with<T>(&self, what: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.session.borrow_mut();
        let done = what(&mut session);
        if session.has_output() {
            let _ = self.pen.0.try_send(());
        }
        if self.was_full.get() && session.room() {
            self.was_full.set(false);
            let _ = self.bell.0.try_send(());
        }
        session.remarks().for_each(|remark| self.tell(&remark));
        done
    }

    /// What repeats is not written each time; a refused filter is told with
    /// its name, once a connection.
    fn tell(&self, remark: &Remark) {
        let (kind, level, text) = match remark {
            Remark::Unheard => (0, Level::Debug, "no broker: a message is not published".to_owned()),
            Remark::NoTopic(topic) => (1, Level::Warn, format!("'{topic}' is no topic that brokers take: it is left out")),
            Remark::TooLargeToSend(topic, size) => (2, Level::Warn, format!("{size} bytes for '{topic}' exceed eventbus.max_packet: not published")),
            Remark::TooLargeToTake(topic, size) => (3, Level::Warn, format!("{size} bytes on '{topic}' exceed eventbus.max_packet: left out")),
            Remark::FilterRefused(filter) => return log::warn!(target: "eventbus", "the broker refuses the subscription of '{filter}'"),
        };
        match self.lines.borrow_mut()[kind].due(clock::monotonic()) {
            None => {}
            Some(0) => log::log!(target: "eventbus", level, "{text}"),
            Some(held) => log::log!(target: "eventbus", level, "{text}, and {held} before it"),
        }
    }
}

/// A broker that let us in.
pub struct Link {
    stream: Stream,
    peer: String,
    buffer: BytesMut,
    /// It kept our session.
    pub kept: bool,
}

/// Says who we are.
pub async fn greet(mut stream: Stream, peer: String, hello: &Hello) -> Result<Link, BusError> {
    let mut buffer = BytesMut::new();
    let lost = |why: std::io::Error| BusError::Lost { peer: peer.clone(), why: why.to_string() };
    let greeting = async {
        stream.writer.write_all(&codec::hello(hello)).await.map_err(lost)?;
        stream.writer.flush().await.map_err(lost)?;
        loop {
            match codec::read(&mut buffer, CHUNK).map_err(|why| BusError::Malformed { peer: peer.clone(), why })? {
                Some(Said::Welcome { kept }) => return Ok(kept),
                Some(Said::Denied(denial)) => return Err(BusError::Denied { peer: peer.clone(), denial }),
                Some(_) => return Err(BusError::Malformed { peer: peer.clone(), why: "something else came before CONNACK".to_owned() }),
                None => more(&mut stream.reader, &mut buffer).await.map_err(lost)?,
            }
        }
    };
    let kept = future::or(greeting, async {
        Timer::after(WELCOME).await;
        Err(BusError::TimedOut { peer: peer.clone() })
    })
    .await?;
    Ok(Link { stream, peer, buffer, kept })
}

impl Link {
    /// Carries packets both ways until one side ends it; why it ended.
    pub async fn run(self, shared: &Shared, keepalive: Duration, inbox: &Sender<Input>) -> BusError {
        let Self { stream: Stream { mut reader, mut writer }, peer, mut buffer, kept } = self;
        let lost = |why: &dyn std::fmt::Display| BusError::Lost { peer: peer.clone(), why: why.to_string() };
        shared.with(|session| session.up(kept));
        let read = async {
            if inbox.send(Input::BusUp { kept }).await.is_err() {
                return lost(&"the agent ends");
            }
            let mut pace = Pace::default();
            let mut messages = 0;
            loop {
                match shared.with(|session| session.next(&mut buffer)) {
                    Ok(Some(publication)) => {
                        messages += 1;
                        if inbox.send(Input::Published(publication)).await.is_err() {
                            return lost(&"the agent ends");
                        }
                    }
                    Ok(None) => {
                        if let Some(breath) = pace.read(clock::monotonic(), std::mem::take(&mut messages)) {
                            Timer::after(breath).await;
                        }
                        if let Err(why) = more(&mut reader, &mut buffer).await {
                            return lost(&why);
                        }
                    }
                    Err(why) => return BusError::Malformed { peer: peer.clone(), why },
                }
            }
        };
        let write = async {
            let mut output = BytesMut::new();
            loop {
                shared.with(|session| session.output(&mut output));
                if output.is_empty() {
                    let _ = shared.pen.1.recv().await;
                } else if let Err(why) = in_time(&mut writer, &output).await {
                    return lost(&why);
                }
            }
        };
        let pings = async {
            loop {
                Timer::after(keepalive).await;
                if let Err(why) = shared.with(Session::tick) {
                    return lost(&why);
                }
            }
        };
        future::or(read, future::or(write, pings)).await
    }
}

/// Writes everything that was gathered.
async fn in_time(writer: &mut (impl AsyncWriteExt + Unpin), output: &[u8]) -> std::io::Result<()> {
    let write = async {
        writer.write_all(output).await?;
        writer.flush().await
    };
    future::or(write, async {
        Timer::after(WRITE).await;
        Err(std::io::Error::other("a packet could not be written in time"))
    })
    .await
}

/// Waits for more bytes.
async fn more(reader: &mut (impl AsyncReadExt + Unpin), buffer: &mut BytesMut) -> std::io::Result<()> {
    let whole = buffer.len();
    buffer.resize(whole + CHUNK, 0);
    let read = reader.read(&mut buffer[whole..]).await;
    buffer.truncate(whole + read.as_ref().map_or(0, |read| *read));
    if read? == 0 { Err(std::io::Error::other("the broker closed it")) } else { Ok(()) }
}
