//! Stickiness: a session stays with its server as long as it can.

use crate::support::*;
use lb_core::spec::*;
use lb_core::{Health, PickReason, Table, Why, compile};
use std::collections::HashMap;

fn sticky(servers: Vec<ServerSpec>) -> Spec {
    let mut app = backend("app", Policy::RoundRobin, servers);
    app.sticky = Some(StickySpec::default());
    Spec { routes: vec![route("shop", "app")], backends: vec![app], ..spec() }
}

fn abc() -> Vec<ServerSpec> {
    vec![server("a", 1), server("b", 1), server("c", 1), backup("spare")]
}

/// Clients that are at home somewhere, from different addresses.
fn clients(table: &Table, count: u64) -> Vec<(Client, String)> {
    let mut cursors = lb_core::Cursors::default();
    (0..count)
        .map(|number| {
            let mut client = Client::new(bits(number));
            client.source = std::net::Ipv4Addr::from(0xc000_0200 + number as u32).into();
            client.cursors = cursors.clone();
            let (decision, _permit) = client.request(table);
            cursors = client.cursors.clone();
            (client, whereto(table, &decision).1)
        })
        .collect()
}

#[test]
fn sessions_stay_through_unrelated_changes() {
    let before = table(&sticky(abc()));
    let homes = clients(&before, 30);
    assert!(["a", "b", "c"].iter().all(|name| homes.iter().any(|(_, home)| home == name)));

    let mut changed = sticky(abc());
    changed.backends[0].servers.reverse();
    changed.backends[0].servers.insert(1, server("d", 200));
    changed.backends[0].balance = Policy::LeastRequest;
    changed.backends[0].servers.iter_mut().for_each(|it| it.admin = Admin::Drain);
    changed.backends[0].servers.iter_mut().find(|it| it.name == "a").unwrap().weight = Some(0);
    // A literal address belongs to its entry: the server that moved is the same to its sessions.
    changed.backends[0].servers.iter_mut().find(|it| it.name == "b").unwrap().address =
        Address::Literal(address("10.9.9.9:9"));
    changed.backends.insert(0, backend("other", Policy::RoundRobin, vec![server("x", 1)]));
    let after = Table::new(compile(&changed).unwrap().snapshot, Some(&before));
    for (mut client, home) in homes {
        let (decision, _permit) = client.request(&after);
        assert_eq!(whereto(&after, &decision).1, home);
        assert_eq!(decision.pick_reason(), PickReason::Sticky);
    }
}

