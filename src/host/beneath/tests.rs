//! Links, races, pipes and trees of every depth, met by `openat2` and by components.

use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::*;

/// Runs a test with `openat2` and as on a kernel that has none.
fn both(name: &str, test: impl Fn(&Dir, &Path)) {
    let ways: [(&str, Lookup); 2] = [("kernel", by_kernel), ("components", by_components)];
    for (way, lookup) in ways {
        let own = format!("selvedge-beneath-{name}-{way}-{}", std::process::id());
        let place = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(place.join("top")).unwrap();
        fs::create_dir_all(place.join("victim/sub")).unwrap();
        fs::write(place.join("victim/file"), "untouched").unwrap();
        let top = Dir { lookup, ..Dir::open(&place.join("top")).unwrap() };
        test(&top, &place);
        let victim = fs::read_to_string(place.join("victim/file")).unwrap();
        let sub = place.join("victim/sub");
        assert_eq!((victim.as_str(), fs::read_dir(sub).unwrap().count()), ("untouched", 0), "{way}");
        assert_eq!(fs::read_dir(place.join("victim")).unwrap().count(), 2, "{way}");
        fs::remove_dir_all(&place).unwrap();
    }
}

fn kind<T>(result: io::Result<T>) -> Option<Errno> {
    let why = result.err()?;
    // The number is lost when the path is put in front of the words.
    let known = [Errno::LOOP, Errno::NOTDIR, Errno::NOENT, Errno::INVAL, Errno::EXIST];
    known.into_iter().find(|errno| io::Error::from(*errno).kind() == why.kind())
}

#[test]
fn no_link_is_followed_wherever_it_stands() {
    both("links", |top, place| {
        symlink(place.join("victim"), place.join("top/out")).unwrap();
        symlink("../victim", place.join("top/near")).unwrap();
        top.make_dir("in", 0o755).unwrap();
        symlink(place.join("victim/file"), place.join("top/in/link")).unwrap();
        for path in ["out", "near", "out/sub", "near/file", "in/link"] {
            assert!(top.dir(path).is_err() && top.read(path).is_err() && top.write(path).is_err());
        }
        assert!(top.make_dir("out/new", 0o755).is_err() && top.make_dir("out", 0o755).is_err());
        assert!(top.create("out/new", 0o644).is_err() && top.create("in/link", 0o644).is_err());
        assert!(top.remove_file("out/file").is_err() && top.rename("near/file", "moved").is_err());
        assert!(top.stat("out/file").is_err() && top.remove_tree("near/sub").is_err());
        let said = top.read("in/link").unwrap_err().to_string();
        assert!(said.starts_with(&format!("'{}/top/in/link': ", place.display())), "{said}");
        // The link itself goes.
        top.remove_tree("out").unwrap();
        top.remove_file("near").unwrap();
        top.remove_tree("in").unwrap();
        top.remove_tree("in").unwrap();
        assert!(top.entries().unwrap().is_empty());
    });
}

#[test]
fn no_path_leads_out() {
    both("paths", |top, place| {
        for path in ["..", "../victim", "a/../../victim", "/etc"] {
            assert_eq!(kind(top.dir(path)), Some(Errno::INVAL), "{path}");
            assert_eq!(kind(top.remove_tree(path)), Some(Errno::INVAL), "{path}");
            assert_eq!(kind(top.create(path, 0o644)), Some(Errno::INVAL), "{path}");
        }
        assert_eq!(kind(top.mkdir("a/b", 0o755)), Some(Errno::INVAL));
        assert_eq!(kind(top.symlink("x", "../victim/x")), Some(Errno::INVAL));
        assert!(Dir::base(&place.join("top"), &place.join("victim")).is_err());
    });
}

