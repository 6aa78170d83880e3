//! `peak_ewma`: a server that turns slow is left at once, and returns.

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Servers that answer after a time of their own, in virtual time; requests come evenly.
struct World {
    table: Table,
    crowd: Crowd,
    /// By server.
    takes: Vec<Duration>,
    /// What is under way, by when it ends.
    ends: BinaryHeap<Reverse<(Duration, u64)>>,
    permits: HashMap<u64, Permit>,
    between: Duration,
}

impl World {
    /// So many servers that take 10 ms, and a request each `between`.
    fn new(servers: usize, between: Duration, seed: u64) -> World {
        World {
            table: table(&one(Policy::PeakEwma, equal(servers))),
            crowd: Crowd::new(seed).at(Duration::from_secs(1)),
            takes: vec![Duration::from_millis(10); servers],
            ends: BinaryHeap::new(),
            permits: HashMap::new(),
            between,
        }
    }

    /// So many requests; how many each server got.
    fn run(&mut self, requests: u64) -> Vec<u64> {
        let mut count = vec![0; self.takes.len()];
        for _ in 0..requests {
            self.crowd.client.now += self.between;
            let now = self.crowd.client.now;
            while let Some(Reverse((end, number))) = self.ends.peek().copied()
                && end <= now
            {
                self.ends.pop();
                let mut permit = self.permits.remove(&number).expect("under way");
                permit.answered(end);
                permit.finish(Outcome::Responded { status: 200 }, end);
            }
            let (place, permit) = self.crowd.next(&self.table);
            count[place] += 1;
            self.permits.insert(self.crowd.number, permit);
            self.ends.push(Reverse((now + self.takes[place], self.crowd.number)));
        }
        count
    }

    fn run_for(&mut self, time: Duration) -> Vec<u64> {
        self.run((time.as_nanos() / self.between.as_nanos()) as u64)
    }
}

const HALF_LIFE: Duration = lb_core::defaults::PEAK_EWMA_HALF_LIFE;

/// Ten times slower. Until the first slow answer is there the server gets its share of requests at most, and two more;
/// then none for as long as its latency, as far as it is remembered, is more than that of the others times what they
/// have to do: three half-lives (2^3 < 10) where nobody waits, one where each has about one request in flight. Then it
/// is tried again and its next peak counts like the first, so that it gets less than a tenth of its share; and when it
/// is quick again it is back within four half-lives.
#[test]
fn a_server_that_turns_slow_is_left_and_returns() {
    // Servers, milliseconds between requests, half-lives without it.
    for (servers, between, without) in
        [(2, 12, 3), (4, 12, 3), (50, 12, 3), (2, 5, 1), (10, 1, 1), (50, 1, 1)]
    {
        for seed in 1..=3 {
            let of = format!("{servers} servers, {between} ms, seed {seed}");
            let mut world = World::new(servers, Duration::from_millis(between), seed);
            let fair = 1.0 / servers as f64;
            world.run_for(Duration::from_secs(40));
            let all: u64 = world.run_for(Duration::from_secs(10)).iter().sum();

            world.takes[0] = Duration::from_millis(100);
            // It may take a while until it is asked at all.
            let mut first = 0;
            while first == 0 || world.table.live.servers()[0].in_flight() > 0 {
                first += world.run(1)[0];
            }
            assert!(first <= 2 + (100.0 / between as f64 * fair).ceil() as u64, "{of}: {first} at first");
            let left = world.run_for(without * HALF_LIFE - Duration::from_secs(1));
            assert_eq!(left[0], 0, "{of}: while its peak is remembered");
            let later = world.run_for(20 * HALF_LIFE);
            let tried = later[0] as f64 / later.iter().sum::<u64>() as f64;
            assert!(later[0] > 0, "{of}: it is tried again");
            assert!(tried < fair / 10.0, "{of}: it is worth a tenth of its share, not {tried}");

            world.takes[0] = Duration::from_millis(10);
            world.run_for(4 * HALF_LIFE);
            let returned = world.run_for(Duration::from_secs(10))[0] as f64 / all as f64;
            assert!(returned > fair / 2.0, "{of}: it is back with {returned} of {fair}");
        }
    }
}

