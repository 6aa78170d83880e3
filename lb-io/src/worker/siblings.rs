//! What the workers of an engine know of each other: how many clients each has, a way to hand one over, where requests
//! wait for the same servers, and how connections to those get from one worker to another.
//!
//! The kernel spreads connections over the workers' listening sockets by a hash, blind to who has how many. So a
//! worker with a fresh connection looks at one other, drawn by lot, and hands it over if that one has notably fewer
//! (two choices: Mitzenmacher 2001). Nothing is armed on it yet, so handing over is passing a descriptor.
//!
//! Shared are a counter and a queue per worker, written when a connection comes, goes or changes hands, and never by
//! a request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::ArrayQueue;

use super::lending::{Asked, Lent, Seekers};
use super::queue::{Place, Queues};
use super::tasks::TaskIndex;
use crate::driver::{Socket, Waker};

/// Connections on their way to one worker; at the bound they stay where they came in.
const INBOX: usize = 256;

/// Tasks of one worker that others want to wake. At the bound the wake is lost: who waits looks again by itself
/// ([`LOOK_AGAIN`](super::queue::LOOK_AGAIN)).
const WAKES: usize = 1024;

/// Connections to servers on their way to one worker; at the bound they are closed, and who was to have one makes one.
const LENT: usize = 256;

/// Questions for such connections that wait for one worker. At the bound a question is lost: who asked asks again.
const ASKED: usize = 256;

/// A connection changes hands only to a worker that has fewer by more than this, and by more than a part of what it
/// has: evenness to a few percent is worth a wake, chasing single connections is not.
const MARGIN: usize = 4;
const MARGIN_PART: usize = 32;

/// A fresh connection on its way.
pub struct Handed {
    /// The listener it came in on.
    pub listener: u32,
    /// Not attached.
    pub socket: Socket,
    /// Its other side.
    pub peer: SocketAddr,
}

/// On cache lines of its own: the others read it with each connection.
#[repr(align(128))]
struct Sibling {
    connections: AtomicUsize,
    inbox: ArrayQueue<Handed>,
    wakes: ArrayQueue<TaskIndex>,
    lent: ArrayQueue<Lent>,
    asked: ArrayQueue<Asked>,
    waker: OnceLock<Arc<dyn Waker>>,
    closed: AtomicBool,
    stopped: AtomicBool,
}

/// All workers, as one of them sees them.
#[derive(Clone)]
pub struct Siblings {
    all: Arc<[Sibling]>,
    me: usize,
    queues: Arc<Queues>,
    seekers: Arc<Seekers>,
}

impl fmt::Debug for Siblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} of {}", self.me, self.all.len())
    }
}

impl Siblings {
    /// Each of `count` workers' view.
    pub fn of(count: usize) -> Vec<Siblings> {
        let sibling = |_| Sibling {
            connections: AtomicUsize::new(0),
            inbox: ArrayQueue::new(INBOX),
            wakes: ArrayQueue::new(WAKES),
            lent: ArrayQueue::new(LENT),
            asked: ArrayQueue::new(ASKED),
            waker: OnceLock::new(),
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        };
        let all: Arc<[Sibling]> = (0..count.max(1)).map(sibling).collect();
        let (queues, seekers) = (Arc::default(), Arc::default());
        let of = |me| Siblings {
            all: Arc::clone(&all),
            me,
            queues: Arc::clone(&queues),
            seekers: Arc::clone(&seekers),
        };
        (0..all.len()).map(of).collect()
    }

    fn mine(&self) -> &Sibling {
        &self.all[self.me]
    }

    /// Says how this worker is woken. Until then nothing is handed to it.
    pub fn open(&self, waker: Arc<dyn Waker>) {
        // Said once, by the worker's thread as it starts.
        let _ = self.mine().waker.set(waker);
    }

