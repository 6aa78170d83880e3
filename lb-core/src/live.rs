//! What changes while a snapshot does not: a server's state and its counters. It hangs on the server's identity
//! (backend, entry name, address) and survives every snapshot that still has that identity.

mod backend;
mod connections;
mod latency;

pub(crate) use backend::{BackendLive, Open, Outlook};
pub use connections::Connection;

use crate::defaults::{REMOVAL_FIRST, REMOVAL_MAX, SLOW_START_LEAST_PERCENT};
use crate::map::Map;
use crate::permit::Wants;
use crate::rate::Debts;
use crate::snapshot::{ServerIndex, Snapshot};
use crate::spec::Admin;
use crate::sync::{Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use connections::Connections;
use latency::{Latency, Took};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A snapshot and the live state of its servers: what [`decide`](crate::decide()) asks. Published as `Arc<Table>`.
#[derive(Debug)]
pub struct Table {
    /// What is wanted.
    pub snapshot: Snapshot,
    /// What is.
    pub live: Live,
}

impl Table {
    /// Joins a snapshot with the live state of the table before it: servers with the same identity keep
    /// theirs, shared with that table. What the snapshot says about their admin state is applied at once.
    pub fn new(snapshot: Snapshot, previous: Option<&Table>) -> Table {
        let live = Live::carry(&snapshot, previous.map(|table| &table.live));
        Table { snapshot, live }
    }

    /// The live state of a server.
    ///
    /// # Panics
    /// If the index is not one of this table's snapshot.
    pub fn server_live(&self, server: ServerIndex) -> &Arc<ServerLive> {
        self.live.server(server)
    }
}

/// The live state of all servers of a snapshot.
#[derive(Debug)]
pub struct Live {
    servers: Box<[Arc<ServerLive>]>,
    backends: Box<[backend::Place]>,
    /// Where no route has a rate there is none.
    debts: Option<Arc<Debts>>,
}

impl Live {
    fn carry(snapshot: &Snapshot, previous: Option<&Live>) -> Live {
        let known: Map<&Identity, &Arc<ServerLive>> = previous
            .iter()
            .flat_map(|live| live.servers.iter())
            .map(|server| (&server.identity, server))
            .collect();
        let mut known_backends: Map<&str, &Arc<BackendLive>> = Map::default();
        for server in previous.iter().flat_map(|live| live.servers.iter()) {
            known_backends.insert(server.backend(), &server.backend);
        }
        let backends: Box<[Arc<BackendLive>]> = snapshot
            .backends()
            .iter()
            .map(|backend| {
                known_backends.get(&*backend.name).map(|live| Arc::clone(live)).unwrap_or_default()
            })
            .collect();
        let servers = snapshot.servers().iter().map(|server| {
            let live = known.get(&server.identity).map_or_else(
                || {
                    let backend = Arc::clone(&backends[server.backend.0 as usize]);
                    let live = ServerLive { backend, ..ServerLive::new(server.identity.clone()) };
                    // Among servers that have been at work it is the one that is cold.
                    if known_backends.contains_key(live.backend()) {
                        live.standing.up_since_ns.store(NOT_YET, Relaxed);
                    }
                    Arc::new(live)
                },
                |live| Arc::clone(live),
            );
            live.set_admin(server.admin);
            live.set_bounds(server.max_requests, server.max_connections);
            live
        });
        Live {
            servers: servers.collect(),
            backends: backends.iter().map(|live| backend::Place::new(Arc::clone(live))).collect(),
            debts: snapshot
                .has_rates()
                .then(|| previous.and_then(|live| live.debts.as_ref()).map(Arc::clone).unwrap_or_default()),
        }
    }

    /// What clients owe by the rates of routes.
    #[inline]
    pub(crate) fn debts(&self) -> Option<&Debts> {
        self.debts.as_deref()
    }

    /// How much of the table of clients and their rates is in use, and how often it was too small; `None` where no route
    /// has a rate. Looks at all of it: ask now and then, not for every request.
    pub fn rate_clients(&self, now: Duration) -> Option<RateClients> {
        let debts = self.debts()?;
        Some(RateClients { owing: debts.owing(now.into()), forgotten: debts.forgotten() })
    }

    /// The live state of a server.
    ///
    /// # Panics
    /// If the index is not one of the snapshot that this was made for.
    pub fn server(&self, server: ServerIndex) -> &Arc<ServerLive> {
        &self.servers[server.0 as usize]
    }

    /// All of them, in the order of the snapshot's servers.
    pub fn servers(&self) -> &[Arc<ServerLive>] {
        &self.servers
    }
}

/// How well the table of clients and their rates does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateClients {
    /// Clients that have made requests which their rate has not made up for yet; of [`RATE_CLIENTS`](crate::defaults::RATE_CLIENTS) at most.
    pub owing: u64,
    /// How often such a one was forgotten, because too many others had made more. It begins anew then.
    pub forgotten: u64,
}

