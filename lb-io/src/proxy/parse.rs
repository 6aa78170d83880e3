//! From bytes to a plan: the request's head is read, understood, decided on by the core and written anew
//! for the server. All that borrows from the received bytes happens here, without suspending.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use lb_core::{Decision, Fields, RequestView, RouteIndex, Verdict, source};

use super::record::Line;
use super::reply::{self, Answering};
use crate::driver::ConnKey;
use crate::http1::request::{self, FieldStorage, RequestHead};
use crate::http1::response::RequestKind;
use crate::http1::rewrite::{self, Forwarded, PathRewrite, RequestRewrite, Traced};
use crate::http1::{Framing, Limits, Version, scan};
use crate::metrics::registry::NO_ARM;
use crate::reason::{BODY_TOO_LARGE, HEAD_TIMEOUT, OVERLOADED, Reason};
use crate::worker::conns::Fill;
use crate::worker::tasks::{TaskIndex, wait};
use crate::worker::{Current, Worker};

/// Longest request id that is taken over from a trusted peer; a longer one is replaced.
const REQUEST_ID_BYTES: usize = 128;

/// Cookies of ours that a route can have: session, mark, sticky ones of both arms.
const STRIPPED_COOKIES: usize = 8;

/// What a task keeps from exchange to exchange, so that none of them allocates.
#[derive(Debug)]
pub struct Memory {
    /// The request head for the server.
    pub request: Vec<u8>,
    /// The response head for the client, or a whole local reply.
    pub response: Vec<u8>,
    /// `set-cookie` lines of ours for the response.
    pub cookies: Vec<u8>,
    /// What the access log will say of the request.
    pub line: Box<Line>,
    /// Where the request goes, if its course is [`Course::Forward`].
    pub decision: Option<Decision>,
}

/// Bytes for which a task's vectors have room from the start.
const USUAL_BYTES: usize = 1 << 10;

/// Bytes of each vector that a task's memory keeps between exchanges.
const KEPT_BYTES: usize = 8 << 10;

impl Default for Memory {
    /// With room for what is usual.
    fn default() -> Self {
        let room = || Vec::with_capacity(USUAL_BYTES);
        Self { request: room(), response: room(), cookies: room(), line: Box::default(), decision: None }
    }
}

impl Memory {
    /// The method of the request head for the server.
    pub fn method(&self) -> &[u8] {
        self.request.split(|byte| *byte == b' ').next().unwrap_or_default()
    }

    /// Gives back what an unusually large exchange took.
    pub fn shrink(&mut self) {
        for bytes in [&mut self.request, &mut self.response, &mut self.cookies] {
            if bytes.capacity() > KEPT_BYTES {
                *bytes = Vec::with_capacity(USUAL_BYTES);
            }
        }
    }
}

/// What is to be done with a request.
#[derive(Debug, Clone, Copy)]
pub enum Course {
    /// Goes to a server, by [`Memory::decision`]. Its head is in [`Memory::request`].
    Forward,
    /// Is answered by the route. The response is in [`Memory::response`].
    Answer {
        /// Its status.
        status: u16,
    },
    /// Is refused.
    Refuse(Reason),
}

/// A request's head, understood.
pub struct Plan {
    /// The table by which it was decided.
    pub current: Rc<Current>,
    /// What is to be done.
    pub course: Course,
    /// Its route, if it has one.
    pub route: Option<RouteIndex>,
    /// Where it is counted.
    pub arm: u32,
    /// What must be known to read the response.
    pub kind: RequestKind,
    /// Where its body ends.
    pub body: Framing,
    /// The client said that it will send no other request.
    pub is_last: bool,
    /// The client will use the connection again.
    pub keep_alive: bool,
    /// When the head was complete.
    pub started: Duration,
    /// Bytes of the head.
    pub head_bytes: u64,
    /// The client sends its body only when a server has asked for it (RFC 9110 section 10.1.1).
    pub expects: bool,
    /// If it is refused for that it comes too early: how many seconds too early.
    pub retry_after_s: Option<u32>,
}

/// What waiting for a head came to.
pub enum Head {
    /// There is a request.
    Complete(Plan),
    /// Nothing has come; the connection can wait without a task.
    Idle,
    /// The client ended the connection. `within`: in the middle of a head.
    Gone {
        /// Some of a head had come.
        within: bool,
    },
}

