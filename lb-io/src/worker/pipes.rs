//! Pipes for splicing, kept for the next long body.

use std::cell::Cell;
use std::rc::Rc;

use super::Worker;
use crate::driver::Pipe;

/// A worker's pipes: the empty ones, and how many there are in all.
#[derive(Debug, Default)]
pub struct Pipes {
    empty: Vec<PooledPipe>,
    alive: Rc<Cell<usize>>,
}

/// A pipe of a worker's. Dropping it closes it.
#[derive(Debug)]
pub struct PooledPipe {
    pipe: Pipe,
    alive: Rc<Cell<usize>>,
}

impl std::ops::Deref for PooledPipe {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.pipe
    }
}

impl Drop for PooledPipe {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl Worker {
    /// An empty pipe; None at the bound, or where there are none.
    pub fn take_pipe(&self) -> Option<PooledPipe> {
        let mut pipes = self.pipes.borrow_mut();
        if let Some(pipe) = pipes.empty.pop() {
            return Some(pipe);
        }
        if pipes.alive.get() >= self.limits.pipes {
            return None;
        }
        let pipe = self.driver.pipe()?;
        pipes.alive.set(pipes.alive.get() + 1);
        Some(PooledPipe { pipe, alive: Rc::clone(&pipes.alive) })
    }

    /// Takes a pipe back that is known to be empty.
    pub fn give_pipe_back(&self, pipe: PooledPipe) {
        self.pipes.borrow_mut().empty.push(pipe);
    }
}
