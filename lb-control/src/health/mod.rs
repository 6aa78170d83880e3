//! Health: servers are checked, traffic is watched, and what comes of both is told to picks and to people.
//!
//! ```text
//!   Watcher::fit ◄── each new table, before it is published
//!      │
//!      ▼            due            verdicts
//!   Watcher ──────► prober ──────► Monitor ──────► live state, which picks read
//!      ▲             │  ▲            ▲
//!      │             ▼  │ found      └── every second: what traffic has done
//!   /servers       probe.rs: one check
//! ```
//!
//! One [`Watcher`] serves all workers of a process. [`lb_core::Monitor`] judges; this is everything that it has not: a
//! clock, sockets, and words. `settings.rs` is what a configuration asks for, `answer.rs` what a server's bytes say,
//! `probe.rs` one check, `prober.rs` the schedule, and here is what is known of each server.

mod answer;
mod probe;
pub(crate) mod prober;
pub mod settings;
mod shown;
pub(crate) mod words;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lb_core::health::{Monitor, News, Notice, jittered};
use lb_core::{Health, Identity, ServerLive, Table, Why};

pub(crate) use self::answer::{Found, Sort};
use self::probe::Asked;
use self::settings::Checks;
pub use self::settings::HealthSettings;
pub(crate) use self::shown::{Shown, Totals};

/// Servers that are asked at once for the first time, or in a new way.
pub const FIRST_CHECKS_MAX: usize = 64;

/// Servers that are asked at once in all. Servers that hang hold their places until their timeout.
pub const CHECKS_MAX: usize = 1024;

/// Knows how every server of the table in force stands.
#[derive(Debug, Default)]
pub struct Watcher {
    state: Mutex<State>,
    /// There is something to do, or to tell.
    wake: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct State {
    monitor: Monitor,
    settings: Arc<HealthSettings>,
    /// In the order of the table's servers.
    servers: Vec<Server>,
    places: HashMap<Identity, usize>,
    /// When which server is due. What its server does not say any more is passed over.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Servers that wait for a place among the first checks.
    waiting: VecDeque<usize>,
    /// First checks under way.
    first_under_way: usize,
    checks_begun: u64,
    /// What the prober has not told yet.
    told: Vec<Told>,
    /// Whether every server of the first tables had its verdict once.
    decided: bool,
}

/// What is known of a server beside its live state and the monitor's.
#[derive(Debug)]
struct Server {
    live: Arc<ServerLive>,
    /// What it is asked; none: it is not checked.
    asked: Option<Arc<Asked>>,
    /// When it is asked next.
    due: Option<Instant>,
    /// The check under way.
    running: Option<Running>,
    /// Whether the next check is the first, or the first of its kind.
    first: bool,
    /// State of its jitter.
    random: u64,
    last: Option<Last>,
    totals: Totals,
    turned: Option<Turned>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    /// Counted up with every check, so that a result finds only what it belongs to.
    number: u64,
    began: Instant,
    first: bool,
}

/// A check that came to an end.
#[derive(Debug, Clone)]
struct Last {
    found: Found,
    took: Duration,
    at: Instant,
}

/// When a server last went up or down, or was ejected, and why.
#[derive(Debug, Clone)]
struct Turned {
    at: SystemTime,
    words: String,
}

/// What people are told of a server.
#[derive(Debug)]
struct Told {
    server: Identity,
    words: String,
    weight: Weight,
}

/// How much people care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// As it should be: a new server, its first good check.
    Usual,
    Better,
    Worse,
}

/// A check to be carried out.
struct Start {
    server: Identity,
    number: u64,
    asked: Arc<Asked>,
}

/// A check that was carried out.
struct Done {
    server: Identity,
    number: u64,
    found: Found,
    took: Duration,
    /// To be used again.
    buffer: Vec<u8>,
}

impl Watcher {
    /// Takes up a new table with its settings, before it is published: servers that stay keep their health, new ones
    /// are what their settings say until they were checked, and other settings apply at once. `now` is the workers'
    /// clock.
    pub fn fit(&self, table: &Table, settings: &Arc<HealthSettings>, now: Duration) {
        let mut state = self.state();
        state.settings = Arc::clone(settings);
        state.fit(table, now);
        drop(state);
        self.wake.notify_one();
    }

    /// The same for a table with the settings of the last one: only its servers differ.
    pub fn refit(&self, table: &Table, now: Duration) {
        self.state().fit(table, now);
        self.wake.notify_one();
    }

