//! Zones: the own one first, and as much elsewhere as it cannot carry.

use super::*;
use lb_core::{Health, Why};

/// Ten servers of weight 1 in the node's zone and twenty elsewhere.
fn zoned(policy: Policy, spill_below: Option<Share>) -> Spec {
    let mut spec = one(policy, equal(30));
    spec.zone = Some("here".into());
    for (place, server) in spec.backends[0].servers.iter_mut().enumerate() {
        server.zone = Some(if place < 10 { "here".into() } else { format!("there-{}", place % 2) });
    }
    spec.backends[0].spill_below = spill_below;
    spec
}

fn preferring() -> impl Iterator<Item = Policy> {
    all_policies().filter(|policy| !policy.hashes())
}

fn set_down(table: &Table, places: std::ops::Range<usize>) {
    for (place, live) in table.live.servers().iter().enumerate() {
        let health = if places.contains(&place) { Health::Down(Why::Timeout) } else { Health::Up };
        live.set_health(health);
    }
}

/// The part that stays is what `pick/zones.rs` says, and within a zone servers share as they always do.
#[test]
fn what_stays_is_what_the_formula_says() {
    for policy in preferring() {
        let cases = [
            (None, 0..0, 1.0),
            (None, 0..3, 1.0),
            // 6 of 10 are up, 0.6 / 0.7 stays.
            (None, 0..4, 6.0 / 7.0),
            (None, 0..9, 1.0 / 7.0),
            (None, 0..10, 0.0),
            // 5 of 10 and 1 of 20: by capacity more stays than by need.
            (None, 5..29, 5.0 / 6.0),
            (Some(Share::ALL), 0..2, 0.8),
            (Some(Share::NONE), 0..9, 1.0),
        ];
        for (spill_below, down, stays) in cases {
            let table = table(&zoned(policy, spill_below));
            set_down(&table, down.clone());
            let count = Crowd::new(1).shares(&table, 30_000);
            let (here, there) = count.split_at(10);
            let near: u64 = here.iter().sum();
            let of = format!("{policy:?} without {down:?}");
            assert_shares(&[near, there.iter().sum()], &[stays, 1.0 - stays], 0.0001, &of);
            for (zone, first) in [(here, 0), (there, 10)] {
                let up: Vec<f64> = (0..zone.len())
                    .map(|place| f64::from(u8::from(!down.contains(&(first + place)))))
                    .collect();
                if zone.iter().sum::<u64>() > 0 {
                    assert_shares(zone, &up, 0.002, &of);
                }
            }
        }
    }
}

/// Changes are seen at once, and connect failures, which pass, spill nothing as long as somebody is left.
#[test]
fn capacity_is_what_is_up() {
    let table = table(&zoned(Policy::RoundRobin, None));
    let mut crowd = Crowd::new(2);
    let is_near = |count: &[u64]| count[10..].iter().all(|count| *count == 0);
    assert!(is_near(&crowd.shares(&table, 300)));
    for live in &table.live.servers()[1..10] {
        live.set_admin(Admin::Maintenance);
    }
    assert!(!is_near(&crowd.shares(&table, 300)));
    table.live.servers()[1..10].iter().for_each(|live| live.set_admin(Admin::Ready));
    assert!(is_near(&crowd.shares(&table, 300)));

    // All but one of the zone refuse connections: the one takes everything, then all are out and it spills.
    let refuse = |crowd: &mut Crowd, refusing: std::ops::Range<usize>| {
        for _ in 0..100 {
            let (place, permit) = crowd.next(&table);
            let fails = refusing.contains(&place);
            permit.finish(
                if fails { Outcome::ConnectFailed } else { Outcome::Responded { status: 200 } },
                crowd.client.now,
            );
        }
    };
    refuse(&mut crowd, 0..9);
    assert_eq!(crowd.shares(&table, 100)[9], 100);
    refuse(&mut crowd, 0..10);
    assert_eq!(crowd.shares(&table, 100)[..10].iter().sum::<u64>(), 0);
}

/// Every server of the own zone has at most 1 / 0.7 times its usual load, whatever is down, as long as others can help.
#[test]
fn nobody_is_flooded() {
    let table = table(&zoned(Policy::LeastRequest, None));
    let usual = 30_000.0 / 10.0;
    for down in 0..10 {
        set_down(&table, 0..down);
        let count = Crowd::new(3).shares(&table, 30_000);
        let most = *count[..10].iter().max().unwrap() as f64;
        assert!(most <= usual / 0.7 * 1.05, "{most} with {down} down");
    }
}

/// A node without a zone, one in a zone of nobody's, and policies that hash see no zones; backups have none.
#[test]
fn zones_that_do_not_count() {
    for policy in all_policies() {
        let mut spec = zoned(policy, None);
        let zones: [(Option<&str>, bool); 3] =
            [(None, false), (Some("nowhere"), false), (Some("here"), !policy.hashes())];
        for (zone, counts) in zones {
            spec.zone = zone.map(str::to_owned);
            let count = Crowd::new(4).shares(&table(&spec), 3_000);
            let elsewhere = count[10..].iter().sum::<u64>();
            assert_eq!(elsewhere == 0, counts, "{policy:?} in {zone:?}: {elsewhere}");
        }
    }
    let mut spec = zoned(Policy::RoundRobin, None);
    spec.backends[0].servers.iter_mut().take(10).for_each(|server| server.backup = true);
    spec.backends[0].servers.iter_mut().for_each(|server| server.weight = None);
    let count = Crowd::new(5).shares(&table(&spec), 300);
    assert_eq!(count[..10].iter().sum::<u64>(), 0, "a backup is a backup, wherever it stands");
}

/// The orders of two zones do not disturb each other: each is as smooth as if it were alone.
#[test]
fn each_zone_has_its_own_turns() {
    let mut spec = zoned(Policy::RoundRobin, None);
    spec.backends[0].servers.truncate(17);
    let table = table(&spec);
    set_down(&table, 0..6);
    let count = Crowd::new(6).shares(&table, 7_000);
    for zone in [&count[6..10], &count[10..]] {
        let (least, most) = (zone.iter().min().unwrap(), zone.iter().max().unwrap());
        assert!(most - least <= 1, "{count:?}");
    }
}
