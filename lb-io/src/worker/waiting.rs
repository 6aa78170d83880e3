//! Tasks that wait for what no event of their connections tells: buffer memory, and room at a server.

use std::sync::Arc;

use lb_core::ServerLive;

use super::Worker;
use super::queue::{LOOK_AGAIN, Place, Queue};
use super::tasks::TaskIndex;

impl Worker {
    /// Wakes the task when there is buffer memory again.
    pub(crate) fn starve(&self, task: TaskIndex) {
        let mut starved = self.starved.borrow_mut();
        if !starved.contains(&task) {
            starved.push(task);
        }
    }

    pub(super) fn feed_starved(&self) {
        if !self.starved.borrow().is_empty() && !self.buffers.borrow().is_scarce() {
            self.starved.borrow_mut().drain(..).for_each(|task| self.tasks.wake(task));
        }
    }

    /// Where a task waits, for other workers.
    pub(crate) fn place(&self, task: TaskIndex) -> Place {
        Place { worker: self.siblings.borrow().me(), task }
    }

    /// The queue of a backend by its name, for a table that has none for it.
    pub(crate) fn queue_of(&self, backend: &Arc<str>) -> Arc<Queue> {
        self.siblings.borrow().queues().of(backend)
    }

    /// Has a task look again now and then for room at a server.
    pub(crate) fn begin_to_wait(&self, task: TaskIndex) {
        let mut queued = self.queued.borrow_mut();
        if queued.is_empty() {
            self.look_again_at.set(self.now() + LOOK_AGAIN);
        }
        queued.push(task);
    }

    /// The end of [`Worker::begin_to_wait`].
    pub(crate) fn end_waiting(&self, task: TaskIndex) {
        self.queued.borrow_mut().retain(|queued| *queued != task);
    }

    /// Wakes whoever was granted room at a server, on whatever worker.
    pub(crate) fn wake(&self, place: Place) {
        let siblings = self.siblings.borrow();
        match place.worker == siblings.me() {
            true => self.tasks.wake(place.task),
            false => siblings.wake(place),
        }
    }

    /// Tells those who wait for a backend that a server has room for one more.
    pub(crate) fn grant(&self, queue: &Queue, server: &ServerLive) {
        if let Some(place) = queue.grant(server) {
            self.wake_granted(server, place);
        }
    }

    pub(super) fn look_again(&self) {
        if self.queued.borrow().is_empty() || self.now() < self.look_again_at.get() {
            return;
        }
        self.look_again_at.set(self.now() + LOOK_AGAIN);
        self.queued.borrow().iter().for_each(|task| self.tasks.wake(*task));
    }
}
