//! The whole engine: its threads, its listening sockets, and the ways in which others talk to it.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_core::Table;

use crate::clock;
use crate::driver::probe::{self, DriverChoice};
use crate::driver::{Socket, Waker};
use crate::log::{AccessLog, LogOptions};
use crate::metrics::registry::WorkerPlaces;
use crate::metrics::{Metrics, Options, Recorder};
use crate::spans::{SpanBuffer, Spans};
use crate::sys;
use crate::trace::TraceOptions;
use crate::worker::queue::Queues;
use crate::worker::siblings::Siblings;
use crate::worker::{Limits, Worker};

/// The longest that a worker sleeps.
const TURN: Duration = Duration::from_secs(1);

/// Descriptors kept for everything that is no client and no server: listeners, logs, the control side. Where
/// there are few, a quarter of them.
const RESERVED_DESCRIPTORS: u64 = 64;

/// How the engine is to be.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads that serve. At least 1.
    pub workers: usize,
    /// What they stand on.
    pub driver: DriverChoice,
    /// Where they listen.
    pub listeners: Vec<ListenerConfig>,
    /// Client connections open at a time, over all workers. None: what the descriptors allow, at one for
    /// the client and one for its server.
    pub max_connections: Option<usize>,
    /// Bytes of buffers in use at a time, per worker.
    pub buffer_bytes: usize,
    /// What is logged of exchanges, if anything.
    pub access_log: Option<LogOptions>,
    /// What is done about traces, if anything.
    pub trace: Option<TraceOptions>,
    /// What is counted apart.
    pub metrics: Options,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            driver: DriverChoice::Auto,
            listeners: Vec::new(),
            max_connections: None,
            buffer_bytes: Limits::default().buffer_bytes,
            access_log: None,
            trace: None,
            metrics: Options::default(),
        }
    }
}

/// A listener's addresses.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Its name in the snapshot.
    pub name: String,
    /// Where it listens. Port 0 is one of the kernel's choice.
    pub bind: Vec<SocketAddr>,
}

