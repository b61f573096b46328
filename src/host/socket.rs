//! The local control socket: one JSON line in, one or more lines out, or bytes. It knows
//! who is asking, not what.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use futures_lite::io::BufReader;
use futures_lite::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, StreamExt, future};
use smol::Timer;
use smol::net::unix::{UnixListener, UnixStream};

use super::beneath;

/// Longest question; Kubernetes' objects, 1.5 MiB at most, fit in.
const LINE: u64 = 2 << 20;
/// How long somebody may take to ask, or to read an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// A door within the process: who is sent here is served as if he had connected
/// to a socket.
pub type Visitors = smol::channel::Sender<UnixStream>;

/// One who asks.
pub struct Conversation {
    stream: UnixStream,
    /// The question.
    pub line: String,
}

/// Opens the socket, for root and for `group` if there is one. A socket that is
/// left over is removed; one that answers is somebody else's.
pub fn listen(path: &Path, group: &str) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another selvedge is running"));
    }
    let _ = std::fs::remove_file(path);
    if let Some(dir) = path.parent().filter(|dir| !dir.is_dir()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    let listener = UnixListener::bind(path)?;
    beneath::restrict_socket(path, 0o660, group_id(group))?;
    Ok(listener)
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))?.get(2)?.parse().ok()
}

/// Waits for the question of one who connected.
pub async fn question(stream: UnixStream) -> io::Result<Conversation> {
    let read = async {
        let mut line = String::new();
        BufReader::new(stream.clone().take(LINE)).read_line(&mut line).await?;
        Ok(line)
    };
    let line = future::or(read, timed_out()).await?;
    Ok(Conversation { stream, line })
}

impl Conversation {
    /// Whether it is root who asks, or who we are ourselves.
    pub fn may_write(&self) -> bool {
        let peer = rustix::net::sockopt::socket_peercred(&self.stream).ok();
        peer.is_some_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
    }

    /// Says one line.
    pub async fn say(&mut self, line: &str) -> io::Result<()> {
        self.send(format!("{line}\n").as_bytes()).await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        future::or(async { self.stream.write_all(bytes).await }, timed_out()).await
    }
}

async fn timed_out<T>() -> io::Result<T> {
    Timer::after(LIMIT).await;
    Err(io::ErrorKind::TimedOut.into())
}

/// Asks the agent; hands every line of the answer over as it comes.
pub async fn ask(path: &Path, question: &str, mut each: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut lines = asked(path, question).await?.lines();
    while let Some(line) = lines.next().await {
        each(&line?)?;
    }
    Ok(())
}

/// Asks the agent for bytes: `begin` is given the first line of the answer, `each`
/// what follows, as it comes.
pub async fn ask_bytes(
    path: &Path,
    question: &str,
    begin: impl FnOnce(&str) -> io::Result<()>,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut answer = asked(path, question).await?;
    let mut line = String::new();
    answer.read_line(&mut line).await?;
    begin(&line)?;
    loop {
        let bytes = answer.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(());
        }
        each(bytes)?;
        let length = bytes.len();
        answer.consume(length);
    }
}

async fn asked(path: &Path, question: &str) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    Ok(BufReader::new(stream))
}
