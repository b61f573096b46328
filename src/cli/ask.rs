//! A question to a running program of ours, on its local socket.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::{Exit, Failure};
use crate::host::socket;

/// Who is asked, for people when nobody answers.
pub struct Asked {
    /// What it is.
    pub name: &'static str,
    /// What starts it.
    pub start: &'static str,
}

impl Asked {
    /// Asks what has one answer.
    ///
    /// # Errors
    ///
    /// Nobody answers, or the answer is an error.
    pub fn one(&self, socket: &Path, question: &Value) -> Result<Value, Failure> {
        let mut answer = None;
        self.ask(socket, question, |value| {
            answer = Some(value.clone());
            Ok(())
        })?;
        answer.ok_or_else(|| Failure(Exit::Unreachable, format!("{}: the {} ended before it answered", socket.display(), self.name)))
    }

    /// Asks and hands every line of the answer over.
    pub fn ask(&self, socket: &Path, question: &Value, mut each: impl FnMut(&Value) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut failure = None;
        let asked = smol::block_on(socket::ask(socket, &question.to_string(), |answer| {
            let answer: Value = serde_json::from_str(answer)?;
            let result = match answer["error"].as_str() {
                Some(why) => Err(Failure::new(why)),
                None => each(&answer),
            };
            result.map_err(|why| {
                failure = Some(why);
                io::ErrorKind::Other.into()
            })
        }));
        match (failure, asked) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(why)) => Err(Failure(Exit::Unreachable, self.unreachable(socket, &why))),
        }
    }

    fn unreachable(&self, socket: &Path, why: &io::Error) -> String {
        let Self { name, start } = self;
        let hint = if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            format!("the {name} is not running: {start}")
        } else if why.kind() == io::ErrorKind::PermissionDenied {
            "only root and members of group 'selvedge' may ask: use sudo, or usermod -aG selvedge USER".to_owned()
        } else {
            format!("the {name} went away")
        };
        format!("{}: {why}: {hint}", socket.display())
    }
}
