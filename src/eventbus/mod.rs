//! The broker's client: MQTT 3.1.1 to one broker, by TCP, TLS or a unix socket.
//! It carries orders out and tells what came; what topics mean is the node's
//! business.
//!
//! The broker keeps our session (a client id that stays), so what devices say
//! while the agent restarts is delivered afterwards; it is acknowledged when the
//! node has it on disk. Everything runs on the loop's thread: packets from
//! rumqttc (`codec`), what both sides owe each other (`session`), the stream
//! (`dial`), and what moves bytes between them (`link`).

pub mod codec;
mod dial;
mod link;
mod pace;
mod prompt;
mod session;
pub mod trial;

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::channel::Sender;

use crate::config::{self, BusMode};
use crate::host::socket::Visitors;
use crate::host::tasks::Executor;
use crate::host::{chance, clock};
use crate::node::backoff::Backoff;
use crate::node::bus::Order;
use crate::node::chance::Chance;
use crate::node::input::Input;

use codec::{Hello, QoS};
pub use dial::BusError;
use link::Shared;
use session::{Manner, Session};

/// Waits between attempts to reach the broker.
const BASE: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(20);
/// A connection that ends sooner counts as a failure: two clients with one id
/// throw each other out for ever.
const SOON: Duration = Duration::from_secs(5);

/// The client, as the agent's loop sees it.
#[derive(Debug)]
pub struct EventBus(Option<(Rc<Shared>, smol::Task<()>)>);

/// Opens the shell; it dials at once and again whenever the broker is lost.
/// `local` is the door of the broker in this process, if there is one.
pub fn open(config: config::EventBus, node: &str, inbox: Sender<Input>, executor: &Executor, local: Option<Visitors>) -> EventBus {
    let built = config.mode != BusMode::Internal || local.is_some();
    if !built {
        let _ = inbox.try_send(Input::BusDown(BusError::NotBuilt.to_string()));
    }
    if !built || config.mode == BusMode::Off {
        return EventBus(None);
    }
    let shared = Rc::new(Shared::new(Session::new(manner(&config))));
    let client_id = config.client_id.clone().unwrap_or_else(|| format!("selvedge-{node}"));
    let task = executor.spawn(keep(shared.clone(), config, client_id, inbox, local));
    EventBus(Some((shared, task)))
}

impl EventBus {
    /// Another order may be handed over.
    pub fn room(&self) -> bool {
        self.0.as_ref().is_none_or(|(shared, _)| shared.room())
    }

    /// Waits until there is room again, once there was none.
    pub async fn freed(&self) {
        match &self.0 {
            Some((shared, _)) => shared.freed().await,
            None => future::pending().await,
        }
    }

    /// Carries an order out.
    pub fn hand(&self, order: Order) {
        if let Some((shared, _)) = &self.0 {
            shared.hand(order);
        }
    }
}

/// Keeps the connection, for ever; tells a reason when it is a new one.
async fn keep(shared: Rc<Shared>, config: config::EventBus, client_id: String, inbox: Sender<Input>, local: Option<Visitors>) {
    let hello = hello(&config, client_id, false);
    let mut wait = Backoff::new(BASE, CAP);
    let mut chance = Chance::new(chance::seed());
    let mut told = String::new();
    loop {
        let begun = clock::monotonic();
        let why = once(&shared, &config, &hello, &inbox, local.as_ref()).await.to_string();
        if shared.down() {
            told.clear();
            if clock::monotonic() - begun >= SOON {
                wait.reset();
            }
        }
        if told != why {
            told.clone_from(&why);
            if inbox.send(Input::BusDown(why)).await.is_err() {
                return;
            }
        }
        Timer::after(wait.full_jitter(chance.luck())).await;
    }
}

/// One attempt, and the connection it may lead to; why it ended.
async fn once(shared: &Shared, config: &config::EventBus, hello: &Hello, inbox: &Sender<Input>, local: Option<&Visitors>) -> BusError {
    let link = async { link::greet(dial::dial(config, local).await?, dial::peer(config), hello).await };
    match link.await {
        Ok(link) => link.run(shared, config.keepalive, inbox).await,
        Err(why) => why,
    }
}

fn manner(config: &config::EventBus) -> Manner {
    let qos = match config.qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    Manner { qos, retain: config.retain, max_packet: config.max_packet }
}

fn hello(config: &config::EventBus, client_id: String, clean: bool) -> Hello {
    let login = config.user.clone().map(|user| (user, config.password.0.clone()));
    Hello { client_id, login, keepalive: u16::try_from(config.keepalive.as_secs()).unwrap_or(u16::MAX), clean }
}

#[cfg(test)]
mod tests {
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use smol::channel::{self, Receiver};
    use smol::net::unix::UnixStream;

    use super::*;
    use crate::node::bus::Publication;

    /// An agent without a node, and a broker that only does what it is told.
    struct World {
        executor: Executor,
        bus: EventBus,
        inputs: Receiver<Input>,
        visitors: Receiver<UnixStream>,
    }

    const HELLO: &[u8] = b"\x10\x1b\x00\x04MQTT\x04\x00\x00\x1e\x00\x0fselvedge-edge-1";

