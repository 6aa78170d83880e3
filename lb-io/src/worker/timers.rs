//! One deadline per connection, on a timer wheel.
//!
//! Setting a deadline is a store in most cases: an entry sits on the wheel at some tick at or before its
//! deadline, and only when that tick comes is the deadline compared and the entry moved on. So a request
//! that pushes its deadline out touches no neighbour's memory. (Varghese & Lauck, "Hashed and
//! hierarchical timing wheels", 1987, scheme 6, with lazy re-insertion.)

use std::time::Duration;

/// Length of a tick. Deadlines fire up to one tick late, never early.
pub const TICK_MS: u64 = 16;

/// Slots of the wheel: deadlines further out than this many ticks are looked at once per turn of the wheel.
const WHEEL_SLOTS: usize = 4096;

/// How far [`Timers::next_wait`] looks: about a second, the longest that a worker with connections sleeps.
const LOOK_AHEAD_TICKS: u64 = 64;

const NONE: u32 = u32::MAX;

/// No deadline.
const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    deadline_tick: u64,
    /// Where the entry sits on the wheel, if it does.
    linked_tick: u64,
    next: u32,
    previous: u32,
}

const IDLE_ENTRY: Entry = Entry { deadline_tick: NEVER, linked_tick: NEVER, next: NONE, previous: NONE };

/// The deadlines of a worker's connections, by connection index.
#[derive(Debug)]
pub struct Timers {
    entries: Vec<Entry>,
    heads: Box<[u32]>,
    /// All ticks before this one were handled.
    next_tick: u64,
    linked: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            heads: vec![NONE; WHEEL_SLOTS].into_boxed_slice(),
            next_tick: 0,
            linked: 0,
        }
    }
}

impl Timers {
    /// Sets the deadline of connection `index`, replacing the one it had.
    pub fn set(&mut self, index: u32, deadline: Duration) {
        let tick = (deadline.as_millis() as u64).div_ceil(TICK_MS).max(self.next_tick);
        if self.entries.len() <= index as usize {
            self.entries.resize(index as usize + 1, IDLE_ENTRY);
        }
        let entry = &mut self.entries[index as usize];
        entry.deadline_tick = tick;
        if entry.linked_tick <= tick {
            return;
        }
        self.unlink(index);
        self.link(index, tick);
    }

    /// Takes the deadline of connection `index` away.
    pub fn clear(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.deadline_tick = NEVER;
        }
    }

    /// Takes the deadline away and the entry off the wheel: the connection is closed.
    pub fn remove(&mut self, index: u32) {
        if (index as usize) < self.entries.len() {
            self.unlink(index);
            self.entries[index as usize] = IDLE_ENTRY;
        }
    }

    /// Moves to `now` and appends the connections whose deadlines have passed to `expired`; they have no
    /// deadline afterwards.
    pub fn expire(&mut self, now: Duration, expired: &mut Vec<u32>) {
        let now_tick = now.as_millis() as u64 / TICK_MS;
        if now_tick < self.next_tick {
            return;
        }
        if self.linked > 0 {
            // A long sleep passes each slot at most once.
            let first = self.next_tick.max((now_tick + 1).saturating_sub(WHEEL_SLOTS as u64));
            self.next_tick = now_tick + 1;
            for tick in first..=now_tick {
                self.expire_slot(tick as usize % WHEEL_SLOTS, now_tick, expired);
            }
        }
        self.next_tick = now_tick + 1;
    }

    fn expire_slot(&mut self, slot: usize, now_tick: u64, expired: &mut Vec<u32>) {
        let mut index = std::mem::replace(&mut self.heads[slot], NONE);
        while index != NONE {
            let entry = &mut self.entries[index as usize];
            let (next, deadline_tick, linked_tick) = (entry.next, entry.deadline_tick, entry.linked_tick);
            (entry.next, entry.previous, entry.linked_tick) = (NONE, NONE, NEVER);
            self.linked -= 1;
            if linked_tick > now_tick {
                // A whole turn of the wheel away: it stays where it is.
                self.link(index, linked_tick);
            } else if deadline_tick <= now_tick {
                entry.deadline_tick = NEVER;
                expired.push(index);
            } else if deadline_tick != NEVER {
                self.link(index, deadline_tick);
            }
            index = next;
        }
    }

    /// How long a wait may last until a slot of the wheel is due, or None if nothing is on it. Looks
    /// about a second ahead and no further, so that asking is cheap.
    pub fn next_wait(&self, now: Duration) -> Option<Duration> {
        if self.linked == 0 {
            return None;
        }
        let horizon = self.next_tick + LOOK_AHEAD_TICKS;
        let due = (self.next_tick..horizon)
            .find(|tick| self.heads[*tick as usize % WHEEL_SLOTS] != NONE)
            .unwrap_or(horizon);
        Some(Duration::from_millis(due * TICK_MS).saturating_sub(now))
    }

    fn link(&mut self, index: u32, tick: u64) {
        let slot = tick as usize % WHEEL_SLOTS;
        let head = std::mem::replace(&mut self.heads[slot], index);
        if head != NONE {
            self.entries[head as usize].previous = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.linked_tick, entry.next, entry.previous) = (tick, head, NONE);
        self.linked += 1;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { linked_tick, next, previous, .. } = self.entries[index as usize];
        if linked_tick == NEVER {
            return;
        }
        match previous {
            NONE => self.heads[linked_tick as usize % WHEEL_SLOTS] = next,
            _ => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        let entry = &mut self.entries[index as usize];
        (entry.linked_tick, entry.next, entry.previous) = (NEVER, NONE, NONE);
        self.linked -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Remove(u32),
        Advance(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..20u32, 0..200_000u64).prop_map(|(index, ms)| Step::Set(index, ms)),
            1 => (0..20u32).prop_map(Step::Clear),
            1 => (0..20u32).prop_map(Step::Remove),
            3 => prop_oneof![0..100u64, 0..10_000u64, 0..150_000u64].prop_map(Step::Advance),
        ];
        prop::collection::vec(step, 1..80)
    }

    proptest! {
        /// Against a plain table of deadlines: nothing fires early, and nothing later than a tick.
        #[test]
        fn fires_like_a_table(steps in steps()) {
            let mut timers = Timers::default();
            let mut table = [None::<u64>; 20];
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Set(index, ms) => {
                        timers.set(index, Duration::from_millis(now + ms));
                        table[index as usize] = Some(now + ms);
                    }
                    Step::Clear(index) => {
                        timers.clear(index);
                        table[index as usize] = None;
                    }
                    Step::Remove(index) => {
                        timers.remove(index);
                        table[index as usize] = None;
                    }
                    Step::Advance(ms) => {
                        now += ms;
                        let mut expired = Vec::new();
                        timers.expire(Duration::from_millis(now), &mut expired);
                        for index in expired {
                            let deadline = table[index as usize].take().expect("fired without a deadline");
                            prop_assert!(deadline <= now, "fired early");
                        }
                        for deadline in table.iter().flatten() {
                            prop_assert!(deadline + 2 * TICK_MS > now, "did not fire");
                            let wait = timers.next_wait(Duration::from_millis(now)).expect("something is due");
                            prop_assert!(now + wait.as_millis() as u64 <= deadline + 2 * TICK_MS);
                        }
                    }
                }
            }
        }
    }
}
