use super::*;
use crate::http1::response::{FieldStorage, RequestKind, parse};

fn rewrite<'a>() -> ResponseRewrite<'a, &'a str> {
    ResponseRewrite {
        client: Version::Http11,
        keep_alive: true,
        framing: Framing::Length(1),
        remove: &[],
        set: &[],
        lines: b"",
        private: false,
    }
}

/// The rewritten head of a 200 of one byte with `fields`.
fn written(fields: &str, rewrite: &ResponseRewrite<'_, &str>) -> String {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 1\r\n\r\n");
    let kind = RequestKind { head: false, upgrade_sent: false, version: rewrite.client };
    let mut storage = FieldStorage::new();
    let head = parse(head.as_bytes(), &mut storage, kind, true).expect("a good head");
    let mut out = Vec::new();
    response(&mut out, &head, rewrite);
    String::from_utf8(out).expect("text").trim_end().replace("\r\n", "|")
}

#[test]
fn actions() {
    let remove = ResponseRewrite { remove: &["server", "Content-Length"], ..rewrite() };
    assert_eq!(written("Server: x\r\nA: b\r\n", &remove), "HTTP/1.1 200 OK|A: b|content-length: 1");
    let set = ResponseRewrite { set: &[("a", "c"), ("transfer-encoding", "chunked")], ..rewrite() };
    assert_eq!(written("A: b\r\n", &set), "HTTP/1.1 200 OK|content-length: 1|a: c");
    let lines = ResponseRewrite { lines: b"set-cookie: a=b\r\n", ..rewrite() };
    assert_eq!(written("", &lines), "HTTP/1.1 200 OK|content-length: 1|set-cookie: a=b");
}

#[test]
fn connection() {
    let closing = ResponseRewrite { keep_alive: false, ..rewrite() };
    assert_eq!(written("", &closing), "HTTP/1.1 200 OK|connection: close|content-length: 1");
    let old = ResponseRewrite { client: Version::Http10, ..rewrite() };
    assert_eq!(written("", &old), "HTTP/1.1 200 OK|connection: keep-alive|content-length: 1");
    let until_close = ResponseRewrite { framing: Framing::UntilClose, ..rewrite() };
    assert_eq!(written("", &until_close), "HTTP/1.1 200 OK|connection: close");
    let chunked = ResponseRewrite { framing: Framing::Chunked, ..rewrite() };
    assert_eq!(written("", &chunked), "HTTP/1.1 200 OK|transfer-encoding: chunked");
}

#[test]
fn caching_of_what_is_private() {
    let private = ResponseRewrite { private: true, ..rewrite() };
    for (fields, expected) in [
        ("", "|cache-control: private"),
        ("Cache-Control: no-store\r\n", "|Cache-Control: no-store"),
        ("Cache-Control: max-age=1, Private\r\n", "|Cache-Control: max-age=1, Private"),
        ("Cache-Control: public, max-age=60\r\n", "|Cache-Control: private, max-age=60"),
        ("Cache-Control: S-MaxAge=60\r\n", "|Cache-Control: private"),
        ("Cache-Control: no-cache\r\n", "|Cache-Control: private, no-cache"),
        ("Cache-Control: private=\"a, b\", max-age=1\r\n", "|Cache-Control: private, max-age=1"),
        (
            "Cache-Control: max-age=1\r\nCache-Control: public, immutable\r\n",
            "|Cache-Control: private, max-age=1|Cache-Control: immutable",
        ),
        ("Cache-Control: max-age=1\r\nCache-Control: public\r\n", "|Cache-Control: private, max-age=1"),
        ("Cache-Control:\r\n", "|Cache-Control: private"),
        ("Cache-Control: a,\r\n b\r\n", "|Cache-Control: private, a,  b"),
    ] {
        let expected = format!("HTTP/1.1 200 OK{expected}|content-length: 1");
        assert_eq!(written(fields, &private), expected, "{fields:?}");
    }
}
