//! The conductor of an exchange: one request, its attempts, one ending.
//!
//! A task serves one client connection at a time, for as long as requests follow each other without a
//! pause; then the connection waits as a mere slot and the task serves another. All branches between the
//! steps are here.

use std::rc::Rc;
use std::time::Duration;

use lb_core::{Decision, Outcome, Permit, RouteIndex};

use super::acquire::{Acquired, Want, acquire, release};
use super::forward::Attempt;
use super::hold::Held;
use super::pace::Pace;
use super::parse::{Course, Head, Memory, Plan, is_bodiless, read_head};
use super::pool::FRESH_ENOUGH;
use super::record::{record, record_unread};
use super::relay::Flow;
use super::reply::{self, Answering};
use super::retry::Retries;
use super::tunnel::tunnel;
use crate::driver::ConnKey;
use crate::http1::Framing;
use crate::http1::response::RequestKind;
use crate::metrics::Meter;
use crate::metrics::meter::End;
use crate::reason::{
    CLIENT_LEFT, CLIENT_STALLED, CONNECT_FAILED, CONNECT_TIMEOUT, Cause, OVERLOADED, QUEUE_TIMEOUT,
    RESPONSE_TIMEOUT, Reason, STOPPED,
};
use crate::worker::conns::{Fill, Owner};
use crate::worker::tasks::{TaskIndex, wait};
use crate::worker::{Current, Worker};

/// How long a closed connection's client may go on sending before it is cut off, so that it can read our
/// last response (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are read and dropped meanwhile.
const LINGER_BYTES: usize = 1 << 20;

/// Serves one connection after the other, as the worker hands them out, until it is told to end.
pub async fn serve_jobs(worker: Rc<Worker>, task: TaskIndex) {
    let mut memory = Memory::default();
    loop {
        match worker.take_job(task) {
            None => wait().await,
            Some(down) => {
                serve(&worker, task, down, &mut memory).await;
                memory.shrink();
                if !worker.finish_job(task) {
                    return;
                }
            }
        }
    }
}

/// Serves the requests that have come on `down`, until it is idle or closed.
async fn serve(worker: &Rc<Worker>, task: TaskIndex, down: ConnKey, memory: &mut Memory) {
    loop {
        let plan = match read_head(worker, task, down, memory).await {
            Head::Complete(plan) => plan,
            Head::Idle if !worker.is_draining() => return park(worker, down),
            Head::Idle | Head::Gone { within: false } => return worker.close_downstream(down, false),
            Head::Gone { within: true } => {
                memory.line.begin_unread(worker, down);
                end_unread(worker, down, memory);
                return worker.close_downstream(down, false);
            }
        };
        worker.slot(down, |slot| {
            slot.served += 1;
            slot.empty_line = false;
        });
        let mut exchange = Exchange::begin(worker, task, down, memory, plan);
        match exchange.run().await {
            // Whoever sends requests without waiting for answers lets the others go first, each time.
            After::NextRequest if worker.has_unread(down) || worker.is_readable(down) => {
                worker.tasks.wake(task);
                wait().await;
            }
            After::NextRequest => {}
            After::Close { more_may_come } => return close_gently(worker, down, more_may_come).await,
            After::Reset => return worker.close_downstream(down, true),
        }
    }
}

/// What becomes of the client's connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It can take another request.
    NextRequest,
    /// It ends in order. The client may still be sending: the rest of a body that nobody wants, or requests
    /// behind this one.
    Close { more_may_come: bool },
    /// It is broken off, because an orderly end would pass for the end of the response, or nobody reads.
    Reset,
}

/// Records a client that left in the middle of a request head.
fn end_unread(worker: &Worker, down: ConnKey, memory: &Memory) {
    let listener = worker.slot(down, |slot| slot.listener);
    record_unread(worker, &memory.line, listener);
}

/// Lets a connection wait for its next request without a task.
fn park(worker: &Worker, down: ConnKey) {
    let (served, listener) = worker.slot(down, |slot| {
        slot.owner = Owner::IdleDownstream;
        (slot.served, slot.listener)
    });
    // A connection that has not sent anything yet keeps the deadline that it was given when it came.
    worker.driver.watch(down);
    if served > 0 {
        let idle = worker.current().listener(listener).timeouts.idle_down;
        worker.set_deadline(down, worker.now() + idle);
    }
}

