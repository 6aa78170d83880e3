//! Further attempts: on what, how many, how soon.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Further attempts where an attempt failed and another is safe. Each word is for itself, and the nearest wins: route over
/// backend over global.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetrySpec {
    /// How many; see [`defaults::RETRIES`](crate::defaults::RETRIES).
    pub retries: Option<u32>,
    /// Share of a backend's exchanges that may be retried over time, in percent; see
    /// [`defaults::RETRY_BUDGET_PERCENT`](crate::defaults::RETRY_BUDGET_PERCENT). A backend's or, for those that do not
    /// say, the global one; a route has none.
    pub budget_percent: Option<u32>,
    /// On what. All there is to it: what is not listed is no reason. [`RetryOn::Connect`] and [`RetryOn::Closed`] by default.
    pub on: Option<Vec<RetryOn>>,
    /// How long an attempt may take from its connection to its response's head before another server is tried. By default it
    /// has as long as the response may take.
    pub attempt_timeout: Option<Duration>,
    /// What the second retry waits for at most, each further one twice as long; see
    /// [`defaults::RETRY_BACKOFF`](crate::defaults::RETRY_BACKOFF).
    pub backoff: Option<Duration>,
    /// What any retry waits for at most; ten times `backoff` by default.
    pub backoff_max: Option<Duration>,
    /// Bytes of a request's body up to which it is held to be sent again; see
    /// [`defaults::HOLD_BODY`](crate::defaults::HOLD_BODY).
    pub hold_body: Option<u64>,
    /// Methods that are repeated though they are not idempotent (RFC 9110, section 9.2.2); none by default.
    pub non_idempotent: Option<Vec<String>>,
}

/// A reason to try another server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryOn {
    /// No connection came about, or none that took anything.
    Connect,
    /// The connection ended before a byte of the response.
    Closed,
    /// The response has a status from the first to the last of these: 408, 425, 429 or 500 to 599.
    Statuses(RangeInclusive<u16>),
}
