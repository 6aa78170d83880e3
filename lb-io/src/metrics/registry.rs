//! All that is counted: made for a number of workers, given places by every table that is published, read by whoever
//! asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use lb_core::defaults::ARMS_MAX;
use lb_core::histogram::Histogram;
use lb_core::snapshot::Server;
use lb_core::{
    ArmIndex, BackendIndex, Identity, Refusal, RefusalReason, RouteIndex, ServerIndex, Snapshot, Verdict,
};

use super::read::{ArmKey, ArmTotals, BackendTotals, ServerKey, ServerTotals};
use super::recorder::Recorder;
use super::series::{ArmSeries, ListenerSeries, QueueSeries, ServerSeries};
use super::slots::{Chunks, Slots};
use crate::counters::{Counter, Counters};

/// What is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Routes and arms; else what leads to the same backend is one.
    pub routes: bool,
    /// Servers; else those of a backend are one.
    pub servers: bool,
    /// Servers of one table at most; those of a backend that are beyond it are one. Those that were told apart before
    /// go on being so.
    pub servers_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { routes: true, servers: true, servers_max: usize::MAX }
    }
}

/// The place of what was refused before it had an arm.
pub const NO_ARM: u32 = 0;

/// Where the exchanges and attempts of a table are counted.
#[derive(Debug)]
pub struct Layout {
    /// By route and arm. A route that answers by itself has one place.
    routes: Box<[[u32; ARMS_MAX]]>,
    /// By server.
    servers: Box<[u32]>,
    /// By backend; none where servers are never full.
    queues: Box<[Option<u32>]>,
}

impl Layout {
    /// Where the exchanges of an arm are counted.
    ///
    /// # Panics
    /// If the table of this layout has no such route.
    pub fn arm(&self, route: RouteIndex, arm: ArmIndex) -> u32 {
        self.routes[route.0 as usize][usize::from(arm.0)]
    }

    /// Where the exchange of a request is counted that was decided like this.
    pub fn place(&self, verdict: &Verdict) -> u32 {
        match verdict {
            Verdict::Forward(decision) => self.arm(decision.route(), decision.arm()),
            Verdict::Answer(route) => self.arm(*route, ArmIndex::STABLE),
            Verdict::Refuse(Refusal { route: Some(route), arm: Some(arm), .. }) => self.arm(*route, *arm),
            Verdict::Refuse(Refusal { route: Some(route), reason: RefusalReason::RateLimited, .. }) => {
                self.arm(*route, ArmIndex::STABLE)
            }
            Verdict::Refuse(_) => NO_ARM,
        }
    }

    /// Where the attempts at a server are counted.
    ///
    /// # Panics
    /// If the table of this layout has no such server.
    pub fn server(&self, server: ServerIndex) -> u32 {
        self.servers[server.0 as usize]
    }

    /// Where it is counted how long requests wait for a backend's servers, if these can be full.
    ///
    /// # Panics
    /// If the table of this layout has no such backend.
    pub fn queue(&self, backend: BackendIndex) -> Option<u32> {
        self.queues[backend.0 as usize]
    }
}

/// What the workers need to count by a table that was published.
#[derive(Debug)]
pub struct Published {
    layout: Arc<Layout>,
    /// By worker.
    arms: Vec<Chunks<ArmSeries>>,
    servers: Vec<Chunks<ServerSeries>>,
    queues: Vec<Chunks<QueueSeries>>,
}

impl Published {
    /// What one worker needs of it.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn for_worker(&self, worker: usize) -> WorkerPlaces {
        WorkerPlaces {
            layout: Arc::clone(&self.layout),
            arms: self.arms[worker].clone(),
            servers: self.servers[worker].clone(),
            queues: self.queues[worker].clone(),
        }
    }
}

/// What one worker needs to count by a table: where, and the series.
#[derive(Debug)]
pub struct WorkerPlaces {
    pub(super) layout: Arc<Layout>,
    pub(super) arms: Chunks<ArmSeries>,
    pub(super) servers: Chunks<ServerSeries>,
    pub(super) queues: Chunks<QueueSeries>,
}

/// What a worker counts whatever the table.
#[derive(Debug)]
pub struct WorkerSeries {
    /// For the worker as a whole.
    pub counters: Counters,
    /// By listener.
    pub listeners: Box<[ListenerSeries]>,
}

impl WorkerSeries {
    /// Exchanges that ended, by status; 499: the client left before, 0: none applies.
    pub fn statuses(&self) -> BTreeMap<u16, u64> {
        sum(self.listeners.iter().flat_map(|listener| listener.statuses.seen()))
    }

