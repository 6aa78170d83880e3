//! Requests that wait until a server has room, in the order in which they came: one queue for each backend whose
//! servers have bounds, shared by all workers.
//!
//! Nothing here is touched as long as servers have room, but for one number that is read when an attempt ends. When
//! they have none, each request costs a lock for a few instructions: they wait for servers anyway.
//!
//! Who ends an attempt *grants* its place to the first that can use it: that one is woken, on its own worker, and takes
//! the place by the same bound as everybody. Newcomers stand behind whoever waits for the same server, so places are not
//! taken from under those that they were granted to, but for the blink of an eye; who finds none after all stays where it
//! stood, and a place that it had no use for passes on.
//!
//! Not everybody can use every server: a session waits for its own, a retried request not for those that it has tried, and
//! who was decided by an older table knows its servers and no others. So there is one line for each that is waited for
//! alone, and one for each set of servers; numbers give the order over all of them.

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

/// The servers that a table sends new requests of a backend to: their addresses, in order. Whoever holds it holds the table,
/// so no other server comes to have one of them.
pub type Reach = Arc<[usize]>;

/// What a request waits for.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Room at this server.
    One(&'a ServerLive),
    /// Room at any of these.
    Any(&'a Reach),
}

/// Where a waiter stands: with who waits for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKey {
    /// Address of the server.
    One(usize),
    /// Address of the set.
    Any(usize),
}

impl Wanted<'_> {
    fn key(self) -> LineKey {
        match self {
            Wanted::One(server) => LineKey::One(address(server)),
            Wanted::Any(reach) => LineKey::Any(set_of(reach)),
        }
    }
}

/// A request's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    line: LineKey,
}

/// Who is to be woken by one that stays.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Who was granted the place that it had no use for, and of which server it is.
    pub granted: Option<(usize, Place)>,
    /// Who stands in front of the line that it has left.
    pub front: Option<Place>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    place: Place,
    /// Address of the server at which a place was granted to it.
    granted: Option<usize>,
    /// Address of a server that had room it could not use, until it looks again.
    useless: Option<usize>,
}

impl Waiter {
    /// Whether it stands in the way of who comes later and wants room at this server.
    fn is_before(&self, server: usize) -> bool {
        self.useless != Some(server) && self.granted.is_none_or(|granted| granted == server)
    }
}

/// By number. Those with a grant are few, and mostly in front.
type Line = VecDeque<Waiter>;

/// Who takes any of these servers.
#[derive(Debug)]
struct SetLine {
    reach: Reach,
    line: Line,
}

impl SetLine {
    fn is(&self, set: usize) -> bool {
        set_of(&self.reach) == set
    }

    fn has(&self, server: usize) -> bool {
        self.reach.binary_search(&server).is_ok()
    }
}

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    /// Who takes any of a set of servers. There are as many sets as tables have waiters, as a rule one.
    any: Vec<SetLine>,
    /// Who waits for one server, by its address. They stand in nobody's way at the others.
    one: HashMap<usize, Line>,
    /// Sets that somebody holds.
    reaches: Vec<Weak<[usize]>>,
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

