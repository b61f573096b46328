//! Trying something on a container: probes, and hooks, which are the same
//! things with another meaning. What a failure means is the node's matter.
//!
//! Source: pkg/probe and pkg/kubelet/lifecycle of Kubernetes, with their texts.

mod dial;
mod get;
mod health;

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use smol::Timer;

use self::dial::dial;
use self::get::{Get, NoAnswer};
use super::Shell;
use super::grpc::{Code, Error};
use crate::node::ids::ContainerId;
use crate::node::input::Input;
use crate::node::runtime::{Action, Probe, ProbeResult};
use crate::wire::url::Url;

/// What is read of an answer's body, and kept of a command's output, bytes.
const ANSWER: usize = 10 << 10;
/// How much longer than its limit a command may take: the runtime ends it, and
/// needs a moment for that.
const EXEC_SLACK: Duration = Duration::from_secs(30);

/// What something is tried for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Probe,
    Hook,
}

impl Purpose {
    /// The `User-Agent` that servers see.
    const fn agent(self) -> &'static str {
        match self {
            Self::Probe => "kube-probe/1.36",
            Self::Hook => "kube-lifecycle/1.36",
        }
    }
}

/// Runs a probe and answers it.
pub(super) async fn run(shell: Rc<Shell>, probe: Probe) {
    let result = {
        let _turn = shell.probes.acquire().await;
        attempt(&shell, &probe.container, &probe.action, probe.timeout, Purpose::Probe).await
    };
    log::trace!(
        target: "edged",
        "{:?} probe of container '{}': {result:?}", probe.kind, probe.container
    );
    let Probe { pod, container, kind, .. } = probe;
    shell.tell(Input::Probed { pod, container, kind, result }).await;
}

/// Runs a hook.
pub(super) async fn hook(shell: &Shell, container: &ContainerId, hook: &Action, limit: Duration) -> ProbeResult {
    attempt(shell, container, hook, limit, Purpose::Hook).await
}

async fn attempt(shell: &Shell, container: &ContainerId, action: &Action, limit: Duration, purpose: Purpose) -> ProbeResult {
    match action {
        Action::Exec(command) => exec(shell, container, command, limit, purpose).await,
        Action::Tcp { host, port } => match within(limit, dial(host, *port)).await {
            Some(Ok(_)) => ProbeResult::Success,
            Some(Err(why)) => ProbeResult::Failure(why),
            None => ProbeResult::Failure(dial::timed_out(host, *port)),
        },
        Action::Http { host, port, path, tls, headers } => {
            let url = Url::new(*tls, host, *port, path);
            match purpose {
                Purpose::Probe => probe_by_get(url, headers, limit).await,
                Purpose::Hook => hook_by_get(container, url, headers, limit).await,
            }
        }
        Action::Grpc { host, port, service } => health::check(host, *port, service, limit).await,
        Action::Sleep(time) => {
            Timer::after((*time).min(limit)).await;
            ProbeResult::Success
        }
    }
}

/// What comes of `work`; `None` when it takes longer than the limit.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::after(limit).await;
        None
    };
    or(async { Some(work.await) }, late).await
}

/// Any status from 200 to 399 will do; one that redirects elsewhere is told.
async fn probe_by_get(url: Url, headers: &[(String, String)], limit: Duration) -> ProbeResult {
    let mut get = Get::new(url, headers, Purpose::Probe.agent());
    let answer = match within(limit, get.run()).await {
        None => Err(get.timed_out()),
        Some(answer) => answer,
    };
    match answer {
        Ok(answer) => match answer.status {
            200..=299 => ProbeResult::Success,
            300..=399 => ProbeResult::Warning(format!("Probe terminated redirects, Response body: {}", String::from_utf8_lossy(&answer.body))),
            status => ProbeResult::Failure(format!("HTTP probe failed with statuscode: {status}")),
        },
        Err(NoAnswer::Failed(why) | NoAnswer::NoTls(why)) => ProbeResult::Failure(why),
        // As kubelet has it: the server is there, and what it says is not known.
        Err(NoAnswer::NoBody(why) | NoAnswer::Unable(why)) => ProbeResult::Unknown(why),
    }
}