/// Reads the next request head on `down`.
pub async fn read_head(worker: &Worker, task: TaskIndex, down: ConnKey, memory: &mut Memory) -> Head {
    let mut scanned = 0;
    let (fresh, listener, mut skipped) =
        worker.slot(down, |slot| (slot.served == 0, slot.listener, slot.empty_line));
    let mut timed = fresh;
    loop {
        if let Some(mut buffer) = worker.take_unread(down) {
            if !skipped {
                let empty_line = scan::skip_empty_line(buffer.bytes());
                skipped = empty_line > 0;
                buffer.consume(empty_line);
                if skipped {
                    // Noted where it outlasts a pause: two in two segments are no better than two in one.
                    worker.slot(down, |slot| slot.empty_line = true);
                }
            }
            // Half an empty line is no head yet.
            let begun = skipped || buffer.bytes() != b"\r";
            let end = if begun { scan::head_end(buffer.bytes(), scanned) } else { None };
            let too_large = end.is_none() && buffer.len() >= Limits::default().head_bytes;
            if let Some(end) = end.or(too_large.then_some(buffer.len())) {
                let plan = plan(worker, down, &buffer.bytes()[..end], memory);
                buffer.consume(end);
                worker.put_unread(down, buffer);
                return Head::Complete(plan);
            }
            scanned = if begun { buffer.len() } else { 0 };
            if scanned > 0 {
                memory.line.head_begun(worker.now());
            }
            worker.put_unread(down, buffer);
        }
        match worker.fill(down) {
            Fill::More => continue,
            Fill::End | Fill::Broken(_) => return Head::Gone { within: worker.has_unread(down) },
            Fill::Full if worker.has_unread(down) => {
                return Head::Complete(refusal(worker, down, OVERLOADED, memory));
            }
            // Without memory to look, nobody knows whether a request has come: it waits.
            Fill::Full => worker.starve(task),
            Fill::Blocked if !worker.has_unread(down) => return Head::Idle,
            Fill::Blocked => {}
        }
        if !std::mem::replace(&mut timed, true) {
            let timeout = worker.current().listener(listener).timeouts.request_head;
            worker.set_deadline(down, worker.now() + timeout);
        }
        worker.driver.watch(down);
        worker.settle(down);
        wait().await;
        if worker.is_stopping() {
            return Head::Gone { within: true };
        }
        if worker.is_expired(down) && !worker.has_unread(down) {
            return Head::Gone { within: false };
        }
        if worker.is_expired(down) {
            return Head::Complete(refusal(worker, down, HEAD_TIMEOUT, memory));
        }
    }
}

/// A plan for a request of which nothing more is known than why it is refused.
fn refusal(worker: &Worker, down: ConnKey, reason: Reason, memory: &mut Memory) -> Plan {
    memory.line.begin_unread(worker, down);
    Plan {
        current: worker.current(),
        course: Course::Refuse(reason),
        route: None,
        arm: NO_ARM,
        kind: RequestKind { head: false, upgrade_sent: false, version: Version::Http11 },
        body: Framing::None,
        is_last: false,
        keep_alive: false,
        started: worker.now(),
        head_bytes: 0,
        expects: false,
        retry_after_s: None,
    }
}

fn plan(worker: &Worker, down: ConnKey, bytes: &[u8], memory: &mut Memory) -> Plan {
    let mut storage = FieldStorage::new();
    let head = match request::parse(bytes, &mut storage, &Limits::default()) {
        Ok(head) => head,
        Err(error) => {
            let reason = Reason::of_request(error.status(), error.word());
            return refusal(worker, down, reason, memory);
        }
    };
    let current = worker.current();
    let (peer, listener) = worker.slot(down, |slot| (slot.peer.ip(), slot.listener));
    let listener = current.listener_index(listener);
    let rules = current.table.snapshot.listener(listener);
    let fields = HeadFields(&head);
    let source = source::effective(peer, &fields, rules.as_ref());
    let random = worker.randomness.borrow_mut().draw();
    let view = RequestView {
        listener,
        method: head.method,
        host: head.host.unwrap_or_default(),
        path: head.path,
        query: head.query,
        fields: &fields,
        source: source.address,
        secure: false,
    };
    memory.line.begin(worker, &head, source.address, source.trusted);
    let mut verdict = lb_core::decide(&current.table, &current.cursors.borrow(), &view, worker.now(), random);
    let is_scarce = worker.buffers.borrow().is_scarce();
    if !is_scarce && let Err(refusal) = verdict.charge(&current.table, &view, worker.now()) {
        verdict = Verdict::Refuse(refusal);
    }
    memory.line.decided(&current, &verdict);
    let arm = current.layout.place(&verdict);
    let keep_alive = head.keep_alive && !worker.is_draining();
    let retry_after_s = match &verdict {
        Verdict::Refuse(refusal) => refusal.retry_after_s().map(|s| u32::try_from(s).unwrap_or(u32::MAX)),
        Verdict::Forward(_) | Verdict::Answer(_) => None,
    };
    let (course, route) = match verdict {
        _ if is_scarce => (Course::Refuse(OVERLOADED), None),
        Verdict::Refuse(refusal) => (Course::Refuse(Reason::of_refusal(refusal.reason)), refusal.route),
        Verdict::Answer(route) => {
            // Without reading the body the connection cannot be used again.
            let keep_alive = keep_alive && is_bodiless(head.body);
            let to = Answering { version: head.version, head: head.is_head(), keep_alive };
            (answer(&current, route, &view, to, memory), Some(route))
        }
        Verdict::Forward(decision) => {
            let route = current.table.snapshot.route(decision.route());
            let too_large = matches!(head.body, Framing::Length(length) if length > route.actions.max_body.unwrap_or(u64::MAX));
            if too_large {
                (Course::Refuse(BODY_TOO_LARGE), Some(decision.route()))
            } else {
                write_request(&current, &head, &decision, peer, source.trusted, memory);
                memory.decision = Some(decision);
                (Course::Forward, Some(decision.route()))
            }
        }
    };
    Plan {
        course,
        route,
        arm,
        kind: RequestKind {
            head: head.is_head(),
            upgrade_sent: head.upgrade.is_some(),
            version: head.version,
        },
        body: head.body,
        is_last: !head.keep_alive,
        keep_alive,
        started: worker.now(),
        head_bytes: bytes.len() as u64,
        expects: head.expect_continue,
        retry_after_s,
        current,
    }
}

