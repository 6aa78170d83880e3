//! The head of a request: what it asks for and where its body ends, or why it is refused.

use httparse::Header;

use super::fields::{self, Class, Coding, Codings, Connection, ConnectionFault};
use super::{Framing, Limits, Version, host, target};

pub use super::fields::FieldStorage;

/// A request head that was understood and may be forwarded.
#[derive(Debug)]
pub struct RequestHead<'h> {
    /// A token, case-sensitive (RFC 9110 section 9.1). Never `CONNECT`.
    pub method: &'h [u8],
    /// The target as received.
    pub raw_target: &'h [u8],
    /// The target's path as received: begins with `/`, or is `*` (OPTIONS for the server as a whole).
    pub path: &'h [u8],
    /// What follows the first `?` of the target.
    pub query: Option<&'h [u8]>,
    /// The client's version.
    pub version: Version,
    /// Host and port that the request is for: of an absolute-form target, else of `Host`. Valid, without
    /// userinfo. None only with HTTP/1.0.
    pub host: Option<&'h [u8]>,
    /// Where the body ends. Never [`Framing::UntilClose`].
    pub body: Framing,
    /// The client wants to use the connection again after this exchange (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The client would switch to one of these protocols (RFC 9110 section 7.8). Only where this may be passed
    /// on: GET by HTTP/1.1 without a body, nominated by `Connection`, and no protocol that is HTTP or TLS again
    /// (`h2c` would carry requests past all routing).
    pub upgrade: Option<&'h [u8]>,
    /// All fields as received, in order. Values are without whitespace around them.
    pub fields: &'h [Header<'h>],
    pub(super) classes: &'h [Class],
    pub(super) trailers_accepted: bool,
    /// All of it.
    pub(super) bytes: &'h [u8],
}

impl<'h> RequestHead<'h> {
    /// The first value of the field `name` (in any case).
    pub fn field(&self, name: &str) -> Option<&'h [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The values of all fields `traceparent` that are not for this connection only.
    pub fn trace_parents(&self) -> impl Iterator<Item = &'h [u8]> {
        let fields = self.fields.iter().zip(self.classes);
        fields.filter(|(_, class)| **class == Class::TraceParent).map(|(field, _)| field.value)
    }

    /// Is the method HEAD? Its response has no body (RFC 9110 section 9.3.2).
    pub fn is_head(&self) -> bool {
        self.method == b"HEAD"
    }
}

/// Why a request head is refused. The connection is of no further use: where the next request begins is not
/// certain any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The head is larger than the limit.
    HeadTooLarge,
    /// More than [`super::MAX_FIELDS`] fields.
    TooManyFields,
    /// The target is longer than the limit.
    TargetTooLong,
    /// A line ends in LF without CR.
    BareLineFeed,
    /// CR without LF.
    BareCarriageReturn,
    /// NUL or another control byte.
    ControlByte,
    /// Not `method SP target SP version`.
    RequestLine,
    /// HTTP, but neither 1.0 nor 1.1.
    Version,
    /// The target has none of the four forms, or a form that does not fit the method.
    Target,
    /// `%` in the path without two hexadecimal digits.
    Escape,
    /// `#` in the target.
    Fragment,
    /// `user@` in the authority.
    UserInfo,
    /// CONNECT: we are no forward proxy.
    Connect,
    /// TRACE or OPTIONS may not be forwarded any further: `Max-Forwards` is 0 or not a number.
    MaxForwards,
    /// TRACE with a body.
    TraceBody,
    /// A line that is no field, or a name that is no token.
    Field,
    /// Whitespace between a field's name and the colon.
    SpaceBeforeColon,
    /// A line that continues the one before (obs-fold).
    Folding,
    /// A framing field's name written with `_`.
    Masquerade,
    /// HTTP/1.1 without `Host`.
    HostMissing,
    /// `Host` more than once.
    HostRepeated,
    /// Not a host with an optional port.
    Host,
    /// The authority of an absolute-form differs from `Host`.
    WrongAuthority,
    /// `Content-Length` is not one number.
    Length,
    /// `Content-Length` more than once.
    LengthRepeated,
    /// `Content-Length` and `Transfer-Encoding`.
    LengthAndCoding,
    /// `Transfer-Encoding` that does not end in one `chunked`, or is malformed.
    Coding,
    /// A transfer coding that we do not know.
    UnknownCoding,
    /// `Transfer-Encoding` with HTTP/1.0.
    CodingVersion,
    /// `Connection` is no list of tokens, or too long a one.
    Connection,
    /// `Connection` nominates a field that is for all recipients.
    Nominated,
    /// `Expect` asks for something other than `100-continue`.
    Expectation,
}