/// A fresh server gets one request until it has answered; then its share.
#[test]
fn a_fresh_server_is_tried_with_one_request() {
    let mut world = World::new(5, Duration::from_millis(12), 1);
    world.takes[4] = Duration::from_secs(3);
    let count = world.run_for(Duration::from_secs(2));
    assert_eq!(count[4], 1, "{count:?}");
    world.takes[4] = Duration::from_millis(10);
    world.run_for(10 * HALF_LIFE);
    let count = world.run_for(Duration::from_secs(60));
    let share = count[4] as f64 / count.iter().sum::<u64>() as f64;
    assert!(share > 0.1, "{share}");
}

/// The times of one attempt, and what then is expected of the server, as `explain` says.
#[test]
fn what_counts_as_latency() {
    let ms = Duration::from_millis;
    let expected = |events: &[(&str, u64)], outcome: Outcome, end_ms: u64| {
        let table = table(&one(Policy::PeakEwma, equal(1)));
        let mut crowd = Crowd::new(1);
        // It takes 100 ms so far.
        let permit = crowd.next(&table).1;
        crowd.client.now += ms(100);
        permit.finish(Outcome::Responded { status: 200 }, crowd.client.now);
        let start = crowd.client.now;
        let mut permit = crowd.next(&table).1;
        for (event, at) in events {
            match *event {
                "sent" => permit.sent(start + ms(*at)),
                "answered" => permit.answered(start + ms(*at)),
                other => panic!("{other}"),
            }
        }
        permit.finish(outcome, start + ms(end_ms));
        let fields = [("accept", "*/*")];
        let view = lb_core::RequestView {
            listener: 0,
            method: b"GET",
            host: b"a",
            path: b"/",
            query: None,
            fields: &fields,
            source: [10, 0, 0, 1].into(),
            secure: false,
        };
        let explanation = lb_core::explain(&table, &crowd.client.cursors, &view, start + ms(end_ms), 1);
        let latency = explanation.pick.unwrap().server.unwrap().latency.unwrap();
        // Time goes by in steps of 134 ms, in each of which a hundredth is forgotten.
        let ms = latency.as_secs_f64() * 1000.0;
        if (98.0..100.0).contains(&ms) { 100 } else { ms.round() as u64 }
    };
    let ok = Outcome::Responded { status: 200 };
    // A peak counts at once and whole; from the answer on the time is the client's.
    assert_eq!(expected(&[], ok, 300), 300);
    assert_eq!(expected(&[("answered", 300)], ok, 310), 300);
    assert_eq!(expected(&[("sent", 1_000), ("answered", 1_300)], ok, 1_310), 300);
    assert_eq!(
        expected(&[("answered", 300), ("sent", 900)], ok, 310),
        300,
        "what comes after the answer is late"
    );
    // In seven seconds half is forgotten: 50 ms are left, and less draws them half-way towards itself.
    let less = expected(&[("sent", 6_990), ("answered", 7_000)], ok, 7_000);
    assert!((29..=32).contains(&less), "{less}");
    // Errors count only if they are slow; what the client gave up and what never connected does not count.
    let error = Outcome::Responded { status: 503 };
    assert_eq!(expected(&[("answered", 1)], error, 1), 100);
    assert_eq!(expected(&[("answered", 400)], error, 400), 400);
    assert_eq!(expected(&[], Outcome::Failed, 500), 500);
    assert_eq!(expected(&[], Outcome::Failed, 1), 100);
    assert_eq!(expected(&[], Outcome::Abandoned, 120), 100);
    assert_eq!(expected(&[], Outcome::ConnectFailed, 120), 100);
    // How long a tunnel was open says nothing: its head does.
    assert_eq!(expected(&[("answered", 20)], Outcome::Responded { status: 101 }, 60), 100);
}

/// Errors that come at once do not make a server look quick: it keeps the share that it had, and a fresh one that knows
/// nothing else gets next to nothing.
#[test]
fn who_refuses_everything_at_once_is_no_favourite() {
    for (good_before, most) in [(2_000, 0.65), (0, 0.01)] {
        let table = table(&one(Policy::PeakEwma, equal(5)));
        let mut crowd = Crowd::new(1);
        let mut count = [0; 5];
        for number in 0..20_000 {
            let (place, mut permit) = crowd.next(&table);
            let is_good = place != 0 || number < good_before;
            count[place] += u64::from(number >= good_before);
            crowd.client.now += Duration::from_millis(if is_good { 10 } else { 1 });
            permit.answered(crowd.client.now);
            let status = if is_good { 200 } else { 503 };
            permit.finish(Outcome::Responded { status }, crowd.client.now);
        }
        let share = count[0] as f64 / count.iter().sum::<u64>() as f64;
        assert!(share < most, "{share} after {good_before} good ones");
    }
}
