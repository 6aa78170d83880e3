//! What is said about names.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::collect::{label, sample, single};
use super::family::{Family, Kind, Labels, Sample, Value};
use crate::control::Shared;
use crate::resolve::Failure;
use crate::resolve::members::Members;

/// Series about each name.
pub(super) const PER_NAME: u64 = 4;

/// Series about all of them.
pub(super) const OF_ALL: u64 = Failure::RESULTS.len() as u64 + 1;

pub(super) fn families(shared: &Shared) -> Vec<Family> {
    let names = shared.names.lock().unwrap_or_else(PoisonError::into_inner);
    if names.len() == 0 {
        return Vec::new();
    }
    let now = Instant::now();
    let results = Failure::RESULTS.iter().zip(names.results()).map(|(word, count)| Sample {
        labels: Labels::of(vec![("result", (*word).into())]),
        value: Value::Count(*count),
    });
    let mut families = vec![
        Family {
            name: "lb_resolver_asks",
            help: "Questions to name servers that ended, by result",
            kind: Kind::Counter,
            samples: results.collect(),
        },
        single(
            Kind::Counter,
            "lb_resolver_tables",
            "Tables made because addresses behind names changed",
            shared.address_tables.load(Relaxed),
        ),
    ];
    let [mut addresses, mut ages, mut failures] = [Vec::new(), Vec::new(), Vec::new()];
    for shown in names.shown() {
        let about =
            Labels::of(vec![label("name", &shown.question.name), label("kind", shown.question.kind.word())]);
        let count = |of: fn(&Members) -> usize| {
            Value::Level(shown.members.iter().flatten().map(|members| of(members)).max().unwrap_or(0) as u64)
        };
        addresses.push(sample(&about.with("state", "present"), count(|it| it.present().count())));
        addresses.push(sample(&about.with("state", "leaving"), count(|it| it.leaving().count())));
        if let Some(good) = shown.name.last_good() {
            let age = now.saturating_duration_since(good.at).as_secs();
            ages.push(sample(&about, Value::Level(age)));
        }
        let failed = shown.name.failing().map_or(0, |(count, _)| count);
        failures.push(sample(&about, Value::Level(u64::from(failed))));
    }
    let gauge = |name, help, samples| Family { name, help, kind: Kind::Gauge, samples };
    families.extend([
        gauge("lb_resolver_addresses", "Addresses that a name's servers have, by state", addresses),
        gauge("lb_resolver_answer_age_seconds", "Time since a name's last good answer", ages),
        gauge("lb_resolver_failures", "Failures in a row to get an answer for a name", failures),
    ]);
    families
}
