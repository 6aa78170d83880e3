//! How long the client of a request body has kept us waiting, against how long it may.
//!
//! A body may cost as much waiting as its route's grace and, for what has come of it, the time that this would take at the
//! route's rate. The clock runs only while there is nothing of the body left to pass on and the server would take more: a
//! server that takes nothing costs its client no time.

use std::time::Duration;

use lb_core::snapshot::BodyRate;

const SECOND_NS: u64 = 1_000_000_000;

/// The clock of one request body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// 0: it may come as slowly as it likes. No more than a gigabyte, or times would not fit.
    bytes_per_s: u32,
    grace_ms: u32,
    waited_ns: u64,
    /// Since when the clock runs.
    since_ns: Option<u64>,
}

impl Pace {
    pub(super) fn new(rate: Option<BodyRate>) -> Pace {
        let bytes_per_s = rate.map_or(0, |rate| u32::try_from(rate.bytes).unwrap_or(u32::MAX));
        let grace_ms = rate.map_or(0, |rate| u32::try_from(rate.grace.as_millis()).unwrap_or(u32::MAX));
        Pace { bytes_per_s, grace_ms, waited_ns: 0, since_ns: None }
    }

    /// Lets the clock run from now on, or stand. Returns until when the client may be waited for, if it is: in the past,
    /// if it was too slow. `bytes` of its body have come so far.
    pub(super) fn wait(&mut self, is_waiting: bool, bytes: u64, now: Duration) -> Option<Duration> {
        if self.bytes_per_s == 0 {
            return None;
        }
        let now_ns = now.as_nanos() as u64;
        if let Some(since_ns) = self.since_ns.take() {
            self.waited_ns += now_ns.saturating_sub(since_ns);
        }
        if !is_waiting {
            return None;
        }
        self.since_ns = Some(now_ns);
        let due_ns = (now_ns + self.allowed_ns(bytes)).saturating_sub(self.waited_ns);
        Some(Duration::from_nanos(due_ns))
    }

    /// Two hundred years at most, so that it can be added to a time.
    fn allowed_ns(&self, bytes: u64) -> u64 {
        let rate = u64::from(self.bytes_per_s);
        let whole_ns = (bytes / rate).saturating_mul(SECOND_NS);
        let rest_ns = bytes % rate * SECOND_NS / rate;
        let grace_ns = u64::from(self.grace_ms) * 1_000_000;
        whole_ns.saturating_add(rest_ns + grace_ns).min(u64::MAX / 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(bytes: u64, grace_s: u64) -> Pace {
        Pace::new(Some(BodyRate { bytes, grace: Duration::from_secs(grace_s) }))
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_has_come_buys_time_and_waiting_spends_it() {
        let mut pace = pace(100, 10);
        assert_eq!(pace.wait(true, 0, s(1_000)), Some(s(1_010)));
        assert_eq!(pace.wait(true, 50, s(1_004)), Some(s(1_010) + Duration::from_millis(500)));
        assert_eq!(pace.wait(true, 400, s(1_009)), Some(s(1_014)));
        // The server takes nothing for a while.
        assert_eq!(pace.wait(false, 400, s(1_010)), None);
        assert_eq!(pace.wait(false, 400, s(2_000)), None);
        assert_eq!(pace.wait(true, 400, s(3_000)), Some(s(3_004)));
        assert_eq!(pace.wait(true, 400, s(3_005)), Some(s(3_004)), "too slow");
    }

    #[test]
    fn without_a_rate_there_is_no_clock() {
        assert_eq!(Pace::new(None).wait(true, 0, s(1)), None);
    }

    proptest! {
        /// Against the plain sum in seconds: whatever happens in whichever order.
        #[test]
        fn like_a_sum(
            (rate, grace_s) in (1..5_000_u64, 1..100_u64),
            steps in prop::collection::vec((any::<bool>(), 0..20_000_u64, 0..30_u64), 1..50),
        ) {
            let mut pace = pace(rate, grace_s);
            let (mut now, mut bytes, mut waited, mut was_waiting) = (s(5), 0, 0, false);
            for (is_waiting, more, passed_s) in steps {
                now += s(passed_s);
                waited += if was_waiting { passed_s } else { 0 };
                bytes += more;
                let due = pace.wait(is_waiting, bytes, now);
                was_waiting = is_waiting;
                prop_assert_eq!(due.is_some(), is_waiting);
                let allowed = grace_s as f64 + bytes as f64 / rate as f64;
                if let Some(due) = due {
                    let left = due.as_secs_f64() - now.as_secs_f64();
                    prop_assert!((left - (allowed - waited as f64)).abs() < 1e-3 || due.is_zero(), "{}", left);
                }
            }
        }

        #[test]
        fn nothing_overflows(rate: u64, grace_s in 0..u64::MAX / 2, bytes: u64, now_s in 0..1_000_000_000_u64) {
            let mut pace = pace(rate, grace_s);
            pace.wait(true, bytes, s(now_s));
            pace.wait(true, bytes, s(now_s + 1));
        }
    }
}
