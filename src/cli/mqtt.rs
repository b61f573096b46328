//! `selvedge mqtt test`: whether the broker of the configuration takes a message
//! and gives it back. It works beside a running agent and without one.

use std::path::Path;

use argh::FromArgs;

use super::output::line;
use super::{Exit, Failure};
use crate::config;
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
        let config = config::load(path)?.eventbus;
        if config.mode == config::BusMode::Off {
            return Err(Failure::new("eventbus.mode is off: there is no broker"));
        }
        let trial = Executor::default().block_on(trial::run(&config)).map_err(|why| Failure::new(format!("{why}: {}", why.mend())))?;
        line(&format!("broker      {} ({})", trial.peer, trial.broker.as_deref().unwrap_or("it does not say what it is")));
        line(&format!("round trip  {:.1} ms with QoS {}", trial.round_trip.as_secs_f64() * 1000.0, config.qos));
        Ok(Exit::Ok)
    }
}
