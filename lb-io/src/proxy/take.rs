//! The permit for an attempt: at once as a rule, after a wait where servers have bounds and all are full.

use std::sync::Arc;

use lb_core::spec::QueueSpec;
use lb_core::{BackendIndex, Decision, Outcome, Permit, PickReason, ServerIndex};

use super::exchange::Exchange;
use crate::reason::{CLIENT_LEFT, QUEUE_FULL, QUEUE_TIMEOUT, Reason, STOPPED};
use crate::worker::queue::{Queue, Ticket};
use crate::worker::tasks::wait;
use crate::worker::{Current, Worker};

/// The right to use a server, and who is to be told when it ends.
pub(super) struct Taken {
    pub(super) permit: Permit,
    pub(super) queue: Option<Arc<Queue>>,
}

impl Taken {
    /// Ends the attempt, and tells who waits for the server.
    pub(super) fn finish(self, worker: &Worker, outcome: Outcome) {
        let server = self.queue.map(|queue| (queue, Arc::clone(self.permit.server())));
        self.permit.finish(outcome, worker.now());
        if let Some((queue, server)) = server {
            worker.grant(&queue, &server);
        }
    }
}

impl Exchange<'_> {
    /// Takes what [`Memory::decision`](super::parse::Memory::decision) says, if the server has room and nobody waits
    /// for it.
    pub(super) fn take(&self, current: &Current) -> Option<Taken> {
        let queue = current.queue(self.backend(current)?);
        if queue.is_some_and(|queue| queue.is_taken(self.own(current))) {
            return None;
        }
        self.look(current, queue)
    }

    /// Waits for room. What was decided may change meanwhile.
    ///
    /// # Errors
    /// Why there was none.
    pub(super) async fn wait_for_room(&mut self, current: &Current) -> Result<Taken, Reason> {
        self.meter.queues();
        let worker = self.worker;
        let index = self.backend(current).ok_or(STOPPED)?;
        let backend = current.table.snapshot.backend(index);
        // None for one that waits by a table from before the bound: its log line alone says for how long.
        let counted = current.layout.queue(index);
        let since = worker.now();
        // A server may have been given a bound by a later table than this one.
        let bounds: QueueSpec = backend.queue.unwrap_or_default();
        let queue = current.queue(index).cloned().unwrap_or_else(|| worker.queue_of(&backend.name));
        let ticket = queue.enter(worker.place(self.task), self.own(current), bounds.requests);
        let ticket = ticket.ok_or(QUEUE_FULL)?;
        worker.set_deadline(self.down, worker.now() + bounds.timeout);
        worker.begin_to_wait(self.task);
        self.meter.waits(&worker.metrics, counted);
        let came = self.stand_in_line(current, &queue, ticket).await;
        self.meter.waited(&worker.metrics, counted, worker.now().saturating_sub(since));
        worker.end_waiting(self.task);
        worker.clear_deadline(self.down);
        let server = came.as_ref().ok().map(|taken| &**taken.permit.server());
        if let Some(next) = queue.leave(ticket, server) {
            worker.wake(next);
        }
        // There may be more room than was told of: its server has come up, or has been given a higher bound.
        if let Some(server) = server.filter(|server| server.has_room()) {
            worker.grant(&queue, server);
        }
        came
    }

    async fn stand_in_line(
        &mut self,
        current: &Current,
        queue: &Arc<Queue>,
        ticket: Ticket,
    ) -> Result<Taken, Reason> {
        let worker = self.worker;
        loop {
            if queue.may_look(ticket) {
                // Servers come and go while a request waits.
                self.look_anew(current, None);
                if let Some(taken) = self.look(current, Some(queue)) {
                    return Ok(taken);
                }
                queue.wait_on(ticket);
            }
            if worker.is_expired(self.down) {
                return self.leave_own(current, queue).ok_or(QUEUE_TIMEOUT);
            }
            if worker.is_hung_up(self.down) {
                return Err(CLIENT_LEFT);
            }
            worker.driver.watch(self.down);
            worker.settle(self.down);
            wait().await;
            if worker.is_stopping() {
                return Err(STOPPED);
            }
        }
    }

    /// The backend of the arm that serves.
    fn backend(&self, current: &Current) -> Option<BackendIndex> {
        let decision = self.memory.decision.as_ref()?;
        Some(current.table.snapshot.route(decision.route()).arm(decision.arm()).backend)
    }

    /// The one server that a session waits for.
    fn own<'c>(&self, current: &'c Current) -> Option<&'c lb_core::ServerLive> {
        let decision = self.memory.decision.as_ref()?;
        let is_sticky = decision.pick_reason() == PickReason::Sticky;
        is_sticky.then(|| &**current.table.server_live(decision.server()))
    }

    fn look(&self, current: &Current, queue: Option<&Arc<Queue>>) -> Option<Taken> {
        let decision = self.memory.decision.as_ref()?;
        let permit = decision.take(&current.table, &mut current.cursors.borrow_mut(), self.worker.now())?;
        Some(Taken { permit, queue: queue.cloned() })
    }

    /// Goes by what is so now. Not to `own`, if that is given, instead of those that were tried.
    fn look_anew(&mut self, current: &Current, own: Option<ServerIndex>) {
        let tried = own.as_ref().map_or(self.retries.tried(), std::slice::from_ref);
        let decision = self.memory.decision.as_ref();
        let again = decision.and_then(|decision| decide_again(self.worker, current, decision, tried));
        self.memory.decision = again.or(self.memory.decision);
    }

    /// A session whose server had no room for it in time moves to another one, if that has.
    fn leave_own(&mut self, current: &Current, queue: &Arc<Queue>) -> Option<Taken> {
        self.own(current)?;
        let own = self.memory.decision.as_ref()?.server();
        self.look_anew(current, Some(own));
        self.look(current, Some(queue))
    }
}

/// Decides anew, for other servers than those that were `tried` if there are any.
pub(super) fn decide_again(
    worker: &Worker,
    current: &Current,
    decision: &Decision,
    tried: &[ServerIndex],
) -> Option<Decision> {
    let random = worker.randomness.borrow_mut().draw();
    decision.again(&current.table, &current.cursors.borrow(), tried, worker.now(), random)
}
