//! What has been counted, merged over the workers, as plain values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_core::histogram::Histogram;

use super::reasons::word_at;
use super::series::{ArmSeries, ServerSeries};
use super::statuses::status_at;
use crate::counters::Counter;

/// Whose exchanges these are. All names are empty for those that were refused before they had a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArmKey {
    /// Its route; empty where routes are not told apart.
    pub route: Arc<str>,
    /// `stable` or `canary`; empty for a route that answers by itself.
    pub arm: &'static str,
    /// The backend that the arm leads to. An arm that is led elsewhere is another series.
    pub backend: Arc<str>,
}

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey {
    /// Its backend.
    pub backend: Arc<str>,
    /// Its name; empty where servers are not told apart.
    pub name: Arc<str>,
    /// Its address; none where servers are not told apart.
    pub address: Option<SocketAddr>,
}

/// Counts by status; 1 to 5 stand for all other statuses of that hundred.
pub type ByStatus = BTreeMap<u16, u64>;

/// Counts by reason word.
pub type ByReason = BTreeMap<&'static str, u64>;

/// What an arm's exchanges came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArmTotals {
    /// Exchanges under way.
    pub active: u64,
    /// Exchanges that ended, by status.
    pub requests: ByStatus,
    /// Exchanges that we ended ourselves, by reason.
    pub local_replies: ByReason,
    /// Bytes from clients.
    pub bytes_received: u64,
    /// Bytes to clients.
    pub bytes_sent: u64,
    /// Attempts at servers.
    pub attempts: u64,
    /// Of those, not the first of their exchange.
    pub retries: u64,
    /// Further attempts that would have been made, had the budget had one.
    pub retries_refused: u64,
    /// Exchanges of this arm's sessions that another arm served.
    pub fallbacks: u64,
    /// Times of exchanges, as the clients saw them; without tunnels.
    pub exchange: Histogram,
    /// Times that new connections to servers took.
    pub connect: Histogram,
    /// Times from the connection to the response head, or to when we gave up waiting for it.
    pub wait: Histogram,
    /// Times from the response head to the end; without tunnels.
    pub transfer: Histogram,
}

/// What a server's attempts came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTotals {
    /// Attempts under way.
    pub active: u64,
    /// Response heads by status.
    pub responses: ByStatus,
    /// Bytes to it.
    pub bytes_sent: u64,
    /// Bytes from it.
    pub bytes_received: u64,
    /// Connections made to it.
    pub connects: u64,
    /// The sum of the times that they took, in microseconds.
    pub connect_us: u64,
    /// Attempts on a pooled connection.
    pub reuses: u64,
    /// Attempts that were not an exchange's first.
    pub retries: u64,
    /// Attempts begun.
    pub begun: u64,
    /// Attempts for which no connection came about.
    pub connect_failures: u64,
    /// Attempts that were sent and got no whole response.
    pub failures: u64,
    /// Times of attempts, from the pick to the response head or to when we gave up waiting for it.
    pub attempt: Histogram,
}

/// What a backend's arms and servers came to, former ones included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendTotals {
    /// Of all arms that led or lead to it.
    pub arms: ArmTotals,
    /// Of all servers that it had or has.
    pub servers: ServerTotals,
    /// Times that requests have waited for its servers.
    pub waits: Histogram,
}

fn add_all<K: Ord>(to: &mut BTreeMap<K, u64>, from: impl IntoIterator<Item = (K, u64)>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}

/// Counts that are there, under the name of their place.
fn by_place<K>(counters: &[Counter], name: fn(usize) -> K) -> impl Iterator<Item = (K, u64)> {
    let counts = counters.iter().map(Counter::get).enumerate();
    counts.filter(|(_, count)| *count > 0).map(move |(place, count)| (name(place), count))
}

impl ArmTotals {
    /// Adds what one worker has counted.
    pub(super) fn add(&mut self, series: &ArmSeries) {
        self.active += series.active.get();
        add_all(&mut self.requests, by_place(series.statuses.counters(), status_at));
        add_all(&mut self.local_replies, by_place(series.reasons.counters(), word_at));
        self.bytes_received += series.bytes_received.get();
        self.bytes_sent += series.bytes_sent.get();
        self.attempts += series.attempts.get();
        self.retries += series.retries.get();
        self.retries_refused += series.retries_refused.get();
        self.fallbacks += series.fallbacks.get();
        self.exchange.merge(&series.exchange());
        self.connect.merge(&series.connect());
        self.wait.merge(&series.wait());
        self.transfer.merge(&series.transfer());
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &ArmTotals) {
        self.active += other.active;
        add_all(&mut self.requests, other.requests.clone());
        add_all(&mut self.local_replies, other.local_replies.clone());
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.retries_refused += other.retries_refused;
        self.fallbacks += other.fallbacks;
        self.exchange.merge(&other.exchange);
        self.connect.merge(&other.connect);
        self.wait.merge(&other.wait);
        self.transfer.merge(&other.transfer);
    }
}

impl ServerTotals {
    /// Adds what one worker has counted.
    pub(super) fn add(&mut self, series: &ServerSeries) {
        self.active += series.active.get();
        add_all(&mut self.responses, by_place(series.statuses.counters(), status_at));
        self.bytes_sent += series.bytes_sent.get();
        self.bytes_received += series.bytes_received.get();
        self.connects += series.connects.get();
        self.connect_us += series.connect_us.get();
        self.reuses += series.reuses.get();
        self.retries += series.retries.get();
        self.begun += series.begun.get();
        self.connect_failures += series.connect_failures.get();
        self.failures += series.failures.get();
        self.attempt.merge(&series.attempt());
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &ServerTotals) {
        self.active += other.active;
        add_all(&mut self.responses, other.responses.clone());
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.connects += other.connects;
        self.connect_us += other.connect_us;
        self.reuses += other.reuses;
        self.retries += other.retries;
        self.begun += other.begun;
        self.connect_failures += other.connect_failures;
        self.failures += other.failures;
        self.attempt.merge(&other.attempt);
    }
}