/// Which server this is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Name of its backend.
    pub backend: Arc<str>,
    /// Name of its entry.
    pub name: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.name)
    }
}

/// Whether a server answers, as far as anybody has found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// It does, or nobody has asked (the default).
    #[default]
    Up,
    /// It does not.
    Down(Why),
}

/// Why a server is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// Its checks could not connect.
    Connect,
    /// Its checks got no answer in time.
    Timeout,
    /// Its checks got a wrong answer.
    Answer,
    /// Somebody said so.
    Told,
    /// It is to be checked before it is used, and no check has come to an end yet.
    Unchecked,
    /// Ejected: attempts failed in a row.
    FailedInRow,
    /// Ejected: far more of its attempts failed than of the others'.
    FailedMore,
    /// Ejected: its answers take many times as long as the others'.
    Slower,
}

impl Why {
    /// All of them; 1 and the place is how live state writes them.
    const ALL: [Why; 8] = [
        Why::Connect,
        Why::Timeout,
        Why::Answer,
        Why::Told,
        Why::Unchecked,
        Why::FailedInRow,
        Why::FailedMore,
        Why::Slower,
    ];
}

impl Health {
    /// The word for it in files and logs.
    pub fn word(self) -> &'static str {
        match self {
            Health::Up => "up",
            Health::Down(Why::Connect) => "down (connect)",
            Health::Down(Why::Timeout) => "down (timeout)",
            Health::Down(Why::Answer) => "down (answer)",
            Health::Down(Why::Told) => "down (told)",
            Health::Down(Why::Unchecked) => "down (not checked yet)",
            Health::Down(Why::FailedInRow) => "down (ejected: failures in a row)",
            Health::Down(Why::FailedMore) => "down (ejected: more failures than the others)",
            Health::Down(Why::Slower) => "down (ejected: slower than the others)",
        }
    }

    fn code(self) -> u32 {
        match self {
            Health::Up => 0,
            Health::Down(why) => why as u32 + 1,
        }
    }

    fn of_code(code: u32) -> Health {
        let why = (code as usize).checked_sub(1).and_then(|place| Why::ALL.get(place));
        why.map_or(Health::Up, |why| Health::Down(*why))
    }
}

impl fmt::Display for Health {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No connection could be made, or not in time; nothing was sent. Takes the server out of picks for a moment.
    ConnectFailed,
    /// The server answered with this status: to be said when the response's body has come to its end.
    Responded {
        /// The status of the final response.
        status: u16,
    },
    /// There was a connection, and no whole response came of it by the server's fault: it was reset or closed, the
    /// response did not come in time, or its body broke off on the server's side.
    Failed,
    /// We gave up for reasons of our own, above all because the client left. Says nothing about the server.
    Abandoned,
}

/// What is written for every exchange, on cache lines that nothing else is on. Two lines, for processors that
/// fetch neighbours in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Load {
    in_flight: AtomicU32,
    /// By hundreds of the status; the first is for statuses that are none.
    responded: [AtomicU64; 6],
    /// In nanoseconds, of all that are in `responded`.
    latency_ns: AtomicU64,
    connect_failed: AtomicU64,
    failed: AtomicU64,
    abandoned: AtomicU64,
    latency: Latency,
}

/// What picks read for every server and what changes seldom.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Standing {
    /// Admin state and health in one word, so that a pick asks once; 0 is ready and up.
    state: AtomicU32,
    connect_failures: AtomicU32,
    /// In nanoseconds of the caller's clock.
    removed_until_ns: AtomicU64,
    /// In nanoseconds of the caller's clock; 0: none.
    drain_deadline_ns: AtomicU64,
    health_changes: AtomicU32,
    removals: AtomicU32,
    /// When its slow start began, in nanoseconds of the caller's clock: with the first attempt after it came up. Until
    /// then [`NOT_YET`]; 0: it has been up since we know it.
    up_since_ns: AtomicU64,
    /// Attempts that may be under way, by either bound; 0: as many as come.
    most: AtomicU32,
    /// The bounds themselves; 0: none.
    max_requests: AtomicU32,
    max_connections: AtomicU32,
}

