//! A container's files on this machine, apart from volumes: log directory and
//! links, /etc/hosts, last words. Blocking; run off the loop's thread.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::node::ids::{PodKey, PodUid};

/// Bytes of a termination message that count.
const WORDS: u64 = 4096;
/// Of a log that stands in for one: bytes and lines that count, and how much of
/// the file is looked at for them.
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;
const LOG_TAIL: u64 = 64 << 10;
/// Longest file name.
const NAME_MAX: usize = 255;

/// Says which path an error is about.
pub(super) fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|cause| io::Error::new(cause.kind(), format!("'{}': {cause}", path.display())))
}

/// Makes a directory and those above it; those that are there stay as they are.
pub(super) fn directory(path: &Path, mode: u32) -> io::Result<()> {
    at(path, DirBuilder::new().recursive(true).mode(mode).create(path))
}

/// Writes a managed /etc/hosts. In place: running containers have this very
/// file mounted.
pub(super) fn hosts(path: &Path, content: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content.as_bytes()) {
        return Ok(());
    }
    at(path, parent(path).and_then(|()| fs::write(path, content)).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644))))
}

/// Makes the file for a container's last words, writable for whoever runs in it.
pub(super) fn termination_log(path: &Path) -> io::Result<()> {
    let make = || File::create(path).and_then(|file| file.set_permissions(Permissions::from_mode(0o666)));
    at(path, parent(path).and_then(|()| make()))
}

fn parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |above| directory(above, 0o750))
}

/// `POD_NAMESPACE_CONTAINER-ID.log`, the front cut when that is too long for a
/// file name.
pub(super) fn link_name(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let end = format!("-{id}.log");
    let mut name = format!("{pod}_{namespace}_{container}");
    name.truncate(NAME_MAX.saturating_sub(end.len()));
    name + &end
}

/// Links a container's log where log shippers look for it.
pub(super) fn link_log(directory_of_links: &Path, name: &str, log: &Path) -> io::Result<()> {
    directory(directory_of_links, 0o755)?;
    let link = directory_of_links.join(name);
    remove_file(&link)?;
    at(&link, symlink(log, &link))
}

/// Removes a file; one that is not there is removed.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    at(path, or_absent(fs::remove_file(path)))
}

/// Removes a directory and all in it, unless something is mounted below.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    if let Some(mount) = mounts_below(path)?.first() {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("'{}': something is mounted at '{}'", path.display(), mount.display())));
    }
    at(path, or_absent(fs::remove_dir_all(path)))
}

fn or_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    // The fifth field; a space in it is written \040.
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(point.replace("\\040", " ")));
    Ok(points.filter(|point| point.starts_with(path)).collect())
}

/// Pods that have a directory or logs; the name is empty where there is no log
/// directory, which alone tells it. What looks like no pod's is not listed.
pub(super) fn pods(root: &Path, logs: &Path) -> Vec<(PodUid, PodKey)> {
    let named = names(logs).filter_map(|directory| {
        let [uid, name, namespace] = directory.rsplitn(3, '_').collect::<Vec<_>>().try_into().ok()?;
        is_uid(uid).then(|| (uid.into(), PodKey { namespace: namespace.to_owned(), name: name.to_owned() }))
    });
    let bare = names(&root.join("pods")).filter(|uid| is_uid(uid)).map(|uid| (uid.as_str().into(), PodKey { namespace: String::new(), name: String::new() }));
    let mut pods: BTreeMap<PodUid, PodKey> = bare.collect();
    pods.extend(named);
    pods.into_iter().collect()
}

/// Names of the directories in one; none when it cannot be read.
fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).filter_map(|entry| entry.file_name().into_string().ok())
}

/// The highest N of each `CONTAINER/N.log`, rotated ones included.
pub(super) fn last_logs(logs: &Path) -> BTreeMap<String, u32> {
    let number = |container: &str| {
        let files = fs::read_dir(logs.join(container)).into_iter().flatten().flatten();
        files.filter_map(|file| file.file_name().to_str()?.split_once(".log")?.0.parse().ok()).max()
    };
    names(logs).filter_map(|container| number(&container).map(|number| (container, number))).collect()
}

fn is_uid(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Removes a log, what was rotated from it, and the link to it.
pub(super) fn remove_log(log: &Path, link: &Path) -> io::Result<()> {
    remove_file(link)?;
    for old in rotated(log)? {
        remove_file(&old)?;
    }
    remove_file(log)
}

/// Links into a pod's log directory that a crash left behind.
pub(super) fn remove_links_into(links: &Path, logs: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(links) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => at(links, other)?,
    };
    for entry in entries {
        let link = entry?.path();
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(logs)) {
            remove_file(&link)?;
        }
    }
    Ok(())
}

