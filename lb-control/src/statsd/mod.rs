//! Numbers for StatsD, with DogStatsD's tags: what has been counted since the last time, at an interval.
//!
//! Nobody waits for the sink. A packet that it does not take is lost and counted, and so is the rest of a round that
//! is not done when the next begins; after a failure there is a new socket, so a sink that comes back is found again
//! at the next interval. Counts that were lost are not sent later: what is stored on the other side would show them
//! at the wrong time.

mod lines;
mod sink;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use self::lines::Lines;
use self::sink::Sink;
use crate::config::StatsdSettings;
use crate::control::Shared;
use crate::metrics::collect;

/// How long the last round may take when we stop.
const LAST_ROUND: Duration = Duration::from_millis(500);

/// Packets, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    /// The system took them.
    pub(crate) sent: AtomicU64,
    /// It did not, or it told later that nobody listens there.
    pub(crate) lost: AtomicU64,
}

/// Tells a sink until the future is dropped.
pub(crate) struct Teller {
    shared: Arc<Shared>,
    settings: StatsdSettings,
    lines: Lines,
    sink: Option<Sink>,
    /// The last round failed: it has been said.
    failing: bool,
}

impl Teller {
    pub(crate) fn new(shared: Arc<Shared>, settings: StatsdSettings) -> Teller {
        let lines = Lines::new(&settings.prefix, &settings.tags);
        Teller { shared, settings, lines, sink: None, failing: false }
    }

    /// Tells at every interval.
    pub(crate) async fn run(&mut self) {
        let every = self.settings.interval;
        let mut rounds = interval_at(Instant::now() + every, every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let begun = rounds.tick().await;
            self.round(begun + every).await;
        }
    }

    /// Tells what was counted since the last round, in as much time as there is when we stop.
    pub(crate) async fn finish(mut self) {
        // What is under way is lost with the runtime.
        let _ = timeout(LAST_ROUND, self.round(Instant::now() + LAST_ROUND)).await;
    }

    async fn round(&mut self, until: Instant) {
        let shared = Arc::clone(&self.shared);
        // Thousands of servers take milliseconds to read, in which our thread has other things to do.
        let Ok(families) = tokio::task::spawn_blocking(move || collect::families(&shared)).await else {
            return;
        };
        let packets = self.lines.packets(&families, sink::packet_len(&self.settings.sink));
        let (mut sent, mut refused, mut failed) = (0, 0, None);
        for packet in &packets {
            let mut result = self.send(packet, until).await;
            if let Err(error) = &result
                && failed.is_none()
            {
                // UDP tells with one packet that an earlier one was refused.
                refused += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                failed = result.err();
                // The old socket's sink may be gone, and a new one there: once in a round it is tried.
                self.sink = None;
                result = self.send(packet, until).await;
            }
            if let Err(error) = result {
                self.sink = None;
                failed = Some(error);
                break;
            }
            sent += 1;
        }
        let counts = &self.shared.statsd;
        let lost = (packets.len() as u64 - sent + refused).min(packets.len() as u64);
        counts.sent.fetch_add(sent, Relaxed);
        counts.lost.fetch_add(lost, Relaxed);
        self.say(failed.filter(|_| lost > 0));
    }

    async fn send(&mut self, packet: &[u8], until: Instant) -> io::Result<()> {
        if self.sink.is_none() {
            let connected = timeout_at(until, Sink::connect(&self.settings.sink)).await;
            self.sink = Some(connected.map_err(|_| io::ErrorKind::TimedOut)??);
        }
        let Some(sink) = &self.sink else { return Err(io::ErrorKind::NotConnected.into()) };
        timeout_at(until, sink.send(packet)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Says once that the sink has gone, and once that it is back.
    fn say(&mut self, failed: Option<io::Error>) {
        let failing = failed.is_some();
        match failed {
            Some(error) if !self.failing => {
                tracing::warn!(%error, sink = %self.settings.sink, "StatsD does not take our packets; they are lost");
            }
            None if self.failing => {
                tracing::info!(sink = %self.settings.sink, "StatsD takes our packets again")
            }
            _ => {}
        }
        self.failing = failing;
    }
}
