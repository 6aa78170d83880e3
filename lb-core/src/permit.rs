//! One attempt at one server, from take to finish.

use crate::live::{Now, Outcome, ServerLive};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// One attempt at one server. It counts as in flight from [`Decision::take`](crate::Decision::take) until it is
/// finished, which happens exactly once: with an outcome, or, if it is dropped, with [`Outcome::Abandoned`].
/// It keeps the server's live state and names, not the table.
///
/// All times are of the clock that `decide` is given.
#[derive(Debug)]
#[must_use = "a dropped permit counts as an abandoned attempt"]
pub struct Permit {
    live: Arc<ServerLive>,
    /// When the server began to owe an answer; once it is answered, how long that took.
    time_ns: u64,
    phase: Phase,
    wants: Wants,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Begun,
    Answered,
    Finished,
}

/// What a backend's policy wants to know of its attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// How long the server takes to answer.
    pub(crate) latency: bool,
    /// How many are under way at all servers together.
    pub(crate) count: bool,
}

impl Permit {
    /// `None` if the server has as much as it may.
    pub(crate) fn begin(live: &Arc<ServerLive>, now: Now, wants: Wants) -> Option<Permit> {
        let begun = live.begin(now, wants);
        begun.then(|| Permit { live: Arc::clone(live), time_ns: now.0, phase: Phase::Begun, wants })
    }

    /// Notes when the whole request was sent: the server's latency is the time from this and not from taking, and does
    /// not depend on how fast the client sends a body. Says nothing once the permit is answered.
    pub fn sent(&mut self, at: Duration) {
        if self.phase == Phase::Begun {
            self.time_ns = Now::from(at).0;
        }
    }

    /// Notes when the response's head was there: the server's latency is the time from taking (or [`Permit::sent`]) to
    /// this, and does not depend on how fast the client takes the body. Only the first call counts. Without any, the
    /// latency of an attempt that ends with [`Outcome::Responded`] is the time to its end.
    pub fn answered(&mut self, at: Duration) {
        if self.phase == Phase::Begun {
            self.phase = Phase::Answered;
            self.time_ns = Now::from(at).0.saturating_sub(self.time_ns);
            if self.wants.latency {
                // That it took long need not wait until the body is through.
                self.live.learn_early(self.time_ns, at.into());
            }
        }
    }

    /// Ends the attempt.
    pub fn finish(mut self, outcome: Outcome, now: Duration) {
        if self.phase == Phase::Begun {
            self.time_ns = Now::from(now).0.saturating_sub(self.time_ns);
        }
        self.phase = Phase::Finished;
        self.live.end(outcome, self.time_ns, now.into(), self.wants);
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
        if self.phase != Phase::Finished {
            // Abandoning teaches nothing about the server, so the times do not matter.
            self.live.end(Outcome::Abandoned, 0, Duration::ZERO.into(), self.wants);
        }
    }
}