/// It came up, and nobody has been sent to it since.
const NOT_YET: u64 = u64::MAX;

/// The live state of a server. All of it may be read and written from any thread.
#[derive(Debug)]
pub struct ServerLive {
    standing: Standing,
    load: Load,
    connections: Connections,
    identity: Identity,
    backend: Arc<BackendLive>,
}

/// The counters of a server at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Attempts under way.
    pub in_flight: u32,
    /// Responses by hundreds of their status, 1xx at index 1; index 0 counts statuses outside 100 to 599.
    pub responded: [u64; 6],
    /// Sum of the times from taking to the response's head, of all that responded.
    pub latency: Duration,
    /// Attempts that ended with [`Outcome::ConnectFailed`].
    pub connect_failed: u64,
    /// Attempts that ended with [`Outcome::Failed`].
    pub failed: u64,
    /// Attempts that ended with [`Outcome::Abandoned`].
    pub abandoned: u64,
    /// Times that it went down or came up.
    pub health_changes: u32,
    /// Times that a connect failure took it out of picks.
    pub removals: u32,
}

impl ServerCounters {
    /// Attempts begun: those under way and those that ended. Not counted apart, for that would be one more
    /// shared write for every exchange.
    pub fn picked(&self) -> u64 {
        let ended = self.responded.iter().sum::<u64>() + self.connect_failed + self.failed + self.abandoned;
        ended + u64::from(self.in_flight)
    }
}

const ADMIN_BITS: u32 = 0xff;
const HEALTH_SHIFT: u32 = 8;

impl ServerLive {
    /// A server of which nothing is known: ready, up, idle.
    pub fn new(identity: Identity) -> ServerLive {
        ServerLive {
            standing: Standing::default(),
            load: Load::default(),
            connections: Connections::default(),
            identity,
            backend: Arc::default(),
        }
    }

    /// Which server this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Name of its backend.
    pub fn backend(&self) -> &str {
        &self.identity.backend
    }

