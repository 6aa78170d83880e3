//! Finding the end of a head in bytes that arrive bit by bit.

use memchr::memchr;

use super::fields::is_token_byte;

/// Where the head at the start of `bytes` ends: the index after its empty line. None while more bytes are
/// needed; call again with `scanned` set to the length that was searched already, so that a head dribbled
/// byte by byte is searched once.
///
/// A head also ends where no further byte can save it: after a line feed without a carriage return, and after
/// a first byte that begins no message (TLS on a plain port, say). The parsers refuse such a head, at once
/// instead of after a timeout. The result depends on the bytes alone, not on how they were split.
pub fn head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let first = *bytes.first()?;
    if !is_token_byte(first) && first != b'\r' {
        return Some(1);
    }
    let mut from = scanned.min(bytes.len());
    while let Some(found) = memchr(b'\n', &bytes[from..]) {
        let line_end = from + found;
        // RFC 9112 section 2.2: a bare LF MAY be taken as a line end. We refuse it: it has two readings.
        if line_end == 0 || bytes[line_end - 1] != b'\r' {
            return Some(line_end + 1);
        }
        if line_end == 1 || bytes[..line_end - 1].ends_with(b"\r\n") {
            return Some(line_end + 1);
        }
        from = line_end + 1;
    }
    None
}

/// How many bytes to skip before a request line: 2 for one empty line, else 0.
///
/// RFC 9112 section 2.2: a server SHOULD ignore at least one empty line (CRLF) received prior to the request
/// line. Ask only before the first byte of a head was taken, and skip once; a second empty line is refused.
pub fn skip_empty_line(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") { 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end, found in one go and byte by byte.
    fn check(bytes: &[u8], expected: Option<usize>) {
        assert_eq!(head_end(bytes, 0), expected, "{:?} whole", bytes.escape_ascii().to_string());
        let mut scanned = 0;
        let mut dribbled = None;
        for length in 1..=bytes.len() {
            dribbled = head_end(&bytes[..length], scanned);
            if dribbled.is_some() {
                break;
            }
            scanned = length;
        }
        assert_eq!(dribbled, expected, "{:?} dribbled", bytes.escape_ascii().to_string());
    }

    #[test]
    fn ends() {
        check(b"", None);
        check(b"GET / HTTP/1.1\r\n", None);
        check(b"GET / HTTP/1.1\r\n\r", None);
        check(b"GET / HTTP/1.1\r\n\r\n", Some(18));
        check(b"GET / HTTP/1.1\r\n\r\nrest\r\n\r\n", Some(18));
        check(b"GET / HTTP/1.1\r\nA: b\r\n\r\n", Some(24));
        check(b"GET / HTTP/1.1\nA: b\r\n\r\n", Some(15));
        check(b"GET / HTTP/1.1\r\nA: b\r\n\n", Some(23));
        check(b"GET\r\r\n\r\n", Some(8));
        check(b"\r\n\r\n", Some(2));
        check(b"\n", Some(1));
        check(b"\r", None);
        check(b"\x16\x03\x01", Some(1));
        check(b" GET", Some(1));
    }

    #[test]
    fn one_empty_line_is_skipped() {
        assert_eq!(skip_empty_line(b"\r\nGET"), 2);
        assert_eq!(skip_empty_line(b"\r\n\r\n"), 2);
        assert_eq!(skip_empty_line(b"\r"), 0);
        assert_eq!(skip_empty_line(b"\nGET"), 0);
        assert_eq!(skip_empty_line(b"GET"), 0);
    }
}
