//! The handle as it is shipped, with threads. What orders of events there are is tried in `model/`.

use lb_core::spec::*;
use lb_core::{
    CompileError, Cursors, Decision, Explanation, Handle, Live, Monitor, NetworkError, Outcome, Permit,
    Problem, Reader, Refusal, RequestView, RetryBudget, ServerLive, ShareError, Snapshot, Table, Verdict,
    compile, decide,
};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1);
const PUBLISHED: u32 = 200;

/// One backend with one server, whose weight tells which snapshot it is.
fn snapshot(number: u32) -> Snapshot {
    let server = ServerSpec {
        name: "a".into(),
        address: Address::Literal(([10, 0, 0, 1], 80).into()),
        weight: Some(number),
        ..ServerSpec::default()
    };
    let backend = BackendSpec { name: "app".into(), servers: vec![server], ..BackendSpec::default() };
    let route = RouteSpec { name: "r".into(), backend: Some("app".into()), ..RouteSpec::default() };
    let spec = Spec { routes: vec![route], backends: vec![backend], ..Spec::default() };
    compile(&spec).unwrap().snapshot
}

fn number(table: &Table) -> u32 {
    table.snapshot.servers()[0].weight
}

/// One exchange; the number of the snapshot that it was decided by.
fn exchange(reader: &mut Reader) -> u32 {
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
    let permit = decision.take(table, cursors, NOW).expect("no bound");
    permit.finish(Outcome::Responded { status: 200 }, NOW);
    number(table)
}

#[test]
fn readers_follow_and_nothing_is_lost() {
    let handle = Handle::new(snapshot(1));
    let exchanges: u64 = thread::scope(|scope| {
        let readers: Vec<_> = (1..=3)
            .map(|seed| {
                let mut reader = handle.reader(seed);
                scope.spawn(move || {
                    let (mut seen, mut exchanges) = (0, 0_u64);
                    while seen < PUBLISHED {
                        let now = exchange(&mut reader);
                        assert!(seen <= now, "{seen}, then {now}");
                        (seen, exchanges) = (now, exchanges + 1);
                    }
                    exchanges
                })
            })
            .collect();
        for number in 2..=PUBLISHED {
            handle.publish(snapshot(number));
        }
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    let counters = handle.load().live.servers()[0].counters();
    assert_eq!((counters.in_flight, counters.responded[2]), (0, exchanges));
}

#[test]
fn a_table_lives_as_long_as_somebody_reads_it() {
    let handle = Handle::new(snapshot(1));
    let mut reader = handle.reader(1);
    let first = Arc::downgrade(reader.current().0);
    let second = handle.publish(snapshot(2));
    assert!(first.upgrade().is_some(), "the reader keeps it until it looks again");
    assert!(Arc::ptr_eq(reader.current().0, &second));
    assert!(first.upgrade().is_none());
    assert!(Arc::ptr_eq(&handle.load(), &second));
}

#[test]
fn a_publisher_that_panics_has_published_nothing() {
    let handle = Handle::with(Table::new(snapshot(1), None));
    let other = handle.clone();
    let panicked = std::panic::catch_unwind(move || other.publish_with(snapshot(2), |_| panic!("no")));
    assert!(panicked.is_err());
    assert_eq!(number(&handle.load()), 1);
    handle.publish(snapshot(3));
    assert_eq!(number(&handle.load()), 3);
}

#[test]
fn what_crosses_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Handle>();
    shared::<Table>();
    shared::<Snapshot>();
    shared::<Live>();
    shared::<ServerLive>();
    shared::<Permit>();
    // What belongs to one thread at a time may still move, and be looked at from another.
    shared::<Reader>();
    shared::<Cursors>();
    shared::<Monitor>();
    shared::<RetryBudget>();
    shared::<Spec>();
    shared::<Verdict>();
    shared::<Decision>();
    shared::<Explanation>();
    // As `Box<dyn Error + Send + Sync>` asks of them.
    fn error<T: std::error::Error + Send + Sync + 'static>() {}
    error::<CompileError>();
    error::<Problem>();
    error::<Refusal>();
    error::<ShareError>();
    error::<NetworkError>();
    error::<PolicyError>();
}
