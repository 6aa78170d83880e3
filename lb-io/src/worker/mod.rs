//! One thread's share of the engine: its driver, connections, timers, buffers and tasks.
//!
//! A turn waits for events, hands each to whoever owns its connection and runs the woken tasks before the
//! next one is looked at, so that what an event brought into the caches is used while it is there. Where classes
//! share the worker all events come first, and tasks are run by class (`classes.rs`).

mod accepting;
pub mod buffers;
pub mod classes;
pub mod conns;
mod current;
pub mod lending;
mod lines;
pub mod pipes;
pub mod queue;
pub mod randomness;
pub mod siblings;
pub mod tasks;
pub mod timers;
mod waiting;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{Cursors, Table};

use self::buffers::BufferPool;
use self::classes::Classes;
use self::conns::{Conns, Fill, Owner};
pub use self::current::Current;
use self::current::{budgets_of, current_of};
use self::pipes::Pipes;
use self::randomness::Randomness;
use self::siblings::{Handed, Siblings};
use self::tasks::{TaskIndex, Tasks};
use self::timers::Timers;
use crate::counters::Counters;
use crate::driver::{ConnKey, Driver, Event, ListenerKey, MAX_EVENTS, Socket};
use crate::handover;
use crate::log::LogBuffer;
use crate::metrics::Recorder;
use crate::metrics::registry::WorkerPlaces;
use crate::proxy::exchange;
use crate::proxy::pool::Pools;
use crate::spans::SpanBuffer;
use crate::trace::TraceOptions;

/// Tasks kept for the next exchange beyond as many as are busy; further ones end.
const KEPT_TASKS: usize = 64;

/// See [`Limits::class_turn`].
pub const CLASS_TURN: Duration = Duration::from_micros(200);

/// How long after the start of a drain listeners still take what waits in the kernel's queue.
const ACCEPT_GRACE: Duration = Duration::from_millis(50);

/// How long after accepting was paused it is tried again, even if nothing was closed meanwhile.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);

/// How many events ahead of its turn a task's memory is asked for; a connection's slot, which tells of the task, twice
/// as many. One event takes microseconds, most of them in the kernel, and memory a tenth of one.
const PREFETCH_AHEAD: usize = 2;

/// Connections for which a worker has room from the start.
const USUAL_CONNS: usize = 128;

/// Bounds of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections open at a time. At the bound accepting pauses until one closes.
    pub connections: usize,
    /// How many workers there are: bounds of listeners are divided among them.
    pub workers: usize,
    /// Connections that are kept waiting when accepting was paused too late for them; further ones are closed.
    pub held: usize,
    /// Pipes for splicing, of two descriptors each. Without one, bodies are copied.
    pub pipes: usize,
    /// Bytes of buffers in use at a time. Near the bound new requests are answered 503, at it reading waits.
    pub buffer_bytes: usize,
    /// How long tasks are run before events are looked for again, where classes share a worker. It is about what a
    /// request of a high class waits for those of others; the shorter it is, the fewer messages go out together.
    pub class_turn: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_000,
            held: 256,
            pipes: 32,
            workers: 1,
            buffer_bytes: 256 << 20,
            class_turn: CLASS_TURN,
        }
    }
}

/// What a task was given to serve.
#[derive(Debug, Clone, Copy)]
struct Job {
    down: ConnKey,
    /// The task has not taken it yet.
    fresh: bool,
}

struct Listener {
    key: ListenerKey,
    listener: u32,
    paused: bool,
}

