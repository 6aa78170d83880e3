//! Live state: by identity, through every snapshot, and in the end of every attempt.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Health, Outcome, ServerCounters, Table, Why, compile};
use std::sync::Arc;
use std::time::Duration;

fn spec_of(servers: Vec<ServerSpec>) -> Spec {
    let backends = vec![backend("app", Policy::RoundRobin, servers)];
    Spec { routes: vec![route("r", "app")], backends, ..spec() }
}

#[test]
fn state_survives_by_identity() {
    let before = table(&spec_of(vec![server("a", 1), server("b", 1)]));
    live(&before, "a").set_health(Health::Down(Why::Answer));
    let mut client = Client::new(0);
    let (_, permit) = client.request(&before);

    let mut moved = server("a", 1);
    moved.address = Address::Literal(address("10.7.7.7:7"));
    let changed = spec_of(vec![server("c", 1), server("b", 9), moved]);
    let after = Table::new(compile(&changed).unwrap().snapshot, Some(&before));
    let find = |table: &Table, name: &str| {
        table.live.servers().iter().find(|it| it.name() == name).map(Arc::clone).unwrap()
    };
    assert!(Arc::ptr_eq(&find(&before, "b"), &find(&after, "b")));
    assert_eq!(find(&after, "b").in_flight(), 1);
    assert_eq!(find(&after, "a").health(), Health::Up, "another address is another server");
    assert_eq!(find(&after, "c").counters(), ServerCounters::default());

    drop(before);
    assert_eq!((permit.backend(), permit.name(), permit.in_flight()), ("app", "b", 1));
    permit.finish(Outcome::Responded { status: 204 }, client.now);
    assert_eq!(find(&after, "b").in_flight(), 0);
}

#[test]
fn a_snapshot_says_what_is_drained() {
    let mut wanted = spec_of(vec![server("a", 1)]);
    let first = table(&wanted);
    wanted.backends[0].servers[0].admin = Admin::Drain;
    let second = Table::new(compile(&wanted).unwrap().snapshot, Some(&first));
    assert_eq!(live(&second, "a").admin(), Admin::Drain);
    live(&second, "a").set_health(Health::Down(Why::Told));
    wanted.backends[0].servers[0].admin = Admin::Ready;
    let third = Table::new(compile(&wanted).unwrap().snapshot, Some(&second));
    assert_eq!(live(&third, "a").admin(), Admin::Ready);
    assert_eq!(live(&third, "a").health(), Health::Down(Why::Told), "the other axis is left alone");
}

#[test]
fn every_permit_ends_once() {
    let table = table(&spec_of(vec![server("a", 1)]));
    let mut client = Client::new(0);
    let outcomes = [
        Outcome::Responded { status: 101 },
        Outcome::Responded { status: 200 },
        Outcome::Responded { status: 503 },
        Outcome::Responded { status: 999 },
        Outcome::Failed,
        Outcome::ConnectFailed,
    ];
    for outcome in outcomes {
        let permit = client.request(&table).1;
        assert_eq!(live(&table, "a").in_flight(), 1);
        permit.finish(outcome, client.now);
    }
    drop(client.request(&table).1);
    let counters = live(&table, "a").counters();
    let expected = ServerCounters {
        in_flight: 0,
        responded: [1, 1, 1, 0, 0, 1],
        latency: Duration::ZERO,
        connect_failed: 1,
        failed: 1,
        abandoned: 1,
        health_changes: 0,
        removals: 1,
    };
    assert_eq!(counters, expected);
    assert_eq!(counters.picked(), 7);
}

#[test]
fn health_that_returns_forgets_failures() {
    let table = table(&spec_of(vec![server("a", 1), server("b", 1)]));
    let mut client = Client::new(0);
    client.request(&table).1.finish(Outcome::ConnectFailed, client.now);
    let a = live(&table, "a");
    assert!(a.removed_until() > client.now);
    a.set_health(Health::Down(Why::Connect));
    a.set_health(Health::Down(Why::Timeout));
    assert_eq!(a.counters().health_changes, 1, "it is down for another reason, but down it was");
    a.set_health(Health::Up);
    assert!(a.removed_until() <= client.now);
    assert_eq!((a.counters().health_changes, a.counters().removals), (2, 1));
}

#[test]
fn states_are_told_as_they_were_set() {
    let table = table(&spec_of(vec![server("a", 1)]));
    let a = live(&table, "a");
    for admin in [Admin::Drain, Admin::Maintenance, Admin::Ready] {
        for health in [
            Health::Down(Why::Connect),
            Health::Down(Why::Timeout),
            Health::Down(Why::Answer),
            Health::Down(Why::Told),
            Health::Down(Why::Unchecked),
            Health::Down(Why::FailedInRow),
            Health::Down(Why::FailedMore),
            Health::Down(Why::Slower),
            Health::Up,
        ] {
            a.set_admin(admin);
            a.set_health(health);
            assert_eq!((a.admin(), a.health()), (admin, health));
        }
    }
}

#[test]
fn latency_is_the_time_to_the_response_head() {
    let table = table(&spec_of(vec![server("a", 1)]));
    let mut client = Client::new(0);
    let (start, ms) = (client.now, Duration::from_millis);
    let mut attempt = |answered: &[u64], outcome, ended: u64| {
        let mut permit = client.request(&table).1;
        answered.iter().for_each(|at| permit.answered(start + ms(*at)));
        permit.finish(outcome, start + ms(ended));
        live(&table, "a").counters().latency
    };
    assert_eq!(attempt(&[5, 90], Outcome::Responded { status: 200 }, 100), ms(5), "the first answer counts");
    assert_eq!(attempt(&[], Outcome::Responded { status: 500 }, 7), ms(12), "without one the end does");
    assert_eq!(attempt(&[5], Outcome::Failed, 7), ms(12), "what came to no end has none");
    assert_eq!(attempt(&[5], Outcome::Abandoned, 7), ms(12));
    assert_eq!(attempt(&[], Outcome::ConnectFailed, 7), ms(12));
}
