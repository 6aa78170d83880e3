//! Keeps the watch: reads once a second, logs what begins and ends, remembers the latest of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{ARMS_MAX, Against, Change, Of, Watch};
use crate::control::Shared;

/// How often it is read.
const STEP: Duration = Duration::from_secs(1);

/// Changes that are remembered.
pub(crate) const CHANGES_MAX: usize = 20;

/// The watch, and what has changed lately.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) watch: Watch,
    /// The newest last.
    pub(crate) changes: VecDeque<(SystemTime, String)>,
    told_of_unwatched: bool,
}

impl State {
    pub(crate) fn remember(&mut self, what: String) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((SystemTime::now(), what));
    }
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
            state.remember(words(change));
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

/// A change in a line for people.
fn words(change: &Change) -> String {
    let Change { arm, comparison, numbers } = change;
    let whom = format!("{} {}", arm.route, arm.arm);
    let of = comparison.of.word();
    let than = match comparison.against {
        Against::Before => "before",
        Against::Stable => "stable",
    };
    if !comparison.jumped() {
        return format!("{whom}: {of} as {than} again");
    }
    match comparison.of {
        Of::Failures => {
            format!("{whom}: {of} {:.1} %, {than} {:.1} %", numbers.now * 100.0, numbers.usual * 100.0)
        }
        Of::Exchange | Of::Wait => {
            let percentile = (numbers.quantile * 100.0).round();
            let (now, usual) = (numbers.now * 1e3, numbers.usual * 1e3);
            format!("{whom}: {of} p{percentile} {now:.1} ms, {than} {usual:.1} ms")
        }
    }
}
