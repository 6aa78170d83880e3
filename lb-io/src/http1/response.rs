//! The head of a response: where its body ends, or why it is not believed.

use httparse::Header;

use super::fault::{self, LineFault};
use super::fields::{self, Class, Coding, Codings, Connection, ConnectionFault};
use super::{Framing, Version};

pub use super::fields::FieldStorage;

/// What must be known of the request to read its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKind {
    /// The method was HEAD.
    pub head: bool,
    /// `Upgrade` was forwarded.
    pub upgrade_sent: bool,
    /// The client's version. Requests go to servers as HTTP/1.1 always.
    pub version: Version,
}

/// A response head that was understood.
#[derive(Debug)]
pub struct ResponseHead<'h> {
    /// 100 to 599.
    pub status: u16,
    /// The server's version.
    pub version: Version,
    /// As received; may be empty.
    pub reason: &'h [u8],
    /// Where the body ends.
    pub framing: Framing,
    /// The server will take another request on this connection after this response's body.
    pub keep_alive: bool,
    /// How long the server keeps the connection when idle, by `Keep-Alive: timeout=`.
    pub keep_alive_timeout_s: Option<u32>,
    /// Of a 101: the protocols switched to.
    pub upgrade: Option<&'h [u8]>,
    /// All fields as received, in order. Values are without whitespace around them.
    pub fields: &'h [Header<'h>],
    pub(super) classes: &'h [Class],
    /// What the fields say, which for HEAD and 304 is not the framing of this response.
    pub(super) declared: Framing,
    /// All of it.
    pub(super) bytes: &'h [u8],
    /// Values may be folded over lines.
    pub(super) may_be_folded: bool,
}

impl<'h> ResponseHead<'h> {
    /// The first value of the field `name` (in any case).
    pub fn field(&self, name: &str) -> Option<&'h [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// A 1xx other than 101: another head follows.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// How the body goes on to a client of `version`: as it came, but HTTP/1.0 knows no chunks
    /// (RFC 9112 section 7.1: MUST NOT be sent to it), so its body ends with the connection.
    pub fn framing_for(&self, version: Version) -> Framing {
        match self.framing {
            Framing::Chunked if version == Version::Http10 => Framing::UntilClose,
            framing => framing,
        }
    }
}

/// Why a response head is not believed. The answer to the client is 502, and the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseError {
    /// More than [`super::MAX_FIELDS`] fields.
    TooManyFields,
    /// The head is larger than the limit. (Found by who collects the head.)
    HeadTooLarge,
    /// A line ends in LF without CR.
    BareLineFeed,
    /// CR without LF.
    BareCarriageReturn,
    /// NUL or another control byte.
    ControlByte,
    /// Not `version SP status SP reason`, or a version other than 1.0 and 1.1.
    StatusLine,
    /// A status outside 100 to 599.
    Status,
    /// A line that is no field, or a name that is no token.
    Field,
    /// Whitespace between a field's name and the colon.
    SpaceBeforeColon,
    /// A line that continues the one before (obs-fold).
    Folding,
    /// `Content-Length` is not one number.
    Length,
    /// `Content-Length` more than once.
    LengthRepeated,
    /// `Content-Length` and `Transfer-Encoding`.
    LengthAndCoding,
    /// `Transfer-Encoding` other than `chunked`.
    Coding,
    /// `Transfer-Encoding` with HTTP/1.0.
    CodingVersion,
    /// `Transfer-Encoding` with 1xx or 204.
    CodingWithoutBody,
    /// `Connection` is no list of tokens, or too long a one.
    Connection,
    /// `Connection` nominates a field that is for all recipients.
    Nominated,
    /// 101 although no `Upgrade` was forwarded, or without saying to what.
    Switch,
}

impl ResponseError {
    /// Always 502 (RFC 9110 section 15.6.3).
    pub fn status(self) -> u16 {
        502
    }

