//! How many series a configuration can have, before there is one: names, statuses and reasons are all known or
//! bounded, so nobody's requests can make more of them.
//!
//! The bound is what there would be if every status and every reason were seen everywhere; usually a tenth is.

use std::fmt;

use lb_core::Snapshot;
use lb_core::spec::Class;

use super::collect::{CHECK_SERIES, LEAVING_SERIES, STATES};
use super::family::Edges;
use super::subjects::{ARM, BACKEND, LISTENER, PROCESS, SERVER, WORKER};
use super::{haproxy, names};
use crate::config::{MetricsSettings, StatusDetail};

/// Statuses that an arm, backend or server tells apart, and the hundreds of the others.
pub const STATUSES_MAX: u64 = 64 + 5;

/// Statuses that a listener and a worker tell apart: all from 0 to 599.
pub const ALL_STATUSES_MAX: u64 = 600;

/// Hundreds of statuses, and 0.
const HUNDREDS: u64 = 5 + 1;

/// Reasons that an arm or backend tells apart.
pub const REASONS_MAX: u64 = 26;

/// Reasons that a listener tells apart, and one for others.
pub const ALL_REASONS_MAX: u64 = 128 + 1;

/// Series about ourselves: version, table, reloads, scrapes and so on.
const CONTROL: u64 = 18;

/// Series about each class.
const PER_CLASS: u64 = 4;

/// Comparisons of an arm with its past and with the stable arm.
const JUMPS: u64 = 2 * crate::watch::Of::ALL.len() as u64;

/// How many there are of what a snapshot does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workers.
    pub workers: usize,
    /// Names that are asked for.
    pub names: usize,
}

/// How many series there can be, by what they are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// About the process, its workers and listeners.
    pub process: u64,
    /// About routes and their arms.
    pub routes: u64,
    /// About backends.
    pub backends: u64,
    /// About servers.
    pub servers: u64,
    /// About one of these.
    pub per_server: u64,
    /// How many there are that are told apart.
    pub servers_known: u64,
}

impl Budget {
    /// What a configuration can have.
    pub fn of(snapshot: &Snapshot, settings: &MetricsSettings, of: Counts) -> Budget {
        let Counts { workers, names } = of;
        let statuses = |exact| if settings.statuses == StatusDetail::Hundreds { HUNDREDS } else { exact };
        let (all, some) = (statuses(ALL_STATUSES_MAX), statuses(STATUSES_MAX));
        let of = |numbers: usize| numbers as u64;
        let (arms, targets) = arms(snapshot, settings);
        let backends = snapshot.backends().len() as u64;
        let servers = if settings.servers { snapshot.servers().len() as u64 } else { 0 };
        let listeners = snapshot.listeners().len() as u64;
        let haproxy = |series| if settings.haproxy { series } else { 0 };
        let per_worker = of(WORKER.len()) + all;
        let per_listener = of(LISTENER.len()) + all + ALL_REASONS_MAX + haproxy(haproxy::PER_FRONTEND);
        let per_arm = of(ARM.len()) + JUMPS + some + REASONS_MAX + 4 * Edges::Fine.series();
        let per_backend = of(BACKEND.len() + STATES.len())
            + some
            + REASONS_MAX
            + 3 * Edges::Coarse.series()
            + haproxy(haproxy::PER_BACKEND);
        // A server, and what is beyond the bound of servers: together, for each backend of a name.
        let together = of(SERVER.len()) + some + Edges::Coarse.series();
        // Of the live state: up, in flight, three about connections, picks, changes of health, removals, six classes,
        // three kinds of failures.
        let per_server = together + 17 + CHECK_SERIES + LEAVING_SERIES + haproxy(haproxy::PER_SERVER);
        Budget {
            process: CONTROL
                + if names > 0 { names::OF_ALL + names as u64 * names::PER_NAME } else { 0 }
                + of(PROCESS.len())
                + snapshot.classes().map_or(0, |_| PER_CLASS * Class::ALL.len() as u64)
                + all
                + ALL_REASONS_MAX
                + workers as u64 * per_worker
                + listeners * per_listener
                + haproxy(haproxy::PER_PROCESS),
            routes: arms * per_arm + 2 * targets,
            backends: backends * per_backend,
            servers: servers * per_server
                + if settings.servers { backends.min(names as u64) * together } else { 0 },
            per_server,
            servers_known: servers,
        }
    }

    /// Servers that can be told apart in so many series, when names come to stand for more of them.
    pub fn servers_max(&self, series_max: u64) -> usize {
        let left = series_max.saturating_sub(self.total()) / self.per_server.max(1);
        usize::try_from(self.servers_known + left).unwrap_or(usize::MAX)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.process + self.routes + self.backends + self.servers
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { process, routes, backends, servers, .. } = self;
        write!(f, "{servers} of servers, {routes} of routes, {backends} of backends, {process} of the rest")
    }
}

/// Arms that are told apart, that of exchanges without a route included, and those with a share.
fn arms(snapshot: &Snapshot, settings: &MetricsSettings) -> (u64, u64) {
    if !settings.routes {
        // One for each backend, one for routes that answer by themselves: the same as that without a route.
        return (snapshot.backends().len() as u64 + 1, 0);
    }
    let arms = snapshot.routes().iter().map(|route| route.arms().len() as u64);
    let splits = arms.clone().filter(|arms| *arms > 1).sum();
    (arms.map(|arms| arms.max(1)).sum::<u64>() + 1, splits)
}

/// What could be switched off, and how many series would be left, the best first.
pub fn ways_out(snapshot: &Snapshot, settings: &MetricsSettings, of: Counts) -> Vec<(&'static str, u64)> {
    let with = |change: fn(&mut MetricsSettings)| {
        let mut changed = settings.clone();
        change(&mut changed);
        Budget::of(snapshot, &changed, of).total()
    };
    let mut ways = vec![
        ("statuses = \"hundreds\"", with(|settings| settings.statuses = StatusDetail::Hundreds)),
        ("servers = false", with(|settings| settings.servers = false)),
        ("routes = false", with(|settings| settings.routes = false)),
    ];
    let now = Budget::of(snapshot, settings, of).total();
    ways.retain(|(_, left)| *left < now);
    ways.sort_by_key(|(_, left)| *left);
    ways
}
