//! Fills the control side's idea of workers with the engine.

use std::sync::Arc;
use std::time::Duration;

use lb_control::config::{AccessLog, Config, Driver, LogFormat, LogTarget, SinkAddress};
use lb_control::{ArmReading, BackendReading, QueueReading, Reading, ServerReading, SpanReading, Workers};
use lb_core::Table;
use lb_io::driver::probe::DriverChoice;
use lb_io::engine::{Engine, EngineConfig, ListenerConfig, LocalAddress, StartError};
use lb_io::log;
use lb_io::metrics::Options;
use lb_io::trace::TraceOptions;

use crate::readings;

/// The engine as the control side sees it.
pub(crate) struct EngineWorkers {
    engine: Engine,
    count: usize,
}

impl EngineWorkers {
    /// Starts the engine that a configuration asks for.
    ///
    /// # Errors
    /// The engine's.
    pub(crate) fn start(config: &Config, table: &Arc<Table>) -> Result<EngineWorkers, StartError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = config.engine.workers.unwrap_or_else(cores);
        let listeners = config.listeners.iter();
        let engine_config = EngineConfig {
            workers: count,
            driver: match config.engine.driver {
                Driver::Auto => DriverChoice::Auto,
                Driver::IoUring => DriverChoice::IoUring,
                Driver::Epoll => DriverChoice::Epoll,
            },
            listeners: listeners
                .map(|listener| ListenerConfig { name: listener.name.clone(), bind: listener.bind.clone() })
                .collect(),
            max_connections: config.engine.max_connections.map(|count| count as usize),
            access_log: log_options(&config.access_log),
            trace: config.trace.as_ref().map(|trace| TraceOptions {
                restart: trace.restart,
                share: trace.sample,
                export: trace.otlp.is_some(),
            }),
            metrics: Options {
                routes: config.metrics.routes,
                servers: config.metrics.servers,
                servers_max: config.servers_told_apart,
            },
            ..EngineConfig::default()
        };
        Ok(EngineWorkers { engine: Engine::start(&engine_config, table)?, count })
    }

    /// `io_uring` or `epoll`.
    pub(crate) fn driver_name(&self) -> &'static str {
        self.engine.driver_name()
    }

    /// Why it is not the driver of first choice, if it is not.
    pub(crate) fn fallback(&self) -> Option<&str> {
        self.engine.fallback()
    }

    /// How many workers there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Where it listens.
    pub(crate) fn local_addresses(&self) -> &[LocalAddress] {
        self.engine.local_addresses()
    }

    /// Opens the access log anew.
    pub(crate) fn reopen_log(&self) {
        self.engine.reopen_log();
    }
}

fn log_options(access_log: &AccessLog) -> Option<log::LogOptions> {
    let target = match &access_log.target {
        LogTarget::Off => return None,
        LogTarget::Stdout => log::LogTarget::Stdout,
        LogTarget::Stderr => log::LogTarget::Stderr,
        LogTarget::File(path) => log::LogTarget::File(path.clone()),
        LogTarget::Syslog(settings) => log::LogTarget::Syslog(log::SyslogOptions {
            address: match &settings.address {
                SinkAddress::Unix(path) => log::SyslogAddress::Unix(path.clone()),
                SinkAddress::Udp(address) => log::SyslogAddress::Udp(address.clone()),
            },
            facility: settings.facility,
            name: settings.name.clone(),
        }),
    };
    let format = match access_log.format {
        LogFormat::Text => log::record::Format::Text,
        LogFormat::Json => log::record::Format::Json,
        LogFormat::Combined => log::record::Format::Combined,
    };
    let everything = log::sample::Sampling::default();
    let share = access_log.sample.unwrap_or(everything.share);
    Some(log::LogOptions { target, format, sampling: log::sample::Sampling { share, slow: access_log.slow } })
}

impl Workers for EngineWorkers {
    fn publish(&self, table: Arc<Table>) {
        self.engine.publish(&table);
    }

    fn read(&self) -> Reading {
        readings::process(&self.engine)
    }

    fn arms(&self) -> Vec<ArmReading> {
        readings::arms(self.engine.metrics())
    }

    fn servers(&self) -> Vec<ServerReading> {
        readings::servers(self.engine.metrics())
    }

    fn backends(&self) -> Vec<BackendReading> {
        readings::backends(self.engine.metrics(), self.engine.queues())
    }

    fn queues(&self) -> Vec<QueueReading> {
        readings::queues(self.engine.metrics(), self.engine.queues())
    }

    fn take_spans(&self, each: &mut dyn FnMut(SpanReading<'_>)) {
        if let Some(spans) = self.engine.spans() {
            spans.take(&mut |record| each(readings::span(record)));
        }
    }

    fn now(&self) -> Duration {
        lb_io::clock::now()
    }

    fn drain(&self, deadline: Duration) {
        self.engine.drain(deadline);
    }

    fn finished(&self) -> bool {
        self.engine.is_finished()
    }
}
