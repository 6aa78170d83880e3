//! Response times as counts: how many fell into which bucket. Two histograms add up to the one that would have been
//! recorded in one place, whatever was recorded where; that is why times are not kept as averages or percentiles.
//!
//! # Buckets
//! Log-linear, as in HdrHistogram (Tene, 2012): every octave (from a power of two to the next) is divided into
//! eight buckets of equal width. Times are whole microseconds, 0 counts as 1. A bucket holds those above its lower
//! and up to its upper edge, so that every power of two is exactly an upper edge. Up to 16 µs every microsecond has
//! a bucket of its own; what is above [`LONGEST`] (18 minutes) is counted in one last bucket.
//!
//! # Error
//! What is read from a bucket is at most [`RELATIVE_ERROR`] (1/17, 5.9 %) away from what was recorded, because no
//! bucket up to [`LONGEST`] is wider than an eighth of its lower edge. Counts and the sum are exact.
//!
//! ```
//! use lb_core::histogram::Histogram;
//! use std::time::Duration;
//!
//! let mut times = Histogram::default();
//! (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
//! let p99 = times.quantile(0.99).expect("something was recorded");
//! assert!(p99.abs_diff(Duration::from_millis(990)) <= Duration::from_millis(990) / 17);
//! ```

use std::fmt;
use std::time::Duration;

/// Buckets of an octave.
const PER_OCTAVE: u64 = 8;

/// Octaves, not counting the first eight microseconds, which have a bucket each.
const OCTAVES: u64 = 27;

/// Number of buckets, the last one for what is longer than [`LONGEST`].
pub const BUCKETS: usize = (PER_OCTAVE * (OCTAVES + 1) + 1) as usize;

/// The longest time that has a bucket of its size: 2^30 µs, about 18 minutes.
pub const LONGEST: Duration = Duration::from_micros(PER_OCTAVE << OCTAVES);

/// How far what is read may be from what was recorded, as a part of what was recorded.
pub const RELATIVE_ERROR: f64 = 1.0 / 17.0;

/// The bucket of a time.
pub fn bucket_of(time_us: u64) -> usize {
    // Upper edges belong to their buckets, so everything is one lower than it is.
    let below = time_us.saturating_sub(1);
    if below < PER_OCTAVE {
        return below as usize;
    }
    let octave = u64::from(below.ilog2() - PER_OCTAVE.ilog2());
    let bucket = (octave << PER_OCTAVE.ilog2()) + (below >> octave);
    (bucket as usize).min(BUCKETS - 1)
}

/// The longest time of a bucket, in microseconds; `None` for the last, which has no end.
pub fn upper_edge_us(bucket: usize) -> Option<u64> {
    match bucket as u64 {
        bucket if bucket < PER_OCTAVE => Some(bucket + 1),
        bucket if bucket < BUCKETS as u64 - 1 => {
            let octave = bucket / PER_OCTAVE - 1;
            Some((PER_OCTAVE + bucket % PER_OCTAVE + 1) << octave)
        }
        _ => None,
    }
}

/// Counts of times by bucket, and their sum. Empty ones take no memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Of [`BUCKETS`] buckets, or none at all.
    counts: Vec<u64>,
    sum_us: u64,
}

impl Histogram {
    /// One of counts by bucket and their sum in microseconds; counts beyond [`BUCKETS`] are left out.
    pub fn new(counts: impl IntoIterator<Item = u64>, sum_us: u64) -> Histogram {
        let mut counts: Vec<u64> = counts.into_iter().take(BUCKETS).collect();
        if counts.iter().all(|count| *count == 0) {
            counts = Vec::new();
        } else {
            counts.resize(BUCKETS, 0);
        }
        Histogram { counts, sum_us }
    }

    /// Counts a time, to the microsecond.
    pub fn record(&mut self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.add_to(bucket_of(time_us), 1);
        self.sum_us = self.sum_us.saturating_add(time_us);
    }

    /// Adds to one bucket's count, without a sum. Nothing happens if there is no such bucket.
    fn add_to(&mut self, bucket: usize, count: u64) {
        if self.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
        }
        if let Some(counted) = self.counts.get_mut(bucket) {
            *counted = counted.saturating_add(count);
        }
    }

    /// Adds everything that another has: as if both had been recorded here.
    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in other.buckets() {
            self.add_to(bucket, count);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// What came since an earlier reading of the same histogram. Where it has less than that (because it was begun
    /// anew in between), nothing did.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(before));
        Histogram::new(counts, self.sum_us.saturating_sub(earlier.sum_us))
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all times, in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The mean time; `None` if nothing was recorded.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_us.checked_div(self.count()).map(Duration::from_micros)
    }

    /// The time that a share of all times does not exceed: 0.5 gives the median, by nearest rank. `None` if nothing
    /// was recorded. Within [`RELATIVE_ERROR`]; of times above [`LONGEST`] it says only [`LONGEST`].
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total = self.count();
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let (bucket, _) = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_nanos(typical_ns(bucket)))
    }

    /// How many times were no longer than `edge_us`. Exact if that is an upper edge, else without the times of the
    /// bucket that it falls into.
    pub fn count_up_to(&self, edge_us: u64) -> u64 {
        let within = |bucket: &(usize, u64)| upper_edge_us(bucket.0).is_some_and(|upper| upper <= edge_us);
        self.buckets().take_while(within).map(|(_, count)| count).sum()
    }

    /// The buckets that hold anything, with their counts, in ascending order.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }
}

