//! A request's head for a server.

use std::io::Write;
use std::net::IpAddr;

use super::{Passing, Text, is_overruled, write_field, write_framing, write_number, write_set};
use crate::http1::Framing;
use crate::http1::fields::{self, Class};
use crate::http1::request::RequestHead;

/// What becomes of the target's path. The query stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PathRewrite<'a> {
    /// Forwarded as received.
    #[default]
    Keep,
    /// This path instead. One that does not begin with `/` is ignored.
    Replace(&'a [u8]),
}

/// Who sent the request to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// The peer of the connection.
    pub peer: IpAddr,
    /// The connection is TLS.
    pub secure: bool,
    /// The peer is listed as trusted: what it says of the client before it is kept and added to.
    pub trusted: bool,
}

/// The trace that a request is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced<'a> {
    /// The value of `traceparent`.
    pub parent: &'a [u8],
    /// The trace is the received one, so that its `tracestate` passes.
    pub goes_on: bool,
}

/// What to change of a request on its way to a server. `S` is how the configuration keeps text.
#[derive(Debug)]
pub struct RequestRewrite<'a, S = &'a str> {
    /// The path. Does not apply to `*`.
    pub path: PathRewrite<'a>,
    /// `host` for the server instead of the client's.
    pub host: Option<&'a [u8]>,
    /// Names of fields to remove, ours (`x-forwarded-*`, `x-request-id`) included.
    pub remove: &'a [S],
    /// Fields to set: in place of all of that name, at the end.
    pub set: &'a [(S, S)],
    /// For `x-forwarded-for`, `-proto` and `-host`.
    pub forwarded: Forwarded,
    /// `x-request-id`, in place of any received.
    pub request_id: &'a str,
    /// `traceparent`, in place of any received. None: what was received passes, and `tracestate` with it.
    pub trace: Option<Traced<'a>>,
    /// Cookies not to pass on.
    pub strip_cookies: &'a [&'a [u8]],
    /// Pass the head's `upgrade` on.
    pub upgrade: bool,
}

/// Appends the head for the server to `out`: HTTP/1.1 always, with the framing that was understood.
pub fn request<S: Text>(out: &mut Vec<u8>, head: &RequestHead<'_>, rewrite: &RequestRewrite<'_, S>) {
    write_request_line(out, head, rewrite.path);
    // RFC 9110 section 7.2: Host SHOULD be the first field, and is sent with an empty value if there is no
    // authority (a request by HTTP/1.0).
    write_field(out, b"host", rewrite.host.or(head.host).unwrap_or_default());
    let mut passing = Passing::of(head.bytes);
    for (field, class) in head.fields.iter().zip(head.classes) {
        let passes = match class {
            Class::EndToEnd | Class::CacheControl => true,
            Class::Trailer => head.body == Framing::Chunked,
            Class::Expect => head.expect_continue,
            Class::Forwarded | Class::ForwardedProto | Class::ForwardedHost => rewrite.forwarded.trusted,
            Class::Cookie | Class::MaxForwards => true,
            Class::TraceParent => rewrite.trace.is_none(),
            Class::TraceState => rewrite.trace.is_none_or(|trace| trace.goes_on),
            // Written below, or for the client's connection only.
            Class::Dropped
            | Class::Host
            | Class::ContentLength
            | Class::TransferEncoding
            | Class::Connection
            | Class::KeepAlive
            | Class::Upgrade
            | Class::Te
            | Class::RequestId
            | Class::ForwardedFor => false,
        };
        if !passes || is_overruled(field.name, rewrite.remove, rewrite.set) {
            continue;
        }
        match class {
            Class::Cookie if !rewrite.strip_cookies.is_empty() => {
                passing.flush(out);
                write_cookies(out, field.name, field.value, rewrite.strip_cookies);
            }
            Class::MaxForwards => {
                passing.flush(out);
                write_max_forwards(out, head, field);
            }
            _ => passing.field(out, field),
        }
    }
    passing.flush(out);
    write_connection(out, head, rewrite.upgrade);
    write_framing(out, head.body);
    write_forwarded(out, head, rewrite);
    if !is_overruled("x-request-id", rewrite.remove, rewrite.set) {
        write_field(out, b"x-request-id", rewrite.request_id.as_bytes());
    }
    if let Some(trace) = rewrite.trace
        && !is_overruled("traceparent", rewrite.remove, rewrite.set)
    {
        write_field(out, b"traceparent", trace.parent);
    }
    write_set(out, rewrite.set);
    out.extend_from_slice(b"\r\n");
}

