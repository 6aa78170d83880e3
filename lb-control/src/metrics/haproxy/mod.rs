//! The families of HAProxy's exporter (its 2.6), as far as we have their data, for dashboards that know those.
//!
//! Frontends are listeners, backends backends, servers servers. A session is a connection to a frontend, and an
//! exchange at a backend or an attempt at a server. `*_time_average_seconds` are means of the last minute, where
//! HAProxy has those of the last 1024 sessions. Families about what we do not have (compression, caches) are
//! left out.

pub(crate) mod means;

use std::collections::HashMap;
use std::sync::Arc;

use lb_core::{Identity, ServerIndex};

use super::collect::{Read, label, sample, state};
use super::family::{Family, Kind, Labels, Value};
use crate::config::MetricsSettings;
use crate::health::{Shown, Sort};
use crate::workers::{AttemptNumbers, BackendReading, ByReason, ByStatus, ListenerReading};

/// Series for each frontend at most: plain numbers, two states, six classes.
pub(super) const PER_FRONTEND: u64 = FRONTEND.len() as u64 + 2 + 6;
/// Series for each backend at most: plain numbers, states of it and of its servers, classes, means and live numbers.
pub(super) const PER_BACKEND: u64 = BACKEND.len() as u64 + 2 + STATES.len() as u64 + 6 + 3 + 3;
/// Series for each server at most.
pub(super) const PER_SERVER: u64 =
    SERVER.len() as u64 + STATES.len() as u64 + 6 + 3 + 3 + CHECK_STATES.len() as u64 + 3;
/// Series for the process.
pub(super) const PER_PROCESS: u64 = 6;

/// A server's states in HAProxy's words, ours being the first four in [`super::collect::STATES`]'s order.
const STATES: [&str; 5] = ["UP", "DOWN", "DRAIN", "MAINT", "NOLB"];

/// What a check has found in HAProxy's words, as far as ours can.
const CHECK_STATES: [&str; 7] = ["L4OK", "L4TOUT", "L4CON", "L7OK", "L7TOUT", "L7RSP", "L7STS"];

/// The word for a sort of result; none for what says nothing about the server.
fn check_state(sort: Sort) -> &'static str {
    match sort {
        Sort::Connected => "L4OK",
        Sort::ConnectTimeout => "L4TOUT",
        Sort::NotConnected => "L4CON",
        Sort::Answered => "L7OK",
        Sort::AnswerTimeout => "L7TOUT",
        Sort::WrongAnswer => "L7RSP",
        Sort::WrongStatus => "L7STS",
        Sort::NotAsked => "",
    }
}

type Number<S> = (Kind, &'static str, &'static str, fn(&S) -> u64);

const FRONTEND: &[Number<ListenerReading>] = &[
    (Kind::Gauge, "haproxy_frontend_current_sessions", "Connections open", |it| it.active),
    (Kind::Counter, "haproxy_frontend_sessions", "Connections accepted", |it| it.accepted),
    (Kind::Counter, "haproxy_frontend_connections", "Connections accepted", |it| it.accepted),
    (Kind::Counter, "haproxy_frontend_denied_connections", "Connections over a bound", |it| it.turned_away),
    (Kind::Counter, "haproxy_frontend_http_requests", "Exchanges", |it| {
        ended(&it.requests) + it.exchanges_active
    }),
    (Kind::Counter, "haproxy_frontend_bytes_in", "Bytes from clients", |it| it.bytes_received),
    (Kind::Counter, "haproxy_frontend_bytes_out", "Bytes to clients", |it| it.bytes_sent),
];

