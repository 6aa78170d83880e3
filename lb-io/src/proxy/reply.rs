//! Our own responses: refusals with their reason, redirects and fixed replies.

use std::io::Write;

use crate::http1::Version;
use crate::reason::{self, Reason};

/// What a local reply needs to know of the request that it answers.
#[derive(Debug, Clone, Copy)]
pub struct Answering {
    /// Its version.
    pub version: Version,
    /// It was HEAD: the reply has no body.
    pub head: bool,
    /// The connection is used again.
    pub keep_alive: bool,
}

/// Content type of a route's own error page.
const ERROR_PAGE_CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Bytes of the longest number that a field has.
const DIGITS: usize = 10;

/// Writes a refusal: the route's own page for the status, or a line with status, phrase and word. With how many seconds
/// the client is to wait, if that is known.
pub fn write_refusal(
    out: &mut Vec<u8>,
    reason: Reason,
    retry_after_s: Option<u32>,
    page: Option<&str>,
    to: Answering,
) {
    let mut digits = [0_u8; DIGITS];
    let mut rest = &mut digits[..];
    let _ = write!(rest, "{}", retry_after_s.unwrap_or_default());
    let length = DIGITS - rest.len();
    let fields: [(&str, &[u8]); 3] = [
        ("x-lb-reason", reason.word.as_bytes()),
        ("cache-control", b"no-store"),
        ("retry-after", &digits[..length]),
    ];
    let fields = if retry_after_s.is_some() { &fields[..] } else { &fields[..2] };
    match page {
        Some(page) => write(out, reason.status, fields, ERROR_PAGE_CONTENT_TYPE, page.as_bytes(), to),
        None => {
            let phrase = reason::phrase(reason.status);
            let mut line = [0_u8; 160];
            let mut rest = &mut line[..];
            let _ = writeln!(rest, "{} {}: {}", reason.status, phrase, reason.word);
            let length = 160 - rest.len();
            write(out, reason.status, fields, "text/plain; charset=utf-8", &line[..length], to);
        }
    }
}

/// Writes a whole response, replacing what `out` held.
pub fn write(
    out: &mut Vec<u8>,
    status: u16,
    fields: &[(&str, &[u8])],
    content_type: &str,
    body: &[u8],
    to: Answering,
) {
    out.clear();
    // RFC 9110 sections 15.3.5 and 15.4.5: 204 and 304 have no body; 204 MUST NOT have a length either.
    let bodiless = matches!(status, 204 | 304);
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason::phrase(status));
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !bodiless {
        if !body.is_empty() {
            let _ = write!(out, "content-type: {content_type}\r\n");
        }
        let _ = write!(out, "content-length: {}\r\n", body.len());
    }
    match (to.keep_alive, to.version) {
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
    out.extend_from_slice(b"\r\n");
    if !bodiless && !to.head {
        out.extend_from_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reason: Reason, page: Option<&str>, to: Answering) -> String {
        let mut out = b"stale".to_vec();
        write_refusal(&mut out, reason, None, page, to);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_refusal_says_why_and_what_becomes_of_the_connection() {
        let to = Answering { version: Version::Http11, head: false, keep_alive: true };
        assert_eq!(
            text(reason::CONNECT_FAILED, None, to),
            "HTTP/1.1 502 Bad Gateway\r\nx-lb-reason: connect_failed\r\ncache-control: no-store\r\n\
             content-type: text/plain; charset=utf-8\r\ncontent-length: 32\r\n\r\n502 Bad Gateway: connect_failed\n"
        );
        let page = text(reason::HEAD_TIMEOUT, Some("<p>slow"), Answering { keep_alive: false, ..to });
        assert!(page.contains("connection: close\r\n") && page.ends_with("\r\n\r\n<p>slow"), "{page}");
        let head = text(reason::OVERLOADED, None, Answering { head: true, version: Version::Http10, ..to });
        assert!(head.contains("content-length: 36\r\nconnection: keep-alive\r\n\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_client_is_told_how_long_to_wait() {
        let to = Answering { version: Version::Http11, head: true, keep_alive: true };
        let reason = Reason::of_refusal(lb_core::RefusalReason::RateLimited);
        for seconds in [1, 86_400, u32::MAX] {
            let mut out = Vec::new();
            write_refusal(&mut out, reason, Some(seconds), None, to);
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{text}");
            assert!(text.contains(&format!("\r\nretry-after: {seconds}\r\n")), "{text}");
        }
    }

    #[test]
    fn a_status_without_body_has_none() {
        let to = Answering { version: Version::Http11, head: false, keep_alive: true };
        let mut out = Vec::new();
        write(&mut out, 204, &[], "text/plain", b"ignored", to);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\n\r\n");
    }
}
