//! What the engine has counted, in the words of the control side.

use std::collections::HashMap;
use std::sync::Arc;

use lb_control::metrics::budget;
use lb_control::{
    ArmReading, AttemptNumbers, BackendReading, ClassReading, ExchangeNumbers, ListenerReading, QueueNumbers,
    QueueReading, Reading, ServerReading, SpanReading, WorkerReading,
};
use lb_core::histogram::Histogram;
use lb_io::engine::Engine;
use lb_io::metrics::Metrics;
use lb_io::metrics::read::{ArmTotals, ServerTotals};
use lb_io::metrics::registry::{WorkerSeries, sum};
use lb_io::metrics::series::ListenerSeries;
use lb_io::metrics::{reasons, statuses};
use lb_io::spans::SpanRecord;
use lb_io::worker::queue::Queues;

// What the control side counts on when it says how many series there can be.
const _: () = assert!(statuses::STATUSES_MAX as u64 <= budget::STATUSES_MAX);
const _: () = assert!(reasons::REASONS_MAX as u64 <= budget::REASONS_MAX);
const _: () = assert!((reasons::ALL_REASONS_MAX as u64) < budget::ALL_REASONS_MAX);

/// The workers and the listeners.
pub(crate) fn process(engine: &Engine) -> Reading {
    let metrics = engine.metrics();
    let names = metrics.listener_names().iter().enumerate();
    let workers = metrics.workers().enumerate();
    Reading {
        driver: engine.driver_name().to_owned(),
        workers: workers.map(|(number, series)| worker(series, engine.lost_log_lines(number))).collect(),
        listeners: names.map(|(place, name)| listener(metrics, place, name)).collect(),
    }
}

fn worker(worker: &WorkerSeries, lost_log_lines: u64) -> WorkerReading {
    let counters = &worker.counters;
    WorkerReading {
        accepted: worker.of_listeners(|it| &it.accepted),
        active: worker.of_listeners(|it| &it.active),
        turned_away: worker.of_listeners(|it| &it.turned_away),
        held: counters.held.get(),
        accept_failures: counters.accept_failures.get(),
        bytes_received: worker.of_listeners(|it| &it.bytes_received),
        bytes_sent: worker.of_listeners(|it| &it.bytes_sent),
        requests: worker.statuses().into_iter().collect(),
        local_replies: worker.local_replies().into_iter().collect(),
        attempts: counters.attempts.get(),
        retries: counters.retries.get(),
        retries_refused: counters.retries_refused.get(),
        fallbacks: counters.fallbacks.get(),
        upstream_connects: counters.upstream_connects.get(),
        upstream_connect_failures: counters.upstream_connect_failures.get(),
        upstream_reuses: counters.upstream_reuses.get(),
        upstream_active: counters.upstream_active.get(),
        upstream_idle: counters.upstream_idle.get(),
        tunnels_active: counters.tunnels.get(),
        log_lines_dropped: counters.log_lines_dropped.get() + lost_log_lines,
        spans_dropped: counters.spans_dropped.get(),
        buffer_bytes: counters.buffer_bytes.get(),
        classes: counters.classes.each_ref().map(|class| ClassReading {
            waiting: class.waiting.get(),
            waited_us: class.waited_us.get(),
            refused: class.refused.get(),
            busy_us: class.busy_ns.get() / 1_000,
        }),
    }
}

fn listener(metrics: &Metrics, place: usize, name: &str) -> ListenerReading {
    let series = || metrics.workers().map(|worker| &worker.listeners[place]);
    let total = |number: fn(&ListenerSeries) -> u64| series().map(number).sum();
    ListenerReading {
        name: name.into(),
        accepted: total(|it| it.accepted.get()),
        active: total(|it| it.active.get()),
        turned_away: total(|it| it.turned_away.get()),
        exchanges_active: total(|it| it.exchanges.get()),
        requests: sum(series().flat_map(|it| it.statuses.seen())).into_iter().collect(),
        local_replies: sum(series().flat_map(|it| it.reasons.seen())).into_iter().collect(),
        bytes_received: total(|it| it.bytes_received.get()),
        bytes_sent: total(|it| it.bytes_sent.get()),
    }
}

