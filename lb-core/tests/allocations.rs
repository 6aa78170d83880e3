//! Once warm, no request allocates: not to decide, charge, take, try again, write cookies or finish.

use lb_core::spec::*;
use lb_core::{Cursors, Health, Outcome, RequestView, Table, Verdict, Why, compile, decide};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a
// destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn backend(name: &str, balance: Policy, count: u8) -> BackendSpec {
    let server = |number: u8| ServerSpec {
        name: format!("s{number}"),
        address: Address::Literal(([10, 0, 0, number + 1], 80).into()),
        weight: Some(u32::from(number % 3) + 1),
        zone: Some(format!("z{}", number % 2)),
        ..ServerSpec::default()
    };
    BackendSpec {
        name: name.into(),
        balance,
        sticky: Some(StickySpec::default()),
        slow_start: Some(Duration::from_secs(200)),
        fail_open_below: Some(Share::percent(50)),
        max_load_percent: balance.hashes().then_some(125),
        servers: (0..count).map(server).collect(),
        ..BackendSpec::default()
    }
}

/// Every stage in use: suffix hosts, prefixes, an expression, conditions, rates, a split, stickiness, every policy, slow start,
/// zones, a bound on the load and a share below which health is ignored.
fn spec() -> Spec {
    let key = SecretKey::new([7; 16]);
    let canary = |backend: &str| CanarySpec {
        backend: backend.into(),
        share: "50%".parse().unwrap(),
        cookie: Some("canary".into()),
        ..CanarySpec::default()
    };
    let route = |name: &str, path: PathMatch, stable: &str, other: &str| RouteSpec {
        name: name.into(),
        hosts: vec!["*.example.com".into()],
        path,
        backend: Some(stable.into()),
        canary: Some(CanarySpec { mark_cookie: Some(format!("mark_{name}")), ..canary(other) }),
        headers: vec![ValueMatch { name: "accept".into(), test: ValueTest::Regex("text/.*".into()) }],
        query: vec![ValueMatch { name: "q".into(), test: ValueTest::Is("a b".into()) }],
        rate: Some(RateSpec::new(1, Duration::from_secs(1))),
        ..RouteSpec::default()
    };
    Spec {
        secrets: Secrets { signing: vec![SigningKey { id: "k".into(), key }], share: Some(key) },
        zone: Some("z1".into()),
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        routes: vec![
            route("turns", PathMatch::Prefix("/turns/%41".into()), "turns", "hashed"),
            route("least", PathMatch::Exact("/least".into()), "least", "turns"),
            route("hashed", PathMatch::Regex("/hashed/[0-9]+".into()), "hashed", "least"),
            route("latency", PathMatch::Exact("/latency".into()), "latency", "drawn"),
            route("table", PathMatch::Exact("/table".into()), "table", "latency"),
        ],
        backends: vec![
            backend("turns", Policy::RoundRobin, 5),
            backend("least", Policy::LeastRequest, 9),
            backend("hashed", Policy::Rendezvous, 7),
            backend("latency", Policy::PeakEwma, 8),
            backend("drawn", Policy::Random, 6),
            backend("table", Policy::Maglev, 5),
        ],
        ..Spec::default()
    }
}

/// One exchange with a failed first attempt; returns how many cookie lines there were.
fn exchange(
    table: &Table,
    cursors: &mut Cursors,
    out: &mut Vec<u8>,
    path: &[u8],
    cookie: &[u8],
    n: u64,
) -> usize {
    let fields = [(&b"accept"[..], &b"text/html"[..]), (b"cookie", cookie)];
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"Shop.Example.com:8080",
        path,
        query: Some(b"x=1&q=a+b"),
        fields: &fields,
        source: "192.0.2.1".parse().unwrap(),
        secure: true,
    };
    let now = Duration::from_secs(n);
    let random = u128::from(lb_core::hash::mix(n)) << 64 | u128::from(n);
    let verdict = decide(table, cursors, &view, now, random);
    // Every second one is over its rate.
    let charged = verdict.charge(table, &view, now);
    assert!(charged.is_ok() || charged.is_err_and(|refusal| refusal.status() == 429));
    let Verdict::Forward(decision) = verdict else { panic!("{path:?}") };
    let permit = decision.take(table, cursors, now).expect("no bound");
    permit.finish(Outcome::ConnectFailed, now);
    let again = decision.again(table, cursors, &[decision.server()], now, random).expect("another server");
    let permit = again.take(table, cursors, now).expect("no bound");
    out.clear();
    again.write_cookies(table, true, out);
    permit.finish(Outcome::Responded { status: 200 }, now);
    out.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn a_warm_request_allocates_nothing() {
    let table = Table::new(compile(&spec()).unwrap().snapshot, None);
    let mut cursors = Cursors::new(3);
    cursors.fit(&table);
    let mut out = Vec::with_capacity(4096);
    let mut run = |from: u64, to: u64| {
        let before = ALLOCATIONS.with(Cell::get);
        let mut lines = 0;
        let servers = table.live.servers();
        for n in from..to {
            // One goes down in every round, and the one before comes up.
            servers[n as usize % servers.len()].set_health(Health::Down(Why::Told));
            servers[(n as usize + 1) % servers.len()].set_health(Health::Up);
            servers[(n as usize + servers.len() - 1) % servers.len()].set_health(Health::Up);
            for path in [&b"/turns/%41/x%2Fy"[..], b"/least", b"/hashed/77", b"/latency", b"/table"] {
                for cookie in [&b""[..], b"a=1; canary=always; lb_turns=x; lb_session=AAAAAAAAAAAAAAAAAAAAAA"]
                {
                    lines += exchange(&table, &mut cursors, &mut out, path, cookie, n);
                }
            }
        }
        (ALLOCATIONS.with(Cell::get) - before, lines)
    };
    // The regular expressions make their scratch memory at first use.
    run(0, 50);
    let (allocations, lines) = run(50, 500);
    assert!(lines > 1_000, "cookies were written: {lines}");
    assert_eq!(allocations, 0);
}
