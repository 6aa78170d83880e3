//! Counts by exact status.
//!
//! A table of all statuses from 0 to 599 is 4.8 KB, which a listener may have and a server, of which there may be
//! thousands on every worker, may not: 64 statuses are nearly all that is ever sent. So [`Statuses`] counts exactly
//! those that are registered, 499 and 0, and all others by their hundred. Which ones are exact is fixed, not a
//! matter of which came first: then workers, processes and reloads agree, and the number of series is known before
//! the first request.

use crate::counters::Counter;

/// Statuses from here on are counted as if they were the one below.
const STATUS_END: usize = 600;

/// The statuses that are counted each for itself: those of IANA's registry (read 2026-11), 499 for a client that
/// left and 0 for an exchange without one. The first stand together in one cache line with what an exchange writes
/// anyway, so the usual ones come first.
const EXACT: [u16; 64] = [
    200, 304, 204, 201, 206, 302, 301, 404, 400, 401, 403, 499, 500, 502, 503, 504, //
    101, 100, 102, 103, 202, 203, 205, 207, 208, 226, 300, 303, 305, 307, 308, 402, //
    405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, //
    423, 424, 425, 426, 428, 429, 431, 451, 501, 505, 506, 507, 508, 510, 511, 0,
];

/// Places for the others, by hundred from 100 on.
const HUNDREDS: usize = STATUS_END / 100 - 1;

/// Most different statuses that a series tells apart.
pub const STATUSES_MAX: usize = EXACT.len() + HUNDREDS;

/// The place of every status.
const PLACE: [u8; STATUS_END] = {
    let mut place = [0; STATUS_END];
    let mut status = 0;
    while status < STATUS_END {
        // There are none below 100, but for 0.
        place[status] = if status < 100 { EXACT.len() - 1 } else { EXACT.len() + status / 100 - 1 } as u8;
        status += 1;
    }
    let mut at = 0;
    while at < EXACT.len() {
        place[EXACT[at] as usize] = at as u8;
        at += 1;
    }
    place
};

/// Counts of the usual statuses; the others by hundred.
#[derive(Debug)]
#[repr(transparent)]
pub struct Statuses([Counter; STATUSES_MAX]);

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses(std::array::from_fn(|_| Counter::default()))
    }
}

impl Statuses {
    /// Counts one. Only the owning worker may.
    pub fn count(&self, status: u16) {
        self.0[usize::from(PLACE[usize::from(status).min(STATUS_END - 1)])].add(1);
    }

    /// All counters, in the order of [`status_at`].
    pub fn counters(&self) -> &[Counter] {
        &self.0
    }
}

/// The status that is counted at a place of [`Statuses::counters`]. 1 to 5 stand for all other statuses of that
/// hundred.
pub fn status_at(place: usize) -> u16 {
    EXACT.get(place).copied().unwrap_or_else(|| (place - EXACT.len() + 1) as u16)
}

/// Counts of all statuses.
#[derive(Debug)]
pub struct AllStatuses(Box<[Counter]>);

impl Default for AllStatuses {
    fn default() -> AllStatuses {
        AllStatuses((0..STATUS_END).map(|_| Counter::default()).collect())
    }
}

impl AllStatuses {
    /// Counts one. Only the owning worker may.
    pub fn count(&self, status: u16) {
        self.0[usize::from(status).min(STATUS_END - 1)].add(1);
    }

    /// Statuses seen so far, with how often.
    pub fn seen(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.0.iter().enumerate().map(|(status, count)| (status as u16, count.get()));
        counts.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_counted_once_and_where_it_says() {
        let (statuses, all) = (Statuses::default(), AllStatuses::default());
        for status in 0..=700 {
            statuses.count(status);
            all.count(status);
        }
        let counts = statuses.counters().iter().map(Counter::get);
        let mut by_hundred = [0; HUNDREDS + 1];
        for (place, count) in counts.enumerate() {
            match status_at(place) {
                status if status == 0 || status >= 100 => {
                    assert_eq!(count, if status == 0 { 100 } else { 1 }, "{status}");
                    by_hundred[usize::from(status / 100)] += count;
                }
                hundred => by_hundred[usize::from(hundred)] += count,
            }
        }
        // Statuses that there are not are counted with the last.
        assert_eq!(by_hundred, [100, 100, 100, 100, 100, 100 + 101]);
        assert_eq!(all.seen().map(|(_, count)| count).sum::<u64>(), 701);
        assert_eq!(all.seen().last(), Some((599, 102)));
    }
}
