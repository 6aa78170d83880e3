//! What a server's answer to a check says: bytes in, verdict out. Whatever a server sends, the work is bounded.

use std::borrow::Cow;

use lb_core::health::Fault;

use super::settings::{HttpProbe, Probe, Statuses};

/// Bytes of a response's head at most, interim responses included.
pub(super) const HEAD_LEN_MAX: usize = 16 * 1024;

/// Bytes of a body that are waited for and looked at; a longer one counts as far as that.
pub(super) const BODY_LEN_MAX: usize = 64 * 1024;

/// Bytes of any other answer at most.
pub(super) const REPLY_LEN_MAX: usize = 16 * 1024;

/// Fields of a response's head at most.
const FIELDS_MAX: usize = 100;

/// Interim responses before the final one, at most.
const INTERIM_MAX: usize = 8;

/// Characters of a server's own words that are repeated in ours.
const QUOTED_MAX: usize = 80;

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Of what sort it is.
    pub(crate) sort: Sort,
    /// The status of the response, if there was one.
    pub(crate) status: Option<u16>,
    /// It, in a person's words.
    pub(crate) words: Cow<'static, str>,
}

/// Sorts of results. HAProxy's words for them are in `metrics/haproxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// It connected, and no more was asked.
    Connected,
    /// It answered as it should.
    Answered,
    /// It could not be connected to.
    NotConnected,
    /// No connection came about in time.
    ConnectTimeout,
    /// No answer was complete in time.
    AnswerTimeout,
    /// It answered, but not with what was expected.
    WrongStatus,
    /// What it answered is none, or broke off.
    WrongAnswer,
    /// We could not ask, for want of means of our own: says nothing about the server.
    NotAsked,
}

impl Sort {
    /// What the health table is told; `None`: nothing.
    pub(crate) fn result(self) -> Option<Result<(), Fault>> {
        match self {
            Sort::Connected | Sort::Answered => Some(Ok(())),
            Sort::NotConnected | Sort::ConnectTimeout => Some(Err(Fault::Connect)),
            Sort::AnswerTimeout => Some(Err(Fault::Timeout)),
            Sort::WrongStatus | Sort::WrongAnswer => Some(Err(Fault::Answer)),
            Sort::NotAsked => None,
        }
    }
}

impl Found {
    pub(crate) fn new(sort: Sort, words: impl Into<Cow<'static, str>>) -> Found {
        Found { sort, status: None, words: words.into() }
    }

    fn wrong(words: impl Into<Cow<'static, str>>) -> Found {
        Found::new(Sort::WrongAnswer, words)
    }
}

/// What is sent to a server that is checked at this address, in one piece.
pub(super) fn request(probe: &Probe, address: std::net::SocketAddr) -> Vec<u8> {
    match probe {
        Probe::Connect => Vec::new(),
        Probe::Exchange { send, .. } => send.clone(),
        Probe::Redis => b"PING\r\n".to_vec(),
        Probe::Postgres { user } => startup(user),
        Probe::Http(HttpProbe { method, path, host, headers, .. }) => {
            let host = host.clone().unwrap_or_else(|| address.to_string());
            let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
            for (name, default) in [("user-agent", "lb-health"), ("accept", "*/*")] {
                if !headers.iter().any(|(known, _)| known == name) {
                    text.push_str(&format!("{name}: {default}\r\n"));
                }
            }
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("connection: close\r\n\r\n");
            text.into_bytes()
        }
    }
}

/// PostgreSQL's StartupMessage, protocol 3.0 ("Message Formats" in its documentation).
fn startup(user: &str) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(196_608_u32.to_be_bytes());
    for text in ["user", user, "database", "postgres", "application_name", "lb-health"] {
        message.extend(text.as_bytes());
        message.push(0);
    }
    message.push(0);
    let len = message.len() as u32;
    message[..4].copy_from_slice(&len.to_be_bytes());
    message
}

