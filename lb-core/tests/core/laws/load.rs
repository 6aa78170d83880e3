//! How even loads are: two choices in a simulation of a thousand servers, and bounded load.

use super::*;
use std::collections::VecDeque;

/// Requests at `servers` servers so that `held` of them are under way at any time, each for as long as any other;
/// the most that any server ever had in flight after the first round.
fn most_in_flight(policy: Policy, servers: usize, held: usize, seed: u64) -> u32 {
    let table = table(&one(policy, equal(servers)));
    let mut crowd = Crowd::new(seed);
    // So that latencies are known.
    crowd.shares(&table, 10 * servers as u64);
    let mut under_way: VecDeque<Permit> = (0..held).map(|_| crowd.next(&table).1).collect();
    let mut most = 0;
    for number in 0..2 * held {
        // The one that ends is any, so that servers lose requests at random.
        let ends = (bits(number as u64 ^ seed << 40) % held as u128) as usize;
        under_way.swap(0, ends);
        let done = under_way.pop_front().expect("held");
        done.finish(Outcome::Responded { status: 200 }, crowd.client.now);
        let (place, permit) = crowd.next(&table);
        most = most.max(table.live.servers()[place].in_flight());
        under_way.push_back(permit);
    }
    most
}

/// With m requests over n servers the fullest has m/n + log2 ln n + O(1) where the better of two is taken (Azar et al.,
/// "Balanced allocations", 1999; for m > n Berenbrink et al., 2000), and that however long it goes on: for n = 1,000,
/// log2 ln n = 2.8. Where chance alone decides it is m/n + sqrt(2 m/n ln n) for large m: with m = 10 n, 12 more.
#[test]
fn two_choices_of_a_thousand_stay_even() {
    const SERVERS: usize = 1_000;
    for seed in 1..=3 {
        for mean in [1, 10] {
            let two = most_in_flight(Policy::LeastRequest, SERVERS, SERVERS * mean, seed);
            assert!(two as usize <= mean + 4, "seed {seed}: {two} for a mean of {mean}");
            let any = most_in_flight(Policy::Random, SERVERS, SERVERS * mean, seed);
            assert!(any > two, "seed {seed}: {any} by chance, {two} of two");
        }
        let by_latency = most_in_flight(Policy::PeakEwma, SERVERS, SERVERS * 10, seed);
        assert!(by_latency <= 10 + 4, "seed {seed}: {by_latency}");
        assert!(most_in_flight(Policy::Random, SERVERS, SERVERS * 10, seed) >= 10 + 8);
    }
}

/// Loads go by weight, for servers compared all and two at a time.
#[test]
fn loads_go_by_weight() {
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        for weights in [&[1, 3][..], &[1, 2, 4, 4, 9], &[1, 1, 1, 1, 1, 1, 8]] {
            let table = table(&one(policy, weighted(weights)));
            let mut crowd = Crowd::new(5);
            // So that latencies are known.
            let warm: Vec<Permit> = (0..200).map(|_| crowd.next(&table).1).collect();
            crowd.client.now += Duration::from_millis(10);
            warm.into_iter().for_each(|it| it.finish(Outcome::Responded { status: 200 }, crowd.client.now));
            let held = 100 * weights.iter().sum::<u32>();
            let _permits: Vec<Permit> = (0..held).map(|_| crowd.next(&table).1).collect();
            for (live, weight) in table.live.servers().iter().zip(weights) {
                let (load, part) = (f64::from(live.in_flight()), f64::from(100 * weight));
                assert!(
                    (load - part).abs() <= 0.05 * part + 3.0,
                    "{policy:?} {weights:?}: {load} for {part}"
                );
            }
        }
    }
}

/// The bound is kept at every single request: nobody has more than ⌈1.25 × all × weight / weights⌉, when one key is hot
/// and when keys spread, and whoever has room keeps the keys that it has room for.
#[test]
fn bounded_load_is_kept_with_weights() {
    for policy in [Policy::Maglev, Policy::Rendezvous] {
        for weights in [&[1, 1, 1, 1][..], &[1, 2, 4, 4, 9], &[10, 1, 1]] {
            for hot in [false, true] {
                let mut spec = one(policy, weighted(weights));
                spec.backends[0].max_load_percent = Some(125);
                let table = table(&spec);
                let mut crowd = Crowd::new(7);
                let whole = f64::from(weights.iter().sum::<u32>());
                let mut under_way = VecDeque::new();
                for number in 0..2_000_u64 {
                    if hot {
                        crowd.number = 0;
                    }
                    let (place, permit) = crowd.next(&table);
                    under_way.push_back(permit);
                    let all = under_way.len() as f64;
                    let most = (1.25 * all * f64::from(weights[place]) / whole).ceil();
                    let load = f64::from(table.live.servers()[place].in_flight());
                    assert!(load <= most, "{policy:?} {weights:?} hot {hot}: {load} of {most} at {all}");
                    if number % 3 == 2 {
                        let ends = (bits(number) % under_way.len() as u128) as usize;
                        under_way.swap(0, ends);
                        under_way.pop_front();
                    }
                }
            }
        }
    }
}

/// Without load, and with room, the bound changes nobody's home; a cookie beats it.
#[test]
fn bounded_load_moves_nobody_without_need() {
    for policy in [Policy::Maglev, Policy::Rendezvous] {
        let mut spec = one(policy, equal(10));
        let free = Crowd::new(9).homes(&table(&spec), 2_000);
        spec.backends[0].max_load_percent = Some(105);
        spec.backends[0].sticky = Some(StickySpec::default());
        let bounded = table(&spec);
        assert_eq!(Crowd::new(9).homes(&bounded, 2_000), free, "{policy:?}");

        let mut crowd = Crowd::new(10);
        let (home, first) = crowd.next(&bounded);
        let session = crowd.client.cookies.clone();
        let mut held = vec![first];
        for _ in 0..50 {
            crowd.client.cookies.clone_from(&session);
            let (decision, permit) = crowd.client.request(&bounded);
            assert_eq!(decision.server().0 as usize, home, "a full server keeps its own sessions");
            held.push(permit);
        }
        crowd.client.cookies.clear();
        let stranger = crowd.client.decide(&bounded);
        assert_ne!(stranger.server().0 as usize, home, "{policy:?}: and takes nobody new");
    }
}

/// Requests that a server was given before the bound was there are not counted among all, and never make the sum wrong.
#[test]
fn a_bound_may_come_and_go() {
    let mut spec = one(Policy::Rendezvous, equal(3));
    let free = table(&spec);
    let mut crowd = Crowd::new(11);
    let before: Vec<Permit> = (0..30).map(|_| crowd.next(&free).1).collect();
    spec.backends[0].max_load_percent = Some(125);
    let bounded = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&free));
    let during: Vec<Permit> = (0..30).map(|_| crowd.next(&bounded).1).collect();
    spec.backends[0].max_load_percent = None;
    let again = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&bounded));
    drop((before, during));
    let after: Vec<Permit> = (0..30).map(|_| crowd.next(&again).1).collect();
    drop(after);
    spec.backends[0].max_load_percent = Some(125);
    let last = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&again));
    assert!(last.live.servers().iter().all(|live| live.in_flight() == 0));
    // A sum that had become too large would leave one hot key where it is.
    let mut places = std::collections::HashSet::new();
    let _held: Vec<Permit> = (0..6)
        .map(|_| {
            crowd.number = 0;
            let (place, permit) = crowd.next(&last);
            places.insert(place);
            permit
        })
        .collect();
    assert!(places.len() > 1, "one server may have three of six");
}
