//! How often changed addresses make a table: soon after a change, several changes in one, and never so often that making
//! tables is what we do.

use std::time::{Duration, Instant};

/// How long after a change further ones are gathered into the same table.
pub const GATHER: Duration = Duration::from_millis(20);

/// The least time between two tables for changed addresses.
pub const GAP_MIN: Duration = Duration::from_millis(200);

/// Of so many parts of the time at most one is spent on making tables for changed addresses.
pub const COST_PARTS: u32 = 10;

/// When the next table may be made. No clock: time comes in.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    due: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Pace {
    /// Something has changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        let soonest = self.rests_until.map_or(now + GATHER, |until| until.max(now + GATHER));
        self.due.get_or_insert(soonest);
    }

    /// When a table is to be made; `None`: nothing has changed.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A table with all changes until now has been made, which took so long.
    pub(crate) fn made(&mut self, now: Instant, took: Duration) {
        self.due = None;
        self.rests_until = Some(now + GAP_MIN.max(took.saturating_mul(COST_PARTS - 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_gathered_and_tables_are_apart() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        pace.changed(at(0));
        pace.changed(at(15));
        assert_eq!(pace.due(), Some(at(20)), "later changes wait no longer than the first");
        pace.made(at(20), Duration::from_millis(1));
        assert_eq!(pace.due(), None);
        pace.changed(at(30));
        assert_eq!(pace.due(), Some(at(220)));
        pace.made(at(220), Duration::from_millis(100));
        pace.changed(at(230));
        assert_eq!(pace.due(), Some(at(1120)), "what costs much is done seldom");
        pace.made(at(1120), Duration::ZERO);
        pace.changed(at(5000));
        assert_eq!(pace.due(), Some(at(5020)), "after a rest the next change is quick");
    }
}
