//! Paths as they are matched: unreserved octets percent-decoded (RFC 3986, section 6.2.2), the hexadecimal
//! digits of other escapes in upper case, slashes neither merged nor decoded, dot segments not removed.

use crate::bytes::any_marked;
use crate::defaults::PATH_LEN_MAX;

/// A path as it is matched, and what is suspicious about it.
#[derive(Clone, Copy, Debug)]
pub struct NormalPath<'a> {
    /// The path.
    pub bytes: &'a [u8],
    /// A dot segment (`.` or `..` between slashes, either of them encoded or not), a backslash (encoded or
    /// not) or NUL (encoded or not) is in it, or it does not begin with a slash.
    pub suspicious: bool,
    /// An encoded slash is in it.
    pub encoded_slash: bool,
}

/// The value of a hexadecimal digit.
pub(crate) fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// One octet of a path: the octet, and whether it stays an escape.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Octet {
    value: u8,
    escaped: bool,
}

/// Reads the first octet and how many bytes it takes. A `%` without two digits stands for itself.
fn octet(bytes: &[u8]) -> Option<(Octet, usize)> {
    let first = *bytes.first()?;
    if first == b'%'
        && let (Some(high), Some(low)) =
            (bytes.get(1).copied().and_then(hex), bytes.get(2).copied().and_then(hex))
    {
        let value = high << 4 | low;
        return Some((Octet { value, escaped: !is_unreserved(value) }, 3));
    }
    Some((Octet { value: first, escaped: false }, 1))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Octets that make a path worth a second look; nearly all paths have none.
const ODD: [bool; 256] = {
    let mut odd = [false; 256];
    odd[b'%' as usize] = true;
    odd[b'.' as usize] = true;
    odd[b'\\' as usize] = true;
    odd[0] = true;
    odd
};

/// Calls `then` with the path as it is matched; with `None` if the path is longer than [`PATH_LEN_MAX`].
/// A path without escapes is looked at in place; else a buffer on the stack takes it.
#[inline]
pub fn with_normal<R>(path: &[u8], then: impl FnOnce(Option<NormalPath<'_>>) -> R) -> R {
    if path.len() > PATH_LEN_MAX {
        return then(None);
    }
    // "*" (OPTIONS) and the empty path of an absolute-form target are matched as the root.
    let path = if path.is_empty() || path == b"*" { b"/" } else { path };
    if any_marked(path, &ODD) {
        return with_odd(path, then);
    }
    then(Some(NormalPath { bytes: path, suspicious: path.first() != Some(&b'/'), encoded_slash: false }))
}

/// The same for a path with octets that are odd.
#[inline(never)]
fn with_odd<R>(path: &[u8], then: impl FnOnce(Option<NormalPath<'_>>) -> R) -> R {
    /// Escaped paths up to this length get a small buffer.
    const SHORT_LEN: usize = 1024;
    if !path.contains(&b'%') {
        then(Some(inspect(path)))
    } else if path.len() <= SHORT_LEN {
        then(Some(inspect(decode(path, &mut [0; SHORT_LEN]))))
    } else {
        with_long(path, then)
    }
}

/// Apart, so that only such paths pay for the large frame.
#[cold]
#[inline(never)]
fn with_long<R>(path: &[u8], then: impl FnOnce(Option<NormalPath<'_>>) -> R) -> R {
    then(Some(inspect(decode(path, &mut [0; PATH_LEN_MAX]))))
}

fn decode<'a>(path: &[u8], buffer: &'a mut [u8]) -> &'a [u8] {
    let (mut read, mut written) = (0, 0);
    while let Some((octet, len)) = octet(&path[read..]) {
        if octet.escaped {
            buffer[written] = b'%';
            buffer[written + 1] = path[read + 1].to_ascii_uppercase();
            buffer[written + 2] = path[read + 2].to_ascii_uppercase();
            written += 3;
        } else {
            buffer[written] = octet.value;
            written += 1;
        }
        read += len;
    }
    &buffer[..written]
}

fn inspect(bytes: &[u8]) -> NormalPath<'_> {
    let mut path = NormalPath { bytes, suspicious: bytes.first() != Some(&b'/'), encoded_slash: false };
    // Characters of the segment so far, as long as they are all dots.
    let mut dots = None;
    let mut at = 0;
    while at < bytes.len() {
        let (slash, len) = match &bytes[at..] {
            [b'/', ..] => (true, 1),
            [b'%', b'2', b'F', ..] => {
                path.encoded_slash = true;
                (true, 3)
            }
            [b'%', b'5', b'C', ..] | [b'%', b'0', b'0', ..] | [b'\\', ..] | [0, ..] => {
                path.suspicious = true;
                (false, 1)
            }
            _ => (false, 1),
        };
        if slash {
            path.suspicious |= matches!(dots, Some(1 | 2));
            dots = Some(0);
        } else {
            dots = dots.filter(|_| bytes[at] == b'.').map(|count: usize| count + 1);
        }
        at += len;
    }
    path.suspicious |= matches!(dots, Some(1 | 2));
    path
}

/// What follows `prefix` (by whole segments) in a path as received; octets are compared as they are matched.
pub fn strip_prefix<'a>(received: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let mut prefix = trim_slashes(prefix);
    let mut rest = received;
    while let Some((wanted, wanted_len)) = octet(prefix) {
        let (found, found_len) = octet(rest)?;
        if found != wanted {
            return None;
        }
        prefix = &prefix[wanted_len..];
        rest = &rest[found_len..];
    }
    matches!(rest.first(), None | Some(b'/')).then_some(rest)
}

