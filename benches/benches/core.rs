//! What deciding costs, without any I/O: `cargo bench -p benches --bench core`.
//!
//! - `find`: one of 1, 10 and 10,000 routes by host and path prefix. The cost may not grow with their number.
//! - `pick`: by each policy one of 3, 100 and 1,000 servers, taken and finished.
//! - `session`: a route with a split and sticky backends, for a new session and for one that comes back.
//! - `explain`: the same as `session/known`, in words.
//!
//! What is called `baseline` is one look-up in a `HashMap` and one SipHash-2-4-128 over the bytes that the decision
//! beside it reads: nobody who finds a route and agrees with others on a share can do with less. `lookup` is the look-up
//! alone, with the map's own SipHash. `docs/performance.md` says which ratios between these we hold ourselves to.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::hash::siphash_2_4_128;
use lb_core::spec::{
    Address, BackendSpec, CanarySpec, ListenerSpec, PathMatch, Policy, RouteSpec, Secrets, ServerSpec,
    SigningKey, StickySpec,
};
use lb_core::{
    Cursors, Decision, Fields, Outcome, RequestView, SecretKey, Spec, Table, Verdict, compile, decide,
    explain,
};

const KEY: [u8; 16] = *b"0123456789abcdef";
const NOW: Duration = Duration::from_secs(1);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Requests are spread over so many different ones, so that caches and branches are not flattered.
const DIFFERENT: usize = 997;

fn backend(name: &str, balance: Policy, servers: usize) -> BackendSpec {
    let server = |index: usize| ServerSpec {
        name: format!("s{index}"),
        address: Address::Literal(SocketAddr::new(SOURCE, 1 + index as u16)),
        ..ServerSpec::default()
    };
    BackendSpec {
        name: name.into(),
        balance,
        servers: (0..servers).map(server).collect(),
        ..BackendSpec::default()
    }
}

fn table(routes: Vec<RouteSpec>, backends: Vec<BackendSpec>) -> Table {
    let key = SecretKey::new(KEY);
    let spec = Spec {
        secrets: Secrets { signing: vec![SigningKey { id: "a".into(), key }], share: Some(key) },
        listeners: vec![ListenerSpec { name: "web".into(), ..ListenerSpec::default() }],
        routes,
        backends,
        ..Spec::default()
    };
    Table::new(compile(&spec).expect("a valid spec").snapshot, None)
}

fn view<'a, F: Fields + ?Sized>(host: &'a [u8], path: &'a [u8], fields: &'a F) -> RequestView<'a, F> {
    RequestView {
        listener: 0,
        method: b"GET",
        host,
        path,
        query: None,
        fields,
        source: SOURCE,
        secure: false,
    }
}

fn forward<F: Fields + ?Sized>(
    table: &Table,
    cursors: &Cursors,
    view: &RequestView<'_, F>,
    random: u128,
) -> Decision {
    match decide(table, cursors, view, NOW, random) {
        Verdict::Forward(decision) => decision,
        other => panic!("not forwarded: {other:?}"),
    }
}

/// Different bits each time, for next to nothing.
fn next_random(state: &mut u128) -> u128 {
    *state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
    *state ^ (*state >> 64)
}

/// One look-up and one hash, for requests of which each is what is looked up and what is hashed.
fn baseline<'a>(
    bencher: &mut Bencher<'_>,
    known: impl Iterator<Item = String>,
    requests: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) {
    let known: HashMap<String, usize> = known.zip(0..).collect();
    let key = black_box(SecretKey::new(KEY));
    let mut turn = requests.cycle();
    bencher.iter(|| {
        let (path, hashed) = black_box(turn.next().expect("an endless cycle"));
        (known.get(path).copied(), siphash_2_4_128(&key, hashed.as_bytes()))
    });
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    for count in [1, 10, 10_000] {
        let name = |index: usize| (format!("h{}.example.test", index % 100), format!("/p{}", index / 100));
        let route = |index: usize| {
            let (host, prefix) = name(index);
            RouteSpec {
                name: format!("r{index}"),
                hosts: vec![host],
                path: PathMatch::Prefix(prefix),
                backend: Some("app".into()),
                ..RouteSpec::default()
            }
        };
        let table = table((0..count).map(route).collect(), vec![backend("app", Policy::RoundRobin, 1)]);
        let requests: Vec<(String, String)> = (0..DIFFERENT)
            .map(|number| name(number * 7919 % count))
            .map(|(host, prefix)| (host, format!("{prefix}/cart/7")))
            .collect();
        let mut cursors = Cursors::new(1);
        cursors.fit(&table);
        let mut turn = requests.iter().cycle();
        group.bench_function(BenchmarkId::new("routes", count), |bencher| {
            bencher.iter(|| {
                let (host, path) = turn.next().expect("an endless cycle");
                let view = view(host.as_bytes(), path.as_bytes(), &());
                black_box(decide(&table, &cursors, black_box(&view), NOW, 1))
            });
        });
        // What nobody can do without: one look-up of the route, by host and path, and one keyed hash of the same.
        let known: HashMap<String, u32> =
            (0..count).map(name).map(|(h, p)| h + &p + "/cart/7").zip(0..).collect();
        let keys: Vec<String> = requests.iter().map(|(host, path)| format!("{host}{path}")).collect();
        let mut turn = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("lookup", count), |bencher| {
            bencher.iter(|| known.get(black_box(turn.next().expect("an endless cycle"))).copied());
        });
        let mut turn = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("baseline", count), |bencher| {
            bencher.iter(|| {
                let key = black_box(turn.next().expect("an endless cycle"));
                (known.get(key), siphash_2_4_128(&SecretKey::new(KEY), key.as_bytes()))
            });
        });
    }
    group.finish();
}

