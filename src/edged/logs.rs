//! Log files of containers are moved aside when they have grown too large. The
//! runtime writes them and is told to begin anew. Old ones are not compressed:
//! that costs a device more than it saves, since readers of old logs are rare
//! and the number of files is bounded anyway.
//!
//! Sizes are looked at once a minute, by one stat for each running container;
//! nothing wakes while none runs. The price is that a container which writes
//! very fast gets past its limit by what it writes in a minute.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use smol::Timer;
use time::OffsetDateTime;

use super::{Shell, files};
use crate::host::beneath::Dir;
use crate::host::clock;
use crate::node::ids::ContainerId;

/// Between looks.
const PERIOD: Duration = Duration::from_secs(60);

/// Keeps the logs small for as long as the shell lives.
pub(super) async fn watch(shell: Rc<Shell>) {
    loop {
        if !shell.known.borrow().has_logs() {
            shell.logging.asked().await;
            continue;
        }
        Timer::after(PERIOD).await;
        let (logs, limit) = (shell.known.borrow().logs(), shell.config.log_max_size);
        let grown = shell.on_disk(move || grown(logs, limit)).await;
        for (container, log) in grown {
            move_aside(&shell, &container, &log).await;
        }
    }
}

fn grown(mut logs: Vec<(ContainerId, PathBuf)>, limit: u64) -> Vec<(ContainerId, PathBuf)> {
    // What cannot be looked at has not grown.
    logs.retain(|(_, log)| size(log).is_ok_and(|size| size > limit));
    logs
}

fn size(log: &Path) -> io::Result<u64> {
    let (directory, name) = place(log)?;
    let stat = directory.stat(name)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

fn place(log: &Path) -> io::Result<(Dir, OsString)> {
    Ok(files::place_of_log(log)?.ok_or(io::ErrorKind::NotFound)?)
}

/// Moves the log of one container aside, whatever its size.
pub(super) async fn rotate(shell: &Shell, container: &ContainerId) {
    match shell.client.container_status(&container.as_str().into()).await {
        Ok(answer) => move_aside(shell, container, Path::new(&answer.status.unwrap_or_default().log_path)).await,
        Err(cause) if cause.is_not_found() => {}
        Err(cause) => shell.odd(&format!("log of container '{container}' stays"), &cause),
    }
}

async fn move_aside(shell: &Shell, container: &ContainerId, log: &Path) {
    let (from, keep) = (log.to_owned(), usize::try_from(shell.config.log_max_files).unwrap_or(usize::MAX));
    let work = move || {
        let (directory, name) = place(&from)?;
        prune(&directory, &name, keep.saturating_sub(2))?;
        let old = name_of_old(&name, calendar());
        directory.rename(&name, &old)?;
        Ok::<_, io::Error>((directory, old, name))
    };
    let (directory, old, name) = match shell.on_disk(work).await {
        Ok(moved) => moved,
        Err(cause) => return shell.odd(&format!("log of container '{container}' stays"), &cause),
    };
    if let Err(cause) = shell.client.reopen_container_log(&container.as_str().into()).await {
        if let Err(worse) = shell.on_disk(move || directory.rename(old, name)).await {
            shell.odd("log could not be moved back", &worse);
        }
        return shell.odd(&format!("log of container '{container}' stays"), &cause);
    }
    log::debug!(target: "edged", "log of container '{container}' moved aside");
}

/// Removes the oldest beyond `keep`.
fn prune(directory: &Dir, log: &OsStr, keep: usize) -> io::Result<()> {
    let old = files::rotated(directory, log)?;
    old[..old.len().saturating_sub(keep)].iter().try_for_each(|name| directory.remove_file(name))
}

/// `LOG.YYYYMMDD-HHMMSS`, as kubelet has it, so log shippers know them.
fn name_of_old(log: &OsStr, at: OffsetDateTime) -> OsString {
    let mut name = log.to_owned();
    name.push(format!(".{:04}{:02}{:02}-{:02}{:02}{:02}", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second()));
    name
}

fn calendar() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(clock::calendar_millis() / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_log_is_named_by_the_second() {
        let at = OffsetDateTime::from_unix_timestamp(1_767_225_661).unwrap();
        assert_eq!(name_of_old(OsStr::new("0.log"), at), "0.log.20260101-000101");
    }
}
