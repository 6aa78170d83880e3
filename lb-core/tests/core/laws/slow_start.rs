//! Slow start: a server that came up takes its weight step by step.

use super::*;
use lb_core::{Health, Why};

const RAMP: Duration = Duration::from_secs(40);

fn slow(policy: Policy, weights: &[u32]) -> Spec {
    let mut spec = one(policy, weighted(weights));
    spec.backends[0].slow_start = Some(RAMP);
    spec
}

/// Brings a server up, and begins its ramp at the crowd's time by a request of a session of its own.
fn comes_up(table: &Table, place: usize) {
    let live = &table.live.servers()[place];
    live.set_health(Health::Down(Why::Told));
    live.set_health(Health::Up);
}

/// Requests until the ramp of every server that came up has begun.
fn begin(crowd: &mut Crowd, table: &Table) {
    crowd.shares(table, 2_000);
}

/// At any time of the ramp the server has the share of a weight that is its own times the time that has passed, and at
/// first a tenth of it; and afterwards exactly what it would have had without.
#[test]
fn shares_follow_the_ramp() {
    for policy in all_policies() {
        let weights = [2, 3, 4, 3, 8];
        let table = table(&slow(policy, &weights));
        let mut crowd = Crowd::new(1).at(Duration::from_secs(100));
        comes_up(&table, 2);
        begin(&mut crowd, &table);
        for (after_s, strength) in
            [(0, 0.1), (2, 0.1), (10, 0.25), (20, 0.5), (36, 0.9), (40, 1.0), (4_000, 1.0)]
        {
            crowd.client.now = Duration::from_secs(100 + after_s);
            let count = crowd.shares(&table, 30_000);
            let parts: Vec<f64> = (0..5)
                .map(|place| f64::from(weights[place]) * if place == 2 { strength } else { 1.0 })
                .collect();
            // Of two different ones the second takes a little of the heaviest.
            let slack = if matches!(policy, Policy::LeastRequest | Policy::PeakEwma) { 0.012 } else { 0.002 };
            assert_shares(&count, &parts, slack, &format!("{policy:?} after {after_s} s"));
        }
    }
}

/// Where all have just come up, as after a start, weights are what they are; one after the other they grow apart.
#[test]
fn all_at_once_is_as_if_none() {
    for policy in all_policies() {
        let weights = [1, 2, 5];
        let table = table(&slow(policy, &weights));
        (0..3).for_each(|place| comes_up(&table, place));
        let mut crowd = Crowd::new(2).at(Duration::from_secs(100));
        begin(&mut crowd, &table);
        for after_s in [0, 10, 30] {
            crowd.client.now = Duration::from_secs(100 + after_s);
            let count = crowd.shares(&table, 30_000);
            assert_shares(&count, &[1.0, 2.0, 5.0], 0.01, &format!("{policy:?} after {after_s} s"));
        }
    }
}

/// The ramp begins with the first request, be it days after the server came up, and a new one begins a new ramp.
#[test]
fn the_first_request_begins_the_ramp() {
    let table = table(&slow(Policy::Random, &[1, 1]));
    let mut crowd = Crowd::new(3).at(Duration::from_secs(100));
    comes_up(&table, 0);
    crowd.client.now = Duration::from_secs(100_000);
    begin(&mut crowd, &table);
    assert_shares(&crowd.shares(&table, 20_000), &[0.1, 1.0], 0.0, "days later");
    crowd.client.now += RAMP / 2;
    assert_shares(&crowd.shares(&table, 20_000), &[0.5, 1.0], 0.0, "half-way");
    comes_up(&table, 0);
    begin(&mut crowd, &table);
    assert_shares(&crowd.shares(&table, 20_000), &[0.1, 1.0], 0.0, "once more");
}

/// A server that a new table brings into a backend is cold; those of a first table, or of a new backend, are not colder
/// than each other.
#[test]
fn a_new_server_among_old_ones_starts_slowly() {
    let first = table(&slow(Policy::Random, &[1, 1]));
    let mut crowd = Crowd::new(4).at(Duration::from_secs(100));
    assert_shares(&crowd.shares(&first, 10_000), &[1.0, 1.0], 0.0, "at first");
    let spec = slow(Policy::Random, &[1, 1, 1]);
    let second = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&first));
    begin(&mut crowd, &second);
    assert_shares(&crowd.shares(&second, 20_000), &[1.0, 1.0, 0.1], 0.0, "the third is new");
    crowd.client.now += RAMP;
    assert_shares(&crowd.shares(&second, 20_000), &[1.0, 1.0, 1.0], 0.0, "the third is warm");
}

/// Keys move to a server that grows, and never from it or between the others; its own sessions it has at once.
#[test]
fn keys_move_once_and_sessions_never() {
    for policy in [Policy::Maglev, Policy::Rendezvous] {
        let mut spec = slow(policy, &[1; 10]);
        spec.backends[0].sticky = Some(StickySpec::default());
        let table = table(&spec);
        let mut owner = Client::new(5);
        while owner.request(&table).0.server().0 != 0 {
            owner.cookies.clear();
            owner.source = std::net::Ipv4Addr::from_bits(owner.random as u32).into();
            owner.random += 1;
        }
        let warm = Crowd::new(6).homes(&table, 4_000);
        comes_up(&table, 0);
        let start = Duration::from_secs(100);
        begin(&mut Crowd::new(7).at(start), &table);
        let mut before = Crowd::new(6).at(start).homes(&table, 4_000);
        for after_s in 1..=40 {
            owner.now = start + Duration::from_secs(after_s);
            assert_eq!(owner.decide(&table).server().0, 0, "a session comes home at once");
            let after = Crowd::new(6).at(owner.now).homes(&table, 4_000);
            for (before, after) in before.iter().zip(&after) {
                assert!(before == after || *after == 0, "{policy:?}: from {before} to {after}");
            }
            before = after;
        }
        assert_eq!(before, warm, "{policy:?}");
    }
}
