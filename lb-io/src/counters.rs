//! What a worker counts. Written by one worker, read by anyone.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Number of statuses counted apart: 0 to 599, 0 for an exchange that ended without one.
pub const STATUS_COUNT: usize = 600;

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

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    /// Connections accepted from clients.
    pub accepted: Counter,
    /// Client connections open now.
    pub active: Counter,
    /// Client connections turned away because a bound was reached.
    pub turned_away: Counter,
    /// Times accepting failed for want of descriptors or memory.
    pub accept_failures: Counter,
    /// Bytes received from clients.
    pub bytes_received: Counter,
    /// Bytes sent to clients.
    pub bytes_sent: Counter,
    /// Attempts at servers.
    pub attempts: Counter,
    /// Attempts that were not an exchange's first.
    pub retries: Counter,
    /// Connections made to servers.
    pub upstream_connects: Counter,
    /// Connects to servers that failed or timed out.
    pub upstream_connect_failures: Counter,
    /// Attempts that used a pooled connection.
    pub upstream_reuses: Counter,
    /// Idle connections to servers in the pool now.
    pub upstream_idle: Counter,
    /// Connections to servers open now.
    pub upstream_active: Counter,
    /// Exchanges served by another arm than the one that was chosen.
    pub fallbacks: Counter,
    /// Tunnels open now.
    pub tunnels: Counter,
    /// Access log lines lost because the writer did not keep up.
    pub log_lines_dropped: Counter,
    /// Bytes of buffers in use now.
    pub buffer_bytes: Counter,
    /// Exchanges by the status that the client was sent (499: it left before; 0: none applies).
    pub requests_by_status: Box<[Counter]>,
    /// Local replies by reason word. Locked on the way of a refused request only.
    local_replies: Mutex<Vec<(&'static str, u64)>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            active: Counter::default(),
            turned_away: Counter::default(),
            accept_failures: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            attempts: Counter::default(),
            retries: Counter::default(),
            upstream_connects: Counter::default(),
            upstream_connect_failures: Counter::default(),
            upstream_reuses: Counter::default(),
            upstream_idle: Counter::default(),
            upstream_active: Counter::default(),
            fallbacks: Counter::default(),
            tunnels: Counter::default(),
            log_lines_dropped: Counter::default(),
            buffer_bytes: Counter::default(),
            requests_by_status: (0..STATUS_COUNT).map(|_| Counter::default()).collect(),
            local_replies: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts an exchange's end.
    pub fn count_status(&self, status: u16) {
        self.requests_by_status[usize::from(status).min(STATUS_COUNT - 1)].add(1);
    }

    /// Counts a local reply, or an exchange that we ended, under its reason word.
    pub fn count_local_reply(&self, word: &'static str) {
        let mut replies = self.local_replies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match replies.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => replies.push((word, 1)),
        }
    }

    /// Statuses seen so far, with how often.
    pub fn statuses(&self) -> Vec<(u16, u64)> {
        let counts = self.requests_by_status.iter().enumerate();
        counts
            .filter(|(_, count)| count.get() > 0)
            .map(|(status, count)| (status as u16, count.get()))
            .collect()
    }

    /// Local replies so far by reason word.
    pub fn local_replies(&self) -> Vec<(&'static str, u64)> {
        self.local_replies.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