/// A bound address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// The listener's name.
    pub listener: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Why the engine did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address could not be had.
    Bind {
        /// The listener's name.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// No driver could be had.
    Driver(io::Error),
    /// The access log could not be opened.
    Log(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind { listener, address, error } => {
                write!(f, "listener `{listener}` cannot listen on {address}: {error}")
            }
            Self::Driver(error) => write!(f, "no driver: {error}"),
            Self::Log(error) => write!(f, "the access log cannot be opened: {error}"),
            Self::Thread(error) => write!(f, "a worker thread cannot be started: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What other threads want of a worker.
#[derive(Default)]
struct Orders {
    /// With where it is counted.
    table: Option<(Arc<Table>, WorkerPlaces)>,
    /// On the engine's clock.
    drain_until: Option<Duration>,
}

#[derive(Default)]
struct Mailbox {
    orders: Mutex<Orders>,
    finished: AtomicBool,
}

impl Mailbox {
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

struct WorkerHandle {
    mailbox: Arc<Mailbox>,
    waker: Arc<dyn Waker>,
    thread: Option<JoinHandle<()>>,
}

/// A running engine. Dropping it stops it at once.
pub struct Engine {
    workers: Vec<WorkerHandle>,
    local_addresses: Vec<LocalAddress>,
    driver_name: &'static str,
    fallback: Option<String>,
    access_log: Option<AccessLog>,
    spans: Option<Spans>,
    metrics: Metrics,
    queues: Arc<Queues>,
}

/// What a worker thread says when it has started.
struct Started {
    waker: Arc<dyn Waker>,
    driver_name: &'static str,
    fallback: Option<String>,
}

impl Engine {
    /// Binds all listeners and starts the workers, which serve by `table`.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing runs then.
    pub fn start(config: &EngineConfig, table: &Arc<Table>) -> Result<Self, StartError> {
        let (local_addresses, sockets) = bind(config)?;
        let access_log =
            config.access_log.clone().map(|options| AccessLog::start(options, config.workers.max(1)));
        let access_log = access_log.transpose().map_err(StartError::Log)?;
        let names: Arc<[Box<str>]> =
            config.listeners.iter().map(|listener| listener.name.as_str().into()).collect();
        let metrics = Metrics::new(config.workers.max(1), &names, config.metrics);
        let published = metrics.publish(&table.snapshot);
        let mut engine = Self {
            workers: Vec::new(),
            local_addresses,
            driver_name: "",
            fallback: None,
            access_log,
            spans: config.trace.filter(|trace| trace.export).map(|_| Spans::new(config.workers.max(1))),
            metrics,
            queues: Arc::default(),
        };
        let limits = limits(config, sys::limits::descriptors());
        let random = RandomState::new();
        let siblings = Siblings::of(config.workers);
        if let Some(any) = siblings.first() {
            engine.queues = Arc::clone(any.queues());
        }
        for ((number, sockets), siblings) in sockets.into_iter().enumerate().zip(siblings) {
            let mailbox = Arc::new(Mailbox::default());
            let seed = [random.hash_one((number, 0)), random.hash_one((number, 1))];
            let setup = Setup {
                choice: config.driver,
                sockets,
                siblings,
                names: Arc::clone(&names),
                table: Arc::clone(table),
                limits,
                metrics: engine.metrics.recorder(number, &published),
                log: engine.access_log.as_ref().map(|log| log.buffer(number)),
                trace: config.trace,
                spans: engine.spans.as_ref().map(|spans| spans.buffer(number)),
                seed: std::array::from_fn(|at| seed[at / 8].to_ne_bytes()[at % 8]),
                mailbox: Arc::clone(&mailbox),
            };
            let (started, starting) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("lb-worker-{number}"))
                .spawn(move || run(setup, &started))
                .map_err(StartError::Thread)?;
            let started = match starting.recv() {
                Ok(Ok(started)) => started,
                Ok(Err(error)) => return Err(StartError::Driver(error)),
                Err(_) => return Err(StartError::Thread(io::Error::other("the thread ended"))),
            };
            engine.driver_name = started.driver_name;
            engine.fallback = engine.fallback.take().or(started.fallback);
            engine.workers.push(WorkerHandle { mailbox, waker: started.waker, thread: Some(thread) });
        }
        Ok(engine)
    }

    /// Puts a new table in force on every worker, which takes it up between two batches of events.
    pub fn publish(&self, table: &Arc<Table>) {
        let published = self.metrics.publish(&table.snapshot);
        for (number, worker) in self.workers.iter().enumerate() {
            worker.mailbox.orders().table = Some((Arc::clone(table), published.for_worker(number)));
            worker.waker.wake();
        }
    }

    /// Stops accepting. What is under way may end until `deadline` from now; then it is cut off.
    pub fn drain(&self, deadline: Duration) {
        let until = clock::now() + deadline;
        for worker in &self.workers {
            let mut orders = worker.mailbox.orders();
            orders.drain_until = Some(orders.drain_until.map_or(until, |before| before.min(until)));
            drop(orders);
            worker.waker.wake();
        }
    }

    /// Whether all workers have ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(|worker| worker.mailbox.finished.load(Ordering::Acquire))
    }

    /// Waits until all workers have ended, which they do after [`Engine::drain`].
    pub fn join(&mut self) {
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }

    /// All that is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where requests wait for servers with room.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Where the listeners are, with the ports that the kernel chose.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.local_addresses
    }

    /// What the workers stand on: `io_uring` or `epoll`.
    pub fn driver_name(&self) -> &'static str {
        self.driver_name
    }

    /// Why that is not the driver of first choice, if it isn't.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Access log lines of a worker that could not be written, as on a full disk.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn lost_log_lines(&self, worker: usize) -> u64 {
        self.access_log.as_ref().map_or(0, |log| log.lost(worker))
    }

    /// What the workers record of exchanges in sampled traces, if they do.
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// Opens the access log's file anew, as after a rotation.
    pub fn reopen_log(&self) {
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        self.join();
    }
}

/// Binds every address once per worker: the kernel spreads new connections over them.
fn bind(config: &EngineConfig) -> Result<(Vec<LocalAddress>, Vec<Vec<ListenerSocket>>), StartError> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<ListenerSocket>> = (0..config.workers.max(1)).map(|_| Vec::new()).collect();
    for (listener, ListenerConfig { name, bind }) in config.listeners.iter().enumerate() {
        for &wanted in bind {
            let failed = |error| StartError::Bind { listener: name.clone(), address: wanted, error };
            let mut address = wanted;
            for worker in &mut sockets {
                let socket = sys::socket::listening(address, config.workers > 1).map_err(failed)?;
                // In HTTP the client speaks first.
                sys::socket::defer_accept(&socket).map_err(failed)?;
                if address.port() == 0 {
                    address = local_address(&socket).map_err(failed)?;
                }
                worker.push(ListenerSocket { listener, socket });
            }
            addresses.push(LocalAddress { listener: name.clone(), address });
        }
    }
    Ok((addresses, sockets))
}

