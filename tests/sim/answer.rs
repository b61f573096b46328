//! A runtime that does not do what it is asked, for some of the pods.

use selvedge::node::runtime::{FailedAt, Failure, Image, Outcome, Step};

/// How a step is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Refused with a status of gRPC.
    Refused(&'static str),
    /// Done, and refused all the same.
    DoneAndRefused,
    /// Success, and nothing was done.
    WithoutEffect,
    /// Done, and gone a second later.
    ShortLived,
    /// Not at all: the call ends by its own limit.
    Silence,
}

/// When a call without an answer is given up, milliseconds.
pub const LIMIT: u64 = 120_000;

impl Answer {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let codes = [
            "NotFound",
            "AlreadyExists",
            "Unavailable",
            "Internal",
            "DeadlineExceeded",
            "Unknown",
            "InvalidArgument",
            "FailedPrecondition",
            "ResourceExhausted",
            "Unimplemented",
        ];
        let others = [Self::DoneAndRefused, Self::WithoutEffect, Self::ShortLived, Self::Silence];
        codes.map(Self::Refused).into_iter().chain(others).collect()
    }

    /// The step is carried out, whatever is said of it.
    pub fn is_done(self) -> bool {
        matches!(self, Self::DoneAndRefused | Self::ShortLived)
    }

    /// What the shell makes of it; `None`: what was done.
    pub fn result(self, step: &Step) -> Option<Result<Outcome, Failure>> {
        let failure = |at, why: &str| Err(Failure { at, message: format!("{} failed ({why}): the runtime says so", step.name()) });
        match self {
            Self::ShortLived => None,
            Self::WithoutEffect => Some(Ok(success(step))),
            Self::Refused("NotFound") if matches!(step, Step::Stop { .. } | Step::Remove { .. }) => {
                Some(Ok(Outcome::NotFound(format!("{} failed (NotFound): no such thing", step.name()))))
            }
            Self::Refused("Unavailable") => Some(failure(FailedAt::Runtime, "Unavailable")),
            Self::Refused(code) => Some(failure(failed_at(step), code)),
            Self::DoneAndRefused => Some(failure(failed_at(step), "DeadlineExceeded")),
            Self::Silence => Some(failure(failed_at(step), "no answer within 120 s")),
        }
    }
}

fn success(step: &Step) -> Outcome {
    match step {
        Step::Prepare(_) => Outcome::Prepared([].into()),
        Step::EnsureImage(_) => Outcome::Image(Image { reference: String::new(), uid: None, username: String::new(), pulled: None, size: 0 }),
        Step::MakeSandbox(_) => Outcome::Sandbox("".into()),
        Step::Start(_) => Outcome::Container("".into()),
        Step::PostStart { .. } | Step::Stop { .. } | Step::Remove { .. } | Step::Empty | Step::Look | Step::Clean { .. } => Outcome::Done,
    }
}

fn failed_at(step: &Step) -> FailedAt {
    match step {
        Step::Prepare(_) => FailedAt::Volume,
        Step::EnsureImage(_) => FailedAt::ImagePull,
        Step::MakeSandbox(_) => FailedAt::Sandbox,
        Step::Start(_) => FailedAt::Create,
        Step::PostStart { .. } => FailedAt::PostStart,
        Step::Look => FailedAt::Runtime,
        Step::Stop { .. } | Step::Remove { .. } | Step::Empty | Step::Clean { .. } => FailedAt::Stop,
    }
}