    /// Servers whose first verdict is missing. Once all have had one, servers that come later are not waited for: a
    /// reload must not make us look as if we had just started.
    pub fn undecided(&self) -> Vec<Identity> {
        let mut state = self.state();
        if state.decided {
            return Vec::new();
        }
        let undecided: Vec<Identity> = state.monitor.undecided().cloned().collect();
        state.decided = undecided.is_empty();
        undecided
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fit(&mut self, table: &Table, now: Duration) {
        let settings = Arc::clone(&self.settings);
        let notices = self.monitor.fit(table, |backend| settings.watching(&backend.name), now);
        let mut known: HashMap<Identity, Server> =
            self.servers.drain(..).map(|server| (server.live.identity().clone(), server)).collect();
        self.places.clear();
        self.due.clear();
        self.waiting.clear();
        let at = Instant::now();
        let mut shared: HashMap<Arc<str>, Arc<Checks>> = HashMap::new();
        for live in table.live.servers() {
            let identity = live.identity();
            let known = known.remove(identity).filter(|known| Arc::ptr_eq(&known.live, live));
            let mut server = known.unwrap_or_else(|| Server::new(Arc::clone(live)));
            match settings.checks(identity) {
                None => server.rest(),
                Some((checks, address)) => {
                    let is_known = server.asked.as_ref().is_some_and(|asked| asked.is_like(checks, address));
                    if !is_known {
                        let checks = shared
                            .entry(identity.backend.clone())
                            .or_insert_with(|| Arc::new(checks.clone()));
                        server.ask(Asked::new(Arc::clone(checks), address), at);
                    }
                }
            }
            self.places.insert(identity.clone(), self.servers.len());
            self.servers.push(server);
        }
        let running = self.servers.iter().filter_map(|server| server.running);
        self.first_under_way = running.filter(|running| running.first).count();
        let due = self.servers.iter().enumerate();
        self.due = due.filter_map(|(place, server)| Some(Reverse((server.due?, place)))).collect();
        self.take_up(notices);
    }

    /// Plans what notices ask for, and keeps what is to be told.
    fn take_up(&mut self, notices: Vec<Notice>) {
        // An ejection and its end tell more than the change of health beside them.
        let ejections = notices.iter().filter(|it| matches!(it.news, News::Ejected(_) | News::Returned));
        let told_more: Vec<Identity> = ejections.map(|notice| notice.server.clone()).collect();
        for Notice { server: identity, news } in notices {
            let Some(&place) = self.places.get(&identity) else { continue };
            let server = &mut self.servers[place];
            let (words, weight) = match news {
                News::CheckWithin(within) => {
                    self.plan(place, Instant::now(), within);
                    continue;
                }
                News::Turned { .. } if told_more.contains(&identity) => continue,
                News::Turned { before, now } => server.turn(before, now),
                News::Ejected(ejection) => {
                    server.totals.ejections += 1;
                    let lasts = words::time(ejection.until.saturating_sub(ejection.since));
                    (format!("ejected for {lasts}: {}", ejection.offence), Weight::Worse)
                }
                News::Returned if server.live.health() == Health::Up => {
                    ("up: its ejection is over".to_owned(), Weight::Better)
                }
                News::Returned => (
                    format!("its ejection is over, but it is {}", server.live.health().word()),
                    Weight::Worse,
                ),
                // News of a kind that we do not know changes nothing here.
                _ => continue,
            };
            server.turned = Some(Turned { at: SystemTime::now(), words: words.clone() });
            self.told.push(Told { server: identity, words, weight });
        }
    }

    /// A server is due so much after `from`, or when it was due, if that is sooner.
    fn plan(&mut self, place: usize, from: Instant, within: Duration) {
        let server = &mut self.servers[place];
        if server.running.is_some() || server.asked.is_none() {
            // The end of the check under way says when the next one is due.
            return;
        }
        let at = from + jittered(within, server.random());
        if server.due.is_none_or(|due| at < due) {
            server.due = Some(at);
            self.due.push(Reverse((at, place)));
        }
    }

    /// When the next check is due.
    fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// A check that is due, if there is one and there is room for it beside those under way.
    fn start(&mut self, now: Instant, under_way: usize) -> Option<Start> {
        if under_way >= CHECKS_MAX {
            return None;
        }
        loop {
            let Reverse((at, place)) = *self.due.peek().filter(|Reverse((at, _))| *at <= now)?;
            self.due.pop();
            let server = &mut self.servers[place];
            let Some(asked) = server.asked.clone().filter(|_| server.due == Some(at)) else { continue };
            if server.first && self.first_under_way >= FIRST_CHECKS_MAX {
                self.waiting.push_back(place);
                continue;
            }
            server.due = None;
            let standing = self.monitor.standing(server.live.identity());
            let rests = standing
                .and_then(|it| it.check)
                .is_some_and(|it| it.state == lb_core::health::State::Resting);
            if rests {
                // Its return is a notice.
                continue;
            }
            self.checks_begun += 1;
            self.first_under_way += usize::from(server.first);
            let number = self.checks_begun;
            server.running = Some(Running { number, began: now, first: server.first });
            return Some(Start { server: server.live.identity().clone(), number, asked });
        }
    }

    /// Takes up what a check has found, unless its server is gone or is asked something else by now.
    fn finish(&mut self, done: &Done, now: Duration) {
        let Some(&place) = self.places.get(&done.server) else { return };
        let server = &mut self.servers[place];
        let Some(running) = server.running.filter(|running| running.number == done.number) else { return };
        server.running = None;
        server.first = false;
        server.totals.count(&done.found, done.took);
        server.last = Some(Last { found: done.found.clone(), took: done.took, at: Instant::now() });
        let interval = server.asked.as_ref().map(|asked| asked.checks.settings.interval);
        if running.first {
            self.first_under_way -= 1;
            let mut waiting = std::iter::from_fn(|| self.waiting.pop_front());
            if let Some((at, place)) = waiting.find_map(|place| Some((self.servers[place].due?, place))) {
                self.due.push(Reverse((at, place)));
            }
        }
        let Some(result) = done.found.sort.result() else {
            // We could not ask, so nothing is known: again with the next turn.
            self.plan(place, running.began, interval.unwrap_or_default());
            return;
        };
        let (within, others): (Vec<_>, Vec<_>) = self
            .monitor
            .checked(&done.server, result, now)
            .into_iter()
            .partition(|notice| matches!(notice.news, News::CheckWithin(_)));
        // Intervals are from beginning to beginning.
        for notice in within {
            if let News::CheckWithin(within) = notice.news {
                self.plan(place, running.began, within);
            }
        }
        self.take_up(others);
    }

    fn look(&mut self, now: Duration) {
        let notices = self.monitor.look(now);
        self.take_up(notices);
    }
}

impl Server {
    fn new(live: Arc<ServerLive>) -> Server {
        let random = seed(live.identity());
        Server {
            live,
            asked: None,
            due: None,
            running: None,
            first: true,
            random,
            last: None,
            totals: Totals::default(),
            turned: None,
        }
    }