/// Divides the descriptors of the process among the workers: what is left of them after the reserved ones is
/// half for clients and half for their servers.
fn limits(config: &EngineConfig, descriptors: u64) -> Limits {
    let standard = Limits::default();
    let workers = config.workers.max(1);
    let total = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let part = |of: usize| total / of / workers;
    let (held, pipes) = (standard.held.min(part(16)), standard.pipes.min(part(64)));
    let reserved = (RESERVED_DESCRIPTORS as usize).min(total / 4) + workers * (held + 2 * pipes);
    let allowed = total.saturating_sub(reserved) / 2;
    let wanted = config.max_connections.unwrap_or(allowed).min(allowed);
    Limits {
        connections: (wanted / workers).max(1),
        held,
        pipes,
        workers,
        buffer_bytes: config.buffer_bytes,
        ..standard
    }
}

struct ListenerSocket {
    listener: usize,
    socket: OwnedFd,
}

/// All that a worker thread starts with.
struct Setup {
    choice: DriverChoice,
    sockets: Vec<ListenerSocket>,
    siblings: Siblings,
    names: Arc<[Box<str>]>,
    table: Arc<Table>,
    limits: Limits,
    metrics: Recorder,
    log: Option<crate::log::LogBuffer>,
    trace: Option<TraceOptions>,
    spans: Option<SpanBuffer>,
    seed: [u8; 16],
    mailbox: Arc<Mailbox>,
}

/// Ends the process when a worker panics: a listener's sockets whose worker is gone would swallow their
/// share of the connections.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn run(setup: Setup, started: &mpsc::Sender<io::Result<Started>>) {
    let _abort = AbortOnPanic;
    let mailbox = setup.mailbox;
    // A driver is made on the thread that uses it: io_uring insists.
    let selected = match probe::select(setup.choice) {
        Ok(selected) => selected,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let (waker, driver_name) = (selected.driver.waker(), selected.driver.name());
    let Setup { table, limits, metrics, log, seed, names, .. } = setup;
    let worker = Worker::new(selected.driver, table, &names, limits, metrics, log, seed);
    worker.join(setup.siblings);
    if let Some(options) = setup.trace {
        worker.trace(options, setup.spans);
    }
    for ListenerSocket { listener, socket } in setup.sockets {
        if let Err(error) = worker.listen(Socket::Kernel(socket), listener as u32) {
            let _ = started.send(Err(error));
            worker.stop();
            return;
        }
    }
    let _ = started.send(Ok(Started { waker, driver_name, fallback: selected.fallback }));
    let mut drain_until = None;
    loop {
        let longest =
            drain_until.map_or(TURN, |until: Duration| until.saturating_sub(clock::now()).min(TURN));
        if let Err(error) = worker.turn(longest) {
            // A driver that cannot wait any more can serve nobody: say so, and let the others go on.
            eprintln!("lb: a worker's driver failed and the worker stops: {error}");
            break;
        }
        if worker.take_woken() {
            let mut orders = mailbox.orders();
            let table = orders.table.take();
            drain_until = orders.drain_until;
            drop(orders);
            if let Some((table, places)) = table {
                worker.publish(table, places);
            }
            if drain_until.is_some() {
                worker.drain();
            }
        }
        if worker.is_drained() || drain_until.is_some_and(|until| clock::now() >= until) {
            break;
        }
    }
    worker.stop();
    mailbox.finished.store(true, Ordering::Release);
}

fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = socket2::SockRef::from(socket).local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_enough_for_what_is_allowed() {
        for descriptors in [20, 100, 300, 1024, 20_000, 1 << 20] {
            for workers in [1, 2, 8] {
                for max_connections in [None, Some(10), Some(1_000_000)] {
                    let config = EngineConfig { workers, max_connections, ..EngineConfig::default() };
                    let limits = limits(&config, descriptors);
                    let per_worker = 2 * limits.connections + limits.held + 2 * limits.pipes;
                    let used = per_worker * workers + (descriptors as usize / 4).min(64);
                    assert!(
                        used <= descriptors as usize || limits.connections == 1,
                        "{descriptors} {limits:?}"
                    );
                    assert!(limits.connections >= 1);
                }
            }
        }
        let usual = limits(&EngineConfig::default(), 20_000);
        assert_eq!((usual.connections, usual.held, usual.pipes), (9_808, 256, 32));
    }
}
