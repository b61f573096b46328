//! `selvedge mqtt test`: whether the broker of the configuration takes a message
//! and gives it back. It works beside a running agent and without one.

use std::path::Path;

use argh::FromArgs;

use super::output::line;
use super::{Exit, Failure};
use crate::config::{self, Broker, BusMode, Config, EventBus, Listen};
use crate::eventbus::trial;
use crate::host::tasks::Executor;

/// look at the MQTT broker
#[derive(FromArgs)]
#[argh(subcommand, name = "mqtt")]
pub struct Mqtt {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Test(Test),
}

/// send a message to the broker and back
#[derive(FromArgs)]
#[argh(subcommand, name = "test")]
struct Test {}

impl Mqtt {
    /// Sends and tells.
    pub fn run(self, path: &Path) -> Result<Exit, Failure> {
        let Command::Test(Test {}) = self.command;
        let config = way(config::load(path)?)?;
        let trial = Executor::default().block_on(trial::run(&config)).map_err(|why| Failure::new(format!("{why}: {}", why.mend())))?;
        line(&format!("broker      {} ({})", trial.peer, trial.broker.as_deref().unwrap_or("it does not say what it is")));
        line(&format!("round trip  {:.1} ms with QoS {}", trial.round_trip.as_secs_f64() * 1000.0, config.qos));
        Ok(Exit::Ok)
    }
}

/// How to reach the broker from here. The agent's own is reached as its other
/// clients do it, by the first address.
pub(super) fn way(config: Config) -> Result<EventBus, Failure> {
    match config.eventbus.mode {
        BusMode::Off => Err(Failure::new("eventbus.mode is off: there is no broker")),
        BusMode::External => Ok(config.eventbus),
        BusMode::Internal => {
            let server = match config.broker.listen.into_iter().next() {
                Some(Listen::Tcp(address)) => Broker::Tcp(address),
                Some(Listen::Unix(path)) => Broker::Unix(path),
                None => return Err(Failure::new("broker.listen is empty: only the agent itself reaches its broker")),
            };
            let (user, password) = config.broker.users.into_iter().next().unzip();
            Ok(EventBus { mode: BusMode::External, server, user, password: password.unwrap_or_default(), ..config.eventbus })
        }
    }
}