#[test]
fn names_that_resolve_are_told_apart_by_address() {
    let resolved = |addresses: &[&str]| ServerSpec {
        name: "pods".into(),
        address: Address::Resolved(addresses.iter().map(|it| address(it)).collect()),
        ..ServerSpec::default()
    };
    let before = table(&sticky(vec![resolved(&["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])]));
    let after = table(&sticky(vec![resolved(&["10.0.0.9:80", "10.0.0.3:80", "10.0.0.2:80"])]));
    for (mut client, _) in clients(&before, 12) {
        let (old, _permit) = client.request(&before);
        let (new, _permit) = client.request(&after);
        let address = |table: &Table, it| table.snapshot.server(it).address();
        let (old, reason) = (address(&before, old.server()), new.pick_reason());
        if old.to_string() == "10.0.0.1:80" {
            assert_eq!(reason, PickReason::Moved);
        } else {
            assert_eq!((address(&after, new.server()), reason), (old, PickReason::Sticky));
        }
    }
}

#[test]
fn a_session_that_must_move_goes_where_every_node_would_send_it() {
    let (here, there) = (table(&sticky(abc())), table(&sticky(abc())));
    let homes = clients(&here, 60);
    for table in [&here, &there] {
        live(table, "a").set_health(Health::Down(Why::Timeout));
    }
    let mut next: HashMap<String, u32> = HashMap::new();
    for (mut client, home) in homes {
        let (elsewhere, _permit) = client.request(&there);
        client.cookies.retain(|(name, _)| name != "lb_app");
        let _ = client;
        if home != "a" {
            assert_eq!(whereto(&there, &elsewhere).1, home);
            continue;
        }
        assert_eq!(elsewhere.pick_reason(), PickReason::Moved);
        *next.entry(whereto(&there, &elsewhere).1).or_default() += 1;
    }
    assert_eq!(next.len(), 2, "the sessions of a lost server spread: {next:?}");
}

#[test]
fn moving_to_a_primary_sets_the_cookie_and_a_backup_never_does() {
    let table = table(&sticky(abc()));
    let (mut client, home) = clients(&table, 1).pop().unwrap();
    let first = client.cookie("lb_app").unwrap().to_owned();
    live(&table, &home).set_admin(Admin::Maintenance);
    let (moved, _permit) = client.request(&table);
    assert_eq!(moved.pick_reason(), PickReason::Moved);
    let second = client.cookie("lb_app").unwrap().to_owned();
    assert_ne!(first, second);

    for name in ["a", "b", "c"] {
        live(&table, name).set_admin(Admin::Maintenance);
    }
    let (on_backup, _permit) = client.request(&table);
    assert!(on_backup.backup());
    assert_eq!(client.cookie("lb_app"), Some(second.as_str()));

    for name in ["a", "b", "c"] {
        live(&table, name).set_admin(Admin::Ready);
    }
    let (returned, _permit) = client.request(&table);
    assert_eq!(whereto(&table, &returned).1, whereto(&table, &moved).1);
}

#[test]
fn drain_keeps_its_own_until_its_deadline() {
    let table = table(&sticky(abc()));
    let (mut client, home) = clients(&table, 1).pop().unwrap();
    live(&table, &home).set_admin(Admin::Drain);
    for random in 0..30 {
        let mut stranger = Client::new(bits(1_000 + random));
        stranger.cursors = client.cursors.clone();
        let (decision, _permit) = stranger.request(&table);
        client.cursors = stranger.cursors;
        assert_ne!(whereto(&table, &decision).1, home);
    }
    assert_eq!(whereto(&table, &client.decide(&table)).1, home);
    let server = live(&table, &home);
    assert_eq!((server.drain_deadline(), server.is_left_alone(client.now)), (None, false));
    server.set_drain_deadline(Some(client.now));
    assert_ne!(whereto(&table, &client.decide(&table)).1, home);
    assert_eq!((server.drain_deadline(), server.is_left_alone(client.now)), (Some(client.now), true));
    server.set_drain_deadline(Some(client.now + std::time::Duration::from_nanos(1)));
    assert_eq!(whereto(&table, &client.decide(&table)).1, home);
    assert!(!server.is_left_alone(client.now));
    // Whatever ends the drain ends its deadline.
    for (admin, alone) in [(Admin::Maintenance, true), (Admin::Ready, false), (Admin::Drain, false)] {
        server.set_admin(admin);
        assert_eq!((server.drain_deadline(), server.is_left_alone(client.now)), (None, alone), "{admin}");
    }
}

#[test]
fn forged_and_foreign_cookies_name_nobody() {
    let mut first = sticky(abc());
    let here = table(&first);
    let (client, home) = clients(&here, 1).pop().unwrap();
    let value = client.cookie("lb_app").unwrap().to_owned();
    assert_eq!(value.len(), 22);
    assert!(!value.contains(&home) || home.len() == 1, "opaque");

    for forged in ["", "a", "AAAAAAAAAAAAAAAAAAAAAA", &value[..21], &format!("{value}A")] {
        let client = Client::new(1).with_cookie("lb_app", forged);
        assert_eq!(client.decide(&here).pick_reason(), PickReason::Moved, "{forged:?}");
    }
    first.secrets.signing[0].key = SecretKey::new([77; 16]);
    let elsewhere = table(&first);
    let client = Client::new(1).with_cookie("lb_app", &value);
    assert_eq!(client.decide(&elsewhere).pick_reason(), PickReason::Moved);

    // Rotation: the old key verifies, and the cookie is signed anew.
    first.secrets.signing.push(SigningKey { id: "old".into(), key: SecretKey::new([1; 16]) });
    let rotated = table(&first);
    let mut client = Client::new(1).with_cookie("lb_app", &value);
    let (decision, _permit) = client.request(&rotated);
    assert_eq!((whereto(&rotated, &decision).1, decision.pick_reason()), (home, PickReason::Sticky));
    assert_ne!(client.cookie("lb_app"), Some(value.as_str()));
}