    /// Words for a change of what its checks say.
    fn turn(&self, before: Health, now: Health) -> (String, Weight) {
        let found = self.last.as_ref().map_or("nothing was found out", |last| &*last.found.words);
        match (before, now) {
            (_, Health::Down(Why::Unchecked)) => {
                ("down until its first good check".to_owned(), Weight::Usual)
            }
            (Health::Down(Why::Unchecked), Health::Up) => (format!("up: {found}"), Weight::Usual),
            (_, Health::Up) if self.asked.is_none() => {
                ("up: it is not checked any more".to_owned(), Weight::Better)
            }
            (_, Health::Up) => (format!("up again: {found}"), Weight::Better),
            (_, Health::Down(Why::Connect | Why::Timeout | Why::Answer)) => {
                (format!("down: {found}"), Weight::Worse)
            }
            (_, down) => (down.word().to_owned(), Weight::Worse),
        }
    }

    /// It is not checked any more.
    fn rest(&mut self) {
        (self.asked, self.due, self.running, self.last) = (None, None, None, None);
    }

    /// It is to be asked something new, at once. What is under way says nothing about that.
    fn ask(&mut self, asked: Asked, at: Instant) {
        (self.asked, self.due, self.running, self.first) = (Some(Arc::new(asked)), Some(at), None, true);
    }

    /// The next random bits (splitmix64, Steele, Lea and Flood 2014): enough to keep servers out of step.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }
}

/// Where a server's jitter begins: by its identity, so that a run can be repeated, and by this process, so that nodes
/// do not ask in step.
fn seed(identity: &Identity) -> u64 {
    let text = format!("{}/{} {} {}", identity.backend, identity.name, identity.address, std::process::id());
    lb_core::hash::siphash_2_4_128(&lb_core::SecretKey::new([0; 16]), text.as_bytes()) as u64
}

#[cfg(test)]
mod tests;