/// A worker. All of it lives on one thread; tasks share it through an `Rc`.
pub struct Worker {
    pub(crate) driver: Box<dyn Driver>,
    siblings: RefCell<Siblings>,
    pub(crate) conns: RefCell<Conns>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) buffers: RefCell<BufferPool>,
    pub(crate) tasks: Tasks,
    pub(crate) classes: Classes,
    pub(crate) pools: RefCell<Pools>,
    pub(crate) metrics: Recorder,
    pub(crate) log: RefCell<Option<LogBuffer>>,
    /// What is done about traces; none: nothing.
    pub(crate) tracing: Cell<Option<TraceOptions>>,
    /// Where exchanges of sampled traces are recorded; none: nowhere.
    pub(crate) spans: RefCell<Option<SpanBuffer>>,
    pub(crate) randomness: RefCell<Randomness>,
    current: RefCell<Rc<Current>>,
    listener_names: Arc<[Box<str>]>,
    pub(crate) limits: Limits,
    listeners: RefCell<Vec<Listener>>,
    jobs: RefCell<Vec<Job>>,
    idle_tasks: RefCell<Vec<TaskIndex>>,
    busy_tasks: Cell<usize>,
    downstream: Cell<usize>,
    now: Cell<Duration>,
    draining_since: Cell<Option<Duration>>,
    /// Lines or spans wait to be handed on.
    hands_on: Cell<bool>,
    accept_retry_at: Cell<Option<Duration>>,
    /// Accepted over the bound, in order.
    held: RefCell<VecDeque<(u32, Socket, SocketAddr)>>,
    open_by_listener: RefCell<Vec<usize>>,
    /// By the driver's keys.
    listener_by_key: RefCell<Vec<u32>>,
    starved: RefCell<Vec<TaskIndex>>,
    /// Tasks that wait for a server with room, and when they look again.
    queued: RefCell<Vec<TaskIndex>>,
    look_again_at: Cell<Duration>,
    pub(crate) pipes: RefCell<Pipes>,
    stopping: Cell<bool>,
    woken: Cell<bool>,
    events: RefCell<Vec<Event>>,
    expired: RefCell<Vec<u32>>,
}

impl Worker {
    /// A worker over a driver of this thread's, for the listeners of these names. `seed` makes its random
    /// choices; it should be secret.
    pub fn new(
        driver: Box<dyn Driver>,
        table: Arc<Table>,
        listener_names: &Arc<[Box<str>]>,
        limits: Limits,
        metrics: Recorder,
        log: Option<LogBuffer>,
        seed: [u8; 16],
    ) -> Rc<Self> {
        let mut pools = Pools::default();
        let mut randomness = Randomness::new(seed);
        let cursors = Cursors::new(randomness.draw() as u64);
        let format = log.as_ref().map(LogBuffer::format);
        let alone = Siblings::of(1).swap_remove(0);
        let parts = (metrics.layout(), alone.queues().as_ref());
        let budgets = budgets_of(&table, None);
        let current = current_of(table, parts, format, listener_names, (cursors, budgets), &mut pools).0;
        let now = driver.now();
        let worker = Self {
            driver,
            siblings: RefCell::new(alone),
            conns: RefCell::new(Conns::with_room(USUAL_CONNS)),
            timers: RefCell::default(),
            buffers: RefCell::new(BufferPool::new(limits.buffer_bytes)),
            tasks: Tasks::default(),
            classes: Classes::default(),
            pools: RefCell::new(pools),
            metrics,
            log: RefCell::new(log),
            tracing: Cell::new(None),
            spans: RefCell::new(None),
            randomness: RefCell::new(randomness),
            current: RefCell::new(Rc::new(current)),
            listener_names: Arc::clone(listener_names),
            limits,
            listeners: RefCell::default(),
            jobs: RefCell::default(),
            idle_tasks: RefCell::default(),
            busy_tasks: Cell::new(0),
            downstream: Cell::new(0),
            now: Cell::new(now),
            draining_since: Cell::new(None),
            hands_on: Cell::new(false),
            accept_retry_at: Cell::new(None),
            held: RefCell::default(),
            listener_by_key: RefCell::default(),
            open_by_listener: RefCell::new(vec![0; listener_names.len()]),
            starved: RefCell::default(),
            queued: RefCell::default(),
            look_again_at: Cell::default(),
            pipes: RefCell::default(),
            stopping: Cell::new(false),
            woken: Cell::new(false),
            events: RefCell::new(Vec::with_capacity(MAX_EVENTS)),
            expired: RefCell::default(),
        };
        worker.fit_classes(worker.current().table.snapshot.classes());
        Rc::new(worker)
    }

