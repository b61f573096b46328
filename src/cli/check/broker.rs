//! The MQTT broker: whether it can be reached, lets the agent in, and gives back
//! a message that it was sent.

use super::{Finding, Grade};
use crate::cli::mqtt;
use crate::config::{BusMode, Config};
use crate::eventbus::trial;
use crate::host::tasks::Executor;

/// Looks at the broker of the configuration.
pub(super) fn examine(config: &Config) -> Option<Finding> {
    let mode = config.eventbus.mode;
    if mode == BusMode::Off || (mode == BusMode::Internal && config.broker.listen.is_empty()) {
        return None;
    }
    let way = mqtt::way(config.clone()).ok()?;
    Some(match Executor::default().block_on(trial::run(&way)) {
        Ok(trial) => {
            let millis = trial.round_trip.as_secs_f64() * 1000.0;
            Finding::ok("mqtt", format!("broker {} took a message and gave it back in {millis:.1} ms", trial.peer))
        }
        Err(why) if mode == BusMode::Internal => Finding::bad(Grade::Warn, "mqtt", format!("{why}: it is the agent's own"), "systemctl start selvedge"),
        Err(why) => {
            let mend = format!("{}; or set eventbus.mode to \"internal\" or \"off\"", why.mend());
            Finding::bad(Grade::Warn, "mqtt", format!("{why}: devices are not heard"), mend)
        }
    })
}