fn pick(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for policy in Policy::ALL.iter().copied() {
        for count in [3, 100, 1000] {
            let route = RouteSpec { name: "app".into(), backend: Some("app".into()), ..RouteSpec::default() };
            let table = table(vec![route], vec![backend("app", policy, count)]);
            let mut cursors = Cursors::new(1);
            cursors.fit(&table);
            let mut random = 1;
            group.bench_function(BenchmarkId::new(policy.word(), count), |bencher| {
                bencher.iter(|| {
                    let view = view(b"example.test", b"/", &());
                    let decision = forward(&table, &cursors, black_box(&view), next_random(&mut random));
                    let permit = decision.take(&table, &mut cursors, NOW).expect("no bound");
                    permit.finish(Outcome::Responded { status: 200 }, NOW);
                });
            });
        }
    }
    group.finish();
}

fn session(criterion: &mut Criterion) {
    let canary = CanarySpec {
        backend: "canary".into(),
        share: "10%".parse().expect("a share"),
        ..CanarySpec::default()
    };
    let route = RouteSpec {
        name: "app".into(),
        backend: Some("stable".into()),
        canary: Some(canary),
        ..RouteSpec::default()
    };
    let sticky = |name: &str, servers| BackendSpec {
        sticky: Some(StickySpec::default()),
        ..backend(name, Policy::LeastRequest, servers)
    };
    let table = table(vec![route], vec![sticky("stable", 3), sticky("canary", 1)]);
    let mut cursors = Cursors::new(1);
    cursors.fit(&table);
    let mut random = 1;
    let mut lines = Vec::with_capacity(4096);

    let mut group = criterion.benchmark_group("session");
    group.bench_function("new", |bencher| {
        bencher.iter(|| {
            let view = view(b"example.test", b"/", &());
            let decision = forward(&table, &cursors, black_box(&view), next_random(&mut random));
            lines.clear();
            decision.write_cookies(&table, false, &mut lines);
            black_box(&lines);
            decision
                .take(&table, &mut cursors, NOW)
                .expect("no bound")
                .finish(Outcome::Responded { status: 200 }, NOW);
        });
    });

    // What a client sends back: the pairs of the set-cookie lines.
    let known: Vec<[(&str, String); 1]> = (0..DIFFERENT)
        .map(|_| {
            let decision =
                forward(&table, &cursors, &view(b"example.test", b"/", &()), next_random(&mut random));
            lines.clear();
            decision.write_cookies(&table, false, &mut lines);
            let text = String::from_utf8_lossy(&lines);
            let pairs = text.lines().filter_map(|line| line.split([' ', ';']).nth(1));
            [("cookie", pairs.collect::<Vec<_>>().join("; "))]
        })
        .collect();
    let mut turn = known.iter().cycle();
    group.bench_function("known", |bencher| {
        bencher.iter(|| {
            let fields = turn.next().expect("an endless cycle");
            let view = view(b"example.test", b"/", fields);
            let decision = forward(&table, &cursors, black_box(&view), next_random(&mut random));
            lines.clear();
            assert!(!decision.write_cookies(&table, false, &mut lines), "the session is known");
            decision
                .take(&table, &mut cursors, NOW)
                .expect("no bound")
                .finish(Outcome::Responded { status: 200 }, NOW);
        });
    });
    let mut turn = known.iter().cycle();
    group.bench_function("known, only decided", |bencher| {
        bencher.iter(|| {
            let fields = turn.next().expect("an endless cycle");
            let view = view(b"example.test", b"/", fields);
            black_box(decide(&table, &cursors, black_box(&view), NOW, 1))
        });
    });
    group.bench_function("baseline", |bencher| {
        let requests = known.iter().map(|[(_, cookies)]| ("example.test/", cookies.as_str()));
        baseline(bencher, ["example.test/".to_owned()].into_iter(), requests);
    });
    group.finish();

    let mut turn = known.iter().cycle();
    criterion.bench_function("explain", |bencher| {
        bencher.iter(|| {
            let fields = turn.next().expect("an endless cycle");
            explain(&table, &cursors, &view(b"example.test", b"/", fields), NOW, 1).to_string()
        });
    });
}

criterion_group!(core, find, pick, session);
criterion_main!(core);
