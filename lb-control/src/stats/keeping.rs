//! Keeps the last seconds of servers, listeners and workers. Those of arms are the watch's.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lb_core::Snapshot;

use super::lately::{Totals, Window};
use super::splits::Splits;
use super::{BACKENDS_SHOWN_MAX, SERVERS_KEPT_MAX};
use crate::changes::Changes;
use crate::control::Shared;
use crate::workers::{QueueReading, Reading, ServerReading};

/// How often it is read. Servers are read seldomer than arms because there are more of them.
const STEP: Duration = Duration::from_secs(2);

/// What is kept, for its keeper and for who asks.
#[derive(Debug)]
pub(crate) struct Kept(Mutex<State>);

/// Backend, name and address as a reading has them.
type ServerKey = (Arc<str>, Arc<str>, Option<SocketAddr>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) started: SystemTime,
    pub(super) splits: Splits,
    read: Option<Instant>,
    servers: HashMap<ServerKey, Window>,
    queues: HashMap<Arc<str>, Window>,
    listeners: Vec<Window>,
    workers: Vec<Window>,
}

impl Kept {
    /// What is known at the start.
    pub(crate) fn new(snapshot: &Snapshot) -> Kept {
        Kept(Mutex::new(State {
            started: SystemTime::now(),
            splits: Splits::new(snapshot),
            read: None,
            servers: HashMap::new(),
            queues: HashMap::new(),
            listeners: Vec::new(),
            workers: Vec::new(),
        }))
    }

    /// Takes notice of a table that has just been published.
    pub(crate) fn published(&self, snapshot: &Snapshot, changes: &Changes) {
        self.state().splits.take(snapshot, changes);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, shared: &Shared) {
        let workers = &shared.workers;
        let (reading, servers, queues) = (workers.read(), workers.servers(), workers.queues());
        self.state().take(&reading, servers, queues, Instant::now());
    }
}

impl State {
    fn take(
        &mut self,
        reading: &Reading,
        servers: Vec<ServerReading>,
        queues: Vec<QueueReading>,
        now: Instant,
    ) {
        let before = self.read.replace(now);
        let seconds = before.map_or(0.0, |before| now.saturating_duration_since(before).as_secs_f64());
        let servers = servers
            .into_iter()
            .take(SERVERS_KEPT_MAX)
            .map(|server| ((server.backend, server.name, server.address), Totals::attempts(server.attempts)));
        take_keyed(&mut self.servers, servers, seconds);
        let queues = queues.into_iter().take(BACKENDS_SHOWN_MAX);
        let queues = queues.filter_map(|it| Some((it.backend, Totals::waits(it.numbers.waits?))));
        take_keyed(&mut self.queues, queues, seconds);
        let workers = reading.workers.iter().map(|worker| Totals::exchanges(&worker.requests));
        take_all(&mut self.workers, workers, seconds);
        let listeners = reading.listeners.iter().map(|listener| Totals::exchanges(&listener.requests));
        take_all(&mut self.listeners, listeners, seconds);
    }

    /// A server's last seconds.
    pub(super) fn server(&self, backend: &Arc<str>, name: &Arc<str>, address: SocketAddr) -> Option<&Window> {
        self.servers.get(&(Arc::clone(backend), Arc::clone(name), Some(address)))
    }

    /// The last seconds of a backend whose servers are not told apart.
    pub(super) fn undivided(&self, backend: &Arc<str>) -> Option<&Window> {
        self.servers.get(&(Arc::clone(backend), Arc::from(""), None))
    }

    /// How long requests waited for a backend's servers within the last seconds.
    pub(super) fn queue(&self, backend: &Arc<str>) -> Option<&Window> {
        self.queues.get(backend)
    }

    /// The listener's at this place.
    pub(super) fn listener(&self, place: usize) -> Option<&Window> {
        self.listeners.get(place)
    }

    /// The worker's at this place.
    pub(super) fn worker(&self, place: usize) -> Option<&Window> {
        self.workers.get(place)
    }
}

/// What is not read any more is forgotten.
fn take_keyed<K: Eq + Hash>(
    windows: &mut HashMap<K, Window>,
    totals: impl Iterator<Item = (K, Totals)>,
    seconds: f64,
) {
    let mut left = std::mem::take(windows);
    for (key, totals) in totals {
        let window = match left.remove(&key) {
            Some(mut known) => {
                known.take(totals, seconds);
                known
            }
            None => Window::new(totals),
        };
        windows.insert(key, window);
    }
}

/// Workers and listeners are the same ones for as long as the process lives.
fn take_all(windows: &mut Vec<Window>, totals: impl Iterator<Item = Totals>, seconds: f64) {
    for (place, totals) in totals.enumerate() {
        match windows.get_mut(place) {
            Some(window) => window.take(totals, seconds),
            None => windows.push(Window::new(totals)),
        }
    }
}

/// Reads again and again until the future is dropped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        // Beside our own thread, which has probes and people to answer.
        let _ = tokio::task::spawn_blocking(move || shared.stats.take(&shared)).await;
    }
}
