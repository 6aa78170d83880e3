//! Classes on one worker: which line a task stands in, how many requests wait in each, and turns that are shared out.
//!
//! Where all routes have the same class nothing here is touched, and tasks are run as their events come.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use lb_core::spec::{Class, ClassesSpec};

use super::lines::{LINES, Lines, UNREAD, line_of};
use super::tasks::TaskIndex;
use super::{PREFETCH_AHEAD, Worker};
use crate::driver::ConnKey;

/// The classes of a worker.
#[derive(Debug, Default)]
pub struct Classes {
    on: Cell<bool>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Lines,
    /// By task.
    places: Vec<Place>,
    /// Requests that have not begun, by line.
    waiting: [u32; LINES],
    most_waiting: u32,
}

/// Where a task stands when it is woken.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u8,
    /// Since when it waits to begin; none: it has begun.
    since: Option<Duration>,
}

impl Place {
    /// Of what began before there were classes.
    const STANDARD: Place = Place { line: 2, since: None };
}

/// What became of a request whose class is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It was read in its own class's turn and goes on.
    Served,
    /// It stands in its class's line.
    Waits,
    /// As many as may wait for their turn already.
    Full,
}

impl Classes {
    /// Whether there is more than one class.
    pub fn are_on(&self) -> bool {
        self.on.get()
    }

    /// Whether a task waits for its turn.
    pub fn any_waiting(&self) -> bool {
        self.are_on() && self.state.borrow().lines.any()
    }
}

impl State {
    fn place(&mut self, task: TaskIndex) -> &mut Place {
        let task = task as usize;
        if self.places.len() <= task {
            self.places.resize(task + 1, Place::STANDARD);
        }
        &mut self.places[task]
    }

    fn wait_in(&mut self, task: TaskIndex, line: u8, now: Duration) {
        self.begun(task);
        *self.place(task) = Place { line, since: Some(now) };
        self.waiting[usize::from(line)] += 1;
    }

    /// Tells where it has waited, and since when, if it has.
    fn begun(&mut self, task: TaskIndex) -> Option<(usize, Duration)> {
        let place = self.place(task);
        let (line, since) = (usize::from(place.line), place.since.take()?);
        self.waiting[line] -= 1;
        Some((line, since))
    }
}

impl Worker {
    /// A task is given a request to read, on a connection whose requests are read in this line.
    pub(super) fn begin_in(&self, task: TaskIndex, line: u8) {
        if self.classes.are_on() {
            self.classes.state.borrow_mut().wait_in(task, line, self.now());
        }
    }

    /// A task has begun with what it was given, or with what it waited for.
    pub(crate) fn has_begun(&self, task: TaskIndex) {
        if self.classes.are_on()
            && let Some((line, since)) = self.classes.state.borrow_mut().begun(task)
            && let Some(class) = line.checked_sub(1)
        {
            let waited = self.now().saturating_sub(since);
            self.counters().classes[class].waited_us.add(waited.as_micros() as u64);
        }
    }

    /// The task's request, which came on `down`, is found to be of this class. Whoever waits is woken in its turn.
    pub(crate) fn enter_class(&self, task: TaskIndex, down: ConnKey, class: Class) -> Entered {
        let (state, line) = (&mut *self.classes.state.borrow_mut(), line_of(class));
        // The next one is read in the turn of the highest class that the connection has had.
        self.slot(down, |slot| {
            if slot.line == UNREAD || line < slot.line {
                slot.line = line;
            }
        });
        if state.waiting[usize::from(line)] >= state.most_waiting {
            self.counters().classes[class as usize].refused.add(1);
            return Entered::Full;
        }
        if state.place(task).line == line {
            return Entered::Served;
        }
        state.wait_in(task, line, self.now());
        self.tasks.wake(task);
        Entered::Waits
    }

    /// Takes over the classes of a new table; none: all that waits is run as if there had never been any.
    pub(super) fn fit_classes(&self, classes: Option<&ClassesSpec>) {
        let state = &mut *self.classes.state.borrow_mut();
        self.classes.on.set(classes.is_some());
        match classes {
            Some(classes) => {
                state.lines.share(classes);
                state.most_waiting = classes.waiting;
            }
            None => {
                state.lines.drain().for_each(|task| self.tasks.give_back(task));
                state.places.iter_mut().for_each(|place| *place = Place::STANDARD);
                state.waiting = [0; LINES];
                self.show_waiting([0; Class::ALL.len()]);
            }
        }
    }

    /// Runs the woken tasks by class, for as long as a turn may last where classes share it. What is left waits for the
    /// next one, which looks for events first.
    pub(super) fn run_by_class(&self) {
        self.classes.state.borrow_mut().lines.begin(self.limits.class_turn);
        let mut before = self.driver.now();
        loop {
            let task = {
                let state = &mut *self.classes.state.borrow_mut();
                self.tasks.take_woken(|task| {
                    let line = state.place(task).line;
                    state.lines.push(line, task);
                });
                let next = state.lines.next();
                let ahead = state.lines.ahead(PREFETCH_AHEAD);
                ahead.into_iter().for_each(|task| self.prefetch_task(task));
                next
            };
            let Some(task) = task else { break };
            self.tasks.run_one(task);
            let now = self.driver.now();
            let took = now.saturating_sub(before);
            before = now;
            self.charge(took);
        }
        let waiting = self.classes.state.borrow().waiting;
        self.show_waiting(Class::ALL.map(|class| waiting[usize::from(line_of(class))]));
    }

    fn charge(&self, took: Duration) {
        let lines = &mut self.classes.state.borrow_mut().lines;
        lines.charge(took);
        // What was read for nobody's account is nobody's.
        if let Some(class) = lines.served().checked_sub(1) {
            self.counters().classes[class].busy_ns.add(took.as_nanos() as u64);
        }
    }

    fn show_waiting(&self, waiting: [u32; Class::ALL.len()]) {
        for (counters, waiting) in self.counters().classes.iter().zip(waiting) {
            counters.waiting.set(waiting.into());
        }
    }
}
