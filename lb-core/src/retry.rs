//! Further attempts: when and how an exchange is tried again, and how many may be over time.

use crate::defaults::{HOLD_BODY, RETRIES, RETRY_BACKOFF, RETRY_BACKOFF_GROWTH, RETRY_BUDGET_PERCENT};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Whether a request of this method may be sent twice and ask for nothing more than once (RFC 9110, section 9.2.2).
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// When and how requests of an arm are tried again, merged: each word has a value. By default as [`RetrySpec`] says.
///
/// [`RetrySpec`]: crate::spec::RetrySpec
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryRules {
    /// Further attempts at most.
    pub retries: u32,
    /// Another server is tried where no connection came about, or none that took anything.
    pub on_connect: bool,
    /// Another server is tried where the connection ended before a byte of the response.
    pub on_closed: bool,
    /// Another server is tried where the response has one of these.
    pub on_statuses: RetryStatuses,
    /// How long an attempt may take, from its connection to its response's head, before another server is tried.
    pub attempt_timeout: Option<Duration>,
    /// What the second retry waits for at most; see [`RetryRules::wait_before`].
    pub backoff: Duration,
    /// What any retry waits for at most.
    pub backoff_max: Duration,
    /// Bytes of a request's body up to which it is held to be sent again.
    pub hold_body: u32,
    /// Methods that are repeated though they are not idempotent.
    pub non_idempotent: Box<[Box<str>]>,
}

impl Default for RetryRules {
    fn default() -> RetryRules {
        RetryRules {
            retries: RETRIES,
            on_connect: true,
            on_closed: true,
            on_statuses: RetryStatuses::default(),
            attempt_timeout: None,
            backoff: RETRY_BACKOFF,
            backoff_max: RETRY_BACKOFF * RETRY_BACKOFF_GROWTH,
            hold_body: HOLD_BODY as u32,
            non_idempotent: Box::default(),
        }
    }
}

impl RetryRules {
    /// Whether a request of this method may be sent twice.
    pub fn may_repeat(&self, method: &[u8]) -> bool {
        is_idempotent(method) || self.non_idempotent.iter().any(|listed| listed.as_bytes() == method)
    }

    /// How long an exchange's retry of this number waits, the first being 1. The first goes to another server at once;
    /// the second waits for up to `backoff`, each further one for twice as long, up to `backoff_max`. How much of that is
    /// `random`'s to say (any 64 bits), or all that failed together would come back together.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rules = lb_core::RetryRules::default();
    /// let longest = |retry| rules.wait_before(retry, u64::MAX).as_millis();
    /// assert_eq!([1, 2, 3, 4, 5, 6, 7].map(longest), [0, 24, 49, 99, 199, 249, 249]);
    /// assert_eq!(rules.wait_before(3, 0), Duration::ZERO);
    /// ```
    pub fn wait_before(&self, retry: u32, random: u64) -> Duration {
        let Some(doublings) = retry.checked_sub(2) else { return Duration::ZERO };
        let growth = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let most = self.backoff.saturating_mul(growth).min(self.backoff_max);
        Duration::from_nanos(((most.as_nanos() * u128::from(random)) >> 64) as u64)
    }
}

/// Statuses on which another server is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryStatuses {
    /// From bit 0 on 500 to 563, then 564 to 599, then [`OTHERS`].
    bits: [u64; 2],
}

/// What may be listed besides 500 to 599: statuses that say "not here, not now".
const OTHERS: [u16; 3] = [408, 425, 429];

impl RetryStatuses {
    /// Adds a status. False if another server cannot be tried on it: only on 408, 425, 429 and 500 to 599.
    pub fn add(&mut self, status: u16) -> bool {
        let Some(bit) = bit_of(status) else { return false };
        self.bits[bit / 64] |= 1 << (bit % 64);
        true
    }

    /// Whether it has this one.
    pub fn has(&self, status: u16) -> bool {
        bit_of(status).is_some_and(|bit| self.bits[bit / 64] >> (bit % 64) & 1 == 1)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bits == [0; 2]
    }

    /// All of them, in order, neighbours together.
    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for status in OTHERS.into_iter().chain(500..=599).filter(|status| self.has(*status)) {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == status => *last = *last.start()..=status,
                _ => ranges.push(status..=status),
            }
        }
        ranges
    }
}

fn bit_of(status: u16) -> Option<usize> {
    match status {
        500..=599 => Some(usize::from(status - 500)),
        _ => OTHERS.iter().position(|other| *other == status).map(|place| 100 + place),
    }
}

/// As they are written: `429, 502-504`.
impl fmt::Display for RetryStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.ranges().into_iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match (*range.start(), *range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// A budget of retries, kept by the caller (per backend and worker): each exchange earns a part of a retry, each retry
/// spends a whole one. So retries stay below the given share of exchanges however long servers fail, and an
/// outage cannot multiply the load. A first retry after a failed connect with nothing sent does not ask here.
///
/// ```
/// let mut budget = lb_core::RetryBudget::new(20);
/// while budget.retry() {} // what was saved up
/// for _ in 0..5 { budget.exchange(); }
/// assert!(budget.retry());
/// assert!(!budget.retry());
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: u32,
    /// In hundredths of a retry.
    saved: u32,
}