/// A prefix without its trailing slashes: `/cart/` and `/cart` mean the same segments.
pub(crate) fn trim_slashes(mut prefix: &[u8]) -> &[u8] {
    while let Some(rest) = prefix.strip_suffix(b"/") {
        prefix = rest;
    }
    prefix
}

/// A path of a spec as it is matched: what may not stand in a path is percent-encoded, then escapes are
/// treated as those of a request are.
pub(crate) fn canonical(path: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(path.len());
    write_url_bytes(path.as_bytes(), &mut encoded);
    let mut buffer = vec![0; encoded.len()];
    let len = decode(&encoded, &mut buffer).len();
    buffer.truncate(len);
    buffer
}

/// Whether a path of a spec could never be matched by a request that is not refused.
pub(crate) fn is_suspicious(canonical: &[u8]) -> bool {
    inspect(canonical).suspicious
}

/// Appends bytes of a URL, percent-encoding those that may not stand in one.
pub(crate) fn write_url_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        let plain = byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte);
        if plain {
            out.push(byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Whether two query texts are equal once percent-decoded, `+` being a space.
pub(crate) fn query_equal(left: &[u8], right: &[u8]) -> bool {
    query_octets(left).eq(query_octets(right))
}

fn query_octets(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (octet, len) = octet(rest)?;
        let value = if len == 1 && octet.value == b'+' { b' ' } else { octet.value };
        rest = &rest[len..];
        Some(value)
    })
}

/// The first value of a query parameter, as received; empty where it has no `=`.
pub(crate) fn query_value<'a>(query: Option<&'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    query_values(query, name).next()
}

/// All values of a query parameter, as received.
pub(crate) fn query_values<'a>(query: Option<&'a [u8]>, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    query.unwrap_or_default().split(|byte| *byte == b'&').filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (found, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        (!pair.is_empty() && query_equal(found, name)).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str) -> (String, bool, bool) {
        with_normal(path.as_bytes(), |path| {
            let path = path.expect("short enough");
            (String::from_utf8_lossy(path.bytes).into_owned(), path.suspicious, path.encoded_slash)
        })
    }

    #[test]
    fn table() {
        for (path, matched, suspicious, encoded_slash) in [
            ("/", "/", false, false),
            ("", "/", false, false),
            ("*", "/", false, false),
            ("cart", "cart", true, false),
            ("/cart//7/", "/cart//7/", false, false),
            ("/%63%61rt/%7euser", "/cart/~user", false, false),
            ("/a%2fb", "/a%2Fb", false, true),
            ("/a%3ab%zz%4", "/a%3Ab%zz%4", false, false),
            ("/a/./b", "/a/./b", true, false),
            ("/a/..", "/a/..", true, false),
            ("/a/%2e%2E/b", "/a/../b", true, false),
            ("/a/...", "/a/...", false, false),
            ("/a/.hidden", "/a/.hidden", false, false),
            ("/a..b/c.", "/a..b/c.", false, false),
            ("/a/..%2fb", "/a/..%2Fb", true, true),
            ("/a%2f%2e", "/a%2F.", true, true),
            ("/a\\b", "/a\\b", true, false),
            ("/a%5cb", "/a%5Cb", true, false),
            ("/a%00", "/a%00", true, false),
            ("/a\0", "/a\0", true, false),
        ] {
            assert_eq!(normal(path), (matched.to_owned(), suspicious, encoded_slash), "{path:?}");
        }
    }

    #[test]
    fn long_paths() {
        let long = format!("/{}", "%41".repeat(5_000));
        assert_eq!(normal(&long).0, format!("/{}", "A".repeat(5_000)));
        assert!(with_normal(&vec![b'/'; PATH_LEN_MAX + 1], |path| path.is_none()));
    }

    #[test]
    fn queries() {
        let query = Some(&b"a=1&b=x+y&b=%7a&&c"[..]);
        assert_eq!(query_value(query, b"a"), Some(&b"1"[..]));
        assert_eq!(query_value(query, b"%62"), Some(&b"x+y"[..]));
        assert_eq!(query_values(query, b"b").count(), 2);
        assert_eq!(query_value(query, b"c"), Some(&b""[..]));
        assert_eq!(query_value(query, b""), None);
        assert!(query_equal(b"x+y", b"x%20y") && !query_equal(b"x%2By", b"x+y"));
    }
}
