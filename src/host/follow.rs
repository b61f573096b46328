//! Reads a container's log as the runtime writes it (`time stream P|F text`),
//! from the last lines on, and waits for more by inotify. However long a line
//! is, only a piece of it is held.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use smol::Async;

use super::beneath;

/// Bytes read at a time; the runtime cuts lines at 16 KiB, too.
const PIECE: usize = 16 << 10;
/// Time, stream and tag of a line are not longer, bytes.
const HEAD: usize = 128;

/// A log being read.
pub struct Follower {
    path: PathBuf,
    file: BufReader<File>,
    /// The line in the file that is not read to its end.
    begun: Option<Tag>,
    /// The file that has the name by now; the old one is read to its end first.
    next: Option<File>,
    watch: Option<Async<OwnedFd>>,
}

/// What the runtime says of a line in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    /// The container's line ends with it.
    Full,
    /// The container's line goes on in the next.
    Partial,
}

/// A line of the container, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What the container wrote, without the line's end. It may be no text.
    pub bytes: Vec<u8>,
    /// The line ends here.
    pub is_last: bool,
}

impl Follower {
    /// Opens a log; with `tail`, only its last lines are read.
    pub fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut file = beneath::open_log(path)?;
        if let Some(tail) = tail {
            let start = start_of_tail(&file, tail)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let file = BufReader::with_capacity(PIECE, file);
        Ok(Self { path: path.to_owned(), file, begun: None, next: None, watch: None })
    }

