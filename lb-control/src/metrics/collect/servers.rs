//! Backends and servers.

use lb_core::{Health, Identity, ServerLive};

use super::super::family::{Edges, Family, Kind, Labels, Value};
use super::super::subjects::{BACKEND, SERVER};
use super::{Read, by_reason, by_status, label, numbers, sample, spread};
use crate::config::MetricsSettings;
use crate::workers::ServerReading;

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

pub(super) fn backends(read: &Read, settings: &MetricsSettings) -> Vec<Family> {
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
    families.push(spread(
        Kind::Histogram,
        "lb_backend_queue_seconds",
        "Times that requests waited until a server had room, or gave up, by backend",
        &subjects,
        |labels, it| {
            let waits = it.queue.waits.iter();
            waits.map(|waits| sample(labels, Value::Times(waits.clone(), Edges::Coarse))).collect()
        },
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

fn labels_of(identity: &Identity) -> Labels {
    server_labels(&identity.backend, &identity.name, &identity.address.to_string())
}

fn server_labels(backend: &str, name: &str, address: &str) -> Labels {
    Labels::of(vec![label("backend", backend), label("server", name), label("address", address)])
}

/// What the table's live state says, which all workers share.
pub(super) fn live(read: &Read) -> Vec<Family> {
    let subjects: Vec<_> = read
        .current
        .table
        .live
        .servers()
        .iter()
        .filter(|server| read.tells_apart(server.identity()))
        .map(|server| (labels_of(server.identity()), &**server))
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
        spread(
            Kind::Gauge,
            "lb_server_connections_active",
            "Connections open to the server",
            &subjects,
            |labels, it| one(labels, Value::Level(u64::from(it.connections()))),
        ),
        // Each attempt under way has one of its own.
        spread(
            Kind::Gauge,
            "lb_server_connections_idle",
            "Of those, idle in pools",
            &subjects,
            |labels, it| {
                one(labels, Value::Level(u64::from(it.connections().saturating_sub(it.in_flight()))))
            },
        ),
        spread(
            Kind::Gauge,
            "lb_server_connections_max",
            "Connections that may be open to the server, where there is a bound",
            &subjects,
            |labels, it| {
                it.max_connections().map_or(Vec::new(), |most| one(labels, Value::Level(u64::from(most))))
            },
        ),
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
pub(crate) const CHECK_SERIES: u64 = 6;

/// What checks and ejections came to.
pub(super) fn checks(read: &Read) -> Vec<Family> {
    let subjects: Vec<_> = read
        .checks
        .iter()
        .filter(|(identity, _)| read.tells_apart(identity))
        .map(|(identity, shown)| (labels_of(identity), shown))
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

/// Series that [`leaving`] has for a server.
pub(crate) const LEAVING_SERIES: u64 = 3;

/// Servers in drain and in maintenance, and what is left on them.
pub(super) fn leaving(read: &Read) -> Vec<Family> {
    let leaving = read.leaving.iter().filter(|(identity, _)| read.tells_apart(identity));
    let subjects: Vec<_> = leaving.map(|(identity, shown)| (labels_of(identity), shown)).collect();
    let gauge = |name, help, value: fn(&crate::drain::Shown) -> Option<Value>| {
        spread(Kind::Gauge, name, help, &subjects, |labels, it| {
            value(it).map(|value| sample(labels, value)).into_iter().collect()
        })
    };
    vec![
        gauge("lb_server_empty", "1 when nothing is left on a server in drain or in maintenance", |it| {
            Some(Value::Level(u64::from(it.empty_after.is_some())))
        }),
        gauge(
            "lb_server_empty_after_seconds",
            "How long it took from drain or maintenance until then",
            |it| it.empty_after.map(|after| Value::Part(after.as_secs_f64())),
        ),
        gauge("lb_server_drain_until_seconds", "When the server's own sessions move, in Unix time", |it| {
            it.until.map(|(moment, _)| Value::Level(moment.unix_s))
        }),
    ]
}

pub(super) fn attempts(servers: &[ServerReading], settings: &MetricsSettings) -> Vec<Family> {
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
