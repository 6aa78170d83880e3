//! Makes the document: the published table in its order, with what was counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_core::snapshot::{Server as Wanted, Target};
use lb_core::{Identity, ServerLive, Table};

use super::document::{
    Arm, Backend, Change, Comparison, Leaving, Listener, Omitted, Process, Route, Server, Snapshot, Stats,
    VERSION, Worker,
};
use super::keeping::State;
use super::lately::{Came, Window, quantiles};
use super::splits::share;
use super::{BACKENDS_SHOWN_MAX, ROUTES_SHOWN_MAX, SERVERS_SHOWN_MAX};
use crate::changes::Noted;
use crate::control::{Shared, Unresolved};
use crate::drain::Shown;
use crate::metrics::collect::{STATES, state};
use crate::watch::{self, Watch};
use crate::workers::{ArmReading, QueueNumbers, Reading};

/// Everything as it is now.
pub(crate) fn stats(shared: &Shared) -> Stats {
    let (reading, arms) = (shared.workers.read(), shared.workers.arms());
    let current = shared.current();
    let now = shared.workers.now();
    let shares = shared.recent.shares.served(&arms);
    let changes = shared.changes.newest();
    let (leaving_servers, unresolved) = (shared.drains.shown(now), shared.unresolved(&current));
    // The two locks are held for as long as it takes to add up, by nobody who serves.
    let watch = shared.watch.state();
    let kept = shared.stats.state();
    let queues = shared.workers.queues().into_iter();
    let around = Around {
        arms: Arms::new(&arms, shares, &watch.watch),
        kept: &kept,
        leaving: leaving_servers.into_iter().collect(),
        queues: queues.map(|it| (it.backend, it.numbers)).collect(),
        unresolved,
        now,
    };
    let table = &current.table;
    let mut omitted = Omitted {
        routes: table.snapshot.routes().len().saturating_sub(ROUTES_SHOWN_MAX) as u64,
        backends: table.snapshot.backends().len().saturating_sub(BACKENDS_SHOWN_MAX) as u64,
        servers: 0,
        unwatched_arms: watch.watch.unwatched as u64,
    };
    Stats {
        version: VERSION,
        at: unix(SystemTime::now()),
        process: Process {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            driver: reading.driver.clone(),
            state: shared.state_word().to_owned(),
            started: unix(kept.started),
        },
        snapshot: Snapshot { hash: table.snapshot.hash().to_string(), generation: current.generation },
        workers: workers(&reading, &kept),
        listeners: listeners(&reading, &kept),
        routes: routes(table, &around.arms, &kept),
        backends: backends(table, &around, &mut omitted),
        changes: changes.into_iter().map(change).collect(),
        omitted,
    }
}