fn set_of(reach: &Reach) -> usize {
    reach.as_ptr().addr()
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

    /// The set of these servers; the same for all who ask for equal ones.
    pub fn reach<'a>(&self, servers: impl Iterator<Item = &'a Arc<ServerLive>>) -> Reach {
        let mut addresses: Vec<usize> = servers.map(|server| address(server)).collect();
        addresses.sort_unstable();
        let mut lines = self.lines();
        lines.reaches.retain(|reach| reach.strong_count() > 0);
        let known = lines.reaches.iter().filter_map(Weak::upgrade).find(|reach| **reach == *addresses);
        known.unwrap_or_else(|| {
            let reach: Reach = addresses.into();
            lines.reaches.push(Arc::downgrade(&reach));
            reach
        })
    }

    /// Whether somebody stands before a newcomer who wants room at this server.
    pub fn is_taken(&self, server: &ServerLive) -> bool {
        self.waiting() > 0 && !self.lines().is_first(u64::MAX, address(server))
    }

    /// Stands in line, behind all others. None: there are `most` already.
    pub fn enter(&self, place: Place, wanted: Wanted<'_>, most: u32) -> Option<Ticket> {
        let mut lines = self.lines();
        if self.waiting() >= most {
            return None;
        }
        let ticket = Ticket { number: lines.next, line: wanted.key() };
        lines.next += 1;
        lines.insert(wanted, Waiter { number: ticket.number, place, granted: None, useless: None });
        self.entered.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Either whoever ends an attempt sees that somebody waits, or who waits sees that it has ended.
        fence(Ordering::SeqCst);
        Some(ticket)
    }

    /// Whether it is this one's turn to look for room: a place was granted to it, or nobody who waits for the same stands
    /// before it.
    pub fn may_look(&self, ticket: Ticket) -> bool {
        self.lines().find(ticket).is_some_and(|(line, at)| at == 0 || line[at].granted.is_some())
    }

    /// Whether room at this server is for it: a place was granted to it, here or elsewhere, or nobody who can use this one
    /// stands before it.
    pub fn is_first(&self, ticket: Ticket, server: &ServerLive) -> bool {
        let lines = self.lines();
        let has_grant = lines.find(ticket).is_some_and(|(line, at)| line[at].granted.is_some());
        has_grant || lines.is_first(ticket.number, address(server))
    }

    /// There was no room after all: it stays where it stood in the order, and waits for this from now on. Where there is
    /// room, by what `has_room` says of a server's address, at the server where a place was granted to it, that is nothing
    /// to it, and passes on to who stands behind it.
    pub fn wait_on(
        &self,
        ticket: &mut Ticket,
        wanted: Wanted<'_>,
        has_room: impl Fn(usize) -> bool,
    ) -> Passed {
        let mut lines = self.lines();
        let mut front = None;
        if ticket.line != wanted.key() {
            let Some((waiter, next)) = lines.remove(*ticket) else { return Passed::default() };
            front = next;
            ticket.line = wanted.key();
            lines.insert(wanted, waiter);
        }
        let Some(waiter) = lines.find_mut(*ticket) else { return Passed::default() };
        let granted = waiter.granted.take().filter(|server| has_room(*server));
        waiter.useless = granted;
        // Never to who stands before it: else places that nobody has a use for would go round for ever.
        let granted = granted.and_then(|server| Some((server, lines.grant(server, ticket.number)?)));
        Passed { granted, front }
    }

    /// Leaves, having taken a place at a server or not. What was granted and not taken passes to the next who can use
    /// it, who is to be woken; or who stands in front of its line now, where this one turns away from what they wait for,
    /// to another backend (`turns_away`) or another server than theirs.
    pub fn leave(&self, ticket: Ticket, taken: Option<&ServerLive>, turns_away: bool) -> Option<Place> {
        let mut lines = self.lines();
        let turns_away = turns_away || taken.is_some_and(|taken| !lines.wants(ticket.line, address(taken)));
        let (waiter, front) = lines.remove(ticket)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let left = waiter.granted.filter(|granted| taken.map(address) != Some(*granted));
        let next = left.and_then(|server| lines.grant(server, 0));
        next.or(front.filter(|_| turns_away))
    }

    /// A server has room for one more: grants it to the first who can use it, who is to be woken.
    pub fn grant(&self, server: &ServerLive) -> Option<Place> {
        fence(Ordering::SeqCst);
        if self.waiting() == 0 {
            return None;
        }
        self.lines().grant(address(server), 0)
    }
}

impl Lines {
    /// Puts a waiter in its place by its number.
    fn insert(&mut self, wanted: Wanted<'_>, waiter: Waiter) {
        let line = match wanted {
            Wanted::One(server) => self.one.entry(address(server)).or_default(),
            Wanted::Any(reach) => {
                let known = self.any.iter().position(|known| known.is(set_of(reach)));
                let at = known.unwrap_or_else(|| {
                    self.any.push(SetLine { reach: Arc::clone(reach), line: Line::new() });
                    self.any.len() - 1
                });
                &mut self.any[at].line
            }
        };
        let at = line.partition_point(|other| other.number < waiter.number);
        line.insert(at, waiter);
    }

    /// Takes a waiter out, and its line if that is empty now. Tells with it who stands in front there instead, if it did.
    fn remove(&mut self, ticket: Ticket) -> Option<(Waiter, Option<Place>)> {
        let (_, at) = self.find(ticket)?;
        let line = self.line_mut(ticket.line)?;
        let waiter = line.remove(at)?;
        let front = line.front().filter(|_| at == 0).map(|front| front.place);
        if line.is_empty() {
            match ticket.line {
                LineKey::One(server) => drop(self.one.remove(&server)),
                LineKey::Any(set) => self.any.retain(|known| !known.is(set)),
            }
        }
        Some((waiter, front))
    }

    /// Whether those of a line wait for this server, among others perhaps.
    fn wants(&self, line: LineKey, server: usize) -> bool {
        match line {
            LineKey::One(one) => one == server,
            LineKey::Any(set) => self.any.iter().any(|known| known.is(set) && known.has(server)),
        }
    }

