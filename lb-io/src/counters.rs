//! What a worker counts. Written by one worker, read by anyone.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A number with one writer. Adding is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning worker may.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Takes away. Only the owning worker may.
    pub fn subtract(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }

    /// Takes one away, as the last thing that its writer does: whoever sees the result by [`Counter::acquire`] also
    /// sees everything that was written before. Only the owning worker may.
    pub fn leave(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Release);
    }

    /// The value, with all that was written before it was reached by [`Counter::leave`].
    pub fn acquire(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Sets. Only the owning worker may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value, perhaps a moment old.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts for a class; nothing where all routes have the same.
#[derive(Debug, Default)]
pub struct ClassCounters {
    /// Requests that wait for their turn now.
    pub waiting: Counter,
    /// Time that requests have waited for their turn, in microseconds.
    pub waited_us: Counter,
    /// Requests that were refused because too many waited.
    pub refused: Counter,
    /// Time that the class has had of the worker, in nanoseconds.
    pub busy_ns: Counter,
}

/// The counters of one worker as a whole; what belongs to a listener, an arm or a server is in
/// [`metrics`](crate::metrics).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    /// Attempts at servers.
    pub attempts: Counter,
    /// Attempts that used a pooled connection.
    pub upstream_reuses: Counter,
    /// Connections to servers open now.
    pub upstream_active: Counter,
    /// Idle connections to servers in the pool now.
    pub upstream_idle: Counter,
    /// Bytes of buffers in use now.
    pub buffer_bytes: Counter,
    /// Connections made to servers.
    pub upstream_connects: Counter,
    /// Connects to servers that failed or timed out.
    pub upstream_connect_failures: Counter,
    /// Attempts that were not an exchange's first.
    pub retries: Counter,
    /// Further attempts that would have been made, had the budget had one.
    pub retries_refused: Counter,
    /// Exchanges served by another arm than the one that was chosen.
    pub fallbacks: Counter,
    /// Times accepting failed for want of descriptors or memory.
    pub accept_failures: Counter,
    /// Client connections that were accepted and wait until there is room for them.
    pub held: Counter,
    /// Tunnels open now.
    pub tunnels: Counter,
    /// Access log lines lost because the writer did not keep up.
    pub log_lines_dropped: Counter,
    /// Sampled exchanges that no span tells of, because nobody took them fast enough.
    pub spans_dropped: Counter,
    /// By class, the first first.
    pub classes: [ClassCounters; 3],
}
