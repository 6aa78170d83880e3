//! Connections to servers with a bound on them go from worker to worker.
//!
//! Pools are per worker. Where a server's connections are bounded, all that there may be can be there while this worker
//! has none of them idle: then a sibling has. Whoever has a permit for the server is sure to find one (lb-core's
//! `live/connections.rs` says why), and comes by it in one of three ways:
//!
//! - who gives its place at the server on to a request of another worker hands an idle connection along with it;
//! - who *seeks* stands in a line that all workers share, and whoever gives a connection back gives it to the first;
//! - a question goes round, from one worker to the next, until one has an idle connection, or nobody has: then those
//!   that are in use are given back some time, and the line tells to whom.
//!
//! What is handed over is the descriptor, and not the wish that it be closed: at its bound a server changes hands with
//! nearly every request, and one connect each, closed by us, would use up the ports towards it within seconds.
//!
//! Nothing here is touched by servers without a bound on connections, but for one look at whether there is one. Where
//! there is one, giving a connection back reads one number, and only at the bound there is a lock.

use std::collections::{HashMap, VecDeque};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lb_core::{Connection, ServerLive};

use super::Worker;
use super::conns::{Fill, Owner};
use super::queue::Place;
use super::tasks::TaskIndex;
use crate::driver::{ConnKey, Socket};
use crate::proxy::pool::Idle;

/// Who seeks a connection, by the address of the server, in the order in which they came.
type Lines = HashMap<usize, VecDeque<Place>>;

/// The attempts of all workers that have a permit and no connection.
#[derive(Debug, Default)]
pub struct Seekers {
    count: AtomicU32,
    lines: Mutex<Lines>,
}

fn address(server: &ServerLive) -> usize {
    ptr::from_ref(server).addr()
}