impl RequestError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::TargetTooLong => 414,
            Self::Version => 505,
            Self::Connect | Self::UnknownCoding | Self::MaxForwards => 501,
            Self::WrongAuthority => 421,
            Self::Expectation => 417,
            _ => 400,
        }
    }

    /// The stable reason word, for logs, metrics and `x-lb-reason`.
    pub fn word(self) -> &'static str {
        match self {
            Self::HeadTooLarge => "request_head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::TargetTooLong => "target_too_long",
            Self::BareLineFeed => "bare_lf",
            Self::BareCarriageReturn => "bare_cr",
            Self::ControlByte => "control_byte",
            Self::RequestLine => "bad_request_line",
            Self::Version => "unsupported_version",
            Self::Target => "bad_target",
            Self::Escape => "bad_escape",
            Self::Fragment => "fragment_in_target",
            Self::UserInfo => "userinfo_in_authority",
            Self::Connect => "connect_refused",
            Self::MaxForwards => "max_forwards_ended",
            Self::TraceBody => "trace_with_body",
            Self::Field => "bad_field",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::Folding => "folded_field",
            Self::Masquerade => "underscored_field",
            Self::HostMissing => "missing_host",
            Self::HostRepeated => "repeated_host",
            Self::Host => "bad_host",
            Self::WrongAuthority => "wrong_authority",
            Self::Length => "bad_content_length",
            Self::LengthRepeated => "repeated_content_length",
            Self::LengthAndCoding => "length_with_transfer_encoding",
            Self::Coding => "bad_transfer_encoding",
            Self::UnknownCoding => "unknown_transfer_encoding",
            Self::CodingVersion => "transfer_encoding_in_http10",
            Self::Connection => "bad_connection",
            Self::Nominated => "connection_names_protected_field",
            Self::Expectation => "unknown_expectation",
        }
    }
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status(), self.word())
    }
}

impl std::error::Error for RequestError {}

/// Why a head is refused that outgrew [`Limits::head_bytes`]: `partial` is what arrived of it.
pub fn too_large(partial: &[u8], limits: &Limits) -> RequestError {
    let line_end = memchr::memchr(b'\n', partial).unwrap_or(partial.len());
    // The method and version cannot account for the difference.
    if line_end > limits.target_bytes { RequestError::TargetTooLong } else { RequestError::HeadTooLarge }
}

