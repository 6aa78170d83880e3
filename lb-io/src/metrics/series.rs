//! What is counted for one listener, one arm of a route, one server: by one worker, for itself alone.
//!
//! # What an exchange writes
//! The order of the fields is the order in memory, so that what every exchange writes lies together. A usual one (a
//! pooled connection, a response of 200) writes five lines that are its arm's and its server's own:
//!
//! | line | holds |
//! |---|---|
//! | arm, first | active, bytes both ways, the sums of three times, attempts, 200s |
//! | arm, one of `response` | the bucket of the exchange's time and of the server's |
//! | arm, one of `edges` | the bucket of the transfer |
//! | server, first | active, begun, bytes both ways, the sum of its times, connects, reuses, 200s |
//! | server, one of `answered` | the bucket of the attempt's time |
//!
//! Besides, its listener's and its worker's, which are in the cache because every exchange writes them.
//!
//! # Memory
//! An arm takes 8 KiB, a server 2.5 KiB, a backend whose servers may be full 2 KiB, a listener 9 KiB, on every worker: 100 backends of 20 servers behind 100
//! routes of two arms take 6.5 MiB on each worker. `series_max` in the configuration bounds how many there can be.

use lb_core::histogram::Histogram;

use super::histogram::{Pair, Single};
use super::reasons::{AllReasons, Reasons};
use super::statuses::{AllStatuses, Statuses};
use crate::counters::Counter;

/// Counters whose place may be given to another's when nobody writes them any more.
pub trait Series: Default {
    /// Exchanges or attempts under way that will write here yet.
    fn active(&self) -> &Counter;

    /// All counters.
    fn counters(&self) -> impl Iterator<Item = &Counter>;

    /// Begins anew at zero. Nobody may be writing.
    fn clear(&self) {
        self.counters().for_each(|counter| counter.set(0));
    }
}

/// An arm of a route, towards one backend; or all exchanges that have none.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct ArmSeries {
    /// Exchanges under way.
    pub active: Counter,
    /// Bytes received from clients.
    pub bytes_received: Counter,
    /// Bytes sent to clients.
    pub bytes_sent: Counter,
    /// The sum of the times of exchanges, in microseconds.
    pub exchange_us: Counter,
    /// The sum of the times that servers took for their response heads, in microseconds.
    pub wait_us: Counter,
    /// The sum of the times from response head to end, in microseconds.
    pub transfer_us: Counter,
    /// Attempts at servers.
    pub attempts: Counter,
    /// Exchanges that ended, by status.
    pub statuses: Statuses,
    /// The sum of the times that connecting took, in microseconds.
    pub connect_us: Counter,
    /// Attempts that were not an exchange's first.
    pub retries: Counter,
    /// Further attempts that would have been made, had the budget had one.
    pub retries_refused: Counter,
    /// Exchanges whose session belongs to this arm, which could not serve, so that another did.
    pub fallbacks: Counter,
    /// Exchanges that we ended ourselves.
    pub reasons: Reasons,
    /// Times of exchanges, and of waiting for servers.
    pub response: Pair,
    /// Times of transfers, and of connecting.
    pub edges: Pair,
}

/// Kinds of [`ArmSeries::response`].
pub const EXCHANGE: usize = 0;
/// Kinds of [`ArmSeries::response`].
pub const WAIT: usize = 1;
/// Kinds of [`ArmSeries::edges`].
pub const TRANSFER: usize = 0;
/// Kinds of [`ArmSeries::edges`].
pub const CONNECT: usize = 1;

impl ArmSeries {
    /// Times of exchanges, from the complete request head to the last byte of the response.
    pub fn exchange(&self) -> Histogram {
        self.response.read(EXCHANGE, self.exchange_us.get())
    }

    /// Times from the connection to the response head.
    pub fn wait(&self) -> Histogram {
        self.response.read(WAIT, self.wait_us.get())
    }

    /// Times from the response head to the end.
    pub fn transfer(&self) -> Histogram {
        self.edges.read(TRANSFER, self.transfer_us.get())
    }

    /// Times that new connections took.
    pub fn connect(&self) -> Histogram {
        self.edges.read(CONNECT, self.connect_us.get())
    }
}

impl Series for ArmSeries {
    fn active(&self) -> &Counter {
        &self.active
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        let first = [&self.active, &self.bytes_received, &self.bytes_sent, &self.attempts];
        let sums = [&self.exchange_us, &self.wait_us, &self.transfer_us, &self.connect_us];
        let rare = [&self.retries, &self.retries_refused, &self.fallbacks];
        let tables = self.statuses.counters().iter().chain(self.reasons.counters());
        let times = self.response.counters().chain(self.edges.counters());
        first.into_iter().chain(sums).chain(rare).chain(tables).chain(times)
    }
}

