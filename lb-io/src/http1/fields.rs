//! Header fields: what a name means to a proxy, and the lists that values are made of.

use std::mem::MaybeUninit;

use httparse::Header;

use super::{MAX_FIELDS, MAX_NOMINATED};

/// Room for the fields of one head, on the stack of whoever parses it. Made new for each head; costs nothing
/// to make.
pub struct FieldStorage<'b> {
    pub(super) headers: [MaybeUninit<Header<'b>>; MAX_FIELDS],
    pub(super) classes: [Class; MAX_FIELDS],
}

impl FieldStorage<'_> {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            headers: [const { MaybeUninit::uninit() }; MAX_FIELDS],
            classes: [Class::EndToEnd; MAX_FIELDS],
        }
    }
}

impl Default for FieldStorage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a field's name means to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// For the other end: forwarded as it is.
    EndToEnd,
    /// For this connection only, since a `Connection` field nominates it (RFC 9110 section 7.6.1), or since
    /// nobody behind us should see it.
    Dropped,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    /// `Keep-Alive`.
    KeepAlive,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Cookie,
    CacheControl,
    MaxForwards,
    RequestId,
    /// `traceparent`.
    TraceParent,
    /// `tracestate`.
    TraceState,
    ForwardedFor,
    ForwardedProto,
    ForwardedHost,
    /// Other `X-Forwarded-*` and `Forwarded` (RFC 7239): believed from trusted peers only.
    Forwarded,
}

impl Class {
    /// May a `Connection` field nominate it? RFC 9110 section 7.6.1 forbids to nominate fields that are meant
    /// for all recipients; nominating these would take away what frames, routes or attributes the message.
    fn nominable(self) -> bool {
        !matches!(
            self,
            Class::Host
                | Class::ContentLength
                | Class::TransferEncoding
                | Class::ForwardedFor
                | Class::ForwardedProto
                | Class::ForwardedHost
                | Class::Forwarded
        )
    }
}

/// Is `name` the lower-case `expected`, in any case and with `_` for `-`?
///
/// CGI, WSGI and their like turn both into `_`, so `Transfer_Encoding` may be read as the real one behind us.
fn same_name(name: &[u8], expected: &[u8]) -> bool {
    name.len() == expected.len()
        && name.iter().zip(expected).all(|(a, b)| a.to_ascii_lowercase() == *b || (*a == b'_' && *b == b'-'))
}

/// Classifies a field name, taking `_` for `-`.
pub(super) fn classify(name: &[u8]) -> Class {
    let Some(first) = name.first() else { return Class::EndToEnd };
    // Length and first letter leave one candidate: most names are told apart without a comparison.
    let (expected, class): (&[u8], Class) = match (name.len(), first | 0x20) {
        (2, b't') => (b"te", Class::Te),
        (4, b'h') => (b"host", Class::Host),
        // Becomes HTTP_PROXY in a CGI's environment, which many clients obey ("httpoxy").
        (5, b'p') => (b"proxy", Class::Dropped),
        (6, b'c') => (b"cookie", Class::Cookie),
        (6, b'e') => (b"expect", Class::Expect),
        (7, b'u') => (b"upgrade", Class::Upgrade),
        (7, b't') => (b"trailer", Class::Trailer),
        (9, b'f') => (b"forwarded", Class::Forwarded),
        (10, b'c') => (b"connection", Class::Connection),
        (10, b'k') => (b"keep-alive", Class::KeepAlive),
        (10, b't') => (b"tracestate", Class::TraceState),
        (11, b't') => (b"traceparent", Class::TraceParent),
        (12, b'm') => (b"max-forwards", Class::MaxForwards),
        (12, b'x') => (b"x-request-id", Class::RequestId),
        (13, b'c') => (b"cache-control", Class::CacheControl),
        (14, b'c') => (b"content-length", Class::ContentLength),
        (14, b'h') => (b"http2-settings", Class::Dropped),
        (15, b'x') => (b"x-forwarded-for", Class::ForwardedFor),
        (16, b'p') => (b"proxy-connection", Class::Dropped),
        (16, b'x') => (b"x-forwarded-host", Class::ForwardedHost),
        (17, b't') => (b"transfer-encoding", Class::TransferEncoding),
        (17, b'x') => (b"x-forwarded-proto", Class::ForwardedProto),
        (13.., b'x') => (b"", Class::EndToEnd),
        _ => return Class::EndToEnd,
    };
    if same_name(name, expected) {
        return class;
    }
    if name.len() > 12 && same_name(&name[..12], b"x-forwarded-") {
        return Class::Forwarded;
    }
    Class::EndToEnd
}

/// What all `Connection` fields of a head say together.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Options beyond the standard ones.
    nominated: usize,
}

/// Why a `Connection` field is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnectionFault {
    /// Not a list of tokens, or too many of them.
    Malformed,
    /// Nominates a field that may not be hop-by-hop.
    Protected,
}

