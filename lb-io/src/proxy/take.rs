//! The permit for an attempt: at once as a rule, after a wait where servers have bounds and all are full.

use std::sync::Arc;
use std::time::Duration;

use lb_core::spec::QueueSpec;
use lb_core::{BackendIndex, Decision, Outcome, Permit, PickReason, ServerIndex, ServerLive};

use super::exchange::Exchange;
use crate::reason::{CLIENT_LEFT, QUEUE_FULL, QUEUE_TIMEOUT, Reason, STOPPED};
use crate::worker::queue::{Passed, Queue, Reach, Ticket, Wanted};
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

/// Where a request waits.
#[derive(Clone, Copy)]
struct Standing<'a> {
    /// For servers of this backend.
    backend: BackendIndex,
    queue: &'a Arc<Queue>,
    /// What it takes of those.
    reach: &'a Reach,
}

impl Exchange<'_> {
    /// Takes what [`Memory::decision`](super::parse::Memory::decision) says, if the server has room and nobody waits
    /// for it.
    pub(super) fn take_decided(&self, current: &Current) -> Option<Taken> {
        let queue = current.queue(self.backend(current)?);
        let is_taken = queue.zip(self.server(current)).is_some_and(|(queue, server)| queue.is_taken(server));
        if is_taken { None } else { self.look(current, queue) }
    }

    /// The same, or where others wait for the server another one that has room for whoever comes.
    pub(super) fn take(&mut self, current: &Current) -> Option<Taken> {
        self.look_for(current, None)
    }

    /// Waits for room. What was decided may change meanwhile.
    ///
    /// # Errors
    /// Why there was none.
    pub(super) async fn wait_for_room(&mut self, current: &Current) -> Result<Taken, Reason> {
        self.meter.queues();
        let worker = self.worker;
        worker.begin_to_wait(self.task);
        let (mut until, mut moved_at) = (None, None);
        let came = loop {
            match self.wait_for_backend(current, &mut until).await {
                Ok(Some(taken)) => break Ok(taken),
                // Another backend's servers are to serve it now. Once in a turn: servers that come and go while it looks
                // must not have it going to and fro.
                Ok(None) => {
                    if moved_at.replace(worker.now()) == Some(worker.now()) {
                        wait().await;
                    }
                }
                Err(reason) => break Err(reason),
            }
        };
        worker.end_waiting(self.task);
        worker.clear_deadline(self.down);
        came
    }

    /// Waits for the servers of the backend that was decided. None: another one was, meanwhile.
    async fn wait_for_backend(
        &mut self,
        current: &Current,
        until: &mut Option<Duration>,
    ) -> Result<Option<Taken>, Reason> {
        let worker = self.worker;
        let index = self.backend(current).ok_or(STOPPED)?;
        let backend = current.table.snapshot.backend(index);
        // None for one that waits by a table from before the bound: its log line alone says for how long.
        let counted = current.layout.queue(index);
        let since = worker.now();
        // A server may have been given a bound by a later table than this one.
        let bounds: QueueSpec = backend.queue.unwrap_or_default();
        let queue = current.queue(index).cloned().unwrap_or_else(|| worker.queue_of(&backend.name));
        let reach = current.reach(index, &queue);
        let ticket = queue.enter(worker.place(self.task), self.wanted(current, &reach), bounds.requests);
        let mut ticket = ticket.ok_or(QUEUE_FULL)?;
        worker.set_deadline(self.down, *until.get_or_insert(since + bounds.timeout));
        self.meter.waits(&worker.metrics, counted);
        let standing = Standing { backend: index, queue: &queue, reach: &reach };
        let came = self.stand_in_line(current, standing, &mut ticket).await;
        self.meter.waited(&worker.metrics, counted, worker.now().saturating_sub(since));
        let server = came.as_ref().ok().and_then(Option::as_ref).map(|taken| &**taken.permit.server());
        // Who is behind it may go where it goes.
        let turns_away = matches!(came, Ok(None));
        if let Some(next) = queue.leave(ticket, server, turns_away) {
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
        standing: Standing<'_>,
        ticket: &mut Ticket,
    ) -> Result<Option<Taken>, Reason> {
        let worker = self.worker;
        loop {
            if standing.queue.may_look(*ticket) {
                // Servers come and go while a request waits.
                self.look_anew(current, None);
                let taken = self.look_for(current, Some((standing, *ticket)));
                if taken.is_some() || self.backend(current) != Some(standing.backend) {
                    return Ok(taken);
                }
                self.wait_on(current, standing, ticket);
            }
            if worker.is_expired(self.down) {
                return self.leave_own(current, standing).map(Some).ok_or(QUEUE_TIMEOUT);
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

    /// The server that was decided.
    fn server<'c>(&self, current: &'c Current) -> Option<&'c Arc<ServerLive>> {
        let decision = self.memory.decision.as_ref()?;
        Some(current.table.server_live(decision.server()))
    }

    /// Whether it goes to its session's own server and no other.
    fn is_own(&self) -> bool {
        self.memory.decision.as_ref().is_some_and(|decision| decision.pick_reason() == PickReason::Sticky)
    }

    /// What it waits for: a session its own server, and who has tried some the one that comes next, for it cannot use all.
    fn wanted<'c>(&self, current: &'c Current, reach: &'c Reach) -> Wanted<'c> {
        match self.server(current) {
            Some(server) if self.is_own() || !self.retries.tried().is_empty() => Wanted::One(server),
            _ => Wanted::Any(reach),
        }
    }

    /// Stays in line after having found nothing.
    fn wait_on(&self, current: &Current, standing: Standing<'_>, ticket: &mut Ticket) {
        let (worker, servers) = (self.worker, current.table.live.servers());
        let server_at = |address: usize| servers.iter().find(|it| Arc::as_ptr(it).addr() == address);
        let has_room = |address| server_at(address).is_some_and(|server| server.has_room());
        let wanted = self.wanted(current, standing.reach);
        let Passed { granted, front } = standing.queue.wait_on(ticket, wanted, has_room);
        if let Some((address, next)) = granted {
            match server_at(address) {
                Some(server) => worker.wake_granted(server, next),
                None => worker.wake(next),
            }
        }
        if let Some(front) = front {
            worker.wake(front);
        }
    }

    /// Takes what was decided, if the server has room and nobody who can use it stands before this request, which itself
    /// may stand in a line. If somebody does, it takes another server of the same rank where nobody does, unless the
    /// session has one of its own. So nobody waits for a server while another is idle; but a server that is only taken is
    /// not down, and neither backups nor another arm stand in for it.
    fn look_for(&mut self, current: &Current, standing: Option<(Standing<'_>, Ticket)>) -> Option<Taken> {
        let decided = self.memory.decision?;
        let backend = self.backend(current)?;
        let here = standing.filter(|(standing, _)| standing.backend == backend);
        let queue = here.map(|(standing, _)| standing.queue).or(current.queue(backend));
        let is_free = |server: &ServerLive| match here {
            Some((standing, ticket)) => standing.queue.is_first(ticket, server),
            None => queue.is_none_or(|queue| !queue.is_taken(server)),
        };
        if is_free(current.table.server_live(decided.server())) {
            return self.look(current, queue);
        }
        if self.is_own() {
            return None;
        }
        let tried = self.retries.tried_and(decided.server())?;
        let next = again(self.worker, current, &decided, tried)?;
        let server = current.table.server_live(next.server());
        let is_alike = next.arm() == decided.arm() && next.backup() == decided.backup();
        if !is_alike || server.removed_until() > self.worker.now() || !is_free(server) {
            return None;
        }
        self.memory.decision = Some(next);
        let taken = self.look(current, queue);
        if taken.is_none() {
            self.memory.decision = Some(decided);
        }
        taken
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
    fn leave_own(&mut self, current: &Current, standing: Standing<'_>) -> Option<Taken> {
        let own = self.memory.decision.filter(|_| self.is_own())?.server();
        self.look_anew(current, Some(own));
        let backend = self.backend(current)?;
        let here = (backend == standing.backend).then_some(standing.queue);
        self.look(current, here.or(current.queue(backend)))
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

/// Another server than those that were tried.
pub(super) fn again(
    worker: &Worker,
    current: &Current,
    decision: &Decision,
    tried: &[ServerIndex],
) -> Option<Decision> {
    decide_again(worker, current, decision, tried).filter(|next| !tried.contains(&next.server()))
}
