//! The request target (RFC 9112 section 3.2).

use super::host;
use super::request::RequestError;

/// A request target, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Begins with `/`, or is `*`.
    pub path: &'b [u8],
    pub query: Option<&'b [u8]>,
    pub authority: Option<Authority<'b>>,
}

/// What an absolute-form names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority<'b> {
    pub host: &'b [u8],
    pub default_port: u16,
}

/// Takes `raw` apart. `options`: the method is OPTIONS.
pub(super) fn parse(raw: &[u8], options: bool) -> Result<Target<'_>, RequestError> {
    match raw.first() {
        // RFC 9112 section 3.2.1, origin-form.
        Some(b'/') => origin(raw, None),
        // RFC 9112 section 3.2.4: asterisk-form is only used for a server-wide OPTIONS request.
        Some(b'*') if raw.len() == 1 && options => Ok(Target { path: raw, query: None, authority: None }),
        _ => absolute(raw, options),
    }
}

/// RFC 9112 section 3.2.2, absolute-form: a server MUST accept it even though most requests have origin-form.
/// Authority-form (section 3.2.3) belongs to CONNECT, which does not get here, and looks like a scheme that we
/// do not serve.
fn absolute(raw: &[u8], options: bool) -> Result<Target<'_>, RequestError> {
    let (default_port, rest) = if starts_with(raw, b"http://") {
        (80, &raw[7..])
    } else if starts_with(raw, b"https://") {
        (443, &raw[8..])
    } else {
        return Err(RequestError::Target);
    };
    let host_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(host_end);
    // RFC 9110 section 4.2.4: userinfo in a reference from an untrusted source is to be treated as an error.
    if host.contains(&b'@') {
        return Err(RequestError::UserInfo);
    }
    // RFC 9110 section 4.2.1: a recipient MUST reject an http URI with an empty host.
    if !host::is_valid(host) {
        return Err(RequestError::Host);
    }
    let authority = Some(Authority { host, default_port });
    if rest.is_empty() && options {
        // RFC 9112 section 3.2.4: the last proxy MUST send "*" for an OPTIONS with neither path nor query.
        return Ok(Target { path: b"*", query: None, authority });
    }
    origin(rest, authority)
}

fn starts_with(raw: &[u8], lower: &[u8]) -> bool {
    raw.get(..lower.len()).is_some_and(|start| start.eq_ignore_ascii_case(lower))
}

/// Path and query. Visible ASCII passes (browsers do send `|` and `"`), except a fragment, which never belongs
/// on the wire (RFC 9112 section 3.2), and escapes in the path that are not two hexadecimal digits, which
/// decoders read in different ways. Stray percent signs in queries are common and mean nothing to routing.
fn origin<'b>(raw: &'b [u8], authority: Option<Authority<'b>>) -> Result<Target<'b>, RequestError> {
    let path_end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
    let (path, query) = raw.split_at(path_end);
    let query = query.get(1..);
    for (index, byte) in path.iter().enumerate() {
        match byte {
            b'%' => {
                let digits = path.get(index + 1..index + 3);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(RequestError::Escape);
                }
            }
            b'#' => return Err(RequestError::Fragment),
            b'!'..=b'~' => {}
            _ => return Err(RequestError::Target),
        }
    }
    for byte in query.unwrap_or_default() {
        match byte {
            b'#' => return Err(RequestError::Fragment),
            b'!'..=b'~' => {}
            _ => return Err(RequestError::Target),
        }
    }
    // RFC 9112 section 3.2.1: if the target's path is empty, the client MUST send "/".
    let path = if path.is_empty() { b"/" } else { path };
    Ok(Target { path, query, authority })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, options: bool, path: &str, query: Option<&str>, host: Option<(&str, u16)>) {
        let authority = host.map(|(host, default_port)| Authority { host: host.as_bytes(), default_port });
        let expected = Target { path: path.as_bytes(), query: query.map(str::as_bytes), authority };
        assert_eq!(parse(raw.as_bytes(), options), Ok(expected), "{raw}");
    }

    #[test]
    fn forms() {
        check("/", false, "/", None, None);
        check("/a/b?c=d", false, "/a/b", Some("c=d"), None);
        check("/?", false, "/", Some(""), None);
        check("/a?b?c", false, "/a", Some("b?c"), None);
        check("//a/../b", false, "//a/../b", None, None);
        check("/%41%2f|\"", false, "/%41%2f|\"", None, None);
        check("/a?100%", false, "/a", Some("100%"), None);
        check("*", true, "*", None, None);
        check("http://a/b", false, "/b", None, Some(("a", 80)));
        check("HTTPS://a:1?q", false, "/", Some("q"), Some(("a:1", 443)));
        check("http://a", false, "/", None, Some(("a", 80)));
        check("http://a", true, "*", None, Some(("a", 80)));
        check("http://a/", true, "/", None, Some(("a", 80)));
    }

    #[test]
    fn refusals() {
        for (raw, error) in [
            ("*", RequestError::Target),
            ("**", RequestError::Target),
            ("a", RequestError::Target),
            ("example.com:80", RequestError::Target),
            ("ftp://a/", RequestError::Target),
            ("http:/a", RequestError::Target),
            ("http:a", RequestError::Target),
            ("?q", RequestError::Target),
            ("http://", RequestError::Host),
            ("http:///a", RequestError::Host),
            ("http://a b/", RequestError::Host),
            ("http://u@a/", RequestError::UserInfo),
            ("http://a\\@b/", RequestError::UserInfo),
            ("http://a#/", RequestError::Fragment),
            ("/a#b", RequestError::Fragment),
            ("/a?b#c", RequestError::Fragment),
            ("/%", RequestError::Escape),
            ("/%4", RequestError::Escape),
            ("/%4g", RequestError::Escape),
            ("/%%41", RequestError::Escape),
            ("/%4?1", RequestError::Escape),
            ("/\u{e9}", RequestError::Target),
            ("/?\u{e9}", RequestError::Target),
            ("/a\u{7f}", RequestError::Target),
        ] {
            assert_eq!(parse(raw.as_bytes(), false), Err(error), "{raw}");
        }
    }
}
