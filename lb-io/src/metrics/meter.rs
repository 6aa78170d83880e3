//! One exchange's way through the series: what it has begun to count, and when which step was done.
//!
//! ```text
//! begin ──► picked ──► connected ──► answered ──► finished ──► end
//!   │          ▲                                     │          ▲
//!   │          └──────────── next attempt ───────────┘          │
//!   └──────────────── refused, or answered by us ───────────────┘
//! ```
//!
//! Times are the worker's: those of the turn in which a step was done, and at the end the clock's. So a step takes
//! at least nothing, and the parts of an exchange never sum up to more than the whole.

use std::time::Duration;

use lb_core::{Outcome, Permit};

use super::recorder::Recorder;
use super::registry::NO_ARM;
use super::series::{CONNECT, EXCHANGE, TRANSFER, WAIT};
use crate::reason::Reason;

/// No attempt is under way.
const NO_SERVER: u32 = u32::MAX;

/// How long the steps of an exchange took, in microseconds. Of several attempts the last counts; a step that was
/// not come to is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the complete request head to the last pick: deciding, waiting for a server to have room, and earlier attempts.
    pub before_us: Option<u64>,
    /// Of all attempts together: waiting for a server to have room.
    pub queue_us: Option<u64>,
    /// From the pick to a connection; near nothing for a pooled one.
    pub connect_us: Option<u64>,
    /// From the connection to the response head.
    pub wait_us: Option<u64>,
    /// From the response head to the end.
    pub transfer_us: Option<u64>,
    /// From the complete request head to the end.
    pub total_us: u64,
    /// It ended while it waited for a server to have room.
    pub queueing: bool,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The status that the client was sent, or the reason's.
    pub status: u16,
    /// Why we ended it, if we did.
    pub reason: Option<Reason>,
    /// Bytes received from the client.
    pub bytes_received: u64,
    /// Bytes sent to the client.
    pub bytes_sent: u64,
}

/// What one exchange has begun to count. To be ended exactly once, with [`Meter::end`].
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    started: Duration,
    listener: u32,
    arm: u32,
    server: u32,
    queueing: bool,
    queue_us: Option<u64>,
    /// In microseconds after the start, as the others; none: not come to.
    picked_us: Option<u64>,
    connected_us: Option<u64>,
    sent_us: Option<u64>,
    answered_us: Option<u64>,
}

fn since(started: Duration, now: Duration) -> u64 {
    now.saturating_sub(started).as_micros() as u64
}

impl Meter {
    /// Begins to count an exchange whose head was complete at `started`.
    pub fn begin(recorder: &Recorder, listener: u32, arm: u32, started: Duration) -> Meter {
        recorder.listener(listener).exchanges.add(1);
        recorder.arm(arm).active.add(1);
        Meter {
            started,
            listener,
            arm,
            server: NO_SERVER,
            queueing: false,
            queue_us: None,
            picked_us: None,
            connected_us: None,
            sent_us: None,
            answered_us: None,
        }
    }

    /// The servers are full. The next attempt begins when one has room.
    pub fn queues(&mut self) {
        self.queueing = true;
    }

    /// It begins to wait until one has: in this queue, if its table has one.
    pub fn waits(&self, recorder: &Recorder, queue: Option<u32>) {
        if let Some(queue) = queue {
            recorder.queue(queue).active.add(1);
        }
    }

    /// It has waited so long, be it that one had room or not.
    pub fn waited(&mut self, recorder: &Recorder, queue: Option<u32>, time: Duration) {
        let time_us = time.as_micros() as u64;
        self.queue_us = Some(self.queue_us.unwrap_or_default() + time_us);
        if let Some(queue) = queue {
            let series = recorder.queue(queue);
            series.waited_us.add(time_us);
            series.waited.count(0, time_us);
            series.active.leave();
        }
    }

    /// An attempt begins: at this server, for this arm.
    pub fn picked(&mut self, recorder: &Recorder, arm: u32, server: u32, now: Duration) {
        if arm != self.arm {
            recorder.arm(arm).active.add(1);
            recorder.arm(self.arm).active.leave();
            self.arm = arm;
        }
        let (arm, series) = (recorder.arm(arm), recorder.server(server));
        arm.attempts.add(1);
        recorder.counters().attempts.add(1);
        series.active.add(1);
        series.begun.add(1);
        if self.picked_us.is_some() {
            arm.retries.add(1);
            series.retries.add(1);
            recorder.counters().retries.add(1);
        }
        self.server = server;
        self.queueing = false;
        self.picked_us = Some(since(self.started, now));
        (self.connected_us, self.sent_us, self.answered_us) = (None, None, None);
    }

    /// There would be another attempt, but the budget of retries is spent.
    pub fn retry_refused(&self, recorder: &Recorder) {
        recorder.arm(self.arm).retries_refused.add(1);
        recorder.counters().retries_refused.add(1);
    }

