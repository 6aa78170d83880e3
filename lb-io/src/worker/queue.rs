//! Requests that wait until a server has room, in the order in which they came: one queue for each backend whose
//! servers have bounds, shared by all workers.
//!
//! Nothing here is touched as long as servers have room, but for one number that is read when an attempt ends. When
//! they have none, each request costs a lock for a few instructions: they wait for servers anyway.
//!
//! Who ends an attempt *grants* its place to the first that can use it: that one is woken, on its own worker, and takes
//! the place by the same bound as everybody. Newcomers stand behind whoever waits, so places are not taken from under
//! those that they were granted to, but for the blink of an eye; who finds none after all stays where it stood.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lb_core::ServerLive;

use super::tasks::TaskIndex;

/// Who waits looks again after so long, for what no attempt's end tells of: a server that came up, a bound that was
/// raised, a wake that found no room.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A task of one of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The worker's number.
    pub worker: usize,
    /// The task.
    pub task: TaskIndex,
}

/// A request's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    /// Address of the one server that it waits for; none: any.
    own: Option<usize>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    place: Place,
    /// Address of the server at which a place was granted to it.
    granted: Option<usize>,
}

/// By number. Those with a grant are few, and mostly in front.
type Line = VecDeque<Waiter>;

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    /// Who takes any server.
    any: Line,
    /// Who waits for one server, by its address. They stand in nobody's way at the others.
    own: HashMap<usize, Line>,
}

/// The requests that wait for one backend.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    entered: AtomicU64,
    lines: Mutex<Lines>,
}

fn address(server: &ServerLive) -> usize {
    ptr::from_ref(server).addr()
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many have ever waited.
    pub fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Whether somebody stands before a newcomer, who wants one server of its own or any.
    pub fn is_taken(&self, own: Option<&ServerLive>) -> bool {
        if self.waiting() == 0 {
            return false;
        }
        let lines = self.lines();
        !lines.any.is_empty() || own.is_some_and(|own| lines.own.contains_key(&address(own)))
    }

    /// Stands in line, behind all others. None: there are `most` already.
    pub fn enter(&self, place: Place, own: Option<&ServerLive>, most: u32) -> Option<Ticket> {
        let mut lines = self.lines();
        if self.waiting() >= most {
            return None;
        }
        let ticket = Ticket { number: lines.next, own: own.map(address) };
        lines.next += 1;
        lines.line_mut(ticket.own).push_back(Waiter { number: ticket.number, place, granted: None });
        self.entered.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Either whoever ends an attempt sees that somebody waits, or who waits sees that it has ended.
        fence(Ordering::SeqCst);
        Some(ticket)
    }

    /// Whether it is this one's turn to look for room: a place was granted to it, or nobody stands before it.
    pub fn may_look(&self, ticket: Ticket) -> bool {
        let lines = self.lines();
        let Some((line, at)) = lines.find(ticket) else { return false };
        let nobody_before = |line: &Line| line.front().is_none_or(|first| first.number >= ticket.number);
        line[at].granted.is_some() || nobody_before(line) && nobody_before(&lines.any)
    }

    /// There was no room after all: it stays where it stands.
    pub fn wait_on(&self, ticket: Ticket) {
        let mut lines = self.lines();
        if let Some((_, at)) = lines.find(ticket) {
            lines.line_mut(ticket.own)[at].granted = None;
        }
    }

    /// Leaves, having taken a place at a server or not. What was granted and not taken passes to the next who can use
    /// it, who is to be woken.
    pub fn leave(&self, ticket: Ticket, taken: Option<&ServerLive>) -> Option<Place> {
        let mut lines = self.lines();
        let (_, at) = lines.find(ticket)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let left = lines.line_mut(ticket.own).remove(at)?.granted;
        if let Some(own) = ticket.own.filter(|own| lines.own[own].is_empty()) {
            lines.own.remove(&own);
        }
        let left = left.filter(|granted| taken.map(address) != Some(*granted));
        left.and_then(|server| lines.grant(server))
    }

    /// A server has room for one more: grants it to the first who can use it, who is to be woken.
    pub fn grant(&self, server: &ServerLive) -> Option<Place> {
        fence(Ordering::SeqCst);
        if self.waiting() == 0 {
            return None;
        }
        self.lines().grant(address(server))
    }
}

impl Lines {
    fn line_mut(&mut self, own: Option<usize>) -> &mut Line {
        match own {
            None => &mut self.any,
            Some(own) => self.own.entry(own).or_default(),
        }
    }

    fn find(&self, ticket: Ticket) -> Option<(&Line, usize)> {
        let line = match ticket.own {
            None => &self.any,
            Some(own) => self.own.get(&own)?,
        };
        let at = line.binary_search_by_key(&ticket.number, |waiter| waiter.number).ok()?;
        Some((line, at))
    }

    fn grant(&mut self, server: usize) -> Option<Place> {
        fn next(line: &mut Line) -> Option<&mut Waiter> {
            line.iter_mut().find(|waiter| waiter.granted.is_none())
        }
        let (any, own) = (next(&mut self.any), self.own.get_mut(&server).and_then(next));
        let first = any.into_iter().chain(own).min_by_key(|waiter| waiter.number)?;
        first.granted = Some(server);
        Some(first.place)
    }
}

