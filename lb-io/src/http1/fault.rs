//! What exactly is wrong with a head that did not parse: the slow way, for the reason word alone.

use super::fields::{is_token, is_token_byte, is_value_byte};
use super::request::RequestError;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineFault {
    BareLineFeed,
    BareCarriageReturn,
    ControlByte,
    SpaceBeforeColon,
    Folding,
    Field,
}

/// Names the first fault of a request head that was refused.
pub(super) fn of_request(head: &[u8]) -> RequestError {
    let (line, rest) = first_line(head);
    match text(line).map(request_line) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return error,
        Err(LineFault::Field) => return RequestError::RequestLine,
        Err(fault) => return fault.into(),
    }
    of_fields(rest).map_or(RequestError::Field, RequestError::from)
}

/// Names the first fault of field lines, which end with an empty line.
pub(super) fn of_fields(mut rest: &[u8]) -> Option<LineFault> {
    while !rest.is_empty() {
        let line;
        (line, rest) = first_line(rest);
        match text(line) {
            Err(fault) => return Some(fault),
            Ok([]) => return None,
            Ok(line) => {
                if let Err(fault) = field(line) {
                    return Some(fault);
                }
            }
        }
    }
    None
}

/// One field line without its CRLF, in the strict reading: the name's length.
pub(super) fn field(line: &[u8]) -> Result<usize, LineFault> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(LineFault::Folding);
    }
    let colon = memchr::memchr(b':', line).ok_or(LineFault::Field)?;
    let name = &line[..colon];
    // RFC 9112 section 5.1: no whitespace is allowed between the name and colon; MUST answer 400.
    if let [before @ .., b' ' | b'\t'] = name {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t') || is_token_byte(*byte);
        return Err(if before.iter().all(blank) { LineFault::SpaceBeforeColon } else { LineFault::Field });
    }
    if is_token(name) { Ok(colon) } else { Err(LineFault::Field) }
}

/// The first line with its line feed, and what follows.
pub(super) fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(memchr::memchr(b'\n', bytes).map_or(bytes.len(), |line_end| line_end + 1))
}

/// A line without its CRLF, if it ends in one and holds no control byte otherwise.
pub(super) fn text(line: &[u8]) -> Result<&[u8], LineFault> {
    let body = match line {
        [body @ .., b'\r', b'\n'] => body,
        [body @ .., b'\n'] => return Err(control(body).unwrap_or(LineFault::BareLineFeed)),
        unended => return Err(control(unended).unwrap_or(LineFault::Field)),
    };
    control(body).map_or(Ok(body), Err)
}

fn control(bytes: &[u8]) -> Option<LineFault> {
    let byte = bytes.iter().find(|byte| !is_value_byte(**byte))?;
    Some(if *byte == b'\r' { LineFault::BareCarriageReturn } else { LineFault::ControlByte })
}

/// RFC 9112 section 3: `method SP request-target SP HTTP-version`, one space each.
fn request_line(line: &[u8]) -> Result<(), RequestError> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(RequestError::RequestLine);
    };
    if !is_token(method) || target.is_empty() {
        return Err(RequestError::RequestLine);
    }
    match version {
        b"HTTP/1.0" | b"HTTP/1.1" => {}
        // RFC 9110 section 15.6.6: 505 is for a major version that the server does not support.
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(RequestError::Version);
        }
        _ => return Err(RequestError::RequestLine),
    }
    if target.iter().all(u8::is_ascii_graphic) { Ok(()) } else { Err(RequestError::Target) }
}

impl From<LineFault> for RequestError {
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
