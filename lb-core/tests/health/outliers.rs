//! The judgement of outliers: what ejects a server and what does not, for how long, and how many at once.

use lb_core::outlier::{Change, Ejection, Member, Offence, OutlierSettings, Record, look};
use lb_core::{ServerCounters, Why};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(1);

/// What happened at a server between two looks.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    good: u64,
    /// Responses of 500.
    errors: u64,
    /// Attempts without a response.
    failed: u64,
    latency_ms: u64,
}

fn fine(good: u64) -> Traffic {
    Traffic { good, latency_ms: 10, ..Traffic::default() }
}

fn errors(errors: u64) -> Traffic {
    Traffic { errors, latency_ms: 10, ..Traffic::default() }
}

fn slow(good: u64, latency_ms: u64) -> Traffic {
    Traffic { good, latency_ms, ..Traffic::default() }
}

/// Servers of one group, looked at once a second.
struct World {
    settings: OutlierSettings,
    records: Vec<Record>,
    counters: Vec<ServerCounters>,
    can_serve: Vec<bool>,
    now: Duration,
}

impl World {
    fn new(servers: usize, change: impl FnOnce(&mut OutlierSettings)) -> World {
        let mut settings = OutlierSettings::default();
        change(&mut settings);
        // What was before is not judged.
        let counters = ServerCounters { failed: 1_000, ..ServerCounters::default() };
        World {
            settings,
            records: vec![Record::new(counters); servers],
            counters: vec![counters; servers],
            can_serve: vec![true; servers],
            now: Duration::from_secs(100),
        }
    }

    /// A second with this traffic (none where the list ends) and a look.
    fn second(&mut self, traffic: &[Traffic]) -> Vec<(usize, Change)> {
        self.now += LOOK;
        for (counters, traffic) in self.counters.iter_mut().zip(traffic) {
            counters.responded[2] += traffic.good;
            counters.responded[5] += traffic.errors;
            counters.failed += traffic.failed / 2;
            counters.connect_failed += traffic.failed - traffic.failed / 2;
            counters.latency +=
                Duration::from_millis(traffic.latency_ms) * (traffic.good + traffic.errors) as u32;
        }
        let (counters, can_serve) = (&self.counters, &self.can_serve);
        let mut members: Vec<Member<'_>> = (self.records.iter_mut().enumerate())
            .map(|(place, record)| Member { record, counters: counters[place], can_serve: can_serve[place] })
            .collect();
        look(&mut members, &self.settings, self.now)
    }

    fn seconds(&mut self, count: u32, traffic: &[Traffic]) -> Vec<(usize, Change)> {
        (0..count).flat_map(|_| self.second(traffic)).collect()
    }

    fn out(&self) -> Vec<usize> {
        (0..self.records.len()).filter(|place| self.records[*place].ejection().is_some()).collect()
    }

    fn ejection(&self, place: usize) -> &Ejection {
        self.records[place].ejection().expect("it is out")
    }
}

fn three(first: Traffic) -> [Traffic; 3] {
    [first, fine(100), fine(100)]
}

#[test]
fn failures_in_a_row() {
    let mut world = World::new(3, |_| ());
    assert_eq!(world.second(&three(errors(4))), [], "not yet");
    assert_eq!(
        world.second(&three(Traffic { good: 1, ..errors(30) })),
        [],
        "one went well, and too few to compare"
    );
    world = World::new(3, |_| ());
    world.second(&three(Traffic { failed: 3, ..Traffic::default() }));
    world.seconds(60, &three(Traffic::default()));
    let changes = world.second(&three(errors(2)));
    let ejection = *world.ejection(0);
    assert_eq!(changes, [(0, Change::Ejected(ejection))]);
    assert_eq!(ejection.offence, Offence::InRow { failed: 5 });
    assert_eq!(
        (ejection.offence.why(), ejection.offence.to_string()),
        (Why::FailedInRow, "5 attempts failed in a row".to_owned())
    );
    assert_eq!((ejection.since, ejection.until), (world.now, world.now + Duration::from_secs(10)));
}

