//! One attempt at one server: the request goes out, the response comes back.
//!
//! Both directions move whenever they can, because servers may answer before they have read all, and
//! clients may wait for an answer before they send all. States of the response:
//!
//! ```text
//! Head ──(1xx, forwarded)──► Head ──(final head)──► Body ──► done
//!   └──(101)──► switched
//! ```

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::exchange::Exchange;
use super::relay::{Flow, Pumped, come_back, pump};
use crate::driver::ConnKey;
use crate::http1::body::Decoder;
use crate::http1::response::{self, FieldStorage, ResponseHead};
use crate::http1::rewrite::{self, ResponseRewrite};
use crate::http1::{Framing, Version, scan};
use crate::reason::{
    BODY_SLOW, BODY_TIMEOUT, BODY_TOO_LARGE, CLIENT_LEFT, CLIENT_STALLED, OVERLOADED, RESPONSE_CUT,
    RESPONSE_HEAD_TOO_LARGE, RESPONSE_TIMEOUT, Reason, SERVER_CLOSED, STOPPED, TOO_MANY_INTERIM,
};
use crate::worker::buffers::RECEIVE_BYTES;
use crate::worker::conns::Fill;
use crate::worker::tasks::wait;

/// Interim responses that are passed on for one request; one more is refused.
const INTERIM_RESPONSES: u32 = 8;

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The response went to the client whole.
    Done {
        /// The server's connection can serve another exchange.
        reusable: bool,
    },
    /// The server switched protocols; both connections are a tunnel now.
    Switched,
    /// It failed before any of its final response went to the client, who can still be told.
    Failed {
        /// Why.
        reason: Reason,
        /// Another attempt is safe: nothing of the request was sent, or the request may be sent twice.
        repeatable: bool,
    },
    /// The server's answer was not taken: another server is tried on its status, and was taken.
    PassedOver {
        /// The status.
        status: u16,
        /// The server's connection can serve another exchange.
        reusable: bool,
    },
    /// The server did not answer in the time of an attempt: another one was taken.
    Late,
    /// The server broke off when the response had begun.
    Cut(Reason),
    /// It is over on the client's account.
    Client(Reason),
}

/// How far the response has come.
enum Response {
    Head,
    Body(Flow),
}

/// What looking for a response head came to.
enum Found {
    Blocked,
    Starved,
    Final(Flow),
    Switched,
    /// A final response that is not taken, with the framing of its body.
    PassedOver(u16, Framing),
    Failed(Reason),
    /// It is over on the client's account.
    Client(Reason),
}

/// The state of an attempt.
struct Progress {
    response: Response,
    /// Bytes of an incomplete response head that were searched for its end.
    scanned: usize,
    /// Bytes came from the server.
    heard: bool,
    interim: u32,
    /// The server takes no more of the request.
    upload_broken: bool,
    /// The server would take more of the request, and the client has sent no more.
    wants_upload: bool,
    /// By what the response head said, the connection can be used again.
    reusable: bool,
}