    fn line_mut(&mut self, key: LineKey) -> Option<&mut Line> {
        match key {
            LineKey::One(server) => self.one.get_mut(&server),
            LineKey::Any(set) => self.any.iter_mut().find(|known| known.is(set)).map(|known| &mut known.line),
        }
    }

    fn find(&self, ticket: Ticket) -> Option<(&Line, usize)> {
        let line = match ticket.line {
            LineKey::One(server) => self.one.get(&server)?,
            LineKey::Any(set) => &self.any.iter().find(|known| known.is(set))?.line,
        };
        let at = line.binary_search_by_key(&ticket.number, |waiter| waiter.number).ok()?;
        Some((line, at))
    }

    fn find_mut(&mut self, ticket: Ticket) -> Option<&mut Waiter> {
        let (_, at) = self.find(ticket)?;
        self.line_mut(ticket.line)?.get_mut(at)
    }

    /// The lines of those who can use a server.
    fn of(&self, server: usize) -> impl Iterator<Item = &Line> {
        let any = self.any.iter().filter(move |known| known.has(server));
        any.map(|known| &known.line).chain(self.one.get(&server))
    }

    fn is_first(&self, number: u64, server: usize) -> bool {
        let first = |line: &Line| line.iter().find(|waiter| waiter.is_before(server)).map(|it| it.number);
        self.of(server).filter_map(first).all(|first| first >= number)
    }

