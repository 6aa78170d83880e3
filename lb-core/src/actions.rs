//! What a route does to requests and responses on their way. The same type in a spec and in a snapshot.

use crate::path;

/// What a route does to a request and its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Host header towards the server; absent: as received.
    pub set_host: Option<String>,
    /// A prefix, by whole segments, that is taken off the path.
    pub strip_prefix: Option<String>,
    /// A path that takes the place of the received one; the query stays.
    pub replace_path: Option<String>,
    /// Edits of request headers.
    pub request: HeaderEdits,
    /// Edits of response headers.
    pub response: HeaderEdits,
    /// Answers with a redirect; no backend then.
    pub redirect: Option<Redirect>,
    /// Answers with a fixed reply; no backend then.
    pub reply: Option<Reply>,
    /// Bytes of a request body at most; more is refused with 413. Absent: no bound.
    pub max_body: Option<u64>,
    /// Bodies (HTML) of our own local replies, by status.
    pub error_pages: Vec<(u16, String)>,
}

/// Edits of header fields: first all `remove`, then all `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names (lower-case in a snapshot) and values; each replaces all lines of that name.
    pub set: Vec<(String, String)>,
    /// Names (lower-case in a snapshot) whose lines are all removed.
    pub remove: Vec<String>,
}

/// A redirect. Without `location`, the URL of the request with the given parts replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308; absent: 302.
    pub status: Option<u16>,
    /// The whole location, in which `{scheme}`, `{host}`, `{path}` and `{query}` (with its `?`) stand for the
    /// request's.
    pub location: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Host, with a port if it needs one.
    pub host: Option<String>,
    /// Path; the query stays.
    pub path: Option<String>,
}

/// A fixed reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599; absent: 200.
    pub status: Option<u16>,
    /// The body.
    pub body: String,
    /// Content type; absent: `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
}

/// Status of a redirect that names none.
pub const REDIRECT_STATUS: u16 = 302;
/// Content type of a reply that names none.
pub const REPLY_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

impl Actions {
    /// The path to send to the server, without query, where it is not the received one. The prefix is taken
    /// off the bytes as received: octets that need no encoding count as equal, encoded or not.
    pub fn forwarded_path<'a>(&'a self, received: &'a [u8]) -> Option<&'a [u8]> {
        if let Some(replaced) = &self.replace_path {
            return Some(replaced.as_bytes());
        }
        let rest = path::strip_prefix(received, self.strip_prefix.as_ref()?.as_bytes())?;
        Some(if rest.is_empty() { b"/" } else { rest })
    }

    /// The body for a local reply of this status, if the route has its own.
    pub fn error_page(&self, status: u16) -> Option<&str> {
        self.error_pages.iter().find(|(of, _)| *of == status).map(|(_, body)| body.as_str())
    }
}

impl Redirect {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(REDIRECT_STATUS)
    }

    /// Appends the Location for a request. `host` is the authority as received, `path` and `query` as well;
    /// bytes that may not stand in a URL never get into the header: they are percent-encoded.
    pub fn write_location(
        &self,
        host: &[u8],
        path: &[u8],
        query: Option<&[u8]>,
        secure: bool,
        out: &mut Vec<u8>,
    ) {
        let scheme = self.scheme.as_deref().unwrap_or(if secure { "https" } else { "http" });
        let host = self.host.as_deref().map_or(host, str::as_bytes);
        let path = self.path.as_deref().map_or(path, str::as_bytes);
        let write_query = |out: &mut Vec<u8>| {
            if let Some(query) = query {
                out.push(b'?');
                path::write_url_bytes(query, out);
            }
        };
        let Some(template) = &self.location else {
            out.extend_from_slice(scheme.as_bytes());
            out.extend_from_slice(b"://");
            path::write_url_bytes(host, out);
            path::write_url_bytes(path, out);
            write_query(out);
            return;
        };
        let mut rest = template.as_str();
        while let Some(open) = rest.find('{') {
            path::write_url_bytes(&rest.as_bytes()[..open], out);
            rest = &rest[open..];
            let close = rest.find('}').map_or(rest.len(), |index| index + 1);
            match &rest[..close] {
                "{scheme}" => out.extend_from_slice(scheme.as_bytes()),
                "{host}" => path::write_url_bytes(host, out),
                "{path}" => path::write_url_bytes(path, out),
                "{query}" => write_query(out),
                other => path::write_url_bytes(other.as_bytes(), out),
            }
            rest = &rest[close..];
        }
        path::write_url_bytes(rest.as_bytes(), out);
    }
}

impl Reply {
    /// The status to answer with.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or(200)
    }

    /// The content type to answer with.
    pub fn content_type(&self) -> &str {
        self.content_type.as_deref().unwrap_or(REPLY_CONTENT_TYPE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_on_their_way() {
        let strip = Actions { strip_prefix: Some("/cart".into()), ..Actions::default() };
        for (received, sent) in [
            ("/cart", Some("/")),
            ("/cart/", Some("/")),
            ("/cart/7%2F8", Some("/7%2F8")),
            ("/%63art/7", Some("/7")),
            ("/cartoon", None),
            ("/car", None),
            ("/", None),
        ] {
            assert_eq!(strip.forwarded_path(received.as_bytes()), sent.map(str::as_bytes), "{received}");
        }
        let replace = Actions { replace_path: Some("/new".into()), ..Actions::default() };
        assert_eq!(replace.forwarded_path(b"/old"), Some(&b"/new"[..]));
        assert_eq!(Actions::default().forwarded_path(b"/old"), None);
    }

    #[test]
    fn locations() {
        let location = |redirect: Redirect, secure| {
            let mut out = Vec::new();
            redirect.write_location(b"a.example:8080", b"/x y", Some(b"q=1"), secure, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(location(Redirect::default(), false), "http://a.example:8080/x%20y?q=1");
        let https =
            Redirect { scheme: Some("https".into()), host: Some("b.example".into()), ..Default::default() };
        assert_eq!(location(https, false), "https://b.example/x%20y?q=1");
        let template =
            Redirect { location: Some("/new{path}{query}&h={host}{what}{".into()), ..Default::default() };
        assert_eq!(location(template, true), "/new/x%20y?q=1&h=a.example:8080%7Bwhat%7D%7B");
    }
}