impl Connection {
    /// Takes in one `Connection` field's value: `#connection-option`, RFC 9110 section 7.6.1.
    pub fn add(&mut self, value: &[u8]) -> Result<(), ConnectionFault> {
        for option in elements(value) {
            // RFC 9110 section 5.6.1.2: a recipient MUST ignore a reasonable number of empty elements.
            if option.is_empty() {
                continue;
            }
            if !option.iter().all(|byte| is_token_byte(*byte)) {
                return Err(ConnectionFault::Malformed);
            }
            match standard(option) {
                Some(Standard::Close) => self.close = true,
                Some(Standard::KeepAlive) => self.keep_alive = true,
                Some(Standard::Upgrade) => self.upgrade = true,
                Some(Standard::Te) => {}
                None if !classify(option).nominable() => return Err(ConnectionFault::Protected),
                None if self.nominated == MAX_NOMINATED => return Err(ConnectionFault::Malformed),
                None => self.nominated += 1,
            }
        }
        Ok(())
    }

    /// Marks the fields that were nominated as [`Class::Dropped`]. The bound on nominated names keeps this
    /// linear.
    pub fn mark(&self, headers: &[Header<'_>], classes: &mut [Class]) {
        if self.nominated == 0 {
            return;
        }
        for at in 0..headers.len() {
            if !headers[at].name.eq_ignore_ascii_case("connection") {
                continue;
            }
            for option in elements(headers[at].value).filter(|option| standard(option).is_none()) {
                for (header, class) in headers.iter().zip(classes.iter_mut()) {
                    if header.name.as_bytes().eq_ignore_ascii_case(option) {
                        *class = Class::Dropped;
                    }
                }
            }
        }
    }
}

/// Options whose meaning is known, and whose fields have classes of their own.
enum Standard {
    Close,
    KeepAlive,
    Upgrade,
    Te,
}

/// Which of them `option` is. An empty element is none that nominates, and is taken for `te`.
fn standard(option: &[u8]) -> Option<Standard> {
    match option.len() {
        0 => Some(Standard::Te),
        2 if option.eq_ignore_ascii_case(b"te") => Some(Standard::Te),
        5 if option.eq_ignore_ascii_case(b"close") => Some(Standard::Close),
        7 if option.eq_ignore_ascii_case(b"upgrade") => Some(Standard::Upgrade),
        10 if option.eq_ignore_ascii_case(b"keep-alive") => Some(Standard::KeepAlive),
        _ => None,
    }
}

/// Elements of a comma-separated list, trimmed, empty ones included. For lists of tokens: quotes mean nothing.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// Elements of a comma-separated list in which commas within quoted strings do not separate
/// (RFC 9110 section 5.6.4).
pub(super) fn quoted_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value
        .split(move |byte| {
            if escaped {
                escaped = false;
            } else if quoted && *byte == b'\\' {
                escaped = true;
            } else if *byte == b'"' {
                quoted = !quoted;
            }
            *byte == b',' && !quoted
        })
        .map(trim)
}

/// Without optional whitespace (space and tab) at both ends.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A `Content-Length` value: `1*DIGIT` (RFC 9110 section 8.6). No sign, list or space; at most 2^63 - 1, since
/// a signed reader behind us would take more for a negative number.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    for byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        total = total.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (total <= i64::MAX as u64).then_some(total)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// A byte that may stand in a field value: HTAB, SP, VCHAR, obs-text (RFC 9110 section 5.5).
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Is `name` a non-empty token?
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

/// Does every field begin right after a CRLF? httparse also takes a bare LF for a line end; we do not.
pub(super) fn lines_end_in_crlf(head: &[u8], headers: &[Header<'_>]) -> bool {
    let base = head.as_ptr() as usize;
    head.ends_with(b"\r\n\r\n")
        && headers.iter().all(|header| {
            let start = (header.name.as_ptr() as usize).wrapping_sub(base);
            head.get(..start).is_some_and(|before| before.ends_with(b"\r\n"))
        })
}

/// The transfer codings of a message, over all its `Transfer-Encoding` fields.
#[derive(Debug, Default)]
pub(super) struct Codings {
    present: bool,
    malformed: bool,
    chunked: u32,
    others: bool,
    last_is_chunked: bool,
}

/// What [`Codings`] come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// No such field.
    Absent,
    /// Exactly `chunked`.
    Chunked,
    /// Known by its form, but a coding that we do not undo: `gzip, chunked`.
    Unknown,
    /// Anything else: no reading that all agree on.
    Malformed,
}

impl Codings {
    /// Takes in one `Transfer-Encoding` field's value.
    pub fn add(&mut self, value: &[u8]) {
        self.present = true;
        for coding in elements(value) {
            self.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            if self.last_is_chunked {
                self.chunked += 1;
            } else if is_token(coding) {
                self.others = true;
            } else {
                // Parameters, empty elements, quotes, control bytes: the ways to hide `chunked` from one reader.
                self.malformed = true;
            }
        }
    }

    /// The verdict.
    pub fn verdict(&self) -> Coding {
        if !self.present {
            return Coding::Absent;
        }
        // RFC 9112 section 7: chunked MUST NOT be applied more than once; section 6.3: it must come last.
        if self.malformed || self.chunked != 1 || !self.last_is_chunked {
            return Coding::Malformed;
        }
        if self.others { Coding::Unknown } else { Coding::Chunked }
    }
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod tests;
