//! What must be at a path of the node, or is made there.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::wire::kube::HostPathType;

/// Checks a path; two types make what is missing.
pub fn check(path: &Path, kind: HostPathType) -> io::Result<()> {
    match kind {
        HostPathType::DirectoryOrCreate if fs::metadata(path).is_err() => super::make(path, 0o755),
        HostPathType::FileOrCreate if fs::metadata(path).is_err() => fs::OpenOptions::new().create(true).append(true).mode(0o644).open(path).map(drop),
        HostPathType::Unchecked => Ok(()),
        HostPathType::DirectoryOrCreate | HostPathType::Directory => must(path, "a directory", fs::FileType::is_dir),
        HostPathType::FileOrCreate | HostPathType::File => must(path, "a file", fs::FileType::is_file),
        HostPathType::Socket => must(path, "a socket file", FileTypeExt::is_socket),
        HostPathType::CharDevice => must(path, "a character device", FileTypeExt::is_char_device),
        HostPathType::BlockDevice => must(path, "a block device", FileTypeExt::is_block_device),
    }
}

fn must(path: &Path, what: &str, is: fn(&fs::FileType) -> bool) -> io::Result<()> {
    let good = fs::metadata(path).is_ok_and(|meta| is(&meta.file_type()));
    if good { Ok(()) } else { Err(io::Error::other(format!("hostPath type check failed: {} is not {what}", path.display()))) }
}
