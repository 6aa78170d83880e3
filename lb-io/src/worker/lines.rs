//! Whose turn it is where classes share a worker's time: a line of tasks for each, served by time in proportion to
//! shares (start-time fair queueing: Goyal, Vin and Cheng, "Start-time fair queuing: a scheduling algorithm for integrated
//! services packet switching networks", 1996, with time in the place of bytes).
//!
//! Next is always the line that has had the least time for its share. So nobody waits while there is nothing else to do,
//! nobody takes more than its share from those who want theirs, and nobody starves. A line that wanted nothing for a
//! while has saved nothing up: it begins where the others are, and before those of lower classes.

use std::collections::VecDeque;
use std::time::Duration;

use lb_core::spec::{Class, ClassesSpec};

use super::tasks::TaskIndex;

/// A line each for what was not read yet and for the classes.
pub const LINES: usize = 1 + Class::ALL.len();

/// The line of a connection of which nothing is known yet: its request must be read before it has a class. It has a share
/// as large as [`Class::Gold`]'s and stands before all others, so that a flood of strangers takes at most that.
pub const UNREAD: u8 = 0;

/// The line of a class.
pub fn line_of(class: Class) -> u8 {
    match class {
        Class::Platinum => 1,
        Class::Gold => 2,
        Class::Silver => 3,
    }
}

/// What running a task takes at least, in nanoseconds; it bounds how many are run in a turn where the clock stands still.
const LEAST_NS: u128 = 1_000;

/// What a line is charged for running one at most: ten turns. No task runs for longer by itself; a thread that the system
/// held up does, and its class would pay for that.
const MOST_NS: u128 = 2_000_000;

/// The lines, and what each has had.
#[derive(Debug, Default)]
pub struct Lines {
    lines: [VecDeque<TaskIndex>; LINES],
    shares: [u128; LINES],
    /// Time that each has had, divided by its share.
    had: [u128; LINES],
    /// What the line that was served last had had before that.
    pace: u128,
    served: usize,
    /// What is left of the turn, in nanoseconds.
    left: u128,
}

impl Lines {
    /// Takes over the shares of a new table.
    pub fn share(&mut self, classes: &ClassesSpec) {
        self.shares[usize::from(UNREAD)] = classes.gold.into();
        for class in Class::ALL {
            self.shares[usize::from(line_of(class))] = classes.share(class).into();
        }
    }

    /// Stands a task in a line, behind all others.
    pub fn push(&mut self, line: u8, task: TaskIndex) {
        let line = usize::from(line);
        if self.lines[line].is_empty() {
            self.had[line] = self.had[line].max(self.pace);
        }
        self.lines[line].push_back(task);
    }

    /// Whether a task waits.
    pub fn any(&self) -> bool {
        self.lines.iter().any(|line| !line.is_empty())
    }

    /// Takes out all tasks, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = TaskIndex> + '_ {
        self.lines.iter_mut().flat_map(|line| line.drain(..))
    }

    /// A turn of this length begins.
    pub fn begin(&mut self, length: Duration) {
        self.left = length.as_nanos();
    }

    /// The task to be run next; none: the turn is over, or nobody waits.
    pub fn next(&mut self) -> Option<TaskIndex> {
        if self.left == 0 {
            return None;
        }
        let wanting = (0..LINES).filter(|line| !self.lines[*line].is_empty());
        let Some(served) = wanting.min_by_key(|line| self.had[*line]) else {
            // Nobody has missed anything: what one has had more than another is forgotten.
            self.pace = self.had.into_iter().max().unwrap_or_default();
            return None;
        };
        self.served = served;
        self.pace = self.had[self.served];
        self.lines[self.served].pop_front()
    }

    /// The task that stands so many places behind the one that was given last, if it is in the same line.
    pub fn ahead(&self, places: usize) -> Option<TaskIndex> {
        self.lines[self.served].get(places - 1).copied()
    }

    /// The line that was served last.
    pub fn served(&self) -> usize {
        self.served
    }

    /// What [`Lines::next`] gave took so long.
    pub fn charge(&mut self, took: Duration) {
        let took = took.as_nanos().max(LEAST_NS);
        self.left = self.left.saturating_sub(took);
        self.had[self.served] += took.min(MOST_NS) * SCALE / self.shares[self.served];
    }
}

