//! `lb run`: load, listen, serve, and do as signals say.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use lb_control::admin::AdminSocket;
use lb_control::config::address::AdminAddress;
use lb_control::config::{Loaded, Origin, Plan, Purpose, load_blocking};
use lb_control::drain::Drains;
use lb_control::health::Watcher;
use lb_control::{Control, Setup, Workers as _};
use lb_core::Table;
use lb_io::engine::{LocalAddress, StartError};

use crate::Ending;
use crate::cli::{Format, RunArguments};
use crate::engine::EngineWorkers;
use crate::output::{complain, print};
use crate::signals::{self, Asked};

/// How often we look whether the workers have ended while they drain. They end by themselves; this only bounds
/// how late we notice.
const DRAINING_GLANCE: Duration = Duration::from_millis(20);

/// The same while they serve, when they end only if something went badly wrong.
const SERVING_GLANCE: Duration = Duration::from_secs(1);

pub(crate) fn run(arguments: &RunArguments, format: Format) -> Ending {
    let origin = Origin::File(arguments.config.clone());
    let Ok((plan, origin)) = load(origin, format) else { return Ending::Invalid };
    match Service::start(plan, origin) {
        Ok(service) => {
            print(&service.ready_line(format));
            service.serve()
        }
        Err(why) => {
            complain(&format!("lb: {why}\n"));
            Ending::Failed
        }
    }
}

/// Loads a configuration to be used. What is wrong with it has been told when this fails.
fn load(origin: Origin, format: Format) -> Result<(Plan, Origin), ()> {
    let loaded = load_blocking(&origin, Purpose::Run, None);
    let Loaded { report, plan } = loaded.map_err(|error| complain(&format!("lb: no runtime: {error}\n")))?;
    match plan {
        Some(plan) => {
            complain(&report.text(""));
            Ok((plan, origin))
        }
        None => {
            match format {
                Format::Text => complain(&report.text("Nothing was started.")),
                Format::Json => print(&(report.json() + "\n")),
            }
            Err(())
        }
    }
}

/// A load balancer that runs.
pub(crate) struct Service {
    // The order matters: the control thread goes before the workers that it talks to.
    control: Control,
    workers: Arc<EngineWorkers>,
    signals: Receiver<Asked>,
}

impl Service {
    /// Listens and begins to serve.
    ///
    /// # Errors
    /// What failed, for a person.
    pub(crate) fn start(plan: Plan, origin: Origin) -> Result<Service, String> {
        if let Err(error) = lb_io::sys::limits::raise_descriptors(u64::MAX) {
            tracing::warn!(%error, "the limit of open descriptors cannot be raised");
        }
        let signals = signals::catch().map_err(|error| format!("signals cannot be caught: {error}"))?;
        let admin = plan.config.admin.as_ref().map(|address| {
            AdminSocket::bind(address)
                .map_err(|error| format!("the admin listener cannot listen on {address}: {error}"))
        });
        let admin = admin.transpose()?;
        let table = Arc::new(Table::new(plan.snapshot, None));
        // Before a worker can pick: who is to be checked first is not used yet.
        let health = Watcher::default();
        health.fit(&table, &plan.config.health, lb_io::clock::now());
        let drains = Drains::default();
        drains.fit(&table, &plan.config.drains, lb_io::clock::now());
        let workers = EngineWorkers::start(&plan.config, &table).map_err(|error| words(&error))?;
        if let Some(why) = workers.fallback() {
            tracing::warn!("io_uring cannot be used here, so epoll is: {why}");
        }
        let workers = Arc::new(workers);
        let setup = Setup {
            origin,
            config: plan.config,
            carried: plan.carried,
            table,
            health,
            drains,
            workers: Arc::clone(&workers) as Arc<_>,
            admin,
        };
        let control =
            Control::start(setup).map_err(|error| format!("the control thread cannot start: {error}"))?;
        control.ready();
        Ok(Service { control, workers, signals })
    }

    /// Says that we are ready, and where.
    pub(crate) fn ready_line(&self, format: Format) -> String {
        let admin = self.control.admin_address().map(AdminAddress::to_string);
        match format {
            Format::Text => {
                let mut line = String::from("listening on ");
                for (place, LocalAddress { listener, address }) in self.addresses().iter().enumerate() {
                    if place == 0 {
                        let engine = self.engine_words();
                        write!(line, "http://{address} ({listener}; {engine})").expect("writing to a string");
                    } else {
                        write!(line, ", http://{address} ({listener})").expect("writing to a string");
                    }
                }
                line + &admin_words(admin.as_deref()) + "\n"
            }
            Format::Json => {
                let listeners: Vec<serde_json::Value> = self
                    .addresses()
                    .iter()
                    .map(|local| serde_json::json!({"name": local.listener, "address": local.address.to_string()}))
                    .collect();
                let ready = serde_json::json!({
                    "event": "ready",
                    "driver": self.workers.driver_name(),
                    "workers": self.workers.count(),
                    "listeners": listeners,
                    "admin": admin,
                });
                format!("{ready}\n")
            }
        }
    }

    /// `io_uring, 2 workers`.
    pub(crate) fn engine_words(&self) -> String {
        let plural = if self.workers.count() == 1 { "" } else { "s" };
        format!("{}, {} worker{plural}", self.workers.driver_name(), self.workers.count())
    }

    /// Where it listens.
    pub(crate) fn addresses(&self) -> &[LocalAddress] {
        self.workers.local_addresses()
    }

    /// `, admin on http://…`, or nothing.
    pub(crate) fn admin_words(&self) -> String {
        admin_words(self.control.admin_address().map(AdminAddress::to_string).as_deref())
    }

    /// Serves until a signal says to stop and the workers have ended.
    pub(crate) fn serve(self) -> Ending {
        let mut draining = false;
        loop {
            let glance = if draining { DRAINING_GLANCE } else { SERVING_GLANCE };
            match self.signals.recv_timeout(glance) {
                Ok(Asked::Reload) => self.control.reload(),
                Ok(Asked::ReopenLog) => self.workers.reopen_log(),
                Ok(Asked::Stop) if draining => {
                    tracing::info!("stopping now");
                    self.control.drain(Duration::ZERO);
                }
                Ok(Asked::Stop) => {
                    let timeout = self.control.drain_timeout();
                    tracing::info!(
                        timeout_s = timeout.as_secs_f32(),
                        "draining; another signal stops at once"
                    );
                    self.control.drain(timeout);
                    draining = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    complain("lb: signals are no longer caught\n");
                    return Ending::Failed;
                }
            }
            if self.workers.finished() {
                if draining {
                    return Ending::Done;
                }
                complain("lb: all workers have failed\n");
                return Ending::Failed;
            }
        }
    }
}

fn admin_words(address: Option<&str>) -> String {
    match address {
        Some(unix) if unix.starts_with("unix:") => format!(", admin on {unix}"),
        Some(address) => format!(", admin on http://{address}"),
        None => String::new(),
    }
}

/// A failed start in words that say what to do.
fn words(error: &StartError) -> String {
    match error {
        StartError::Bind { listener, address, error } if error.kind() == std::io::ErrorKind::AddrInUse => {
            format!("listener `{listener}` cannot listen on {address}: another process does")
        }
        other => other.to_string(),
    }
}
