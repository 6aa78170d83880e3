//! How long a server takes to answer: a mean that jumps to every peak at once and sinks slowly (after the load metric
//! `PeakEwma` of Finagle).
//!
//! Half of what is remembered is forgotten in every [`PEAK_EWMA_HALF_LIFE`], whether anything is seen or not: so a
//! server that was slow, and is therefore not asked, is tried again some time. What is seen and is no peak draws what is
//! left towards itself, by the part that was forgotten since the last time.

use crate::defaults::PEAK_EWMA_HALF_LIFE;
use crate::sync::{AtomicU64, Relaxed};

/// The latency of a server: 36 bits of latency in units of 16 ns (18 minutes at most; 0: nothing is known), and 28 bits
/// of time in units of 134 ms, when it was noted. In one word, or two threads could lose each other's peaks. The time
/// comes round every 417 days; a server that nobody has asked for exactly so long may be thought of as if asked just
/// now.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

const LATENCY_BITS: u32 = 36;
const LATENCY_MAX: u64 = (1 << LATENCY_BITS) - 1;
/// Nanoseconds in a unit of latency, as a power of 2.
const LATENCY_UNIT: u32 = 4;
/// Nanoseconds in a unit of time, as a power of 2.
const TIME_UNIT: u32 = 27;
const TIME_MASK: u64 = (1 << (64 - LATENCY_BITS)) - 1;
/// In units of time.
const HALF_LIFE: u64 = PEAK_EWMA_HALF_LIFE.as_nanos() as u64 >> TIME_UNIT;

/// What is thought of a server that has only had errors to give so far: that it takes a second.
const NO_ANSWER: u64 = 1_000_000_000 >> LATENCY_UNIT;

/// What took some time. What is no peak is noted only from one unit of time to the next: more often would change next
/// to nothing, and cost a shared write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    /// An answer.
    Answer,
    /// An error. That it came quickly is no merit, or a server that refuses everything at once would be the best of
    /// all: it leaves what is known as it was, and does not let it fade.
    Error,
    /// Nothing has come of it yet.
    Yet,
}

impl Latency {
    /// Nanoseconds that it takes, as far as is known; 0 if nothing is.
    pub(super) fn expected_ns(&self, now_ns: u64) -> u64 {
        let word = self.0.load(Relaxed);
        left(word & LATENCY_MAX, age(word, now_ns)) << LATENCY_UNIT
    }

    /// Notes how long something took. A peak counts at once, whatever it was.
    pub(super) fn note(&self, took_ns: u64, now_ns: u64, kind: Took) {
        let took = (took_ns >> LATENCY_UNIT).clamp(1, LATENCY_MAX);
        let mut word = self.0.load(Relaxed);
        loop {
            let (known, age) = (word & LATENCY_MAX, age(word, now_ns));
            let kept = left(known, age);
            let latency = match kind {
                _ if took > kept && known > 0 => took,
                Took::Yet => return,
                _ if age == 0 && known > 0 => return,
                Took::Answer if known == 0 => took,
                // The more was forgotten since the last time, the more it counts. It is at most what was kept.
                Took::Answer => took + left(kept - took, age),
                Took::Error if known == 0 => took.max(NO_ANSWER),
                Took::Error => known,
            };
            let next = latency | (now_ns >> TIME_UNIT & TIME_MASK) << LATENCY_BITS;
            match self.0.compare_exchange_weak(word, next, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(other) => word = other,
            }
        }
    }
}

/// Units of time since a word was written.
fn age(word: u64, now_ns: u64) -> u64 {
    (now_ns >> TIME_UNIT).wrapping_sub(word >> LATENCY_BITS) & TIME_MASK
}

/// What is left of a latency after some time: 2^(-age / half-life), between two halvings by a straight line, which is
/// never off by more than 6.2 %.
fn left(latency: u64, age: u64) -> u64 {
    let (halvings, rest) = (age / HALF_LIFE, age % HALF_LIFE);
    let whole = latency >> halvings.min(63);
    whole - whole * rest / (2 * HALF_LIFE)
}
