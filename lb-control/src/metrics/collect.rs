//! All families as they are now.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_core::{Health, Identity, ServerLive, Snapshot};

use super::family::{Edges, Family, Kind, Label, Labels, Sample, Value};
use super::subjects::{ARM, BACKEND, LISTENER, Number, PROCESS, SERVER, WORKER};
use super::{haproxy, names};
use crate::config::{MetricsSettings, StatusDetail};
use crate::control::{Current, Shared};
use crate::health::Shown;
use crate::workers::{
    ArmReading, BackendReading, ByReason, ByStatus, ListenerReading, Reading, ServerReading,
};

/// Everything that was read, once, for all families.
pub(super) struct Read {
    pub(super) current: Arc<Current>,
    pub(super) now: std::time::Duration,
    pub(super) workers: Reading,
    pub(super) arms: Vec<ArmReading>,
    pub(super) backends: Vec<BackendReading>,
    pub(super) servers: Vec<ServerReading>,
    pub(super) checks: Vec<(Identity, Shown)>,
}

/// All families, those without a sample left out.
pub(crate) fn families(shared: &Shared) -> Vec<Family> {
    let workers = &shared.workers;
    let settings = &shared.metrics;
    let read = Read {
        current: shared.current(),
        now: workers.now(),
        workers: workers.read(),
        arms: workers.arms(),
        backends: workers.backends(),
        servers: workers.servers(),
        checks: if settings.servers { shared.health.shown(workers.now()) } else { Vec::new() },
    };
    let mut families = control(shared, &read);
    families.extend(names::families(shared));
    families.extend(process(&read.workers, settings));
    families.extend(listeners(&read.workers.listeners, settings));
    families.extend(arms(shared, &read));
    families.extend(backends(&read, settings));
    if settings.servers {
        families.extend(live(&read));
        families.extend(checks(&read));
        families.extend(servers(&read.servers, settings));
    }
    if settings.haproxy {
        families.extend(haproxy::families(&read, settings, &shared.recent.means));
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

/// A label whose value is a name.
pub(super) fn label(name: &'static str, value: &str) -> Label {
    (name, value.to_owned().into())
}

pub(super) fn sample(labels: &Labels, value: Value) -> Sample {
    Sample { labels: labels.clone(), value }
}

fn value(kind: Kind, number: u64) -> Value {
    if kind == Kind::Gauge { Value::Level(number) } else { Value::Count(number) }
}

pub(super) fn single(kind: Kind, name: &'static str, help: &'static str, number: u64) -> Family {
    let samples = vec![Sample { labels: Labels::of(Vec::new()), value: value(kind, number) }];
    Family { name, help, kind, samples }
}

/// A family for every plain number of these subjects.
fn numbers<S, T>(table: &[Number<T>], subjects: &[(Labels, &S)], of: fn(&S) -> &T) -> Vec<Family> {
    let family = |number: &Number<T>| Family {
        name: number.name,
        help: number.help,
        kind: number.kind,
        samples: subjects
            .iter()
            .map(|(labels, subject)| sample(labels, value(number.kind, (number.of)(of(subject)))))
            .collect(),
    };
    table.iter().map(family).collect()
}

/// A family of one sample or more for every subject.
fn spread<S>(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    subjects: &[(Labels, &S)],
    samples: impl Fn(&Labels, &S) -> Vec<Sample>,
) -> Family {
    let samples = subjects.iter().flat_map(|(labels, subject)| samples(labels, subject)).collect();
    Family { name, help, kind, samples }
}

/// A sample for every status, or for every hundred of them.
pub(super) fn by_status(labels: &Labels, counts: &ByStatus, settings: &MetricsSettings) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::with_capacity(counts.len());
    let mut by_hundred = [0; 6];
    for &(status, count) in counts {
        match status {
            1..=5 => by_hundred[usize::from(status)] += count,
            _ if settings.statuses == StatusDetail::Hundreds => {
                by_hundred[usize::from(status / 100).min(5)] += count;
            }
            _ => samples.push(sample(&labels.with("code", status.to_string()), Value::Count(count))),
        }
    }
    let hundreds = by_hundred.iter().enumerate().filter(|(_, count)| **count > 0);
    samples.extend(hundreds.map(|(hundred, count)| {
        let code = if hundred == 0 { "0".to_owned() } else { format!("{hundred}xx") };
        sample(&labels.with("code", code), Value::Count(*count))
    }));
    samples
}

fn by_reason(labels: &Labels, counts: &ByReason) -> Vec<Sample> {
    let reason =
        |(word, count): &(&'static str, u64)| sample(&labels.with("reason", *word), Value::Count(*count));
    counts.iter().map(reason).collect()
}

fn control(shared: &Shared, read: &Read) -> Vec<Family> {
    use Kind::{Counter, Gauge};
    let info = |name, help, labels| Family {
        name,
        help,
        kind: Gauge,
        samples: vec![Sample { labels: Labels::of(labels), value: Value::Level(1) }],
    };
    let results = |name, help, results: [(&'static str, u64); 2]| Family {
        name,
        help,
        kind: Counter,
        samples: results
            .iter()
            .map(|(word, count)| Sample {
                labels: Labels::of(vec![("result", (*word).into())]),
                value: Value::Count(*count),
            })
            .collect(),
    };
    let build = vec![label("version", env!("CARGO_PKG_VERSION")), label("driver", &read.workers.driver)];
    let hash = vec![label("hash", &read.current.table.snapshot.hash().to_string())];
    let reloads = [
        ("applied", shared.reloads_applied.load(Relaxed)),
        ("refused", shared.reloads_refused.load(Relaxed)),
    ];
    let packets = [("sent", shared.statsd.sent.load(Relaxed)), ("lost", shared.statsd.lost.load(Relaxed))];
    let mut families = vec![
        info("lb_build_info", "Version and driver", build),
        info("lb_snapshot_info", "The table in use", hash),
        single(Gauge, "lb_snapshot_generation", "Tables published since the start", read.current.generation),
        single(Gauge, "lb_ready", "1 while new connections are welcome", u64::from(shared.is_ready())),
        single(Gauge, "lb_workers", "Workers", read.workers.workers.len() as u64),
        results("lb_reloads", "Reloads asked for", reloads),
        single(Counter, "lb_scrapes", "Times that metrics were asked for", shared.scrapes.load(Relaxed)),
        single(
            Counter,
            "lb_admin_answers_cut",
            "Answers of the admin listener that nobody took in time",
            shared.answers_cut.load(Relaxed),
        ),
    ];
    if shared.metrics.statsd.is_some() {
        families.push(results("lb_statsd_packets", "Packets for StatsD", packets));
    }
    families
}

fn process(reading: &Reading, settings: &MetricsSettings) -> Vec<Family> {
    let nothing = Labels::of(Vec::new());
    let sum = |number: &Number<_>| {
        let total = reading.workers.iter().map(number.of).sum();
        single(number.kind, number.name, number.help, total)
    };
    let mut families: Vec<Family> = PROCESS.iter().map(sum).collect();
    let mut requests = std::collections::BTreeMap::new();
    let mut replies = std::collections::BTreeMap::new();
    for worker in &reading.workers {
        for (status, count) in &worker.requests {
            *requests.entry(*status).or_default() += count;
        }
        for (word, count) in &worker.local_replies {
            *replies.entry(*word).or_default() += count;
        }
    }
    families.push(Family {
        name: "lb_requests",
        help: "Exchanges by status; 499: the client left, 0: none applies",
        kind: Kind::Counter,
        samples: by_status(&nothing, &requests.into_iter().collect(), settings),
    });
    families.push(Family {
        name: "lb_local_replies",
        help: "Exchanges that we ended ourselves, by reason",
        kind: Kind::Counter,
        samples: by_reason(&nothing, &replies.into_iter().collect()),
    });
    let workers = reading.workers.iter().enumerate();
    let workers: Vec<_> =
        workers.map(|(at, worker)| (Labels::of(vec![label("worker", &at.to_string())]), worker)).collect();
    families.extend(numbers(WORKER, &workers, |worker| worker));
    families.push(spread(
        Kind::Counter,
        "lb_worker_requests",
        "Exchanges by worker and status",
        &workers,
        |labels, it| by_status(labels, &it.requests, settings),
    ));
    families
}

fn listeners(listeners: &[ListenerReading], settings: &MetricsSettings) -> Vec<Family> {
    let subjects: Vec<_> = listeners
        .iter()
        .map(|listener| (Labels::of(vec![label("listener", &listener.name)]), listener))
        .collect();
    let mut families = numbers(LISTENER, &subjects, |listener| listener);
    families.push(spread(
        Kind::Counter,
        "lb_listener_requests",
        "Exchanges by listener and status",
        &subjects,
        |labels, it| by_status(labels, &it.requests, settings),
    ));
    families.push(spread(
        Kind::Counter,
        "lb_listener_local_replies",
        "Exchanges that we ended ourselves, by listener and reason",
        &subjects,
        |labels, it| by_reason(labels, &it.local_replies),
    ));
    families
}

fn arms(shared: &Shared, read: &Read) -> Vec<Family> {
    let settings = &shared.metrics;
    let labels = |arm: &ArmReading| {
        Labels::of(vec![label("route", &arm.route), label("arm", arm.arm), label("backend", &arm.backend)])
    };
    let subjects: Vec<_> = read.arms.iter().map(|arm| (labels(arm), arm)).collect();
    let mut families = numbers(ARM, &subjects, |arm| arm);
    families.push(spread(
        Kind::Counter,
        "lb_route_requests",
        "Exchanges by arm and status",
        &subjects,
        |labels, it| by_status(labels, &it.exchanges.requests, settings),
    ));
    families.push(spread(
        Kind::Counter,
        "lb_route_local_replies",
        "Exchanges that we ended ourselves, by arm and reason",
        &subjects,
        |labels, it| by_reason(labels, &it.exchanges.local_replies),
    ));
    type Times = fn(&ArmReading) -> &lb_core::histogram::Histogram;
    let times: [(&'static str, &'static str, Times); 4] = [
        ("lb_route_exchange_seconds", "Times of exchanges as clients saw them", |it| &it.exchanges.exchange),
        ("lb_route_connect_seconds", "Times that new connections to servers took", |it| {
            &it.exchanges.connect
        }),
        ("lb_route_wait_seconds", "Times from the connection to the response head", |it| &it.exchanges.wait),
        ("lb_route_transfer_seconds", "Times from the response head to the end", |it| &it.exchanges.transfer),
    ];
    for (name, help, of) in times {
        families.push(spread(Kind::Histogram, name, help, &subjects, |labels, it| {
            vec![sample(labels, Value::Times(of(it).clone(), Edges::Fine))]
        }));
    }
    families.push(Family {
        name: "lb_route_share_target",
        help: "The share of its route's sessions that the arm is to have",
        kind: Kind::Gauge,
        samples: share_targets(&read.current.table.snapshot, settings),
    });
    let served = shared.recent.shares.served(&read.arms);
    let served = subjects.iter().zip(served).filter_map(|((labels, _), share)| Some((labels, share?)));
    families.push(Family {
        name: "lb_route_share_served",
        help: "The share of its route's exchanges of the last minute that the arm served",
        kind: Kind::Gauge,
        samples: served.map(|(labels, share)| sample(labels, Value::Part(share))).collect(),
    });
    families.push(Family {
        name: "lb_route_jump",
        help: "1 while times or failures of the arm are far above what they should be",
        kind: Kind::Gauge,
        samples: jumps(shared, &read.arms),
    });
    families
}

fn jumps(shared: &Shared, arms: &[ArmReading]) -> Vec<Sample> {
    let state = shared.watch.state();
    let arms = arms.iter().map(crate::watch::Arm::of);
    let samples = arms.flat_map(|arm| {
        let subject = [label("route", &arm.route), label("arm", arm.arm), label("backend", &arm.backend)];
        state.watch.comparisons(&arm).into_iter().map(move |it| {
            let mut labels = subject.to_vec();
            labels.extend([label("of", it.of.word()), label("against", it.against.word())]);
            Sample { labels: Labels::of(labels), value: Value::Level(u64::from(it.jumped())) }
        })
    });
    samples.collect()
}

fn share_targets(snapshot: &Snapshot, settings: &MetricsSettings) -> Vec<Sample> {
    let splits = snapshot.routes().iter().filter(|route| settings.routes && route.arms().len() > 1);
    let targets = splits.flat_map(|route| {
        let others: usize = route.arms()[1..].iter().map(|arm| arm.buckets.len()).sum();
        route.arms().iter().enumerate().map(move |(place, arm)| {
            let backend = &snapshot.backend(arm.backend).name;
            let labels = vec![label("route", &route.name), label("arm", arm.name), label("backend", backend)];
            let buckets = if place == 0 { 10_000 - others } else { arm.buckets.len() };
            sample(&Labels::of(labels), Value::Part(buckets as f64 / 10_000.0))
        })
    });
    targets.collect()
}

/// States of a server, as its backend counts them; each server is in one.
pub(crate) const STATES: [&str; 4] = ["up", "down", "drain", "maintenance"];

/// The place in [`STATES`].
pub(crate) fn state(server: &ServerLive, now: std::time::Duration) -> usize {
    use lb_core::spec::Admin;
    match server.admin() {
        Admin::Drain => 2,
        Admin::Maintenance => 3,
        Admin::Ready if is_up(server, now) => 0,
        Admin::Ready => 1,
    }
}

pub(super) fn is_up(server: &ServerLive, now: std::time::Duration) -> bool {
    server.health() == Health::Up && server.removed_until() <= now
}

fn backends(read: &Read, settings: &MetricsSettings) -> Vec<Family> {
    let subjects: Vec<_> = read
        .backends
        .iter()
        .map(|backend| (Labels::of(vec![label("backend", &backend.name)]), backend))
        .collect();
    let mut families = numbers(BACKEND, &subjects, |backend| backend);
    families.push(spread(
        Kind::Counter,
        "lb_backend_requests",
        "Exchanges by backend and status",
        &subjects,
        |labels, it| by_status(labels, &it.exchanges.requests, settings),
    ));
    families.push(spread(
        Kind::Counter,
        "lb_backend_local_replies",
        "Exchanges that we ended ourselves, by backend and reason",
        &subjects,
        |labels, it| by_reason(labels, &it.exchanges.local_replies),
    ));
    families.push(spread(
        Kind::Histogram,
        "lb_backend_exchange_seconds",
        "Times of exchanges as clients saw them, by backend",
        &subjects,
        |labels, it| vec![sample(labels, Value::Times(it.exchanges.exchange.clone(), Edges::Coarse))],
    ));
    families.push(spread(
        Kind::Histogram,
        "lb_backend_attempt_seconds",
        "Times of attempts, from the pick to the response head, by backend",
        &subjects,
        |labels, it| vec![sample(labels, Value::Times(it.attempts.attempt.clone(), Edges::Coarse))],
    ));
    let table = &read.current.table;
    let states = table.snapshot.backends().iter().flat_map(|backend| {
        let labels = Labels::of(vec![label("backend", &backend.name)]);
        let mut counts = [0; STATES.len()];
        let servers = backend.servers.start as usize..backend.servers.end as usize;
        table.live.servers()[servers].iter().for_each(|server| counts[state(server, read.now)] += 1);
        let states = STATES.iter().zip(counts);
        states.map(move |(word, count)| sample(&labels.with("state", *word), Value::Level(count)))
    });
    families.push(Family {
        name: "lb_backend_servers",
        help: "Servers of the backend by state",
        kind: Kind::Gauge,
        samples: states.collect(),
    });
    families
}

fn server_labels(backend: &str, name: &str, address: &str) -> Labels {
    Labels::of(vec![label("backend", backend), label("server", name), label("address", address)])
}

/// What the table's live state says, which all workers share.
fn live(read: &Read) -> Vec<Family> {
    let subjects: Vec<_> = read
        .current
        .table
        .live
        .servers()
        .iter()
        .map(|server| {
            let address = server.address().to_string();
            (server_labels(server.backend(), server.name(), &address), &**server)
        })
        .collect();
    let one = |labels: &Labels, value| vec![sample(labels, value)];
    vec![
        spread(
            Kind::Gauge,
            "lb_server_up",
            "1 while the server may be picked, as far as its health goes",
            &subjects,
            |labels, it| one(labels, Value::Level(u64::from(is_up(it, read.now)))),
        ),
        spread(Kind::Gauge, "lb_server_in_flight", "Attempts under way", &subjects, |labels, it| {
            one(labels, Value::Level(u64::from(it.in_flight())))
        }),
        spread(Kind::Counter, "lb_server_picks", "Attempts begun", &subjects, |labels, it| {
            one(labels, Value::Count(it.counters().picked()))
        }),
        spread(Kind::Counter, "lb_server_responses", "Responses by class", &subjects, |labels, it| {
            let counts = it.counters().responded.into_iter().enumerate().filter(|(_, count)| *count > 0);
            let sample = |(class, count): (usize, u64)| {
                let word = if class == 0 { "other".to_owned() } else { format!("{class}xx") };
                sample(&labels.with("class", word), Value::Count(count))
            };
            counts.map(sample).collect()
        }),
        spread(
            Kind::Counter,
            "lb_server_health_changes",
            "Times that the server went down or came up",
            &subjects,
            |labels, it| one(labels, Value::Count(u64::from(it.counters().health_changes))),
        ),
        spread(
            Kind::Counter,
            "lb_server_removals",
            "Times that a connect failure took the server out of picks",
            &subjects,
            |labels, it| one(labels, Value::Count(u64::from(it.counters().removals))),
        ),
        spread(
            Kind::Counter,
            "lb_server_failures",
            "Attempts without a response, by kind",
            &subjects,
            |labels, it| {
                let counters = it.counters();
                let kinds = [
                    ("connect", counters.connect_failed),
                    ("exchange", counters.failed),
                    ("abandoned", counters.abandoned),
                ];
                let sample = |(kind, count)| sample(&labels.with("kind", kind), Value::Count(count));
                kinds.map(sample).to_vec()
            },
        ),
    ]
}

/// Series that [`checks`] has for a server.
pub(super) const CHECK_SERIES: u64 = 6;

/// What checks and ejections came to.
fn checks(read: &Read) -> Vec<Family> {
    let subjects: Vec<_> = read
        .checks
        .iter()
        .map(|(identity, shown)| {
            (server_labels(&identity.backend, &identity.name, &identity.address.to_string()), shown)
        })
        .collect();
    let checked: Vec<_> = subjects.iter().filter(|(_, it)| it.checked).cloned().collect();
    let one = |labels: &Labels, value| vec![sample(labels, value)];
    vec![
        spread(Kind::Counter, "lb_server_checks", "Checks by result", &checked, |labels, it| {
            let totals =
                [("good", it.totals.good), ("bad", it.totals.bad), ("not_asked", it.totals.not_asked)];
            totals.map(|(word, count)| sample(&labels.with("result", word), Value::Count(count))).to_vec()
        }),
        spread(
            Kind::Gauge,
            "lb_server_check_seconds",
            "How long the last check of the server took",
            &checked,
            |labels, it| {
                let took = it.last.as_ref().map(|(_, took, _)| Value::Part(took.as_secs_f64()));
                took.map(|took| sample(labels, took)).into_iter().collect()
            },
        ),
        spread(Kind::Gauge, "lb_server_ejected", "1 while the server is ejected", &subjects, |labels, it| {
            one(labels, Value::Level(u64::from(it.ejected.is_some())))
        }),
        spread(
            Kind::Counter,
            "lb_server_ejections",
            "Times that the server was ejected",
            &subjects,
            |labels, it| one(labels, Value::Count(it.totals.ejections)),
        ),
    ]
}

fn servers(servers: &[ServerReading], settings: &MetricsSettings) -> Vec<Family> {
    let labels = |server: &ServerReading| {
        let address = server.address.map(|address| address.to_string()).unwrap_or_default();
        server_labels(&server.backend, &server.name, &address)
    };
    let subjects: Vec<_> = servers.iter().map(|server| (labels(server), server)).collect();
    let mut families = numbers(SERVER, &subjects, |server| &server.attempts);
    families.push(spread(
        Kind::Counter,
        "lb_server_requests",
        "Responses by server and status",
        &subjects,
        |labels, it| by_status(labels, &it.attempts.responses, settings),
    ));
    families.push(spread(
        Kind::Histogram,
        "lb_server_attempt_seconds",
        "Times of attempts, from the pick to the response head, by server",
        &subjects,
        |labels, it| vec![sample(labels, Value::Times(it.attempts.attempt.clone(), Edges::Coarse))],
    ));
    families
}
