//! The schedule: starts checks when they are due, takes up what they find, looks at traffic every second, and tells
//! what has changed. One for all workers, on control's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{CHECKS_MAX, Done, Start, Told, Watcher, Weight, probe};
use crate::changes::{Change, Changes, Kind};
use crate::control::Shared;

/// How often traffic is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Buffers that are kept for the next checks.
const BUFFERS_KEPT: usize = 64;

/// A longer buffer is not kept.
const BUFFER_KEPT_LEN: usize = 4096;

/// When to look again where no check is planned.
const FAR: Duration = Duration::from_secs(3600);

/// Checks until the future is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let watcher = &shared.health;
    let now = || shared.workers.now();
    let mut checks: JoinSet<Done> = JoinSet::new();
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sleep = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(sleep);
    loop {
        watcher.start(&mut checks, &mut buffers);
        watcher.tell(&shared.changes);
        let next = watcher.state().next_due().filter(|_| checks.len() < CHECKS_MAX);
        let next = next.unwrap_or_else(|| Instant::now() + FAR).into();
        if sleep.deadline() != next {
            sleep.as_mut().reset(next);
        }
        tokio::select! {
            Some(done) = checks.join_next() => {
                watcher.finish(done, &mut buffers, now());
                // What else has ended meanwhile, for one lock and one look at the schedule.
                while let Some(done) = checks.try_join_next() {
                    watcher.finish(done, &mut buffers, now());
                }
            }
            () = &mut sleep => {}
            () = watcher.wake.notified() => {}
            _ = look.tick() => watcher.state().look(now()),
        }
    }
}

impl Watcher {
    fn start(&self, checks: &mut JoinSet<Done>, buffers: &mut Vec<Vec<u8>>) {
        let mut state = self.state();
        let now = Instant::now();
        while let Some(Start { server, number, asked }) = state.start(now, checks.len()) {
            let mut buffer = buffers.pop().unwrap_or_default();
            checks.spawn(async move {
                let (found, took) = probe::check(&asked, &mut buffer).await;
                Done { server, number, found, took, buffer }
            });
        }
    }

    fn finish(&self, done: Result<Done, tokio::task::JoinError>, buffers: &mut Vec<Vec<u8>>, now: Duration) {
        match done {
            Ok(done) => {
                self.state().finish(&done, now);
                if buffers.len() < BUFFERS_KEPT && done.buffer.len() <= BUFFER_KEPT_LEN {
                    buffers.push(done.buffer);
                }
            }
            // It has panicked, which ends the process where it counts (`panic = "abort"`).
            Err(error) => tracing::error!(%error, "a check did not come to its end"),
        }
    }

    /// Tells what has changed: the log all of it, the latest changes what people care about.
    fn tell(&self, changes: &Changes) {
        let told = std::mem::take(&mut self.state().told);
        for Told { server, words, weight } in told {
            let address = server.address;
            match weight {
                Weight::Usual => tracing::debug!(%server, %address, "{words}"),
                Weight::Better => tracing::info!(%server, %address, "{words}"),
                Weight::Worse => tracing::warn!(%server, %address, "{words}"),
            }
            if weight != Weight::Usual {
                let worse = weight == Weight::Worse;
                changes.note(Change { kind: Kind::Health, worse, subject: server.to_string(), words });
            }
        }
    }
}
