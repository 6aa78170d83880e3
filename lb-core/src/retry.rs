//! How many exchanges may be retried over time.

use crate::defaults::RETRY_BUDGET_PERCENT;

/// A budget of retries, kept by the caller (per worker): each exchange earns a part of a retry, each retry
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
}