/// Parses the head that [`super::scan::head_end`] delimited: all of it, with its empty line; or what there is
/// of one that has reached [`Limits::head_bytes`] without an end.
///
/// # Errors
/// Answer with the error's status and word, and close.
pub fn parse<'h, 'b: 'h>(
    head: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
    limits: &Limits,
) -> Result<RequestHead<'h>, RequestError> {
    let is_whole = head.ends_with(b"\r\n\r\n");
    if head.len() > limits.head_bytes || (head.len() == limits.head_bytes && !is_whole) {
        return Err(too_large(head, limits));
    }
    // httparse would skip any number of empty lines before the head.
    if !head.first().is_some_and(|byte| fields::is_token_byte(*byte)) {
        return Err(super::fault::of_request(head));
    }
    let FieldStorage { headers, classes } = storage;
    let mut raw = httparse::Request::new(&mut []);
    match raw.parse_with_uninit_headers(head, headers) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyFields),
        _ => return Err(super::fault::of_request(head)),
    }
    let httparse::Request { method: Some(method), path: Some(raw_target), version: Some(version), headers } =
        raw
    else {
        return Err(RequestError::RequestLine);
    };
    if !fields::lines_end_in_crlf(head, headers) {
        return Err(super::fault::of_request(head));
    }
    let method = method.as_bytes();
    if method == b"CONNECT" {
        return Err(RequestError::Connect);
    }
    if raw_target.len() > limits.target_bytes {
        return Err(RequestError::TargetTooLong);
    }
    let raw_target = raw_target.as_bytes();
    let target = target::parse(raw_target, method == b"OPTIONS")?;
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let classes = &mut classes[..headers.len()];
    let gathered = Gathered::from(headers, classes, version)?;
    let host = effective_host(&target, &gathered, version)?;
    let body = gathered.body(version)?;
    let has_body = !matches!(body, Framing::None | Framing::Length(0));
    // RFC 9110 section 9.3.8: a client MUST NOT send content in a TRACE request.
    if method == b"TRACE" && has_body {
        return Err(RequestError::TraceBody);
    }
    if (method == b"TRACE" || method == b"OPTIONS") && gathered.max_forwards_ended {
        return Err(RequestError::MaxForwards);
    }
    gathered.connection.mark(headers, classes);
    Ok(RequestHead {
        method,
        raw_target,
        path: target.path,
        query: target.query,
        version,
        host,
        body,
        keep_alive: gathered.keep_alive(version),
        // RFC 9110 section 10.1.1: without content there is nothing to wait for, and an expectation in an
        // HTTP/1.0 request MUST be ignored.
        expect_continue: gathered.expect_continue && has_body && version == Version::Http11,
        // RFC 9110 section 7.8: a server MAY ignore a received Upgrade field, and MUST in HTTP/1.0.
        upgrade: gathered.upgrade.filter(|protocols| {
            method == b"GET"
                && !has_body
                && version == Version::Http11
                && gathered.connection.upgrade
                && protocols_may_pass(protocols)
        }),
        fields: headers,
        classes,
        trailers_accepted: gathered.trailers_accepted,
        bytes: head,
    })
}

/// What the fields say that concerns us.
#[derive(Default)]
struct Gathered<'h> {
    connection: Connection,
    host: Option<&'h [u8]>,
    length: Option<u64>,
    codings: Codings,
    expect_continue: bool,
    upgrade: Option<&'h [u8]>,
    upgrade_repeated: bool,
    trailers_accepted: bool,
    max_forwards_ended: bool,
}

