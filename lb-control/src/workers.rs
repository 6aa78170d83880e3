//! What the control side needs of the side that moves bytes.

use std::sync::Arc;
use std::time::Duration;

/// The workers, as far as the control side knows them. The binary fills it with its engine.
///
/// No call blocks for longer than it takes to swap a pointer or read counters.
pub trait Workers: Send + Sync + 'static {
    /// Hands the workers a new table. Exchanges that were decided by the old one finish with it.
    fn publish(&self, table: Arc<lb_core::Table>);

    /// What the workers have counted until now.
    fn read(&self) -> Reading;

    /// The workers' clock, which live state counts by.
    fn now(&self) -> Duration;

    /// Stops accepting; exchanges under way may finish until the deadline, then are cut. A second call with
    /// a shorter deadline shortens it.
    fn drain(&self, deadline: Duration);

    /// True once every worker has stopped.
    fn finished(&self) -> bool;
}

/// Plain numbers from the workers. All but those named `active`, `idle` or in bytes of memory only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The driver in use: `io_uring` or `epoll`.
    pub driver: String,
    /// One entry per worker.
    pub workers: Vec<WorkerReading>,
}

/// One worker's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerReading {
    /// Connections accepted from clients.
    pub accepted: u64,
    /// Client connections open now.
    pub active: u64,
    /// Client connections turned away because a bound was reached.
    pub turned_away: u64,
    /// Times accepting failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// Exchanges by the status that the client was sent; 499: it left before; 0: none applies.
    pub requests: Vec<(u16, u64)>,
    /// Local replies by reason word.
    pub local_replies: Vec<(String, u64)>,
    /// Attempts at servers.
    pub attempts: u64,
    /// Attempts that were not an exchange's first.
    pub retries: u64,
    /// Exchanges served by another arm than the one that was chosen.
    pub fallbacks: u64,
    /// Connections made to servers.
    pub upstream_connects: u64,
    /// Connects to servers that failed or timed out.
    pub upstream_connect_failures: u64,
    /// Attempts that used a pooled connection.
    pub upstream_reuses: u64,
    /// Connections to servers open now.
    pub upstream_active: u64,
    /// Of those, idle in the pool.
    pub upstream_idle: u64,
    /// Tunnels open now.
    pub tunnels_active: u64,
    /// Access log lines lost because the writer did not keep up.
    pub log_lines_dropped: u64,
    /// Bytes of buffers in use now.
    pub buffer_bytes: u64,
}