/// Ends our side and drops what the client still sends, within bounds: closing at once would make the
/// kernel send a reset, which can destroy the response on its way.
async fn close_gently(worker: &Worker, down: ConnKey, more_may_come: bool) {
    let mut dropped = 0;
    if more_may_come || worker.has_unread(down) || worker.is_readable(down) || worker.has_unsent(down) {
        let mut ended = false;
        worker.set_deadline(down, worker.now() + LINGER);
        loop {
            match worker.flush(down) {
                Ok(true) if !ended => {
                    worker.driver.shutdown(down);
                    ended = true;
                }
                Ok(_) => {}
                Err(_) => break,
            }
            if let Some(mut buffer) = worker.take_unread(down) {
                dropped += buffer.len();
                buffer.consume(buffer.len());
                worker.put_unread(down, buffer);
            }
            let over = match worker.fill(down) {
                Fill::More => false,
                // Whoever is told to stop waits for nobody: the response is the kernel's to deliver.
                Fill::Blocked | Fill::Full if worker.is_stopping() => true,
                Fill::Blocked | Fill::Full => {
                    wait().await;
                    false
                }
                Fill::End | Fill::Broken(_) => true,
            };
            if over || worker.is_expired(down) || dropped > LINGER_BYTES {
                break;
            }
        }
    }
    worker.close_downstream(down, false);
}

/// An exchange under way.
pub struct Exchange<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) task: TaskIndex,
    pub(super) down: ConnKey,
    pub(super) memory: &'a mut Memory,
    /// The table it was decided by, until the response head is written.
    pub(super) current: Option<Rc<Current>>,
    pub(super) course: Course,
    /// The client will send nothing more.
    is_last: bool,
    /// Nothing follows the request's head.
    is_bodiless: bool,
    /// The client's connection is good for nothing but a reset.
    pub(super) broken: bool,
    pub(super) route: Option<RouteIndex>,
    pub(super) kind: RequestKind,
    /// It may be sent twice, by its method.
    pub(super) repeatable: bool,
    pub(super) keep_alive: bool,
    pub(super) accept_legacy: bool,
    pub(super) response_timeout: Duration,
    /// How long an attempt may take to its response head before another server is tried.
    pub(super) attempt_timeout: Option<Duration>,
    connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) upload: Flow,
    /// How slowly the request body may come, and how slowly it does.
    pub(super) pace: Pace,
    /// The client waits to be asked for its body.
    pub(super) expects: bool,
    retry_after_s: Option<u32>,
    /// What was sent of the request's body, to be sent again.
    pub(super) held: Held,
    /// The status of the final response's head, once it has come.
    pub(super) status: u16,
    /// The client learns the response's end from the connection's.
    pub(super) ends_by_close: bool,
    pub(super) interim_bytes: u64,
    pub(super) bytes_sent: u64,
    head_bytes: u64,
    /// Bytes of the last attempt's response, heads included.
    pub(super) received: u64,
    /// What has been counted so far.
    pub(super) meter: Meter,
    attempts: u32,
    pub(super) retries: Retries,
    /// Another arm was tried than the session's.
    fell_back: bool,
}

