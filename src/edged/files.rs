//! A container's files on this machine, apart from volumes: log directory and
//! links, /etc/hosts, last words. Blocking; run off the loop's thread.
//!
//! Containers reach some of them, so below the directories of the configuration
//! no link is followed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};

use crate::host::beneath::{self, Dir, at};
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

/// How far below a directory of its own the agent has a file for last words,
/// `UID/containers/NAME/NUMBER`.
const WORDS_DEPTH: usize = 4;

/// Makes a directory below another and those between; those that are there stay
/// as they are.
pub(super) fn directory(base: &Path, path: &Path, mode: u32) -> io::Result<Dir> {
    let (base, rest) = Dir::base(base, path)?;
    base.make_dir(rest, mode)
}

/// Writes a managed /etc/hosts. In place: running containers have this very
/// file mounted.
pub(super) fn hosts(root: &Path, path: &Path, content: &str) -> io::Result<()> {
    let (above, name) = parent(root, path)?;
    let written = match above.write(name) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => above.create(name, 0o644)?.write_all(content.as_bytes()),
        file => rewrite(&mut file?, content.as_bytes()),
    };
    at(path, written)
}

/// A container may have made it as long as it likes.
fn rewrite(file: &mut File, content: &[u8]) -> io::Result<()> {
    let mut there = Vec::new();
    file.take(content.len() as u64 + 1).read_to_end(&mut there)?;
    if there != content {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(content)?;
        rustix::fs::fchmod(&*file, Mode::from_raw_mode(0o644))?;
    }
    Ok(())
}

/// Makes the file for a container's last words, writable for whoever runs in it.
pub(super) fn termination_log(root: &Path, path: &Path) -> io::Result<()> {
    let (above, name) = parent(root, path)?;
    above.remove_tree(name)?;
    above.create(name, 0o666).map(drop)
}

/// The directory something of a pod is in, made when missing, and its name.
fn parent<'a>(root: &Path, path: &'a Path) -> io::Result<(Dir, &'a OsStr)> {
    let above = directory(root, path.parent().unwrap_or(root), 0o750)?;
    Ok((above, path.file_name().unwrap_or_default()))
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
    let links = directory(directory_of_links, directory_of_links, 0o755)?;
    links.remove_file(name)?;
    links.symlink(log, name)
}

/// Removes a directory below another and all in it, unless something is mounted
/// there.
pub(super) fn remove_tree(base: &Path, path: &Path) -> io::Result<()> {
    present(Dir::open(base))?.map_or(Ok(()), |dir| dir.remove_tree(path.strip_prefix(base).unwrap_or(path)))
}

/// `None` for what is not there.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(cause) if beneath::is_absent(&cause) => Ok(None),
        other => other.map(Some),
    }
}

/// Pods that have a directory or logs; the name is empty where there is no log
/// directory, which alone tells it. What looks like no pod's is not listed.
pub(super) fn pods(root: &Path, logs: &Path) -> Vec<(PodUid, PodKey)> {
    let named = Dir::open(logs).map(|logs| names(&logs)).unwrap_or_default().into_iter();
    let named = named.filter_map(|directory| {
        let [uid, name, namespace] = directory.rsplitn(3, '_').collect::<Vec<_>>().try_into().ok()?;
        is_uid(uid).then(|| (uid.into(), PodKey { namespace: namespace.to_owned(), name: name.to_owned() }))
    });
    let bare = Dir::open(root).and_then(|root| root.dir("pods")).map(|pods| names(&pods));
    let bare = bare
        .unwrap_or_default()
        .into_iter()
        .filter(|uid| is_uid(uid))
        .map(|uid| (uid.as_str().into(), PodKey { namespace: String::new(), name: String::new() }));
    let mut pods: BTreeMap<PodUid, PodKey> = bare.collect();
    pods.extend(named);
    pods.into_iter().collect()
}

/// Names of the directories in one; none when it cannot be read.
fn names(directory: &Dir) -> Vec<String> {
    let entries = directory.entries().unwrap_or_default().into_iter();
    entries.filter(|(_, kind)| *kind == FileType::Directory).filter_map(|(name, _)| name.into_string().ok()).collect()
}

/// The highest N of each `CONTAINER/N.log`, rotated ones included.
pub(super) fn last_logs(logs: &Dir) -> BTreeMap<String, u32> {
    let number = |container: &str| {
        let files = logs.dir(container).and_then(|container| container.entries()).unwrap_or_default();
        files.iter().filter_map(|(file, _)| file.to_str()?.split_once(".log")?.0.parse().ok()).max()
    };
    names(logs).into_iter().filter_map(|container| number(&container).map(|number| (container, number))).collect()
}

