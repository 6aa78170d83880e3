//! Picks: who may be picked, and in which proportions.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Cursors, Health, Outcome, Table, Verdict, Why};
use std::collections::HashMap;
use std::time::Duration;

fn one(policy: Policy, servers: Vec<ServerSpec>) -> Spec {
    Spec { routes: vec![route("r", "app")], backends: vec![backend("app", policy, servers)], ..spec() }
}

fn served(table: &Table, requests: u64) -> HashMap<String, u64> {
    let mut client = Client::new(0);
    let mut count = HashMap::new();
    for number in 0..requests {
        client.random = bits(number);
        client.cookies.clear();
        client.source = std::net::Ipv4Addr::from(0x0a00_0000 + number as u32).into();
        let (decision, permit) = client.request(table);
        permit.finish(Outcome::Responded { status: 200 }, client.now);
        *count.entry(whereto(table, &decision).1).or_default() += 1;
    }
    count
}

#[test]
fn round_robin_keeps_proportions_when_a_server_is_out() {
    let table = table(&one(Policy::RoundRobin, vec![server("a", 1), server("b", 1), server("c", 2)]));
    let count = served(&table, 400);
    assert_eq!((count["a"], count["b"], count["c"]), (100, 100, 200));
    live(&table, "a").set_health(Health::Down(Why::Told));
    let count = served(&table, 300);
    assert_eq!((count.get("a"), count["b"], count["c"]), (None, 100, 200));
}

#[test]
fn cursors_of_workers_start_apart() {
    let servers = (0..50).map(|n| server(&format!("s{n}"), 1)).collect();
    let table = table(&one(Policy::RoundRobin, servers));
    let firsts: std::collections::HashSet<_> = (1..=20)
        .map(|seed| {
            let mut client = Client::new(1);
            client.cursors = Cursors::new(seed);
            client.decide(&table).server()
        })
        .collect();
    assert!(firsts.len() > 10);
}

#[test]
fn least_request_takes_the_idle_one_and_spreads_by_weight_when_even() {
    for count in [3_u64, 8] {
        let servers = (0..count).map(|n| server(&format!("s{n}"), if n == 0 { 3 } else { 1 })).collect();
        let table = table(&one(Policy::LeastRequest, servers));
        // Nothing in flight: by weight.
        let served = served(&table, 20_000);
        let share = served["s0"] as f64 / 20_000.0;
        let expected = 3.0 / (count + 2) as f64;
        // Above a few servers the second draw must be another server, which takes a little of the heaviest.
        assert!((share - expected).abs() < 0.02, "{share} for {expected}");

        // Loaded up: nobody ever has much more than their part.
        let mut client = Client::new(0);
        let mut permits = Vec::new();
        for number in 0..500 {
            client.random = bits(number);
            permits.push(client.request(&table).1);
        }
        for live in table.live.servers() {
            let weight = if live.name() == "s0" { 3.0 } else { 1.0 };
            let fair = 500.0 * weight / (count + 2) as f64;
            let load = f64::from(live.in_flight());
            assert!((load - fair).abs() <= fair * 0.2 + 3.0, "{}: {load} for {fair}", live.name());
        }
    }
}

#[test]
fn least_request_of_many_finds_the_last_one_standing() {
    let servers = (0..100).map(|n| server(&format!("s{n}"), 1)).collect();
    let table = table(&one(Policy::LeastRequest, servers));
    for live in &table.live.servers()[..99] {
        live.set_health(Health::Down(Why::Connect));
    }
    assert_eq!(served(&table, 50), HashMap::from([("s99".to_owned(), 50)]));
}

#[test]
fn round_robin_of_many_finds_the_last_one_standing() {
    let servers = (0..100).map(|n| server(&format!("s{n}"), 200 + n % 7)).collect();
    let table = table(&one(Policy::RoundRobin, servers));
    for live in &table.live.servers()[..99] {
        live.set_health(Health::Down(Why::Connect));
    }
    assert_eq!(served(&table, 50), HashMap::from([("s99".to_owned(), 50)]));
}

#[test]
fn rendezvous_sends_a_key_to_one_server_on_every_node() {
    let mut spec = one(Policy::Rendezvous, (0..10).map(|n| server(&format!("s{n}"), 1 + n)).collect());
    for (key, vary) in [
        (
            HashKey::Source,
            (|client: &mut Client, n: u64| client.source = [10, 0, 0, n as u8].into()) as fn(&mut _, _),
        ),
        (HashKey::Path, |client, n| client.path = format!("/{n}")),
        (HashKey::Header("X-Tenant".into()), |client, n| {
            client.headers = vec![("x-tenant".into(), n.to_string())];
        }),
        (HashKey::Session, |client, n| {
            let session = lb_core_session(n);
            client.cookies = vec![("lb_session".into(), session)];
        }),
    ] {
        spec.backends[0].hash_key = key;
        let (here, mut reversed) = (table(&spec), spec.clone());
        reversed.backends[0].servers.reverse();
        let there = table(&reversed);
        let mut homes = std::collections::HashSet::new();
        for n in 0..100 {
            let mut client = Client::new(bits(n));
            vary(&mut client, n);
            let home = whereto(&here, &client.decide(&here)).1;
            client.random = bits(n + 1_000);
            assert_eq!(whereto(&there, &client.decide(&there)).1, home);
            homes.insert(home);
        }
        assert!(homes.len() > 5, "{homes:?}");
    }
}

/// A session cookie's value: 16 bytes in base64url.
fn lb_core_session(number: u64) -> String {
    let table = table(&split("100%", |_| ()));
    let mut client = Client::new(bits(number));
    let _permit = client.request(&table).1;
    client.cookie("lb_session").unwrap().to_owned()
}

