//! Tasks with an owner: what is dropped stops.

use std::rc::Rc;

use smol::{LocalExecutor, Task};

/// Where everything that waits runs: one thread.
#[derive(Debug, Clone, Default)]
pub struct Executor(Rc<LocalExecutor<'static>>);

impl Executor {
    /// Starts a task. It ends when the handle is dropped.
    pub fn spawn<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> Task<T> {
        self.0.spawn(work)
    }

    /// Runs everything until `work` is done.
    ///
    /// The reactor's own thread waits for the machine and wakes this one. With
    /// smol's `block_on` both would wait, and the other would look after every
    /// event ten times whether it is needed: 2 wakeups an event instead of 12.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        futures_lite::future::block_on(self.0.run(work))
    }
}

/// A growing set of tasks with one owner.
#[derive(Debug)]
pub struct Tasks {
    executor: Executor,
    running: Vec<Task<()>>,
}

impl Tasks {
    /// An empty set.
    pub fn new(executor: &Executor) -> Self {
        Self { executor: executor.clone(), running: Vec::new() }
    }

    /// Starts a task that lives at most as long as the set.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + 'static) {
        self.running.retain(|task| !task.is_finished());
        self.running.push(self.executor.spawn(work));
    }

    /// How many still run.
    pub fn running(&mut self) -> usize {
        self.running.retain(|task| !task.is_finished());
        self.running.len()
    }
}
