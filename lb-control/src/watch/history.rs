//! What one arm did of late: ten seconds one by one, five minutes in slots of ten seconds.
//!
//! A second that leaves the ten is added to the open slot. A slot is *usual* unless the arm had jumped against its own
//! past meanwhile; only usual slots say what is usual. So a jump does not become its own yardstick, and one that lasts
//! has pushed the last usual slot out after five minutes: from then on the new level is learned.

use std::collections::VecDeque;

use lb_core::histogram::{BUCKETS, Histogram};

use super::evidence::Part;
use super::times::Times;
use crate::workers::{ExchangeNumbers, by_hundreds, since};

/// Seconds that are kept one by one, and seconds of a slot.
pub const SECONDS: usize = 10;

/// Slots that are kept: five minutes.
pub const SLOTS: usize = 30;

/// Usual slots without which one does not know what is usual: a minute.
pub const USUAL_SLOTS_MIN: usize = 6;

/// Bytes that the history of an arm takes at most: for both sides a count of four bytes for every bucket of each
/// second and slot, and the last reading. Times from 1 ms to 1 s take a third of it.
pub const BYTES_MAX: usize = 2 * (SECONDS + 1 + SLOTS + 1) * (BUCKETS * 4 + 64) + 2 * BUCKETS * 8 + 256;

/// What came within a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Came {
    /// As the clients saw it.
    pub exchange: Times,
    /// As the servers gave it.
    pub wait: Times,
    /// Exchanges that ended, by hundreds of their status; the first is for those without one.
    pub statuses: [u64; 6],
}

impl Came {
    /// Adds what another has.
    pub fn merge(&mut self, other: &Came) {
        self.exchange.merge(&other.exchange);
        self.wait.merge(&other.wait);
        self.statuses.iter_mut().zip(other.statuses).for_each(|(sum, count)| *sum += count);
    }

    /// Exchanges that ended.
    pub fn ended(&self) -> u64 {
        self.statuses.iter().sum()
    }

    /// Failures, which are statuses of 500 and more, of all.
    pub fn failures(&self) -> Part {
        Part { hits: self.statuses[5], all: self.ended() }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    came: Came,
    usual: bool,
}

/// What was read last.
#[derive(Debug, Clone, Default)]
struct Last {
    exchange: Histogram,
    wait: Histogram,
    statuses: [u64; 6],
}

impl Last {
    fn of(numbers: &ExchangeNumbers) -> Last {
        Last {
            exchange: numbers.exchange.clone(),
            wait: numbers.wait.clone(),
            statuses: by_hundreds(&numbers.requests),
        }
    }
}

/// The history of an arm.
#[derive(Debug, Default)]
pub struct History {
    last: Last,
    seconds: VecDeque<Came>,
    open: Came,
    open_begun: bool,
    open_unusual: bool,
    slots: VecDeque<Slot>,
}

impl History {
    /// One that begins with this reading.
    pub fn new(numbers: &ExchangeNumbers) -> History {
        History { last: Last::of(numbers), ..History::default() }
    }

    /// Takes what was read a second after the last time. `usual` says whether the arm is as it was, `close` that the
    /// open slot ends: for all arms together, so that their slots are of the same seconds.
    pub fn take(&mut self, numbers: &ExchangeNumbers, usual: bool, close: bool) {
        let now = Last::of(numbers);
        let came = Came {
            exchange: Times::of(&now.exchange.since(&self.last.exchange)),
            wait: Times::of(&now.wait.since(&self.last.wait)),
            statuses: since(&now.statuses, &self.last.statuses),
        };
        self.last = now;
        if self.seconds.len() == SECONDS
            && let Some(oldest) = self.seconds.pop_front()
        {
            self.open.merge(&oldest);
            self.open_unusual |= !usual;
            self.open_begun = true;
        }
        self.seconds.push_back(came);
        if close && self.open_begun {
            if self.slots.len() == SLOTS {
                self.slots.pop_front();
            }
            let came = std::mem::take(&mut self.open);
            self.slots.push_back(Slot { came, usual: !self.open_unusual });
            (self.open_begun, self.open_unusual) = (false, false);
        }
    }

    /// The newest seconds, at most so many of the ten, the newest first.
    pub fn newest(&self, seconds: usize) -> Vec<&Came> {
        self.seconds.iter().rev().take(seconds).collect()
    }

    /// The last minute, in parts, the newest first.
    pub fn minute(&self) -> Vec<&Came> {
        let mut parts = self.newest(SECONDS);
        parts.push(&self.open);
        parts.extend(self.slots.iter().rev().take(5).map(|slot| &slot.came));
        parts
    }

    /// What is usual, from the five minutes before the ten seconds; none as long as one does not know.
    pub fn usual(&self) -> Option<Came> {
        let usual = || self.slots.iter().filter(|slot| slot.usual);
        if usual().count() < USUAL_SLOTS_MIN {
            return None;
        }
        let mut sum = Came::default();
        usual().for_each(|slot| sum.merge(&slot.came));
        Some(sum)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let came = |came: &Came| size_of::<Came>() + came.exchange.bytes() + came.wait.bytes();
        let last = if self.last.exchange.count() > 0 { 2 * BUCKETS * 8 } else { 0 };
        let slots = self.slots.iter().map(|slot| came(&slot.came) + 8);
        last + came(&self.open) + self.seconds.iter().map(came).sum::<usize>() + slots.sum::<usize>()
    }
}
