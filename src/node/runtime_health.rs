//! What the runtime says about itself.

use super::runtime::RuntimeInfo;

/// The runtime as last heard of.
#[derive(Debug, Default)]
pub struct RuntimeHealth {
    /// Its own words; from before, while it is down.
    pub info: RuntimeInfo,
    state: State,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Nobody asked it yet.
    #[default]
    Unknown,
    Up,
    Down(String),
}

impl RuntimeHealth {
    /// It is reached. All it has is told next.
    pub fn up(&mut self, info: RuntimeInfo) {
        if self.state != State::Up {
            log::info!(target: "edged", "runtime '{} {}' is reached", info.name, info.version);
        }
        self.info = info;
        self.state = State::Up;
    }

    /// It cannot be reached.
    pub fn down(&mut self, why: String) {
        log::warn!(target: "edged", "the container runtime cannot be reached: {why}");
        self.state = State::Down(why);
    }

    /// It can be asked to do things.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// `containerd://1.6.20`.
    pub fn version(&self) -> String {
        if self.info.name.is_empty() { String::new() } else { format!("{}://{}", self.info.name, self.info.version) }
    }

    /// Why pods cannot run.
    pub fn why(&self) -> Vec<String> {
        match &self.state {
            State::Unknown => vec!["container runtime has not been reached yet".to_owned()],
            State::Down(why) => vec![format!("container runtime is down: {why}")],
            State::Up => {
                let runtime = self.info.not_ready.iter().map(|why| format!("container runtime is not ready: {why}"));
                runtime.chain(self.info.network_not_ready.iter().map(|why| format!("container runtime network not ready: {why}"))).collect()
            }
        }
    }
}
