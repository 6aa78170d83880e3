//! When a collector is asked again that did not take what it was sent.

use std::time::Duration;

use tokio::time::Instant;

/// How long a first failure is waited out; each further one for twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);

/// How long failures are waited out at most: so late a collector that is back is found.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a collector may have us wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// When it is asked again. What it says, and how often it has failed, holds for all batches.
#[derive(Debug)]
pub(super) struct Pace {
    failures: u32,
    not_before: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Pace {
        Pace { failures: 0, not_before: now }
    }

    /// It did not take a batch, and perhaps said when to come again. `random` keeps many processes apart.
    pub(super) fn failed(&mut self, now: Instant, after: Option<Duration>, random: u64) {
        let wait = match after {
            Some(after) => after.min(RETRY_AFTER_MAX),
            None => {
                let full = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
                full / 2 + (full / 2).mul_f64(random as f64 / u64::MAX as f64)
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait;
    }

    /// It took a batch.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// When it may be asked again.
    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_waited_out_for_longer_and_longer_and_then_no_longer() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.not_before(), now);
        let mut wait = |random| {
            pace.failed(now, None, random);
            pace.not_before() - now
        };
        let seconds = |seconds| Duration::from_secs(seconds);
        assert_eq!([wait(0), wait(u64::MAX), wait(0)], [seconds(1) / 2, seconds(2), seconds(2)]);
        assert_eq!([wait(u64::MAX), wait(u64::MAX), wait(0)], [seconds(8), seconds(10), seconds(5)]);
        (0..100).for_each(|_| assert!(wait(u64::MAX) <= LONGEST));
        pace.succeeded();
        pace.failed(now, None, u64::MAX);
        assert_eq!(pace.not_before() - now, FIRST);
    }

    #[test]
    fn a_collector_has_us_wait_but_not_for_ever() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.failed(now, Some(Duration::from_secs(17)), 0);
        assert_eq!(pace.not_before() - now, Duration::from_secs(17));
        pace.failed(now, Some(Duration::MAX), 0);
        assert_eq!(pace.not_before() - now, RETRY_AFTER_MAX);
        pace.failed(now, Some(Duration::ZERO), 0);
        assert_eq!(pace.not_before(), now);
    }
}
