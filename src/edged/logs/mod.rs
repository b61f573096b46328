//! Log files of running containers are rotated when they have grown too large:
//! moved aside, and the runtime is told to begin a new one. Of those that were
//! moved aside all but the newest are compressed, and the oldest go.
//!
//! Sizes are looked at every 10 s, sooner where a log fills faster, by one stat
//! for each running container; nothing wakes while none runs.
//!
//! Source: pkg/kubelet/logs of Kubernetes, for pace, order and names.

mod files;
mod gzip;
mod looks;

use std::path::Path;
use std::rc::Rc;

use smol::Timer;
use time::OffsetDateTime;

use self::looks::{Looks, Need};
use super::Shell;
use crate::host::clock;
use crate::node::ids::ContainerId;

/// Keeps the logs small for as long as the shell lives.
pub(super) async fn watch(shell: Rc<Shell>) {
    let mut looks = Looks::new(shell.config.log_max_size);
    loop {
        if !shell.known.borrow().has_logs() {
            shell.logging.asked().await;
            continue;
        }
        Timer::after(looks.pause()).await;
        let logs = shell.known.borrow().logs();
        // On this thread: to wake another for so little would cost more.
        let sizes = logs.iter().map(|(container, log)| (container.clone(), size(log))).collect();
        for (container, need) in looks.look(clock::monotonic(), sizes) {
            let Some((_, log)) = logs.iter().find(|(id, _)| *id == container) else { continue };
            let done = match need {
                Need::Rotate => rotate(&shell, &container, log).await,
                Need::Reopen => reopen(&shell, &container).await,
            };
            if let Err(why) = &done {
                shell.odd(&format!("log of container '{container}' is not rotated"), why);
            }
            looks.done(&container, clock::monotonic(), done.is_ok());
        }
    }
}

/// Bytes in a log; `None` when there is none. What cannot be looked at has not
/// grown. The path is the runtime's and nothing is opened: no link matters.
fn size(log: &Path) -> Option<u64> {
    match std::fs::symlink_metadata(log) {
        Ok(found) => Some(found.len()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
        Err(_) => Some(0),
    }
}

/// Why a log goes on as it is.
type Trouble = Box<dyn std::fmt::Display>;

async fn rotate(shell: &Shell, container: &ContainerId, log: &Path) -> Result<(), Trouble> {
    let keep = usize::try_from(shell.config.log_max_files).unwrap_or(usize::MAX);
    let (from, now) = (log.to_owned(), calendar());
    let moved = shell.on_disk(move || files::rotate(&from, keep, now)).await;
    let moved = moved.map_err(|why| Box::new(why) as Trouble)?;
    if let Some(why) = &moved.uncompressed {
        log::warn!(target: "edged", "old log of container '{container}' is not compressed: {why}");
    }
    let Err(why) = reopen(shell, container).await else {
        log::debug!(target: "edged", "log of container '{container}' rotated");
        return Ok(());
    };
    if let Err(worse) = shell.on_disk(move || moved.undo()).await {
        shell.odd(&format!("log of container '{container}' could not be moved back"), &worse);
    }
    Err(why)
}

/// The runtime begins a new file where the log was.
async fn reopen(shell: &Shell, container: &ContainerId) -> Result<(), Trouble> {
    let reopened = shell.client.reopen_container_log(&container.as_str().into()).await;
    reopened.map(drop).map_err(|why| Box::new(why) as Trouble)
}

fn calendar() -> OffsetDateTime {
    let seconds = clock::calendar_millis() / 1000;
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