impl<'a> Exchange<'a> {
    fn begin(
        worker: &'a Rc<Worker>,
        task: TaskIndex,
        down: ConnKey,
        memory: &'a mut Memory,
        plan: Plan,
    ) -> Self {
        let route = plan.route.map(|route| plan.current.table.snapshot.route(route));
        let limit = route.and_then(|route| route.actions.max_body);
        let pace = Pace::new(route.and_then(|route| route.body_rate));
        let listener = worker.slot(down, |slot| slot.listener);
        Self {
            worker,
            task,
            down,
            memory,
            current: Some(plan.current),
            course: plan.course,
            is_last: plan.is_last,
            is_bodiless: is_bodiless(plan.body),
            broken: false,
            route: plan.route,
            kind: plan.kind,
            repeatable: false,
            keep_alive: plan.keep_alive,
            accept_legacy: false,
            response_timeout: lb_core::defaults::RESPONSE,
            attempt_timeout: None,
            connect_timeout: lb_core::defaults::CONNECT,
            idle_timeout: lb_core::defaults::IDLE_UP,
            upload: Flow::new(plan.body, plan.body == Framing::Chunked, limit.unwrap_or(u64::MAX)),
            pace,
            expects: plan.expects,
            retry_after_s: plan.retry_after_s,
            held: Held::default(),
            status: 0,
            ends_by_close: false,
            interim_bytes: 0,
            bytes_sent: 0,
            head_bytes: plan.head_bytes,
            received: 0,
            meter: Meter::begin(&worker.metrics, listener, plan.arm, plan.started),
            attempts: 0,
            retries: Retries::default(),
            fell_back: false,
        }
    }

    /// Brings the exchange to its end.
    async fn run(&mut self) -> After {
        let late = match self.course {
            Course::Answer { .. } | Course::Forward if self.worker.classes.are_on() => {
                self.wait_for_turn().await
            }
            _ => None,
        };
        let reason = match self.course {
            _ if late.is_some() => late,
            Course::Refuse(reason) => Some(reason),
            Course::Answer { status } => {
                self.status = status;
                self.current = None;
                self.keep_alive &= self.is_bodiless;
                self.deliver().await
            }
            Course::Forward => self.forward().await,
        };
        self.held.let_go(self.worker);
        // A client that has had a part of its response, or has left, can't be told any more.
        if let Some(reason) = reason {
            self.keep_alive &= self.is_bodiless && reason.status != CLIENT_LEFT.status && self.status == 0;
            if self.status == 0 && reason.status != CLIENT_LEFT.status && !self.broken {
                self.refuse(reason).await;
            }
        }
        self.record(reason);
        match reason {
            _ if self.broken => After::Reset,
            Some(reason) if self.status != 0 && (self.ends_by_close || reason == CLIENT_STALLED) => {
                After::Reset
            }
            _ if self.keep_alive => After::NextRequest,
            _ => After::Close { more_may_come: !(self.is_last && (self.is_bodiless || self.upload.done)) },
        }
    }

    /// Tries servers until one has answered, or there is no point in trying on. Returns why the exchange
    /// came to no good end, if so.
    async fn forward(&mut self) -> Option<Reason> {
        let worker = self.worker;
        self.begin_attempts();
        loop {
            if let Some(reason) = self.back_off().await {
                return Some(reason);
            }
            // In a block, for what has been moved out of keeps its place in the task for as long as it is in scope.
            let (mut taken, pool) = {
                let current = Rc::clone(self.current.as_ref()?);
                let taken = match self.retries.next.take().or_else(|| self.take(&current)) {
                    Some(taken) => Ok(taken),
                    None => self.wait_for_room(&current).await,
                };
                self.prepare(&current);
                match taken {
                    Ok(taken) => (taken, self.begin_attempt(&current)),
                    Err(reason) => return Some(reason),
                }
            };
            let (attempt, connected) = self.try_server(&taken.permit, pool).await;
            // A pooled connection that its server had closed says nothing about the server.
            let stale =
                connected == Some(true) && matches!(attempt, Attempt::Failed { repeatable: true, .. });
            let outcome = match attempt {
                Attempt::Done { .. } | Attempt::Switched => Outcome::Responded { status: self.status },
                Attempt::PassedOver { status, .. } => Outcome::Responded { status },
                Attempt::Client(_) | Attempt::Failed { reason: OVERLOADED | QUEUE_TIMEOUT, .. } => {
                    Outcome::Abandoned
                }
                Attempt::Failed { .. } if connected.is_none() => Outcome::ConnectFailed,
                Attempt::Failed { .. } if stale => Outcome::Abandoned,
                Attempt::Cut(_) | Attempt::Late | Attempt::Failed { .. } => Outcome::Failed,
            };
            self.meter.tell(&mut taken.permit);
            taken.finish(worker, outcome);
            if let Attempt::Late | Attempt::Failed { reason: RESPONSE_TIMEOUT, .. } = attempt {
                self.meter.given_up(&worker.metrics, worker.now());
            }
            let head = if self.upload.begun { self.memory.request.len() as u64 } else { 0 };
            self.meter.finished(&worker.metrics, outcome, head + self.body_sent(), self.received);
            match attempt {
                Attempt::Done { .. } | Attempt::Switched => return None,
                Attempt::Cut(reason) | Attempt::Client(reason) => return Some(reason),
                Attempt::PassedOver { .. } | Attempt::Late => {}
                Attempt::Failed { reason, repeatable } => {
                    if !repeatable || !self.go_elsewhere(stale) {
                        return Some(reason);
                    }
                }
            }
            self.upload.begin_again();
            self.held.begin_again();
            // What comes before the next attempt is not the client's doing.
            self.pace.wait(false, self.upload.bytes, worker.now());
        }
    }

