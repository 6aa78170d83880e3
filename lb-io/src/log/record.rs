//! One exchange as the access log tells it, in each of the formats.

use std::net::IpAddr;
use std::time::Duration;

use lb_core::decide::Stickiness;

use super::ending::Ending;
use super::names::Piece;
use super::write::{self, Calendar};
use crate::metrics::Phases;
use crate::metrics::meter::End;
use crate::trace::Span;

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Words between spaces; what does not apply is `-`.
    #[default]
    Text,
    /// One JSON object, without what does not apply; its schema is `docs/operating/access-log.schema.json`.
    Json,
    /// The "combined" format of Apache's httpd.
    Combined,
}

/// A part of a request's head that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The method; empty if no head was understood.
    Method,
    /// The target.
    Target,
    /// The authority.
    Host,
    /// `referer`, where the format has it.
    Referer,
    /// `user-agent`, where the format has it.
    Agent,
}

const PARTS: usize = 5;

impl Part {
    /// Bytes that are kept; what is longer is cut off.
    pub const fn bytes_max(self) -> usize {
        match self {
            Part::Method => 32,
            Part::Target => 2048,
            // What a name may have in the DNS, and a port.
            Part::Host => 261,
            Part::Referer | Part::Agent => 512,
        }
    }
}

/// Bytes for which a request's text has room from the start.
const USUAL_BYTES: usize = 1 << 10;

/// What is remembered of a request's head: bytes as received, one part behind the other.
#[derive(Debug)]
pub struct Request {
    text: Vec<u8>,
    /// Where each part ends; it begins where the one before it ends.
    ends: [u16; PARTS],
    /// Whether it came by HTTP/1.0.
    pub is_old: bool,
    /// The client, as far as it is known.
    pub source: Option<IpAddr>,
}

impl Default for Request {
    fn default() -> Request {
        Request { text: Vec::with_capacity(USUAL_BYTES), ends: [0; PARTS], is_old: false, source: None }
    }
}

impl Request {
    /// Forgets all.
    pub fn clear(&mut self) {
        self.text.clear();
        (self.ends, self.is_old, self.source) = ([0; PARTS], false, None);
    }

    /// Remembers a part, after those that stand before it in [`Part`].
    pub fn keep(&mut self, part: Part, bytes: &[u8]) {
        self.text.extend_from_slice(&bytes[..bytes.len().min(part.bytes_max())]);
        self.ends[part as usize..].fill(self.text.len() as u16);
    }

    /// A part; empty if there was none.
    pub fn part(&self, part: Part) -> &[u8] {
        let begin = (part as usize).checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[usize::from(begin)..usize::from(self.ends[part as usize])]
    }
}

