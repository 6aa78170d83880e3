//! `max_connections`: never more open than there may be, and whoever has a permit finds a connection.

use super::*;
use lb_core::{Connection, ServerLive};
use proptest::prelude::*;
use std::sync::Arc;

fn bounded(mosts: &[(Option<u32>, Option<u32>)]) -> Spec {
    let servers = mosts.iter().enumerate().map(|(n, (max_requests, max_connections))| ServerSpec {
        max_requests: *max_requests,
        max_connections: *max_connections,
        ..server(&format!("s{n}"), 1)
    });
    one(Policy::LeastRequest, servers.collect())
}

/// What happens to the servers of a backend, whose connections are kept in two pools.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request comes, in front of this pool.
    Begin(usize),
    /// One of those under way ends: its connection goes back to its pool, or is closed.
    End(usize, bool),
    /// An idle connection is closed.
    Close(usize),
    /// A table with other bounds.
    Bound(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..2).prop_map(Step::Begin),
        3 => (0_usize..100, any::<bool>()).prop_map(|(which, keeps)| Step::End(which, keeps)),
        1 => (0_usize..100).prop_map(Step::Close),
        1 => (1_u32..6).prop_map(Step::Bound),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Requests come and end in any order over two pools, and bounds change under way: no server has more connections
    /// than it may (what a lowered bound finds in use may stay), and whoever has a permit makes one or finds an idle
    /// one somewhere.
    #[test]
    fn a_permit_is_good_for_a_connection(
        most in 1_u32..5,
        steps in prop::collection::vec(step(), 1..120),
        seed: u64,
    ) {
        let mut table = table(&bounded(&[(None, Some(most)), (Some(2), Some(most))]));
        let mut crowd = Crowd::new(seed);
        let mut under_way: Vec<(usize, Permit, Connection)> = Vec::new();
        let mut idle: Vec<(usize, Connection)> = Vec::new();
        for step in steps {
            match step {
                Step::Begin(pool) => {
                    crowd.number += 1;
                    crowd.client.random = bits(seed << 32 ^ crowd.number);
                    let decision = crowd.client.decide(&table);
                    let taken = decision.take(&table, &mut crowd.client.cursors, crowd.client.now);
                    let Some(permit) = taken else { continue };
                    let is_its = |(_, it): &(usize, Connection)| Arc::ptr_eq(it.server(), permit.server());
                    let own = idle.iter().position(|it| it.0 == pool && is_its(it));
                    let connection = match own {
                        Some(at) => Some(idle.swap_remove(at).1),
                        None => permit.server().connect(),
                    };
                    let connection = connection.or_else(|| {
                        let at = idle.iter().position(is_its)?;
                        Some(idle.swap_remove(at).1)
                    });
                    prop_assert!(connection.is_some(), "a permit without a connection");
                    under_way.extend(connection.map(|connection| (pool, permit, connection)));
                }
                Step::End(which, keeps) if !under_way.is_empty() => {
                    let (pool, permit, connection) = under_way.swap_remove(which % under_way.len());
                    if keeps && !permit.has_excess_connections() {
                        idle.push((pool, connection));
                    } else {
                        drop(connection);
                    }
                    permit.finish(Outcome::Responded { status: 200 }, crowd.client.now);
                }
                Step::Close(which) if !idle.is_empty() => {
                    drop(idle.swap_remove(which % idle.len()));
                }
                Step::Bound(most) => {
                    let spec = bounded(&[(None, Some(most)), (Some(2), Some(most))]);
                    table = Table::new(lb_core::compile(&spec).unwrap().snapshot, Some(&table));
                    while let Some(at) = idle.iter().position(|(_, it)| it.server().has_excess_connections()) {
                        drop(idle.swap_remove(at));
                    }
                }
                Step::End(..) | Step::Close(_) => {}
            }
            for live in table.live.servers() {
                let most = live.max_connections().unwrap();
                prop_assert!(live.connections() <= most.max(live.in_flight()), "{:?}", live.identity());
            }
        }
        drop((under_way, idle));
        prop_assert!(table.live.servers().iter().all(|live| (live.connections(), live.in_flight()) == (0, 0)));
    }
}

/// Idle connections fill no server, and a server with a free connection is picked before one without.
#[test]
fn full_is_who_has_all_connections_in_use() {
    let table = table(&bounded(&[(None, Some(1)), (Some(5), Some(2))]));
    let servers = table.live.servers();
    let idle: Vec<Connection> = servers.iter().map(|live| live.connect().unwrap()).collect();
    assert!(servers.iter().all(|live| live.has_room()));
    let mut crowd = Crowd::new(1);
    let held: Vec<(usize, Permit)> = (0..3).map(|_| crowd.next(&table)).collect();
    let of = |place: usize| held.iter().filter(|(at, _)| *at == place).count();
    assert_eq!((of(0), of(1)), (1, 2), "as many as connections, not as `max_requests` says");
    assert!(servers.iter().all(|live| !live.has_room()));
    assert_eq!(servers.iter().map(|live| live.connections()).sum::<u32>(), 2);
    drop((held, idle));
    assert!(servers.iter().all(|live| live.has_room() && live.connections() == 0));
}

/// Without a bound connections are counted all the same, or a bound that comes later would begin at nothing.
#[test]
fn a_bound_that_comes_later_knows_what_is_open() {
    let before = table(&bounded(&[(None, None)]));
    let live: &Arc<ServerLive> = &before.live.servers()[0];
    let open: Vec<Connection> = (0..3).map(|_| live.connect().unwrap()).collect();
    assert!(!live.has_excess_connections());
    let snapshot = lb_core::compile(&bounded(&[(None, Some(2))])).unwrap().snapshot;
    let after = Table::new(snapshot, Some(&before));
    let live = &after.live.servers()[0];
    assert!(live.has_excess_connections() && live.connect().is_none());
    assert_eq!((live.connections(), live.max_connections()), (3, Some(2)));
    drop(open);
    assert!(live.connect().is_some());
}