/// Judges what has come so far; `ended`: nothing more will. `None` asks for more, and never if that cannot come.
pub(super) fn judge(probe: &Probe, bytes: &[u8], ended: bool) -> Option<Found> {
    let found = match probe {
        Probe::Connect => Some(Found::new(Sort::Connected, "connected")),
        Probe::Http(http) => judge_http(http, bytes, ended),
        Probe::Exchange { expect, .. } => memchr::memmem::find(bytes, expect)
            .map(|_| Found::new(Sort::Answered, format!("answered {}", quoted(expect))))
            .or_else(|| {
                let is_all = ended || bytes.len() >= REPLY_LEN_MAX;
                is_all.then(|| Found::wrong(format!("{} without {}", said(bytes), quoted(expect))))
            }),
        Probe::Redis => judge_redis(bytes),
        Probe::Postgres { .. } => judge_postgres(bytes),
    };
    match found {
        None if ended && bytes.is_empty() => Some(Found::wrong("it closed the connection without an answer")),
        None if ended => Some(Found::wrong("its answer broke off")),
        found => found,
    }
}

fn said(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "it closed the connection".to_owned()
    } else {
        format!("answered {}", quoted(bytes))
    }
}

/// Bytes of a stranger as they can stand in a line of ours.
fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * QUOTED_MAX)]);
    let mut words: String = text.chars().take(QUOTED_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        words.push('…');
    }
    format!("`{words}`")
}

fn judge_http(probe: &HttpProbe, bytes: &[u8], ended: bool) -> Option<Found> {
    let mut rest = bytes;
    for _ in 0..=INTERIM_MAX {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let len = match response.parse(rest) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LEN_MAX => {
                return Some(Found::wrong("the head of its response is too long"));
            }
            Ok(httparse::Status::Partial) => return None,
            Err(error) => {
                return Some(Found::wrong(format!("no HTTP response ({error}): {}", quoted(bytes))));
            }
        };
        let status = response.code.unwrap_or_default();
        rest = &rest[len..];
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let found = if probe.statuses.contains(status) {
            judge_body(probe, status, response.headers, rest, ended)?
        } else {
            Found::new(Sort::WrongStatus, unexpected(status, &probe.statuses))
        };
        return Some(Found { status: Some(status), ..found });
    }
    Some(Found::wrong("too many interim responses"))
}

fn unexpected(status: u16, expected: &Statuses) -> String {
    format!("status {status}, expected {expected}")
}

/// How a body ends (RFC 9112, section 6.3).
enum Length {
    Known(usize),
    Chunked,
    ToTheEnd,
}