    /// The next line or piece of one; `None` at the end, for now.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.piece_here()? {
                return Ok(Some(piece));
            }
            let Some(next) = self.next.take() else { return Ok(None) };
            self.file = BufReader::with_capacity(PIECE, next);
            self.begun = None;
        }
    }

    /// The next piece in the file that is open.
    fn piece_here(&mut self) -> io::Result<Option<Piece>> {
        let mut raw = Vec::new();
        let length = (&mut self.file).take(PIECE as u64).read_until(b'\n', &mut raw)?;
        let ends = raw.last() == Some(&b'\n');
        if !ends && length < PIECE {
            // Half written: read it again when there is more.
            self.go_back(length)?;
            return Ok(None);
        }
        raw.truncate(length - usize::from(ends));
        let (tag, start) = match self.begun {
            Some(tag) => (tag, 0),
            None => head(&raw),
        };
        self.begun = (!ends).then_some(tag);
        raw.drain(..start);
        Ok(Some(Piece { bytes: raw, is_last: ends && tag == Tag::Full }))
    }

    fn go_back(&mut self, bytes: usize) -> io::Result<()> {
        self.file.seek_relative(-i64::try_from(bytes).unwrap_or(0))
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

    /// Finds the file that has the name by now.
    fn renew(&mut self) -> io::Result<()> {
        let now = match beneath::open_log(&self.path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if !beneath::is_same(self.file.get_ref(), &now)? {
            self.next = Some(now);
        }
        Ok(())
    }
}

/// Tag of a line in the file, of which at least [`HEAD`] bytes or all are there,
/// and where the text begins.
fn head(line: &[u8]) -> (Tag, usize) {
    let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let second = spaces.nth(1);
    let text = spaces.next().map_or(line.len(), |third| third + 1);
    let is_partial = second.is_some_and(|at| line[at + 1..].starts_with(b"P"));
    (if is_partial { Tag::Partial } else { Tag::Full }, text)
}

/// Where the last so many lines of the container begin, sought from the end on.
fn start_of_tail(file: &File, lines: usize) -> io::Result<u64> {
    let mut block = vec![0; PIECE];
    let mut position = file.metadata()?.len();
    let (mut found, mut end) = (0, None);
    // Whether the line from `start` to `end` is the last of those not wanted.
    let mut is_before = |start: u64, end: u64| -> io::Result<bool> {
        let is_full = tag_at(file, start, end)? == Tag::Full;
        found += usize::from(is_full);
        Ok(is_full && found > lines)
    };
    while position > 0 {
        let length = PIECE.min(usize::try_from(position).unwrap_or(PIECE));
        position -= length as u64;
        file.read_exact_at(&mut block[..length], position)?;
        let newlines = block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        for newline in newlines.map(|(at, _)| position + at as u64) {
            if let Some(end) = end.replace(newline)
                && is_before(newline + 1, end)?
            {
                return Ok(end + 1);
            }
        }
    }
    match end {
        Some(end) if is_before(0, end)? => Ok(end + 1),
        Some(_) | None => Ok(0),
    }
}

fn tag_at(file: &File, start: u64, end: u64) -> io::Result<Tag> {
    let mut head = [0; HEAD];
    let length = HEAD.min(usize::try_from(end - start).unwrap_or(HEAD));
    file.read_exact_at(&mut head[..length], start)?;
    Ok(self::head(&head[..length]).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A log with this content, as it is read to its end.
    fn read(name: &str, content: &[u8], tail: Option<usize>) -> Vec<Piece> {
        let path = std::env::temp_dir().join(format!("selvedge-follow-{name}-{}", std::process::id()));
        std::fs::write(&path, content).expect("room");
        let mut follower = Follower::open(&path, tail).expect("it is there");
        let pieces = std::iter::from_fn(|| follower.next_piece().expect("it reads")).collect();
        std::fs::remove_file(path).expect("it is ours");
        pieces
    }

    /// What was read, as it is printed.
    fn bytes(pieces: &[Piece]) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend_from_slice(&piece.bytes);
            all.extend(piece.is_last.then_some(b'\n'));
        }
        all
    }

    /// The lines of it; one that does not end has `~` behind it.
    fn lines(pieces: &[Piece]) -> Vec<String> {
        let text = String::from_utf8(bytes(pieces)).expect("text");
        text.split_inclusive('\n').map(|line| line.strip_suffix('\n').map_or(format!("{line}~"), str::to_owned)).collect()
    }

    #[test]
    fn partial_lines_are_joined_and_the_tail_is_the_end() {
        let content = b"t stdout F one\nt stdout P tw\nt stdout F o\nt stderr F three\nt stdout F hal";
        let all = |tail| lines(&read("joined", content, tail));
        assert_eq!(all(None), ["one", "two", "three"]);
        assert_eq!(all(Some(2)), ["two", "three"]);
        assert_eq!(all(Some(1)), ["three"]);
        assert_eq!(all(Some(3)), all(None));
        assert_eq!(all(Some(usize::MAX)), all(None));
        assert!(all(Some(0)).is_empty());
        assert_eq!(lines(&read("unfinished", b"t stdout F one\nt stdout P tw\n", Some(1))), ["one", "tw~"]);
        assert!(read("empty", b"", Some(3)).is_empty());
        assert_eq!(lines(&read("odd", b"\n\nx\n", None)), ["", "", ""]);
    }

    #[test]
    fn a_line_however_long_is_read_in_pieces() {
        // Two bytes a character, so that pieces would cut one.
        let long = "\u{e9}".repeat(10 << 20);
        let content = format!("t stdout F first\nt stdout F x{long}\nt stdout P {long}\nt stdout F end\nt stdout F last\n");
        for (tail, wanted) in [(None, 4), (Some(3), 3), (Some(2), 2), (Some(1), 1)] {
            let pieces = read("long", content.as_bytes(), tail);
            assert!(pieces.iter().all(|piece| piece.bytes.len() <= PIECE));
            let lines = lines(&pieces);
            let all = ["first".to_owned(), format!("x{long}"), format!("{long}end"), "last".to_owned()];
            assert!(lines == all[all.len() - wanted..], "{tail:?}: {:?}", lines.iter().map(String::len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_text_is_read_as_it_is() {
        let odd: Vec<u8> = (0..3 * PIECE).map(|at| [0x80, 0, 0x1b, b' ', 0xc3][at % 5]).collect();
        for tail in [None, Some(1)] {
            let content = [b"t stdout P ", &odd[..], b"\nt stdout F \xff\n"].concat();
            let pieces = read("bytes", &content, tail);
            assert!(bytes(&pieces) == [&odd[..], b"\xff\n"].concat());
        }
    }

    #[test]
    fn the_rest_of_a_line_comes_when_it_is_written() {
        let path = std::env::temp_dir().join(format!("selvedge-follow-rest-{}", std::process::id()));
        let mut file = File::create(&path).expect("a file");
        write!(file, "t stdout F {}", "x".repeat(PIECE)).expect("room");
        let mut follower = Follower::open(&path, Some(5)).expect("it is there");
        let mut next = || follower.next_piece().expect("it reads").map(|piece| (piece.bytes.len(), piece.is_last));
        assert_eq!((next(), next()), (Some((PIECE - 11, false)), None));
        writeln!(file, "y").expect("room");
        assert_eq!((next(), next()), (Some((12, true)), None));
        std::fs::remove_file(path).expect("it is ours");
    }
    #[test]
    fn a_rotated_log_is_read_to_its_end_and_goes_on_in_the_new_file() {
        let dir = std::env::temp_dir().join(format!("selvedge-follow-rotated-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("c")).expect("a directory");
        let path = dir.join("c/0.log");
        let mut old = File::create(&path).expect("a file");
        writeln!(old, "t stdout F one").expect("room");
        let mut follower = Follower::open(&path, None).expect("it is there");
        let mut next = || {
            smol::block_on(follower.grown()).expect("it is watched");
            std::iter::from_fn(|| follower.next_piece().expect("it reads")).collect::<Vec<_>>()
        };
        assert_eq!(bytes(&next()), b"one\n");
        writeln!(old, "t stdout F two").expect("room");
        std::fs::rename(&path, dir.join("c/0.log.1")).expect("it is ours");
        std::fs::write(&path, "t stdout F three\n").expect("room");
        assert_eq!(bytes(&next()), b"two\nthree\n");
        std::fs::remove_dir_all(dir).expect("it is ours");
    }
}
