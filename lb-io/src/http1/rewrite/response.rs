//! A response's head for the client.

use super::{Passing, Text, is_overruled, write_field, write_framing, write_number, write_set};
use crate::http1::fields::{self, Class};
use crate::http1::response::ResponseHead;
use crate::http1::{Framing, Version};

/// What to change of a response on its way to the client. `S` is how the configuration keeps text.
#[derive(Debug)]
pub struct ResponseRewrite<'a, S = &'a str> {
    /// The client's version. None of 1xx is sent to HTTP/1.0 (RFC 9110 section 15.2): do not ask.
    pub client: Version,
    /// We will take another request on the client's connection.
    pub keep_alive: bool,
    /// How the body goes to the client: [`ResponseHead::framing_for`], or chunked by ourselves. With
    /// [`Framing::UntilClose`] the connection closes whatever `keep_alive` says.
    pub framing: Framing,
    /// Names of fields to remove.
    pub remove: &'a [S],
    /// Fields to set: in place of all of that name, at the end.
    pub set: &'a [(S, S)],
    /// Complete lines to add, each with its CRLF.
    pub lines: &'a [u8],
    /// Make `Cache-Control` at least `private`.
    pub private: bool,
}

/// Appends the head for the client to `out`. Status and reason stay; the version is ours, HTTP/1.1 also to
/// HTTP/1.0 clients (RFC 9110 section 6.2: a server SHOULD send its own highest version of the same major one).
pub fn response<S: Text>(out: &mut Vec<u8>, head: &ResponseHead<'_>, rewrite: &ResponseRewrite<'_, S>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.reason);
    out.extend_from_slice(b"\r\n");
    let framing = wire_framing(head, rewrite);
    let keep_alive = rewrite.keep_alive && framing != Framing::UntilClose;
    let mut cached = false;
    let mut passing = Passing::of(head.bytes);
    for (field, class) in head.fields.iter().zip(head.classes) {
        let passes = match class {
            Class::Dropped
            | Class::ContentLength
            | Class::TransferEncoding
            | Class::Connection
            | Class::KeepAlive
            | Class::Upgrade
            | Class::Te => false,
            Class::Trailer => framing == Framing::Chunked,
            _ => true,
        };
        if !passes || is_overruled(field.name, rewrite.remove, rewrite.set) {
            continue;
        }
        match class {
            Class::CacheControl if rewrite.private => {
                passing.flush(out);
                write_private(out, field, cached);
                cached = true;
            }
            _ if head.may_be_folded && memchr::memchr(b'\n', field.value).is_some() => {
                passing.flush(out);
                write_unfolded(out, field.name, field.value);
            }
            _ => passing.field(out, field),
        }
    }
    passing.flush(out);
    if rewrite.private && !cached {
        out.extend_from_slice(b"cache-control: private\r\n");
    }
    write_connection(out, head, rewrite.client, keep_alive);
    write_framing(out, framing);
    write_set(out, rewrite.set);
    out.extend_from_slice(rewrite.lines);
    out.extend_from_slice(b"\r\n");
}

/// What the head says of the body. For HEAD and 304 that is what a GET would have had.
fn wire_framing<S>(head: &ResponseHead<'_>, rewrite: &ResponseRewrite<'_, S>) -> Framing {
    // RFC 9110 section 8.6, RFC 9112 section 6.1: neither field with 1xx and 204.
    if head.status < 200 || head.status == 204 {
        return Framing::None;
    }
    match (head.framing, head.declared) {
        (Framing::None, Framing::Chunked) if rewrite.client == Version::Http10 => Framing::None,
        (Framing::None, declared) => declared,
        _ => rewrite.framing,
    }
}

fn write_connection(out: &mut Vec<u8>, head: &ResponseHead<'_>, client: Version, keep_alive: bool) {
    match head.upgrade {
        Some(protocols) => {
            out.extend_from_slice(b"connection: upgrade\r\n");
            write_field(out, b"upgrade", protocols);
        }
        // An interim response says nothing about the connection.
        None if head.status < 200 => {}
        None if !keep_alive => out.extend_from_slice(b"connection: close\r\n"),
        // RFC 9112 section 9.3: persistence is the default from 1.1 on and must be said to 1.0.
        None if client == Version::Http10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        None => {}
    }
}

/// Writes a field whose value may be folded over lines, on one line.
///
/// RFC 9112 section 5.2: a proxy MUST discard the message or replace each obs-fold by one or more SP.
fn write_unfolded(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if memchr::memchr(b'\n', value).is_none() {
        return write_field(out, name.as_bytes(), value);
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    let mut first = true;
    for line in value.split(|byte| *byte == b'\n') {
        let line = fields::trim(line.strip_suffix(b"\r").unwrap_or(line));
        if line.is_empty() {
            continue;
        }
        if !first {
            out.push(b' ');
        }
        first = false;
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a Cache-Control field so that no shared cache keeps the response (RFC 9111 section 5.2.2): as it is
/// if it says `private` or `no-store`, else with `private` for `public` and `s-maxage`. `repeated`: a field
/// before it has been seen to already.
fn write_private(out: &mut Vec<u8>, field: &httparse::Header<'_>, repeated: bool) {
    let loosens = |directive: &&[u8]| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default();
        [&b"public"[..], b"s-maxage", b"private"]
            .iter()
            .any(|known| fields::trim(name).eq_ignore_ascii_case(known))
    };
    let strict = |directive: &[u8]| {
        directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store")
    };
    if fields::quoted_elements(field.value).any(strict) {
        return write_unfolded(out, field.name, field.value);
    }
    let added = (!repeated).then_some(&b"private"[..]);
    let kept = fields::quoted_elements(field.value).filter(|kept| !kept.is_empty() && !loosens(kept));
    let mut first = true;
    for directive in added.into_iter().chain(kept) {
        if first {
            out.extend_from_slice(field.name.as_bytes());
        }
        out.extend_from_slice(if first { b": " } else { b", " });
        first = false;
        out.extend(directive.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')));
    }
    if !first {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
#[path = "response_test.rs"]
mod tests;
