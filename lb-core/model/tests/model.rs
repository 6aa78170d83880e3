//! Every order of events that threads can get into, within a bound on preemptions, with lb-core's own files under
//! loom (Norris and Demsky, "CDSChecker", 2013): publish against read, permits' counters, the word of state.
//!
//! Loom and not a scheduler of sequential steps, because the counters are relaxed atomics: loom also tries what a
//! load may see that is not the latest store.

use lb_core_model as lb_core;

use lb_core::spec::{Address, Admin, BackendSpec, RateSpec, RouteSpec, Secrets, ServerSpec, Spec};
use lb_core::{
    Handle, Health, Identity, Outcome, Permit, Reader, RequestView, RouteIndex, SecretKey, ServerLive,
    Snapshot, Table, Verdict, Why, compile, decide,
};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Preemptions in one run at most. Most bugs of this kind need one or two (Musuvathi and Qadeer, "Iterative context
/// bounding", 2007); without a bound the runs would not end.
const PREEMPTIONS_MAX: usize = 3;

const NOW: Duration = Duration::from_secs(1);

/// Runs a model in every order; there must be at least so many, or the checker has not seen what depends on what.
fn check(orders_min: usize, model: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    let orders = orders.load(Relaxed);
    assert!(orders >= orders_min, "only {orders} orders");
}

/// A backend with servers of these names.
fn snapshot(names: &[&str]) -> Snapshot {
    snapshot_with(names, None)
}

/// The same, with a bound on each one's connections.
fn snapshot_with(names: &[&str], max_connections: Option<u32>) -> Snapshot {
    let server = |name: &&str| ServerSpec {
        name: (*name).into(),
        address: Address::Literal(([10, 0, 0, name.as_bytes()[0]], 80).into()),
        max_connections,
        ..ServerSpec::default()
    };
    let spec = Spec {
        routes: vec![RouteSpec { name: "r".into(), backend: Some("app".into()), ..RouteSpec::default() }],
        backends: vec![BackendSpec {
            name: "app".into(),
            servers: names.iter().map(server).collect(),
            ..BackendSpec::default()
        }],
        ..Spec::default()
    };
    compile(&spec).expect("a valid spec").snapshot
}

fn live(table: &Table, name: &str) -> Option<Arc<ServerLive>> {
    table.live.servers().iter().find(|live| live.name() == name).cloned()
}

fn one_server() -> Arc<ServerLive> {
    let address = ([10, 0, 0, 1], 80).into();
    Arc::new(ServerLive::new(Identity { backend: "app".into(), name: "a".into(), address }))
}

/// One attempt, begun with what the reader sees; how many servers its table has.
fn begin(reader: &mut Reader) -> (Permit, usize) {
    let (permit, servers) = try_begin(reader);
    (permit.expect("no bound"), servers)
}

/// The same, if the server has room.
fn try_begin(reader: &mut Reader) -> (Option<Permit>, usize) {
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"example.test",
        path: b"/",
        query: None,
        fields: &(),
        source: [192, 0, 2, 1].into(),
        secure: false,
    };
    let (table, cursors) = reader.current();
    let Verdict::Forward(decision) = decide(table, cursors, &view, NOW, 1) else { panic!("a server is up") };
    (decision.take(table, cursors, NOW), table.snapshot.servers().len())
}

/// Readers see tables in the order in which they were published, and the last one as soon as they know of it; attempts
/// that span a publish are counted where the server goes on.
#[test]
fn publish_against_read() {
    check(1_000, || {
        let handle = Handle::new(snapshot(&["a"]));
        let publisher = {
            let handle = handle.clone();
            thread::spawn(move || {
                handle.publish(snapshot(&["a", "b"]));
                handle.publish(snapshot(&["a", "b", "c"]));
            })
        };
        let mut reader = handle.reader(0);
        let (first, seen_first) = begin(&mut reader);
        let (second, seen_second) = begin(&mut reader);
        assert!(seen_first <= seen_second, "{seen_first}, then {seen_second}");
        first.finish(Outcome::Responded { status: 200 }, NOW);
        publisher.join().expect("it does not panic");
        assert_eq!(reader.current().0.snapshot.servers().len(), 3, "the reader knows that both are out");
        second.finish(Outcome::Failed, NOW);
        let servers = handle.load().live.servers().to_vec();
        let counters: Vec<_> = servers.iter().map(|live| live.counters()).collect();
        assert_eq!(
            counters.iter().map(|it| it.picked()).sum::<u64>(),
            2,
            "none is counted in a table that is gone"
        );
        assert_eq!(counters.iter().map(|it| it.in_flight).sum::<u32>(), 0);
    });
}

/// Of two publishers none brings back what the other has replaced: a server that both have is one.
#[test]
fn publishers_take_turns() {
    check(20, || {
        let handle = Handle::new(snapshot(&["a"]));
        let publisher = |names: &'static [&'static str]| {
            let handle = handle.clone();
            thread::spawn(move || handle.publish(snapshot(names)))
        };
        let (one, other) = (publisher(&["a", "n"]), publisher(&["n", "a"]));
        let (one, other) = (one.join().expect("it ends"), other.join().expect("it ends"));
        let last = handle.load();
        assert!(Arc::ptr_eq(&last, &one) || Arc::ptr_eq(&last, &other));
        for name in ["a", "n"] {
            let (one, other) = (live(&one, name).expect("it has it"), live(&other, name).expect("it has it"));
            assert!(Arc::ptr_eq(&one, &other), "{name} has one live state");
        }
    });
}

