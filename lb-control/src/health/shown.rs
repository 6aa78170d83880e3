//! What people and metrics are shown of a server's health.

use std::time::{Duration, Instant, SystemTime};

use lb_core::Identity;
use lb_core::outlier::Ejection;

use super::{Found, Watcher};

/// What a server's checks and ejections came to, since it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Checks that got what they expected.
    pub(crate) good: u64,
    /// Checks that did not.
    pub(crate) bad: u64,
    /// Checks that we could not carry out.
    pub(crate) not_asked: u64,
    /// How long all of them took.
    pub(crate) took: Duration,
    /// Times that it was ejected.
    pub(crate) ejections: u64,
}

impl Totals {
    pub(super) fn count(&mut self, found: &Found, took: Duration) {
        match found.sort.result() {
            Some(Ok(())) => self.good += 1,
            Some(Err(_)) => self.bad += 1,
            None => self.not_asked += 1,
        }
        self.took += took;
    }
}

/// A server as it stands.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// Whether it is checked.
    pub(crate) checked: bool,
    /// Where it is checked.
    pub(crate) target: Option<std::net::SocketAddr>,
    /// The last check that came to an end: what it found, how long it took, and how long ago it ended.
    pub(crate) last: Option<(Found, Duration, Duration)>,
    /// In what time the next check is due; none: one is under way, or none will be.
    pub(crate) next: Option<Duration>,
    /// That it is ejected, and for how long yet.
    pub(crate) ejected: Option<(Ejection, Duration)>,
    /// When it last went up or down or was ejected, and why.
    pub(crate) turned: Option<(SystemTime, String)>,
    /// Sums.
    pub(crate) totals: Totals,
}

impl Watcher {
    /// Every server of the table in force, in its order. `now` is the workers' clock.
    pub(crate) fn shown(&self, now: Duration) -> Vec<(Identity, Shown)> {
        let state = self.state();
        let at = Instant::now();
        let show = |server: &super::Server| {
            let identity = server.live.identity().clone();
            let ejection = state.monitor.standing(&identity).and_then(|standing| standing.ejection);
            let last = server.last.as_ref();
            let shown = Shown {
                checked: server.asked.is_some(),
                target: server.asked.as_ref().map(|asked| asked.address),
                last: last.map(|it| (it.found.clone(), it.took, at.saturating_duration_since(it.at))),
                next: server.due.map(|due| due.saturating_duration_since(at)),
                ejected: ejection.map(|it| (it, it.until.saturating_sub(now))),
                turned: server.turned.as_ref().map(|it| (it.at, it.words.clone())),
                totals: server.totals,
            };
            (identity, shown)
        };
        state.servers.iter().map(show).collect()
    }
}
