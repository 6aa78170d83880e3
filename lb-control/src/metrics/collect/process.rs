//! The process, its workers and its listeners.

use lb_core::spec::Class;

use super::super::family::{Family, Kind, Labels};
use super::super::subjects::{LISTENER, Number, PROCESS, WORKER};
use super::{by_reason, by_status, label, numbers, sample, single, spread, value};
use crate::config::MetricsSettings;
use crate::workers::{ClassReading, ListenerReading, Reading};

pub(super) fn families(reading: &Reading, settings: &MetricsSettings) -> Vec<Family> {
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

/// What each class has of the workers.
pub(super) fn classes(reading: &Reading) -> Vec<Family> {
    let family = |kind, name, help, of: fn(&ClassReading) -> u64| {
        let sample_of = |(place, class): (usize, Class)| {
            let total = reading.workers.iter().map(|worker| of(&worker.classes[place])).sum();
            sample(&Labels::of(vec![label("class", class.word())]), value(kind, total))
        };
        let samples = Class::ALL.into_iter().enumerate().map(sample_of).collect();
        Family { name, help, kind, samples }
    };
    vec![
        family(Kind::Gauge, "lb_class_waiting", "Requests that wait for their class's turn", |it| it.waiting),
        family(
            Kind::Counter,
            "lb_class_waited_microseconds",
            "Time that requests waited for their class's turn",
            |it| it.waited_us,
        ),
        family(
            Kind::Counter,
            "lb_class_refused",
            "Requests refused because too many of their class waited",
            |it| it.refused,
        ),
        family(Kind::Counter, "lb_class_busy_microseconds", "Time of workers that the class had", |it| {
            it.busy_us
        }),
    ]
}

pub(super) fn listeners(listeners: &[ListenerReading], settings: &MetricsSettings) -> Vec<Family> {
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