    /// Bytes of the request's body that the attempt's server was sent.
    pub(super) fn body_sent(&self) -> u64 {
        self.upload.bytes - self.held.ahead() as u64
    }

    /// Counts an attempt. Returns the server's pool.
    fn begin_attempt(&mut self, current: &Current) -> u32 {
        let (worker, decision) = (self.worker, self.decision());
        let arm = current.layout.arm(decision.route(), decision.arm());
        let server = current.layout.server(decision.server());
        self.attempts += 1;
        self.received = 0;
        self.meter.picked(&worker.metrics, arm, server, worker.now());
        // Where a failed send could be told from an answer that never came, it has to be told at once.
        self.upload.soon = self.repeatable && self.is_bodiless;
        current.pools[decision.server().0 as usize]
    }

    fn decision(&self) -> Decision {
        self.memory.decision.expect("an exchange that is forwarded was decided")
    }

    /// Notes what an attempt needs of the table.
    fn prepare(&mut self, current: &Current) {
        let decision = self.decision();
        let table = &current.table;
        let route = table.snapshot.route(decision.route());
        let arm = route.arm(decision.arm());
        self.accept_legacy = table.snapshot.backend(arm.backend).accept_legacy_responses;
        (self.response_timeout, self.connect_timeout) = (arm.timeouts.response, arm.timeouts.connect);
        self.idle_timeout = arm.timeouts.idle_up;
        self.memory.cookies.clear();
        decision.write_cookies(table, false, &mut self.memory.cookies);
        if decision.fallback() && !std::mem::replace(&mut self.fell_back, true) {
            self.worker.counters().fallbacks.add(1);
            let chosen = current.layout.arm(decision.route(), decision.chosen_arm());
            self.worker.metrics.arm(chosen).fallbacks.add(1);
        }
        self.memory.line.went_to(current, &decision);
        // Without retries nothing is sent twice, so only connections will do that are surely open.
        self.repeatable = arm.retry.retries > 0 && arm.retry.may_repeat(self.memory.method());
        self.attempt_timeout = arm.retry.attempt_timeout;
        // A body that is known to be longer would be let go.
        if self.attempts == 0 && self.repeatable && self.upload.bytes_ahead() <= arm.retry.hold_body.into() {
            self.held = Held::up_to(arm.retry.hold_body);
        }
    }

    /// One attempt at one server. Tells with it whether the connection was a pooled one; None: there was none.
    async fn try_server(&mut self, permit: &Permit, pool: u32) -> (Attempt, Option<bool>) {
        let worker = self.worker;
        // After a failure, and for what can't be repeated, only connections that are surely open.
        let max_idle = match (self.attempts, self.repeatable && self.is_bodiless) {
            (1, true) => None,
            (1, false) => Some(FRESH_ENOUGH),
            _ => Some(Duration::ZERO),
        };
        let (server, connect_timeout) = (permit.server(), self.connect_timeout);
        let want = Want { server, pool, max_idle, connect_timeout };
        let Acquired { conn: up, reused } = match acquire(worker, self.task, self.down, want).await {
            Ok(acquired) => acquired,
            Err(reason @ (CLIENT_LEFT | STOPPED)) => return (Attempt::Client(reason), None),
            Err(reason) => {
                let repeatable = reason == CONNECT_FAILED || reason == CONNECT_TIMEOUT;
                return (Attempt::Failed { reason, repeatable }, None);
            }
        };
        self.meter.connected(&worker.metrics, reused, worker.now());
        let attempt = self.attempt(up).await;
        match attempt {
            Attempt::Done { reusable: true } | Attempt::PassedOver { reusable: true, .. } => {
                release(worker, up, pool, permit, self.idle_timeout)
            }
            Attempt::Switched => self.switch(up).await,
            _ => worker.close_upstream(up),
        }
        (attempt, Some(reused))
    }

