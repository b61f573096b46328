//! What must be at a path of the node, or is made there.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::host::beneath::Dir;
use crate::wire::kube::HostPathType;

/// Checks a path; two types make what is missing. Below `within`, in which a
/// container may write, nothing is made through links.
pub fn check(path: &Path, kind: HostPathType, within: Option<&Path>) -> io::Result<()> {
    match kind {
        HostPathType::DirectoryOrCreate if fs::metadata(path).is_err() => {
            let (dir, rest) = base(path, within)?;
            dir.make_dir(rest, 0o755).map(drop)
        }
        HostPathType::FileOrCreate if fs::metadata(path).is_err() => {
            let (dir, rest) = base(path, within)?;
            dir.create(rest, 0o644).map(drop)
        }
        HostPathType::Unchecked => Ok(()),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => must(path, "a directory", fs::FileType::is_dir),
        HostPathType::FileOrCreate | HostPathType::File => must(path, "a file", fs::FileType::is_file),
        HostPathType::Socket => must(path, "a socket file", FileTypeExt::is_socket),
        HostPathType::CharDevice => must(path, "a character device", FileTypeExt::is_char_device),
        HostPathType::BlockDevice => must(path, "a block device", FileTypeExt::is_block_device),
    }
}

/// The directory from which on no link is followed, and the path from there: the
/// nearest that is there, unless a container could have put it there.
fn base<'a>(path: &'a Path, within: Option<&Path>) -> io::Result<(Dir, &'a Path)> {
    let there = || path.ancestors().skip(1).find(|above| above.is_dir());
    let base = within.or_else(there).unwrap_or(Path::new("/"));
    Dir::base(base, path)
}

fn must(path: &Path, what: &str, is: fn(&fs::FileType) -> bool) -> io::Result<()> {
    let good = fs::metadata(path).is_ok_and(|meta| is(&meta.file_type()));
    if good { Ok(()) } else { Err(io::Error::other(format!("hostPath type check failed: {} is not {what}", path.display()))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_missing_is_made_but_not_through_a_link_of_a_container() {
        let place = std::env::temp_dir().join(format!("selvedge-host-path-{}", std::process::id()));
        let (share, victim) = (place.join("share"), place.join("victim"));
        for dir in [&share, &victim] {
            fs::create_dir_all(dir).expect("room");
        }
        symlink(&victim, share.join("link")).expect("room");
        symlink(victim.join("new"), share.join("dangling")).expect("room");
        let make = |path: &str, kind, within| check(&share.join(path), kind, within);
        make("a/b", HostPathType::DirectoryOrCreate, None).expect("it is made");
        make("a/file", HostPathType::FileOrCreate, Some(&share)).expect("it is made");
        make("a/file", HostPathType::FileOrCreate, Some(&share)).expect("it is there");
        assert!(share.join("a/b").is_dir() && share.join("a/file").is_file());
        for (path, within) in [("link/x", Some(share.as_path())), ("dangling", None), ("dangling/x", None)] {
            for kind in [HostPathType::DirectoryOrCreate, HostPathType::FileOrCreate] {
                assert!(make(path, kind, within).is_err(), "{path}");
            }
        }
        assert_eq!(fs::read_dir(&victim).expect("it is there").count(), 0);
        // The machine's owner may have links of his own.
        make("link/x", HostPathType::DirectoryOrCreate, None).expect("it is made");
        assert!(victim.join("x").is_dir());
        fs::remove_dir_all(&place).expect("it is ours");
    }
}
