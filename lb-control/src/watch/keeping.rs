//! Keeps the watch: reads once a second and logs what begins and ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ARMS_MAX, Change, Of, Watch};
use crate::changes::{self, Kind};
use crate::control::Shared;

/// How often it is read.
const STEP: Duration = Duration::from_secs(1);

/// The watch, for its keeper and for who asks.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) watch: Watch,
    told_of_unwatched: bool,
}

impl Kept {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one reading.
    pub(crate) fn take(&self, shared: &Shared) {
        let readings = shared.workers.arms();
        let mut state = self.state();
        let changes = state.watch.take(&readings);
        for change in &changes {
            tell(change);
            shared.changes.note(noted(change));
        }
        let unwatched = state.watch.unwatched;
        if unwatched > 0 && !state.told_of_unwatched {
            tracing::warn!(unwatched, "arms beyond {ARMS_MAX} are not watched for jumps");
        }
        state.told_of_unwatched = unwatched > 0;
    }
}

/// Reads once a second until the future is dropped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = Arc::clone(&shared);
        // Beside our own thread, which has probes and people to answer.
        let _ = tokio::task::spawn_blocking(move || shared.watch.take(&shared)).await;
    }
}

fn tell(change: &Change) {
    let Change { arm, comparison, numbers } = change;
    let (route, backend, arm) = (&*arm.route, &*arm.backend, arm.arm);
    let (of, against) = (comparison.of.word(), comparison.against.word());
    let (now, usual, exchanges) = (numbers.now, numbers.usual, numbers.exchanges);
    if comparison.jumped() {
        tracing::warn!(route, arm, backend, of, against, now, usual, exchanges, "a jump began");
    } else {
        tracing::info!(route, arm, backend, of, against, "a jump is over");
    }
}

/// The same in words for a person.
fn noted(change: &Change) -> changes::Change {
    let Change { arm, comparison, numbers } = change;
    let (of, against) = (comparison.of.word(), comparison.against.word());
    let number = |number: f64| match comparison.of {
        Of::Failures => format!("{:.1} %", number * 100.0),
        Of::Exchange | Of::Wait => format!("{:.1} ms", number * 1000.0),
    };
    let words = if comparison.jumped() {
        format!("{of} jumped against {against}: {} instead of {}", number(numbers.now), number(numbers.usual))
    } else {
        format!("{of} no longer jumps against {against}")
    };
    let subject = format!("{}/{}", arm.route, arm.arm);
    changes::Change { kind: Kind::Jump, worse: comparison.jumped(), subject, words }
}
