//! Another attempt: whether there is one, where, and when.
//!
//! Two ways lead to it. An attempt that failed is over, and the next one finds its server as the first did, waiting for
//! room where that must be. An answer that is not to be the last, or one that does not come, is different: what there is
//! remains good, so it is given up only for a server that was taken already ([`Exchange::take_another`]). So when retries
//! are used up, the budget is spent or nobody else is there, the client gets what the last server says.

use std::time::Duration;

use lb_core::{BackendIndex, Decision, Outcome, RetryRules, ServerIndex};

use super::exchange::Exchange;
use super::take::{Taken, again};
use crate::reason::{CLIENT_LEFT, Reason, STOPPED};
use crate::worker::Current;
use crate::worker::tasks::wait;

/// Servers that one exchange tries at most: one more than the most retries that can be configured.
const TRIED_SERVERS: usize = lb_core::defaults::RETRIES_MAX as usize + 1;

/// What an exchange has tried.
pub(super) struct Retries {
    /// The servers, in order. Not those whose pooled connection was closed under us: a new one may be had, and a sticky
    /// session stays where it is.
    tried: [ServerIndex; TRIED_SERVERS],
    tried_count: u8,
    /// Attempts after the first; not that after a pooled connection which was closed under us.
    used: u8,
    /// Whose exchange it is, and whose budget it spends: that of its first attempt.
    backend: BackendIndex,
    /// For how long servers did not answer that were left for it.
    pub(super) waited: Duration,
    /// The permit of the next attempt, where it was taken before this one was given up.
    pub(super) next: Option<Taken>,
}

impl Default for Retries {
    fn default() -> Retries {
        Retries {
            tried: [ServerIndex(0); TRIED_SERVERS],
            tried_count: 0,
            used: 0,
            backend: BackendIndex(0),
            waited: Duration::ZERO,
            next: None,
        }
    }
}

impl Retries {
    /// Servers tried so far.
    pub(super) fn tried(&self) -> &[ServerIndex] {
        &self.tried[..self.tried_count.into()]
    }

    /// The same and this one; none at the bound.
    pub(super) fn tried_and(&mut self, server: ServerIndex) -> Option<&[ServerIndex]> {
        let count = usize::from(self.tried_count) + 1;
        if count == TRIED_SERVERS {
            return None;
        }
        self.tried[count - 1] = server;
        Some(&self.tried[..count])
    }
}

/// What was decided for the arm that a request goes to.
fn rules<'c>(current: &'c Current, decision: &Decision) -> &'c RetryRules {
    &current.table.snapshot.route(decision.route()).arm(decision.arm()).retry
}