fn write_request_line(out: &mut Vec<u8>, head: &RequestHead<'_>, path: PathRewrite<'_>) {
    out.extend_from_slice(head.method);
    out.push(b' ');
    match path {
        _ if head.path == b"*" => out.push(b'*'),
        PathRewrite::Replace(path) if path.first() == Some(&b'/') => out.extend_from_slice(path),
        _ => out.extend_from_slice(head.path),
    }
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// RFC 9110 section 7.6.1: what is for this connection is written for this connection.
fn write_connection(out: &mut Vec<u8>, head: &RequestHead<'_>, upgrade: bool) {
    let upgrade = head.upgrade.filter(|_| upgrade);
    // RFC 9110 section 10.1.4: trailers go through us as they are, so who asks for them may; a sender of TE
    // MUST nominate it.
    match (upgrade, head.trailers_accepted) {
        (None, false) => {}
        (None, true) => out.extend_from_slice(b"connection: te\r\nte: trailers\r\n"),
        (Some(_), false) => out.extend_from_slice(b"connection: upgrade\r\n"),
        (Some(_), true) => out.extend_from_slice(b"connection: te, upgrade\r\nte: trailers\r\n"),
    }
    if let Some(protocols) = upgrade {
        write_field(out, b"upgrade", protocols);
    }
}

fn write_forwarded<S: Text>(out: &mut Vec<u8>, head: &RequestHead<'_>, rewrite: &RequestRewrite<'_, S>) {
    let Forwarded { peer, secure, trusted } = rewrite.forwarded;
    let overruled = |name: &str| is_overruled(name, rewrite.remove, rewrite.set);
    let received = |class: Class| trusted && head.classes.contains(&class);
    if !overruled("x-forwarded-for") {
        out.extend_from_slice(b"x-forwarded-for: ");
        if trusted {
            for (field, _) in
                head.fields.iter().zip(head.classes).filter(|(_, class)| **class == Class::ForwardedFor)
            {
                if !field.value.is_empty() {
                    out.extend_from_slice(field.value);
                    out.extend_from_slice(b", ");
                }
            }
        }
        write_address(out, peer.to_canonical());
        out.extend_from_slice(b"\r\n");
    }
    if !overruled("x-forwarded-proto") && !received(Class::ForwardedProto) {
        write_field(out, b"x-forwarded-proto", if secure { b"https" } else { b"http" });
    }
    if let Some(host) = head.host
        && !overruled("x-forwarded-host")
        && !received(Class::ForwardedHost)
    {
        write_field(out, b"x-forwarded-host", host);
    }
}

/// Without the formatting machinery for the common kind: it is a tenth of the rewrite's time.
fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            write_number(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                write_number(out, u64::from(octet));
            }
        }
        IpAddr::V6(address) => {
            // Writing to a Vec does not fail.
            let _ = write!(out, "{address}");
        }
    }
}

/// RFC 9110 section 7.6.2: an intermediary MUST forward TRACE and OPTIONS with one less. MAY ignore it otherwise.
fn write_max_forwards(out: &mut Vec<u8>, head: &RequestHead<'_>, field: &httparse::Header<'_>) {
    match fields::length(field.value) {
        Some(left) if head.method == b"TRACE" || head.method == b"OPTIONS" => {
            out.extend_from_slice(b"max-forwards: ");
            write_number(out, left.saturating_sub(1));
            out.extend_from_slice(b"\r\n");
        }
        _ => write_field(out, field.name.as_bytes(), field.value),
    }
}

/// Writes a Cookie field without the cookies of `strip`; nothing, if none is left. Other cookies stay as they
/// are, well formed or not (RFC 6265 section 5.4).
fn write_cookies(out: &mut Vec<u8>, name: &str, value: &[u8], strip: &[&[u8]]) {
    let stays = |cookie: &&[u8]| {
        let name = cookie.split(|byte| *byte == b'=').next().unwrap_or_default();
        !strip.contains(&fields::trim(name))
    };
    if value.split(|byte| *byte == b';').all(|cookie| stays(&cookie)) {
        return write_field(out, name.as_bytes(), value);
    }
    let mut any = false;
    for cookie in value.split(|byte| *byte == b';').filter(stays).map(fields::trim) {
        if cookie.is_empty() {
            continue;
        }
        if any {
            out.extend_from_slice(b"; ");
        } else {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
        }
        any = true;
        out.extend_from_slice(cookie);
    }
    if any {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
