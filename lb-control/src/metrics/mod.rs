//! What is counted, as families of numbers with names and labels: one list for the admin listener's text and for
//! StatsD.
//!
//! Nothing is registered: `collect.rs` reads the workers, the published table and ourselves when
//! somebody asks. [`budget`] says before that how many series there can be.

pub mod budget;
pub(crate) mod collect;
pub mod family;
mod haproxy;
mod names;
pub(crate) mod shares;
mod subjects;
pub(crate) mod text;

use std::sync::Arc;

use crate::control::Shared;

/// What was counted during the last minute, for numbers that are about that.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pub(crate) shares: shares::ServedShares,
    pub(crate) means: haproxy::means::Means,
}

/// Takes notes of what is counted until the future is dropped.
pub(crate) async fn keep_recent(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shares::STEP).await;
        let shared = Arc::clone(&shared);
        let note = move || {
            shared.recent.shares.note(&shared.workers.arms());
            if shared.metrics.haproxy {
                shared.recent.means.note(&*shared.workers);
            }
        };
        // Beside our own thread, which has probes and people to answer.
        let _ = tokio::task::spawn_blocking(note).await;
    }
}