#[test]
fn a_share_of_failures() {
    let failing = Traffic { good: 70, errors: 20, failed: 10, latency_ms: 10 };
    let mut world = World::new(3, |_| ());
    world.second(&three(failing));
    let offence = world.ejection(0).offence;
    assert_eq!(offence, Offence::Ratio { failed: 3_000, others: 0 });
    assert_eq!(offence.why(), Why::FailedMore);
    assert_eq!(offence.to_string(), "30 % of its attempts failed, 0 % of the others'");

    let mut world = World::new(3, |_| ());
    let others = Traffic { good: 96, errors: 4, ..fine(0) };
    assert_eq!(world.seconds(30, &[Traffic { good: 76, ..failing }, others, others]), [], "28 % against 4 %");
}

#[test]
fn what_all_suffer_ejects_nobody() {
    let failing = Traffic { good: 10, errors: 90, failed: 0, latency_ms: 3_000 };
    let mut world = World::new(3, |_| ());
    assert_eq!(world.seconds(30, &[failing; 3]), []);
    // Of four servers three are bad: the fourth is the odd one, and nobody's cause.
    let mut world = World::new(4, |_| ());
    assert_eq!(world.seconds(30, &[failing, failing, failing, fine(100)]), []);
}

#[test]
fn a_second_bad_server_does_not_hide_the_first() {
    let mut world = World::new(8, |settings| settings.ejected_max_percent = 50);
    let bad = Traffic { good: 40, errors: 60, ..fine(0) };
    world.second(&[bad, slow(100, 200), fine(100), bad, slow(100, 200), fine(100), fine(100), fine(100)]);
    assert_eq!(world.out(), [0, 1, 3, 4]);
}

#[test]
fn ten_times_slower() {
    let mut world = World::new(3, |_| ());
    world.second(&three(slow(10, 99)));
    assert_eq!(world.out(), [] as [usize; 0], "not ten times");
    let mut world = World::new(3, |_| ());
    world.second(&three(slow(10, 100)));
    assert_eq!(world.out(), [0]);
    let mut world = World::new(3, |_| ());
    world.second(&three(slow(9, 2_000)));
    assert_eq!(world.out(), [] as [usize; 0], "too few to tell");
    world.second(&three(slow(1, 2_000)));
    let offence = world.ejection(0).offence;
    let (mean, others) = (Duration::from_secs(2), Duration::from_millis(10));
    assert_eq!(offence, Offence::Latency { mean, others });
    assert_eq!(
        (offence.why(), offence.to_string()),
        (Why::Slower, "its answers took 2 s, the others' 10 ms".to_owned())
    );
    // 49 ms against 1 ms: nobody notices.
    let mut world = World::new(3, |_| ());
    world.seconds(30, &[slow(100, 49), slow(100, 1), slow(100, 1)]);
    assert_eq!(world.out(), [] as [usize; 0]);
}

#[test]
fn each_test_can_be_left_out() {
    let mut world = World::new(3, |settings| {
        (settings.failures_in_row, settings.ratio, settings.latency) = (None, None, None);
    });
    assert_eq!(
        world.seconds(30, &three(Traffic { failed: 100, errors: 100, good: 0, latency_ms: 60_000 })),
        []
    );
    let mut world = World::new(3, |settings| settings.server_errors = false);
    assert_eq!(world.seconds(30, &three(errors(100))), [], "an answer is an answer");
    world.second(&three(Traffic { failed: 5, ..Traffic::default() }));
    assert_eq!(world.out(), [0]);
}

