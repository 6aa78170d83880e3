//! The last seconds of one subject, as parts that are added up when somebody asks.

use std::collections::VecDeque;

use lb_core::histogram::{BUCKETS, Histogram};

use super::document::{Lately, Quantiles};
use crate::watch::times::Times;
use crate::workers::{AttemptNumbers, ByStatus, by_hundreds, since};

/// Parts that are kept.
pub(super) const PARTS_MAX: usize = 5;

/// Bytes that the last seconds of a subject take at most: counts of eight bytes for what was read last, and of four for
/// each part, by every bucket. One that is never asked takes a fifth of that.
const BYTES_MAX: usize = BUCKETS * 8 + PARTS_MAX * BUCKETS * 4 + 1536;
const _: () = assert!(BYTES_MAX <= 8 << 10, "as stats/mod.rs and docs/operating/top.md say");

/// What was counted until now.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    statuses: [u64; 6],
    unanswered: u64,
    attempt: Histogram,
}

impl Totals {
    /// Of exchanges.
    pub(super) fn exchanges(requests: &ByStatus) -> Totals {
        Totals { statuses: by_hundreds(requests), ..Totals::default() }
    }

    /// Of attempts.
    pub(super) fn attempts(numbers: AttemptNumbers) -> Totals {
        Totals {
            statuses: by_hundreds(&numbers.responses),
            unanswered: numbers.connect_failures + numbers.failures,
            attempt: numbers.attempt,
        }
    }

    /// Of requests that have waited for servers with room: their times alone.
    pub(super) fn waits(waits: Histogram) -> Totals {
        Totals { attempt: waits, ..Totals::default() }
    }
}

/// What came within some seconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Came {
    pub(super) seconds: f64,
    pub(super) statuses: [u64; 6],
    pub(super) unanswered: u64,
    pub(super) client: Times,
    pub(super) server: Times,
}

impl Came {
    /// Adds what came of another subject within the same seconds.
    pub(super) fn join(&mut self, other: &Came) {
        self.seconds = self.seconds.max(other.seconds);
        self.add(other);
    }

    fn add(&mut self, other: &Came) {
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
        self.unanswered += other.unanswered;
        self.client.merge(&other.client);
        self.server.merge(&other.server);
    }

    /// What ended.
    pub(super) fn count(&self) -> u64 {
        self.statuses.iter().sum::<u64>() + self.unanswered
    }

    /// As the document has it; none if it is about no time.
    pub(super) fn shown(&self) -> Option<Lately> {
        if self.seconds <= 0.0 {
            return None;
        }
        let count = self.count();
        let failed = self.statuses[5] + self.unanswered;
        let word = |hundred| if hundred == 0 { "0".to_owned() } else { format!("{hundred}xx") };
        let statuses = self.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
        Some(Lately {
            seconds: self.seconds,
            count,
            rate: count as f64 / self.seconds,
            failures: (count > 0).then(|| failed as f64 / count as f64),
            statuses: statuses.map(|(hundred, count)| (word(hundred), *count)).collect(),
            unanswered: self.unanswered,
            client: quantiles(&self.client),
            server: quantiles(&self.server),
        })
    }
}

pub(super) fn quantiles(times: &Times) -> Option<Quantiles> {
    let of = |share| times.quantile(share);
    Some(Quantiles { p50: of(0.5)?, p90: of(0.9)?, p99: of(0.99)? })
}

/// A subject's last seconds.
#[derive(Debug, Default)]
pub(super) struct Window {
    last: Totals,
    parts: VecDeque<Came>,
}

impl Window {
    /// One that begins now.
    pub(super) fn new(totals: Totals) -> Window {
        Window { last: totals, parts: VecDeque::new() }
    }

    /// Takes what was counted until now, so many seconds after the last time.
    pub(super) fn take(&mut self, totals: Totals, seconds: f64) {
        if self.parts.len() == PARTS_MAX {
            self.parts.pop_front();
        }
        self.parts.push_back(Came {
            seconds,
            statuses: since(&totals.statuses, &self.last.statuses),
            unanswered: totals.unanswered.saturating_sub(self.last.unanswered),
            client: Times::default(),
            server: Times::of(&totals.attempt.since(&self.last.attempt)),
        });
        self.last = totals;
    }

    /// Bytes that it takes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let last = if self.last.attempt.count() > 0 { BUCKETS * 8 } else { 0 };
        let parts = self.parts.iter().map(|part| part.client.bytes() + part.server.bytes());
        size_of::<Window>() + last + self.parts.capacity() * size_of::<Came>() + parts.sum::<usize>()
    }

    /// All that came.
    pub(super) fn sum(&self) -> Came {
        let mut sum = Came::default();
        for part in &self.parts {
            sum.add(part);
            sum.seconds += part.seconds;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn attempts(numbers: [u64; 4], ms: &[u64]) -> Totals {
        let [ok, failed, refused, begun] = numbers;
        let mut attempt = Histogram::default();
        ms.iter().for_each(|ms| attempt.record(Duration::from_millis(*ms)));
        Totals::attempts(AttemptNumbers {
            responses: vec![(200, ok), (503, failed)],
            connect_failures: refused,
            begun,
            attempt,
            ..AttemptNumbers::default()
        })
    }

    #[test]
    fn only_the_last_parts_count() {
        let mut window = Window::new(attempts([1000, 0, 0, 1000], &[]));
        assert_eq!(window.sum().shown(), None, "no time has passed");
        window.take(attempts([1000, 0, 50, 1050], &[]), 2.0);
        for step in 1..=PARTS_MAX as u64 {
            window.take(attempts([1000 + 6 * step, step, 50 + step, 1050 + 8 * step], &[40]), 2.0);
        }
        let lately = window.sum().shown().expect("ten seconds");
        assert_eq!((lately.seconds, lately.count, lately.rate), (10.0, 40, 4.0));
        assert_eq!((lately.failures, lately.unanswered), (Some(0.25), 5));
        assert_eq!(lately.statuses, [("2xx".to_owned(), 30), ("5xx".to_owned(), 5)].into());
        let server = lately.server.expect("times");
        assert!((server.p50 - 0.04).abs() <= 0.04 / 17.0 && server.p50 == server.p99, "{server:?}");
        assert_eq!(lately.client, None);
    }

    #[test]
    fn memory_has_its_stated_bound() {
        let mut window = Window::new(Totals::default());
        for _ in 0..2 * PARTS_MAX {
            window.take(Totals::default(), 2.0);
        }
        assert!(window.bytes() <= BYTES_MAX / 5, "{} of one that nobody asks", window.bytes());
        let mut times = Vec::new();
        for step in 0..2 * PARTS_MAX as u64 {
            times.extend([0, 1 << 40]);
            window.take(attempts([step, 0, 0, step], &times), 2.0);
            assert!(window.bytes() <= BYTES_MAX, "{}", window.bytes());
        }
        assert!(window.bytes() > BYTES_MAX / 2, "the bound is not far off: {}", window.bytes());
    }

    #[test]
    fn what_began_anew_is_nothing() {
        let mut window = Window::new(attempts([1000, 10, 0, 1010], &[40, 40]));
        window.take(attempts([3, 0, 0, 3], &[]), 2.0);
        let lately = window.sum().shown().expect("two seconds");
        assert_eq!((lately.count, lately.failures, lately.server), (0, None, None));
    }
}