/// The routes' arms.
pub(crate) fn arms(metrics: &Metrics) -> Vec<ArmReading> {
    let arms = metrics.arms().into_iter();
    arms.map(|(key, totals)| ArmReading {
        route: key.route,
        arm: key.arm,
        backend: key.backend,
        exchanges: exchanges(totals),
    })
    .collect()
}

/// The servers.
pub(crate) fn servers(metrics: &Metrics) -> Vec<ServerReading> {
    let servers = metrics.servers().into_iter();
    servers
        .map(|(key, totals)| ServerReading {
            backend: key.backend,
            name: key.name,
            address: key.address,
            attempts: attempts(totals),
        })
        .collect()
}

/// The backends.
pub(crate) fn backends(metrics: &Metrics, queues: &Queues) -> Vec<BackendReading> {
    let mut waiting = by_queue(metrics.queues(), queues);
    let backends = metrics.backends().into_iter();
    backends
        .map(|(name, totals)| BackendReading {
            name: Arc::clone(&name),
            queue: waiting.remove(&name).unwrap_or_default(),
            exchanges: exchanges(totals.arms),
            attempts: attempts(totals.servers),
        })
        .collect()
}

/// Who waits for servers that are full.
pub(crate) fn queues(metrics: &Metrics, queues: &Queues) -> Vec<QueueReading> {
    let readings = by_queue(metrics.queues(), queues).into_iter();
    readings.map(|(backend, numbers)| QueueReading { backend, numbers }).collect()
}

/// By backend. Who waited for one that has no bounds any more is there until the last has left.
fn by_queue(waits: Vec<(Arc<str>, Histogram)>, queues: &Queues) -> HashMap<Arc<str>, QueueNumbers> {
    let mut numbers: HashMap<Arc<str>, QueueNumbers> = HashMap::new();
    for (name, waits) in waits {
        numbers.entry(name).or_default().waits = Some(waits);
    }
    for (name, queue) in queues.all() {
        let numbers = numbers.entry(name).or_default();
        (numbers.waiting, numbers.entered) = (queue.waiting(), queue.entered());
    }
    numbers
}

fn exchanges(totals: ArmTotals) -> ExchangeNumbers {
    ExchangeNumbers {
        active: totals.active,
        requests: totals.requests.into_iter().collect(),
        local_replies: totals.local_replies.into_iter().collect(),
        bytes_received: totals.bytes_received,
        bytes_sent: totals.bytes_sent,
        attempts: totals.attempts,
        retries: totals.retries,
        retries_refused: totals.retries_refused,
        fallbacks: totals.fallbacks,
        exchange: totals.exchange,
        connect: totals.connect,
        wait: totals.wait,
        transfer: totals.transfer,
    }
}

fn attempts(totals: ServerTotals) -> AttemptNumbers {
    AttemptNumbers {
        active: totals.active,
        responses: totals.responses.into_iter().collect(),
        bytes_sent: totals.bytes_sent,
        bytes_received: totals.bytes_received,
        connects: totals.connects,
        connect_us: totals.connect_us,
        reuses: totals.reuses,
        retries: totals.retries,
        begun: totals.begun,
        connect_failures: totals.connect_failures,
        failures: totals.failures,
        attempt: totals.attempt,
    }
}

/// One exchange of a sampled trace.
pub(crate) fn span(record: SpanRecord<'_>) -> SpanReading<'_> {
    let place = record.place;
    SpanReading {
        trace: record.trace,
        id: record.id,
        parent: record.parent,
        flags: record.flags,
        started_ns: record.started_ns,
        ended_ns: record.ended_ns,
        status: record.status,
        is_old: record.is_old,
        failed: record.failed,
        attempts: record.attempts,
        bytes_received: record.bytes_received,
        bytes_sent: record.bytes_sent,
        before_us: record.before_us,
        connect_us: record.connect_us,
        wait_us: record.wait_us,
        transfer_us: record.transfer_us,
        client: record.source,
        request_id: record.request_id,
        method: record.method,
        path: record.path,
        host: record.host,
        agent: record.agent,
        listener: record.listener,
        ending: record.ending,
        reason: record.reason,
        route: place.route,
        arm: place.arm,
        choose: place.choose,
        fallback: place.fallback,
        backend: place.backend,
        server: place.server,
        server_address: place.address,
    }
}
