//! `max_requests`: no server ever has more than it may, and who finds all full takes no other's place.

use super::*;
use lb_core::{PickReason, Verdict};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

fn limited(policy: Policy, mosts: &[Option<u32>]) -> Spec {
    let servers = mosts.iter().enumerate();
    let servers = servers.map(|(n, most)| ServerSpec { max_requests: *most, ..server(&format!("s{n}"), 1) });
    one(policy, servers.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Requests come and end in any order: each server keeps its bound, and one is turned away only when all primaries
    /// are full. The backup gets nothing: full is not down.
    #[test]
    fn nobody_has_more_than_it_may(
        policy in prop::sample::select(Policy::ALL.to_vec()),
        mosts in prop::collection::vec(prop::option::weighted(0.9, 1_u32..5), 1..6),
        steps in prop::collection::vec((any::<bool>(), any::<u8>()), 1..80),
        seed: u64,
    ) {
        let mut spec = limited(policy, &mosts);
        spec.backends[0].servers[0].max_requests = Some(1);
        spec.backends[0].servers.push(backup("spare"));
        let table = table(&spec);
        let primaries = mosts.len();
        let mut crowd = Crowd::new(seed);
        let mut held: Vec<Permit> = Vec::new();
        for (comes, which) in steps {
            if !comes && !held.is_empty() {
                let permit = held.swap_remove(usize::from(which) % held.len());
                permit.finish(Outcome::Responded { status: 200 }, crowd.client.now);
                continue;
            }
            crowd.number += 1;
            crowd.client.random = bits(seed << 32 ^ crowd.number);
            crowd.client.source = std::net::Ipv4Addr::from_bits(0x0a00_0000 + crowd.number as u32).into();
            let decision = crowd.client.decide(&table);
            let room = table.live.servers()[..primaries].iter().any(|live| live.has_room());
            prop_assert!((decision.server().0 as usize) < primaries, "a backup for a full primary");
            let permit = decision.take(&table, &mut crowd.client.cursors, crowd.client.now);
            prop_assert_eq!(permit.is_some(), room);
            held.extend(permit);
            for live in table.live.servers() {
                prop_assert!(live.max_requests().is_none_or(|most| live.in_flight() <= most));
            }
        }
        drop(held);
        prop_assert!(table.live.servers().iter().all(|live| live.in_flight() == 0));
    }
}

#[test]
fn a_session_waits_for_its_own_server_and_moves_when_told() {
    let mut spec = limited(Policy::RoundRobin, &[Some(1), Some(1)]);
    spec.backends[0].sticky = Some(StickySpec::default());
    let table = table(&spec);
    let mut client = Client::new(bits(1));
    let (first, permit) = client.request(&table);
    let again = client.decide(&table);
    assert_eq!((again.server(), again.pick_reason()), (first.server(), PickReason::Sticky));
    assert!(again.take(&table, &mut client.cursors, client.now).is_none());
    // Waiting for it no longer: the session goes elsewhere, and its cookie with it.
    let moved = again.again(&table, &client.cursors, &[again.server()], client.now, bits(2)).unwrap();
    assert_ne!(moved.server(), first.server());
    let other = moved.take(&table, &mut client.cursors, client.now).unwrap();
    assert_eq!(client.keep_cookies(&table, &moved).len(), 1);
    assert_eq!(client.decide(&table).server(), moved.server());
    other.finish(Outcome::Responded { status: 200 }, client.now);
    permit.finish(Outcome::Responded { status: 200 }, client.now);
    assert_eq!(table.live.servers().iter().map(|live| live.in_flight()).sum::<u32>(), 0);
}

#[test]
fn a_full_canary_waits_and_does_not_fall_back() {
    let mut spec = split("100%", |_| {});
    spec.backends[1].servers.iter_mut().for_each(|server| server.max_requests = Some(1));
    let table = table(&spec);
    let mut client = Client::new(bits(3));
    let mut held = Vec::new();
    for number in 0..4 {
        client.cookies.clear();
        client.random = bits(number);
        let decision = client.decide(&table);
        assert!(!decision.fallback() && !decision.backup());
        held.extend(decision.take(&table, &mut client.cursors, client.now));
    }
    assert_eq!(held.len(), 3, "the three primaries of the canary");
}

#[test]
fn a_bound_changes_with_the_next_table() {
    let before = table(&limited(Policy::LeastRequest, &[Some(2)]));
    let mut client = Client::new(bits(4));
    let held: Vec<Permit> = (0..2).map(|_| client.request(&before).1).collect();
    for (most, room) in [(Some(1), false), (Some(3), true), (None, true)] {
        let snapshot = lb_core::compile(&limited(Policy::LeastRequest, &[most])).unwrap().snapshot;
        let after = Table::new(snapshot, Some(&before));
        let Verdict::Forward(decision) = client.verdict(&after) else { panic!("it is up") };
        let permit = decision.take(&after, &mut client.cursors, client.now);
        assert_eq!(permit.is_some(), room, "{most:?}");
    }
    assert_eq!(held.len(), 2);
}

/// Threads that decide by the same state at once: what was looked at is not what is taken, and the bound holds yet.
#[test]
fn threads_keep_the_bound_together() {
    let table = table(&limited(Policy::LeastRequest, &[Some(3), Some(2)]));
    let (now_in_flight, most_seen) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for number in 0..4 {
            let (table, now_in_flight, most_seen) = (&table, &now_in_flight, &most_seen);
            scope.spawn(move || {
                let mut client = Client::new(bits(number));
                for round in 0..20_000 {
                    client.random = bits(number << 32 ^ round);
                    let decision = client.decide(table);
                    let Some(permit) = decision.take(table, &mut client.cursors, client.now) else {
                        continue;
                    };
                    most_seen.fetch_max(now_in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
                    now_in_flight.fetch_sub(1, SeqCst);
                    permit.finish(Outcome::Responded { status: 200 }, client.now);
                }
            });
        }
    });
    assert!((1..=5).contains(&most_seen.into_inner()));
    assert!(table.live.servers().iter().all(|live| live.in_flight() == 0));
}

/// Who leaves a queue goes where the policy says among those with room: by weight, as long as all have some, and then to
/// whoever has.
#[test]
fn who_leaves_the_queue_is_spread_by_weight_and_room() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest] {
        let servers = [(3, 400), (1, 400)].into_iter().enumerate().map(|(n, (weight, most))| ServerSpec {
            weight: Some(weight),
            max_requests: Some(most),
            ..server(&format!("s{n}"), 1)
        });
        let table = table(&one(policy, servers.collect()));
        let mut client = Client::new(bits(6));
        // Decided when nobody was there, and asked again when its turn has come.
        let waiting = client.decide(&table);
        let mut held = Vec::new();
        let mut let_in = |count: usize| {
            for _ in 0..count {
                client.random = bits(1_000 + held.len() as u64);
                let again = waiting
                    .again(&table, &client.cursors, &[], client.now, client.random)
                    .expect("all are up");
                held.extend(again.take(&table, &mut client.cursors, client.now));
            }
            [0, 1].map(|place| table.live.servers()[place].in_flight())
        };
        let [heavy, light] = let_in(400);
        assert_eq!(heavy + light, 400, "{policy:?}: nobody waits while there is room");
        assert!((250..=350).contains(&heavy), "{policy:?}: {heavy} of 400 for three quarters of the weight");
        assert_eq!(let_in(500), [400, 400], "{policy:?}: whoever has room, then nobody");
    }
}
