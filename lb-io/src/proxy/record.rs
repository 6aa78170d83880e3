//! The end of an exchange: one count, where the access log is on one line, and where its trace is sampled and told to
//! a collector one span.

use std::net::IpAddr;
use std::time::Duration;

use lb_core::{Decision, Verdict};

use super::parse::usable_request_id;
use crate::driver::ConnKey;
use crate::http1::Version;
use crate::http1::request::RequestHead;
use crate::log::ending::Ending;
use crate::log::record::{Format, Part, Record, Request, Way};
use crate::log::sample::is_kept;
use crate::metrics::meter::{End, count_unread};
use crate::metrics::{Meter, Phases};
use crate::reason::{CLIENT_LEFT, Cause};
use crate::spans::record::{AGENT_BYTES_MAX, PATH_BYTES_MAX, PLACE_BYTES_MAX};
use crate::spans::{Place, SpanRecord};
use crate::trace::{Parent, Span};
use crate::worker::{Current, Worker};

/// What must be remembered of a request for its line, because the head is gone when it ends.
#[derive(Debug, Default)]
pub struct Line {
    id: String,
    request: Request,
    way: Way,
    /// When a head of which only a part has come was first seen.
    head_since: Option<Duration>,
    /// How long it took to come.
    head_us: Option<u64>,
    tunnel: Option<Cause>,
    /// The budget had no retry left for it.
    retry_refused: bool,
    span: Option<Span>,
    /// Its trace is sampled, and a collector is told of it.
    is_told: bool,
    /// Where it went, as a span's record has it, if a collector is told.
    place: Vec<u8>,
}

impl Line {
    /// Forgets the previous exchange.
    fn clear(&mut self) {
        self.id.clear();
        self.request.clear();
        self.way = Way::default();
        (self.head_since, self.head_us) = (None, None);
        (self.tunnel, self.retry_refused) = (None, false);
        (self.span, self.is_told) = (None, false);
        self.place.clear();
    }

    /// A part of a head has come.
    pub fn head_begun(&mut self, now: Duration) {
        self.head_since.get_or_insert(now);
    }

    /// Remembers a request of which nothing is known but by whom it came.
    pub fn begin_unread(&mut self, worker: &Worker, down: ConnKey) {
        self.clear();
        self.request.source = Some(worker.slot(down, |slot| slot.peer.ip()));
    }

    /// Remembers a request. Its id is the received one where the peer is trusted, else a new one.
    pub fn begin(&mut self, worker: &Worker, head: &RequestHead<'_>, source: IpAddr, trusted: bool) {
        let since = self.head_since;
        self.clear();
        let received = if trusted { head.field("x-request-id").and_then(usable_request_id) } else { None };
        match received {
            Some(id) => self.id.push_str(id),
            None => write_hex(&mut self.id, worker.randomness.borrow_mut().request_id()),
        }
        if let Some(options) = worker.tracing.get() {
            let mut randomness = worker.randomness.borrow_mut();
            let random = [randomness.draw(), randomness.draw()];
            let parent = if options.restart { None } else { Parent::parse(head.trace_parents()) };
            let sampled = || is_kept(&self.id, options.share);
            let span = Span::begin(parent, random, sampled);
            self.is_told = options.export && span.is_sampled();
            self.span = Some(span);
        }
        let format = worker.log.borrow().as_ref().map(|log| log.format());
        if format.is_none() && !self.is_told {
            return;
        }
        let since = since.map_or(Duration::ZERO, |since| worker.now().saturating_sub(since));
        self.head_us = Some(since.as_micros() as u64);
        let request = &mut self.request;
        request.source = Some(source);
        request.is_old = head.version == Version::Http10;
        request.keep(Part::Method, head.method);
        request.keep(Part::Target, head.raw_target);
        request.keep(Part::Host, head.host.unwrap_or_default());
        let has_both = format == Some(Format::Combined);
        if has_both {
            request.keep(Part::Referer, head.field("referer").unwrap_or_default());
        }
        if has_both || self.is_told {
            request.keep(Part::Agent, head.field("user-agent").unwrap_or_default());
        }
    }