/// The queues of all backends, by name: a backend keeps its queue from one table to the next.
#[derive(Default)]
pub struct Queues {
    by_name: Mutex<HashMap<Arc<str>, Weak<Queue>>>,
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

impl Queues {
    /// The queue of a backend. It is kept by those who hold it.
    pub fn of(&self, backend: &Arc<str>) -> Arc<Queue> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = by_name.get(backend).and_then(Weak::upgrade) {
            return queue;
        }
        by_name.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        by_name.insert(Arc::clone(backend), Arc::downgrade(&queue));
        queue
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<(Arc<str>, Arc<Queue>)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().filter_map(|(name, queue)| Some((Arc::clone(name), queue.upgrade()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::Identity;
    use proptest::prelude::*;

    fn server(name: &str) -> ServerLive {
        ServerLive::new(Identity {
            backend: "b".into(),
            name: name.into(),
            address: ([10, 0, 0, 1], 1).into(),
        })
    }

    fn place(task: TaskIndex) -> Place {
        Place { worker: 0, task }
    }

    #[test]
    fn places_are_granted_in_order_and_to_those_who_can_use_them() {
        let (queue, a, b) = (Queue::default(), server("a"), server("b"));
        assert!(!queue.is_taken(None) && queue.grant(&a).is_none());
        let own = queue.enter(place(1), Some(&a), 9).unwrap();
        assert!(
            queue.is_taken(Some(&a)) && !queue.is_taken(Some(&b)),
            "one who waits for a is in no way at b"
        );
        assert!(!queue.is_taken(None), "there may be room elsewhere");
        let any = queue.enter(place(2), None, 9).unwrap();
        let late = queue.enter(place(3), None, 9).unwrap();
        assert!(queue.may_look(own) && queue.may_look(any) && !queue.may_look(late));
        assert!(queue.is_taken(None) && queue.is_taken(Some(&a)) && queue.is_taken(Some(&b)));
        assert_eq!(queue.grant(&a), Some(place(1)));
        assert_eq!(queue.grant(&b), Some(place(2)));
        assert!(!queue.may_look(late));
        assert_eq!(queue.leave(any, None), Some(place(3)), "what it was granted passes on");
        assert!(queue.may_look(late));
        assert_eq!(queue.grant(&b), None, "nobody else can use it");
        assert_eq!(queue.leave(late, Some(&b)), None, "it has taken what it was granted");
        queue.wait_on(own);
        assert_eq!(queue.grant(&a), Some(place(1)));
        assert_eq!((queue.leave(own, Some(&a)), queue.leave(own, None)), (None, None));
        assert_eq!((queue.waiting(), queue.entered()), (0, 3));
    }

    #[test]
    fn a_full_queue_takes_nobody_in() {
        let queue = Queue::default();
        assert_eq!(queue.enter(place(0), None, 0), None);
        let first = queue.enter(place(0), None, 1).unwrap();
        assert_eq!(queue.enter(place(1), None, 1), None);
        queue.leave(first, None);
        assert!(queue.enter(place(1), None, 1).is_some());
    }

    #[test]
    fn a_backend_keeps_its_queue_as_long_as_somebody_does() {
        let queues = Queues::default();
        let name: Arc<str> = "b".into();
        let kept = queues.of(&name);
        assert!(Arc::ptr_eq(&kept, &queues.of(&name)));
        drop(kept);
        assert!(queues.all().is_empty());
        queues.of(&"c".into());
        assert!(queues.by_name.lock().unwrap().len() <= 1, "what is gone is forgotten");
    }

    proptest! {
        /// Whatever happens in whatever order: tickets are served first come first served among those that wait for the
        /// same, and a grant is never lost.
        #[test]
        fn order_is_kept(steps in prop::collection::vec((0_u8..4, 0_u8..3), 1..100)) {
            let (queue, servers) = (Queue::default(), [server("a"), server("b")]);
            let able = |own: u8, at: u8| own == 2 || own == at;
            let mut waiting: Vec<(Ticket, u8, Option<u8>)> = Vec::new();
            for (step, kind) in steps {
                let own = (kind < 2).then(|| &servers[usize::from(kind)]);
                match step {
                    0 | 1 => {
                        let ticket = queue.enter(place(0), own, 30);
                        prop_assert_eq!(ticket.is_some(), waiting.len() < 30);
                        waiting.extend(ticket.map(|ticket| (ticket, kind, None)));
                    }
                    2 => {
                        let at = kind.min(1);
                        let granted = queue.grant(&servers[usize::from(at)]);
                        let first = waiting.iter_mut().find(|it| it.2.is_none() && able(it.1, at));
                        prop_assert_eq!(granted.is_some(), first.is_some());
                        if let Some(first) = first {
                            prop_assert!(queue.may_look(first.0));
                            first.2 = Some(at);
                        }
                    }
                    _ if !waiting.is_empty() => {
                        let (ticket, _, granted) = waiting.remove(usize::from(kind) % waiting.len());
                        let next = granted.and_then(|at| waiting.iter_mut().find(|it| it.2.is_none() && able(it.1, at)));
                        prop_assert_eq!(queue.leave(ticket, None).is_some(), next.is_some());
                        if let Some(next) = next {
                            next.2 = granted;
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.waiting() as usize, waiting.len());
            }
        }
    }
}