    /// Grants a place to the first who can use it, from this number on.
    fn grant(&mut self, server: usize, from: u64) -> Option<Place> {
        let next = |line: &mut Line| {
            let begin = line.partition_point(|waiter| waiter.number < from);
            let mut rest = begin..line.len();
            rest.find(|at| line[*at].granted.is_none() && line[*at].useless != Some(server))
        };
        let any = self.any.iter_mut().filter(|known| known.has(server));
        let lines = any.map(|known| &mut known.line).chain(self.one.get_mut(&server));
        let firsts = lines.filter_map(|line| next(line).map(|at| &mut line[at]));
        let first = firsts.min_by_key(|waiter| waiter.number)?;
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

    fn server(name: &str) -> Arc<ServerLive> {
        let address = ([10, 0, 0, 1], 1).into();
        Arc::new(ServerLive::new(Identity { backend: "b".into(), name: name.into(), address }))
    }

    fn place(task: TaskIndex) -> Place {
        Place { worker: 0, task }
    }

    fn all(queue: &Queue, servers: &[&Arc<ServerLive>]) -> Reach {
        queue.reach(servers.iter().copied())
    }

    #[test]
    fn places_are_granted_in_order_and_to_those_who_can_use_them() {
        let (queue, [a, b]) = (Queue::default(), ["a", "b"].map(server));
        let reach = all(&queue, &[&a, &b]);
        assert!(!queue.is_taken(&a) && queue.grant(&a).is_none());
        let own = queue.enter(place(1), Wanted::One(&a), 9).unwrap();
        assert!(queue.is_taken(&a) && !queue.is_taken(&b), "one who waits for a is in no way at b");
        let any = queue.enter(place(2), Wanted::Any(&reach), 9).unwrap();
        let late = queue.enter(place(3), Wanted::Any(&reach), 9).unwrap();
        assert!(queue.may_look(own) && queue.may_look(any) && !queue.may_look(late));
        assert!(queue.is_first(own, &a) && !queue.is_first(any, &a) && queue.is_first(any, &b));
        assert!(queue.is_taken(&a) && queue.is_taken(&b));
        assert_eq!(queue.grant(&a), Some(place(1)));
        assert_eq!(queue.grant(&b), Some(place(2)));
        assert!(!queue.may_look(late));
        assert_eq!(queue.leave(any, None, false), Some(place(3)), "what it was granted passes on");
        assert!(queue.may_look(late));
        assert_eq!(queue.grant(&b), None, "nobody else can use it");
        assert_eq!(queue.leave(late, Some(&b), false), None, "it has taken what it was granted");
        let mut own = own;
        let passed = queue.wait_on(&mut own, Wanted::One(&a), |_| false);
        assert_eq!(passed, Passed::default(), "it was overtaken");
        assert_eq!(queue.grant(&a), Some(place(1)));
        assert_eq!((queue.leave(own, Some(&a), false), queue.leave(own, None, false)), (None, None));
        assert_eq!((queue.waiting(), queue.entered()), (0, 3));
        assert!(queue.lines().any.is_empty() && queue.lines().one.is_empty());
    }

    #[test]
    fn who_cannot_use_a_server_stands_in_nobodys_way() {
        let (queue, [a, b]) = (Queue::default(), ["a", "b"].map(server));
        let (old, new) = (all(&queue, &[&a]), all(&queue, &[&a, &b]));
        assert!(Arc::ptr_eq(&new, &all(&queue, &[&b, &a])), "equal ones are one");
        let first = queue.enter(place(1), Wanted::Any(&old), 9).unwrap();
        assert!(queue.is_taken(&a) && !queue.is_taken(&b));
        let second = queue.enter(place(2), Wanted::Any(&new), 9).unwrap();
        assert!(queue.may_look(second) && queue.is_first(second, &b) && !queue.is_first(second, &a));
        assert_eq!((queue.grant(&b), queue.grant(&a)), (Some(place(2)), Some(place(1))));
        queue.leave(first, Some(&a), false);
        queue.leave(second, Some(&b), false);
        drop(old);
        all(&queue, &[]);
        assert_eq!(queue.lines().reaches.len(), 2, "what nobody holds is forgotten");
    }

    #[test]
    fn who_turns_to_others_keeps_its_place_in_the_order() {
        let (queue, [a, b]) = (Queue::default(), ["a", "b"].map(server));
        let reach = all(&queue, &[&a, &b]);
        let mut first = queue.enter(place(1), Wanted::One(&a), 9).unwrap();
        let mut second = queue.enter(place(2), Wanted::Any(&reach), 9).unwrap();
        assert_eq!(queue.grant(&b), Some(place(2)));
        // It had no use for b, and then the other one has turned to any.
        assert_eq!(queue.wait_on(&mut second, Wanted::Any(&reach), |_| true), Passed::default());
        assert!(!queue.is_taken(&b), "until it looks again");
        queue.wait_on(&mut first, Wanted::Any(&reach), |_| true);
        assert!(queue.may_look(first) && !queue.may_look(second) && queue.is_taken(&b));
        assert_eq!(queue.grant(&b), Some(place(1)));
        queue.wait_on(&mut second, Wanted::Any(&reach), |_| true);
        let passed = queue.wait_on(&mut first, Wanted::Any(&reach), |_| true);
        assert_eq!(passed.granted, Some((address(&b), place(2))), "what it had no use for passes on");
        // Not back, though: it would go round for ever.
        queue.wait_on(&mut first, Wanted::Any(&reach), |_| true);
        assert_eq!(queue.wait_on(&mut second, Wanted::Any(&reach), |_| true), Passed::default());
        let passed = queue.wait_on(&mut first, Wanted::One(&a), |_| true);
        assert_eq!(passed, Passed { granted: None, front: Some(place(2)) }, "whose turn it is to look");
        assert_eq!(queue.leave(second, Some(&b), false), None);
        let third = queue.enter(place(3), Wanted::One(&a), 9).unwrap();
        assert_eq!(queue.leave(first, Some(&b), false), Some(place(3)), "b may be for it, too");
        let fourth = queue.enter(place(4), Wanted::One(&a), 9).unwrap();
        assert_eq!(queue.leave(third, None, true), Some(place(4)), "and so may another backend");
        assert_eq!(queue.leave(fourth, Some(&a), false), None);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_full_queue_takes_nobody_in() {
        let (queue, a) = (Queue::default(), server("a"));
        let reach = all(&queue, &[&a]);
        assert_eq!(queue.enter(place(0), Wanted::Any(&reach), 0), None);
        let first = queue.enter(place(0), Wanted::Any(&reach), 1).unwrap();
        assert_eq!(queue.enter(place(1), Wanted::One(&a), 1), None);
        queue.leave(first, None, false);
        assert!(queue.enter(place(1), Wanted::One(&a), 1).is_some());
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
            let (queue, servers) = (Queue::default(), ["a", "b"].map(server));
            let reach = queue.reach(servers.iter());
            let able = |own: u8, at: u8| own == 2 || own == at;
            let mut waiting: Vec<(Ticket, u8, Option<u8>)> = Vec::new();
            for (step, kind) in steps {
                let wanted = match kind {
                    0 | 1 => Wanted::One(&servers[usize::from(kind)]),
                    _ => Wanted::Any(&reach),
                };
                match step {
                    0 | 1 => {
                        let ticket = queue.enter(place(0), wanted, 30);
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
                        prop_assert_eq!(queue.leave(ticket, None, false).is_some(), next.is_some());
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