impl Seekers {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stands in line. False if it does already.
    fn enter(&self, server: &ServerLive, place: Place) -> bool {
        let mut lines = self.lines();
        let line = lines.entry(address(server)).or_default();
        let is_new = !line.contains(&place);
        if is_new {
            line.push_back(place);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        // Either whoever closes a connection sees that somebody seeks one, or who seeks sees that it is closed.
        fence(Ordering::SeqCst);
        is_new
    }

    /// Leaves, if it is still there: whoever takes it out is the one to give it something.
    fn leave(&self, server: &ServerLive, place: Place) -> bool {
        self.take(server, |line| line.iter().position(|it| *it == place)).is_some()
    }

    /// Takes out who has sought for longest.
    fn next(&self, server: &ServerLive) -> Option<Place> {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.take(server, |line| (!line.is_empty()).then_some(0))
    }

    fn take(
        &self,
        server: &ServerLive,
        which: impl FnOnce(&VecDeque<Place>) -> Option<usize>,
    ) -> Option<Place> {
        let mut lines = self.lines();
        let line = lines.get_mut(&address(server))?;
        let place = which(line).and_then(|at| line.remove(at))?;
        if line.is_empty() {
            lines.remove(&address(server));
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        Some(place)
    }
}

/// A connection on its way to another worker's pool.
pub struct Lent {
    /// Not attached. Before what it counts as, as fields are dropped in order.
    socket: Socket,
    /// What it counts as.
    connection: Connection,
    /// Since when it has been idle.
    since: Duration,
    /// When it is closed if nobody uses it.
    until: Duration,
    /// The task that it is for.
    task: TaskIndex,
}

/// A question for an idle connection, on its way round.
pub struct Asked {
    server: Arc<ServerLive>,
    seeker: Place,
    /// How many workers it goes to yet.
    left: usize,
}

impl Worker {
    /// Has a task that found neither an idle connection nor room for another stand in line. False if it does already.
    pub(crate) fn seek(&self, server: &ServerLive, task: TaskIndex) -> bool {
        let place = self.place(task);
        self.siblings.borrow().seekers().enter(server, place)
    }

    /// The end of [`Worker::seek`].
    pub(crate) fn stop_seeking(&self, server: &ServerLive, task: TaskIndex) {
        let place = self.place(task);
        self.siblings.borrow().seekers().leave(server, place);
    }

    /// Asks the others for an idle connection for a task that seeks one.
    pub(crate) fn ask_round(&self, server: &Arc<ServerLive>, task: TaskIndex) {
        let seeker = self.place(task);
        let siblings = self.siblings.borrow();
        siblings.ask(Asked { server: Arc::clone(server), seeker, left: siblings.others() });
    }

    /// Answers what others ask for.
    pub(super) fn answer_asked(&self) {
        let siblings = self.siblings.borrow();
        while let Some(Asked { server, seeker, left }) = siblings.take_asked() {
            let pools = self.pools.borrow();
            let pool = pools.of(&server).filter(|pool| pools.oldest_of(*pool, &server).is_some());
            drop(pools);
            match pool {
                Some(pool) if siblings.seekers().leave(&server, seeker) => {
                    self.lend_or_wake(pool, &server, seeker)
                }
                // It has one meanwhile.
                Some(_) => {}
                None if left > 1 => siblings.ask(Asked { server, seeker, left: left - 1 }),
                None => {}
            }
        }
    }

    /// An idle connection came into a pool: where its server has a bound, somebody may wait for it, or there may be too
    /// many.
    pub(crate) fn offer(&self, pool: u32, conn: ConnKey, server: &ServerLive) {
        if server.max_connections().is_none() {
            return;
        }
        let next = self.siblings.borrow().seekers().next(server);
        match next {
            Some(seeker) => self.lend_or_wake(pool, server, seeker),
            None if server.has_excess_connections() => self.close_upstream(conn),
            None => {}
        }
    }

    /// A connection is closed and counts no more: who seeks one can make it.
    pub(crate) fn uncount(&self, connection: Connection) {
        let bounded = connection.server().max_connections().map(|_| Arc::clone(connection.server()));
        drop(connection);
        if let Some(server) = bounded {
            let next = self.siblings.borrow().seekers().next(&server);
            if let Some(seeker) = next {
                self.wake(seeker);
            }
        }
    }

    /// Wakes who was granted a place at a server, with a connection where it could not make one.
    pub(crate) fn wake_granted(&self, server: &ServerLive, place: Place) {
        let is_at_bound = server.max_connections().is_some_and(|most| server.connections() >= most);
        let pool = self.pools.borrow().of(server).filter(|_| is_at_bound);
        match pool {
            Some(pool) => self.lend_or_wake(pool, server, place),
            None => self.wake(place),
        }
    }

    /// Closes what is idle of connections beyond a bound, as after a reload that lowers it.
    pub(super) fn close_excess(&self) {
        let current = self.current();
        for (server, pool) in current.table.live.servers().iter().zip(&current.pools) {
            while server.has_excess_connections() {
                let Some(oldest) = self.pools.borrow().oldest_of(*pool, server) else { break };
                self.close_upstream(oldest);
            }
        }
    }

    /// Wakes a task, and hands it an idle connection if it is another worker's; one of ours finds it in the pool.
    fn lend_or_wake(&self, pool: u32, server: &ServerLive, place: Place) {
        if place.worker == self.siblings.borrow().me() || !self.lend(pool, server, place) {
            self.wake(place);
        }
    }

    fn lend(&self, pool: u32, server: &ServerLive, place: Place) -> bool {
        loop {
            let idle = self.pools.borrow_mut().take(pool, server, self.now(), None);
            let Some(Idle { conn, since, until }) = idle else { return false };
            self.slot(conn, |slot| slot.owner = Owner::None);
            if !self.is_quiet(conn) {
                self.close_upstream(conn);
                continue;
            }
            let Some((socket, connection)) = self.give_away(conn) else { continue };
            let lent = Lent { connection, socket, since, until, task: place.task };
            return match self.siblings.borrow().lend(lent, place.worker) {
                Ok(()) => true,
                // It has as many on their way as it takes. Closed, it makes room for another.
                Err(Lent { connection, socket, .. }) => {
                    drop(socket);
                    self.uncount(connection);
                    false
                }
            };
        }
    }

    /// Whether nothing has come on a connection that nothing is under way on. Where the last receive did not drain the
    /// socket, nobody knows: look.
    pub(crate) fn is_quiet(&self, conn: ConnKey) -> bool {
        let drained = !self.is_readable(conn) || matches!(self.fill(conn), Fill::Blocked);
        drained && !self.is_hung_up(conn)
    }

    /// Takes connections in that others handed over, and wakes those that they are for.
    pub(super) fn take_lent(&self) {
        loop {
            let Some(lent) = self.siblings.borrow().take_lent() else { return };
            let Lent { connection, socket, since, until, task } = lent;
            match self.driver.attach(socket) {
                Ok(conn) => self.admit_lent(conn, connection, since, until),
                Err(_) => self.uncount(connection),
            }
            self.tasks.wake(task);
        }
    }

    fn admit_lent(&self, conn: ConnKey, connection: Connection, since: Duration, until: Duration) {
        let server = Arc::clone(connection.server());
        self.enter_upstream(conn, Owner::None, connection);
        self.counters().upstream_active.add(1);
        self.note_readable(conn, false);
        let pool = self.pools.borrow().of(&server);
        let kept = pool.is_some_and(|pool| self.keep_idle(conn, pool, &server, since, until));
        if !kept || server.has_excess_connections() {
            self.close_upstream(conn);
        }
    }

    /// Puts a connection into a pool, if it is good for another exchange and the pool takes it. Nobody takes one of a server
    /// that nobody is sent to any more.
    pub(crate) fn keep_idle(
        &self,
        conn: ConnKey,
        pool: u32,
        server: &ServerLive,
        since: Duration,
        until: Duration,
    ) -> bool {
        let idle = Idle { conn, since, until };
        let is_good = self.is_quiet(conn) && !server.is_left_alone(self.now());
        let place = is_good.then(|| self.pools.borrow_mut().put(pool, server, idle)).flatten();
        if let Some(place) = place {
            self.slot(conn, |slot| slot.owner = Owner::IdleUpstream { pool, place });
            self.set_deadline(conn, until);
        }
        place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::siblings::Siblings;
    use super::*;
    use lb_core::Identity;

    fn server(name: &str) -> ServerLive {
        let address = ([10, 0, 0, 1], 1).into();
        ServerLive::new(Identity { backend: "b".into(), name: name.into(), address })
    }

    #[test]
    fn what_a_worker_does_not_take_comes_back_and_counts() {
        let (workers, server) = (Siblings::of(2), Arc::new(server("a")));
        let lend = || {
            let nothing = std::fs::File::open("/dev/null").unwrap();
            let (connection, socket) = (server.connect().unwrap(), Socket::Kernel(nothing.into()));
            let (since, until) = (Duration::ZERO, Duration::ZERO);
            workers[0].lend(Lent { connection, socket, since, until, task: 0 }, 1)
        };
        let taken = (0..1_000).filter(|_| lend().is_ok()).count();
        assert!((1..1_000).contains(&taken), "there is a bound: {taken}");
        assert_eq!(server.connections() as usize, taken);
        drop(workers[1].take_lent());
        assert_eq!(server.connections() as usize, taken - 1);
        workers[1].stop();
        assert_eq!(server.connections(), 0, "what was on its way is closed");
        assert!(lend().is_err(), "one that has stopped takes nothing");
        assert_eq!(server.connections(), 0);
    }

    #[test]
    fn questions_go_to_the_next_worker_that_can_answer() {
        let (workers, server) = (Siblings::of(3), Arc::new(server("a")));
        let ask = |from: usize| {
            let seeker = Place { worker: from, task: 7 };
            workers[from].ask(Asked { server: Arc::clone(&server), seeker, left: 2 });
        };
        ask(2);
        assert!(workers[0].take_asked().is_some_and(|asked| asked.left == 2));
        workers[0].stop();
        ask(2);
        assert!(workers[0].take_asked().is_none() && workers[1].take_asked().is_some());
        workers[1].stop();
        ask(2);
        assert!(workers.iter().all(|worker| worker.take_asked().is_none()), "nobody is left");
    }

    #[test]
    fn seekers_are_served_in_order_and_by_one() {
        let (seekers, a, b) = (Seekers::default(), server("a"), server("b"));
        let place = |task| Place { worker: 0, task };
        assert_eq!(seekers.next(&a), None);
        for task in [1, 2, 2, 3] {
            seekers.enter(&a, place(task));
        }
        seekers.enter(&b, place(4));
        assert_eq!(seekers.count.load(Ordering::Relaxed), 4, "nobody stands twice");
        assert!(seekers.leave(&a, place(2)) && !seekers.leave(&a, place(2)));
        assert!(!seekers.leave(&b, place(1)), "not that one's line");
        assert_eq!(
            (seekers.next(&a), seekers.next(&a), seekers.next(&a)),
            (Some(place(1)), Some(place(3)), None)
        );
        assert_eq!(seekers.next(&b), Some(place(4)));
        assert!(seekers.lines().is_empty() && seekers.count.load(Ordering::Relaxed) == 0);
    }
}
