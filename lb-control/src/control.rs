//! The control thread: reload on request, the admin listener, the state that both show.
//!
//! Tables are made and published in one place, the keeper (`keeper.rs`), whatever the reason.
//!
//! ```text
//! starting ── ready() ──► ready ── drain() ──► draining ── stop() or drop ──► stopped
//!                           └ reload() ┘
//! ```

mod compare;
mod keeper;
mod unresolved;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_core::Table;
use tokio::sync::{mpsc, oneshot};

use self::keeper::Keeper;
use self::unresolved::NamedEntry;
pub(crate) use self::unresolved::Unresolved;
use crate::admin::{self, AdminSocket};
use crate::changes::{Change, Changes, Kind};
use crate::config::address::AdminAddress;
use crate::config::{Carried, Config, Listener, MetricsSettings, Names, Origin};
use crate::drain::{self, Drains};
use crate::health::{Watcher, prober};
use crate::metrics;
use crate::report::Report;
use crate::stats;
use crate::statsd;
use crate::traces::{self, Exporter};
use crate::watch;
use crate::workers::Workers;

/// Reloads that may wait; a further one is dropped, as one that waits will read the newest file anyway.
const RELOADS_WAITING_MAX: usize = 4;

/// Characters of a configuration's hash that tell people which one it is.
const HASH_SHORT: usize = 12;

/// What a control thread begins with.
pub struct Setup {
    /// Where the configuration came from, to be read again on reload.
    pub origin: Origin,
    /// What was understood of it.
    pub config: Config,
    /// Keys and addresses of the first load.
    pub carried: Carried,
    /// The table that the workers serve by.
    pub table: Arc<Table>,
    /// What knows the health of the table's servers: it was fitted to the table before the workers saw it.
    pub health: Watcher,
    /// What knows which of the table's servers are to leave; fitted as `health` was.
    pub drains: Drains,
    /// The workers.
    pub workers: Arc<dyn Workers>,
    /// The bound admin socket, if there is to be an admin listener.
    pub admin: Option<AdminSocket>,
}

/// A running control thread. Dropping it stops it; it does not stop the workers.
pub struct Control {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    admin: Option<AdminAddress>,
}

/// What came of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// All findings, also of a configuration that was taken.
    pub report: Report,
    /// Whether the workers have a new table.
    pub applied: bool,
}

struct Command {
    answer: Option<oneshot::Sender<Reloaded>>,
}