/// So that what a share leaves of a nanosecond is not lost.
const SCALE: u128 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TURN: Duration = Duration::from_micros(200);

    fn lines(platinum: u32, gold: u32, silver: u32) -> Lines {
        let mut lines = Lines::default();
        lines.share(&ClassesSpec { platinum, gold, silver, ..ClassesSpec::default() });
        lines
    }

    /// Runs a turn in which each task of a line takes so many microseconds and, if it is to, stands in line again.
    fn turn(lines: &mut Lines, costs: [u64; LINES], again: bool) -> Vec<(usize, TaskIndex)> {
        let mut ran = Vec::new();
        lines.begin(TURN);
        while let Some(task) = lines.next() {
            let line = lines.served();
            ran.push((line, task));
            if again {
                lines.push(line as u8, task);
            }
            lines.charge(Duration::from_micros(costs[line]));
        }
        ran
    }

    #[test]
    fn higher_classes_go_first_and_each_line_in_its_order() {
        let mut lines = lines(60, 30, 10);
        for task in 0..3 {
            lines.push(line_of(Class::Silver), task);
        }
        lines.push(line_of(Class::Gold), 10);
        lines.push(line_of(Class::Platinum), 20);
        lines.push(UNREAD, 30);
        assert_eq!(turn(&mut lines, [5; LINES], false), [(0, 30), (1, 20), (2, 10), (3, 0), (3, 1), (3, 2)]);
        assert!(!lines.any());
    }

    #[test]
    fn who_is_alone_has_all_of_a_turn() {
        let mut lines = lines(100, 100, 1);
        for task in 0..100 {
            lines.push(line_of(Class::Silver), task);
        }
        assert_eq!(turn(&mut lines, [4; LINES], false).len(), 50);
    }

    #[test]
    fn who_was_held_up_pays_little_for_it() {
        let mut lines = lines(60, 30, 10);
        (0..50).for_each(|task| lines.push(line_of(Class::Platinum), task));
        (50..60).for_each(|task| lines.push(line_of(Class::Silver), task));
        had(&mut lines, [5; LINES], 100);
        while lines.served() != usize::from(line_of(Class::Silver)) {
            lines.begin(TURN);
            let task = lines.next().unwrap();
            lines.push(lines.served() as u8, task);
            lines.charge(Duration::from_micros(5));
        }
        lines.charge(Duration::from_secs(1));
        let turns = (0..).take_while(|_| turn(&mut lines, [5; LINES], true).iter().all(|ran| ran.0 != 3));
        assert_eq!(turns.count(), 60, "turns until platinum has had six times ten of them");
        // A moment in which nobody wants anything ends it.
        lines.begin(TURN);
        lines.next();
        lines.charge(Duration::from_secs(1));
        lines.drain().for_each(drop);
        assert_eq!(lines.next(), None);
        (0..50).for_each(|task| lines.push(line_of(Class::Platinum), task));
        lines.push(line_of(Class::Silver), 50);
        assert!(turn(&mut lines, [5; LINES], true).iter().any(|ran| ran.0 == 3));
    }

    /// What each line has had, in microseconds, after so many turns in which all want more than there is.
    fn had(lines: &mut Lines, costs: [u64; LINES], turns: usize) -> [u64; LINES] {
        let mut had = [0; LINES];
        for _ in 0..turns {
            turn(lines, costs, true).into_iter().for_each(|(line, _)| had[line] += costs[line]);
        }
        had
    }

    #[test]
    fn long_tasks_have_no_more_than_short_ones() {
        let mut lines = lines(60, 30, 10);
        (0..50).for_each(|task| lines.push(line_of(Class::Platinum), task));
        (50..60).for_each(|task| lines.push(line_of(Class::Silver), task));
        // Silver moves whole bodies, platinum small answers.
        let [_, platinum, _, silver] = had(&mut lines, [1, 5, 5, 160], 1_000);
        assert_eq!(silver * 100 / (platinum + silver), 14, "percent, as 10 in 70");
    }

    #[test]
    fn nothing_is_saved_up() {
        let mut lines = lines(60, 30, 10);
        lines.push(line_of(Class::Silver), 0);
        had(&mut lines, [5; LINES], 1_000);
        // Platinum comes after a long time: at once, and from then on it has its share and no more.
        (1..50).for_each(|task| lines.push(line_of(Class::Platinum), task));
        let ran = turn(&mut lines, [5; LINES], true);
        assert_eq!(ran[0], (1, 1));
        let silver = ran.iter().filter(|(line, _)| *line == 3).count();
        assert!((5..=6).contains(&silver), "{silver} of {} instead of 10 in 70", ran.len());
    }

    proptest! {
        /// Where all want more than there is, time is shared as the shares say, whatever the tasks take.
        #[test]
        fn time_is_shared_out(
            shares in prop::array::uniform3(1_u32..=100),
            costs in prop::array::uniform4(1_u64..=180),
        ) {
            let mut lines = lines(shares[0], shares[1], shares[2]);
            for class in Class::ALL {
                (0..300).for_each(|task| lines.push(line_of(class), task));
            }
            let had = had(&mut lines, costs, 1_000);
            let (all, parts): (u64, u32) = (had.iter().sum(), shares.iter().sum());
            for class in Class::ALL {
                let line = usize::from(line_of(class));
                let due = all * u64::from(shares[line - 1]) / u64::from(parts);
                // The last task of each line may be one too many, or one too few.
                let off = 1 + costs.iter().sum::<u64>();
                prop_assert!(had[line].abs_diff(due) <= off, "{class:?} has had {} instead of {due}", had[line]);
            }
        }

        /// However much the others want: what stands before a task in its own line, and that task itself, take as long as
        /// they would at the line's share alone, and one task of each other line.
        #[test]
        fn nobody_starves(
            shares in prop::array::uniform3(1_u32..=100),
            cost in 1_u64..=1_000,
            class in prop::sample::select(Class::ALL.to_vec()),
            ahead in 0_u32..20,
        ) {
            let mut lines = lines(shares[0], shares[1], shares[2]);
            let line = line_of(class);
            for other in (0..LINES as u8).filter(|other| *other != line) {
                (0..500).for_each(|task| lines.push(other, 1_000 + task));
            }
            (0..200).for_each(|_| drop(turn(&mut lines, [cost; LINES], true)));
            (0..=ahead).for_each(|task| lines.push(line, task));
            let parts = shares.iter().sum::<u32>() + shares[1];
            let bound = (ahead + 1) * parts.div_ceil(shares[usize::from(line) - 1]) + LINES as u32;
            let mut ran = 0;
            while !turn(&mut lines, [cost; LINES], true).into_iter().any(|(_, task)| {
                ran += 1;
                task == ahead
            }) {}
            prop_assert!(ran <= bound, "the task was run after {ran} instead of {bound}");
        }

        /// A turn ends early only if nobody waits.
        #[test]
        fn no_time_is_left_unused(costs in prop::array::uniform4(1_u64..=20), counts in prop::array::uniform4(0_u32..40)) {
            let mut lines = lines(60, 30, 10);
            for (line, count) in counts.into_iter().enumerate() {
                (0..count).for_each(|task| lines.push(line as u8, task));
            }
            for _ in 0..20 {
                let ran = turn(&mut lines, costs, false);
                let taken: u64 = ran.iter().map(|(line, _)| costs[*line]).sum();
                prop_assert!(taken >= 200 || !lines.any(), "{taken} us were used, and some wait");
            }
        }
    }
}
