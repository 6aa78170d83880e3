//! Mean times of the last minute, which HAProxy's exporter shows instead of distributions.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metrics::shares::{STEP, WINDOW};
use crate::workers::{BackendReading, ServerReading, Workers};

/// Notes kept.
const NOTES_MAX: usize = (WINDOW.as_secs() / STEP.as_secs()) as usize;

/// A count and the sum of its times, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    us: u64,
}

impl Sum {
    /// The mean of what came since, in seconds; 0 if nothing did.
    fn mean_since(self, before: Sum) -> f64 {
        let begun_anew = self.count < before.count;
        let before = if begun_anew { Sum::default() } else { before };
        let (count, us) = (self.count - before.count, self.us.saturating_sub(before.us));
        if count == 0 { 0.0 } else { us as f64 / count as f64 / 1e6 }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    connect: Sum,
    response: Sum,
    total: Sum,
}

/// Mean times, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    pub(super) connect: f64,
    pub(super) response: f64,
    pub(super) total: f64,
}

type ServerName = (Arc<str>, Arc<str>, Option<SocketAddr>);

#[derive(Debug, Default)]
struct Note {
    backends: HashMap<Arc<str>, Sums>,
    servers: HashMap<ServerName, Sums>,
}

/// Sums as they were during the last minute.
#[derive(Debug, Default)]
pub(crate) struct Means(Mutex<VecDeque<Note>>);

fn sums_of_server(server: &ServerReading) -> Sums {
    let attempts = &server.attempts;
    let response = Sum { count: attempts.attempt.count(), us: attempts.attempt.sum_us() };
    // What follows the response head is not measured by server.
    Sums { connect: Sum { count: attempts.connects, us: attempts.connect_us }, response, total: response }
}

fn sums_of_backend(backend: &BackendReading) -> Sums {
    let of = |times: &lb_core::histogram::Histogram| Sum { count: times.count(), us: times.sum_us() };
    let exchanges = &backend.exchanges;
    Sums { connect: of(&exchanges.connect), response: of(&exchanges.wait), total: of(&exchanges.exchange) }
}

fn server_name(server: &ServerReading) -> ServerName {
    (Arc::clone(&server.backend), Arc::clone(&server.name), server.address)
}

impl Means {
    /// Notes how things stand.
    pub(in crate::metrics) fn note(&self, workers: &dyn Workers) {
        let backends = workers.backends();
        let servers = workers.servers();
        let note = Note {
            backends: backends.iter().map(|it| (Arc::clone(&it.name), sums_of_backend(it))).collect(),
            servers: servers.iter().map(|it| (server_name(it), sums_of_server(it))).collect(),
        };
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() == NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back(note);
    }

    fn since(&self, now: Sums, before: impl Fn(&Note) -> Option<Sums>) -> Mean {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = notes.front().and_then(before).unwrap_or_default();
        Mean {
            connect: now.connect.mean_since(before.connect),
            response: now.response.mean_since(before.response),
            total: now.total.mean_since(before.total),
        }
    }

    pub(super) fn of_backend(&self, backend: &BackendReading) -> Mean {
        self.since(sums_of_backend(backend), |note| note.backends.get(&backend.name).copied())
    }

    pub(super) fn of_server(&self, server: &ServerReading) -> Mean {
        self.since(sums_of_server(server), |note| note.servers.get(&server_name(server)).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_what_came_since() {
        let sum = |count, us| Sum { count, us };
        assert_eq!(sum(10, 20_000_000).mean_since(Sum::default()), 2.0);
        assert_eq!(sum(12, 20_000_500).mean_since(sum(10, 20_000_000)), 0.00025);
        assert_eq!(sum(10, 5).mean_since(sum(10, 5)), 0.0);
        assert_eq!(sum(2, 4_000_000).mean_since(sum(10, 20_000_000)), 2.0, "it began anew");
    }
}