    /// Makes it one of several workers, which hand fresh connections to each other. Comes before listening.
    pub fn join(&self, siblings: Siblings) {
        siblings.open(self.driver.waker());
        *self.siblings.borrow_mut() = siblings;
        // Where requests wait is common to all.
        let table = Arc::clone(&self.current.borrow().table);
        self.adopt(table);
    }

    /// Has it look at traces, and record exchanges of those that are sampled if there is a buffer for that. Comes before
    /// listening.
    pub fn trace(&self, options: TraceOptions, spans: Option<SpanBuffer>) {
        self.tracing.set(Some(options));
        *self.spans.borrow_mut() = spans;
    }

    /// Serves a listening socket of the listener whose name stands at `listener`.
    ///
    /// # Errors
    /// The driver's.
    pub fn listen(&self, socket: Socket, listener: u32) -> io::Result<()> {
        let key = self.driver.listen(socket)?;
        let mut by_key = self.listener_by_key.borrow_mut();
        debug_assert_eq!(key as usize, by_key.len(), "keys count up from 0");
        by_key.push(listener);
        self.listeners.borrow_mut().push(Listener { key, listener, paused: false });
        Ok(())
    }

    /// Puts a new table in force. Exchanges under way end by the one they began with; idle connections to
    /// servers that are gone, or that nobody is to be sent to any more, are closed.
    pub fn publish(&self, table: Arc<Table>, places: WorkerPlaces) {
        self.metrics.adopt(places);
        self.adopt(table);
    }

    fn adopt(&self, table: Arc<Table>) {
        let cursors = self.current.borrow().cursors.borrow().clone();
        self.fit_classes(table.snapshot.classes());
        let budgets = budgets_of(&table, Some(&self.current.borrow()));
        let format = self.log.borrow().as_ref().map(LogBuffer::format);
        let siblings = self.siblings.borrow();
        let parts = (self.metrics.layout(), siblings.queues().as_ref());
        let (next, mut orphans) = current_of(
            table,
            parts,
            format,
            &self.listener_names,
            (cursors, budgets),
            &mut self.pools.borrow_mut(),
        );
        for (live, pool) in next.table.live.servers().iter().zip(&next.pools) {
            if live.is_left_alone(self.now()) {
                orphans.extend(self.pools.borrow_mut().empty(*pool));
            }
        }
        *self.current.borrow_mut() = Rc::new(next);
        for conn in orphans {
            self.slot(conn, |slot| slot.owner = Owner::None);
            self.close_upstream(conn);
        }
        self.close_excess();
        // For who waits servers may have come, gone, and been given more room.
        self.look_again_at.set(Duration::ZERO);
    }

    /// The numbers of the worker as a whole.
    pub(crate) fn counters(&self) -> &Counters {
        self.metrics.counters()
    }

    /// The table in force.
    pub fn current(&self) -> Rc<Current> {
        Rc::clone(&self.current.borrow())
    }

    /// The time at which the current turn's events were received.
    pub fn now(&self) -> Duration {
        self.now.get()
    }

    /// Stops accepting, closes idle client connections and has every response say that its connection
    /// closes. [`Worker::is_drained`] tells when nothing is left.
    pub fn drain(self: &Rc<Self>) {
        if self.draining_since.get().is_some() {
            return;
        }
        self.draining_since.set(Some(self.driver.now()));
        self.siblings.borrow().close();
        self.take_handed();
        let all = self.conns.borrow().all();
        for (conn, owner) in all {
            if owner == Owner::IdleDownstream && self.slot(conn, |slot| slot.served > 0) {
                self.close_downstream(conn, false);
            }
        }
    }

    /// Whether a drain was begun.
    pub fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// Whether a drain was begun and no client's connection is open any more.
    pub fn is_drained(&self) -> bool {
        let idle = self.downstream.get() == 0 && self.held.borrow().is_empty();
        self.is_draining() && self.listeners.borrow().is_empty() && idle
    }

