//! The authority of a request: host and port.

use std::net::Ipv6Addr;

/// Bytes that a host with its port may have.
const MAX_HOST_BYTES: usize = 255 + 6;

/// Is `authority` a host with an optional port?
///
/// Narrower than RFC 3986 section 3.2.2: names of letters, digits, `-`, `.`, `_` and `~` without empty labels
/// (but for a trailing dot), IPv4 addresses, bracketed IPv6 addresses without zone. Percent-encoded and
/// sub-delimited names have more than one reading and name nothing in the DNS. An empty port is legal
/// (RFC 9110 section 4.2.3); the largest is 65,535.
pub(super) fn is_valid(authority: &[u8]) -> bool {
    if authority.len() > MAX_HOST_BYTES {
        return false;
    }
    let Some((host, port)) = split(authority) else { return false };
    host_is_valid(host) && port_is_valid(port)
}

/// Do two valid authorities name the same host and port? Case is ignored, and a port that is absent or empty
/// is `default_port` (RFC 9110 section 4.2.3).
pub(super) fn same(one: &[u8], other: &[u8], default_port: u16) -> bool {
    let (Some((host, port)), Some((other_host, other_port))) = (split(one), split(other)) else {
        return false;
    };
    host.eq_ignore_ascii_case(other_host) && number(port, default_port) == number(other_port, default_port)
}

/// Host and port's digits.
fn split(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let host_end = if authority.first() == Some(&b'[') {
        authority.iter().position(|byte| *byte == b']')? + 1
    } else {
        authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(host_end);
    match rest {
        [] => Some((host, b"")),
        [b':', port @ ..] => Some((host, port)),
        _ => None,
    }
}

fn host_is_valid(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
        }
        _ => {
            // Dots stand between labels, and one may stand at the end.
            let mut before = b'.';
            host.iter().all(|&byte| {
                let valid = NAME_BYTES[usize::from(byte)] && (byte != b'.' || before != b'.');
                before = byte;
                valid
            })
        }
    }
}

/// Bytes of a registered name: dots, and unreserved ones.
static NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'-' | b'_' | b'~');
        byte += 1;
    }
    table
};

fn port_is_valid(port: &[u8]) -> bool {
    port.is_empty() || number(port, 0).is_some()
}

fn number(port: &[u8], default: u16) -> Option<u16> {
    if port.is_empty() {
        return Some(default);
    }
    if port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    u16::try_from(port.iter().fold(0u32, |total, digit| total * 10 + u32::from(digit - b'0'))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity() {
        for valid in [
            "a",
            "example.com",
            "EXAMPLE.com",
            "example.com.",
            "example.com:80",
            "example.com:",
            "a_b.c",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:8080",
            "[2001:db8::1]:",
            "xn--bcher-kva.example",
            "a:65535",
            "a:00080",
        ] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            ":80",
            ".",
            "..",
            ".a",
            "a..b",
            "a b",
            "a,b",
            "a/b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:080080",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]80",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[]",
            "a%2eb",
            "a\\b",
            "a?b",
            "a#b",
            "a;b",
            "b\u{fc}cher.example",
            "a\0",
            "a\tb",
            "a'b",
            "a:80 ",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
        assert!(!is_valid(&[b'a'; 300]));
    }

    #[test]
    fn sameness() {
        assert!(same(b"Example.com", b"example.COM:80", 80));
        assert!(same(b"example.com:", b"example.com:080", 80));
        assert!(!same(b"example.com", b"example.com:443", 80));
        assert!(same(b"example.com", b"example.com:443", 443));
        assert!(!same(b"example.com", b"example.org", 80));
        assert!(!same(b"example.com", b"example.com.", 80));
        assert!(same(b"[::1]:80", b"[::1]", 80));
    }
}