/// Whether nothing follows the head. A chunked body is one even if it is empty: its last chunk follows.
pub fn is_bodiless(framing: Framing) -> bool {
    matches!(framing, Framing::None | Framing::Length(0))
}

/// Has the route's redirect or fixed reply written.
fn answer(
    current: &Current,
    route: RouteIndex,
    view: &RequestView<'_, HeadFields<'_, '_>>,
    to: Answering,
    memory: &mut Memory,
) -> Course {
    let actions = &current.table.snapshot.route(route).actions;
    if let Some(redirect) = &actions.redirect {
        let location = &mut memory.cookies;
        location.clear();
        redirect.write_location(view.host, view.path, view.query, view.secure, location);
        let status = redirect.status();
        reply::write(&mut memory.response, status, &[("location", location)], "", b"", to);
        return Course::Answer { status };
    }
    let reply = actions.reply.as_ref().expect("a route without backend has a redirect or a reply");
    let (status, content_type) = (reply.status(), reply.content_type());
    reply::write(&mut memory.response, status, &[], content_type, reply.body.as_bytes(), to);
    Course::Answer { status }
}

fn write_request(
    current: &Current,
    head: &RequestHead<'_>,
    decision: &Decision,
    peer: IpAddr,
    trusted: bool,
    memory: &mut Memory,
) {
    let snapshot = &current.table.snapshot;
    let actions = &snapshot.route(decision.route()).actions;
    let path = match actions.forwarded_path(head.path) {
        Some(path) => PathRewrite::Replace(path),
        None => PathRewrite::Keep,
    };
    let arm = snapshot.route(decision.route()).arm(decision.arm());
    let mut strip_cookies = [&b""[..]; STRIPPED_COOKIES];
    let stripped = arm.strip_cookies.len().min(STRIPPED_COOKIES);
    for (place, name) in strip_cookies.iter_mut().zip(&arm.strip_cookies) {
        *place = name.as_bytes();
    }
    let span = memory.line.span();
    let parent = span.map(|span| span.field());
    let goes_on = span.is_some_and(|span| span.parent.is_some());
    memory.request.clear();
    rewrite::request(
        &mut memory.request,
        head,
        &RequestRewrite {
            path,
            host: actions.set_host.as_deref().map(str::as_bytes),
            remove: &actions.request.remove,
            set: &actions.request.set,
            forwarded: Forwarded { peer, secure: false, trusted },
            request_id: memory.line.request_id(),
            trace: parent.as_ref().map(|parent| Traced { parent, goes_on }),
            strip_cookies: &strip_cookies[..stripped],
            upgrade: head.upgrade.is_some(),
        },
    );
}

/// A received request id that may be kept: visible ASCII of a bounded length.
pub fn usable_request_id(value: &[u8]) -> Option<&str> {
    let usable = (1..=REQUEST_ID_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    usable.then(|| std::str::from_utf8(value).ok()).flatten()
}

/// A parsed head's fields, for the core.
pub struct HeadFields<'a, 'h>(pub &'a RequestHead<'h>);

impl Fields for HeadFields<'_, '_> {
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.fields.iter().map(|field| (field.name.as_bytes(), field.value))
    }
}