/// What stands for the times of a bucket, in nanoseconds: the time whose relative distance to both edges is the
/// same, their harmonic mean.
pub fn typical_ns(bucket: usize) -> u64 {
    let Some(upper) = upper_edge_us(bucket) else { return LONGEST.as_nanos() as u64 };
    let lower = bucket.checked_sub(1).and_then(upper_edge_us).unwrap_or(0);
    // A bucket of one microsecond holds its upper edge and nothing else.
    if upper - lower == 1 {
        return upper * 1000;
    }
    let (lower, upper) = (u128::from(lower), u128::from(upper));
    (2000 * lower * upper / (lower + upper)) as u64
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantile = |share| self.quantile(share).unwrap_or_default();
        write!(f, "Histogram({} of p50 {:?}, p99 {:?})", self.count(), quantile(0.5), quantile(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_meet_without_gap_and_powers_of_two_are_edges() {
        let mut last = 0;
        for bucket in 0..BUCKETS - 1 {
            let upper = upper_edge_us(bucket).unwrap();
            assert!(upper > last, "{bucket}");
            assert_eq!(bucket_of(last + 1), bucket);
            assert_eq!(bucket_of(upper), bucket);
            let width = (upper - last) as f64;
            assert!(width <= 1.0 || width <= last as f64 / 8.0, "{last} to {upper}");
            last = upper;
        }
        assert_eq!(Duration::from_micros(last), LONGEST);
        assert_eq!((bucket_of(0), bucket_of(last + 1), bucket_of(u64::MAX)), (0, BUCKETS - 1, BUCKETS - 1));
        for power in 0..=30 {
            let edge = 1_u64 << power;
            assert!((0..BUCKETS).any(|bucket| upper_edge_us(bucket) == Some(edge)), "{edge}");
        }
    }

    #[test]
    fn nothing_recorded_says_nothing() {
        let empty = Histogram::default();
        assert_eq!((empty.count(), empty.quantile(0.5), empty.mean()), (0, None, None));
        assert_eq!(Histogram::new([0; BUCKETS], 0), empty);
    }

    #[test]
    fn what_is_longer_than_the_longest_is_counted() {
        let mut times = Histogram::default();
        times.record(Duration::from_secs(86_400));
        assert_eq!((times.count(), times.quantile(1.0)), (1, Some(LONGEST)));
        assert_eq!(times.count_up_to(LONGEST.as_micros() as u64), 0);
    }

    fn of(times_us: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        times_us.iter().for_each(|time| histogram.record(Duration::from_micros(*time)));
        histogram
    }

    /// Times as they come: mostly short, some of any size up to the longest.
    fn times() -> impl Strategy<Value = Vec<u64>> {
        let time = (0_u32..=30, any::<u64>()).prop_map(|(bits, draw)| draw & ((1 << bits) - 1));
        prop::collection::vec(time, 1..400)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_stated_error(mut times_us in times(), share in 0.0_f64..=1.0) {
            let histogram = of(&times_us);
            times_us.sort_unstable();
            let rank = ((share * times_us.len() as f64).ceil() as usize).clamp(1, times_us.len());
            let exact = times_us[rank - 1].max(1) as f64;
            let read = histogram.quantile(share).unwrap().as_nanos() as f64 / 1000.0;
            // What is read is whole nanoseconds.
            prop_assert!((read - exact).abs() <= RELATIVE_ERROR * exact + 0.001, "{read} for {exact}");
        }

        #[test]
        fn merging_is_recording_in_one_place(parts in prop::collection::vec(times(), 1..6)) {
            let mut merged = Histogram::default();
            parts.iter().for_each(|part| merged.merge(&of(part)));
            prop_assert_eq!(&merged, &of(&parts.concat()));
            let later = of(&parts[0]);
            let mut both = merged.clone();
            both.merge(&later);
            prop_assert_eq!(both.since(&merged), later);
            prop_assert_eq!(merged.count(), parts.iter().map(Vec::len).sum::<usize>() as u64);
            prop_assert_eq!(merged.sum_us(), parts.concat().iter().sum::<u64>());
        }

        #[test]
        fn counts_up_to_an_edge_are_exact(times_us in times(), power in 0_u32..=30) {
            let exact = times_us.iter().filter(|time| **time <= 1 << power).count() as u64;
            prop_assert_eq!(of(&times_us).count_up_to(1 << power), exact);
        }
    }
}
