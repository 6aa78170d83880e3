//! Failing open: when so few are up that health is not believed.

use super::*;
use lb_core::{Health, Verdict, Why};

fn open(policy: Policy, below: u16, count: usize) -> Spec {
    let mut spec = one(policy, equal(count));
    spec.backends[0].fail_open_below = Some(Share::percent(below));
    spec
}

fn set_down(table: &Table, down: usize) {
    for (place, live) in table.live.servers().iter().enumerate() {
        live.set_health(if place < down { Health::Down(Why::Answer) } else { Health::Up });
    }
}

/// At half and above the healthy ones serve, below it all ready ones do, by weight.
#[test]
fn below_the_threshold_all_ready_ones_serve() {
    for policy in all_policies() {
        let table = table(&open(policy, 50, 10));
        live(&table, "s9").set_admin(Admin::Maintenance);
        live(&table, "s8").set_admin(Admin::Drain);
        // Of 8 that are ready, 4 are half.
        set_down(&table, 4);
        let count = Crowd::new(1).shares(&table, 4_000);
        assert_eq!(count[..4].iter().sum::<u64>(), 0, "{policy:?}: {count:?}");
        for down in [5, 8] {
            set_down(&table, down);
            let count = Crowd::new(2).shares(&table, 20_000);
            let mut parts = [1.0; 10];
            parts[8..].fill(0.0);
            assert_shares(&count, &parts, 0.003, &format!("{policy:?} with {down} down"));
        }
    }
}

#[test]
fn it_is_off_unless_asked_for() {
    let table = table(&one(Policy::RoundRobin, equal(4)));
    set_down(&table, 4);
    assert!(
        matches!(Client::new(0).verdict(&table), Verdict::Refuse(refusal) if refusal.word() == "no_server")
    );
}

/// A backup that is up comes before health is doubted; one that is down does not.
#[test]
fn backups_come_first() {
    let mut spec = open(Policy::RoundRobin, 50, 4);
    spec.backends[0].servers.push(backup("spare"));
    let table = table(&spec);
    set_down(&table, 3);
    assert_eq!(Crowd::new(3).shares(&table, 100), [0, 0, 0, 100, 0]);
    set_down(&table, 4);
    assert_eq!(Crowd::new(3).shares(&table, 100), [0, 0, 0, 0, 100]);
    live(&table, "spare").set_health(Health::Down(Why::Connect));
    assert_eq!(Crowd::new(3).shares(&table, 100), [25, 25, 25, 25, 0]);
}

/// An arm of which nobody is up is left for one that can serve; without such, it serves.
#[test]
fn another_arm_comes_before_one_with_nobody_up() {
    let mut spec = split("100%", |_| ());
    for backend in &mut spec.backends {
        backend.servers.truncate(3);
        backend.fail_open_below = Some(Share::percent(50));
    }
    let table = table(&spec);
    let arms = |table: &Table| -> Vec<(&'static str, bool)> {
        (0..20)
            .map(|random| {
                let decision = Client::new(bits(random)).decide(table);
                (whereto(table, &decision).0, decision.fallback())
            })
            .collect()
    };
    let down = |names: &[&str]| {
        for name in names {
            live(&table, name).set_health(Health::Down(Why::Answer));
        }
    };
    down(&["new-1", "new-2"]);
    assert!(arms(&table).iter().all(|arm| *arm == ("canary", false)), "one of three is below half: open");
    down(&["new-3"]);
    assert!(arms(&table).iter().all(|arm| *arm == ("stable", true)), "none is up: the other arm");
    down(&["old-1", "old-2", "old-3"]);
    assert!(arms(&table).iter().all(|arm| *arm == ("canary", false)), "nobody is up anywhere: its own");
}

/// Sessions stay with a server whose health is not believed; connect failures still count.
#[test]
fn sessions_stay_and_connect_failures_count() {
    let mut spec = open(Policy::RoundRobin, 50, 3);
    spec.backends[0].sticky = Some(StickySpec::default());
    let table = table(&spec);
    let mut client = Client::new(1);
    let home = client.request(&table).0.server();
    set_down(&table, 3);
    assert_eq!(client.decide(&table).server(), home);
    set_down(&table, 2);
    let mut crowd = Crowd::new(4);
    for _ in 0..20 {
        let (place, permit) = crowd.next(&table);
        let fails = place == 0;
        permit.finish(
            if fails { Outcome::ConnectFailed } else { Outcome::Responded { status: 200 } },
            crowd.client.now,
        );
    }
    assert_eq!(crowd.shares(&table, 100)[0], 0);
}
