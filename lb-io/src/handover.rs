//! Buffers that go round: each worker fills one, a thread takes the full ones and gives them back empty.
//!
//! A worker never waits for that thread: when all its buffers are on their way it is told so, and loses what it had to
//! say. Nothing is allocated after the start, and nothing is locked.
//!
//! Nearly all that a line of the access log costs is the kernel's copy of it for the file. That is the cheaper the more comes
//! with one call, for the kernel then takes larger pages: half a megabyte costs about half of what eight times 64 KiB do.
//! So the thread is woken when there are eight full buffers, or bytes have waited for long enough (`docs/performance.md`
//! has the numbers).

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

/// Bytes after which a worker hands its buffer on.
pub const BUFFER_BYTES: usize = 64 << 10;

/// Buffers that a worker has: one being filled, the others on their way. Those that are never needed are never touched, so
/// they take no memory.
const BUFFERS_PER_WORKER: usize = 32;

/// Full buffers for which the thread is woken, and that it deals with at once.
pub const GATHERED: usize = 8;

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
    /// By worker, empty buffers that came back from it: they are taken first, so that as long as the other side keeps up
    /// the same few go to and fro and stay in the caches.
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
            warm: (0..workers).map(|_| ArrayQueue::new(GATHERED)).collect(),
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
    /// Who is to be woken when there are full buffers; none: it looks by itself.
    taker: Option<Thread>,
    filled: Filled,
    /// Since when bytes wait, as far as it was seen: in the buffer, or in full ones for which nobody was woken.
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
        let has_room = self.filled.bytes.len() < BUFFER_BYTES || self.hand_on(false);
        has_room.then_some(&mut self.filled.bytes)
    }

    /// Hands on what has waited for long enough. Tells whether something still waits.
    pub fn look(&mut self, now: Duration) -> bool {
        if self.filled.bytes.is_empty() {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now < since + DELAY || !self.hand_on(true)
    }

    /// Hands on what there is, if the other side keeps up.
    fn hand_on(&mut self, is_old: bool) -> bool {
        let worker = self.filled.worker;
        let warm = self.handover.warm[worker].pop();
        let Some(mut empty) = warm.or_else(|| self.handover.empty.pop()) else { return false };
        empty.worker = worker;
        self.pass(empty, is_old)
    }

    fn pass(&mut self, next: Filled, is_old: bool) -> bool {
        // There is room for every buffer that exists.
        let pushed = self.handover.full.push(std::mem::replace(&mut self.filled, next)).is_ok();
        let is_due = is_old || self.handover.full.len() >= GATHERED;
        match &self.taker {
            Some(taker) if is_due => taker.unpark(),
            Some(_) => return pushed,
            None => {}
        }
        self.since = None;
        pushed
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let nothing = Filled { worker: self.filled.worker, bytes: Vec::new() };
        self.pass(nothing, true);
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
    fn full_ones_for_which_nobody_was_woken_wait_no_longer_than_others() {
        let handover = Arc::new(Handover::new(1, 100));
        let mut filling = Filling::new(&handover, 0, Some(std::thread::current()));
        let ms = Duration::from_millis;
        assert!(add(&mut filling, 7));
        assert!(filling.look(ms(0)));
        while handover.full.is_empty() {
            assert!(add(&mut filling, 100));
        }
        assert!(filling.look(ms(99)), "the second buffer is new, the first is not");
        assert!(!filling.look(ms(100)));
        assert_eq!(handover.full.len(), 2);
        for _ in 0..GATHERED * BUFFER_BYTES.div_ceil(100) {
            assert!(add(&mut filling, 100));
        }
        assert!(filling.look(ms(150)) && filling.look(ms(249)), "they were told of when there were enough");
        assert!(!filling.look(ms(250)));
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