    /// Exchanges that we ended ourselves, by reason word.
    pub fn local_replies(&self) -> BTreeMap<&'static str, u64> {
        sum(self.listeners.iter().flat_map(|listener| listener.reasons.seen()))
    }

    /// A number of all listeners together.
    pub fn of_listeners(&self, number: impl Fn(&ListenerSeries) -> &Counter) -> u64 {
        self.listeners.iter().map(|listener| number(listener).get()).sum()
    }
}

/// Sums by key.
pub fn sum<K: Ord>(counts: impl IntoIterator<Item = (K, u64)>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
    sums
}

/// All series of all workers.
#[derive(Debug)]
pub struct Metrics {
    options: Options,
    listener_names: Arc<[Box<str>]>,
    workers: Box<[Arc<WorkerSeries>]>,
    /// Locked to publish and to read, never by a worker.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    generation: u64,
    /// Those that somebody may decide by, with their generations.
    layouts: Vec<(u64, Weak<Layout>)>,
    arms: Slots<ArmKey, ArmSeries>,
    servers: Slots<ServerKey, ServerSeries>,
    /// By the backend's name.
    queues: Slots<Arc<str>, QueueSeries>,
    /// Backends of the last table, with what their former arms and servers counted.
    backends: BTreeMap<Arc<str>, BackendTotals>,
}

