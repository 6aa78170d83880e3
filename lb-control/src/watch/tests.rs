//! Traffic of many seeds: what must be noticed, and what must not.

use std::time::Duration;

use super::*;
use crate::workers::ExchangeNumbers;

/// Seconds until an arm knows what is usual, and some more.
const WARM: usize = 120;

struct Draws(u64);

impl Draws {
    fn new(seed: u64) -> Draws {
        Draws(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Above 0 and up to 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// How times are distributed, in milliseconds.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Index 1.1: its mean is ruled by outliers, its variance infinite.
    Pareto,
    /// A spread of e to both sides.
    LogNormal,
    /// A cache that has nine of ten.
    TwoHumps,
    /// Hardly any spread.
    Narrow,
}

const SHAPES: [Shape; 4] = [Shape::Pareto, Shape::LogNormal, Shape::TwoHumps, Shape::Narrow];

impl Shape {
    fn draw(self, draws: &mut Draws) -> f64 {
        match self {
            Shape::Pareto => 5.0 * draws.unit().powf(-1.0 / 1.1),
            Shape::LogNormal => 20.0 * draws.normal().exp(),
            Shape::TwoHumps if draws.unit() < 0.9 => 1.0 + draws.unit(),
            Shape::TwoHumps => 80.0 + 40.0 * draws.unit(),
            Shape::Narrow => 10.0 + draws.unit(),
        }
    }
}

/// An arm whose numbers grow.
struct Arms(Vec<ArmReading>);

impl Arms {
    fn new(names: &[(&str, &'static str)]) -> Arms {
        let arm = |(route, arm): &(&str, &'static str)| ArmReading {
            route: (*route).into(),
            arm,
            backend: format!("{route}-{arm}").into(),
            exchanges: ExchangeNumbers { requests: vec![(200, 0), (500, 0)], ..ExchangeNumbers::default() },
        };
        Arms(names.iter().map(arm).collect())
    }

    /// A second of about `rate` exchanges, `slower` times as slow, some of them failing.
    fn add(&mut self, at: usize, rate: f64, shape: Shape, slower: f64, failing: f64, draws: &mut Draws) {
        let numbers = &mut self.0[at].exchanges;
        // As many as come by chance, in bursts: the variance is several times the mean.
        let count = (rate * (0.5 * draws.normal()).exp()).round() as usize;
        for _ in 0..count {
            let time = Duration::from_secs_f64(shape.draw(draws) * slower / 1e3);
            numbers.exchange.record(time);
            numbers.wait.record(time);
            numbers.requests[usize::from(draws.unit() < failing)].1 += 1;
        }
    }
}

/// Fifty seeds of each of four shapes, two arms, 320 seconds, more than 100,000 comparisons that came to something and
/// not one false alarm. Stated is at most 8 in a million where times are really √10 times as long.
#[test]
fn stationary_heavy_tails_do_not_alarm() {
    let mut judged = 0;
    for seed in 0..50 {
        for (number, shape) in SHAPES.into_iter().enumerate() {
            let mut draws = Draws::new(seed * 4 + number as u64 + 1);
            let rate = [2.0, 8.0, 30.0, 100.0][(seed % 4) as usize];
            let mut arms = Arms::new(&[("shop", "stable"), ("shop", "canary")]);
            let mut watch = Watch::default();
            for second in 0..WARM + 200 {
                // The share goes from nearly nothing to nearly all, and the day's traffic comes and goes.
                let share = (0.02 + second as f64 / 330.0).min(0.98);
                let rate = rate * (1.5 + (second as f64 / 40.0).sin());
                arms.add(0, rate * (1.0 - share), shape, 1.0, 0.01, &mut draws);
                arms.add(1, rate * share, shape, 1.0, 0.01, &mut draws);
                assert_eq!(watch.take(&arms.0), [], "{shape:?}, seed {seed}, second {second}");
                let canary = Arm::of(&arms.0[1]);
                judged +=
                    watch.comparisons(&canary).iter().filter(|it| it.verdict != Verdict::Unknown).count();
            }
        }
    }
    assert!(judged > 100_000, "{judged} comparisons came to something");
}

/// Seconds from a jump of one arm to its being noticed, against its past and against the stable arm.
fn noticed(shape: Shape, rate: f64, slower: f64, seed: u64, within: usize) -> [Option<usize>; 2] {
    let mut draws = Draws::new(seed + 1);
    let mut arms = Arms::new(&[("shop", "stable"), ("shop", "canary")]);
    let mut watch = Watch::default();
    let mut found = [None; 2];
    for second in 0..WARM + within {
        arms.add(0, rate, shape, 1.0, 0.0, &mut draws);
        let jumped = second >= WARM;
        arms.add(1, rate, shape, if jumped { slower } else { 1.0 }, 0.0, &mut draws);
        for change in watch.take(&arms.0) {
            assert!(jumped && change.arm.arm == "canary" && change.comparison.jumped(), "{change:?}");
            let place = usize::from(change.comparison.against == Against::Stable);
            found[place].get_or_insert(second + 1 - WARM);
        }
    }
    found
}

#[test]
fn a_tenfold_jump_is_noticed_in_time() {
    for shape in SHAPES {
        for seed in 0..40 {
            // The stated minimum: twenty exchanges a second, fifteen seconds.
            let slow = noticed(shape, 20.0, 10.0, seed, 15);
            assert!(slow[0].is_some(), "{shape:?} at 20/s, seed {seed}: {slow:?}");
            let fast = noticed(shape, 200.0, 10.0, seed, 15);
            assert!(fast[0].is_some_and(|seconds| seconds <= 6), "{shape:?} at 200/s, seed {seed}: {fast:?}");
            assert!(
                fast[1].is_some_and(|seconds| seconds <= 15),
                "{shape:?} at 200/s, seed {seed}: {fast:?}"
            );
        }
    }
}

#[test]
fn twice_as_slow_is_no_jump() {
    for shape in SHAPES {
        for seed in 0..10 {
            assert_eq!(noticed(shape, 100.0, 2.0, seed, 60), [None; 2], "{shape:?}, seed {seed}");
        }
    }
}

#[test]
fn a_stall_of_a_second_is_no_jump() {
    let mut draws = Draws::new(3);
    let mut arms = Arms::new(&[("shop", "stable")]);
    let mut watch = Watch::default();
    for second in 0..WARM + 60 {
        let slower = if second % 30 == 29 { 50.0 } else { 1.0 };
        arms.add(0, 100.0, Shape::LogNormal, slower, 0.0, &mut draws);
        assert_eq!(watch.take(&arms.0), [], "second {second}");
    }
}

/// A route's numbers are only compared with its own: that one of the routes gets all of the traffic matters to none.
#[test]
fn another_mix_of_routes_does_not_alarm() {
    let mut draws = Draws::new(5);
    let mut arms = Arms::new(&[("fast", "stable"), ("slow", "stable")]);
    let mut watch = Watch::default();
    for second in 0..WARM + 60 {
        let (fast, slow) = if second < WARM { (200.0, 5.0) } else { (5.0, 200.0) };
        arms.add(0, fast, Shape::Narrow, 1.0, 0.0, &mut draws);
        arms.add(1, slow, Shape::Narrow, 100.0, 0.0, &mut draws);
        assert_eq!(watch.take(&arms.0), [], "second {second}");
    }
}

/// All becomes slow, and fails, in the second in which the canary's share is raised: most of the canary's exchanges are
/// slow, most of the stable arm's are not, and the canary is not to blame.
#[test]
fn a_share_that_is_raised_as_all_slows_down_is_not_blamed_on_the_canary() {
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for seed in 0..10 {
            let mut draws = Draws::new(seed * 4 + number as u64 + 1);
            let mut arms = Arms::new(&[("shop", "stable"), ("shop", "canary")]);
            let mut watch = Watch::default();
            for second in 0..WARM + 90 {
                let (share, slower, failing) =
                    if second < WARM + 3 { (0.01, 1.0, 0.0) } else { (0.5, 10.0, 0.3) };
                arms.add(0, 300.0 * (1.0 - share), shape, slower, failing, &mut draws);
                arms.add(1, 300.0 * share, shape, slower, failing, &mut draws);
                let changes = watch.take(&arms.0);
                let blamed = changes.iter().any(|change| change.comparison.against == Against::Stable);
                assert!(!blamed, "{shape:?}, seed {seed}, second {second}: {changes:?}");
            }
            let stable = watch.comparisons(&Arm::of(&arms.0[0]));
            assert!(stable.iter().all(Comparison::jumped), "{stable:?}");
        }
    }
}

#[test]
fn failures_are_noticed_and_rare_ones_are_not() {
    for (before, after, expected) in
        [(0.0, 0.3, true), (0.01, 0.2, true), (0.0, 0.005, false), (0.1, 0.15, false)]
    {
        let mut draws = Draws::new(9);
        let mut arms = Arms::new(&[("shop", "stable")]);
        let mut watch = Watch::default();
        let mut changes = Vec::new();
        for second in 0..WARM + 15 {
            let failing = if second < WARM { before } else { after };
            arms.add(0, 50.0, Shape::Pareto, 1.0, failing, &mut draws);
            changes.extend(watch.take(&arms.0));
        }
        let found = changes.iter().any(|change| change.comparison.of == Of::Failures);
        assert_eq!(found, expected, "{before} to {after}: {changes:?}");
    }
}

/// It begins once, holds, and ends: when times are as before, or when five minutes have made it usual.
#[test]
fn a_jump_holds_and_ends() {
    for stays in [false, true] {
        let mut draws = Draws::new(11);
        let mut arms = Arms::new(&[("shop", "stable")]);
        let mut watch = Watch::default();
        let mut changes = Vec::new();
        for second in 0..WARM + 400 {
            let jumped = second >= WARM && (stays || second < WARM + 60);
            let slower = if jumped { 10.0 } else { 1.0 };
            arms.add(0, 50.0, Shape::LogNormal, slower, 0.0, &mut draws);
            let found = watch.take(&arms.0).into_iter().filter(|it| it.comparison.of == Of::Exchange);
            changes.extend(found.map(|change| (second - WARM, change.comparison.jumped())));
        }
        let [(began, true), (ended, false)] = changes[..] else { panic!("{changes:?}") };
        assert!(began <= 15, "{changes:?}");
        let (from, to) = if stays { (200, 330) } else { (65, 85) };
        assert!((from..to).contains(&ended), "{stays}: {changes:?}");
    }
}

#[test]
fn memory_has_its_stated_bound() {
    let mut arms = Arms::new(&[("shop", "stable")]);
    let mut watch = Watch::default();
    for second in 0..WARM + 400 {
        for us in [0, 1 << 40] {
            arms.0[0].exchanges.exchange.record(Duration::from_micros(us));
            arms.0[0].exchanges.wait.record(Duration::from_micros(us));
        }
        watch.take(&arms.0);
        assert!(watch.bytes() <= history::BYTES_MAX, "{} at {second}", watch.bytes());
    }
    assert!(watch.bytes() > history::BYTES_MAX / 2, "the bound is not far off: {}", watch.bytes());
    // As docs/operating/watch.md says.
    const { assert!(history::BYTES_MAX <= 88 << 10) };

    let names: Vec<String> = (0..ARMS_MAX + 5).map(|number| format!("r{number}")).collect();
    let names: Vec<(&str, &'static str)> = names.iter().map(|name| (&**name, "stable")).collect();
    watch.take(&Arms::new(&names).0);
    assert_eq!((watch.arms().len(), watch.unwatched), (ARMS_MAX, 5));
    watch.take(&[]);
    assert_eq!(watch.bytes(), 0, "what has left is forgotten");
}
