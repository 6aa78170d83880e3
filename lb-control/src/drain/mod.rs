//! Servers that are to leave: until when a drain keeps its sessions, and when nothing is left on them.
//!
//! ```text
//! Drains::fit ◄── each new table, before it is published
//!    │
//!    ├── deadlines ──► live state, which picks read
//!    └── state.rs ◄── every second: what is under way at those that leave
//!           └── what has changed ──► the log, the latest changes; `/servers`, `/stats`, metrics
//! ```
//!
//! The core keeps the deadline of a drain on the workers' clock and obeys it. What the file says is here: a time from
//! when this process first saw the drain, or a moment that all nodes and restarts agree about.

mod settings;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use lb_core::{Identity, Table};
use tokio::time::MissedTickBehavior;

pub(crate) use self::settings::content;
pub use self::settings::{DrainSettings, End};
pub(crate) use self::state::Shown;
use self::state::State;
use crate::changes::{Change, Kind};
use crate::config::moment::Moment;
use crate::control::Shared;

/// How often servers that leave are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Two clocks, read together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// The workers'.
    pub(crate) at: Duration,
    /// Everybody's: since 1970.
    pub(crate) wall: Duration,
}

impl Now {
    fn read(at: Duration) -> Now {
        Now { at, wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() }
    }

    /// Everybody's, to the second.
    pub(crate) fn moment(self) -> Moment {
        Moment { unix_s: self.wall.as_secs() }
    }

    /// The moment of a time on the workers' clock.
    pub(crate) fn moment_of(self, at: Duration) -> Moment {
        Moment { unix_s: (self.wall + at).saturating_sub(self.at).as_millis().div_ceil(1000) as u64 }
    }

    /// The time on the workers' clock at a moment; the clock's beginning for one before that.
    pub(crate) fn at_of(self, moment: Moment) -> Duration {
        (self.at + Duration::from_secs(moment.unix_s)).saturating_sub(self.wall)
    }
}

/// Knows the servers of the table in force that are to leave.
#[derive(Debug, Default)]
pub struct Drains(Mutex<State>);

impl Drains {
    /// Takes up a new table with what its configuration says about drains, before it is published. `at` is the workers'
    /// clock.
    pub fn fit(&self, table: &Arc<Table>, settings: &Arc<DrainSettings>, at: Duration) {
        self.state().fit(table, settings, Now::read(at));
    }

    /// Every server that is to leave, in no order. `at` is the workers' clock.
    pub(crate) fn shown(&self, at: Duration) -> Vec<(Identity, Shown)> {
        self.state().shown(Now::read(at))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at servers that leave until the future is dropped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let news = shared.drains.state().look(Now::read(shared.workers.now()));
        for (subject, words) in news {
            tracing::info!(server = subject, "{words}");
            shared.changes.note(Change { kind: Kind::Admin, worse: false, subject, words });
        }
    }
}
