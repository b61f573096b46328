//! The command line: what was typed, what is printed, with which exit code.

mod ask;
mod check;
#[cfg(feature = "cloud")]
mod cloud;
#[cfg(feature = "edgehub")]
mod endpoint;
#[cfg(feature = "edgehub")]
mod join;
#[cfg(feature = "eventbus")]
mod mqtt;
mod output;
mod questions;
mod twin;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::FromArgs;

use crate::config::{self, Config};
use crate::host;
use crate::{agent, modules};

/// Where the configuration is unless told.
const CONFIG: &str = "/etc/selvedge/selvedge.toml";

/// Exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// What was asked for failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// The agent does not answer.
    Unreachable = 3,
}

/// An error for people, and the code to end with.
#[derive(Debug)]
pub struct Failure(Exit, String);

impl Failure {
    /// What was asked for failed.
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(Exit::Failed, why.to_string())
    }
}

impl From<config::ConfigError> for Failure {
    fn from(error: config::ConfigError) -> Self {
        Self(Exit::Usage, error.to_string())
    }
}

/// selvedge makes a small machine a Kubernetes edge node.
#[derive(FromArgs)]
struct Arguments {
    /// configuration file (default /etc/selvedge/selvedge.toml, or SELVEDGE_CONFIG)
    #[argh(option)]
    config: Option<PathBuf>,
    /// print the version and the modules of this build
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(Run),
    #[cfg(feature = "edgehub")]
    Join(join::Join),
    Check(check::Check),
    Status(questions::Status),
    Get(questions::Get),
    Describe(questions::Describe),
    Logs(questions::Logs),
    Twin(twin::Twin),
    #[cfg(feature = "eventbus")]
    Mqtt(mqtt::Mqtt),
    #[cfg(feature = "cloud")]
    Cloud(cloud::Cloud),
}

/// run the agent; pods stay when it ends
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
struct Run {}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let strings: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = strings.iter().map(String::as_str).collect();
    let words = config_first(&words);
    let (name, rest) = words.split_first().map_or(("selvedge", &[][..]), |(name, rest)| (name, rest));
    let name = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or("selvedge");
    let code = match Arguments::from_args(&[name], rest) {
        Ok(arguments) => dispatch(arguments).unwrap_or_else(|Failure(code, why)| {
            eprintln!("selvedge: {why}");
            code
        }),
        Err(early) if early.status.is_ok() => {
            output::raw(early.output.trim_end());
            Exit::Ok
        }
        Err(early) => {
            eprintln!("{}", early.output.trim_end());
            Exit::Usage
        }
    };
    ExitCode::from(code as u8)
}

/// The words with `--config FILE` before the command, wherever it was typed, and
/// with options and their values apart: `--tail=5` is `--tail 5`.
fn config_first<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let mut words = words.iter().copied();
    first.extend(words.next());
    while let Some(word) = words.next() {
        match (word, word.strip_prefix("--config=")) {
            ("--config", _) => match words.next() {
                Some(path) => first.extend([word, path]),
                None => rest.push(word),
            },
            (_, Some(path)) => first.extend(["--config", path]),
            ("--", _) => {
                rest.push(word);
                rest.extend(words.by_ref());
            }
            (_, None) => match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => rest.extend([option, value]),
                Some(_) | None => rest.push(word),
            },
        }
    }
    first.extend(rest);
    first
}

fn dispatch(arguments: Arguments) -> Result<Exit, Failure> {
    if arguments.version {
        output::line(&format!("selvedge {} ({})", env!("CARGO_PKG_VERSION"), modules::built().join(", ")));
        return Ok(Exit::Ok);
    }
    let path = arguments.config.or_else(|| std::env::var_os("SELVEDGE_CONFIG").map(PathBuf::from)).unwrap_or_else(|| CONFIG.into());
    match arguments.command {
        None => Err(Failure(Exit::Usage, "a command is missing: run, join, check, status, get, describe, logs, twin or mqtt; --help tells more".to_owned())),
        Some(Command::Run(Run {})) => run(config::load(&path)?),
        #[cfg(feature = "edgehub")]
        Some(Command::Join(join)) => join.run(&path),
        Some(Command::Check(check)) => check.run(&path),
        Some(Command::Status(status)) => status.run(&socket(&path)),
        Some(Command::Get(get)) => get.run(&socket(&path)),
        Some(Command::Describe(describe)) => describe.run(&socket(&path)),
        Some(Command::Logs(logs)) => logs.run(&socket(&path)),
        Some(Command::Twin(twin)) => twin.run(&socket(&path)),
        #[cfg(feature = "eventbus")]
        Some(Command::Mqtt(mqtt)) => mqtt.run(&path),
        #[cfg(feature = "cloud")]
        Some(Command::Cloud(cloud)) => cloud.run(),
    }
}

fn run(config: Config) -> Result<Exit, Failure> {
    host::log::start(&config.log);
    agent::run(config).map_err(Failure::new)?;
    Ok(Exit::Ok)
}

/// Where the agent listens; the default when its configuration cannot be read
/// by whoever asks.
fn socket(path: &Path) -> PathBuf {
    config::load(path).map_or_else(|_| "/run/selvedge/control.sock".into(), |config| config.control.socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_may_be_named_anywhere() {
        let first = |text: &str| config_first(&text.split(' ').collect::<Vec<_>>()).join(" ");
        for (typed, read) in [
            ("selvedge check", "selvedge check"),
            ("selvedge check --config F", "selvedge --config F check"),
            ("selvedge --config F check -o json", "selvedge --config F check -o json"),
            ("selvedge join --cloud C --config=F --node n", "selvedge --config F join --cloud C --node n"),
            ("selvedge logs p --tail=-1 -n x", "selvedge logs p --tail -1 -n x"),
            ("selvedge twin set d a=b --x", "selvedge twin set d a=b --x"),
            ("selvedge check --config", "selvedge check --config"),
            ("selvedge --config F check --config G", "selvedge --config F --config G check"),
            ("selvedge twin set d -- --config F", "selvedge twin set d -- --config F"),
        ] {
            assert_eq!(first(typed), read, "{typed}");
        }
    }
}