    /// The stable reason word, for logs, metrics and `x-lb-reason`.
    pub fn word(self) -> &'static str {
        match self {
            Self::TooManyFields => "response_too_many_fields",
            Self::HeadTooLarge => "response_head_too_large",
            Self::BareLineFeed => "response_bare_lf",
            Self::BareCarriageReturn => "response_bare_cr",
            Self::ControlByte => "response_control_byte",
            Self::StatusLine => "response_bad_status_line",
            Self::Status => "response_bad_status",
            Self::Field => "response_bad_field",
            Self::SpaceBeforeColon => "response_space_before_colon",
            Self::Folding => "response_folded_field",
            Self::Length => "response_bad_content_length",
            Self::LengthRepeated => "response_repeated_content_length",
            Self::LengthAndCoding => "response_length_with_transfer_encoding",
            Self::Coding => "response_bad_transfer_encoding",
            Self::CodingVersion => "response_transfer_encoding_in_http10",
            Self::CodingWithoutBody => "response_transfer_encoding_without_body",
            Self::Connection => "response_bad_connection",
            Self::Nominated => "response_connection_names_protected_field",
            Self::Switch => "response_unasked_switch",
        }
    }
}

impl std::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status(), self.word())
    }
}

impl std::error::Error for ResponseError {}

impl From<LineFault> for ResponseError {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::BareLineFeed => Self::BareLineFeed,
            LineFault::BareCarriageReturn => Self::BareCarriageReturn,
            LineFault::ControlByte => Self::ControlByte,
            LineFault::SpaceBeforeColon => Self::SpaceBeforeColon,
            LineFault::Folding => Self::Folding,
            LineFault::Field => Self::Field,
        }
    }
}

/// Parses the head that [`super::scan::head_end`] delimited: all of it, with its empty line.
///
/// With `accept_legacy` the following are taken and written anew in the one right way: lines that continue the
/// one before (RFC 9112 section 5.2), whitespace before a colon (section 5.1), and identical repeats of
/// `Content-Length` (section 6.3, item 5).
///
/// # Errors
/// Answer 502 with the error's word, and close the server's connection.
pub fn parse<'h, 'b: 'h>(
    head: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    request: RequestKind,
    accept_legacy: bool,
) -> Result<ResponseHead<'h>, ResponseError> {
    let reason = status_line(head)?;
    let FieldStorage { headers, classes } = storage;
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(accept_legacy);
    config.allow_spaces_after_header_name_in_responses(accept_legacy);
    let mut raw = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut raw, head, headers) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyFields),
        _ => return Err(fault_of(head)),
    }
    let httparse::Response { version: Some(version), code: Some(status), headers, .. } = raw else {
        return Err(ResponseError::StatusLine);
    };
    let crlf = fields::lines_end_in_crlf(head, headers);
    if !crlf || (accept_legacy && memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r'))
    {
        return Err(ResponseError::BareLineFeed);
    }
    // RFC 9110 section 15: an invalid status SHOULD be treated as a 5xx. 502 is one.
    if !(100..=599).contains(&status) {
        return Err(ResponseError::Status);
    }
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let classes = &mut classes[..headers.len()];
    let gathered = Gathered::from(headers, classes, accept_legacy)?;
    let declared = gathered.declared(version)?;
    let switched = switched_to(status, request, &gathered)?;
    let framing = framing(status, request, declared)?;
    gathered.connection.mark(headers, classes);
    Ok(ResponseHead {
        status,
        version,
        reason,
        framing,
        keep_alive: gathered.keep_alive(version)
            && framing != Framing::UntilClose
            && status != 101
            // A body that must not be there would be read as the next response.
            && (status != 204 || matches!(declared, Framing::None | Framing::Length(0))),
        keep_alive_timeout_s: gathered.keep_alive_timeout_s,
        upgrade: switched,
        fields: headers,
        classes,
        declared,
        bytes: head,
        may_be_folded: accept_legacy,
    })
}

/// RFC 9112 section 4: `HTTP-version SP status-code SP [ reason-phrase ]`. Gives the reason. A missing second
/// space is common and has no second reading.
fn status_line(head: &[u8]) -> Result<&[u8], ResponseError> {
    let (line, _) = fault::first_line(head);
    let line = fault::text(line).map_err(|fault| match fault {
        LineFault::Field => ResponseError::StatusLine,
        fault => fault.into(),
    })?;
    let (Some(b"HTTP/1.0 " | b"HTTP/1.1 "), Some(code)) = (line.get(..9), line.get(9..12)) else {
        return Err(ResponseError::StatusLine);
    };
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(ResponseError::StatusLine);
    }
    match &line[12..] {
        [] => Ok(b""),
        [b' ', reason @ ..] => Ok(reason),
        _ => Err(ResponseError::StatusLine),
    }
}

fn fault_of(head: &[u8]) -> ResponseError {
    let (_, rest) = fault::first_line(head);
    fault::of_fields(rest).map_or(ResponseError::Field, ResponseError::from)
}