const BACKEND: &[Number<BackendReading>] = &[
    (Kind::Gauge, "haproxy_backend_current_sessions", "Exchanges under way", |it| it.exchanges.active),
    (Kind::Gauge, "haproxy_backend_current_queue", "Requests that wait for a server", |it| {
        it.queue.waiting.into()
    }),
    (Kind::Counter, "haproxy_backend_sessions", "Exchanges", |it| it.exchanges.ended() + it.exchanges.active),
    (Kind::Counter, "haproxy_backend_http_requests", "Exchanges", |it| {
        it.exchanges.ended() + it.exchanges.active
    }),
    (Kind::Counter, "haproxy_backend_bytes_in", "Bytes from clients", |it| it.exchanges.bytes_received),
    (Kind::Counter, "haproxy_backend_bytes_out", "Bytes to clients", |it| it.exchanges.bytes_sent),
    (Kind::Counter, "haproxy_backend_connection_errors", "Connects to servers that failed", |it| {
        it.attempts.connect_failures
    }),
    (Kind::Counter, "haproxy_backend_response_errors", "Attempts without a whole response", |it| {
        it.attempts.failures
    }),
    (Kind::Counter, "haproxy_backend_retry_warnings", "Attempts after an exchange's first", |it| {
        it.attempts.retries
    }),
    (Kind::Counter, "haproxy_backend_loadbalanced", "Attempts", |it| it.exchanges.attempts),
    (Kind::Counter, "haproxy_backend_client_aborts", "Exchanges that the client left", |it| {
        reasons(&it.exchanges.local_replies, &["client_left", "client_stalled"])
    }),
    (Kind::Counter, "haproxy_backend_server_aborts", "Exchanges that the server broke off", |it| {
        reasons(&it.exchanges.local_replies, &["server_closed", "response_cut"])
    }),
    (Kind::Counter, "haproxy_backend_connection_attempts", "Connections to servers tried", |it| {
        it.attempts.connects + it.attempts.connect_failures
    }),
    (Kind::Counter, "haproxy_backend_connection_reuses", "Attempts on a pooled connection", |it| {
        it.attempts.reuses
    }),
];

const SERVER: &[Number<AttemptNumbers>] = &[
    (Kind::Counter, "haproxy_server_bytes_in", "Bytes to the server", |it| it.bytes_sent),
    (Kind::Counter, "haproxy_server_bytes_out", "Bytes from the server", |it| it.bytes_received),
    (Kind::Counter, "haproxy_server_connection_errors", "Connects that failed", |it| it.connect_failures),
    (Kind::Counter, "haproxy_server_response_errors", "Attempts without a whole response", |it| it.failures),
    (Kind::Counter, "haproxy_server_retry_warnings", "Attempts after an exchange's first", |it| it.retries),
    (Kind::Counter, "haproxy_server_connection_attempts", "Connections tried", |it| {
        it.connects + it.connect_failures
    }),
    (Kind::Counter, "haproxy_server_connection_reuses", "Attempts on a pooled connection", |it| it.reuses),
    (Kind::Counter, "haproxy_server_sessions", "Attempts", |it| it.begun),
    (Kind::Counter, "haproxy_server_loadbalanced", "Attempts", |it| it.begun),
    (Kind::Gauge, "haproxy_server_current_sessions", "Attempts under way", |it| it.active),
];

fn ended(requests: &ByStatus) -> u64 {
    requests.iter().map(|(_, count)| count).sum()
}

fn reasons(replies: &ByReason, wanted: &[&str]) -> u64 {
    replies.iter().filter(|(word, _)| wanted.contains(word)).map(|(_, count)| count).sum()
}

/// All of HAProxy's families.
pub(super) fn families(read: &Read, settings: &MetricsSettings, means: &means::Means) -> Vec<Family> {
    let mut families = process(read);
    families.extend(frontends(&read.workers.listeners));
    families.extend(backends(read, means));
    if settings.servers {
        families.extend(servers(read, means));
    }
    families
}

fn family(kind: Kind, name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind, samples: Vec::new() }
}

fn value(kind: Kind, number: u64) -> Value {
    if kind == Kind::Gauge { Value::Level(number) } else { Value::Count(number) }
}

fn numbers<S, T>(table: &[Number<T>], subjects: &[(Labels, &S)], of: fn(&S) -> &T) -> Vec<Family> {
    let fill = |(kind, name, help, number): &Number<T>| {
        let samples = subjects.iter().map(|(labels, it)| sample(labels, value(*kind, number(of(it)))));
        Family { samples: samples.collect(), ..family(*kind, name, help) }
    };
    table.iter().map(fill).collect()
}

/// Responses by class, as `code`.
fn classes(family: &mut Family, labels: &Labels, counts: &ByStatus) {
    let mut by_class = [0; 6];
    for (status, count) in counts {
        // Below ten, the number of the class itself.
        let class = if *status < 10 { *status } else { *status / 100 };
        by_class[usize::from(class).min(5)] += count;
    }
    for (word, count) in ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(by_class) {
        family.samples.push(sample(&labels.with("code", word), Value::Count(count)));
    }
}