impl Metrics {
    /// For so many workers, and the listeners of these names.
    pub fn new(workers: usize, listener_names: &Arc<[Box<str>]>, options: Options) -> Metrics {
        let listeners = || listener_names.iter().map(|_| ListenerSeries::default()).collect();
        let series = || Arc::new(WorkerSeries { counters: Counters::default(), listeners: listeners() });
        Metrics {
            options,
            listener_names: Arc::clone(listener_names),
            workers: (0..workers).map(|_| series()).collect(),
            state: Mutex::new(State {
                generation: 0,
                layouts: Vec::new(),
                arms: Slots::new(workers),
                servers: Slots::new(workers),
                queues: Slots::new(workers),
                backends: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives every arm and server of a snapshot its place, the same as before where the names are the same. To be
    /// called before any worker decides by it.
    pub fn publish(&self, snapshot: &Snapshot) -> Published {
        let state = &mut *self.state();
        state.generation += 1;
        let layout = Arc::new(state.place(snapshot, self.options));
        state.layouts.push((state.generation, Arc::downgrade(&layout)));
        state.retire();
        let workers = 0..self.workers.len();
        Published {
            layout,
            arms: workers.clone().map(|worker| state.arms.of_worker(worker)).collect(),
            servers: workers.clone().map(|worker| state.servers.of_worker(worker)).collect(),
            queues: workers.map(|worker| state.queues.of_worker(worker)).collect(),
        }
    }

    /// The pen of one worker, for that worker's thread alone: two pens of one worker would lose counts.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn recorder(&self, worker: usize, published: &Published) -> Recorder {
        Recorder::new(Arc::clone(&self.workers[worker]), published.for_worker(worker))
    }

    /// Each worker's own numbers.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerSeries> {
        self.workers.iter().map(|series| &**series)
    }

    /// The listeners' names, in the order of [`WorkerSeries::listeners`].
    pub fn listener_names(&self) -> &[Box<str>] {
        &self.listener_names
    }

    /// Every arm of the configuration, and former ones with exchanges under way.
    pub fn arms(&self) -> Vec<(ArmKey, ArmTotals)> {
        let state = &mut *self.state();
        state.retire();
        state.arms.iter().map(|(key, slot)| (key.clone(), state.arm_totals(slot))).collect()
    }

    /// Every server of the configuration, and former ones with attempts under way.
    pub fn servers(&self) -> Vec<(ServerKey, ServerTotals)> {
        let state = &mut *self.state();
        state.retire();
        state.servers.iter().map(|(key, slot)| (key.clone(), state.server_totals(slot))).collect()
    }

    /// How long requests have waited, of every backend of the configuration whose servers may be full.
    pub fn queues(&self) -> Vec<(Arc<str>, Histogram)> {
        let state = &mut *self.state();
        state.retire();
        state.queues.iter().map(|(name, slot)| (Arc::clone(name), state.waits(name, slot))).collect()
    }

    /// Every backend of the configuration.
    pub fn backends(&self) -> BTreeMap<Arc<str>, BackendTotals> {
        let state = &mut *self.state();
        state.retire();
        let mut backends = state.backends.clone();
        for (key, slot) in state.arms.iter() {
            if let Some(backend) = backends.get_mut(&key.backend) {
                backend.arms.merge(&state.arm_totals(slot));
            }
        }
        for (key, slot) in state.servers.iter() {
            if let Some(backend) = backends.get_mut(&key.backend) {
                backend.servers.merge(&state.server_totals(slot));
            }
        }
        for (name, slot) in state.queues.iter() {
            if let Some(backend) = backends.get_mut(name) {
                backend.waits = state.waits(name, slot);
            }
        }
        backends
    }
}

impl State {
    fn place(&mut self, snapshot: &Snapshot, options: Options) -> Layout {
        let nothing: Arc<str> = Arc::from("");
        let no_arm = ArmKey { route: Arc::clone(&nothing), arm: "", backend: Arc::clone(&nothing) };
        let slot = self.arms.place(&no_arm, self.generation);
        debug_assert_eq!(slot, NO_ARM, "it comes first and never leaves");
        let mut routes = Vec::with_capacity(snapshot.routes().len());
        for route in snapshot.routes() {
            let name = if options.routes { Arc::from(&*route.name) } else { Arc::clone(&nothing) };
            let mut places = [NO_ARM; ARMS_MAX];
            let key = |arm, backend| ArmKey { route: Arc::clone(&name), arm, backend };
            match route.arms() {
                [] => places.fill(self.arms.place(&key("", Arc::clone(&nothing)), self.generation)),
                arms => {
                    for (place, arm) in places.iter_mut().zip(arms) {
                        let word = if options.routes { arm.name } else { "" };
                        let backend = Arc::clone(&snapshot.backend(arm.backend).name);
                        *place = self.arms.place(&key(word, backend), self.generation);
                    }
                }
            }
            routes.push(places);
        }
        let servers = self.place_servers(snapshot, options);
        let queues = snapshot.backends().iter();
        let queues =
            queues.map(|it| it.queue.map(|_| self.queues.place(&it.name, self.generation))).collect();
        let names: BTreeSet<&Arc<str>> = snapshot.backends().iter().map(|backend| &backend.name).collect();
        self.backends.retain(|name, _| names.contains(name));
        for name in names {
            self.backends.entry(Arc::clone(name)).or_default();
        }
        Layout { routes: routes.into(), servers, queues }
    }

    fn place_servers(&mut self, snapshot: &Snapshot, options: Options) -> Box<[u32]> {
        let apart = |server: &Server| {
            let Identity { backend, name, address } = &server.identity;
            ServerKey { backend: Arc::clone(backend), name: Arc::clone(name), address: Some(*address) }
        };
        let together = |server: &Server| {
            let backend = Arc::clone(&server.identity.backend);
            ServerKey { backend, name: Arc::from(""), address: None }
        };
        let servers = snapshot.servers();
        let most = if options.servers { options.servers_max } else { 0 };
        let mut room = most;
        if servers.len() > most {
            let known = servers.iter().filter(|server| self.servers.has(&apart(server))).count();
            room = most.saturating_sub(known);
        }
        let place = |server: &Server| {
            let mut key = apart(server);
            if servers.len() > most && !self.servers.has(&key) {
                match room.checked_sub(1) {
                    Some(left) => room = left,
                    None => key = together(server),
                }
            }
            self.servers.place(&key, self.generation)
        };
        servers.iter().map(place).collect()
    }

    /// Drops the series of what has left, once nobody can write them any more.
    fn retire(&mut self) {
        self.layouts.retain(|(_, layout)| layout.strong_count() > 0);
        // Who held a layout and let it go did so with release semantics.
        fence(Ordering::Acquire);
        let oldest = self.layouts.iter().map(|(generation, _)| *generation).min();
        let oldest = oldest.unwrap_or(self.generation);
        let backends = &mut self.backends;
        self.arms.retire(oldest, |key, series| {
            if let Some(backend) = backends.get_mut(&key.backend) {
                backend.arms.add(series);
            }
        });
        self.servers.retire(oldest, |key, series| {
            if let Some(backend) = backends.get_mut(&key.backend) {
                backend.servers.add(series);
            }
        });
        self.queues.retire(oldest, |name, series| {
            if let Some(backend) = backends.get_mut(name) {
                backend.waits.merge(&series.waits());
            }
        });
    }

    /// What the queue at a place has counted, and what it had before it was given up for a time.
    fn waits(&self, name: &str, slot: u32) -> Histogram {
        let mut waits = self.backends.get(name).map(|backend| backend.waits.clone()).unwrap_or_default();
        self.queues.series(slot).for_each(|series| waits.merge(&series.waits()));
        waits
    }

    fn arm_totals(&self, slot: u32) -> ArmTotals {
        let mut totals = ArmTotals::default();
        self.arms.series(slot).for_each(|series| totals.add(series));
        totals
    }

    fn server_totals(&self, slot: u32) -> ServerTotals {
        let mut totals = ServerTotals::default();
        self.servers.series(slot).for_each(|series| totals.add(series));
        totals
    }
}
