//! Reads a container's log as the runtime writes it (`time stream P|F text`),
//! from the last lines on, and waits for more by inotify.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use smol::Async;

use super::beneath;

/// A log being read.
pub struct Follower {
    path: PathBuf,
    file: BufReader<File>,
    partial: String,
    ready: VecDeque<String>,
    watch: Option<Async<OwnedFd>>,
}

impl Follower {
    /// Opens a log; with `tail`, only its last lines are read.
    pub fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let file = BufReader::new(beneath::open_log(path)?);
        let mut follower = Self { path: path.to_owned(), file, partial: String::new(), ready: VecDeque::new(), watch: None };
        if let Some(tail) = tail {
            let mut last = VecDeque::with_capacity(tail.min(1024));
            while let Some(line) = follower.next_line()? {
                if last.len() == tail {
                    last.pop_front();
                }
                if tail > 0 {
                    last.push_back(line);
                }
            }
            follower.ready = last;
        }
        Ok(follower)
    }

    /// The next whole line; `None` at the end, for now.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        if let Some(line) = self.ready.pop_front() {
            return Ok(Some(line));
        }
        loop {
            let mut raw = Vec::new();
            let length = self.file.read_until(b'\n', &mut raw)?;
            if length == 0 {
                return Ok(None);
            }
            if raw.last() != Some(&b'\n') {
                // Half written: read it again when it is whole.
                self.file.seek_relative(-i64::try_from(length).unwrap_or(0))?;
                return Ok(None);
            }
            let raw = String::from_utf8_lossy(&raw[..length - 1]).into_owned();
            let mut words = raw.splitn(4, ' ');
            let (_, _, tag, text) = (words.next(), words.next(), words.next(), words.next().unwrap_or_default());
            self.partial.push_str(text);
            if tag.is_none_or(|tag| !tag.starts_with('P')) {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }

    /// Waits for more; false when the log is gone. A rotated log goes on in the
    /// new file of the same name.
    pub async fn grown(&mut self) -> io::Result<bool> {
        let dir = self.path.parent().unwrap_or(Path::new("/")).to_owned();
        if self.watch.is_none() {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&watch, &dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF)?;
            self.watch = Some(Async::new(watch)?);
            return Ok(true);
        }
        let Some(watch) = &self.watch else { return Ok(false) };
        watch.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let (mut renewed, mut gone) = (false, false);
        while let Ok(event) = events.next() {
            renewed |= event.events().intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            gone |= event.events().contains(ReadFlags::DELETE_SELF);
        }
        if renewed {
            self.renew()?;
        }
        Ok(!gone)
    }

    /// Goes on with the file that has the name by now.
    fn renew(&mut self) -> io::Result<()> {
        let now = match beneath::open_log(&self.path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if !beneath::is_same(self.file.get_ref(), &now)? {
            self.file = BufReader::new(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn partial_lines_are_joined_and_the_tail_is_the_end() {
        let path = std::env::temp_dir().join(format!("selvedge-follow-{}", std::process::id()));
        let mut file = File::create(&path).expect("a file");
        write!(file, "t stdout F one\nt stdout P tw\nt stdout F o\nt stderr F three\nt stdout F hal").expect("room");
        let all = |tail| {
            let mut follower = Follower::open(&path, tail).expect("it is there");
            std::iter::from_fn(|| follower.next_line().expect("it reads")).collect::<Vec<_>>()
        };
        assert_eq!(all(None), ["one", "two", "three"]);
        assert_eq!(all(Some(2)), ["two", "three"]);
        assert!(all(Some(0)).is_empty());
        std::fs::remove_file(path).expect("it is ours");
    }
}
