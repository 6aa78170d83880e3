//! Sampled exchanges on their way to a collector of traces: each worker fills buffers with records, and whoever tells
//! the collector takes them when it likes.
//!
//! Nobody is woken: the taker looks often enough for the buffers to hold what comes in between. A worker that finds
//! no room drops the record and counts it. It neither waits, nor allocates, nor makes a kernel call for any of this.

pub mod record;

use std::sync::Arc;
use std::time::Duration;

pub use self::record::{Place, SpanRecord};
use crate::handover::{Filling, Handover};
use crate::log::write::WallClock;

/// The taker's side.
#[derive(Debug)]
pub struct Spans {
    handover: Arc<Handover>,
}

/// A worker's side.
#[derive(Debug)]
pub struct SpanBuffer {
    records: Filling,
    clock: WallClock,
}

impl Spans {
    /// For so many workers.
    pub fn new(workers: usize) -> Spans {
        Spans { handover: Arc::new(Handover::new(workers, record::RECORD_BYTES_MAX)) }
    }

    /// A buffer for a worker to fill.
    ///
    /// # Panics
    /// If there are fewer workers.
    pub fn buffer(&self, worker: usize) -> SpanBuffer {
        SpanBuffer { records: Filling::new(&self.handover, worker, None), clock: WallClock::default() }
    }

    /// Takes what has been handed on until now, in each worker's order.
    pub fn take(&self, each: &mut dyn FnMut(SpanRecord<'_>)) {
        // Workers go on meanwhile, perhaps faster than `each`: no more than there is room for at a time.
        for _ in 0..self.handover.buffers() {
            let Some(filled) = self.handover.take() else { return };
            let mut rest = &filled.bytes[..];
            while let Some(record) = SpanRecord::read(&mut rest) {
                each(record);
            }
            debug_assert!(rest.is_empty(), "records are whole");
            self.handover.give_back(filled);
        }
    }
}

impl SpanBuffer {
    /// Adds a record. False if it was dropped because nobody takes them fast enough.
    pub fn record(&mut self, record: &SpanRecord<'_>) -> bool {
        self.records.room().map(|room| record.write(room)).is_some()
    }

    /// The time since 1970, `now` being the time of the workers' clock.
    pub fn time_of_day(&mut self, now: Duration) -> Duration {
        self.clock.at(now)
    }

    /// Hands on what has waited for long enough. Tells whether something still waits.
    pub fn look(&mut self, now: Duration) -> bool {
        self.records.look(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_order_and_what_has_no_room_is_dropped() {
        let spans = Spans::new(1);
        let mut buffer = spans.buffer(0);
        let path = [b'/'; 500];
        let add = |buffer: &mut SpanBuffer, id| {
            buffer.record(&SpanRecord { id, path: &path, ..SpanRecord::default() })
        };
        let added = (1..10_000).take_while(|id| add(&mut buffer, *id)).count() as u64;
        assert!((1_000..9_000).contains(&added), "{added}");
        assert!(!add(&mut buffer, 0));
        let mut seen = Vec::new();
        spans.take(&mut |record| seen.push(record.id));
        assert!(add(&mut buffer, added + 1), "there is room again");
        // As when a worker ends.
        drop(buffer);
        spans.take(&mut |record| seen.push(record.id));
        assert!(seen.iter().copied().eq(1..=added + 1), "{} of {added}", seen.len());
    }
}
