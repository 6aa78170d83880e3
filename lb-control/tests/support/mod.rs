//! Workers that move no bytes and remember what they were told.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod collector;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_control::admin::AdminSocket;
use lb_control::admin::client::get;
use lb_control::config::{Loaded, Origin, Purpose, load_blocking};
use lb_control::drain::Drains;
use lb_control::health::Watcher;
use lb_control::{ArmReading, BackendReading, Control, Reading, ServerReading, Setup, SpanReading, Workers};
use lb_core::Table;

#[derive(Default)]
pub struct Remembering {
    pub published: Mutex<Vec<Arc<Table>>>,
    pub reading: Mutex<Reading>,
    pub arms: Mutex<Vec<ArmReading>>,
    pub servers: Mutex<Vec<ServerReading>>,
    pub backends: Mutex<Vec<BackendReading>>,
    pub drained: Mutex<Option<Duration>>,
    /// Ids of exchanges in sampled traces.
    pub recorded: Mutex<Vec<u64>>,
}

impl Remembering {
    /// Has exchanges end that are in sampled traces.
    pub fn record(&self, ids: RangeInclusive<u64>) {
        self.recorded.lock().expect("not poisoned").extend(ids);
    }
}

impl Workers for Remembering {
    fn publish(&self, table: Arc<Table>) {
        self.published.lock().expect("not poisoned").push(table);
    }

    fn read(&self) -> Reading {
        self.reading.lock().expect("not poisoned").clone()
    }

    fn arms(&self) -> Vec<ArmReading> {
        self.arms.lock().expect("not poisoned").clone()
    }

    fn servers(&self) -> Vec<ServerReading> {
        self.servers.lock().expect("not poisoned").clone()
    }

    fn backends(&self) -> Vec<BackendReading> {
        self.backends.lock().expect("not poisoned").clone()
    }

    fn take_spans(&self, each: &mut dyn FnMut(SpanReading<'_>)) {
        for id in self.recorded.lock().expect("not poisoned").drain(..) {
            each(SpanReading { trace: 7, id, method: b"GET", route: "shop", ..SpanReading::default() });
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn drain(&self, deadline: Duration) {
        *self.drained.lock().expect("not poisoned") = Some(deadline);
    }

    fn finished(&self) -> bool {
        self.drained.lock().expect("not poisoned").is_some()
    }
}

/// A control thread over remembering workers.
pub struct Running {
    pub control: Control,
    pub workers: Arc<Remembering>,
}

impl Running {
    /// Starts with a file, which must be good.
    #[track_caller]
    pub fn start(file: &Path) -> Running {
        let origin = Origin::File(file.to_owned());
        let Loaded { report, plan } = load_blocking(&origin, Purpose::Run, None).expect("a runtime");
        let plan = plan.unwrap_or_else(|| panic!("{}", report.text("")));
        let workers = Arc::new(Remembering::default());
        let admin = plan.config.admin.as_ref().map(|address| AdminSocket::bind(address).expect("free"));
        let table = Arc::new(Table::new(plan.snapshot, None));
        let health = Watcher::default();
        health.fit(&table, &plan.config.health, workers.now());
        let drains = Drains::default();
        drains.fit(&table, &plan.config.drains, workers.now());
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
        Running { control: Control::start(setup).expect("a thread"), workers }
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn get(&self, target: &str) -> (u16, String) {
        let address = self.control.admin_address().expect("an admin listener").to_string();
        get(&address, target).unwrap_or_else(|why| panic!("{why}"))
    }
}
