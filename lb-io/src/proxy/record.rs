//! The end of an exchange: one count and, where the access log is on, one line.

use std::io::Write;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::parse::usable_request_id;
use crate::http1::Version;
use crate::http1::request::RequestHead;
use crate::metrics::meter::{End, count_unread};
use crate::metrics::{Meter, Phases};
use crate::reason::CLIENT_LEFT;
use crate::worker::Worker;

/// Bytes of a request target that a line shows; the rest is cut off.
const TARGET_BYTES: usize = 2048;

/// Bytes of a method that a line shows.
const METHOD_BYTES: usize = 32;

/// What must be remembered of a request for its line, because the head is gone when it ends.
#[derive(Debug, Default)]
pub struct Line {
    /// `METHOD target HTTP/1.1`, escaped.
    request: Vec<u8>,
    request_id: String,
    source: Option<IpAddr>,
    route: String,
    arm: &'static str,
    /// Of the last attempt, as `backend/server`.
    server: String,
}

impl Line {
    /// Forgets the previous exchange.
    pub fn clear(&mut self) {
        self.request.clear();
        self.request_id.clear();
        self.source = None;
        self.route.clear();
        self.arm = "";
        self.server.clear();
    }

    /// Remembers a request. Its id is the received one where the peer is trusted, else a new one.
    pub fn begin(&mut self, worker: &Worker, head: &RequestHead<'_>, source: IpAddr, trusted: bool) {
        self.clear();
        self.source = Some(source);
        let received = if trusted { head.field("x-request-id").and_then(usable_request_id) } else { None };
        match received {
            Some(id) => self.request_id.push_str(id),
            None => write_hex(&mut self.request_id, worker.randomness.borrow_mut().request_id()),
        }
        if worker.log.borrow().is_some() {
            escape(&mut self.request, &head.method[..head.method.len().min(METHOD_BYTES)]);
            self.request.push(b' ');
            escape(&mut self.request, &head.raw_target[..head.raw_target.len().min(TARGET_BYTES)]);
            let version: &[u8] = if head.version == Version::Http10 { b" HTTP/1.0" } else { b" HTTP/1.1" };
            self.request.extend_from_slice(version);
        }
    }

    /// Remembers where an attempt goes.
    pub fn went_to(&mut self, route: &str, arm: &'static str, backend: &str, server: &str) {
        self.route.clear();
        self.route.push_str(route);
        self.arm = arm;
        self.server.clear();
        self.server.push_str(backend);
        self.server.push('/');
        self.server.push_str(server);
    }

    /// The exchange's id.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
}

/// What else is known of an exchange that ended.
#[derive(Debug, Clone, Copy)]
struct Ending {
    /// Which listener's.
    listener: u32,
    /// How it ended.
    end: End,
    /// How often it was tried at a server.
    attempts: u32,
    /// How long its steps took.
    phases: Phases,
}

/// Counts the exchange, which `meter` has followed, and writes its line.
pub fn record(worker: &Worker, line: &Line, listener: u32, meter: Meter, attempts: u32, end: End) {
    let phases = meter.end(&worker.metrics, &end, worker.driver.now());
    write(worker, line, &Ending { listener, end, attempts, phases });
}

/// Does the same for a client that left before its request's head was complete.
pub fn record_unread(worker: &Worker, line: &Line, listener: u32) {
    let reason = CLIENT_LEFT;
    let end = End { status: reason.status, reason: Some(reason), bytes_received: 0, bytes_sent: 0 };
    count_unread(&worker.metrics, listener, &end);
    write(worker, line, &Ending { listener, end, attempts: 0, phases: Phases::default() });
}

fn write(worker: &Worker, line: &Line, ending: &Ending) {
    if let Some(log) = worker.log.borrow_mut().as_mut()
        && !log.line(|out| write_line(out, worker, line, ending))
    {
        worker.counters().log_lines_dropped.add(1);
    }
}

fn write_line(out: &mut Vec<u8>, worker: &Worker, line: &Line, ending: &Ending) {
    fn or_dash(text: &str) -> &str {
        if text.is_empty() { "-" } else { text }
    }
    write_time(out);
    let Ending { listener, end, attempts, phases } = ending;
    let total_ms = phases.total_us as f64 / 1000.0;
    let _ = match line.source {
        Some(source) => write!(out, " {source}"),
        None => write!(out, " -"),
    };
    let _ = write!(
        out,
        " {} {} {} {} \"",
        worker.current().listener(*listener).name,
        or_dash(&line.route),
        or_dash(line.arm),
        or_dash(&line.server)
    );
    out.extend_from_slice(if line.request.is_empty() { b"-" } else { &line.request });
    let _ = writeln!(
        out,
        "\" {} {} {} {} {total_ms:.1} {attempts} {}",
        end.status,
        end.reason.map_or("-", |reason| reason.word),
        end.bytes_received,
        end.bytes_sent,
        or_dash(&line.request_id),
    );
}

/// Writes the time of day in UTC (RFC 3339, milliseconds). Days to dates as in "chrono-Compatible Low-Level
/// Date Algorithms" (Hinnant, 2013), civil_from_days.
fn write_time(out: &mut Vec<u8>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since.subsec_millis();
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}

/// Writes bytes so that a line stays one line and a quoted string one string.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let _ = write!(out, "\\x{byte:02x}");
            }
            _ => out.push(*byte),
        }
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
    fn a_line_stays_a_line() {
        let mut out = Vec::new();
        escape(&mut out, b"/a\"b\\c\nd\xff");
        assert_eq!(out, br"/a\x22b\x5cc\x0ad\xff");
    }

    #[test]
    fn the_time_is_a_date_of_rfc_3339() {
        let mut out = Vec::new();
        write_time(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.len(), "2026-11-21T20:00:00.000Z".len(), "{text}");
        let days: u64 = std::process::Command::new("date")
            .args(["-u", "-d", &text, "+%s"])
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().parse().unwrap())
            .unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now - days < 60, "{text} is {days}, now {now}");
    }

    #[test]
    fn hexadecimal_is_fixed_width() {
        let mut out = String::new();
        write_hex(&mut out, 0x1f);
        assert_eq!(out, format!("{:032x}", 0x1f));
    }
}
