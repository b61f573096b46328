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
            let result = unless_error(answer).and_then(|answer| each(&answer));
            result.map_err(|why| told(&mut failure, why))
        }));
        self.ended(socket, failure, asked)
    }

    /// Asks and hands the bytes of the answer over as they come.
    pub fn ask_bytes(&self, socket: &Path, question: &Value, each: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), Failure> {
        let mut failure = None;
        let begin = |answer: &str| unless_error(answer).map(drop).map_err(|why| told(&mut failure, why));
        let asked = smol::block_on(socket::ask_bytes(socket, &question.to_string(), begin, each));
        self.ended(socket, failure, asked)
    }

    fn ended(&self, socket: &Path, failure: Option<Failure>, asked: io::Result<()>) -> Result<(), Failure> {
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

/// An answer that is no error.
fn unless_error(answer: &str) -> Result<Value, Failure> {
    let answer: Value = serde_json::from_str(answer).map_err(|why| Failure::new(format!("the answer is not understood: {why}")))?;
    match answer["error"].as_str() {
        Some(why) => Err(Failure::new(why)),
        None => Ok(answer),
    }
}

/// Keeps a failure, and ends the conversation.
fn told(failure: &mut Option<Failure>, why: Failure) -> io::Error {
    *failure = Some(why);
    io::ErrorKind::Other.into()
}
