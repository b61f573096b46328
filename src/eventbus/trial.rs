//! One message to the broker and back, by the shell's own way, with a session
//! that leaves nothing behind.

use std::time::Duration;

use futures_lite::future;
use smol::Timer;
use smol::channel;

use super::dial::{self, BusError};
use super::link::Shared;
use super::session::Session;
use super::{hello, manner, once};
use crate::config;
use crate::host::{chance, clock};
use crate::node::bus::Order;
use crate::node::input::Input;

/// How long the message may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Where mosquitto and others say what they are.
const VERSION: &str = "$SYS/broker/version";

/// What came of it.
#[derive(Debug)]
pub struct Trial {
    /// Where the broker is.
    pub peer: String,
    /// From the message's way to the broker to its way back.
    pub round_trip: Duration,
    /// What it says it is, if it does.
    pub broker: Option<String>,
}

/// Publishes a message and waits for it.
pub async fn run(config: &config::EventBus) -> Result<Trial, BusError> {
    let name = format!("{:08x}", chance::seed() >> 32);
    let hello = hello(config, format!("selvedge-test-{name}"), true);
    let shared = Shared::new(Session::new(manner(config)));
    let (inbox, inputs) = channel::bounded(16);
    let broken = async { Err(once(&shared, config, &hello, &inbox, None).await) };
    future::or(broken, talk(config, &shared, &inputs, &format!("selvedge/test/{name}"))).await
}

async fn talk(config: &config::EventBus, shared: &Shared, inputs: &channel::Receiver<Input>, topic: &str) -> Result<Trial, BusError> {
    let mut trial = Trial { peer: dial::peer(config), round_trip: Duration::ZERO, broker: None };
    let mut begun = Duration::ZERO;
    let back = async {
        while let Ok(input) = inputs.recv().await {
            if let Input::BusUp { .. } = input {
                begun = clock::monotonic();
                shared.hand(Order::Subscribe(vec![VERSION.to_owned(), topic.to_owned()]));
                shared.hand(Order::Publish { topic: topic.to_owned(), payload: b"selvedge".to_vec() });
            } else if let Input::Published(publication) = input {
                if publication.topic == topic {
                    trial.round_trip = clock::monotonic() - begun;
                    return true;
                }
                trial.broker = Some(String::from_utf8_lossy(&publication.payload).into_owned());
            }
        }
        false
    };
    let late = async {
        Timer::after(LIMIT).await;
        false
    };
    if future::or(back, late).await { Ok(trial) } else { Err(BusError::Silent { peer: dial::peer(config), topic: topic.to_owned() }) }
}