/// A server, or all servers of a backend.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct ServerSeries {
    /// Attempts under way.
    pub active: Counter,
    /// Attempts begun.
    pub begun: Counter,
    /// Bytes sent to it.
    pub bytes_sent: Counter,
    /// Bytes received from it.
    pub bytes_received: Counter,
    /// The sum of the times of attempts, in microseconds.
    pub answered_us: Counter,
    /// Attempts on a pooled connection.
    pub reuses: Counter,
    /// Connections that were made for it.
    pub connects: Counter,
    /// Response heads by status.
    pub statuses: Statuses,
    /// The sum of the times that connecting took, in microseconds.
    pub connect_us: Counter,
    /// Attempts that were not an exchange's first.
    pub retries: Counter,
    /// Attempts for which no connection came about.
    pub connect_failures: Counter,
    /// Attempts that were sent and got no whole response.
    pub failures: Counter,
    /// Times of attempts.
    pub answered: Single,
}

impl ServerSeries {
    /// Times of attempts, from the pick to the response head, connecting included.
    pub fn attempt(&self) -> Histogram {
        self.answered.read(0, self.answered_us.get())
    }
}

impl Series for ServerSeries {
    fn active(&self) -> &Counter {
        &self.active
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        let usual = [&self.active, &self.begun, &self.bytes_sent, &self.bytes_received, &self.answered_us];
        let connections = [&self.reuses, &self.connects, &self.connect_us];
        let rare = [&self.retries, &self.connect_failures, &self.failures];
        let tables = self.statuses.counters().iter().chain(self.answered.counters());
        usual.into_iter().chain(connections).chain(rare).chain(tables)
    }
}

/// A backend whose servers may be full.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct QueueSeries {
    /// Requests that wait.
    pub active: Counter,
    /// The sum of the times that requests have waited, in microseconds.
    pub waited_us: Counter,
    /// Times that requests have waited, whatever came of it.
    pub waited: Single,
}

impl QueueSeries {
    /// Times that requests have waited until a server had room, or until they gave up.
    pub fn waits(&self) -> Histogram {
        self.waited.read(0, self.waited_us.get())
    }
}

impl Series for QueueSeries {
    fn active(&self) -> &Counter {
        &self.active
    }

    fn counters(&self) -> impl Iterator<Item = &Counter> {
        [&self.active, &self.waited_us].into_iter().chain(self.waited.counters())
    }
}

/// A listener. There are few and none ever leaves, so here everything is told apart, and the totals of a worker
/// and of the process are sums over its listeners.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerSeries {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections open.
    pub active: Counter,
    /// Connections turned away because a bound was reached.
    pub turned_away: Counter,
    /// Bytes received from clients.
    pub bytes_received: Counter,
    /// Bytes sent to clients.
    pub bytes_sent: Counter,
    /// Exchanges under way.
    pub exchanges: Counter,
    /// Exchanges that ended, by status.
    pub statuses: AllStatuses,
    /// Exchanges that we ended ourselves, by reason.
    pub reasons: AllReasons,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// What the table at the top says.
    #[test]
    fn what_an_exchange_writes_lies_together() {
        assert_eq!(offset_of!(ArmSeries, statuses), 56, "200s are in the first line");
        assert_eq!(offset_of!(ServerSeries, statuses), 56, "200s are in the first line");
        assert_eq!(offset_of!(ArmSeries, response) % 64, 0);
        assert_eq!(offset_of!(ArmSeries, edges) % 64, 0);
        assert_eq!(offset_of!(ServerSeries, answered) % 64, 0);
        assert!(size_of::<ArmSeries>() <= 8192, "{}", size_of::<ArmSeries>());
        assert!(size_of::<ServerSeries>() <= 2560, "{}", size_of::<ServerSeries>());
        assert!(size_of::<QueueSeries>() <= 2048, "{}", size_of::<QueueSeries>());
    }

    #[test]
    fn clearing_leaves_nothing() {
        let arm = ArmSeries::default();
        arm.counters().for_each(|counter| counter.add(7));
        assert!(arm.exchange().count() > 0 && arm.connect().sum_us() > 0);
        arm.clear();
        assert!(arm.counters().all(|counter| counter.get() == 0));
    }

    /// Whoever adds a counter and forgets to list it finds other gaps than those between tables.
    #[test]
    fn every_counter_is_listed_once() {
        assert_eq!(unlisted_bytes(&ArmSeries::default()), 48);
        assert_eq!(unlisted_bytes(&ServerSeries::default()), 64);
        assert_eq!(unlisted_bytes(&QueueSeries::default()), 48);
    }

    fn unlisted_bytes<S: Series>(series: &S) -> usize {
        let mut places: Vec<usize> =
            series.counters().map(|counter| std::ptr::from_ref(counter).addr()).collect();
        let listed = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), listed);
        size_of::<S>() - listed * size_of::<Counter>()
    }
}