/// `LOG.YYYYMMDD-HHMMSS`, oldest first.
pub(super) fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let start = format!("{}.", name.to_string_lossy());
    let entries = match fs::read_dir(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => at(directory, other)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Where the last words of a container are.
pub(super) struct LastWords {
    /// Its termination log.
    pub(super) file: Option<PathBuf>,
    /// Its log, when that stands in for an empty file.
    pub(super) log: Option<PathBuf>,
}

impl LastWords {
    /// Reads them. What cannot be read was not said.
    pub(super) fn read(&self) -> String {
        let said = self.file.as_deref().and_then(|path| open(path).ok()).map(start_of).unwrap_or_default();
        if !said.is_empty() {
            return said;
        }
        self.log.as_deref().and_then(|path| tail(path).ok()).map(|text| last_lines(&text)).unwrap_or_default()
    }
}

/// A container may have written anything here: no link is followed, no pipe
/// waited for.
fn open(path: &Path) -> io::Result<File> {
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn start_of(file: File) -> String {
    let mut bytes = Vec::new();
    // A broken read ends the message early.
    let _ = file.take(WORDS).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = open(path)?;
    let start = file.metadata()?.len().saturating_sub(LOG_TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a log in CRI's format, `TIME STREAM P|F TEXT`.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.split(' ').nth(2).is_some_and(|tag| tag.starts_with(['P', 'F']))).collect();
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        let mut parts = line.splitn(4, ' ');
        let whole = parts.nth(2).is_some_and(|tag| tag.starts_with('F'));
        text.push_str(parts.next().unwrap_or_default());
        if whole {
            text.push('\n');
        }
    }
    let start = (text.len().saturating_sub(LOG_BYTES)..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("selvedge-files-{name}-{}", std::process::id()));
        remove_tree(&path).unwrap();
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn logs_tell_how_often_a_container_was_started() {
        let logs = std::env::temp_dir().join(format!("selvedge-files-logs-{}", std::process::id()));
        for (container, files) in [("web", &["0.log", "9.log", "10.log.20261124-060000", "x.log", "11.txt"][..]), ("side", &["0.log"]), ("none", &[])] {
            fs::create_dir_all(logs.join(container)).unwrap();
            files.iter().for_each(|file| fs::write(logs.join(container).join(file), "").unwrap());
        }
        assert_eq!(last_logs(&logs), BTreeMap::from([("web".to_owned(), 10), ("side".to_owned(), 0)]));
        assert_eq!(last_logs(Path::new("/nowhere")), BTreeMap::new());
        fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn pods_are_known_by_their_directories() {
        let base = std::env::temp_dir().join(format!("selvedge-files-pods-{}", std::process::id()));
        let uid = |last: char| format!("0f9c2c8e-3b4a-4e6f-9d53-7a1c5b2e9f0{last}");
        for directory in [uid('1'), uid('2'), "lost+found".to_owned(), "..data".to_owned()] {
            fs::create_dir_all(base.join("root/pods").join(directory)).unwrap();
        }
        fs::write(base.join("root/pods").join(uid('4')), "a file").unwrap();
        for directory in [format!("ns_web-1_{}", uid('2')), format!("ns_job_{}", uid('3')), "somebody-elses".to_owned(), format!("a_{}", uid('5'))] {
            fs::create_dir_all(base.join("logs").join(directory)).unwrap();
        }
        let key = |namespace: &str, name: &str| PodKey { namespace: namespace.into(), name: name.into() };
        let expected = [(uid('1'), key("", "")), (uid('2'), key("ns", "web-1")), (uid('3'), key("ns", "job"))];
        assert_eq!(pods(&base.join("root"), &base.join("logs")), expected.map(|(uid, key)| (PodUid::from(uid.as_str()), key)));
        assert_eq!(pods(&base.join("none"), &base.join("none")), []);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn the_end_of_a_log_joins_partial_lines_and_is_cut_at_its_front() {
        let log = "T stdout P half \nT stdout F whole\ngarbage\nT stderr F \nT stdout F end\n";
        assert_eq!(last_lines(log), "half whole\n\nend\n");
        assert_eq!(last_lines(""), "");
        let long = format!("T stdout F {}\n", "é".repeat(2000));
        assert!(last_lines(&long).len() <= LOG_BYTES && last_lines(&long).ends_with("é\n"));
        assert_eq!(last_lines(&"T stdout F x\n".repeat(200)).lines().count(), LOG_LINES);
    }

    #[test]
    fn last_words_follow_no_link_and_are_cut() {
        let at = scratch("words");
        fs::write(at.join("long"), "w".repeat(5000)).unwrap();
        symlink(at.join("long"), at.join("link")).unwrap();
        let read = |name: &str| LastWords { file: Some(at.join(name)), log: None }.read().len();
        assert_eq!((read("long"), read("link"), read("none")), (4096, 0, 0));
        remove_tree(&at).unwrap();
    }

    #[test]
    fn a_log_goes_with_what_was_moved_aside_and_its_link() {
        let at = scratch("logs");
        let (log, links) = (at.join("0.log"), at.join("links"));
        for name in ["0.log", "0.log.20260101-000000", "10.log", "1.log"] {
            fs::write(at.join(name), "").unwrap();
        }
        let name = link_name("p", "n", "c", "id");
        link_log(&links, &name, &log).unwrap();
        link_log(&links, &name, &log).unwrap();
        remove_log(&log, &links.join(&name)).unwrap();
        remove_log(&log, &links.join(&name)).unwrap();
        let left: Vec<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(fs::read_dir(&links).unwrap().next().is_none());
        remove_tree(&at).unwrap();
    }

    #[test]
    fn a_link_is_never_longer_than_a_file_name() {
        let name = link_name(&"p".repeat(253), "n", "c", &"i".repeat(64));
        assert!(name.len() == NAME_MAX && name.ends_with(&format!("-{}.log", "i".repeat(64))));
    }

    #[test]
    fn a_directory_with_a_mount_below_is_not_removed() {
        let below = remove_tree(Path::new("/proc")).unwrap_err();
        assert_eq!(below.kind(), io::ErrorKind::ResourceBusy);
    }
}
