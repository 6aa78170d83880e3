//! The whole engine in a simulated network: random traffic, random faults, every byte checked.
//!
//! A seed decides everything. A failing one is printed with what was violated; run it alone with
//! `LB_SIM_SEED=<seed> cargo test -p lb-io --test simulation` (and `LB_SIM_TRACE=1`, to see what happened). `LB_SIM_SEEDS=<count>` sets how many are run.

mod client;
mod flood;
mod ledger;
mod origin;
mod pace;
mod run;
mod script;
mod wire;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use run::{Kind, run};

/// Seeds of each kind in a plain `cargo test`.
const SEEDS: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

/// Runs the seeds on all processors and reports the first few that fail.
fn run_all(kind: Kind) {
    if let Some(seed) = number("LB_SIM_SEED") {
        let outcome = run(kind, seed);
        eprintln!("seed {seed} ({kind:?}) ended after {:?}: {:?}", outcome.ended_at, outcome.ends);
        return assert!(
            outcome.wrong.is_empty(),
            "seed {seed} ({kind:?}):\n  {}",
            outcome.wrong.join("\n  ")
        );
    }
    let count = number("LB_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let ends = Mutex::new(BTreeMap::new());
    let retries = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failures.lock().unwrap().len() >= 3 {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(kind, seed))) {
                        Err(_) => {
                            failures.lock().unwrap().push((seed, vec!["panicked (see above)".to_owned()]))
                        }
                        Ok(outcome) if !outcome.wrong.is_empty() => {
                            failures.lock().unwrap().push((seed, outcome.wrong));
                        }
                        Ok(outcome) => {
                            retries.fetch_add(outcome.retries, Ordering::Relaxed);
                            let mut ends = ends.lock().unwrap();
                            for (end, count) in outcome.ends {
                                *ends.entry(end).or_insert(0) += count;
                            }
                        }
                    }
                }
            });
        }
    });
    let (failures, ends) = (failures.into_inner().unwrap(), ends.into_inner().unwrap());
    let retries = retries.into_inner();
    println!("{count} seeds ({kind:?}); requests ended: {ends:?}; {retries} retries");
    for (seed, outcome) in &failures {
        eprintln!("seed {seed} ({kind:?}):\n  {}", outcome.join("\n  "));
        eprintln!("  replay: LB_SIM_SEED={seed} cargo test -p lb-io --test simulation {}", kind.test_name());
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
    // A network in which little succeeds would prove little.
    let of = |end: &str| ends.get(end).copied().unwrap_or(0);
    let all: usize = ends.values().sum();
    assert!(of("Some(Answered)") * 2 > all, "few requests are answered: {ends:?}");
    assert!(retries > count / 100, "hardly anything is tried again: {retries} times");
}

/// Peers behave and only invisible faults happen: each request gets its planned response.
#[test]
fn every_request_is_answered_when_peers_behave() {
    run_all(Kind::Strict);
}

/// Anything may happen: whatever ends, ends well, and nothing is mixed, lost silently or leaked.
#[test]
fn nothing_is_mixed_or_leaked_whatever_happens() {
    run_all(Kind::Wild);
}

/// A seed is a bug report only if it does the same again.
#[test]
fn a_seed_repeats_itself() {
    for kind in [Kind::Strict, Kind::Wild] {
        for seed in 0..50 {
            assert_eq!(run(kind, seed), run(kind, seed), "seed {seed} ({kind:?})");
        }
    }
}

/// The scripted peers among themselves, without an engine between them: the harness itself works.
#[test]
fn peers_agree_without_an_engine() {
    for seed in 0..300 {
        let outcome = run::without_engine(seed);
        assert!(outcome.is_empty(), "seed {seed}:\n  {}", outcome.join("\n  "));
    }
}