    /// Name of its entry.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.identity.address
    }

    /// What people have said about it.
    pub fn admin(&self) -> Admin {
        match self.standing.state.load(Relaxed) & ADMIN_BITS {
            0 => Admin::Ready,
            1 => Admin::Drain,
            _ => Admin::Maintenance,
        }
    }

    /// Sets what people have said about it. The next table that is made sets it to what its snapshot says. Any
    /// change clears the drain deadline.
    pub fn set_admin(&self, admin: Admin) {
        let code = match admin {
            Admin::Ready => 0,
            Admin::Drain => 1,
            Admin::Maintenance => 2,
        };
        let before = self.update_state(|state| state & !ADMIN_BITS | code);
        if before & ADMIN_BITS != code {
            self.standing.drain_deadline_ns.store(0, Relaxed);
        }
    }

    /// Sets when, on the caller's clock, draining ends for sticky sessions too; `None`: never.
    pub fn set_drain_deadline(&self, deadline: Option<Duration>) {
        self.standing.drain_deadline_ns.store(deadline.map_or(0, |at| nanoseconds(at).max(1)), Relaxed);
    }

    /// When, on the caller's clock, draining ends for sticky sessions too; `None`: never, or it does not drain.
    pub fn drain_deadline(&self) -> Option<Duration> {
        let deadline_ns = self.standing.drain_deadline_ns.load(Relaxed);
        (self.admin() == Admin::Drain && deadline_ns != 0).then(|| Duration::from_nanos(deadline_ns))
    }

    /// Whether people want nobody to be sent to it any more: it is in maintenance, or its drain's deadline has passed.
    /// A connection to it that is idle now will not be needed again.
    pub fn is_left_alone(&self, now: Duration) -> bool {
        match self.admin() {
            Admin::Ready => false,
            Admin::Drain => self.is_drained(now.into()),
            Admin::Maintenance => true,
        }
    }

    fn is_drained(&self, now: Now) -> bool {
        let deadline_ns = self.standing.drain_deadline_ns.load(Relaxed);
        deadline_ns != 0 && now.0 >= deadline_ns
    }

    /// Whether it answers.
    pub fn health(&self) -> Health {
        Health::of_code(self.standing.state.load(Relaxed) >> HEALTH_SHIFT)
    }

    /// Sets whether it answers. Coming up forgets connect failures.
    pub fn set_health(&self, health: Health) {
        let code = health.code();
        let before = self.update_state(|state| state & ADMIN_BITS | code << HEALTH_SHIFT);
        let was_up = before >> HEALTH_SHIFT == 0;
        if was_up != (code == 0) {
            self.standing.health_changes.fetch_add(1, Relaxed);
        }
        if code == 0 && !was_up {
            self.standing.connect_failures.store(0, Relaxed);
            self.standing.removed_until_ns.store(0, Relaxed);
        }
    }

    fn update_state(&self, change: impl Fn(u32) -> u32) -> u32 {
        let mut before = self.standing.state.load(Relaxed);
        loop {
            let after = change(before);
            match self.standing.state.compare_exchange_weak(before, after, Relaxed, Relaxed) {
                Ok(_) => {
                    if before != 0 && after == 0 {
                        self.standing.up_since_ns.store(NOT_YET, Relaxed);
                    }
                    if before != after {
                        self.shared().changed();
                    }
                    return before;
                }
                Err(other) => before = other,
            }
        }
    }

    /// How much of its weight it has: [`STRENGTH_FULL`], or less in slow start, which takes so many nanoseconds. It
    /// grows evenly from [`SLOW_START_LEAST_PERCENT`].
    #[inline]
    pub(crate) fn strength(&self, now: Now, slow_start_ns: u64) -> u32 {
        let since_ns = self.standing.up_since_ns.load(Relaxed);
        if since_ns == 0 || now.0.saturating_sub(since_ns) >= slow_start_ns {
            return STRENGTH_FULL;
        }
        let up_ns = now.0.saturating_sub(since_ns);
        // No more than an hour, so it does not overflow.
        let grown = up_ns * u64::from(STRENGTH_FULL) / slow_start_ns.max(1);
        (grown as u32).max(STRENGTH_FULL * SLOW_START_LEAST_PERCENT / 100)
    }

    /// Nanoseconds that an answer takes, as far as is known; 0 if nothing is.
    pub(crate) fn expected_ns(&self, now: Now) -> u64 {
        self.load.latency.expected_ns(now.0)
    }

    /// Learns from how long an attempt took. How long a tunnel was open says nothing, nor does an attempt that the
    /// client has given up.
    fn learn(&self, outcome: Outcome, latency_ns: u64, now: Now) {
        let took = match outcome {
            Outcome::Responded { status } if status < 500 => Took::Answer,
            Outcome::Responded { .. } | Outcome::Failed => Took::Error,
            Outcome::ConnectFailed | Outcome::Abandoned => return,
        };
        self.load.latency.note(latency_ns, now.0, took);
    }

    /// Learns that an attempt takes so long already, before it has ended.
    pub(crate) fn learn_early(&self, latency_ns: u64, now: Now) {
        self.load.latency.note(latency_ns, now.0, Took::Yet);
    }

    /// Attempts that may be under way at a time; `None`: as many as come.
    pub fn max_requests(&self) -> Option<u32> {
        Some(self.standing.max_requests.load(Relaxed)).filter(|most| *most != 0)
    }

    fn set_bounds(&self, max_requests: Option<u32>, max_connections: Option<u32>) {
        let standing = &self.standing;
        standing.max_requests.store(max_requests.unwrap_or_default(), Relaxed);
        standing.max_connections.store(max_connections.unwrap_or_default(), Relaxed);
        let most = max_requests.into_iter().chain(max_connections).min();
        standing.most.store(most.unwrap_or_default(), Relaxed);
    }

    /// Attempts that may be under way at a time by all bounds: each needs a connection of its own.
    pub fn most_in_flight(&self) -> Option<u32> {
        Some(self.standing.most.load(Relaxed)).filter(|most| *most != 0)
    }

    /// Whether one more attempt may begin: neither [`max_requests`](ServerLive::max_requests) nor
    /// [`max_connections`](ServerLive::max_connections) is reached by those under way. Idle connections do not make a
    /// server full. What is said now may not be so when it begins.
    pub fn has_room(&self) -> bool {
        self.most_in_flight().is_none_or(|most| self.in_flight() < most)
    }

    /// Until when, on the caller's clock, connect failures keep it out of picks; in the past: they do not.
    pub fn removed_until(&self) -> Duration {
        Duration::from_nanos(self.standing.removed_until_ns.load(Relaxed))
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Relaxed)
    }

    /// All counters, each read on its own.
    pub fn counters(&self) -> ServerCounters {
        let load = &self.load;
        ServerCounters {
            in_flight: load.in_flight.load(Relaxed),
            responded: std::array::from_fn(|class| load.responded[class].load(Relaxed)),
            latency: Duration::from_nanos(load.latency_ns.load(Relaxed)),
            connect_failed: load.connect_failed.load(Relaxed),
            failed: load.failed.load(Relaxed),
            abandoned: load.abandoned.load(Relaxed),
            health_changes: self.standing.health_changes.load(Relaxed),
            removals: self.standing.removals.load(Relaxed),
        }
    }

    /// Whether anybody may be sent to it, but for connect failures.
    pub(crate) fn is_ready_and_up(&self) -> bool {
        self.standing.state.load(Relaxed) == 0
    }

    /// The same without regard to health, for when it is not believed. One that nobody has checked yet is not
    /// doubted but unknown: it stays out.
    pub(crate) fn is_ready(&self) -> bool {
        self.admin() == Admin::Ready && self.health() != Health::Down(Why::Unchecked)
    }

    /// Whether connect failures keep it out of picks.
    pub(crate) fn is_removed(&self, now: Now) -> bool {
        self.standing.removed_until_ns.load(Relaxed) > now.0
    }

    /// Whether its own sticky sessions may be sent to it, but for connect failures; with or without regard to health.
    pub(crate) fn is_open_to_its_own(&self, now: Now, whatever_health: bool) -> bool {
        let state = self.standing.state.load(Relaxed);
        let is_known = self.health() != Health::Down(Why::Unchecked);
        match if whatever_health && is_known { state & ADMIN_BITS } else { state } {
            0 => true,
            1 => !self.is_drained(now),
            _ => false,
        }
    }

    /// False, and nothing has begun, if the server has as much as it may.
    pub(crate) fn begin(&self, now: Now, wants: Wants) -> bool {
        match self.most_in_flight() {
            None => {
                self.load.in_flight.fetch_add(1, Relaxed);
            }
            Some(most) => {
                let one_more = |in_flight| Some(in_flight + 1).filter(|in_flight| *in_flight <= most);
                // Who takes the place of another sees that its connection is closed or idle.
                if self.load.in_flight.fetch_update(Acquire, Relaxed, one_more).is_err() {
                    return false;
                }
            }
        }
        if wants.count {
            self.shared().begin();
        }
        if self.standing.up_since_ns.load(Relaxed) == NOT_YET {
            self.standing.up_since_ns.store(now.0.max(1), Relaxed);
        }
        true
    }

    /// `latency_ns` is the time to the response's head, if there was one.
    pub(crate) fn end(&self, outcome: Outcome, latency_ns: u64, now: Now, wants: Wants) {
        self.load.in_flight.fetch_sub(1, Release);
        if wants.count {
            self.shared().end();
        }
        if wants.latency {
            self.learn(outcome, latency_ns, now);
        }
        let counter = match outcome {
            Outcome::ConnectFailed => {
                self.remove(now);
                &self.load.connect_failed
            }
            Outcome::Responded { status } => {
                self.readmit(now);
                self.load.latency_ns.fetch_add(latency_ns, Relaxed);
                let class = if (100..600).contains(&status) { status / 100 } else { 0 };
                &self.load.responded[usize::from(class)]
            }
            Outcome::Failed => &self.load.failed,
            Outcome::Abandoned => &self.load.abandoned,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Takes it out of picks, twice as long as the last time. Many attempts that fail together count as one:
    /// those that were picked before it was taken out say nothing new.
    fn remove(&self, now: Now) {
        let until_ns = self.standing.removed_until_ns.load(Relaxed);
        if now.0 < until_ns {
            return;
        }
        let failures = self.standing.connect_failures.load(Relaxed);
        let removal = REMOVAL_FIRST.saturating_mul(1 << failures.min(16)).min(REMOVAL_MAX);
        let next_ns = now.0.saturating_add(nanoseconds(removal));
        if self.standing.removed_until_ns.compare_exchange(until_ns, next_ns, Relaxed, Relaxed).is_ok() {
            self.standing.connect_failures.store(failures.saturating_add(1), Relaxed);
            self.standing.removals.fetch_add(1, Relaxed);
        }
    }

    /// Forgets connect failures after an answer, unless it is out of picks: then the answer is to an attempt
    /// from before and says nothing about new connections.
    fn readmit(&self, now: Now) {
        if self.standing.connect_failures.load(Relaxed) != 0
            && self.standing.removed_until_ns.load(Relaxed) <= now.0
        {
            self.standing.connect_failures.store(0, Relaxed);
        }
    }
}

/// The strength of a server with all of its weight.
pub(crate) const STRENGTH_FULL: u32 = 1024;

/// The caller's clock in whole nanoseconds, as live state compares it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now(pub(crate) u64);

impl From<Duration> for Now {
    fn from(now: Duration) -> Now {
        Now(nanoseconds(now))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