    fn world() -> World {
        let executor = Executor::default();
        let (inbox, inputs) = channel::bounded(64);
        let (door, visitors) = channel::bounded(1);
        let config = config::file::parse("[eventbus]\nmode = 'internal'\nmax_packet = '1Ki'\n", "edge-1").expect("it is right").eventbus;
        let bus = open(config, "edge-1", inbox, &executor, Some(door));
        World { executor, bus, inputs, visitors }
    }

    impl World {
        async fn welcome(&self, answer: &[u8]) -> UnixStream {
            let mut stream = self.visitors.recv().await.expect("it dials");
            expect(&mut stream, HELLO).await;
            stream.write_all(answer).await.expect("it listens");
            stream
        }

        async fn up(&self, kept: bool) -> UnixStream {
            let stream = self.welcome(&[0x20, 2, u8::from(kept), 0]).await;
            assert!(matches!(self.input().await, Input::BusUp { kept: told } if told == kept));
            stream
        }

        async fn input(&self) -> Input {
            self.inputs.recv().await.expect("the shell lives")
        }

        async fn published(&self) -> Publication {
            let input = self.input().await;
            if let Input::Published(publication) = input { publication } else { panic!("{input:?}") }
        }

        async fn down(&self) -> String {
            let input = self.input().await;
            if let Input::BusDown(why) = input { why } else { panic!("{input:?}") }
        }
    }

    async fn expect(stream: &mut UnixStream, bytes: &[u8]) {
        let mut heard = vec![0; bytes.len()];
        stream.read_exact(&mut heard).await.expect("it speaks");
        assert_eq!(heard, bytes);
    }

    #[test]
    fn messages_and_acks_go_both_ways_and_gathered() {
        let world = world();
        world.executor.block_on(async {
            let mut broker = world.up(false).await;
            broker.write_all(b"\x32\x06\x00\x01a\x00\x01x\x30\x04\x00\x01by").await.expect("it listens");
            let (first, second) = (world.published().await, world.published().await);
            assert_eq!((first.topic.as_str(), second.topic.as_str(), second.packet), ("a", "b", None));
            assert!(world.bus.room());
            world.bus.hand(Order::Ack(first.packet.expect("QoS 1")));
            world.bus.hand(Order::Publish { topic: "c".to_owned(), payload: b"z".to_vec() });
            let mut gathered = [0; 64];
            let read = broker.read(&mut gathered).await.expect("it speaks");
            assert_eq!(&gathered[..read], b"\x40\x02\x00\x01\x32\x06\x00\x01c\x00\x01z", "one write");
        });
    }

    #[test]
    fn a_lost_broker_is_found_again_and_gets_what_it_did_not_acknowledge() {
        let world = world();
        world.executor.block_on(async {
            let mut broker = world.up(false).await;
            world.bus.hand(Order::Publish { topic: "c".to_owned(), payload: b"z".to_vec() });
            expect(&mut broker, b"\x32\x06\x00\x01c\x00\x01z").await;
            drop(broker);
            assert!(world.down().await.contains("lost"));
            let mut broker = world.up(true).await;
            expect(&mut broker, b"\x3a\x06\x00\x01c\x00\x01z").await;
        });
    }

    #[test]
    fn who_found_no_room_is_called_when_there_is_some() {
        let world = world();
        world.executor.block_on(async {
            let mut broker = world.up(false).await;
            // Until it is full of what the broker has read and not acknowledged.
            while world.bus.room() {
                let mut count = 0;
                while world.bus.room() {
                    world.bus.hand(Order::Publish { topic: "c".to_owned(), payload: vec![0; 1000] });
                    count += 1;
                }
                broker.read_exact(&mut vec![0; count * 1008]).await.expect("it speaks");
            }
            while future::poll_once(world.bus.freed()).await.is_some() {}
            assert!(!world.bus.room());
            broker.write_all(b"\x40\x02\x00\x01").await.expect("it listens");
            world.bus.freed().await;
            assert!(world.bus.room());
        });
    }

    #[test]
    fn a_reason_is_told_once() {
        let world = world();
        world.executor.block_on(async {
            for _ in 0..2 {
                world.welcome(b"\x20\x02\x00\x05").await;
            }
            world.welcome(b"\x20\x02\x00\x04").await;
            assert!(world.down().await.ends_with("not authorized"));
            assert!(world.down().await.ends_with("bad user name or password"));
            let mut broker = world.up(false).await;
            broker.write_all(b"\x10\x00").await.expect("it listens");
            assert!(world.down().await.contains("does not speak MQTT 3.1.1"));
        });
    }

    #[test]
    fn a_mode_without_a_broker_says_so_or_nothing() {
        let executor = Executor::default();
        let (inbox, inputs) = channel::bounded(64);
        let mut config = config::file::parse("[eventbus]\nmode = 'internal'\n", "edge-1").expect("it is right").eventbus;
        let _bus = open(config.clone(), "edge-1", inbox.clone(), &executor, None);
        let input = executor.block_on(inputs.recv());
        assert!(matches!(&input, Ok(Input::BusDown(why)) if why == "broker: not in this build"), "{input:?}");
        config.mode = BusMode::Off;
        let off = open(config, "edge-1", inbox, &executor, None);
        off.hand(Order::Subscribe(Vec::new()));
        assert!(off.room());
    }
}