fn length(method: &str, status: u16, fields: &[httparse::Header<'_>]) -> Option<Length> {
    if method == "HEAD" || status == 204 || status == 304 {
        return Some(Length::Known(0));
    }
    let values = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    if let Some(coding) = values("transfer-encoding").next_back() {
        let is_chunked = coding.trim_ascii().to_ascii_lowercase().ends_with(b"chunked");
        return Some(if is_chunked { Length::Chunked } else { Length::ToTheEnd });
    }
    let mut lengths = values("content-length").map(|value| {
        let digits = value.trim_ascii();
        let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        // What has too many digits is longer than all that we read.
        plain.then(|| std::str::from_utf8(digits).ok()?.parse().ok().or(Some(usize::MAX))).flatten()
    });
    match lengths.next() {
        None => Some(Length::ToTheEnd),
        Some(first) => lengths.all(|other| other == first).then_some(first?).map(Length::Known),
    }
}

fn judge_body(
    probe: &HttpProbe,
    status: u16,
    fields: &[httparse::Header<'_>],
    rest: &[u8],
    ended: bool,
) -> Option<Found> {
    let is_enough = rest.len() >= BODY_LEN_MAX;
    let Some(length) = length(&probe.method, status, fields) else {
        return Some(Found::wrong("it says two lengths of its body, or none that is one"));
    };
    let body = match length {
        Length::Known(len) if rest.len() >= len => Cow::Borrowed(&rest[..len]),
        Length::Known(_) if !is_enough => return None,
        Length::ToTheEnd if !ended && !is_enough => return None,
        Length::Known(_) | Length::ToTheEnd => Cow::Borrowed(rest),
        Length::Chunked => match unchunked(rest) {
            Err(()) => return Some(Found::wrong("the chunks of its body are none")),
            Ok((_, false)) if !is_enough => return None,
            Ok((body, _)) => Cow::Owned(body),
        },
    };
    match &probe.body {
        Some(wanted) if memchr::memmem::find(&body, wanted.as_bytes()).is_none() => {
            Some(Found::wrong(format!("no {} in its body", quoted(wanted.as_bytes()))))
        }
        _ => Some(Found::new(Sort::Answered, format!("status {status}"))),
    }
}

/// The body out of its chunks, as far as it has come, and whether it is complete.
fn unchunked(mut rest: &[u8]) -> Result<(Vec<u8>, bool), ()> {
    let mut body = Vec::new();
    loop {
        let (line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok((body, false)),
            Err(_) => return Err(()),
        };
        rest = &rest[line..];
        if size == 0 {
            let is_complete = rest.starts_with(b"\r\n") || memchr::memmem::find(rest, b"\r\n\r\n").is_some();
            return Ok((body, is_complete));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if rest.len() < size.saturating_add(2) {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return Ok((body, false));
        }
        body.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n").ok_or(())?;
    }
}

/// `+PONG`, or that it wants a password first: that is an answer, too. One that is loading its data is not ready.
fn judge_redis(bytes: &[u8]) -> Option<Found> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        return (bytes.len() >= REPLY_LEN_MAX)
            .then(|| Found::wrong(format!("no Redis reply: {}", quoted(bytes))));
    };
    let line = &bytes[..end];
    Some(match line {
        b"+PONG" => Found::new(Sort::Answered, "answered +PONG"),
        _ if line.starts_with(b"-NOAUTH") => Found::new(Sort::Answered, "answered, and wants a password"),
        _ if line.starts_with(b"-") => Found::new(Sort::WrongStatus, format!("answered {}", quoted(line))),
        _ => Found::wrong(format!("no Redis reply: {}", quoted(line))),
    })
}

/// Errors that say that sessions are not served just now; all others (no such role, a wrong host) are of somebody who
/// does serve them. "PostgreSQL Error Codes" in its documentation: class 57 is operator intervention (starting up,
/// shutting down, crashed), 53 want of resources, 58 and XX errors of system and server.
const POSTGRES_NOT_NOW: [&[u8]; 4] = [b"57", b"53", b"58", b"XX"];

fn judge_postgres(bytes: &[u8]) -> Option<Found> {
    let kind = *bytes.first()?;
    let no_reply = || Some(Found::wrong(format!("no PostgreSQL reply: {}", quoted(bytes))));
    if !matches!(kind, b'R' | b'E' | b'v') {
        return no_reply();
    }
    let len = bytes.get(1..5)?;
    let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    if !(8..=REPLY_LEN_MAX - 1).contains(&len) {
        return no_reply();
    }
    let body = bytes.get(5..=len)?;
    if kind != b'E' {
        return Some(Found::new(Sort::Answered, "began a session"));
    }
    let field = |code: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        fields.find(|field| field.first() == Some(&code)).map(|field| &field[1..])
    };
    let code = field(b'C').unwrap_or_default();
    let text = quoted(field(b'M').unwrap_or_default());
    Some(if POSTGRES_NOT_NOW.iter().any(|class| code.starts_with(class)) {
        Found::new(Sort::WrongStatus, format!("answered {text}"))
    } else {
        Found::new(Sort::Answered, format!("answered {text}"))
    })
}

#[cfg(test)]
#[path = "answer_test.rs"]
mod tests;
