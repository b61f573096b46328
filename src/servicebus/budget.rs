//! What all bodies that are under way may take of memory.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

/// Bytes that all bodies together may still take.
#[derive(Debug, Clone)]
pub struct Budget(Rc<Cell<usize>>);

/// A part of it; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// A share that has taken nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0 }
    }
}

impl Share {
    /// Takes more, if there is.
    pub fn take(&mut self, bytes: usize) -> io::Result<()> {
        let left = self.budget.0.get().checked_sub(bytes).ok_or_else(|| io::Error::other("too much is under way already"))?;
        self.budget.0.set(left);
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.set(self.budget.0.get() + self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_together_are_bounded_and_given_back() {
        let budget = Budget::new(10);
        let mut share = budget.share();
        share.take(10).expect("there is room");
        assert!(budget.share().take(1).is_err());
        drop(share);
        budget.share().take(10).expect("it was given back");
    }
}
