//! Times of a second or a few, small: the counts of the buckets between the shortest and the longest.

use lb_core::histogram::{Histogram, bucket_of, typical_ns, upper_edge_us};

/// Counts by the buckets of [`lb_core::histogram`], those at both ends left out that hold nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    first: usize,
    counts: Box<[u32]>,
}

impl Times {
    /// Those of a histogram.
    pub fn of(histogram: &Histogram) -> Times {
        let mut times = Times::default();
        let buckets: Vec<(usize, u64)> = histogram.buckets().collect();
        times.add(buckets.iter().copied());
        times
    }

    /// Adds what another has.
    pub fn merge(&mut self, other: &Times) {
        self.add(other.buckets());
    }

    fn add(&mut self, buckets: impl Iterator<Item = (usize, u64)> + Clone) {
        let Some((first, last)) = buckets.clone().fold(None, |ends: Option<(usize, usize)>, (at, _)| {
            Some(ends.map_or((at, at), |(first, last)| (first.min(at), last.max(at))))
        }) else {
            return;
        };
        let end = self.first + self.counts.len();
        if self.counts.is_empty() || first < self.first || last >= end {
            let (from, to) = if self.counts.is_empty() {
                (first, last + 1)
            } else {
                (first.min(self.first), end.max(last + 1))
            };
            let mut counts = vec![0; to - from];
            if !self.counts.is_empty() {
                counts[self.first - from..end - from].copy_from_slice(&self.counts);
            }
            (self.first, self.counts) = (from, counts.into());
        }
        for (at, count) in buckets {
            let counted = &mut self.counts[at - self.first];
            *counted = counted.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + Clone + '_ {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(at, count)| (at + self.first, u64::from(*count)))
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    fn bucket(&self, share: f64) -> Option<usize> {
        let all = self.count();
        let rank = ((share * all as f64).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        let reached = |(_, count): &(usize, u64)| {
            seen += count;
            seen >= rank
        };
        self.buckets().find(reached).map(|(at, _)| at)
    }

    /// The time that a share of all does not exceed, in seconds, as [`Histogram::quantile`] has it.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        self.bucket(share).map(|bucket| typical_ns(bucket) as f64 / 1e9)
    }

    /// A time in microseconds that a share of all surely does not exceed; none if it is longer than any bucket.
    pub fn upper_edge_us(&self, share: f64) -> Option<u64> {
        upper_edge_us(self.bucket(share)?)
    }

    /// How many are longer, those of the edge's own bucket left out.
    pub fn above(&self, edge_us: u64) -> u64 {
        let bucket = bucket_of(edge_us);
        self.buckets().filter(|(at, _)| *at > bucket).map(|(_, count)| count).sum()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn histogram(us: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        us.iter().for_each(|us| histogram.record(Duration::from_micros(*us)));
        histogram
    }

    proptest! {
        #[test]
        fn says_what_the_histogram_says(
            parts in prop::collection::vec(prop::collection::vec(0_u64..1 << 32, 0..40), 1..5),
            share in 0.01_f64..=1.0,
        ) {
            let mut times = Times::default();
            parts.iter().for_each(|part| times.merge(&Times::of(&histogram(part))));
            let whole = histogram(&parts.concat());
            prop_assert_eq!(&times, &Times::of(&whole));
            prop_assert_eq!(times.count(), whole.count());
            prop_assert_eq!(times.quantile(share), whole.quantile(share).map(|time| time.as_nanos() as f64 / 1e9));
            for power in [1, 10, 20, 30] {
                prop_assert_eq!(times.above(1 << power), whole.count() - whole.count_up_to(1 << power));
            }
        }
    }
}
