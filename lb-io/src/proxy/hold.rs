//! What was sent of a request's body, held to be sent again.
//!
//! The bytes go to the first server as they come and are kept besides, up to the route's bound. A body that goes on is let
//! go: the request is then sent once. What is held is charged to the worker's buffer budget, and let go where that is scarce.

use std::io;

use crate::driver::ConnKey;
use crate::worker::Worker;
use crate::worker::buffers::Buffer;

/// Everything that was sent of a body, or nothing.
#[derive(Debug, Default)]
pub(super) struct Held {
    buffer: Option<Buffer>,
    /// Most bytes to hold; 0: none, or no more.
    bound: u32,
    /// How many of them the current attempt's server has been sent.
    sent: u32,
}

impl Held {
    /// Holds a body of up to so many bytes.
    pub(super) fn up_to(bound: u32) -> Held {
        Held { bound, ..Held::default() }
    }

    /// Whether bytes are being kept.
    pub(super) fn is_on(&self) -> bool {
        self.bound > 0
    }

    /// Whether these are all of the body's bytes that were sent, if so many were.
    pub(super) fn is_all_of(&self, bytes: u64) -> bool {
        self.len() as u64 == bytes
    }

    /// Bytes that the current attempt's server is yet to be sent again.
    pub(super) fn ahead(&self) -> usize {
        self.len() - self.sent as usize
    }

    fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, Buffer::len)
    }

    /// Keeps bytes that were sent.
    pub(super) fn keep(&mut self, worker: &Worker, bytes: &[u8]) {
        if bytes.is_empty() || !self.is_on() {
            return;
        }
        debug_assert_eq!(self.ahead(), 0, "what is held goes first");
        let is_kept = self.len() + bytes.len() <= self.bound as usize && self.append(worker, bytes);
        if !is_kept {
            self.let_go(worker);
        }
    }

    /// False where memory is scarce.
    fn append(&mut self, worker: &Worker, bytes: &[u8]) -> bool {
        let mut buffers = worker.buffers.borrow_mut();
        let len = self.len() + bytes.len();
        let room = self.buffer.as_mut().map_or(0, |buffer| buffer.spare().len());
        if room < bytes.len() {
            let larger = if buffers.is_scarce() { None } else { buffers.take(len) };
            let Some(mut larger) = larger else { return false };
            if let Some(before) = self.buffer.take() {
                larger.append(before.bytes());
                buffers.give_back(before);
            }
            self.buffer = Some(larger);
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.append(bytes);
        }
        self.sent = len as u32;
        true
    }

    /// The next attempt's server is to be sent all of it.
    pub(super) fn begin_again(&mut self) {
        self.sent = 0;
    }

    /// Sends what is ahead, behind `head`. True when nothing is left.
    ///
    /// # Errors
    /// As those of [`Worker::send`].
    pub(super) fn resend(&mut self, worker: &Worker, to: ConnKey, head: &[u8]) -> io::Result<bool> {
        let Some(buffer) = &self.buffer else { return Ok(true) };
        self.sent += worker.send(to, head, &buffer.bytes()[self.sent as usize..])? as u32;
        Ok(self.sent as usize == buffer.len())
    }

    /// There will be no other attempt: what is not on its way is let go.
    pub(super) fn stop(&mut self, worker: &Worker) {
        self.bound = 0;
        if self.ahead() == 0 {
            self.let_go(worker);
        }
    }

    /// Holds nothing any more.
    pub(super) fn let_go(&mut self, worker: &Worker) {
        if let Some(buffer) = self.buffer.take() {
            worker.buffers.borrow_mut().give_back(buffer);
        }
        (self.bound, self.sent) = (0, 0);
    }
}
