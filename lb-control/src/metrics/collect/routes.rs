//! Routes and their arms.

use lb_core::Snapshot;

use super::super::family::{Edges, Family, Kind, Labels, Sample, Value};
use super::super::subjects::ARM;
use super::{Read, by_reason, by_status, label, numbers, sample, spread};
use crate::config::MetricsSettings;
use crate::control::Shared;
use crate::workers::ArmReading;

pub(super) fn arms(shared: &Shared, read: &Read) -> Vec<Family> {
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

pub(super) fn jumps(shared: &Shared, arms: &[ArmReading]) -> Vec<Sample> {
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

pub(super) fn share_targets(snapshot: &Snapshot, settings: &MetricsSettings) -> Vec<Sample> {
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