/// Any answer will do. A server that has no TLS is asked without, and is not told
/// who may ask.
async fn hook_by_get(container: &ContainerId, mut url: Url, headers: &[(String, String)], limit: Duration) -> ProbeResult {
    let mut get = Get::new(url.clone(), headers, Purpose::Hook.agent());
    let both = async {
        let answer = get.run().await;
        if !matches!(answer, Err(NoAnswer::NoTls(_))) {
            return answer;
        }
        log::info!(
            target: "edged",
            "hook of container '{container}': {url} has no TLS, it is asked without"
        );
        url.tls = false;
        let is_open = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("authorization");
        let open: Vec<_> = headers.iter().filter(is_open).cloned().collect();
        Get::new(url, &open, Purpose::Hook.agent()).run().await
    };
    match within(limit, both).await.unwrap_or_else(|| Err(get.timed_out())) {
        Ok(_) | Err(NoAnswer::NoBody(_)) => ProbeResult::Success,
        Err(NoAnswer::Failed(why) | NoAnswer::NoTls(why)) => ProbeResult::Failure(why),
        Err(NoAnswer::Unable(why)) => ProbeResult::Unknown(why),
    }
}

async fn exec(shell: &Shell, container: &ContainerId, command: &[String], limit: Duration, purpose: Purpose) -> ProbeResult {
    let late = || {
        let (command, seconds) = (command.join(" "), limit.as_secs().max(1));
        let why = format!("command timed out: {command:?} timed out after {seconds}s");
        ProbeResult::Failure(why)
    };
    let patience = limit.saturating_add(EXEC_SLACK);
    match within(patience, shell.client.exec_sync(container.as_str(), command, limit)).await {
        None => late(),
        Some(Ok(answer)) if answer.exit_code == 0 => ProbeResult::Success,
        Some(Ok(answer)) => {
            let output: Vec<u8> = answer.stdout.into_iter().chain(answer.stderr).take(ANSWER).collect();
            let output = String::from_utf8_lossy(&output);
            ProbeResult::Failure(exited(command, answer.exit_code, output.trim_end(), purpose))
        }
        Some(Err(cause)) if is_late(&cause) => late(),
        Some(Err(cause)) => ProbeResult::Unknown(without_exec_id(&cause.to_string())),
    }
}

/// A probe shows what its command printed; one that printed nothing, and a hook,
/// how it ended.
fn exited(command: &[String], code: i32, output: &str, purpose: Purpose) -> String {
    match (purpose, output) {
        (Purpose::Probe, "") => format!("exit code {code}"),
        (Purpose::Probe, output) => output.to_owned(),
        (Purpose::Hook, output) => {
            format!("command '{}' exited with {code}: {output}", command.join(" "))
        }
    }
}

/// containerd names the exec that failed by a random id: without it the same
/// trouble has the same words each time, and is one Event that counts.
fn without_exec_id(cause: &str) -> String {
    const BEFORE: &str = "failed to start exec \"";
    const ID: usize = 64;
    let Some((before, after)) = cause.split_once(BEFORE) else { return cause.to_owned() };
    match after.split_at_checked(ID) {
        Some((id, after)) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}failed to start exec{}", after.strip_prefix('"').unwrap_or(after))
        }
        Some(_) | None => cause.to_owned(),
    }
}

/// The command took too long. containerd 1.6 says so only in words.
fn is_late(cause: &Error) -> bool {
    match cause {
        Error::Refused { code, message, .. } => *code == Code::DEADLINE_EXCEEDED || (message.contains("timeout") && message.contains("exceeded")),
        Error::TimedOut { .. } => true,
        Error::Unreachable { .. } | Error::Broken { .. } | Error::Garbled { .. } => false,
    }
}

#[cfg(test)]
mod tests;