    /// Remembers what was decided, if anybody is told. Where a request goes is remembered attempt by attempt.
    pub fn decided(&mut self, current: &Current, verdict: &Verdict) {
        let snapshot = &current.table.snapshot;
        if current.names.is_some() {
            self.way.snapshot = Some(snapshot.hash().stamp());
        }
        let (route, arm) = match verdict {
            Verdict::Forward(_) => return,
            Verdict::Answer(route) => (Some(*route), None),
            Verdict::Refuse(refusal) => (refusal.route, refusal.arm),
        };
        let Some(route) = route else { return };
        let arm = arm.map_or("", |arm| snapshot.route(route).arm(arm).name);
        if let Some(names) = &current.names {
            (self.way.route, self.way.arm) = (Some(names.route(route)), arm);
        }
        if self.is_told {
            self.set_place(Place { route: &snapshot.route(route).name, arm, ..Place::default() });
        }
    }

    fn set_place(&mut self, place: Place<'_>) {
        self.place.clear();
        self.place.reserve(PLACE_BYTES_MAX);
        place.write(&mut self.place);
    }

    /// Remembers where an attempt goes, if anybody is told.
    pub fn went_to(&mut self, current: &Current, decision: &Decision) {
        let snapshot = &current.table.snapshot;
        if self.is_told {
            let route = snapshot.route(decision.route());
            let server = snapshot.server(decision.server());
            self.set_place(Place {
                route: &route.name,
                arm: route.arm(decision.arm()).name,
                choose: decision.arm_reason().word(),
                backend: &snapshot.backend(server.backend).name,
                server: server.name(),
                address: Some(server.identity.address),
                fallback: decision.fallback(),
            });
        }
        let Some(names) = &current.names else { return };
        self.way = Way {
            route: Some(names.route(decision.route())),
            arm: snapshot.route(decision.route()).arm(decision.arm()).name,
            choose: decision.arm_reason().word(),
            fallback: decision.fallback(),
            server: Some(names.server(decision.server())),
            sticky: decision.stickiness(&current.table),
            snapshot: Some(snapshot.hash().stamp()),
        };
    }

    /// Remembers how its tunnel ended.
    pub fn tunnelled(&mut self, cause: Cause) {
        self.tunnel = Some(cause);
    }

    /// Remembers that it was not tried again because the budget had no retry left.
    pub fn retry_refused(&mut self) {
        self.retry_refused = true;
    }

    /// The exchange's place in its trace, if traces are looked at.
    pub fn span(&self) -> Option<Span> {
        self.span
    }

    /// The exchange's id.
    pub fn request_id(&self) -> &str {
        &self.id
    }
}

/// Counts the exchange, which `meter` has followed, and writes its line.
pub fn record(worker: &Worker, line: &Line, listener: u32, meter: Meter, attempts: u32, end: End) {
    let now = worker.driver.now();
    let phases = meter.end(&worker.metrics, &end, now);
    write(worker, line, listener, end, phases, attempts, now);
    if line.is_told {
        tell(worker, line, listener, end, phases, attempts, now);
    }
}

/// Does the same for a client that left before its request's head was complete.
pub fn record_unread(worker: &Worker, line: &Line, listener: u32) {
    let reason = CLIENT_LEFT;
    let end = End { status: reason.status, reason: Some(reason), bytes_received: 0, bytes_sent: 0 };
    count_unread(&worker.metrics, listener, &end);
    write(worker, line, listener, end, Phases::default(), 0, worker.now());
}