    /// The attempt has its connection.
    pub fn connected(&mut self, recorder: &Recorder, reused: bool, now: Duration) {
        let connected_us = since(self.started, now);
        self.connected_us = Some(connected_us);
        let series = recorder.server(self.server);
        if reused {
            series.reuses.add(1);
            return;
        }
        let connect_us = connected_us - self.picked_us.unwrap_or(connected_us);
        series.connects.add(1);
        series.connect_us.add(connect_us);
        let arm = recorder.arm(self.arm);
        arm.connect_us.add(connect_us);
        arm.edges.count(CONNECT, connect_us);
    }

    /// The attempt's request, whose body took its time, has been sent to its end.
    pub fn sent(&mut self, now: Duration) {
        self.sent_us = Some(since(self.started, now));
    }

    /// Tells the attempt's permit from when to when the server owed an answer: a client that sends or receives slowly
    /// does not make it slow.
    pub fn tell(&self, permit: &mut Permit) {
        let at = |after_us: u64| self.started + Duration::from_micros(after_us);
        // An answer may come before all is sent.
        if let Some(sent_us) = self.sent_us.filter(|sent_us| self.answered_us.is_none_or(|it| *sent_us <= it))
        {
            permit.sent(at(sent_us));
        }
        if let Some(answered_us) = self.answered_us {
            permit.answered(at(answered_us));
        }
    }

    /// The attempt's response head has come.
    pub fn answered(&mut self, recorder: &Recorder, status: u16, now: Duration) {
        recorder.server(self.server).statuses.count(status);
        self.answered_us = Some(self.owed(recorder, now));
    }

    /// The attempt's response head has not come in time. What was waited for it is the least that it would have
    /// taken, and without it a server that hangs would look fast.
    pub fn given_up(&mut self, recorder: &Recorder, now: Duration) {
        self.owed(recorder, now);
    }

    fn owed(&self, recorder: &Recorder, now: Duration) -> u64 {
        let now_us = since(self.started, now);
        let wait_us = now_us - self.connected_us.unwrap_or(now_us);
        let attempt_us = now_us - self.picked_us.unwrap_or(now_us);
        let (arm, series) = (recorder.arm(self.arm), recorder.server(self.server));
        arm.wait_us.add(wait_us);
        arm.response.count(WAIT, wait_us);
        series.answered_us.add(attempt_us);
        series.answered.count(0, attempt_us);
        now_us
    }

    /// The attempt is over, after so many bytes to and from the server. Does nothing if none is under way.
    pub fn finished(&mut self, recorder: &Recorder, outcome: Outcome, bytes_sent: u64, bytes_received: u64) {
        if self.server == NO_SERVER {
            return;
        }
        let series = recorder.server(self.server);
        match outcome {
            Outcome::ConnectFailed => series.connect_failures.add(1),
            Outcome::Failed => series.failures.add(1),
            Outcome::Responded { .. } | Outcome::Abandoned => {}
        }
        series.bytes_sent.add(bytes_sent);
        series.bytes_received.add(bytes_received);
        series.active.leave();
        self.server = NO_SERVER;
    }

    /// The exchange is over. Tunnels count, but their time is no response time.
    pub fn end(mut self, recorder: &Recorder, end: &End, now: Duration) -> Phases {
        self.finished(recorder, Outcome::Abandoned, 0, 0);
        let total_us = since(self.started, now);
        let transfer_us = self.answered_us.map(|answered| total_us.saturating_sub(answered));
        let arm = recorder.arm(self.arm);
        if end.status != 101 {
            arm.exchange_us.add(total_us);
            arm.response.count(EXCHANGE, total_us);
            if let Some(transfer_us) = transfer_us {
                arm.transfer_us.add(transfer_us);
                arm.edges.count(TRANSFER, transfer_us);
            }
        }
        let listener = recorder.listener(self.listener);
        arm.statuses.count(end.status);
        listener.statuses.count(end.status);
        arm.bytes_received.add(end.bytes_received);
        listener.bytes_received.add(end.bytes_received);
        arm.bytes_sent.add(end.bytes_sent);
        listener.bytes_sent.add(end.bytes_sent);
        if let Some(reason) = end.reason {
            arm.reasons.count(reason);
            listener.reasons.count(reason.word);
        }
        listener.exchanges.leave();
        arm.active.leave();
        let step = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        Phases {
            before_us: self.picked_us,
            queue_us: self.queue_us,
            connect_us: step(self.picked_us, self.connected_us),
            wait_us: step(self.connected_us, self.answered_us),
            transfer_us,
            total_us,
            queueing: self.queueing,
        }
    }
}

/// Counts an exchange that ended before its head was complete: it has no times.
pub fn count_unread(recorder: &Recorder, listener: u32, end: &End) {
    let (listener, arm) = (recorder.listener(listener), recorder.arm(NO_ARM));
    arm.statuses.count(end.status);
    listener.statuses.count(end.status);
    if let Some(reason) = end.reason {
        arm.reasons.count(reason);
        listener.reasons.count(reason.word);
    }
}