/// 1 for the state that it is in, 0 for the others.
fn status(family: &mut Family, labels: &Labels, states: &[&'static str], now: &str) {
    for state in states {
        let level = Value::Level(u64::from(*state == now));
        family.samples.push(sample(&labels.with("state", *state), level));
    }
}

fn process(read: &Read) -> Vec<Family> {
    let sum = |of: fn(&crate::workers::WorkerReading) -> u64| read.workers.workers.iter().map(of).sum();
    let single = |kind, name, help, number: u64| {
        let labels = Labels::of(Vec::new());
        Family { samples: vec![sample(&labels, value(kind, number))], ..family(kind, name, help) }
    };
    let requests = sum(|worker| ended(&worker.requests));
    vec![
        single(Kind::Gauge, "haproxy_process_nbthread", "Workers", read.workers.workers.len() as u64),
        single(Kind::Gauge, "haproxy_process_current_connections", "Connections open", sum(|it| it.active)),
        single(Kind::Counter, "haproxy_process_connections", "Connections accepted", sum(|it| it.accepted)),
        single(Kind::Counter, "haproxy_process_requests", "Exchanges", requests),
        single(Kind::Counter, "haproxy_process_bytes_out", "Bytes to clients", sum(|it| it.bytes_sent)),
        single(
            Kind::Counter,
            "haproxy_process_dropped_logs",
            "Access log lines lost",
            sum(|it| it.log_lines_dropped),
        ),
    ]
}

fn frontends(listeners: &[ListenerReading]) -> Vec<Family> {
    let subjects: Vec<_> =
        listeners.iter().map(|it| (Labels::of(vec![label("proxy", &it.name)]), it)).collect();
    let mut families = numbers(FRONTEND, &subjects, |it| it);
    let mut states = family(Kind::Gauge, "haproxy_frontend_status", "1 for the state that it is in");
    let mut responses = family(Kind::Counter, "haproxy_frontend_http_responses", "Responses by class");
    for (labels, listener) in &subjects {
        status(&mut states, labels, &["DOWN", "UP"], "UP");
        classes(&mut responses, labels, &listener.requests);
    }
    families.extend([states, responses]);
    families
}

fn backends(read: &Read, means: &means::Means) -> Vec<Family> {
    let subjects: Vec<_> =
        read.backends.iter().map(|it| (Labels::of(vec![label("proxy", &it.name)]), it)).collect();
    let mut families = numbers(BACKEND, &subjects, |it| it);
    let gauge = |name, help| family(Kind::Gauge, name, help);
    let mut responses = family(Kind::Counter, "haproxy_backend_http_responses", "Responses by class");
    let mut states = gauge("haproxy_backend_status", "1 for the state that it is in");
    let mut of_servers = gauge("haproxy_backend_agg_server_status", "Servers by state");
    let mut active = gauge("haproxy_backend_active_servers", "Servers that are up, without backups");
    let mut backups = gauge("haproxy_backend_backup_servers", "Backups that are up");
    let mut weights = gauge("haproxy_backend_weight", "Sum of the weights of servers that are up");
    let [mut connect, mut response, mut total] = average_families("backend");
    let table = &read.current.table;
    for (labels, backend) in &subjects {
        classes(&mut responses, labels, &backend.exchanges.requests);
        let mean = means.of_backend(backend);
        for (family, mean) in
            [(&mut connect, mean.connect), (&mut response, mean.response), (&mut total, mean.total)]
        {
            family.samples.push(sample(labels, Value::Part(mean)));
        }
        let Some(known) = table.snapshot.backends().iter().find(|known| known.name == backend.name) else {
            continue;
        };
        let (mut by_state, mut up, mut weight) = ([0; STATES.len()], [0, 0], 0);
        for server in known.servers.clone() {
            let server = ServerIndex(server);
            let (live, wanted) = (table.server_live(server), table.snapshot.server(server));
            let state = state(live, read.now);
            by_state[state] += 1;
            if state == 0 {
                up[usize::from(wanted.backup)] += 1;
                weight += u64::from(wanted.weight);
            }
        }
        status(&mut states, labels, &["DOWN", "UP"], if up == [0, 0] { "DOWN" } else { "UP" });
        for (word, count) in STATES.into_iter().zip(by_state) {
            of_servers.samples.push(sample(&labels.with("state", word), Value::Level(count)));
        }
        active.samples.push(sample(labels, Value::Level(up[0])));
        backups.samples.push(sample(labels, Value::Level(up[1])));
        weights.samples.push(sample(labels, Value::Level(weight)));
    }
    families.extend([responses, states, of_servers, active, backups, weights, connect, response, total]);
    families
}

fn average_families(of: &str) -> [Family; 3] {
    let names = match of {
        "backend" => [
            "haproxy_backend_connect_time_average_seconds",
            "haproxy_backend_response_time_average_seconds",
            "haproxy_backend_total_time_average_seconds",
        ],
        _ => [
            "haproxy_server_connect_time_average_seconds",
            "haproxy_server_response_time_average_seconds",
            "haproxy_server_total_time_average_seconds",
        ],
    };
    let helps = ["Mean time to connect", "Mean time to the response head", "Mean time of all"];
    std::array::from_fn(|at| family(Kind::Gauge, names[at], helps[at]))
}

fn servers(read: &Read, means: &means::Means) -> Vec<Family> {
    let table = &read.current.table;
    // Servers out of one name share that name here, as they must not: there they get their address, too.
    let mut sharing: HashMap<(&Arc<str>, &Arc<str>), u32> = HashMap::new();
    for server in table.snapshot.servers() {
        let Identity { backend, name, .. } = &server.identity;
        *sharing.entry((backend, name)).or_default() += 1;
    }
    let readings: HashMap<_, _> =
        read.servers.iter().map(|it| ((&it.backend, &it.name, it.address), it)).collect();
    let mut subjects = Vec::new();
    let gauge = |name, help| family(Kind::Gauge, name, help);
    let mut responses = family(Kind::Counter, "haproxy_server_http_responses", "Responses by class");
    let mut states = gauge("haproxy_server_status", "1 for the state that it is in");
    let mut weights = gauge("haproxy_server_weight", "Its weight");
    let mut configured = gauge("haproxy_server_uweight", "Its configured weight");
    let mut downs = family(Kind::Counter, "haproxy_server_check_up_down", "Times that it went down");
    let mut check_states = gauge("haproxy_server_check_status", "1 for what its last check has found");
    let mut check_codes = gauge("haproxy_server_check_code", "Status of the response to its last check");
    let mut check_times = gauge("haproxy_server_check_duration_seconds", "How long its last check took");
    let mut check_failures =
        family(Kind::Counter, "haproxy_server_check_failures", "Checks that did not get what they expected");
    let checks: HashMap<_, _> = read.checks.iter().map(|(identity, shown)| (identity, shown)).collect();
    let [mut connect, mut response, mut total] = average_families("server");
    for (wanted, live) in table.snapshot.servers().iter().zip(table.live.servers()) {
        let Identity { backend, name, address } = &wanted.identity;
        let Some(reading) = readings.get(&(backend, name, Some(*address))) else { continue };
        let shown = match sharing.get(&(backend, name)) {
            Some(2..) => format!("{name}/{address}"),
            _ => name.to_string(),
        };
        let labels = Labels::of(vec![label("proxy", backend), label("server", &shown)]);
        let state = state(live, read.now);
        status(&mut states, &labels, &STATES, STATES[state]);
        let weight = if state == 0 { wanted.weight } else { 0 };
        weights.samples.push(sample(&labels, Value::Level(u64::from(weight))));
        configured.samples.push(sample(&labels, Value::Level(u64::from(wanted.weight))));
        // It begins up, so of all changes the first is down.
        let went_down = u64::from(live.counters().health_changes).div_ceil(2);
        downs.samples.push(sample(&labels, Value::Count(went_down)));
        if let Some(Shown { last: Some((found, took, _)), totals, .. }) = checks.get(&wanted.identity) {
            status(&mut check_states, &labels, &CHECK_STATES, check_state(found.sort));
            let code = found.status.map(|code| Value::Level(u64::from(code)));
            check_codes.samples.extend(code.map(|code| sample(&labels, code)));
            check_times.samples.push(sample(&labels, Value::Part(took.as_secs_f64())));
            check_failures.samples.push(sample(&labels, Value::Count(totals.bad)));
        }
        classes(&mut responses, &labels, &reading.attempts.responses);
        let mean = means.of_server(reading);
        for (family, mean) in
            [(&mut connect, mean.connect), (&mut response, mean.response), (&mut total, mean.total)]
        {
            family.samples.push(sample(&labels, Value::Part(mean)));
        }
        subjects.push((labels, *reading));
    }
    let mut families = numbers(SERVER, &subjects, |it| &it.attempts);
    families.extend([responses, states, weights, configured, downs, connect, response, total]);
    families.extend([check_states, check_codes, check_times, check_failures]);
    families
}