/// What a publisher sets before publishing is what every reader finds.
#[test]
fn prepared_before_it_is_seen() {
    check(20, || {
        let handle = Handle::new(snapshot(&["a"]));
        let publisher = {
            let handle = handle.clone();
            thread::spawn(move || {
                handle.publish_with(snapshot(&["a", "b"]), |table| {
                    let new = live(table, "b").expect("it is in the snapshot");
                    new.set_health(Health::Down(Why::Told));
                });
            })
        };
        let mut reader = handle.reader(0);
        let (table, _) = reader.current();
        let health = live(table, "b").map(|live| live.health());
        assert!(matches!(health, None | Some(Health::Down(Why::Told))), "{health:?}");
        publisher.join().expect("it ends");
    });
}

/// Whoever counts at the same time, nothing is lost, and nobody ever sees more in flight than there is.
#[test]
fn counters_add_up() {
    check(1_000, || {
        let handle = Handle::new(snapshot(&["a"]));
        let attempt = |outcome| {
            let handle = handle.clone();
            thread::spawn(move || {
                let (permit, _) = begin(&mut handle.reader(0));
                permit.finish(outcome, NOW);
            })
        };
        let attempts = [attempt(Outcome::Responded { status: 200 }), attempt(Outcome::ConnectFailed)];
        let a = live(&handle.load(), "a").expect("it is there");
        let seen = a.in_flight();
        assert!(seen <= 2, "{seen}");
        attempts.into_iter().for_each(|attempt| attempt.join().expect("it ends"));
        let counters = a.counters();
        assert_eq!((counters.in_flight, counters.responded[2], counters.connect_failed), (0, 1, 1));
    });
}

/// Connections that fail together take a server out once, for the first time's length.
#[test]
fn failures_together_count_once() {
    check(1_000, || {
        let handle = Handle::new(snapshot(&["a"]));
        let attempts: Vec<_> = (0..2).map(|_| begin(&mut handle.reader(0)).0).collect();
        let ends = attempts
            .into_iter()
            .map(|permit| thread::spawn(move || permit.finish(Outcome::ConnectFailed, NOW)))
            .collect::<Vec<_>>();
        ends.into_iter().for_each(|end| end.join().expect("it ends"));
        let a = live(&handle.load(), "a").expect("it is there");
        assert_eq!(a.removed_until(), NOW + lb_core::defaults::REMOVAL_FIRST);
    });
}

/// A table in which each client may make one request.
fn rated() -> Arc<Table> {
    let rate = RateSpec { burst: Some(1), ..RateSpec::new(1, Duration::from_secs(60)) };
    let spec = Spec {
        secrets: Secrets { share: Some(SecretKey::new([7; 16])), ..Secrets::default() },
        routes: vec![RouteSpec { rate: Some(rate), ..RouteSpec::new("r", "app") }],
        backends: vec![BackendSpec { name: "app".into(), ..BackendSpec::default() }],
        ..Spec::default()
    };
    Arc::new(Table::new(compile(&spec).expect("a valid spec").snapshot, None))
}

/// A request of a client, on a thread of its own: whether it is taken.
fn charge(table: &Arc<Table>, client: u8) -> thread::JoinHandle<bool> {
    let table = Arc::clone(table);
    thread::spawn(move || is_taken(&table, client))
}

fn is_taken(table: &Table, client: u8) -> bool {
    let view = RequestView::get("example.test", "/", [192, 0, 2, client].into());
    Verdict::Answer(RouteIndex(0)).charge(table, &view, NOW).is_ok()
}

/// Of two requests of a new client at once exactly one is taken: they find one cell, and it is charged once.
#[test]
fn a_client_is_charged_for_all_of_its_requests() {
    check(100, || {
        let table = rated();
        let requests = [charge(&table, 1), charge(&table, 1)];
        let taken = requests.map(|request| request.join().expect("it ends"));
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
        assert!(!is_taken(&table, 1), "and no more later");
    });
}

/// Clients that come at once, more than there are cells: all end, and the table goes on. In the instant in which two
/// take one cell, a charge may meet the other of them; never more than that.
#[test]
fn clients_that_come_at_once_share_a_table() {
    check(100, || {
        let table = rated();
        assert!(is_taken(&table, 1));
        let requests = [charge(&table, 2), charge(&table, 3)];
        let taken = requests.map(|request| request.join().expect("it ends"));
        assert!(taken.contains(&true), "{taken:?}");
        assert!(is_taken(&table, 4), "a newcomer is not refused for what others did");
        assert!(!is_taken(&table, 4));
    });
}

/// The two axes of a server's state share a word and not their changes.
#[test]
fn both_axes_keep_what_was_said() {
    check(20, || {
        let server = one_server();
        let other = {
            let server = Arc::clone(&server);
            thread::spawn(move || server.set_admin(Admin::Drain))
        };
        server.set_health(Health::Down(Why::Timeout));
        other.join().expect("it ends");
        assert_eq!((server.admin(), server.health()), (Admin::Drain, Health::Down(Why::Timeout)));
    });
}

/// Of two attempts at a server that may have one connection, whoever has a permit can have the connection: it is closed,
/// and seen to be, before the next permit is given. There is never more than one.
#[test]
fn a_permit_is_good_for_a_connection() {
    check(100, || {
        let handle = Handle::new(snapshot_with(&["a"], Some(1)));
        let attempt = |handle: Handle| {
            if let Some(permit) = try_begin(&mut handle.reader(0)).0 {
                let connection = permit.server().connect();
                assert!(connection.is_some(), "a permit and no connection");
                assert_eq!(permit.connections(), 1);
                drop(connection);
                permit.finish(Outcome::Responded { status: 200 }, NOW);
            }
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let handle = handle.clone();
                thread::spawn(move || attempt(handle))
            })
            .collect();
        others.into_iter().for_each(|other| other.join().expect("it ends"));
        let a = live(&handle.load(), "a").expect("it is there");
        assert_eq!((a.connections(), a.in_flight()), (0, 0));
    });
}