    /// Counts a connection of this worker's that was not handed to it.
    pub fn opened(&self) {
        self.mine().connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that ended, or that was handed to this worker and not taken.
    pub fn ended(&self) {
        self.mine().connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Hands a fresh connection to a worker that has notably fewer, as `lot` finds it. Gives it back if it is to
    /// stay. What was handed counts as the other's at once.
    pub fn hand_over(&self, handed: Handed, lot: u64) -> Option<Handed> {
        let Some(other) = self.lesser(lot) else { return Some(handed) };
        other.connections.fetch_add(1, Ordering::Relaxed);
        if let Err(handed) = other.inbox.push(handed) {
            other.connections.fetch_sub(1, Ordering::Relaxed);
            return Some(handed);
        }
        // Either the other one sees it when it has closed its inbox, or we see that it has.
        if other.closed.load(Ordering::SeqCst) {
            let stranded = other.inbox.pop();
            if stranded.is_some() {
                other.connections.fetch_sub(1, Ordering::Relaxed);
            }
            return stranded;
        }
        other.wake();
        None
    }

    /// Another worker, drawn by `lot`, if it has notably fewer connections.
    fn lesser(&self, lot: u64) -> Option<&Sibling> {
        let others = self.all.len() - 1;
        if others == 0 {
            return None;
        }
        let drawn = ((u128::from(lot) * others as u128) >> 64) as usize;
        let other = &self.all[if drawn < self.me { drawn } else { drawn + 1 }];
        let theirs = other.connections.load(Ordering::Relaxed);
        let ours = self.mine().connections.load(Ordering::Relaxed);
        let is_open = other.waker.get().is_some() && !other.closed.load(Ordering::Relaxed);
        (is_open && ours > theirs + MARGIN + theirs / MARGIN_PART).then_some(other)
    }

    /// Where requests wait for servers.
    pub fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// Who seeks a connection to a server.
    pub fn seekers(&self) -> &Seekers {
        &self.seekers
    }

    /// How many others there are.
    pub fn others(&self) -> usize {
        self.all.len() - 1
    }

    /// Hands a connection to a server to another worker.
    ///
    /// # Errors
    /// It has as many on their way as it takes, or has stopped: then the connection comes back.
    pub fn lend(&self, lent: Lent, worker: usize) -> Result<(), Lent> {
        let other = &self.all[worker];
        if other.stopped.load(Ordering::SeqCst) {
            return Err(lent);
        }
        other.lent.push(lent)?;
        // Either the other one sees it when it has stopped, or we see that it has.
        if other.stopped.load(Ordering::SeqCst) {
            return other.lent.pop().map_or(Ok(()), Err);
        }
        other.wake();
        Ok(())
    }

    /// The next connection to a server that was handed to this worker.
    pub fn take_lent(&self) -> Option<Lent> {
        self.mine().lent.pop()
    }

    /// Sends a question to the next worker that can answer.
    pub fn ask(&self, asked: Asked) {
        let after = |distance: usize| &self.all[(self.me + distance) % self.all.len()];
        let mut others = (1..self.all.len()).map(after);
        if let Some(other) = others.find(|other| !other.stopped.load(Ordering::Relaxed)) {
            let _ = other.asked.push(asked);
            other.wake();
        }
    }

    /// The next question that this worker is to answer.
    pub fn take_asked(&self) -> Option<Asked> {
        self.mine().asked.pop()
    }

    /// This worker's number.
    pub fn me(&self) -> usize {
        self.me
    }

    /// Has a task of another worker woken.
    pub fn wake(&self, place: Place) {
        let other = &self.all[place.worker];
        let _ = other.wakes.push(place.task);
        other.wake();
    }

    /// The next task of this worker's that another one wants to wake.
    pub fn take_wake(&self) -> Option<TaskIndex> {
        self.mine().wakes.pop()
    }

    /// The next connection that was handed to this worker. It is counted already.
    pub fn take(&self) -> Option<Handed> {
        self.mine().inbox.pop()
    }

    /// From now on nothing is handed to this worker but what is on its way; [`Siblings::take`] gives it.
    pub fn close(&self) {
        self.mine().closed.store(true, Ordering::SeqCst);
    }

    /// This worker is no more: what is on its way to it is closed, and nothing more comes.
    pub fn stop(&self) {
        self.close();
        self.mine().stopped.store(true, Ordering::SeqCst);
        while self.take().is_some() {}
        while self.take_lent().is_some() {}
    }
}

impl Sibling {
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Nobody;

    impl Waker for Nobody {
        fn wake(&self) {}
    }

    fn handed() -> Handed {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        Handed { listener: 0, socket: Socket::Kernel(nothing.into()), peer: ([192, 0, 2, 1], 1).into() }
    }

    fn opened(count: usize) -> Vec<Siblings> {
        let workers = Siblings::of(count);
        workers.iter().for_each(|worker| worker.open(Arc::new(Nobody)));
        workers
    }

    fn connections(worker: &Siblings) -> usize {
        worker.mine().connections.load(Ordering::Relaxed)
    }

    #[test]
    fn a_full_inbox_keeps_the_connection_where_it_came_in() {
        let workers = opened(2);
        for _ in 0..2 * INBOX {
            workers[0].opened();
        }
        let kept = (0..INBOX + 10).filter(|_| workers[0].hand_over(handed(), 0).is_some()).count();
        assert_eq!((kept, connections(&workers[1])), (10, INBOX));
        assert_eq!(std::iter::from_fn(|| workers[1].take()).count(), INBOX);
    }

    #[test]
    fn nothing_goes_to_a_worker_that_has_closed_or_not_opened() {
        let workers = Siblings::of(2);
        for _ in 0..100 {
            workers[0].opened();
        }
        assert!(workers[0].hand_over(handed(), 0).is_some(), "not opened");
        workers[1].open(Arc::new(Nobody));
        assert!(workers[0].hand_over(handed(), 0).is_none());
        workers[1].close();
        assert!(workers[0].hand_over(handed(), 0).is_some(), "closed");
        assert!(workers[1].take().is_some());
        assert!(Siblings::of(1)[0].hand_over(handed(), 0).is_some(), "alone");
    }

    proptest! {
        /// Wherever connections come in and whichever end, all workers stay within a tenth of even, and none is lost.
        #[test]
        fn workers_stay_even(workers in 2..9usize, bias in 1..9u32, seed: u64) {
            let workers = opened(workers);
            let mut bits = seed;
            let mut draw = move || {
                bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
                lb_core::hash::mix(bits)
            };
            let count = workers.len() * 500;
            for _ in 0..count {
                // The kernel's hash prefers some.
                let at = (0..bias).map(|_| draw() as usize % workers.len()).min().unwrap();
                if workers[at].hand_over(handed(), draw()).is_some() {
                    workers[at].opened();
                }
                workers.iter().for_each(|worker| while worker.take().is_some() {});
            }
            let total: usize = workers.iter().map(connections).sum();
            prop_assert_eq!(total, count);
            if bias <= 2 {
                for worker in &workers {
                    prop_assert!((450..=550).contains(&connections(worker)), "{}", connections(worker));
                }
            }
        }
    }
}