/// Seconds of Unix time.
fn unix(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn workers(reading: &Reading, kept: &State) -> Vec<Worker> {
    let workers = reading.workers.iter().enumerate();
    workers
        .map(|(place, it)| Worker {
            connections: it.active,
            held: it.held,
            upstream_connections: it.upstream_active,
            upstream_idle: it.upstream_idle,
            buffer_bytes: it.buffer_bytes,
            lately: kept.worker(place).and_then(|window| window.sum().shown()),
        })
        .collect()
}

fn listeners(reading: &Reading, kept: &State) -> Vec<Listener> {
    let listeners = reading.listeners.iter().enumerate();
    listeners
        .map(|(place, it)| Listener {
            name: it.name.to_string(),
            connections: it.active,
            exchanges_active: it.exchanges_active,
            turned_away: it.turned_away,
            lately: kept.listener(place).and_then(|window| window.sum().shown()),
        })
        .collect()
}

/// What is known of an arm.
struct Known {
    came: Came,
    share_minute: Option<f64>,
    active: u64,
    comparisons: Vec<Comparison>,
}

/// What is known of the arms.
struct Arms {
    known: HashMap<watch::Arm, Known>,
    /// What came of all arms that lead to a backend.
    by_backend: HashMap<Arc<str>, Came>,
}

impl Arms {
    fn new(readings: &[ArmReading], shares: Vec<Option<f64>>, watch: &Watch) -> Arms {
        let mut arms = Arms { known: HashMap::new(), by_backend: HashMap::new() };
        for (reading, share_minute) in readings.iter().zip(shares) {
            let arm = watch::Arm::of(reading);
            let came = watch.lately(&arm).map(|(came, seconds)| Came {
                seconds: seconds as f64,
                statuses: came.statuses,
                unanswered: 0,
                client: came.exchange,
                server: came.wait,
            });
            let came = came.unwrap_or_default();
            arms.by_backend.entry(Arc::clone(&reading.backend)).or_default().join(&came);
            let comparisons = watch.comparisons(&arm).iter().map(Comparison::of).collect();
            let active = reading.exchanges.active;
            arms.known.insert(arm, Known { came, share_minute, active, comparisons });
        }
        arms
    }

    /// An arm as the document has it, without shares of its route.
    fn shown(&self, route: &str, arm: &'static str, backend: &str) -> (Arm, u64) {
        let known = self.known.get(&watch::Arm { route: route.into(), arm, backend: backend.into() });
        let shown = Arm {
            arm: arm.to_owned(),
            backend: backend.to_owned(),
            exchanges_active: known.map_or(0, |known| known.active),
            share_served_minute: known.and_then(|known| known.share_minute),
            lately: known.and_then(|known| known.came.shown()),
            comparisons: known.map(|known| known.comparisons.clone()).unwrap_or_default(),
            ..Arm::default()
        };
        (shown, known.map_or(0, |known| known.came.count()))
    }

    /// What has no route, or only one without a name.
    fn without_route(&self) -> Route {
        let nameless = self.known.keys().filter(|arm| arm.route.is_empty());
        let mut arms: Vec<Arm> =
            nameless.map(|arm| self.shown(&arm.route, arm.arm, &arm.backend).0).collect();
        arms.sort_by(|left, right| left.backend.cmp(&right.backend));
        Route { name: String::new(), arms }
    }
}

fn routes(table: &Table, known: &Arms, kept: &State) -> Vec<Route> {
    let mut routes = vec![known.without_route()];
    for route in table.snapshot.routes().iter().take(ROUTES_SHOWN_MAX) {
        let Target::Backends(split) = &route.target else {
            let (arm, _) = known.shown(&route.name, "", "");
            routes.push(Route { name: route.name.to_string(), arms: vec![arm] });
            continue;
        };
        let shown = split
            .arms
            .iter()
            .map(|arm| known.shown(&route.name, arm.name, &table.snapshot.backend(arm.backend).name));
        let (mut arms, counts): (Vec<Arm>, Vec<u64>) = shown.unzip();
        if arms.len() > 1 {
            let all = counts.iter().sum::<u64>();
            let since = kept.splits.since(&route.name).map(unix);
            for (place, (arm, count)) in arms.iter_mut().zip(counts).enumerate() {
                arm.share_target = Some(f64::from(share(split, place)) / 10_000.0);
                arm.share_served = (all > 0).then(|| count as f64 / all as f64);
                arm.share_since = since;
                arm.release = split.release().filter(|_| place > 0).map(str::to_owned);
            }
        }
        routes.push(Route { name: route.name.to_string(), arms });
    }
    routes
}

/// What is known of backends and servers beside the table.
struct Around<'a> {
    arms: Arms,
    kept: &'a State,
    leaving: HashMap<Identity, Shown>,
    queues: HashMap<Arc<str>, QueueNumbers>,
    unresolved: Vec<Unresolved<'a>>,
    now: Duration,
}