/// Retries that can be saved up, and that a new budget has.
pub const RETRIES_SAVED_MAX: u32 = 10;

impl RetryBudget {
    /// A budget of `percent` retries in 100 exchanges, with [`RETRIES_SAVED_MAX`] saved up (none for 0 %).
    pub fn new(percent: u32) -> RetryBudget {
        RetryBudget { percent, saved: if percent == 0 { 0 } else { RETRIES_SAVED_MAX * 100 } }
    }

    /// Counts an exchange.
    pub fn exchange(&mut self) {
        self.saved = self.saved.saturating_add(self.percent).min(RETRIES_SAVED_MAX * 100);
    }

    /// Whether there is a retry to spend.
    pub fn has_retry(&self) -> bool {
        self.saved >= 100
    }

    /// Spends a retry, if there is one.
    #[must_use]
    pub fn retry(&mut self) -> bool {
        let spent = self.saved.checked_sub(100);
        self.saved = spent.unwrap_or(self.saved);
        spent.is_some()
    }

    /// Takes over the percentage of a new snapshot; what is saved stays.
    pub fn set_percent(&mut self, percent: u32) {
        self.percent = percent;
    }
}

impl Default for RetryBudget {
    fn default() -> RetryBudget {
        RetryBudget::new(RETRY_BUDGET_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn share_holds_over_time() {
        let mut budget = RetryBudget::new(20);
        let retried = (0..10_000)
            .filter(|_| {
                budget.exchange();
                budget.retry()
            })
            .count();
        assert!((2_000..=2_010).contains(&retried), "{retried}");
        let mut none = RetryBudget::new(0);
        none.exchange();
        assert!(!none.retry());
    }

    #[test]
    fn statuses_are_told_as_they_are_written() {
        let of = |statuses: &[u16]| {
            let mut all = RetryStatuses::default();
            let taken = statuses.iter().filter(|status| all.add(**status)).count();
            (taken, all.to_string())
        };
        for (statuses, taken, told) in [
            (&[][..], 0, ""),
            (&[503], 1, "503"),
            (&[504, 503, 502, 503], 4, "502-504"),
            (&[429, 500, 599, 408, 425], 5, "408, 425, 429, 500, 599"),
            (&[563, 564], 2, "563-564"),
            (&[200, 404, 407, 424, 426, 428, 430, 499, 600, 999], 0, ""),
        ] {
            assert_eq!(of(statuses), (taken, told.to_owned()), "{statuses:?}");
        }
    }

    #[test]
    fn methods_are_repeated_by_kind_or_by_name() {
        let rules = RetryRules { non_idempotent: ["POST".into()].into(), ..RetryRules::default() };
        for (method, by_default, listed) in
            [("GET", true, true), ("PUT", true, true), ("POST", false, true), ("PATCH", false, false)]
        {
            assert_eq!(RetryRules::default().may_repeat(method.as_bytes()), by_default, "{method}");
            assert_eq!(rules.may_repeat(method.as_bytes()), listed, "{method}");
        }
        assert!(!rules.may_repeat(b"post") && !rules.may_repeat(b"get"), "methods are case-sensitive");
    }

    proptest! {
        #[test]
        fn exactly_what_was_added_is_there(statuses in proptest::collection::vec(400_u16..610, 0..40)) {
            let mut all = RetryStatuses::default();
            let added: Vec<u16> = statuses.into_iter().filter(|status| all.add(*status)).collect();
            for status in 0..=999 {
                prop_assert_eq!(all.has(status), added.contains(&status), "{}", status);
            }
            prop_assert_eq!(all.is_empty(), added.is_empty());
        }

        #[test]
        fn waits_stay_below_their_doubling_bound(
            backoff_ms in 0_u64..10_000,
            more_ms in 0_u64..10_000,
            retry in 0_u32..200,
            random in any::<u64>(),
        ) {
            let (backoff, backoff_max) = (Duration::from_millis(backoff_ms), Duration::from_millis(backoff_ms + more_ms));
            let rules = RetryRules { backoff, backoff_max, ..RetryRules::default() };
            let wait = rules.wait_before(retry, random);
            prop_assert!(wait <= backoff_max);
            if retry < 2 {
                prop_assert_eq!(wait, Duration::ZERO);
            } else {
                prop_assert!(wait <= backoff.saturating_mul(2_u32.saturating_pow(retry - 2)));
                prop_assert!(wait <= rules.wait_before(retry + 1, random), "later ones wait longer for the same draw");
                prop_assert!(wait <= rules.wait_before(retry, u64::MAX), "a larger draw waits longer");
            }
        }

        /// Whatever order things come in, retries stay below what was saved up and the share of exchanges.
        #[test]
        fn no_order_of_events_spends_more(percent in 0_u32..=100, events in proptest::collection::vec(any::<bool>(), 0..500)) {
            let mut budget = RetryBudget::new(percent);
            let (mut exchanges, mut retries) = (0_u64, 0_u64);
            for is_exchange in events {
                if is_exchange {
                    budget.exchange();
                    exchanges += 1;
                } else {
                    let had = budget.has_retry();
                    prop_assert_eq!(budget.retry(), had);
                    retries += u64::from(had);
                }
                prop_assert!(retries * 100 <= exchanges * u64::from(percent) + u64::from(RETRIES_SAVED_MAX) * 100);
            }
        }
    }
}