impl Exchange<'_> {
    /// Counts the exchange for its backend's budget.
    pub(super) fn begin_attempts(&mut self) {
        let (Some(current), Some(decision)) = (&self.current, &self.memory.decision) else { return };
        self.retries.backend = current.table.snapshot.route(decision.route()).arm(decision.arm()).backend;
        current.budget(self.retries.backend).exchange();
    }

    /// Whether the request may go to a server once more, given that some of it may have been acted on.
    pub(super) fn may_repeat(&self) -> bool {
        self.repeatable && self.held.is_all_of(self.upload.bytes)
    }

    /// Goes elsewhere after an attempt that failed, if that is safe and there is somewhere to go. `stale`: it had a pooled
    /// connection that its server had closed, which says nothing about the server and is no retry: a connection that is
    /// new follows, so there is at most one.
    pub(super) fn go_elsewhere(&mut self, stale: bool) -> bool {
        let (Some(current), Some(decision)) = (self.current.clone(), self.memory.decision) else {
            return false;
        };
        let rules = rules(&current, &decision);
        let nothing_sent = !self.upload.begun;
        // Of a request of which nothing was sent, further attempts repeat nothing: as long as there are other servers they
        // are made, be the retries used up or not, but they are on the budget.
        let allowed =
            rules.retries > 0 && (stale || nothing_sent || u32::from(self.retries.used) < rules.retries);
        let is_reason = stale || if nothing_sent { rules.on_connect } else { rules.on_closed };
        if !allowed || !is_reason || self.worker.is_hung_up(self.down) {
            return false;
        }
        // Free are the first failed connect and the closed pooled connection: neither costs a server anything.
        let is_free = stale || (nothing_sent && self.retries.tried_count == 0);
        let tried =
            if stale { Some(self.retries.tried()) } else { self.retries.tried_and(decision.server()) };
        let Some(next) = tried.and_then(|tried| again(self.worker, &current, &decision, tried)) else {
            return false;
        };
        if !is_free && !self.spend_retry(&current) {
            return false;
        }
        if !stale {
            self.retries.tried_count += 1;
            self.retries.used += 1;
        }
        self.memory.decision = Some(next);
        true
    }

    /// Takes another server in place of one whose answer is not to be the last, or does not come. False: it remains.
    pub(super) fn take_another(&mut self) -> bool {
        let (Some(current), Some(decision)) = (self.current.clone(), self.memory.decision) else {
            return false;
        };
        let has_retries = u32::from(self.retries.used) < rules(&current, &decision).retries;
        // An interim response is a part of the answer.
        let is_safe = self.may_repeat() && self.interim_bytes == 0;
        if !has_retries || !is_safe || self.worker.is_hung_up(self.down) {
            return false;
        }
        let tried = self.retries.tried_and(decision.server());
        let Some(next) = tried.and_then(|tried| again(self.worker, &current, &decision, tried)) else {
            return false;
        };
        if !current.budget(self.retries.backend).has_retry() {
            self.note_refused();
            return false;
        }
        self.memory.decision = Some(next);
        self.retries.next = self.take_decided(&current);
        if self.retries.next.is_none() {
            // Nobody waits for room with an answer in hand.
            self.memory.decision = Some(decision);
            return false;
        }
        let _ = current.budget(self.retries.backend).retry();
        self.retries.tried_count += 1;
        self.retries.used += 1;
        true
    }

    /// Whether another server is to be tried on this status.
    pub(super) fn is_listed(&self, status: u16) -> bool {
        let decided = self.current.as_ref().zip(self.memory.decision.as_ref());
        decided.is_some_and(|(current, decision)| rules(current, decision).on_statuses.has(status))
    }

    fn spend_retry(&mut self, current: &Current) -> bool {
        let is_spent = current.budget(self.retries.backend).retry();
        if !is_spent {
            self.note_refused();
        }
        is_spent
    }

    /// The budget had no retry left.
    fn note_refused(&mut self) {
        self.meter.retry_refused(&self.worker.metrics);
        self.memory.line.retry_refused();
    }

    /// Waits before the next attempt. Returns why there will be none.
    pub(super) async fn back_off(&mut self) -> Option<Reason> {
        let worker = self.worker;
        let pause = self.pause();
        if pause.is_zero() {
            return None;
        }
        worker.set_deadline(self.down, worker.now() + pause);
        let over = loop {
            worker.driver.watch(self.down);
            worker.settle(self.down);
            wait().await;
            if worker.is_stopping() {
                break Some(STOPPED);
            }
            if worker.is_hung_up(self.down) {
                break Some(CLIENT_LEFT);
            }
            if worker.is_expired(self.down) {
                break None;
            }
        };
        worker.clear_deadline(self.down);
        match (over, &mut self.retries.next) {
            // The server has not owed anything until now.
            (None, Some(next)) => next.permit.sent(worker.now()),
            (Some(_), next) => {
                if let Some(next) = next.take() {
                    next.finish(worker, Outcome::Abandoned);
                }
            }
            (None, None) => {}
        }
        over
    }

    /// How long the next attempt waits.
    fn pause(&self) -> Duration {
        if self.retries.used < 2 {
            return Duration::ZERO;
        }
        let Some((current, decision)) = self.current.as_ref().zip(self.memory.decision.as_ref()) else {
            return Duration::ZERO;
        };
        let random = self.worker.randomness.borrow_mut().lot();
        rules(current, decision).wait_before(self.retries.used.into(), random)
    }
}