    /// Whether another thread woke the driver since this was last asked.
    pub fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// Closes everything at once. The worker is good for nothing afterwards.
    pub fn stop(&self) {
        for listener in self.listeners.borrow_mut().drain(..) {
            self.driver.unlisten(listener.key);
        }
        self.stopping.set(true);
        self.fit_classes(None);
        let all = self.conns.borrow().all();
        for (_, owner) in all {
            if let Owner::Task(task) = owner {
                self.tasks.wake(task);
            }
        }
        self.tasks.run();
        self.tasks.clear();
        self.held.borrow_mut().clear();
        self.siblings.borrow().stop();
        let all = self.conns.borrow().all();
        for (conn, _) in all {
            drop(self.close(conn, true));
        }
        for listener in 0..self.listener_names.len() {
            self.metrics.listener(listener as u32).active.set(0);
        }
        *self.log.borrow_mut() = None;
        *self.spans.borrow_mut() = None;
    }

    /// Waits for events, at most `longest`, and does what they ask for.
    ///
    /// # Errors
    /// The driver's, none of which can be lived with.
    pub fn turn(self: &Rc<Self>, longest: Duration) -> io::Result<()> {
        let mut events = self.events.take();
        self.driver.turn(Some(self.wait_for(longest)), &mut events)?;
        self.now.set(self.driver.now());
        self.close_stale_upstreams(&events);
        let by_class = self.classes.are_on();
        for at in 0..events.len() {
            self.prefetch(&events, at);
            self.handle(std::mem::replace(&mut events[at], Event::Woken));
            if !by_class {
                self.tasks.run();
            }
        }
        events.clear();
        self.events.replace(events);
        self.expire();
        self.feed_starved();
        self.look_again();
        if by_class {
            self.run_by_class()
        } else {
            self.tasks.run()
        }
        self.retry_accepting();
        self.go_on_draining();
        self.hand_on();
        self.counters().buffer_bytes.set(self.buffers.borrow().lent_bytes() as u64);
        self.counters().upstream_idle.set(self.pools.borrow().idle() as u64);
        self.counters().held.set(self.held.borrow().len() as u64);
        Ok(())
    }

    /// Has the processor fetch what the events behind this one are about, while the kernel is at work for this one.
    /// With a thousand busy connections nothing of one is in the nearer caches when its turn comes.
    fn prefetch(&self, events: &[Event], at: usize) {
        let conn = |event: &Event| match event {
            Event::Readable { conn, .. } | Event::Writable { conn } => Some(*conn),
            _ => None,
        };
        if let Some(conn) = events.get(at + 2 * PREFETCH_AHEAD).and_then(conn) {
            self.conns.borrow().prefetch(conn.index);
        }
        let next = events.get(at + PREFETCH_AHEAD).and_then(conn);
        let owner = next.and_then(|conn| self.conns.borrow_mut().try_get(conn).map(|slot| slot.owner));
        if let Some(Owner::Task(task)) = owner {
            self.prefetch_task(task);
        }
    }

    fn prefetch_task(&self, task: TaskIndex) {
        self.tasks.prefetch(task);
        if let Some(job) = self.jobs.borrow().get(task as usize) {
            self.conns.borrow().prefetch(job.down.index);
        }
    }

    /// How long the next turn may wait for events, at most `longest`.
    pub fn wait_for(&self, longest: Duration) -> Duration {
        if self.tasks.any_woken() || self.classes.any_waiting() {
            return Duration::ZERO;
        }
        let mut wait =
            self.timers.borrow().next_wait(self.now.get()).map_or(longest, |wait| wait.min(longest));
        if self.accept_retry_at.get().is_some() {
            wait = wait.min(ACCEPT_RETRY);
        }
        if self.hands_on.get() {
            wait = wait.min(handover::DELAY);
        }
        if !self.queued.borrow().is_empty() {
            wait = wait.min(self.look_again_at.get().saturating_sub(self.now()));
        }
        if self.is_draining() && !self.listeners.borrow().is_empty() {
            wait = wait.min(ACCEPT_GRACE);
        }
        wait
    }