fn backends(table: &Table, around: &Around<'_>, omitted: &mut Omitted) -> Vec<Backend> {
    let Around { kept, now, .. } = around;
    let mut room = SERVERS_SHOWN_MAX;
    let mut shown = Vec::new();
    for (index, backend) in table.snapshot.backends().iter().enumerate().take(BACKENDS_SHOWN_MAX) {
        let range = backend.servers.start as usize..backend.servers.end as usize;
        let servers = table.snapshot.servers()[range.clone()].iter().zip(&table.live.servers()[range]);
        let mut attempts = kept.undivided(&backend.name).map(Window::sum).unwrap_or_default();
        let mut states: BTreeMap<String, u64> = STATES.iter().map(|word| ((*word).to_owned(), 0)).collect();
        let mut in_flight = 0;
        let mut list = Vec::new();
        for (wanted, live) in servers {
            let identity = live.identity();
            let came = kept
                .server(&identity.backend, &identity.name, identity.address)
                .map(Window::sum)
                .unwrap_or_default();
            attempts.join(&came);
            in_flight += u64::from(live.in_flight());
            *states.entry(STATES[state(live, *now)].to_owned()).or_default() += 1;
            if room > 0 {
                room -= 1;
                list.push(server(wanted, live, &came, around));
            } else {
                omitted.servers += 1;
            }
        }
        for unresolved in around.unresolved.iter().filter(|it| it.entry.backend() == index) {
            if room > 0 {
                room -= 1;
                list.push(without_address(unresolved));
            } else {
                omitted.servers += 1;
            }
        }
        let waits = kept.queue(&backend.name).map(|window| window.sum().server);
        shown.push(Backend {
            name: backend.name.to_string(),
            states,
            in_flight,
            waiting: around.queues.get(&backend.name).map_or(0, |queue| queue.waiting.into()),
            may_wait: backend.queue.map(|queue| queue.requests.into()),
            waits: waits.and_then(|waits| quantiles(&waits)),
            exchanges: around.arms.by_backend.get(&backend.name).and_then(Came::shown),
            attempts: attempts.shown(),
            servers: list,
        });
    }
    shown
}

fn server(wanted: &Wanted, live: &ServerLive, came: &Came, around: &Around<'_>) -> Server {
    let removed = live.removed_until().saturating_sub(around.now);
    Server {
        name: live.name().to_owned(),
        address: live.address().to_string(),
        admin: live.admin().word().to_owned(),
        leaving: around.leaving.get(live.identity()).map(leaving),
        health: live.health().word().to_owned(),
        removed_for_s: (removed > Duration::ZERO).then_some(removed.as_secs_f64()),
        weight: wanted.weight,
        backup: wanted.backup,
        in_flight: u64::from(live.in_flight()),
        max_requests: live.most_in_flight().map(u64::from),
        lately: came.shown(),
    }
}

fn leaving(shown: &Shown) -> Leaving {
    let (requests, lately) = shown.lately;
    Leaving {
        since_s: shown.since.as_secs_f64(),
        until: shown.until.map(|(moment, _)| moment.unix_s as f64),
        over: shown.over,
        idle_s: shown.idle.map(|idle| idle.as_secs_f64()),
        empty_after_s: shown.empty_after.map(|after| after.as_secs_f64()),
        requests,
        lately_s: lately.as_secs_f64(),
    }
}

/// A name that stands for no address: nothing can come of it, and that is to be seen.
fn without_address(Unresolved { entry, why }: &Unresolved<'_>) -> Server {
    Server {
        name: entry.name.clone(),
        address: entry.address.clone(),
        admin: entry.admin.word().to_owned(),
        health: format!("no address ({why})"),
        weight: entry.weight,
        backup: entry.backup,
        max_requests: entry.max_requests.map(u64::from),
        ..Server::default()
    }
}

fn change(noted: Noted) -> Change {
    Change {
        number: noted.number,
        at: unix(noted.at),
        kind: noted.change.kind.word().to_owned(),
        worse: noted.change.worse,
        subject: noted.change.subject,
        words: noted.change.words,
    }
}
