//! What an embedder pays beside deciding: `cargo bench -p benches --bench embed`.
//!
//! - `hash`: the bare function over short and long input, and a session's bucket (one more part on a half-made hash).

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lb_core::SecretKey;
use lb_core::hash::{Keyed, Purpose, siphash_2_4_128};

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

criterion_group!(embed, hash);
criterion_main!(embed);