impl Control {
    /// Starts the thread. Until [`Control::ready`] the admin listener says that we are not.
    ///
    /// # Errors
    /// When the system refuses a thread or what a runtime needs.
    pub fn start(setup: Setup) -> io::Result<Control> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let changes = Changes::default();
        changes.note(configuration(Kind::Start, &setup.table.snapshot.hash(), "in force at the start"));
        let collector = setup.config.trace.as_ref().and_then(|trace| trace.otlp.clone());
        let shared = Arc::new(Shared {
            workers: Arc::clone(&setup.workers),
            stats: stats::keeping::Kept::new(&setup.table.snapshot),
            health: setup.health,
            drains: setup.drains,
            current: Mutex::new(Arc::new(Current {
                table: setup.table,
                listeners: setup.config.listeners.clone(),
                named: NamedEntry::all(&setup.config),
                generation: 1,
            })),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reloads_applied: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            names: Mutex::new(setup.carried.names),
            address_tables: AtomicU64::new(0),
            metrics: setup.config.metrics.clone(),
            servers_told_apart: setup.config.servers_told_apart,
            told_of_bound: AtomicBool::new(false),
            recent: metrics::Recent::default(),
            watch: watch::keeping::Kept::default(),
            scrapes: AtomicU64::new(0),
            answers_cut: Arc::default(),
            statsd: statsd::Packets::default(),
            spans: collector.is_some().then(traces::Counts::default),
            changes,
        });
        let (commands, received) = mpsc::channel(RELOADS_WAITING_MAX);
        let (stop, stopped) = oneshot::channel();
        let admin = setup.admin.as_ref().map(|socket| socket.address().clone());
        let keeper = Keeper::new(setup.origin, setup.config, setup.carried.secrets, Arc::clone(&shared));
        let socket = setup.admin;
        let (admin_shared, recent_shared) = (Arc::clone(&shared), Arc::clone(&shared));
        let (watch_shared, drain_shared) = (Arc::clone(&shared), Arc::clone(&shared));
        let (stats_shared, health_shared) = (Arc::clone(&shared), Arc::clone(&shared));
        let settings = shared.metrics.statsd.clone();
        let teller = settings.map(|settings| statsd::Teller::new(Arc::clone(&shared), settings));
        let exporter = collector.map(|settings| Exporter::new(Arc::clone(&shared), settings));
        let thread = std::thread::Builder::new().name("lb-control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let serving = async {
                    if let Some(socket) = socket
                        && let Err(error) = admin::serve(socket, admin_shared).await
                    {
                        tracing::error!(%error, "the admin listener failed");
                    }
                    std::future::pending::<()>().await;
                };
                let mut teller = teller;
                let telling = async {
                    match &mut teller {
                        Some(teller) => teller.run().await,
                        None => std::future::pending().await,
                    }
                };
                let mut exporter = exporter;
                let exporting = async {
                    match &mut exporter {
                        Some(exporter) => exporter.run().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = serving => {}
                    () = keeper.run(received) => {}
                    () = telling => {}
                    () = exporting => {}
                    () = metrics::keep_recent(recent_shared) => {}
                    () = watch::keeping::keep(watch_shared) => {}
                    () = stats::keeping::keep(stats_shared) => {}
                    () = prober::run(health_shared) => {}
                    () = drain::keep(drain_shared) => {}
                    _ = stopped => {}
                }
                let told = async {
                    if let Some(teller) = teller {
                        teller.finish().await;
                    }
                };
                let exported = async {
                    if let Some(exporter) = exporter {
                        exporter.finish().await;
                    }
                };
                tokio::join!(told, exported);
            });
            // A lookup that hangs must not keep us.
            runtime.shutdown_background();
        })?;
        Ok(Control { shared, commands, stop: Some(stop), thread: Some(thread), admin })
    }

    /// Says that the workers serve: `/readyz` answers 200 from now on.
    pub fn ready(&self) {
        self.shared.ready.store(true, Relaxed);
    }

    /// Asks for a reload and does not wait for it; what comes of it is logged. A bad file changes nothing.
    pub fn reload(&self) {
        if self.commands.try_send(Command { answer: None }).is_err() {
            tracing::info!("enough reloads are waiting already");
        }
    }

    /// Reloads and waits for what comes of it; `None` when the thread has stopped.
    pub fn reload_and_wait(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.commands.blocking_send(Command { answer: Some(answer) }).ok()?;
        answered.blocking_recv().ok()
    }

    /// Says that we are about to leave: `/readyz` answers 503, and the workers drain. Reloads are refused then.
    pub fn drain(&self, deadline: Duration) {
        self.shared.draining.store(true, Relaxed);
        self.shared.workers.drain(deadline);
    }

    /// How long exchanges may go on once draining has begun, as the configuration in force says.
    pub fn drain_timeout(&self) -> Duration {
        self.shared.current().table.snapshot.timeouts().drain
    }

    /// Where the admin listener is, with its real port.
    pub fn admin_address(&self) -> Option<&AdminAddress> {
        self.admin.as_ref()
    }

    /// The table that the workers were last handed, and its generation, counted from 1.
    pub fn table(&self) -> (Arc<Table>, u64) {
        let current = self.shared.current();
        (Arc::clone(&current.table), current.generation)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the admin listener shows and a reload changes.
pub(crate) struct Shared {
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) health: Watcher,
    pub(crate) drains: Drains,
    current: Mutex<Arc<Current>>,
    ready: AtomicBool,
    draining: AtomicBool,
    pub(crate) reloads_applied: AtomicU64,
    pub(crate) reloads_refused: AtomicU64,
    /// What is known about names.
    pub(crate) names: Mutex<Names>,
    /// Tables that were made because addresses changed.
    pub(crate) address_tables: AtomicU64,
    pub(crate) metrics: MetricsSettings,
    /// Servers that metrics tell apart at most.
    pub(crate) servers_told_apart: usize,
    /// Whether it was said that there are more.
    told_of_bound: AtomicBool,
    pub(crate) recent: metrics::Recent,
    pub(crate) watch: watch::keeping::Kept,
    pub(crate) stats: stats::keeping::Kept,
    /// Times that `/metrics` was asked for.
    pub(crate) scrapes: AtomicU64,
    /// Answers of the admin listener that were not taken before their connection's lifetime was over.
    pub(crate) answers_cut: Arc<AtomicU64>,
    pub(crate) statsd: statsd::Packets,
    /// Spans for a collector; none where no collector is told.
    pub(crate) spans: Option<traces::Counts>,
    /// What has changed of late. Note here what a person should see.
    pub(crate) changes: Changes,
}

/// What is in force.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) table: Arc<Table>,
    pub(crate) listeners: Vec<Listener>,
    /// Servers of the file whose addresses are names.
    named: Arc<[NamedEntry]>,
    /// Tables published, this one included.
    pub(crate) generation: u64,
}

impl Shared {
    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_in_force(&self, current: Current) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether we serve, and know of every server that is checked whether it can be used.
    pub(crate) fn is_ready(&self) -> bool {
        self.serves() && self.health.undecided().is_empty()
    }

    /// Whether the workers serve.
    pub(crate) fn serves(&self) -> bool {
        self.ready.load(Relaxed) && !self.is_draining()
    }

    /// Says once that there are more servers than metrics tell apart.
    fn tell_of_bound(&self, table: &Table) {
        let (count, most) = (table.snapshot.servers().len(), self.servers_told_apart);
        if !self.metrics.servers || count <= most || self.told_of_bound.swap(true, Relaxed) {
            return;
        }
        let words = format!(
            "{count} servers are more than the {most} that `series_max` leaves room for: \
             further ones are counted together, by backend"
        );
        tracing::warn!("{words}");
        self.changes.note(Change {
            kind: Kind::Addresses,
            worse: true,
            subject: "metrics".to_owned(),
            words,
        });
    }

    /// `starting`, `ready` or `draining`.
    pub(crate) fn state_word(&self) -> &'static str {
        match (self.is_draining(), self.is_ready()) {
            (true, _) => "draining",
            (false, true) => "ready",
            (false, false) => "starting",
        }
    }
}

fn configuration(kind: Kind, hash: &lb_core::ContentHash, words: &str) -> Change {
    let hash = hash.to_string();
    let subject = format!("configuration {}", hash.get(..HASH_SHORT).unwrap_or(&hash));
    Change { kind, worse: false, subject, words: words.to_owned() }
}
