//! Buffers that go round: each worker fills one, a thread takes the full ones and gives them back empty.
//!
//! A worker never waits for that thread: when all its buffers are on their way it is told so, and loses what it had to
//! say. Nothing is allocated after the start, and nothing is locked.

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

/// Bytes after which a worker hands its buffer on.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Buffers that a worker has: one being filled, the others on their way.
const BUFFERS_PER_WORKER: usize = 16;

/// How long bytes may wait in a worker's buffer.
pub const DELAY: Duration = Duration::from_millis(100);

/// What a worker has filled, on its way to who takes it, and back as room.
#[derive(Debug)]
pub struct Filled {
    /// Whose bytes they are.
    pub worker: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// All buffers that are not being filled.
#[derive(Debug)]
pub struct Handover {
    full: ArrayQueue<Filled>,
    empty: ArrayQueue<Filled>,
    /// By worker, the empty buffer that came back last: it is taken first, so that as long as the other side keeps up
    /// two buffers go to and fro and stay in the caches. All in turn would cost a tenth of a microsecond per line.
    warm: Box<[ArrayQueue<Filled>]>,
    /// Bytes that a buffer has room for.
    room: usize,
}

impl Handover {
    /// For so many workers. What a worker adds in one piece has at most `piece_bytes`.
    pub fn new(workers: usize, piece_bytes: usize) -> Handover {
        let room = BUFFER_BYTES + piece_bytes;
        let handover = Handover {
            full: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            empty: ArrayQueue::new(workers * BUFFERS_PER_WORKER),
            warm: (0..workers).map(|_| ArrayQueue::new(1)).collect(),
            room,
        };
        for _ in 0..workers * (BUFFERS_PER_WORKER - 1) {
            let _ = handover.empty.push(Filled { worker: 0, bytes: Vec::with_capacity(room) });
        }
        handover
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.warm.len()
    }

    /// The next full buffer.
    pub fn take(&self) -> Option<Filled> {
        self.full.pop()
    }

    /// Gives a buffer back, whose bytes have been dealt with.
    pub fn give_back(&self, mut filled: Filled) {
        filled.bytes.clear();
        if let Err(filled) = self.warm[filled.worker].push(filled) {
            let _ = self.empty.push(filled);
        }
    }

    /// How many buffers there are, over all workers.
    pub fn buffers(&self) -> usize {
        self.full.capacity()
    }
}

/// A worker's side: the buffer that it fills.
#[derive(Debug)]
pub struct Filling {
    handover: Arc<Handover>,
    /// Who is to be woken when there is a full buffer; none: it looks by itself.
    taker: Option<Thread>,
    filled: Filled,
    /// Since when bytes wait in the buffer, as far as it was seen.
    since: Option<Duration>,
}

impl Filling {
    /// A worker's first buffer.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn new(handover: &Arc<Handover>, worker: usize, taker: Option<Thread>) -> Filling {
        assert!(worker < handover.workers(), "there is such a worker");
        let filled = Filled { worker, bytes: Vec::with_capacity(handover.room) };
        Filling { handover: Arc::clone(handover), taker, filled, since: None }
    }

    /// Where the next piece goes; none if there is no room because the other side does not keep up.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        let has_room = self.filled.bytes.len() < BUFFER_BYTES || self.hand_on();
        has_room.then_some(&mut self.filled.bytes)
    }

    /// Hands on what has waited for long enough. Tells whether something still waits.
    pub fn look(&mut self, now: Duration) -> bool {
        if self.filled.bytes.is_empty() {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now < since + DELAY || !self.hand_on()
    }

    /// Hands on what there is, if the other side keeps up.
    fn hand_on(&mut self) -> bool {
        let worker = self.filled.worker;
        let warm = self.handover.warm[worker].pop();
        let Some(mut empty) = warm.or_else(|| self.handover.empty.pop()) else { return false };
        empty.worker = worker;
        self.since = None;
        self.pass(empty)
    }

    fn pass(&mut self, next: Filled) -> bool {
        // There is room for every buffer that exists.
        let pushed = self.handover.full.push(std::mem::replace(&mut self.filled, next)).is_ok();
        if let Some(taker) = &self.taker {
            taker.unpark();
        }
        pushed
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let nothing = Filled { worker: self.filled.worker, bytes: Vec::new() };
        self.pass(nothing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(filling: &mut Filling, len: usize) -> bool {
        filling.room().is_some_and(|room| {
            room.resize(room.len() + len, b'x');
            true
        })
    }

    #[test]
    fn bytes_wait_a_little_and_are_handed_on() {
        let handover = Arc::new(Handover::new(2, 100));
        let mut filling = Filling::new(&handover, 1, None);
        let ms = Duration::from_millis;
        assert!(!filling.look(ms(0)));
        assert!(add(&mut filling, 7));
        assert!(filling.look(ms(1)) && filling.look(ms(100)));
        assert!(handover.take().is_none());
        assert!(!filling.look(ms(101)));
        let filled = handover.take().unwrap();
        assert_eq!((filled.worker, filled.bytes.len()), (1, 7));
        handover.give_back(filled);
        assert!(!filling.look(ms(300)));
        assert!(handover.take().is_none());
    }

    #[test]
    fn there_is_no_room_when_all_are_on_their_way_and_none_grows() {
        let handover = Arc::new(Handover::new(1, 100));
        let mut filling = Filling::new(&handover, 0, None);
        let added = (0..100_000).take_while(|_| add(&mut filling, 100)).count();
        assert_eq!(added, BUFFERS_PER_WORKER * BUFFER_BYTES.div_ceil(100));
        let mut filled = handover.take().unwrap();
        let room = filled.bytes.capacity();
        assert_eq!(room, BUFFER_BYTES + 100);
        filled.bytes.clear();
        handover.give_back(filled);
        assert!(add(&mut filling, 100), "there is room again");
        drop(filling);
        let rest: Vec<Filled> = std::iter::from_fn(|| handover.take()).collect();
        assert_eq!(rest.len(), BUFFERS_PER_WORKER);
        assert!(rest.iter().all(|filled| filled.bytes.capacity() == room));
        let bytes: usize = rest.iter().map(|filled| filled.bytes.len()).sum();
        assert_eq!(bytes, (BUFFERS_PER_WORKER - 1) * BUFFER_BYTES.div_ceil(100) * 100 + 100);
    }
}