impl<'h> Gathered<'h> {
    fn from(headers: &[Header<'h>], classes: &mut [Class], version: Version) -> Result<Self, RequestError> {
        let mut gathered = Self::default();
        for (header, slot) in headers.iter().zip(classes) {
            let name = header.name.as_bytes();
            let mut class = fields::classify(name);
            if class != Class::EndToEnd && name.contains(&b'_') {
                class = unmask(class)?;
            }
            *slot = class;
            gathered.take(class, header.value, version)?;
        }
        if gathered.upgrade_repeated {
            gathered.upgrade = None;
        }
        Ok(gathered)
    }

    fn take(&mut self, class: Class, value: &'h [u8], version: Version) -> Result<(), RequestError> {
        match class {
            Class::Host => {
                // RFC 9112 section 3.2: MUST answer 400 to more than one Host field or an invalid value.
                if self.host.is_some() {
                    return Err(RequestError::HostRepeated);
                }
                if !host::is_valid(value) {
                    return Err(if value.contains(&b'@') {
                        RequestError::UserInfo
                    } else {
                        RequestError::Host
                    });
                }
                self.host = Some(value);
            }
            Class::ContentLength => {
                // RFC 9112 section 6.3, item 5: invalid is an unrecoverable error; identical repeats may be taken
                // as one, and are refused here: no client needs them.
                let length = fields::length(value).ok_or(RequestError::Length)?;
                if self.length.is_some() {
                    return Err(RequestError::LengthRepeated);
                }
                self.length = Some(length);
            }
            Class::TransferEncoding => self.codings.add(value),
            Class::Connection => self.connection.add(value).map_err(|fault| match fault {
                ConnectionFault::Malformed => RequestError::Connection,
                ConnectionFault::Protected => RequestError::Nominated,
            })?,
            Class::Expect => {
                for expectation in fields::elements(value) {
                    // RFC 9110 section 10.1.1: may answer 417 to anything other than 100-continue.
                    if expectation.eq_ignore_ascii_case(b"100-continue") {
                        self.expect_continue = true;
                    } else if version == Version::Http11 {
                        return Err(RequestError::Expectation);
                    }
                }
            }
            Class::Upgrade => {
                self.upgrade_repeated = self.upgrade.is_some();
                self.upgrade = Some(value);
            }
            Class::Te => {
                self.trailers_accepted |=
                    fields::elements(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Class::MaxForwards => {
                // RFC 9110 section 7.6.2: MUST NOT forward at zero.
                self.max_forwards_ended |= fields::length(value).unwrap_or(0) == 0;
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&self, version: Version) -> Result<Framing, RequestError> {
        match self.codings.verdict() {
            Coding::Absent => return Ok(self.length.map_or(Framing::None, Framing::Length)),
            // RFC 9112 section 6.1: such a message MUST be treated as if its framing were faulty.
            _ if version == Version::Http10 => return Err(RequestError::CodingVersion),
            // RFC 9112 section 6.1: may be rejected, and is the classic of request smuggling (11.2).
            _ if self.length.is_some() => return Err(RequestError::LengthAndCoding),
            // RFC 9112 section 6.3, item 4: the length cannot be determined; MUST answer 400.
            Coding::Malformed => return Err(RequestError::Coding),
            // RFC 9112 section 6.1: SHOULD answer 501 to a coding that it does not understand.
            Coding::Unknown => return Err(RequestError::UnknownCoding),
            Coding::Chunked => {}
        }
        Ok(Framing::Chunked)
    }

    /// RFC 9112 section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        !self.connection.close && (version == Version::Http11 || self.connection.keep_alive)
    }
}

/// A name that becomes ours once `_` is read as `-`: refused if it frames or routes, else not passed on.
fn unmask(class: Class) -> Result<Class, RequestError> {
    match class {
        Class::Host | Class::ContentLength | Class::TransferEncoding | Class::Connection => {
            Err(RequestError::Masquerade)
        }
        Class::CacheControl | Class::MaxForwards => Ok(Class::EndToEnd),
        _ => Ok(Class::Dropped),
    }
}

fn effective_host<'h>(
    target: &target::Target<'h>,
    gathered: &Gathered<'h>,
    version: Version,
) -> Result<Option<&'h [u8]>, RequestError> {
    match (&target.authority, gathered.host) {
        // RFC 9112 section 3.2: MUST answer 400 to an HTTP/1.1 request that lacks a Host field.
        (_, None) if version == Version::Http11 => Err(RequestError::HostMissing),
        (None, host) => Ok(host),
        (Some(authority), None) => Ok(Some(authority.host)),
        // RFC 9112 section 3.2.2 has a proxy replace Host by the target's authority. A client that means both
        // sends them alike; where they differ, somebody before or behind us reads the other one.
        (Some(authority), Some(host)) if host::same(authority.host, host, authority.default_port) => {
            Ok(Some(authority.host))
        }
        _ => Err(RequestError::WrongAuthority),
    }
}

/// None of the protocols is HTTP or TLS, and each is well formed: `name [ "/" version ]`.
fn protocols_may_pass(protocols: &[u8]) -> bool {
    fields::elements(protocols).all(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        protocol.iter().all(|byte| fields::is_token_byte(*byte) || *byte == b'/')
            && fields::is_token(name)
            && ![&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