#[test]
fn rendezvous_by_session_gives_new_clients_a_session() {
    let table = table(&one(Policy::Rendezvous, (0..10).map(|n| server(&format!("s{n}"), 1)).collect()));
    for random in 0..20 {
        let mut client = Client::new(bits(random));
        let (first, _permit) = client.request(&table);
        assert!(client.cookie("lb_session").is_some());
        client.random = bits(random + 500);
        assert_eq!(client.decide(&table).server(), first.server());
    }
}

#[test]
fn connect_failures_take_out_for_longer_and_longer_unless_it_is_the_last() {
    let table = table(&one(Policy::RoundRobin, vec![server("a", 1), server("b", 1)]));
    let mut client = Client::new(0);
    let fail_a = |client: &mut Client| loop {
        let (decision, permit) = client.request(&table);
        if whereto(&table, &decision).1 == "a" {
            permit.finish(Outcome::ConnectFailed, client.now);
            return;
        }
        permit.finish(Outcome::Responded { status: 200 }, client.now);
    };
    for expected_ms in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
        fail_a(&mut client);
        let until = live(&table, "a").removed_until();
        assert_eq!(until - client.now, Duration::from_millis(expected_ms));
        client.now = until - Duration::from_nanos(1);
        assert!((0..4).all(|_| whereto(&table, &client.request(&table).0).1 == "b"));
        client.now = until;
    }
    // An answer begins it anew.
    while whereto(&table, &client.decide(&table)).1 != "a" {
        let _permit = client.request(&table).1;
    }
    client.request(&table).1.finish(Outcome::Responded { status: 500 }, client.now);
    fail_a(&mut client);
    assert_eq!(live(&table, "a").removed_until() - client.now, Duration::from_millis(100));

    // The last one is asked, whatever happened to it.
    live(&table, "b").set_admin(Admin::Maintenance);
    assert_eq!(whereto(&table, &client.decide(&table)).1, "a");
    live(&table, "a").set_health(Health::Down(Why::Connect));
    assert!(matches!(client.verdict(&table), Verdict::Refuse(refusal) if refusal.word() == "no_server"));
}

#[test]
fn failures_at_once_count_once() {
    let table = table(&one(Policy::RoundRobin, vec![server("a", 1)]));
    let mut client = Client::new(0);
    let permits: Vec<_> = (0..10).map(|_| client.request(&table).1).collect();
    permits.into_iter().for_each(|permit| permit.finish(Outcome::ConnectFailed, client.now));
    assert_eq!(live(&table, "a").removed_until() - client.now, Duration::from_millis(100));
    assert_eq!(live(&table, "a").counters().connect_failed, 10);
}

#[test]
fn again_goes_elsewhere_and_only_then_back() {
    let table = table(&one(Policy::RoundRobin, vec![server("a", 1), server("b", 1), backup("spare")]));
    let client = Client::new(0);
    let first = client.decide(&table);
    let mut tried = vec![first.server()];
    let mut names = vec![whereto(&table, &first).1];
    for _ in 0..3 {
        let next = first.again(&table, &client.cursors, &tried, client.now, 5).unwrap();
        tried.push(next.server());
        names.push(whereto(&table, &next).1);
    }
    assert_eq!(names[..3], ["a", "b", "spare"]);
    assert!(names[3] == "a" || names[3] == "b", "when all were tried, the order begins anew: {names:?}");

    let other = crate::support::table(&split("50%", |_| ()));
    assert!(first.again(&other, &client.cursors, &[], client.now, 5).is_none());
    assert!(!first.write_cookies(&other, false, &mut Vec::new()));
}

/// With two servers of which one fails, the failing one would be first each time if a retry took the other one's turn.
#[test]
fn again_takes_no_turn() {
    let table = table(&one(Policy::RoundRobin, vec![server("a", 1), server("b", 1)]));
    let mut client = Client::new(0);
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let first = client.decide(&table);
        firsts.push(whereto(&table, &first).1);
        first.take(&table, &mut client.cursors, client.now).unwrap().finish(Outcome::Failed, client.now);
        if firsts.last().is_some_and(|name| name == "a") {
            let next = first.again(&table, &client.cursors, &[first.server()], client.now, 5).unwrap();
            assert_eq!(whereto(&table, &next).1, "b");
            let permit = next.take(&table, &mut client.cursors, client.now).unwrap();
            permit.finish(Outcome::Responded { status: 200 }, client.now);
        }
    }
    assert_eq!(firsts, ["a", "b", "a", "b"]);
}

#[test]
fn again_goes_to_the_other_arm_when_its_own_is_used_up() {
    let table = table(&split("100%", |_| ()));
    let client = Client::new(0);
    let mut decision = client.decide(&table);
    let mut tried = Vec::new();
    let mut arms = Vec::new();
    for _ in 0..5 {
        tried.push(decision.server());
        arms.push(whereto(&table, &decision).0);
        decision = decision.again(&table, &client.cursors, &tried, client.now, 5).unwrap();
    }
    assert_eq!(arms, ["canary", "canary", "canary", "canary", "stable"]);
}

#[test]
fn backups_by_policy_and_weight_zero_takes_nobody_new() {
    let mut spec = one(
        Policy::RoundRobin,
        vec![server("a", 0), server("b", 1), backup("x"), ServerSpec { weight: Some(3), ..backup("y") }],
    );
    let first = table(&spec);
    assert_eq!(served(&first, 10), HashMap::from([("b".to_owned(), 10)]));
    spec.backends[0].servers[1].admin = Admin::Drain;
    let second = table(&spec);
    assert_eq!(served(&second, 40), HashMap::from([("x".to_owned(), 10), ("y".to_owned(), 30)]));
}
