//! The executor: futures of one thread, woken by index.
//!
//! A task is a future that lives long and serves one job after another, so a job costs no allocation.
//! Nothing here uses wakers: a leaf future suspends with [`wait`], and whoever has news for a task
//! calls [`Tasks::wake`] with its index. A woken task looks at everything it waits for, so a wake too many
//! is harmless and a select over several things needs no machinery.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::sys;

/// Index of a task in its worker's table.
pub type TaskIndex = u32;

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// None while it is polled, and after its end.
    future: Option<TaskFuture>,
    queued: bool,
}

/// The tasks of one worker.
#[derive(Default)]
pub struct Tasks {
    table: RefCell<Vec<Task>>,
    vacant: RefCell<Vec<TaskIndex>>,
    woken: RefCell<Vec<TaskIndex>>,
    running: RefCell<Vec<TaskIndex>>,
}

impl Tasks {
    /// Takes a future in and wakes it. `make` is told the index under which it will run.
    pub fn spawn<F: Future<Output = ()> + 'static>(&self, make: impl FnOnce(TaskIndex) -> F) -> TaskIndex {
        let index = self.vacant.borrow_mut().pop().unwrap_or_else(|| {
            let mut table = self.table.borrow_mut();
            table.push(Task { future: None, queued: false });
            (table.len() - 1) as TaskIndex
        });
        let future = Box::pin(make(index));
        self.table.borrow_mut()[index as usize].future = Some(future);
        self.wake(index);
        index
    }

    /// Has the task polled in the current or next [`Tasks::run`].
    pub fn wake(&self, index: TaskIndex) {
        let mut table = self.table.borrow_mut();
        if !std::mem::replace(&mut table[index as usize].queued, true) {
            self.woken.borrow_mut().push(index);
        }
    }

    /// Polls the tasks woken so far, each once. Tasks woken meanwhile have their turn in the next call,
    /// so that one that wakes itself lets others and the driver go first.
    pub fn run(&self) {
        if self.woken.borrow().is_empty() {
            return;
        }
        std::mem::swap(&mut *self.woken.borrow_mut(), &mut *self.running.borrow_mut());
        let running = self.running.borrow();
        running.iter().for_each(|&index| self.run_one(index));
        drop(running);
        self.running.borrow_mut().clear();
    }

    /// Hands out the tasks woken so far, in order, for whoever runs them one by one ([`Tasks::run_one`]) in an order of
    /// its own. To wake one again before it was run changes nothing.
    pub fn take_woken(&self, each: impl FnMut(TaskIndex)) {
        self.woken.borrow_mut().drain(..).for_each(each);
    }

    /// Takes back what [`Tasks::take_woken`] handed out and was not run.
    pub fn give_back(&self, index: TaskIndex) {
        self.woken.borrow_mut().push(index);
    }

    /// Polls a task that was woken.
    pub fn run_one(&self, index: TaskIndex) {
        // Out of the table while it runs: it may spawn others.
        let taken = {
            let task = &mut self.table.borrow_mut()[index as usize];
            task.queued = false;
            task.future.take()
        };
        let Some(mut future) = taken else { return };
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => self.table.borrow_mut()[index as usize].future = Some(future),
            Poll::Ready(()) => self.vacant.borrow_mut().push(index),
        }
    }

    /// Has the processor fetch a task that will be polled soon.
    pub fn prefetch(&self, index: TaskIndex) {
        if let Some(future) = self.table.borrow()[index as usize].future.as_deref() {
            sys::prefetch::value(future);
        }
    }

    /// Whether a task waits to be polled.
    pub fn any_woken(&self) -> bool {
        !self.woken.borrow().is_empty()
    }

    /// Tasks that have not ended.
    pub fn live(&self) -> usize {
        self.table.borrow().len() - self.vacant.borrow().len()
    }

    /// Drops every future. The executor is good for nothing afterwards; breaks cycles at a worker's end.
    pub fn clear(&self) {
        let table = std::mem::take(&mut *self.table.borrow_mut());
        self.vacant.borrow_mut().clear();
        self.woken.borrow_mut().clear();
        drop(table);
    }
}

/// Suspends the running task until it is woken.
pub fn wait() -> impl Future<Output = ()> {
    let mut suspended = false;
    std::future::poll_fn(move |_| {
        if std::mem::replace(&mut suspended, true) { Poll::Ready(()) } else { Poll::Pending }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_task_runs_when_woken_and_its_place_is_used_again() {
        let tasks = Rc::new(Tasks::default());
        let steps = Rc::new(Cell::new(0));
        let counter = Rc::clone(&steps);
        let index = tasks.spawn(|_| async move {
            for _ in 0..3 {
                counter.set(counter.get() + 1);
                wait().await;
            }
        });
        tasks.run();
        assert_eq!(steps.get(), 1);
        tasks.run();
        assert_eq!(steps.get(), 1, "not woken, not polled");
        tasks.wake(index);
        tasks.wake(index);
        tasks.run();
        assert_eq!(steps.get(), 2, "two wakes are one poll");
        tasks.wake(index);
        tasks.run();
        tasks.wake(index);
        tasks.run();
        assert_eq!((steps.get(), tasks.live()), (3, 0));
        assert_eq!(tasks.spawn(|_| async {}), index);
    }

    #[test]
    fn a_task_that_wakes_itself_lets_the_others_run() {
        let tasks = Rc::new(Tasks::default());
        let greedy = Rc::clone(&tasks);
        tasks.spawn(|me| async move {
            loop {
                greedy.wake(me);
                wait().await;
            }
        });
        tasks.run();
        assert!(tasks.any_woken());
        tasks.run();
        assert_eq!(tasks.live(), 1);
        tasks.clear();
        assert_eq!(tasks.live(), 0);
    }
}