#[test]
fn what_is_long_past_does_not_count() {
    let mut world = World::new(3, |_| ());
    // 24 % each second would not do; 49 attempts of which all failed, but a success between, would.
    world.second(&three(Traffic { good: 1, errors: 48, ..fine(0) }));
    world.seconds(20, &three(Traffic::default()));
    world.second(&three(fine(49)));
    assert_eq!(world.out(), [] as [usize; 0]);
    let mut world = World::new(3, |_| ());
    world.second(&three(Traffic { good: 1, errors: 48, ..fine(0) }));
    world.second(&three(fine(49)));
    assert_eq!(world.out(), [0], "the same within the window");
    let mut world = World::new(3, |_| ());
    world.second(&three(Traffic { good: 1, errors: 48, ..fine(0) }));
    world.seconds(12, &three(Traffic::default()));
    world.second(&three(fine(49)));
    assert_eq!(world.out(), [0], "the window before counts, too");
    let mut world = World::new(3, |_| ());
    world.second(&three(Traffic { good: 1, errors: 48, ..fine(0) }));
    world.now += Duration::from_secs(60);
    world.second(&three(fine(49)));
    assert_eq!(world.out(), [] as [usize; 0], "nobody has looked for a minute");
}

#[test]
fn ejections_grow_and_are_forgotten() {
    let mut world = World::new(3, |_| ());
    let mut lengths = Vec::new();
    for _ in 0..8 {
        world.second(&three(errors(5)));
        let (since, until) = (world.ejection(0).since, world.ejection(0).until);
        lengths.push((until - since).as_secs());
        // Attempts from before fail on; that says nothing new.
        let mut changes = Vec::new();
        while world.now < until {
            assert_eq!(changes, []);
            changes = world.second(&three(errors(5)));
        }
        assert_eq!(changes, [(0, Change::Returned)], "at the first look after its time");
    }
    assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(world.records[0].offences(), 8);
    world.seconds(599, &three(fine(1)));
    assert_eq!(world.records[0].offences(), 8);
    world.second(&three(fine(1)));
    assert_eq!(world.records[0].offences(), 0);
    world.second(&three(errors(5)));
    assert_eq!(world.ejection(0).until - world.ejection(0).since, Duration::from_secs(10));
}

#[test]
fn the_cap() {
    for (servers, percent, most) in [
        (0, 30, 0),
        (1, 30, 0),
        (1, 100, 0),
        (2, 30, 1),
        (2, 100, 1),
        (3, 30, 1),
        (3, 0, 0),
        (10, 30, 3),
        (10, 100, 9),
        (10, 4_000_000_000, 9),
        (1000, 30, 300),
    ] {
        let settings = OutlierSettings { ejected_max_percent: percent, ..OutlierSettings::default() };
        assert_eq!(settings.ejected_max(servers), most, "{percent} % of {servers}");
    }
}

#[test]
fn the_worst_go_first_and_the_last_stays() {
    let mut world = World::new(10, |_| ());
    let mut traffic = [fine(100); 10];
    traffic[1] = slow(100, 2_000);
    traffic[2] = Traffic { good: 40, errors: 60, ..fine(0) };
    traffic[5] = errors(7);
    traffic[6] = Traffic { good: 30, errors: 70, ..fine(0) };
    world.second(&traffic);
    assert_eq!(world.out(), [2, 5, 6], "of four offenders the slow one is the least");
    // Of two servers one is down by its checks: the other is not touched.
    let mut world = World::new(2, |_| ());
    world.can_serve[0] = false;
    assert_eq!(world.seconds(5, &[Traffic::default(), errors(100)]), []);
    // One that is back can be judged by what comes now, not by what was while it was down.
    world.counters[0].failed += 1_000;
    assert_eq!(world.second(&[]), []);
    world.can_serve[0] = true;
    world.second(&[]);
    assert_eq!(world.out(), [1], "now the other can serve");
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let counts = prop_oneof![Just(0_u64), 0_u64..10, 0_u64..300];
    (counts.clone(), counts.clone(), counts, prop_oneof![Just(10_u64), 0_u64..5_000])
        .prop_map(|(good, errors, failed, latency_ms)| Traffic { good, errors, failed, latency_ms })
}

/// Seconds of traffic at each of some servers, who of them can serve, and a cap.
fn histories() -> impl Strategy<Value = (Vec<Vec<Traffic>>, Vec<bool>, u32)> {
    (1_usize..8).prop_flat_map(|servers| {
        let second = proptest::collection::vec(traffic(), servers);
        let can_serve = proptest::collection::vec(prop_oneof![4 => Just(true), 1 => Just(false)], servers);
        (proptest::collection::vec(second, 1..80), can_serve, 0_u32..=120)
    })
}