impl Exchange<'_> {
    /// Sends the request to the server on `up` and its response to the client.
    pub(super) async fn attempt(&mut self, up: ConnKey) -> Attempt {
        let mut progress = Progress {
            response: Response::Head,
            scanned: 0,
            heard: false,
            interim: 0,
            upload_broken: false,
            wants_upload: false,
            reusable: false,
        };
        let mut moved = None;
        let mut silent_until = Duration::ZERO;
        loop {
            if let Some(over) = self.upload(up, &mut progress) {
                return over;
            }
            if let Some(over) = self.download(up, &mut progress) {
                return over;
            }
            let worker = self.worker;
            let now_moved = (self.body_sent(), self.download_bytes(&progress), progress.interim);
            if moved != Some(now_moved) {
                if let Some(timeout) = self.attempt_timeout
                    && moved.is_none_or(|(sent, ..)| sent != now_moved.0)
                {
                    worker.set_deadline(up, worker.now() + timeout);
                }
                moved = Some(now_moved);
                silent_until = worker.now() + self.patience(&progress);
                worker.set_deadline(self.down, silent_until);
            } else if worker.is_expired(self.down) {
                if silent_until <= worker.now() {
                    return self.timed_out(up, &progress);
                }
                worker.set_deadline(self.down, silent_until);
            }
            if let Some(until) = self.wait_for_body(&progress) {
                if until <= worker.now() {
                    return Attempt::Client(BODY_SLOW);
                }
                worker.set_deadline(self.down, until.min(silent_until));
            }
            if self.is_late(up, &progress) {
                return Attempt::Late;
            }
            if worker.is_hung_up(self.down) {
                return Attempt::Client(CLIENT_LEFT);
            }
            if !self.upload.done {
                worker.driver.watch(self.down);
            }
            worker.settle(self.down);
            worker.settle(up);
            wait().await;
            if worker.is_stopping() {
                // Who has had nothing of its response yet can be told.
                self.broken = self.status != 0;
                return Attempt::Client(STOPPED);
            }
        }
    }

    /// The response cannot go on, and what the client has had of it must not look whole.
    fn client_broken(&mut self, error: &io::Error) -> Reason {
        self.broken = true;
        if error.kind() == ErrorKind::OutOfMemory { OVERLOADED } else { CLIENT_LEFT }
    }

    fn download_bytes(&self, progress: &Progress) -> u64 {
        match &progress.response {
            Response::Head => progress.scanned as u64,
            Response::Body(flow) => flow.bytes + 1,
        }
    }

    /// Until when the request body may be waited for, if nothing else is and its route has a rate.
    fn wait_for_body(&mut self, progress: &Progress) -> Option<Duration> {
        let is_waiting = progress.wants_upload && self.was_asked(progress);
        self.pace.wait(is_waiting, self.upload.bytes, self.worker.now())
    }

    /// Whoever waits for a server's word is not slow.
    fn was_asked(&self, progress: &Progress) -> bool {
        !self.expects || progress.interim > 0 || self.upload.bytes > 0
    }

    /// Moves the request on.
    fn upload(&mut self, up: ConnKey, progress: &mut Progress) -> Option<Attempt> {
        progress.wants_upload = false;
        if self.upload.done || progress.upload_broken {
            return None;
        }
        let worker = self.worker;
        let mut head: &[u8] = if self.upload.begun { &[] } else { &self.memory.request };
        let resent = match self.held.ahead() {
            0 => Ok(true),
            _ => {
                self.held.resend(worker, up, std::mem::take(&mut head)).inspect(|_| self.upload.begun = true)
            }
        };
        let pumped = match resent {
            Ok(true) => pump(worker, self.down, up, &mut self.upload, head, Some(&mut self.held)),
            Ok(false) => Pumped::SinkBlocked,
            Err(error) => Pumped::SinkBroken(error),
        };
        match pumped {
            Pumped::Done => {
                if self.upload.bytes > 0 {
                    self.meter.sent(worker.now());
                }
                None
            }
            waiting @ (Pumped::SourceBlocked | Pumped::SinkBlocked | Pumped::Yielded | Pumped::NoMemory) => {
                progress.wants_upload = matches!(waiting, Pumped::SourceBlocked);
                come_back(worker, self.task, &waiting);
                None
            }
            Pumped::SourceEnded | Pumped::SourceBroken(_) => Some(Attempt::Client(CLIENT_LEFT)),
            Pumped::SinkBroken(error) if error.kind() == ErrorKind::OutOfMemory => {
                Some(Attempt::Failed { reason: OVERLOADED, repeatable: false })
            }
            Pumped::SinkBroken(_) if !self.upload.begun => {
                Some(Attempt::Failed { reason: SERVER_CLOSED, repeatable: true })
            }
            // The server may have answered before it closed.
            Pumped::SinkBroken(_) => {
                progress.upload_broken = true;
                None
            }
            Pumped::Malformed(error) => {
                Some(Attempt::Client(Reason::of_request(error.status(), error.word())))
            }
            Pumped::TooLarge => Some(Attempt::Client(BODY_TOO_LARGE)),
        }
    }

    /// Moves the response on.
    fn download(&mut self, up: ConnKey, progress: &mut Progress) -> Option<Attempt> {
        let worker = self.worker;
        if let Response::Head = progress.response {
            match self.find_response_head(up, progress) {
                Found::Final(flow) => {
                    self.end_timing(up);
                    progress.response = Response::Body(flow);
                }
                Found::Switched => {
                    self.end_timing(up);
                    return Some(Attempt::Switched);
                }
                Found::PassedOver(status, framing) => {
                    let whole = self.drop_body(up, framing)
                        && self.upload.done
                        && !progress.upload_broken
                        && !worker.has_unsent(up);
                    return Some(Attempt::PassedOver { status, reusable: progress.reusable && whole });
                }
                Found::Client(reason) => return Some(Attempt::Client(reason)),
                Found::Blocked => return None,
                Found::Starved => {
                    worker.starve(self.task);
                    return None;
                }
                Found::Failed(reason) => {
                    let repeatable = reason == SERVER_CLOSED && !progress.heard && self.may_repeat();
                    return Some(Attempt::Failed { reason, repeatable });
                }
            }
        }
        let Response::Body(flow) = &mut progress.response else { return None };
        let head: &[u8] = if flow.begun { &[] } else { &self.memory.response };
        let before = flow.bytes;
        let pumped = pump(worker, up, self.down, flow, head, None);
        self.received += flow.bytes - before;
        self.bytes_sent = self.interim_bytes + self.memory.response.len() as u64 + flow.bytes;
        match pumped {
            Pumped::Done => {
                let quiet = !worker.has_unread(up) && !worker.has_unsent(up);
                let whole = self.upload.done && !progress.upload_broken;
                Some(Attempt::Done { reusable: progress.reusable && quiet && whole })
            }
            waiting @ (Pumped::SourceBlocked | Pumped::SinkBlocked | Pumped::Yielded | Pumped::NoMemory) => {
                come_back(worker, self.task, &waiting);
                None
            }
            Pumped::SinkBroken(error) => Some(Attempt::Client(self.client_broken(&error))),
            Pumped::SourceEnded | Pumped::SourceBroken(_) => Some(Attempt::Cut(RESPONSE_CUT)),
            Pumped::Malformed(error) => Some(Attempt::Cut(Reason::of_response(error.word()))),
            Pumped::TooLarge => unreachable!("responses have no limit"),
        }
    }

    /// Drops what has come of the body of a response that is not taken. True if that was all of it, and nothing else.
    fn drop_body(&mut self, up: ConnKey, framing: Framing) -> bool {
        let mut decoder = Decoder::new(framing);
        let Some(mut buffer) = self.worker.take_unread(up) else { return decoder.is_done() };
        self.received += buffer.len() as u64;
        while !buffer.is_empty() && !decoder.is_done() {
            match decoder.step(buffer.bytes()) {
                Ok(step) if step.len > 0 => buffer.consume(step.len),
                _ => break,
            }
        }
        let whole = decoder.is_done() && buffer.is_empty();
        buffer.consume(buffer.len());
        self.worker.put_unread(up, buffer);
        whole
    }

    /// Whether the server has had the time of an attempt, and another one was taken in its place. It is asked once in an
    /// attempt: where there was no other, the server has as long as the response may take.
    fn is_late(&mut self, up: ConnKey, progress: &Progress) -> bool {
        let Some(timeout) = self.attempt_timeout else { return false };
        let worker = self.worker;
        if !matches!(progress.response, Response::Head) || !worker.is_expired(up) {
            return false;
        }
        if self.waits_for_client(up, progress) && self.was_asked(progress) {
            worker.set_deadline(up, worker.now() + timeout);
            return false;
        }
        worker.clear_deadline(up);
        let is_late = self.take_another();
        if is_late {
            self.retries.waited += timeout;
        }
        is_late
    }

    /// The time of the attempt does not count any more.
    fn end_timing(&self, up: ConnKey) {
        if self.attempt_timeout.is_some() {
            self.worker.clear_deadline(up);
        }
    }

    /// For how long nothing may move. Servers that are left for their silence were silent within the same time.
    fn patience(&self, progress: &Progress) -> Duration {
        match progress.response {
            Response::Head => self.response_timeout.saturating_sub(self.retries.waited),
            Response::Body(_) => self.response_timeout,
        }
    }

    /// Looks for the head of the final response; interim ones before it are passed on.
    fn find_response_head(&mut self, up: ConnKey, progress: &mut Progress) -> Found {
        let worker = self.worker;
        loop {
            if let Some(mut buffer) = worker.take_unread(up) {
                progress.heard = true;
                if let Some(end) = scan::head_end(buffer.bytes(), progress.scanned) {
                    let found = self.take_response_head(&buffer.bytes()[..end], progress);
                    buffer.consume(end);
                    worker.put_unread(up, buffer);
                    progress.scanned = 0;
                    match found {
                        Some(found) => return found,
                        None => continue,
                    }
                }
                progress.scanned = buffer.len();
                worker.put_unread(up, buffer);
                if progress.scanned >= RECEIVE_BYTES {
                    return Found::Failed(RESPONSE_HEAD_TOO_LARGE);
                }
            }
            match worker.fill(up) {
                Fill::More => {}
                Fill::Blocked => return Found::Blocked,
                Fill::Full => return Found::Starved,
                Fill::End | Fill::Broken(_) => return Found::Failed(SERVER_CLOSED),
            }
        }
    }

    /// Reads one response head and writes the client's. None if it was an interim one.
    fn take_response_head(&mut self, bytes: &[u8], progress: &mut Progress) -> Option<Found> {
        self.received += bytes.len() as u64;
        let mut storage = FieldStorage::new();
        let head = match response::parse(bytes, &mut storage, self.kind, self.accept_legacy) {
            Ok(head) => head,
            Err(error) => return Some(Found::Failed(Reason::of_response(error.word()))),
        };
        if head.is_interim() {
            progress.interim += 1;
            if progress.interim > INTERIM_RESPONSES {
                return Some(Found::Failed(TOO_MANY_INTERIM));
            }
            return self.pass_interim(&head);
        }
        self.meter.answered(&self.worker.metrics, head.status, self.worker.now());
        progress.reusable = head.keep_alive && head.framing != Framing::UntilClose;
        if let Some(seconds) = head.keep_alive_timeout_s {
            let announced = Duration::from_secs(u64::from(seconds).saturating_sub(1));
            self.idle_timeout = self.idle_timeout.min(announced);
            progress.reusable &= !announced.is_zero();
        }
        if self.is_listed(head.status) && self.take_another() {
            return Some(Found::PassedOver(head.status, head.framing));
        }
        self.held.stop(self.worker);
        self.status = head.status;
        let framing = head.framing_for(self.kind.version);
        if head.status == 101 {
            self.write_response(&head, framing, true);
            return Some(Found::Switched);
        }
        self.keep_alive &= !self.worker.is_draining() && self.upload.done && framing != Framing::UntilClose;
        self.ends_by_close = framing == Framing::UntilClose;
        self.write_response(&head, framing, false);
        // From here on the snapshot isn't needed: a long body must not keep an old one in memory.
        self.current = None;
        let framed = framing == Framing::Chunked;
        let mut flow = Flow::new(head.framing, framed, u64::MAX);
        // The connection's end would overtake it.
        flow.soon = self.keep_alive;
        Some(Found::Final(flow))
    }

    /// Passes a 1xx on, except to HTTP/1.0 (RFC 9110 section 15.2).
    fn pass_interim(&mut self, head: &ResponseHead<'_>) -> Option<Found> {
        if self.kind.version == Version::Http11 {
            self.memory.response.clear();
            let plain: ResponseRewrite<'_, &str> = ResponseRewrite {
                client: self.kind.version,
                keep_alive: true,
                framing: Framing::None,
                remove: &[],
                set: &[],
                lines: &[],
                private: false,
            };
            rewrite::response(&mut self.memory.response, head, &plain);
            self.interim_bytes += self.memory.response.len() as u64;
            // A head that was cut off would have the next one read as a part of it.
            if let Err(error) = self.worker.send(self.down, &self.memory.response, &[]) {
                return Some(Found::Client(self.client_broken(&error)));
            }
        }
        None
    }

    fn write_response(&mut self, head: &ResponseHead<'_>, framing: Framing, switched: bool) {
        let current = self.current.as_ref().expect("kept until the response head is written");
        let route = self.route.expect("what is forwarded has a route");
        let actions = &current.table.snapshot.route(route).actions;
        self.memory.response.clear();
        rewrite::response(
            &mut self.memory.response,
            head,
            &ResponseRewrite {
                client: self.kind.version,
                keep_alive: self.keep_alive || switched,
                framing,
                remove: &actions.response.remove,
                set: &actions.response.set,
                lines: &self.memory.cookies,
                private: !self.memory.cookies.is_empty(),
            },
        );
    }

    /// Whose fault it is that nothing has moved for as long as the response timeout.
    fn timed_out(&self, up: ConnKey, progress: &Progress) -> Attempt {
        let worker = self.worker;
        let client_stalls = worker.is_congested(self.down) || worker.has_unsent(self.down);
        match &progress.response {
            Response::Body(_) if client_stalls => Attempt::Client(CLIENT_STALLED),
            Response::Body(_) => Attempt::Cut(RESPONSE_TIMEOUT),
            Response::Head if self.waits_for_client(up, progress) => Attempt::Client(BODY_TIMEOUT),
            Response::Head => Attempt::Failed { reason: RESPONSE_TIMEOUT, repeatable: false },
        }
    }

    /// Whether it is the client's turn: more of the request is to come, and the server takes what comes.
    fn waits_for_client(&self, up: ConnKey, progress: &Progress) -> bool {
        let request_waits = !self.upload.done && !progress.upload_broken;
        request_waits && !self.worker.is_congested(up) && !self.worker.has_unsent(up)
    }
}