/// Where an exchange went.
#[derive(Debug, Default)]
pub struct Way {
    /// The route, as [`Names`](super::names::Names) has it.
    pub route: Option<Piece>,
    /// The arm that served; empty if none.
    pub arm: &'static str,
    /// Why the session belongs to its arm; empty if that was not asked.
    pub choose: &'static str,
    /// Another arm served than the session's.
    pub fallback: bool,
    /// The server of the last attempt with its backend, as [`Names`](super::names::Names) has it.
    pub server: Option<Piece>,
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
    /// The exchange's id; empty if no head was understood.
    pub id: &'a str,
    /// The listener that it came by, as [`Names`](super::names::Names) has it.
    pub listener: &'a [u8],
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
    /// The budget had no retry left for it.
    pub retry_refused: bool,
    /// Its place in its trace; none: traces are not looked at.
    pub span: Option<Span>,
    /// From the first part of the head to the last; none: there was no whole head.
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
        string(out, br#","id":"#, self.id.as_bytes());
        self.write_trace(out);
        out.extend_from_slice(self.listener);
        if let Some(source) = request.source {
            out.extend_from_slice(br#","client":""#);
            write::address(out, source);
            out.push(b'"');
        }
        string(out, br#","method":"#, request.part(Part::Method));
        string(out, br#","target":"#, request.part(Part::Target));
        string(out, br#","protocol":"#, self.protocol());
        string(out, br#","host":"#, request.part(Part::Host));
        out.extend_from_slice(way.route.as_deref().unwrap_or_default());
        string(out, br#","arm":"#, way.arm.as_bytes());
        string(out, br#","choose":"#, way.choose.as_bytes());
        if way.fallback {
            out.extend_from_slice(br#","fallback":true"#);
        }
        out.extend_from_slice(way.server.as_deref().unwrap_or_default());
        string(out, br#","sticky":"#, way.sticky.map_or("", |(came, _)| came.word()).as_bytes());
        number(out, br#","status":"#, u64::from(end.status));
        string(out, br#","reason":"#, end.reason.map_or("", |reason| reason.word).as_bytes());
        string(out, br#","ending":"#, self.ending.cause.word().as_bytes());
        string(out, br#","step":"#, self.ending.step.map_or("", |step| step.word()).as_bytes());
        string(out, br#","termination":"#, &self.ending.letters(way.sticky));
        number(out, br#","attempts":"#, u64::from(self.attempts));
        if self.retry_refused {
            out.extend_from_slice(br#","retry_refused":true"#);
        }
        number(out, br#","bytes_received":"#, end.bytes_received);
        number(out, br#","bytes_sent":"#, end.bytes_sent);
        timer(out, br#","head_us":"#, self.head_us);
        timer(out, br#","before_us":"#, phases.before_us);
        timer(out, br#","queue_us":"#, phases.queue_us);
        timer(out, br#","connect_us":"#, phases.connect_us);
        timer(out, br#","wait_us":"#, phases.wait_us);
        timer(out, br#","transfer_us":"#, phases.transfer_us);
        number(out, br#","total_us":"#, phases.total_us);
        if let Some(snapshot) = way.snapshot {
            out.extend_from_slice(br#","snapshot":""#);
            write::hex(out, snapshot);
            out.push(b'"');
        }
        out.extend_from_slice(br#","rate":"#);
        write::fraction(out, self.rate);
        out.extend_from_slice(b"}\n");
    }

    fn write_trace(&self, out: &mut Vec<u8>) {
        let Some(span) = self.span else { return };
        out.extend_from_slice(br#","trace_id":""#);
        write::hex(out, (span.trace >> 64) as u64);
        write::hex(out, span.trace as u64);
        out.extend_from_slice(br#"","span_id":""#);
        write::hex(out, span.id);
        if let Some(parent) = span.parent {
            out.extend_from_slice(br#"","parent_id":""#);
            write::hex(out, parent);
        }
        out.push(b'"');
    }

    fn write_text(&self, out: &mut Vec<u8>, calendar: &mut Calendar) {
        let Record { way, end, phases, .. } = self;
        calendar.write(out, self.at);
        out.push(b' ');
        self.write_source(out);
        out.extend_from_slice(self.listener);
        out.extend_from_slice(way.route.as_deref().unwrap_or(b" -"));
        word(out, way.arm);
        out.extend_from_slice(way.server.as_deref().unwrap_or(b" -"));
        out.extend_from_slice(b" \"");
        self.write_request(out);
        out.push(b'"');
        let word_after = |out: &mut Vec<u8>, value: u64| {
            out.push(b' ');
            write::number(out, value);
        };
        word_after(out, u64::from(end.status));
        word(out, end.reason.map_or("", |reason| reason.word));
        word_after(out, end.bytes_received);
        word_after(out, end.bytes_sent);
        // Milliseconds with one decimal.
        let tenths = (phases.total_us + 50) / 100;
        word_after(out, tenths / 10);
        out.extend_from_slice(&[b'.', b'0' + (tenths % 10) as u8]);
        word_after(out, u64::from(self.attempts));
        word(out, self.id);
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
        for field in [Part::Referer, Part::Agent].map(|part| self.request.part(part)) {
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
        let method = self.request.part(Part::Method);
        if method.is_empty() {
            return out.push(b'-');
        }
        write::text(out, method);
        out.push(b' ');
        write::text(out, self.request.part(Part::Target));
        out.push(b' ');
        out.extend_from_slice(self.protocol());
    }

    fn protocol(&self) -> &'static [u8] {
        match (self.request.part(Part::Method).is_empty(), self.request.is_old) {
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

/// Appends a member of a JSON object, unless it is an empty string.
fn string(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        out.push(b'"');
        write::json(out, value);
        out.push(b'"');
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    write::number(out, value);
}

fn timer(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LINE_BYTES_MAX;
    use crate::reason::CLIENT_LEFT;

    fn request(bytes: &[u8]) -> Request {
        let mut request = Request { source: Some([0xffff; 8].map(u16::to_be).into()), ..Request::default() };
        for part in [Part::Method, Part::Target, Part::Host, Part::Referer, Part::Agent] {
            request.keep(part, bytes);
        }
        request
    }

    fn line(request: &Request, format: Format) -> String {
        let way = Way { snapshot: Some(u64::MAX), ..Way::default() };
        let end =
            End { status: 599, reason: Some(CLIENT_LEFT), bytes_received: u64::MAX, bytes_sent: u64::MAX };
        let most = Some(u64::MAX);
        let phases = Phases {
            before_us: most,
            queue_us: most,
            connect_us: most,
            wait_us: most,
            transfer_us: most,
            total_us: u64::MAX >> 1,
            queueing: true,
        };
        let record = Record {
            at: Duration::from_secs(1 << 32),
            id: &"i".repeat(128),
            listener: b"",
            request,
            way: &way,
            end,
            ending: Ending::of(&end, &phases, u32::MAX, None),
            attempts: u32::MAX,
            retry_refused: true,
            span: None,
            head_us: most,
            phases,
            rate: 1,
        };
        let mut out = Vec::new();
        record.write(&mut out, format, &mut Calendar::default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_longest_line_has_room_and_is_one() {
        let request = request(&b"\"\n\xff".repeat(2_000));
        for format in [Format::Text, Format::Json, Format::Combined] {
            let line = line(&request, format);
            // Names: of a listener, a route, a backend, a server and two zones.
            assert!(
                line.len() + 6 * (lb_core::defaults::NAME_LEN_MAX + 20) <= LINE_BYTES_MAX,
                "{}",
                line.len()
            );
            assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true));
        }
    }

    #[test]
    fn parts_are_kept_apart_and_cut_off() {
        let mut request = Request::default();
        request.keep(Part::Method, b"GET");
        request.keep(Part::Target, &b"/".repeat(3_000));
        request.keep(Part::Agent, b"curl");
        let lens =
            [Part::Method, Part::Target, Part::Host, Part::Referer].map(|part| request.part(part).len());
        assert_eq!((lens, request.part(Part::Agent)), ([3, 2048, 0, 0], &b"curl"[..]));
        request.clear();
        assert!([Part::Method, Part::Target, Part::Agent].iter().all(|part| request.part(*part).is_empty()));
    }
}