    /// Relays both ways after a 101, whose head goes first.
    async fn switch(&mut self, up: ConnKey) {
        let worker = self.worker;
        let current = self.current.take();
        let idle =
            current.zip(self.memory.decision).map_or(lb_core::defaults::TUNNEL_IDLE, |(current, it)| {
                current.table.snapshot.route(it.route()).arm(it.arm()).timeouts.tunnel_idle
            });
        self.keep_alive = false;
        if worker.send(self.down, &self.memory.response, &[]).is_ok() {
            let carried = tunnel(worker, self.task, self.down, up, idle).await;
            self.upload.bytes += carried.up;
            self.received += carried.down;
            self.bytes_sent = self.interim_bytes + self.memory.response.len() as u64 + carried.down;
            self.memory.line.tunnelled(carried.end);
        } else {
            self.memory.line.tunnelled(Cause::ClientLeft);
        }
        worker.close_upstream(up);
    }

    /// Answers with a refusal.
    async fn refuse(&mut self, reason: Reason) {
        let current = self.current.take();
        let page = self.route.zip(current.as_ref());
        let page = page.and_then(|(route, current)| {
            current.table.snapshot.route(route).actions.error_page(reason.status)
        });
        self.keep_alive &= self.is_bodiless && !self.worker.is_draining();
        let to = Answering { version: self.kind.version, head: self.kind.head, keep_alive: self.keep_alive };
        reply::write_refusal(&mut self.memory.response, reason, self.retry_after_s, page, to);
        drop(current);
        self.deliver().await;
    }

    /// Sends the local reply in [`Memory::response`]. Returns why not, if it did not get through.
    async fn deliver(&mut self) -> Option<Reason> {
        let worker = self.worker;
        self.bytes_sent += self.memory.response.len() as u64;
        // A reply is sent in parts as large as may wait.
        let mut rest = &self.memory.response[..];
        worker.set_deadline(self.down, worker.now() + self.response_timeout);
        let undelivered = loop {
            match worker.send(self.down, &[], rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(_) => break Some(CLIENT_LEFT),
            }
            if rest.is_empty() && !worker.has_unsent(self.down) {
                break None;
            }
            if worker.is_expired(self.down) {
                break Some(CLIENT_STALLED);
            }
            if worker.is_hung_up(self.down) {
                break Some(CLIENT_LEFT);
            }
            if worker.is_stopping() {
                self.broken = true;
                break Some(STOPPED);
            }
            wait().await;
        };
        self.keep_alive &= undelivered.is_none();
        undelivered
    }

    fn record(&mut self, reason: Option<Reason>) {
        let worker = self.worker;
        let listener = worker.slot(self.down, |slot| slot.listener);
        let status = match reason {
            Some(reason) if self.status == 0 || reason.status == CLIENT_LEFT.status => reason.status,
            _ => self.status,
        };
        let bytes_received = self.head_bytes + self.upload.bytes;
        let end = End { status, reason, bytes_received, bytes_sent: self.bytes_sent };
        record(worker, &self.memory.line, listener, self.meter, self.attempts, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every busy connection has one of these, so its size is what a thousand busy connections cost the
    /// caches. A larger one needs a reason: 1424 bytes are with what retries have tried, the permit of the next attempt,
    /// a held body and the pace of a slow one.
    #[test]
    fn the_task_stays_small() {
        fn size_of_future<F: Future>(_: impl FnOnce(Rc<Worker>, TaskIndex) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_future(serve_jobs);
        assert!(bytes <= 1424, "{bytes} bytes");
    }
}
