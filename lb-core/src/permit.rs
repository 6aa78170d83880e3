//! One attempt at one server, from take to finish.

use crate::live::{Outcome, ServerLive};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// One attempt at one server. It counts as in flight from [`Decision::take`](crate::Decision::take) until it is
/// finished, which happens exactly once: with an outcome, or, if it is dropped, with [`Outcome::Abandoned`].
/// It keeps the server's live state and names, not the table.
#[derive(Debug)]
#[must_use = "a dropped permit counts as an abandoned attempt"]
pub struct Permit {
    live: Arc<ServerLive>,
    finished: bool,
}

impl Permit {
    pub(crate) fn begin(live: Arc<ServerLive>) -> Permit {
        live.begin();
        Permit { live, finished: false }
    }

    /// Ends the attempt. `now` is the time of the clock that `decide` is given.
    pub fn finish(mut self, outcome: Outcome, now: Duration) {
        self.finished = true;
        self.live.end(outcome, now.into());
    }

    /// The server's live state, to keep beyond the attempt.
    pub fn server(&self) -> &Arc<ServerLive> {
        &self.live
    }
}

impl Deref for Permit {
    type Target = ServerLive;

    fn deref(&self) -> &ServerLive {
        &self.live
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.finished {
            // Abandoning teaches nothing about the server, so the time does not matter.
            self.live.end(Outcome::Abandoned, Duration::ZERO.into());
        }
    }
}
