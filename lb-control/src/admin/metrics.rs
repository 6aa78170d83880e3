//! `/metrics`: what the workers and the servers count, as OpenMetrics text.
//!
//! Nothing is registered per metric: one collector reads the workers and the published table when asked, so
//! counting costs the workers nothing that they do not do anyway.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_core::{Health, ServerLive};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::control::Shared;
use crate::workers::{Reading, WorkerReading};

/// The content type of [`text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as they are now.
pub(super) fn text(shared: &Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("lb");
    registry.register_collector(Box::new(Numbers(Arc::clone(shared))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Numbers(Arc<Shared>);

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

type Labels = Vec<(&'static str, String)>;

/// A name, its help and, for every set of labels, a value.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels, u64)>,
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let reading = self.0.workers.read();
        let current = self.0.current();
        let mut families = control(&self.0, &reading, &current);
        families.extend(workers(&reading));
        families.extend(servers(&current.table.live, self.0.workers.now()));
        for family in &families {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.values {
                let write = |metric: &mut prometheus_client::encoding::MetricEncoder<'_>| match family.kind {
                    MetricType::Counter => metric.encode_counter::<NoLabelSet, u64, f64>(value, None),
                    _ => metric.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX)),
                };
                if labels.is_empty() {
                    write(&mut metric)?;
                } else {
                    write(&mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn single(kind: MetricType, name: &'static str, help: &'static str, value: u64) -> Family {
    Family { name, help, kind, values: vec![(Vec::new(), value)] }
}

fn control(shared: &Shared, reading: &Reading, current: &crate::control::Current) -> Vec<Family> {
    let text = |value: &str| value.to_owned();
    let build = vec![("version", text(env!("CARGO_PKG_VERSION"))), ("driver", text(&reading.driver))];
    let hash = vec![("hash", current.table.snapshot.hash().to_string())];
    let reloads = vec![
        (vec![("result", text("applied"))], shared.reloads_applied.load(Relaxed)),
        (vec![("result", text("refused"))], shared.reloads_refused.load(Relaxed)),
    ];
    let gauge = MetricType::Gauge;
    vec![
        Family { name: "build_info", help: "Version and driver", kind: gauge, values: vec![(build, 1)] },
        Family { name: "snapshot_info", help: "The table in use", kind: gauge, values: vec![(hash, 1)] },
        single(gauge, "snapshot_generation", "Tables published since the start", current.generation),
        single(gauge, "ready", "1 while new connections are welcome", u64::from(shared.is_ready())),
        single(gauge, "workers", "Workers", reading.workers.len() as u64),
        Family { name: "reloads", help: "Reloads asked for", kind: MetricType::Counter, values: reloads },
    ]
}

fn workers(reading: &Reading) -> Vec<Family> {
    use MetricType::{Counter, Gauge};
    type Field = fn(&WorkerReading) -> u64;
    let sums: [(MetricType, &'static str, &'static str, Field); 17] = [
        (Counter, "connections_accepted", "Client connections accepted", |worker| worker.accepted),
        (Gauge, "connections_active", "Client connections open", |worker| worker.active),
        (Counter, "connections_turned_away", "Client connections over a bound", |worker| worker.turned_away),
        (Counter, "accept_failures", "Accepts that failed for want of descriptors or memory", |worker| {
            worker.accept_failures
        }),
        (Counter, "bytes_received", "Bytes from clients", |worker| worker.bytes_received),
        (Counter, "bytes_sent", "Bytes to clients", |worker| worker.bytes_sent),
        (Counter, "attempts", "Attempts at servers", |worker| worker.attempts),
        (Counter, "retries", "Attempts after an exchange's first", |worker| worker.retries),
        (Counter, "fallbacks", "Exchanges served by the other arm", |worker| worker.fallbacks),
        (Counter, "upstream_connects", "Connections made to servers", |worker| worker.upstream_connects),
        (Counter, "upstream_connect_failures", "Connects to servers that failed", |worker| {
            worker.upstream_connect_failures
        }),
        (Counter, "upstream_reuses", "Attempts on a pooled connection", |worker| worker.upstream_reuses),
        (Gauge, "upstream_connections_active", "Server connections open", |worker| worker.upstream_active),
        (Gauge, "upstream_connections_idle", "Server connections idle in pools", |worker| {
            worker.upstream_idle
        }),
        (Gauge, "tunnels_active", "Tunnels open", |worker| worker.tunnels_active),
        (Counter, "access_log_lines_dropped", "Access log lines lost", |worker| worker.log_lines_dropped),
        (Gauge, "buffer_bytes", "Bytes of buffers in use", |worker| worker.buffer_bytes),
    ];
    let mut families: Vec<Family> = sums
        .into_iter()
        .map(|(kind, name, help, field)| single(kind, name, help, reading.workers.iter().map(field).sum()))
        .collect();
    let mut requests: BTreeMap<u16, u64> = BTreeMap::new();
    let mut replies: BTreeMap<&str, u64> = BTreeMap::new();
    for worker in &reading.workers {
        for (code, count) in &worker.requests {
            *requests.entry(*code).or_default() += count;
        }
        for (reason, count) in &worker.local_replies {
            *replies.entry(reason).or_default() += count;
        }
    }
    let values =
        requests.into_iter().map(|(code, count)| (vec![("code", code.to_string())], count)).collect();
    let help = "Exchanges by status; 499: the client left, 0: none applies";
    families.push(Family { name: "requests", help, kind: Counter, values });
    let values =
        replies.into_iter().map(|(reason, count)| (vec![("reason", reason.to_owned())], count)).collect();
    families.push(Family {
        name: "local_replies",
        help: "Responses of our own by reason",
        kind: Counter,
        values,
    });
    let each = |field: Field| {
        let values = reading.workers.iter().enumerate();
        values.map(|(index, worker)| (vec![("worker", index.to_string())], field(worker))).collect()
    };
    families.push(Family {
        name: "worker_connections_active",
        help: "Client connections open, by worker",
        kind: Gauge,
        values: each(|worker| worker.active),
    });
    families
}

fn servers(live: &lb_core::Live, now: std::time::Duration) -> Vec<Family> {
    use MetricType::{Counter, Gauge};
    let labels = |server: &ServerLive| -> Labels {
        vec![
            ("backend", server.backend().to_owned()),
            ("server", server.name().to_owned()),
            ("address", server.address().to_string()),
        ]
    };
    let with = |server: &ServerLive, name, value: &str| {
        let mut labels = labels(server);
        labels.push((name, value.to_owned()));
        labels
    };
    let (mut in_flight, mut picks, mut up) = (Vec::new(), Vec::new(), Vec::new());
    let (mut responses, mut failures) = (Vec::new(), Vec::new());
    for server in live.servers() {
        let counters = server.counters();
        in_flight.push((labels(server), u64::from(counters.in_flight)));
        picks.push((labels(server), counters.picked()));
        let is_up = server.health() == Health::Up && server.removed_until() <= now;
        up.push((labels(server), u64::from(is_up)));
        for (class, count) in counters.responded.iter().enumerate() {
            if *count > 0 {
                let word = if class == 0 { "other".to_owned() } else { format!("{class}xx") };
                responses.push((with(server, "class", &word), *count));
            }
        }
        let kinds = [
            ("connect", counters.connect_failed),
            ("exchange", counters.failed),
            ("abandoned", counters.abandoned),
        ];
        failures.extend(kinds.map(|(kind, count)| (with(server, "kind", kind), count)));
    }
    let family = |kind, name, help, values| Family { name, help, kind, values };
    vec![
        family(Gauge, "server_up", "1 while the server may be picked, as far as its health goes", up),
        family(Gauge, "server_in_flight", "Attempts under way", in_flight),
        family(Counter, "server_picks", "Attempts begun", picks),
        family(Counter, "server_responses", "Responses by class", responses),
        family(Counter, "server_failures", "Attempts without a response, by kind", failures),
    ]
}
