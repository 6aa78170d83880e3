//! One exchange as the access log tells it, in each of the formats.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use lb_core::decide::Stickiness;

use super::ending::Ending;
use super::write::{self, Calendar};
use crate::metrics::Phases;
use crate::metrics::meter::End;

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Words between spaces; what does not apply is `-`.
    #[default]
    Text,
    /// One JSON object; its schema is `docs/operating/access-log.schema.json`.
    Json,
    /// The "combined" format of Apache's httpd.
    Combined,
}

/// What is remembered of a request's head. Bytes as received, cut off where they are long.
#[derive(Debug, Default)]
pub struct Request {
    /// The method; empty if no head was understood.
    pub method: Vec<u8>,
    /// The target.
    pub target: Vec<u8>,
    /// Whether it came by HTTP/1.0.
    pub is_old: bool,
    /// The authority.
    pub host: Vec<u8>,
    /// `referer`, where the format has it.
    pub referer: Vec<u8>,
    /// `user-agent`, where the format has it.
    pub agent: Vec<u8>,
    /// The exchange's id.
    pub id: String,
    /// The client, as far as it is known.
    pub source: Option<IpAddr>,
}

/// Where an exchange went. What does not apply is empty.
#[derive(Debug, Default)]
pub struct Way {
    /// The route.
    pub route: String,
    /// The arm that served.
    pub arm: &'static str,
    /// Why the session belongs to its arm.
    pub choose: &'static str,
    /// Another arm served than the session's.
    pub fallback: bool,
    /// The backend of the last attempt.
    pub backend: String,
    /// The server of the last attempt.
    pub server: String,
    /// What the sticky cookie said, and whether one was set; none: the backend has no such cookie.
    pub sticky: Option<(Stickiness, bool)>,
    /// The beginning of the snapshot's hash; none: nothing was decided.
    pub snapshot: Option<u64>,
}

/// One exchange.
#[derive(Debug)]
pub struct Record<'a> {
    /// When it ended, since 1970.
    pub at: Duration,
    /// The listener that it came by.
    pub listener: &'a str,
    /// What was asked.
    pub request: &'a Request,
    /// Where it went.
    pub way: &'a Way,
    /// How it ended.
    pub end: End,
    /// By whom.
    pub ending: Ending,
    /// How often it was tried at a server.
    pub attempts: u32,
    /// From the first byte of the head to the last; none: there was no whole head.
    pub head_us: Option<u64>,
    /// How long the other steps took.
    pub phases: Phases,
    /// The share of such exchanges that is logged, in hundredths of a percent.
    pub rate: u16,
}