proptest! {
    /// However servers behave: never more than the cap, never the last that can serve, never one that cannot; each
    /// ejection as long as the number of those before says, never shorter than the last one, never longer than the
    /// bound, and over at the first look after its end.
    #[test]
    fn ejections_are_bounded((seconds, can_serve, percent) in histories()) {
        let mut world = World::new(can_serve.len(), |settings| settings.ejected_max_percent = percent);
        world.can_serve = can_serve;
        let cap = (world.records.len() * percent.min(100) as usize / 100)
            .max(usize::from(percent > 0))
            .min(world.records.len() - 1);
        let mut lengths: Vec<Vec<Duration>> = vec![Vec::new(); world.records.len()];
        for traffic in &seconds {
            let before = world.records.clone();
            let changes = world.second(traffic);
            prop_assert!(world.out().len() <= cap, "{:?} of {}", world.out(), cap);
            let serving = |it: &usize| world.can_serve[*it] && world.records[*it].ejection().is_none();
            let could = world.can_serve.iter().any(|can| *can);
            prop_assert!(!could || (0..world.records.len()).any(|it| serving(&it)), "nobody is left");
            for (place, change) in changes {
                match change {
                    Change::Ejected(ejection) => {
                        prop_assert!(world.can_serve[place]);
                        prop_assert_eq!(world.records[place].ejection(), Some(&ejection));
                        let length = ejection.until - ejection.since;
                        let expected = (10_u64 << lengths[place].len().min(10)).min(300);
                        prop_assert_eq!(length, Duration::from_secs(expected));
                        prop_assert!(lengths[place].last().is_none_or(|last| *last <= length));
                        lengths[place].push(length);
                    }
                    Change::Returned => {
                        let until = before[place].ejection().expect("it was out").until;
                        prop_assert!(until <= world.now && until + LOOK > world.now);
                    }
                }
            }
            for record in &world.records {
                prop_assert!(record.ejection().is_none_or(|ejection| world.now < ejection.until));
            }
        }
    }

    /// The order of servers does not matter, unless the cap must choose between equals.
    #[test]
    fn places_do_not_matter((seconds, can_serve, _) in histories(), turn in 0_usize..8) {
        let servers = can_serve.len();
        let turn = turn % servers;
        let mut one = World::new(servers, |settings| settings.ejected_max_percent = 100);
        let mut other = World::new(servers, |settings| settings.ejected_max_percent = 100);
        one.can_serve.clone_from(&can_serve);
        other.can_serve.clone_from(&can_serve);
        other.can_serve.rotate_left(turn);
        for traffic in &seconds {
            let mut turned = traffic.clone();
            turned.rotate_left(turn);
            let back = |changes: Vec<(usize, Change)>, by: usize| {
                let changes = changes.into_iter().map(|(place, change)| ((place + by) % servers, format!("{change:?}")));
                changes.collect::<BTreeSet<_>>()
            };
            let can_serve = one.can_serve.iter().filter(|can| **can).count();
            let (ours, theirs) = (back(one.second(traffic), 0), back(other.second(&turned), turn));
            // All that can serve offend, and who stays is the first of equals.
            if one.out().len() + 1 >= can_serve {
                break;
            }
            prop_assert_eq!(ours, theirs);
        }
    }

    /// Servers that do the same are never set apart, and one that does well is never ejected.
    #[test]
    fn equals_are_treated_alike(same in proptest::collection::vec(traffic(), 1..60), servers in 2_usize..6) {
        let mut world = World::new(servers, |settings| settings.failures_in_row = None);
        for traffic in &same {
            prop_assert_eq!(world.second(&vec![*traffic; servers]), []);
        }
        let mut world = World::new(servers, |_| ());
        for traffic in &same {
            let mut all = vec![*traffic; servers];
            all[0] = slow(traffic.good, 10);
            world.second(&all);
            prop_assert!(world.records[0].ejection().is_none());
        }
    }
}
