//! What is mounted below a directory, and its end.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::host::beneath::Dir;

/// Unmounts everything below a directory, the innermost first. What is busy is
/// detached: its last user frees it.
///
/// # Errors
/// Something stays mounted.
pub fn unmount_below(dir: &Dir) -> io::Result<()> {
    let top = dir.real_path()?;
    loop {
        let inside = mounts_below(&top);
        if inside.is_empty() {
            return Ok(());
        }
        // One may lie hidden below another; the next round finds it.
        let results: Vec<_> = inside.iter().map(|path| unmount(dir, path)).collect();
        if results.iter().all(Result::is_err) {
            return results.into_iter().collect();
        }
    }
}

/// Takes what is on top of a path away. A container may have swapped the path
/// for a link.
pub fn unmount(dir: &Dir, path: &Path) -> io::Result<()> {
    let (above, name) = dir.parent(path)?;
    let place = above.proc_path().join(name);
    let result = match rustix::mount::unmount(&place, UnmountFlags::NOFOLLOW) {
        Err(Errno::BUSY) => rustix::mount::unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW),
        other => other,
    };
    crate::host::beneath::at(&dir.path().join(path), result.map_err(Into::into))
}

/// Where something is mounted, relative to a directory; the innermost first.
fn mounts_below(top: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let below = |point: String| Path::new(&point).strip_prefix(top).map(Path::to_owned).ok();
    let mut inside: Vec<PathBuf> = points.filter_map(below).filter(|path| *path != Path::new("")).collect();
    inside.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    inside
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/a\9"), r"/a\9");
    }
}
