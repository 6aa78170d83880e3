//! The turn of a request whose class is known: at once if it was read in its class's turn, else in that one.

use lb_core::spec::Class;

use super::exchange::Exchange;
use super::parse::Course;
use crate::reason::{CLASS_FULL, CLIENT_LEFT, OVERLOADED, Reason, STOPPED};
use crate::worker::classes::Entered;
use crate::worker::tasks::wait;

/// Eighths of the buffer budget that a class leaves to others: to what is under way, and to those above it.
fn eighths_left(class: Class) -> usize {
    match class {
        Class::Platinum => 1,
        Class::Gold => 2,
        Class::Silver => 3,
    }
}

impl Exchange<'_> {
    /// Waits for the turn of the request's class, if there is more than one. Returns why the request is not served, if
    /// so.
    pub(super) async fn wait_for_turn(&mut self) -> Option<Reason> {
        let worker = self.worker;
        let class = self.current.as_ref()?.table.snapshot.route(self.route?).class;
        match worker.enter_class(self.task, self.down, class) {
            Entered::Full => return Some(CLASS_FULL),
            Entered::Served => {}
            Entered::Waits => {
                worker.settle(self.down);
                wait().await;
                worker.has_begun(self.task);
                if worker.is_stopping() {
                    return Some(STOPPED);
                }
                // What we answer ourselves may reach even one that has ended its side.
                if matches!(self.course, Course::Forward) && worker.is_hung_up(self.down) {
                    return Some(CLIENT_LEFT);
                }
            }
        }
        worker.buffers.borrow().leaves_less_than(eighths_left(class)).then_some(OVERLOADED)
    }
}
