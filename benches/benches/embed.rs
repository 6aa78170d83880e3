//! What an embedder pays beside deciding: `cargo bench -p benches --bench embed`.
//!
//! - `hash`: the bare function over short and long input, and a session's bucket (one more part on a half-made hash).
//! - `current`: asking for the current table: through a reader while nothing changes, from the handle, and through a
//!   reader while another thread publishes without a pause. Each with a decision, too.
//! - `health`: one look at the outliers among 1,000 servers, each of which has traffic.
//! - `publish`: joining a snapshot of 100 servers with the live state before it and publishing it, alone and against
//!   threads that read without a pause.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lb_core::hash::{Keyed, Purpose, siphash_2_4_128};
use lb_core::health::Watching;
use lb_core::outlier::OutlierSettings;
use lb_core::spec::{Address, BackendSpec, RouteSpec, ServerSpec};
use lb_core::{
    Handle, Monitor, Outcome, Reader, RequestView, SecretKey, Snapshot, Spec, Verdict, compile, decide,
};

const NOW: Duration = Duration::from_secs(1);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SERVERS: u16 = 100;

fn hash(criterion: &mut Criterion) {
    let key = SecretKey::new(*b"0123456789abcdef");
    let mut group = criterion.benchmark_group("hash");
    for len in [8, 16, 64, 1024] {
        let bytes = vec![0x5a_u8; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("siphash_2_4_128", len), |bencher| {
            bencher.iter(|| siphash_2_4_128(black_box(&key), black_box(&bytes)));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("hash");
    let route = Keyed::new(&key, Purpose::Bucket).part(b"cart").part(b"2026-11-21");
    group.bench_function("bucket", |bencher| {
        bencher.iter(|| black_box(route).part(&black_box(7_u128).to_le_bytes()).finish());
    });
    group.bench_function("from the start", |bencher| {
        bencher.iter(|| {
            Keyed::new(black_box(&key), Purpose::Server)
                .part(black_box(b"app"))
                .part(black_box(b"a"))
                .finish()
        });
    });
    group.finish();
}

fn snapshot(servers: u16) -> Snapshot {
    let server = |number: u16| ServerSpec {
        name: format!("s{number}"),
        address: Address::Literal(SocketAddr::new(SOURCE, 1 + number)),
        ..ServerSpec::default()
    };
    let spec = Spec {
        routes: vec![RouteSpec { name: "app".into(), backend: Some("app".into()), ..RouteSpec::default() }],
        backends: vec![BackendSpec {
            name: "app".into(),
            servers: (0..servers).map(server).collect(),
            ..BackendSpec::default()
        }],
        ..Spec::default()
    };
    compile(&spec).expect("a valid spec").snapshot
}

fn exchange(reader: &mut Reader) {
    let view = RequestView {
        listener: 0,
        method: b"GET",
        host: b"example.test",
        path: b"/",
        query: None,
        fields: &(),
        source: SOURCE,
        secure: false,
    };
    let (table, cursors) = reader.current();
    let Verdict::Forward(decision) = decide(table, cursors, black_box(&view), NOW, 1) else {
        panic!("not forwarded")
    };
    decision.take(table, cursors, NOW).expect("no bound").finish(Outcome::Responded { status: 200 }, NOW);
}

/// Runs `measured` while `count` threads do `other` over and over.
fn beside(count: u64, other: impl Fn(u64, &AtomicBool) + Sync, measured: impl FnOnce()) {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 1..=count {
            let (other, ends) = (&other, &ends);
            scope.spawn(move || other(number, ends));
        }
        measured();
        ends.store(true, Relaxed);
    });
}

fn current(criterion: &mut Criterion) {
    let handle = Handle::new(snapshot(SERVERS));
    let mut group = criterion.benchmark_group("current");
    let mut reader = handle.reader(1);
    group.bench_function("reader", |bencher| bencher.iter(|| black_box(reader.current().0.snapshot.hash())));
    group.bench_function("handle", |bencher| bencher.iter(|| black_box(handle.load().snapshot.hash())));
    group.bench_function("reader and exchange", |bencher| bencher.iter(|| exchange(&mut reader)));
    let publish = |_, ends: &AtomicBool| {
        while !ends.load(Relaxed) {
            handle.publish(snapshot(SERVERS));
        }
    };
    beside(1, publish, || {
        group.bench_function("reader, published against", |bencher| {
            bencher.iter(|| black_box(reader.current().0.snapshot.hash()));
        });
        group.bench_function("reader and exchange, published against", |bencher| {
            bencher.iter(|| exchange(&mut reader));
        });
    });
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let handle = Handle::new(snapshot(SERVERS));
    let mut group = criterion.benchmark_group("publish");
    for readers in [0, 1, 4] {
        let read = |seed, ends: &AtomicBool| {
            let mut reader = handle.reader(seed);
            while !ends.load(Relaxed) {
                exchange(&mut reader);
            }
        };
        beside(readers, read, || {
            group.bench_function(BenchmarkId::new("readers", readers), |bencher| {
                bencher.iter_batched(
                    || snapshot(SERVERS),
                    |snapshot| handle.publish(snapshot),
                    BatchSize::SmallInput,
                );
            });
        });
    }
    group.finish();
}

fn health(criterion: &mut Criterion) {
    const COUNT: u16 = 1_000;
    let watching = Watching { outliers: Some(OutlierSettings::default()), ..Watching::default() };
    let handle = Handle::new(snapshot(COUNT));
    let mut reader = handle.reader(1);
    let mut monitor = Monitor::new();
    monitor.fit(&handle.load(), |_| watching, NOW);
    let mut now = NOW;
    let mut group = criterion.benchmark_group("health");
    group.bench_function(BenchmarkId::new("look", COUNT), |bencher| {
        bencher.iter_batched(
            || {
                now += Duration::from_secs(1);
                (0..COUNT).for_each(|_| exchange(&mut reader));
                now
            },
            |now| monitor.look(now),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(embed, hash, current, publish, health);
criterion_main!(embed);