    /// Whatever comes on a pooled connection closes it, before an exchange of the same batch can take it.
    fn close_stale_upstreams(&self, events: &[Event]) {
        for event in events {
            if let Event::Readable { conn, hangup } = *event {
                let owner = self.conns.borrow_mut().try_get(conn).map(|slot| slot.owner);
                if let Some(Owner::IdleUpstream { .. }) = owner {
                    self.note_readable(conn, hangup);
                    self.check_idle_upstream(conn);
                }
            }
        }
    }

    /// Closes a pooled connection unless the event was about bytes that were read already.
    fn check_idle_upstream(&self, conn: ConnKey) {
        if self.is_hung_up(conn) || !matches!(self.fill(conn), Fill::Blocked) {
            self.close_upstream(conn);
        }
    }

    fn handle(self: &Rc<Self>, event: Event) {
        match event {
            Event::Readable { conn, hangup } => match self.note_readable(conn, hangup) {
                Owner::Task(task) => self.tasks.wake(task),
                Owner::IdleDownstream => self.begin(conn),
                Owner::IdleUpstream { .. } => self.check_idle_upstream(conn),
                Owner::None => {}
            },
            Event::Unsent { conn, bytes } => {
                let owner = self.take_back(conn, &bytes);
                self.tell_end(conn, owner);
            }
            Event::Writable { conn } => {
                if let Owner::Task(task) = self.note_writable(conn) {
                    self.tasks.wake(task);
                }
            }
            Event::Accepted { listener, socket, peer } => self.accepted(listener, socket, peer),
            Event::AcceptFailed { listener, .. } => {
                self.counters().accept_failures.add(1);
                self.pause_accepting(|known| known.key == listener);
            }
            Event::Woken => {
                self.woken.set(true);
                self.take_handed();
                self.take_lent();
                self.answer_asked();
                while let Some(task) = self.siblings.borrow().take_wake() {
                    self.tasks.wake(task);
                }
            }
        }
    }

    fn expire(&self) {
        let mut expired = self.expired.take();
        self.timers.borrow_mut().expire(self.now.get(), &mut expired);
        for index in expired.drain(..) {
            let Some(conn) = self.conns.borrow().at(index) else { continue };
            let owner = self.note_expired(conn);
            self.tell_end(conn, owner);
        }
        self.expired.replace(expired);
    }

    /// Has the owner of a connection that is over see to it.
    fn tell_end(&self, conn: ConnKey, owner: Owner) {
        match owner {
            Owner::Task(task) => self.tasks.wake(task),
            Owner::IdleDownstream => self.close_downstream(conn, false),
            Owner::IdleUpstream { .. } => self.close_upstream(conn),
            Owner::None => {}
        }
    }

    /// A connection came in here: it stays, or goes to a worker that has fewer.
    fn accepted(self: &Rc<Self>, listener: ListenerKey, socket: Socket, peer: SocketAddr) {
        // Also of a listener that was closed meanwhile.
        let listener = self.listener_by_key.borrow()[listener as usize];
        let lot = self.randomness.borrow_mut().lot();
        let stays = {
            let siblings = self.siblings.borrow();
            siblings.hand_over(Handed { listener, socket, peer }, lot).inspect(|_| siblings.opened())
        };
        if let Some(handed) = stays {
            self.receive(handed);
        }
    }

    /// Takes what other workers handed over.
    fn take_handed(self: &Rc<Self>) {
        loop {
            let Some(handed) = self.siblings.borrow().take() else { return };
            self.receive(handed);
        }
    }

    /// Takes in, or holds, a connection that is counted as this worker's.
    fn receive(self: &Rc<Self>, handed: Handed) {
        let Handed { listener: index, socket, peer } = handed;
        self.metrics.listener(index).accepted.add(1);
        if !self.is_full(index) {
            // A client that had to wait for us has sent its request by now, as a rule.
            if let Some(conn) = self.admit(index, socket, peer) {
                self.note_readable(conn, false);
                self.begin(conn);
            }
        } else if self.held.borrow().len() < self.limits.held {
            self.held.borrow_mut().push_back((index, socket, peer));
        } else {
            self.siblings.borrow().ended();
            self.metrics.listener(index).turned_away.add(1);
        }
        if self.is_full(index) {
            // What is already on its way comes in yet, and is held.
            self.pause_accepting(|listener| self.is_full(listener.listener));
        }
    }

