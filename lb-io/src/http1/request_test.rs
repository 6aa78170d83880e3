//! What the head says beyond the verdict, which `tests/corpus/requests.toml` tables.

use super::*;

fn parsed<R>(head: &str, look: impl FnOnce(RequestHead<'_>) -> R) -> R {
    let mut storage = FieldStorage::new();
    look(parse(head.as_bytes(), &mut storage, &Limits::default()).expect(head))
}

fn refused(head: &[u8], limits: Limits) -> Option<RequestError> {
    parse(head, &mut FieldStorage::new(), &limits).err()
}

#[test]
fn parts() {
    parsed(
        "PUT http://A.test:80/b/c?d=e HTTP/1.1\r\nHost: a.test\r\nX-Y:  z \r\nContent-Length: 07\r\n\r\n",
        |head| {
            assert_eq!(head.method, b"PUT");
            assert_eq!(head.raw_target, b"http://A.test:80/b/c?d=e");
            assert_eq!(head.path, b"/b/c");
            assert_eq!(head.query, Some(&b"d=e"[..]));
            assert_eq!(head.host, Some(&b"A.test:80"[..]));
            assert_eq!(head.version, Version::Http11);
            assert_eq!(head.body, Framing::Length(7));
            assert_eq!(head.field("x-y"), Some(&b"z"[..]));
            assert_eq!(head.field("x-z"), None);
            assert_eq!(head.fields.len(), 3);
            assert!(!head.is_head());
        },
    );
}

#[test]
fn keep_alive() {
    for (version, fields, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: CLOSE\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(parsed(&head, |head| head.keep_alive), expected, "{head:?}");
    }
}

#[test]
fn expectation_and_upgrade() {
    let expect = |head: &str| parsed(head, |head| head.expect_continue);
    assert!(expect("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"));
    assert!(expect(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert!(!expect("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n"));
    assert!(!expect("POST / HTTP/1.0\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n"));
    for (protocols, passes) in [
        ("websocket", true),
        ("a/1, b", true),
        ("h2c", false),
        ("a, TLS/1.0", false),
        ("a b", false),
        ("", false),
    ] {
        let head =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {protocols}\r\n\r\n");
        assert_eq!(parsed(&head, |head| head.upgrade.is_some()), passes, "{protocols}");
    }
}

#[test]
fn limits() {
    let limits = Limits { head_bytes: 100, target_bytes: 20 };
    let fits = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(68));
    assert_eq!(fits.len(), 100);
    assert_eq!(refused(fits.as_bytes(), limits), None);
    let over = fits.replace("yy", "yyy");
    assert_eq!(refused(over.as_bytes(), limits), Some(RequestError::HeadTooLarge));
    // What there is of a head that has no end yet.
    assert_eq!(refused(&over.as_bytes()[..100], limits), Some(RequestError::HeadTooLarge));
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(20));
    assert_eq!(refused(long.as_bytes(), limits), Some(RequestError::TargetTooLong));
    assert_eq!(refused(&b"GET /".repeat(20), limits), Some(RequestError::TargetTooLong));
}

#[test]
fn what_is_no_head() {
    for head in [
        &b""[..],
        b"\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
    ] {
        let error = refused(head, Limits::default()).expect("no head");
        assert_eq!(error.status(), 400, "{}", head.escape_ascii());
    }
    // Bytes behind the head are not part of it.
    let more = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(refused(more, Limits::default()).map(RequestError::status), Some(400));
}

#[test]
fn a_head_is_small() {
    // It stands on the stack next to FieldStorage, once per parse; nothing keeps it.
    assert!(size_of::<RequestHead<'_>>() <= 256);
    assert!(size_of::<FieldStorage<'_>>() <= 7 * 1024);
}