#[test]
fn files_are_made_with_just_their_mode_and_pipes_are_not_waited_for() {
    both("files", |top, place| {
        let made = top.make_dir("./a/b", 0o2770).unwrap();
        write!(top.create("a/b/file", 0o606).unwrap(), "text").unwrap();
        let mode = |path: &str| fs::metadata(place.join("top").join(path)).unwrap().permissions().mode();
        assert_eq!((made.mode().unwrap(), mode("a") & 0o7777), (0o2770, 0o2770));
        assert_eq!(mode("a/b/file") & 0o7777, 0o606);
        assert_eq!(kind(top.create("a/b/file", 0o644)), Some(Errno::EXIST));
        let mut text = String::new();
        top.read("a/b/file").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let fifo = place.join("top/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        assert_eq!(kind(top.read("fifo")), Some(Errno::INVAL));
        assert_eq!(kind(top.read("a")), Some(Errno::INVAL));
        top.remove_tree("fifo").unwrap();
        assert!(top.stat("fifo").unwrap().is_none() && top.stat("none/none").unwrap().is_none());
    });
}

#[test]
fn links_within_a_volume_are_good_and_those_out_of_it_are_not() {
    both("locate", |top, place| {
        let inside = place.join("top/real/deep");
        fs::create_dir_all(&inside).unwrap();
        symlink("real/deep", place.join("top/relative")).unwrap();
        symlink(&inside, place.join("top/absolute")).unwrap();
        symlink("../real/deep/../deep", place.join("top/real/winding")).unwrap();
        symlink("../victim", place.join("top/out")).unwrap();
        symlink(place.join("victim"), place.join("top/away")).unwrap();
        symlink("/proc/self/cwd", place.join("top/magic")).unwrap();
        symlink("round", place.join("top/round")).unwrap();
        symlink("later", place.join("top/dangling")).unwrap();
        let find = |path: &str, missing| top.locate(Path::new(path), missing);
        let found = |path: &str| fs::read_link(proc_path(&find(path, None).unwrap())).unwrap();
        let inside = inside.canonicalize().unwrap();
        for path in ["real/deep", "relative", "absolute", "real/winding", "./real//deep"] {
            assert_eq!(found(path), inside, "{path}");
        }
        assert_eq!(found(""), place.join("top").canonicalize().unwrap());
        for path in ["out", "away", "out/sub", "away/file", "magic", "round", "/etc", ".."] {
            assert!(find(path, Some(0o755)).is_err(), "{path}");
        }
        assert!(find("none", None).is_err() && !place.join("top/none").exists());
        find("new/er", Some(0o750)).unwrap();
        let mode = fs::metadata(place.join("top/new/er")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o750);
        find("dangling/x", Some(0o755)).unwrap();
        assert!(place.join("top/later/x").is_dir());
    });
}

#[test]
fn only_a_socket_is_opened_to_others() {
    both("socket", |_, place| {
        let (socket, link) = (place.join("top/socket"), place.join("top/link"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        restrict_socket(&socket, 0o620, None).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o620);
        for target in [place.join("victim/file"), socket] {
            let _ = fs::remove_file(&link);
            symlink(&target, &link).unwrap();
            assert!(restrict_socket(&link, 0o666, None).is_err());
        }
        assert!(restrict_socket(&place.join("victim/file"), 0o666, None).is_err());
    });
}

#[test]
fn a_tree_is_measured_once_and_links_lead_nowhere() {
    both("size", |top, place| {
        top.make_dir("deep/er", 0o755).unwrap();
        let file = place.join("top/deep/er/file");
        fs::write(&file, vec![7; 256 << 10]).unwrap();
        fs::hard_link(&file, place.join("top/again")).unwrap();
        File::create(place.join("top/sparse")).unwrap().set_len(1 << 30).unwrap();
        symlink("/proc", place.join("top/away")).unwrap();
        let fifo = place.join("top/fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        assert!((256 << 10..400 << 10).contains(&top.size()), "{}", top.size());
    });
}

/// Deeper than a path may be long and than files may be open.
#[test]
fn no_tree_is_too_deep() {
    both("deep", |top, _| {
        let mut at = top.make_dir("d", 0o755).unwrap();
        for _ in 0..3000 {
            at.mkdir("ddd", 0o755).unwrap();
            at = at.dir("ddd").unwrap();
            at.path = PathBuf::new();
        }
        at.create("end", 0o644).unwrap().write_all(&[7; 64 << 10]).unwrap();
        assert!(top.size() >= 64 << 10);
        top.remove_tree("d").unwrap();
        assert!(top.entries().unwrap().is_empty());
    });
}

/// A directory becomes a link and a directory again, as often as it can.
#[test]
fn a_race_of_a_directory_and_a_link_is_lost_by_who_swaps_them() {
    both("race", |top, place| {
        let (real, link) = (place.join("top/real"), place.join("top/link"));
        fs::create_dir_all(&real).unwrap();
        symlink(place.join("victim"), &link).unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let swaps = {
            let ends = ends.clone();
            std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE);
                }
            })
        };
        let mut done = 0;
        for round in 0..1000 {
            let made = top.make_dir("real/sub/new", 0o777).is_ok();
            let _ = top.create(format!("real/{round}"), 0o666);
            let _ = top.create("real/file", 0o666).and_then(|mut file| file.write_all(b"mine"));
            let _ = top.write("real/file").and_then(|mut file| file.write_all(b"mine"));
            let _ = top.locate(Path::new("real/sub/other"), Some(0o777));
            let _ = top.remove_file("real/file");
            let removed = top.remove_tree("real/sub").is_ok();
            top.size();
            done += u32::from(made && removed);
        }
        ends.store(true, Ordering::Relaxed);
        swaps.join().unwrap();
        assert!(done > 0, "some rounds met the directory");
    });
}