    /// Gives an idle client connection with news to an exchange task.
    fn begin(self: &Rc<Self>, conn: ConnKey) {
        let task = self.idle_tasks.borrow_mut().pop();
        let task = task.unwrap_or_else(|| self.tasks.spawn(|me| exchange::serve_jobs(Rc::clone(self), me)));
        self.busy_tasks.set(self.busy_tasks.get() + 1);
        let line = self.slot(conn, |slot| {
            slot.owner = Owner::Task(task);
            slot.line
        });
        self.begin_in(task, line);
        let mut jobs = self.jobs.borrow_mut();
        let job = Job { down: conn, fresh: true };
        if jobs.len() <= task as usize {
            jobs.resize(task as usize + 1, job);
        }
        jobs[task as usize] = job;
        self.tasks.wake(task);
    }

    /// The connection that a task was given to serve.
    pub(crate) fn take_job(&self, task: TaskIndex) -> Option<ConnKey> {
        let mut jobs = self.jobs.borrow_mut();
        let job = jobs.get_mut(task as usize)?;
        let given = std::mem::take(&mut job.fresh).then_some(job.down);
        given.inspect(|_| self.has_begun(task))
    }

    /// A task has served its connection. True if it should wait for the next, false if it should end.
    pub(crate) fn finish_job(&self, task: TaskIndex) -> bool {
        self.busy_tasks.set(self.busy_tasks.get() - 1);
        let keep = self.idle_tasks.borrow().len() < KEPT_TASKS + self.busy_tasks.get();
        if keep {
            self.idle_tasks.borrow_mut().push(task);
        }
        keep
    }

    /// Closes a client's connection.
    pub(crate) fn close_downstream(&self, conn: ConnKey, reset: bool) {
        let listener = self.slot(conn, |slot| slot.listener);
        drop(self.close(conn, reset));
        self.downstream.set(self.downstream.get() - 1);
        self.siblings.borrow().ended();
        self.open_by_listener.borrow_mut()[listener as usize] -= 1;
        self.metrics.listener(listener).active.subtract(1);
        self.resume_accepting();
    }

    /// Closes a connection to a server, pooled or not.
    pub(crate) fn close_upstream(&self, conn: ConnKey) {
        if let Owner::IdleUpstream { pool, place } = self.slot(conn, |slot| slot.owner) {
            let moved = self.pools.borrow_mut().remove(pool, place);
            if let Some(moved) = moved {
                self.slot(moved.conn, |slot| slot.owner = Owner::IdleUpstream { pool, place: moved.place });
            }
        }
        let counted = self.close(conn, false);
        self.counters().upstream_active.subtract(1);
        if let Some(connection) = counted {
            self.uncount(connection);
        }
        self.resume_accepting();
    }

    /// Closes the connection to a server that has been idle for longest, if any is idle: pools keep what was
    /// once needed, and together they could keep more than there are descriptors.
    pub(crate) fn evict_upstream(&self) -> bool {
        let oldest = self.pools.borrow().oldest();
        oldest.inspect(|conn| self.close_upstream(*conn)).is_some()
    }

    /// Whether the worker ends now: what is under way is recorded and cut off.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn go_on_draining(&self) {
        let Some(since) = self.draining_since.get() else { return };
        if self.now() >= since + ACCEPT_GRACE && !self.listeners.borrow().is_empty() {
            for listener in self.listeners.borrow_mut().drain(..) {
                self.driver.unlisten(listener.key);
            }
            let all = self.conns.borrow().all();
            for (conn, owner) in all {
                if owner == Owner::IdleDownstream {
                    self.close_downstream(conn, false);
                }
            }
        }
    }

    fn hand_on(&self) {
        let now = self.now();
        let lines = self.log.borrow_mut().as_mut().is_some_and(|log| log.look(now));
        let spans = self.spans.borrow_mut().as_mut().is_some_and(|spans| spans.look(now));
        self.hands_on.set(lines || spans);
    }
}
