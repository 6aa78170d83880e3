//! Histograms that a worker records into: bare counts over the buckets of [`lb_core::histogram`].
//!
//! # Which bucket lies where
//! A cache line holds eight counts. With one kind of time that is eight buckets. With two kinds a line holds the
//! same four buckets of each, side by side: an exchange's time and the time that its server took are mostly nearly
//! the same, and then counting both writes one line. 64-bit counts, because at 100,000 a second a 32-bit one would
//! be over in 12 hours, and a reader that must come by often enough is one more thing to go wrong.

use lb_core::histogram::{BUCKETS, Histogram, bucket_of};

use crate::counters::Counter;

/// Counts in a cache line.
const PER_LINE: usize = 8;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Counter; PER_LINE]);

/// Histograms of `KINDS` kinds of times, in `LINES` cache lines.
#[derive(Debug)]
pub struct Recorded<const KINDS: usize, const LINES: usize>([Line; LINES]);

/// One kind of time.
pub type Single = Recorded<1, { BUCKETS.div_ceil(PER_LINE) }>;

/// Two kinds of times that are mostly alike.
pub type Pair = Recorded<2, { BUCKETS.div_ceil(PER_LINE / 2) }>;

impl<const KINDS: usize, const LINES: usize> Default for Recorded<KINDS, LINES> {
    fn default() -> Self {
        Recorded(std::array::from_fn(|_| Line::default()))
    }
}

impl<const KINDS: usize, const LINES: usize> Recorded<KINDS, LINES> {
    /// Buckets of one kind in a line.
    const PER_KIND: usize = PER_LINE / KINDS;

    fn at(&self, kind: usize, bucket: usize) -> &Counter {
        &self.0[bucket / Self::PER_KIND].0[kind * Self::PER_KIND + bucket % Self::PER_KIND]
    }

    /// Counts a time. Only the owning worker may.
    pub fn count(&self, kind: usize, time_us: u64) {
        self.at(kind, bucket_of(time_us)).add(1);
    }

    /// What one kind has counted, its sum being kept elsewhere.
    pub fn read(&self, kind: usize, sum_us: u64) -> Histogram {
        Histogram::new((0..BUCKETS).map(|bucket| self.at(kind, bucket).get()), sum_us)
    }

    /// All counters.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.0.iter().flat_map(|line| &line.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn recorded(times_us: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        times_us.iter().for_each(|time| histogram.record(Duration::from_micros(*time)));
        histogram
    }

    proptest! {
        #[test]
        fn kinds_are_kept_apart_and_read_as_recorded(
            first in prop::collection::vec(0_u64..1 << 32, 0..200),
            second in prop::collection::vec(0_u64..1 << 20, 0..200),
        ) {
            let (pair, single) = (Pair::default(), Single::default());
            first.iter().for_each(|time| pair.count(0, *time));
            second.iter().for_each(|time| { pair.count(1, *time); single.count(0, *time) });
            prop_assert_eq!(pair.read(0, first.iter().sum()), recorded(&first));
            prop_assert_eq!(pair.read(1, second.iter().sum()), recorded(&second));
            prop_assert_eq!(single.read(0, second.iter().sum()), recorded(&second));
        }

        #[test]
        fn merged_workers_equal_one(workers in prop::collection::vec(prop::collection::vec(0_u64..1 << 31, 0..200), 1..9)) {
            let mut merged = Histogram::default();
            for times in &workers {
                let worker = Single::default();
                times.iter().for_each(|time| worker.count(0, *time));
                merged.merge(&worker.read(0, times.iter().sum()));
            }
            prop_assert_eq!(merged, recorded(&workers.concat()));
        }
    }

    #[test]
    fn like_times_share_a_line() {
        let pair = Pair::default();
        let line = |kind, time_us| std::ptr::from_ref(pair.at(kind, bucket_of(time_us))).addr() / 64;
        assert_eq!(line(0, 1000), line(1, 1000));
        assert_eq!(size_of::<Single>(), 29 * 64);
        assert_eq!(size_of::<Pair>(), 57 * 64);
    }
}
