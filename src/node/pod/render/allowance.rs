//! How large may become what a manifest can multiply: variables that name each
//! other, one key mounted under many paths.

use super::Wait;

/// Bytes of a process's arguments and environment: Linux takes a quarter of the
/// stack's limit, which is 8 MiB unless somebody changed it (execve(2), E2BIG).
pub const PROCESS: usize = 2 << 20;
/// Bytes of all files of a pod's configMap, secret, downwardAPI and projected
/// volumes; the agent compares them with what is wanted later.
pub const FILES: usize = 16 << 20;
/// Longest path, `PATH_MAX` of Linux.
pub const PATH: usize = 4096;
/// Bytes of a container's sub paths.
pub const PATHS: usize = 1 << 20;
/// Service account tokens of a pod.
pub const TOKENS: usize = 64;
/// Linux takes an argument or variable of so many pages of memory (execve(2)).
const PAGES: usize = 32;
/// The smallest page of memory there is.
const PAGE: usize = 4096;

/// What may still be added.
pub struct Allowance {
    left: usize,
    limit: usize,
    /// The unit, and of what.
    of: &'static str,
}

impl Allowance {
    /// So many bytes; `of` says which.
    pub fn new(limit: usize, of: &'static str) -> Self {
        Self { left: limit, limit, of }
    }

    /// Bytes that may still be added.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Adds bytes for a field.
    ///
    /// # Errors
    ///
    /// [`Wait::Missing`] that names the field when there is no room for them.
    pub fn take(&mut self, bytes: usize, field: impl FnOnce() -> String) -> Result<(), Wait> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| self.exceeded(field))?;
        Ok(())
    }

    /// There is no room for a field.
    pub fn exceeded(&self, field: impl FnOnce() -> String) -> Wait {
        Wait::Missing(format!("{}: more than {} {}", field(), self.limit, self.of))
    }
}

/// Longest single argument or `NAME=value`, bytes without the final zero.
pub fn longest_string(page_size: usize) -> usize {
    page_size.max(PAGE) * PAGES - 1
}