fn is_uid(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Removes a log, what was rotated from it, and the link to it.
pub(super) fn remove_log(log: &Path, link: &Path) -> io::Result<()> {
    at(link, present(fs::remove_file(link)))?;
    let Some((directory, name)) = place_of_log(log)? else { return Ok(()) };
    for old in rotated(&directory, &name)? {
        directory.remove_file(old)?;
    }
    directory.remove_file(name)
}

/// The directory of a log and its name there; `None` when there is none.
pub(super) fn place_of_log(log: &Path) -> io::Result<Option<(Dir, OsString)>> {
    let Some(name) = log.file_name() else { return Ok(None) };
    let found = beneath::split(log, beneath::LOG_DEPTH).and_then(|(base, rest)| base.dir(rest.parent().unwrap_or(Path::new(""))));
    Ok(present(found)?.map(|directory| (directory, name.to_owned())))
}

/// Links into a pod's log directory that a crash left behind.
pub(super) fn remove_links_into(links: &Path, logs: &Path) -> io::Result<()> {
    let Some(links) = present(Dir::open(links))? else { return Ok(()) };
    for (link, _) in links.entries()? {
        if links.read_link(&link).is_some_and(|target| target.starts_with(logs)) {
            links.remove_file(&link)?;
        }
    }
    Ok(())
}

/// `LOG.YYYYMMDD-HHMMSS`, oldest first.
pub(super) fn rotated(directory: &Dir, log: &OsStr) -> io::Result<Vec<OsString>> {
    let start = format!("{}.", log.to_string_lossy());
    let names = directory.entries()?.into_iter().map(|(name, _)| name);
    let mut found: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with(&start)).collect();
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
        let said = self.file.as_deref().and_then(|path| open(path, WORDS_DEPTH).ok()).map(start_of).unwrap_or_default();
        if !said.is_empty() {
            return said;
        }
        self.log.as_deref().and_then(|path| tail(path).ok()).map(|text| last_lines(&text)).unwrap_or_default()
    }
}

/// A container may have put anything here: no link is followed, no pipe waited
/// for.
fn open(path: &Path, depth: usize) -> io::Result<File> {
    let (base, rest) = beneath::split(path, depth)?;
    base.read(rest)
}

fn start_of(file: File) -> String {
    let mut bytes = Vec::new();
    // A broken read ends the message early.
    let _ = file.take(WORDS).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = open(path, beneath::LOG_DEPTH)?;
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
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("selvedge-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
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
        symlink(logs.join("web"), logs.join("link")).unwrap();
        assert_eq!(last_logs(&Dir::open(&logs).unwrap()), BTreeMap::from([("web".to_owned(), 10), ("side".to_owned(), 0)]));
        fs::remove_dir_all(logs).unwrap();
    }

    #[test]
    fn what_can_never_have_been_made_is_removed() {
        let base = std::env::temp_dir().join(format!("selvedge-files-never-{}", std::process::id()));
        fs::create_dir_all(&base).unwrap();
        for never in [base.join("n".repeat(300)), base.join("none")] {
            remove_tree(&base, &never).unwrap();
            remove_links_into(&base, &never).unwrap();
            remove_log(&never.join("c/0.log"), &never).unwrap();
            remove_log(&base.join("c").join(never.file_name().unwrap()), &base.join("link")).unwrap();
        }
        fs::remove_dir_all(base).unwrap();
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
        fs::remove_dir_all(&at).unwrap();
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
        fs::remove_dir_all(&at).unwrap();
    }

    #[test]
    fn a_link_is_never_longer_than_a_file_name() {
        let name = link_name(&"p".repeat(253), "n", "c", &"i".repeat(64));
        assert!(name.len() == NAME_MAX && name.ends_with(&format!("-{}.log", "i".repeat(64))));
    }

    #[test]
    fn a_directory_with_a_mount_below_is_not_removed() {
        let below = remove_tree(Path::new("/"), Path::new("/proc")).unwrap_err();
        assert_eq!(below.kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn what_a_container_put_in_place_of_its_files_is_not_touched() {
        let root = scratch("swapped");
        let victim = root.join("victim");
        fs::write(&victim, "untouched").unwrap();
        let (hosts_file, words) = (root.join("pods/u/etc-hosts"), root.join("pods/u/containers/c/0"));
        hosts(&root, &hosts_file, "one").unwrap();
        fs::write(&hosts_file, "x".repeat(1 << 20)).unwrap();
        hosts(&root, &hosts_file, "two").unwrap();
        assert_eq!(fs::read_to_string(&hosts_file).unwrap(), "two");
        termination_log(&root, &words).unwrap();
        for file in [&hosts_file, &words] {
            fs::remove_file(file).unwrap();
            symlink(&victim, file).unwrap();
        }
        assert!(hosts(&root, &hosts_file, "three").is_err());
        termination_log(&root, &words).unwrap();
        let mode = fs::symlink_metadata(&words).unwrap().permissions().mode();
        assert_eq!((mode, fs::read_to_string(&victim).unwrap().as_str()), (0o100_666, "untouched"));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_log_behind_a_link_is_neither_read_nor_removed() {
        let at = scratch("swapped-logs");
        let victim = at.join("victim");
        fs::create_dir_all(&victim).unwrap();
        fs::create_dir_all(at.join("logs/pod")).unwrap();
        for name in ["0.log", "0.log.20260101-000000"] {
            fs::write(victim.join(name), "T stderr F secret\n").unwrap();
        }
        symlink(&victim, at.join("logs/pod/c")).unwrap();
        let log = at.join("logs/pod/c/0.log");
        assert_eq!(LastWords { file: None, log: Some(log.clone()) }.read(), "");
        assert!(beneath::open_log(&log).is_err() && remove_log(&log, &at.join("none")).is_err());
        remove_tree(&at.join("logs"), &at.join("logs/pod")).unwrap();
        remove_log(&log, &at.join("none")).unwrap();
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 2);
        fs::remove_dir_all(&at).unwrap();
    }
}