fn write(
    worker: &Worker,
    line: &Line,
    listener: u32,
    end: End,
    phases: Phases,
    attempts: u32,
    now: Duration,
) {
    let mut log = worker.log.borrow_mut();
    let Some(log) = log.as_mut() else { return };
    let ending = Ending::of(&end, &phases, attempts, line.tunnel);
    let Some(rate) = log.sampling().rate(&line.id, end.status, ending.cause, phases.total_us) else { return };
    let current = worker.current();
    let listener =
        current.names.as_ref().map_or(&b""[..], |names| names.listener(current.listener_index(listener)));
    let record = Record {
        at: log.time_of_day(now),
        id: &line.id,
        listener,
        request: &line.request,
        way: &line.way,
        end,
        ending,
        attempts,
        retry_refused: line.retry_refused,
        span: line.span,
        head_us: line.head_us,
        phases,
        rate,
    };
    if !log.record(&record) {
        worker.counters().log_lines_dropped.add(1);
    }
}

/// Records the exchange for who tells a collector.
fn tell(worker: &Worker, line: &Line, listener: u32, end: End, phases: Phases, attempts: u32, now: Duration) {
    let mut spans = worker.spans.borrow_mut();
    let (Some(spans), Some(span)) = (spans.as_mut(), line.span) else { return };
    let cause = Ending::of(&end, &phases, attempts, line.tunnel).cause;
    let current = worker.current();
    let ended = spans.time_of_day(now);
    let started = ended.saturating_sub(Duration::from_micros(phases.total_us));
    let path = line.request.part(Part::Target);
    let record = SpanRecord {
        trace: span.trace,
        id: span.id,
        parent: span.parent,
        flags: span.flags(),
        started_ns: started.as_nanos() as u64,
        ended_ns: ended.as_nanos() as u64,
        status: end.status,
        is_old: line.request.is_old,
        failed: end.status >= 500 || cause.is_failure(),
        attempts,
        bytes_received: end.bytes_received,
        bytes_sent: end.bytes_sent,
        before_us: phases.before_us,
        connect_us: phases.connect_us,
        wait_us: phases.wait_us,
        transfer_us: phases.transfer_us,
        source: line.request.source,
        request_id: &line.id,
        method: line.request.part(Part::Method),
        path: cut(path_of(path), PATH_BYTES_MAX),
        host: line.request.part(Part::Host),
        agent: cut(line.request.part(Part::Agent), AGENT_BYTES_MAX),
        listener: &current.listener(listener).name,
        ending: cause.word(),
        reason: end.reason.map_or("", |reason| reason.word),
        place: Place::read(&line.place),
    };
    if !spans.record(&record) {
        worker.counters().spans_dropped.add(1);
    }
}

fn cut(bytes: &[u8], len: usize) -> &[u8] {
    &bytes[..bytes.len().min(len)]
}

/// The path of a target: what stands behind `?` can be a secret, and traces are seen by more people than logs.
fn path_of(target: &[u8]) -> &[u8] {
    let target = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    // Absolute-form (RFC 9112 section 3.2.2): the path begins behind the authority, and without one it is `/`.
    let authority = target.windows(3).position(|part| part == b"://").filter(|_| !target.starts_with(b"/"));
    let Some(authority) = authority.map(|at| &target[at + 3..]) else { return target };
    authority.iter().position(|byte| *byte == b'/').map_or(b"/", |at| &authority[at..])
}

fn write_hex(out: &mut String, number: u128) {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    out.push_str(std::str::from_utf8(&digits).expect("digits are ASCII"));
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_the_path_alone() {
        for (target, path) in [
            ("/", "/"),
            ("/a/b?token=secret", "/a/b"),
            ("/a://b?c", "/a://b"),
            ("http://shop.test:80/a?b=/c", "/a"),
            ("http://shop.test", "/"),
            ("http://shop.test?a=b", "/"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(path_of(target.as_bytes()), path.as_bytes(), "{target}");
        }
    }

    #[test]
    fn hexadecimal_is_fixed_width() {
        let mut out = String::new();
        write_hex(&mut out, 0x1f);
        assert_eq!(out, format!("{:032x}", 0x1f));
    }
}
