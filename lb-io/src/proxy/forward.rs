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
            let now_moved = (self.upload.bytes, self.download_bytes(&progress), progress.interim);
            if moved != Some(now_moved) {
                moved = Some(now_moved);
                silent_until = worker.now() + self.response_timeout;
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
        // Whoever waits for a server's word is not slow.
        let was_asked = !self.expects || progress.interim > 0 || self.upload.bytes > 0;
        let is_waiting = progress.wants_upload && was_asked;
        self.pace.wait(is_waiting, self.upload.bytes, self.worker.now())
    }

    /// Moves the request on.
    fn upload(&mut self, up: ConnKey, progress: &mut Progress) -> Option<Attempt> {
        progress.wants_upload = false;
        if self.upload.done || progress.upload_broken {
            return None;
        }
        let worker = self.worker;
        let head: &[u8] = if self.upload.begun { &[] } else { &self.memory.request };
        match pump(worker, self.down, up, &mut self.upload, head) {
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
                Found::Final(flow) => progress.response = Response::Body(flow),
                Found::Switched => return Some(Attempt::Switched),
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
        let pumped = pump(worker, up, self.down, flow, head);
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

    /// Whether the request may go to a server once more, given that some of it may have been acted on.
    fn may_repeat(&self) -> bool {
        self.idempotent && self.upload.bytes == 0
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
        self.status = head.status;
        self.meter.answered(&self.worker.metrics, head.status, self.worker.now());
        let framing = head.framing_for(self.kind.version);
        if head.status == 101 {
            self.write_response(&head, framing, true);
            return Some(Found::Switched);
        }
        self.keep_alive &= !self.worker.is_draining() && self.upload.done && framing != Framing::UntilClose;
        self.ends_by_close = framing == Framing::UntilClose;
        progress.reusable = head.keep_alive && head.framing != Framing::UntilClose;
        if let Some(seconds) = head.keep_alive_timeout_s {
            let announced = Duration::from_secs(u64::from(seconds).saturating_sub(1));
            self.idle_timeout = self.idle_timeout.min(announced);
            progress.reusable &= !announced.is_zero();
        }
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
        let request_waits = !self.upload.done && !progress.upload_broken;
        let server_stalls = worker.is_congested(up) || worker.has_unsent(up);
        match &progress.response {
            Response::Body(_) if client_stalls => Attempt::Client(CLIENT_STALLED),
            Response::Body(_) => Attempt::Cut(RESPONSE_TIMEOUT),
            Response::Head if request_waits && !server_stalls => Attempt::Client(BODY_TIMEOUT),
            Response::Head => Attempt::Failed { reason: RESPONSE_TIMEOUT, repeatable: false },
        }
    }
}