/// What the fields say that concerns us.
#[derive(Default)]
struct Gathered<'h> {
    connection: Connection,
    length: Option<u64>,
    codings: Codings,
    upgrade: Option<&'h [u8]>,
    keep_alive_timeout_s: Option<u32>,
}

impl<'h> Gathered<'h> {
    fn from(
        headers: &[Header<'h>],
        classes: &mut [Class],
        accept_legacy: bool,
    ) -> Result<Self, ResponseError> {
        let mut gathered = Self::default();
        for (header, slot) in headers.iter().zip(classes) {
            let name = header.name.as_bytes();
            let mut class = fields::classify(name);
            // Clients do not read `_` as `-`.
            if class != Class::EndToEnd && name.contains(&b'_') {
                class = Class::EndToEnd;
            }
            *slot = class;
            gathered.take(class, header.value, accept_legacy)?;
        }
        Ok(gathered)
    }

    fn take(&mut self, class: Class, value: &'h [u8], accept_legacy: bool) -> Result<(), ResponseError> {
        match class {
            Class::ContentLength if accept_legacy => {
                for element in fields::elements(value) {
                    self.take_length(element, true)?;
                }
            }
            Class::ContentLength => self.take_length(value, false)?,
            Class::TransferEncoding => self.codings.add(value),
            Class::Connection => self.connection.add(value).map_err(|fault| match fault {
                ConnectionFault::Malformed => ResponseError::Connection,
                ConnectionFault::Protected => ResponseError::Nominated,
            })?,
            Class::Upgrade => self.upgrade = Some(value),
            Class::KeepAlive => self.keep_alive_timeout_s = timeout_s(value).or(self.keep_alive_timeout_s),
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 section 6.3, item 5: an invalid length in a response to a proxy MUST end in 502; identical
    /// repeats MAY be taken as one.
    fn take_length(&mut self, value: &[u8], repeats: bool) -> Result<(), ResponseError> {
        let length = fields::length(value).ok_or(ResponseError::Length)?;
        match self.length {
            Some(before) if !repeats || before != length => Err(ResponseError::LengthRepeated),
            _ => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn declared(&self, version: Version) -> Result<Framing, ResponseError> {
        match self.codings.verdict() {
            Coding::Absent => return Ok(self.length.map_or(Framing::None, Framing::Length)),
            _ if version == Version::Http10 => return Err(ResponseError::CodingVersion),
            // RFC 9112 section 6.3, item 3: may be an attempt at response splitting; ought to be an error.
            _ if self.length.is_some() => return Err(ResponseError::LengthAndCoding),
            // We never said with TE that we take another coding (RFC 9112 section 7.4).
            Coding::Malformed | Coding::Unknown => return Err(ResponseError::Coding),
            Coding::Chunked => {}
        }
        Ok(Framing::Chunked)
    }

    /// RFC 9112 section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.connection.close && (version == Version::Http11 || self.connection.keep_alive)
    }
}

/// RFC 9112 section 6.3, items 1, 4, 6 and 8.
fn framing(status: u16, request: RequestKind, declared: Framing) -> Result<Framing, ResponseError> {
    if status < 200 || status == 204 {
        // RFC 9112 section 6.1: a server MUST NOT send Transfer-Encoding with 1xx or 204. What follows would
        // be the next response to one reader and a body to another.
        if declared == Framing::Chunked {
            return Err(ResponseError::CodingWithoutBody);
        }
        return Ok(Framing::None);
    }
    if request.head || status == 304 {
        return Ok(Framing::None);
    }
    Ok(if declared == Framing::None { Framing::UntilClose } else { declared })
}

/// RFC 9110 section 15.2.2: a 101 answers an Upgrade, and MUST name the protocols in an Upgrade field.
fn switched_to<'h>(
    status: u16,
    request: RequestKind,
    gathered: &Gathered<'h>,
) -> Result<Option<&'h [u8]>, ResponseError> {
    if status != 101 {
        return Ok(None);
    }
    match gathered.upgrade {
        Some(protocols) if request.upgrade_sent && gathered.connection.upgrade => Ok(Some(protocols)),
        _ => Err(ResponseError::Switch),
    }
}

/// `timeout=` of a `Keep-Alive` field (RFC 2068 section 19.7.1; the rest of it is nobody's business).
fn timeout_s(value: &[u8]) -> Option<u32> {
    fields::elements(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        u32::try_from(fields::length(seconds)?).ok()
    })
}

#[cfg(test)]
#[path = "response_test.rs"]
mod tests;
