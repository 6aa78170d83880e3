//! All families as they are now: those about control itself here, the others by what they are about.

mod process;
mod routes;
mod servers;

pub(crate) use servers::{CHECK_SERIES, LEAVING_SERIES, STATES, state};

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_core::Identity;

use super::family::{Family, Kind, Label, Labels, Sample, Value};
use super::subjects::Number;
use super::{haproxy, names};
use crate::config::{MetricsSettings, StatusDetail};
use crate::control::{Current, Shared};
use crate::health::Shown;
use crate::workers::{ArmReading, BackendReading, ByReason, ByStatus, Reading, ServerReading};

/// Everything that was read, once, for all families.
pub(super) struct Read {
    pub(super) current: Arc<Current>,
    pub(super) now: std::time::Duration,
    pub(super) workers: Reading,
    pub(super) arms: Vec<ArmReading>,
    pub(super) backends: Vec<BackendReading>,
    pub(super) servers: Vec<ServerReading>,
    pub(super) checks: Vec<(Identity, Shown)>,
    pub(super) leaving: Vec<(Identity, crate::drain::Shown)>,
    /// Servers that are told apart, where not all of them are.
    apart: Option<HashSet<Identity>>,
}

impl Read {
    /// Whether a server has series of its own.
    pub(super) fn tells_apart(&self, identity: &Identity) -> bool {
        self.apart.as_ref().is_none_or(|apart| apart.contains(identity))
    }

    /// Which ones have is decided where they are counted.
    fn note_apart(&mut self, most: usize) {
        if self.current.table.snapshot.servers().len() > most {
            let identity = |it: &ServerReading| {
                let (backend, name) = (Arc::clone(&it.backend), Arc::clone(&it.name));
                it.address.map(|address| Identity { backend, name, address })
            };
            self.apart = Some(self.servers.iter().filter_map(identity).collect());
        }
    }
}

/// All families, those without a sample left out.
pub(crate) fn families(shared: &Shared) -> Vec<Family> {
    let workers = &shared.workers;
    let settings = &shared.metrics;
    let mut read = Read {
        current: shared.current(),
        now: workers.now(),
        workers: workers.read(),
        arms: workers.arms(),
        backends: workers.backends(),
        servers: workers.servers(),
        checks: if settings.servers { shared.health.shown(workers.now()) } else { Vec::new() },
        leaving: if settings.servers { shared.drains.shown(workers.now()) } else { Vec::new() },
        apart: None,
    };
    read.note_apart(shared.servers_told_apart);
    let mut families = control(shared, &read);
    families.extend(names::families(shared));
    families.extend(process::families(&read.workers, settings));
    if read.current.table.snapshot.classes().is_some() {
        families.extend(process::classes(&read.workers));
    }
    families.extend(process::listeners(&read.workers.listeners, settings));
    families.extend(routes::arms(shared, &read));
    families.extend(servers::backends(&read, settings));
    if settings.servers {
        families.extend(servers::live(&read));
        families.extend(servers::checks(&read));
        families.extend(servers::leaving(&read));
        families.extend(servers::attempts(&read.servers, settings));
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
    let results = |name, help, results: &[(&'static str, u64)]| Family {
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
        results("lb_reloads", "Reloads asked for", &reloads),
        single(Counter, "lb_scrapes", "Times that metrics were asked for", shared.scrapes.load(Relaxed)),
        single(
            Counter,
            "lb_admin_answers_cut",
            "Answers of the admin listener that nobody took in time",
            shared.answers_cut.load(Relaxed),
        ),
    ];
    if let Some(clients) = read.current.table.live.rate_clients(read.now) {
        families.extend([
            single(
                Gauge,
                "lb_rate_clients",
                "Clients with requests that their rate has not made up for",
                clients.owing,
            ),
            single(
                Counter,
                "lb_rate_clients_forgotten",
                "Times that such a client was forgotten, because too many others had made more requests",
                clients.forgotten,
            ),
        ]);
    }
    if shared.metrics.statsd.is_some() {
        families.push(results("lb_statsd_packets", "Packets for StatsD", &packets));
    }
    if let Some(spans) = &shared.spans {
        let unrecorded: u64 = read.workers.workers.iter().map(|worker| worker.spans_dropped).sum();
        let spans = [
            ("sent", spans.sent.load(Relaxed)),
            ("failed", spans.failed.load(Relaxed)),
            ("dropped", spans.dropped.load(Relaxed) + unrecorded),
        ];
        families.push(results("lb_trace_spans", "Spans for a collector of traces", &spans));
    }
    families
}