impl Record<'_> {
    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>, format: Format, calendar: &mut Calendar) {
        match format {
            Format::Text => self.write_text(out, calendar),
            Format::Json => self.write_json(out, calendar),
            Format::Combined => self.write_combined(out, calendar),
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, calendar: &mut Calendar) {
        let Record { request, way, end, phases, .. } = self;
        out.extend_from_slice(br#"{"time":""#);
        calendar.write(out, self.at);
        out.push(b'"');
        string(out, br#","id":"#, request.id.as_bytes());
        string(out, br#","listener":"#, self.listener.as_bytes());
        match request.source {
            Some(source) => {
                out.extend_from_slice(br#","client":""#);
                write::address(out, source);
                out.push(b'"');
            }
            None => out.extend_from_slice(br#","client":null"#),
        }
        string(out, br#","method":"#, &request.method);
        string(out, br#","target":"#, &request.target);
        string(out, br#","protocol":"#, self.protocol());
        string(out, br#","host":"#, &request.host);
        string(out, br#","route":"#, way.route.as_bytes());
        string(out, br#","arm":"#, way.arm.as_bytes());
        string(out, br#","choose":"#, way.choose.as_bytes());
        flag(out, br#","fallback":"#, way.fallback);
        string(out, br#","backend":"#, way.backend.as_bytes());
        string(out, br#","server":"#, way.server.as_bytes());
        string(out, br#","sticky":"#, way.sticky.map_or("", |(came, _)| came.word()).as_bytes());
        number(out, br#","status":"#, u64::from(end.status));
        string(out, br#","reason":"#, end.reason.map_or("", |reason| reason.word).as_bytes());
        string(out, br#","ending":"#, self.ending.cause.word().as_bytes());
        string(out, br#","step":"#, self.ending.step.map_or("", |step| step.word()).as_bytes());
        string(out, br#","termination":"#, &self.ending.letters(way.sticky));
        number(out, br#","attempts":"#, u64::from(self.attempts));
        number(out, br#","bytes_received":"#, end.bytes_received);
        number(out, br#","bytes_sent":"#, end.bytes_sent);
        timer(out, br#","head_us":"#, self.head_us);
        timer(out, br#","before_us":"#, phases.before_us);
        timer(out, br#","connect_us":"#, phases.connect_us);
        timer(out, br#","wait_us":"#, phases.wait_us);
        timer(out, br#","transfer_us":"#, phases.transfer_us);
        number(out, br#","total_us":"#, phases.total_us);
        match way.snapshot {
            Some(snapshot) => {
                out.extend_from_slice(br#","snapshot":""#);
                write::hex(out, snapshot);
                out.push(b'"');
            }
            None => out.extend_from_slice(br#","snapshot":null"#),
        }
        out.extend_from_slice(br#","rate":"#);
        write::fraction(out, self.rate);
        out.extend_from_slice(b"}\n");
    }

    fn write_text(&self, out: &mut Vec<u8>, calendar: &mut Calendar) {
        let Record { request, way, end, phases, .. } = self;
        calendar.write(out, self.at);
        out.push(b' ');
        self.write_source(out);
        for name in [self.listener, &way.route, way.arm] {
            word(out, name);
        }
        if way.server.is_empty() {
            out.extend_from_slice(b" -");
        } else {
            word(out, &way.backend);
            out.push(b'/');
            out.extend_from_slice(way.server.as_bytes());
        }
        out.extend_from_slice(b" \"");
        self.write_request(out);
        let total_ms = phases.total_us as f64 / 1000.0;
        let reason = end.reason.map_or("-", |reason| reason.word);
        let _ = write!(
            out,
            "\" {} {reason} {} {} {total_ms:.1} {}",
            end.status, end.bytes_received, end.bytes_sent, self.attempts
        );
        word(out, &request.id);
        out.push(b'\n');
    }

    fn write_combined(&self, out: &mut Vec<u8>, calendar: &mut Calendar) {
        self.write_source(out);
        out.extend_from_slice(b" - - [");
        calendar.write_common(out, self.at);
        out.extend_from_slice(b"] \"");
        self.write_request(out);
        out.extend_from_slice(b"\" ");
        write::number(out, u64::from(self.end.status));
        out.push(b' ');
        write::number(out, self.end.bytes_sent);
        for field in [&self.request.referer, &self.request.agent] {
            out.extend_from_slice(b" \"");
            write::text(out, if field.is_empty() { b"-" } else { field });
            out.push(b'"');
        }
        out.push(b'\n');
    }

    fn write_source(&self, out: &mut Vec<u8>) {
        match self.request.source {
            Some(source) => write::address(out, source),
            None => out.push(b'-'),
        }
    }

    fn write_request(&self, out: &mut Vec<u8>) {
        if self.request.method.is_empty() {
            return out.push(b'-');
        }
        write::text(out, &self.request.method);
        out.push(b' ');
        write::text(out, &self.request.target);
        out.push(b' ');
        out.extend_from_slice(self.protocol());
    }

    fn protocol(&self) -> &'static [u8] {
        match (self.request.method.is_empty(), self.request.is_old) {
            (true, _) => b"",
            (false, true) => b"HTTP/1.0",
            (false, false) => b"HTTP/1.1",
        }
    }
}

/// Appends a word after a space, or `-` for none.
fn word(out: &mut Vec<u8>, text: &str) {
    out.push(b' ');
    out.extend_from_slice(if text.is_empty() { b"-" } else { text.as_bytes() });
}

/// Appends a member of a JSON object; an empty string is null.
fn string(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    if value.is_empty() {
        return out.extend_from_slice(b"null");
    }
    out.push(b'"');
    write::json(out, value);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    write::number(out, value);
}

fn flag(out: &mut Vec<u8>, key: &[u8], value: bool) {
    out.extend_from_slice(key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

fn timer(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    match value {
        Some(value) => number(out, key, value),
        None => {
            out.extend_from_slice(key);
            out.extend_from_slice(b"null");
        }
    }
}
