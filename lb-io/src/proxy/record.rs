//! The end of an exchange: one count and, where the access log is on, one line.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lb_core::{Decision, Snapshot, Table, Verdict};

use super::parse::usable_request_id;
use crate::http1::Version;
use crate::http1::request::RequestHead;
use crate::log::ending::{Cause, Ending};
use crate::log::record::{Format, Record, Request, Way};
use crate::metrics::meter::{End, count_unread};
use crate::metrics::{Meter, Phases};
use crate::reason::CLIENT_LEFT;
use crate::worker::Worker;

/// Bytes of a request target that a line shows; the rest is cut off.
const TARGET_BYTES: usize = 2048;

/// Bytes of a method that a line shows.
const METHOD_BYTES: usize = 32;

/// Bytes of a host name that a line shows: what a name may have in the DNS, and a port.
const HOST_BYTES: usize = 261;

/// Bytes of a referer and of a user agent that a line shows.
const FIELD_BYTES: usize = 512;

/// What must be remembered of a request for its line, because the head is gone when it ends.
#[derive(Debug, Default)]
pub struct Line {
    request: Request,
    way: Way,
    /// When a head of which only a part has come was first seen.
    head_since: Option<Duration>,
    /// How long it took to come.
    head_us: Option<u64>,
    tunnel: Option<Cause>,
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8], most: usize) {
    kept.clear();
    kept.extend_from_slice(&bytes[..bytes.len().min(most)]);
}

fn keep_name(kept: &mut String, name: &str) {
    kept.clear();
    kept.push_str(name);
}

impl Line {
    /// Forgets the previous exchange.
    pub fn clear(&mut self) {
        let Request { method, target, is_old, host, referer, agent, id, source } = &mut self.request;
        [method, target, host, referer, agent].into_iter().for_each(Vec::clear);
        id.clear();
        (*is_old, *source) = (false, None);
        let Way { route, arm, choose, fallback, backend, server, sticky, snapshot } = &mut self.way;
        [route, backend, server].into_iter().for_each(String::clear);
        (*arm, *choose, *fallback) = ("", "", false);
        (*sticky, *snapshot) = (None, None);
        (self.head_since, self.head_us, self.tunnel) = (None, None, None);
    }

    /// A part of a head has come.
    pub fn head_begun(&mut self, now: Duration) {
        self.head_since.get_or_insert(now);
    }

    /// Remembers a request. Its id is the received one where the peer is trusted, else a new one.
    pub fn begin(&mut self, worker: &Worker, head: &RequestHead<'_>, source: IpAddr, trusted: bool) {
        let since = self.head_since;
        self.clear();
        let received = if trusted { head.field("x-request-id").and_then(usable_request_id) } else { None };
        match received {
            Some(id) => self.request.id.push_str(id),
            None => write_hex(&mut self.request.id, worker.randomness.borrow_mut().request_id()),
        }
        let Some(format) = worker.log.borrow().as_ref().map(|log| log.format()) else { return };
        let since = since.map_or(Duration::ZERO, |since| worker.now().saturating_sub(since));
        self.head_us = Some(since.as_micros() as u64);
        let request = &mut self.request;
        request.source = Some(source);
        request.is_old = head.version == Version::Http10;
        keep(&mut request.method, head.method, METHOD_BYTES);
        keep(&mut request.target, head.raw_target, TARGET_BYTES);
        keep(&mut request.host, head.host.unwrap_or_default(), HOST_BYTES);
        if format == Format::Combined {
            keep(&mut request.referer, head.field("referer").unwrap_or_default(), FIELD_BYTES);
            keep(&mut request.agent, head.field("user-agent").unwrap_or_default(), FIELD_BYTES);
        }
    }

    /// Remembers what was decided. Where a request goes is remembered attempt by attempt.
    pub fn decided(&mut self, worker: &Worker, snapshot: &Snapshot, verdict: &Verdict) {
        if worker.log.borrow().is_none() {
            return;
        }
        self.way.snapshot = Some(snapshot.hash().stamp());
        let (route, arm) = match verdict {
            Verdict::Forward(_) => return,
            Verdict::Answer(route) => (Some(*route), None),
            Verdict::Refuse(refusal) => (refusal.route, refusal.arm),
        };
        let Some(route) = route.map(|route| snapshot.route(route)) else { return };
        keep_name(&mut self.way.route, &route.name);
        self.way.arm = arm.map_or("", |arm| route.arm(arm).name);
    }

    /// Remembers where an attempt goes.
    pub fn went_to(&mut self, table: &Table, decision: &Decision) {
        let (snapshot, way) = (&table.snapshot, &mut self.way);
        let route = snapshot.route(decision.route());
        let server = snapshot.server(decision.server());
        way.snapshot = Some(snapshot.hash().stamp());
        keep_name(&mut way.route, &route.name);
        keep_name(&mut way.backend, &snapshot.backend(server.backend).name);
        keep_name(&mut way.server, server.name());
        way.arm = route.arm(decision.arm()).name;
        way.choose = decision.arm_reason().word();
        way.fallback = decision.fallback();
        way.sticky = decision.stickiness(table);
    }

    /// Remembers how its tunnel ended.
    pub fn tunnelled(&mut self, cause: Cause) {
        self.tunnel = Some(cause);
    }

    /// The exchange's id.
    pub fn request_id(&self) -> &str {
        &self.request.id
    }
}

/// Counts the exchange, which `meter` has followed, and writes its line.
pub fn record(worker: &Worker, line: &Line, listener: u32, meter: Meter, attempts: u32, end: End) {
    let phases = meter.end(&worker.metrics, &end, worker.driver.now());
    write(worker, line, listener, end, phases, attempts);
}

/// Does the same for a client that left before its request's head was complete.
pub fn record_unread(worker: &Worker, line: &Line, listener: u32) {
    let reason = CLIENT_LEFT;
    let end = End { status: reason.status, reason: Some(reason), bytes_received: 0, bytes_sent: 0 };
    count_unread(&worker.metrics, listener, &end);
    write(worker, line, listener, end, Phases::default(), 0);
}

fn write(worker: &Worker, line: &Line, listener: u32, end: End, phases: Phases, attempts: u32) {
    let mut log = worker.log.borrow_mut();
    let Some(log) = log.as_mut() else { return };
    let Some(rate) = log.sampling().rate(&line.request.id, &end, phases.total_us) else { return };
    let current = worker.current();
    let record = Record {
        at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        listener: &current.listener(listener).name,
        request: &line.request,
        way: &line.way,
        end,
        ending: Ending::of(&end, &phases, attempts, line.tunnel),
        attempts,
        head_us: line.head_us,
        phases,
        rate,
    };
    let dropped = u64::from(!log.record(&record)) + log.take_lost();
    if dropped > 0 {
        worker.counters().log_lines_dropped.add(dropped);
    }
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
    fn hexadecimal_is_fixed_width() {
        let mut out = String::new();
        write_hex(&mut out, 0x1f);
        assert_eq!(out, format!("{:032x}", 0x1f));
    }
}
