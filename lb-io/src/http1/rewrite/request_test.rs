use super::*;
use crate::http1::Limits;
use crate::http1::request::{FieldStorage, parse};

fn rewrite<'a>() -> RequestRewrite<'a, &'a str> {
    RequestRewrite {
        path: PathRewrite::Keep,
        host: None,
        remove: &[],
        set: &[],
        forwarded: Forwarded {
            peer: "192.0.2.7".parse().expect("an address"),
            secure: false,
            trusted: false,
        },
        request_id: "id",
        trace: None,
        strip_cookies: &[],
        upgrade: false,
    }
}

/// The rewritten head of `GET /a/b?c` with `fields`, without what is the same in all.
fn written(fields: &str, rewrite: &RequestRewrite<'_, &str>) -> String {
    let head = format!("GET /a/b?c HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    let mut storage = FieldStorage::new();
    let head = parse(head.as_bytes(), &mut storage, &Limits::default()).expect("a good head");
    let mut out = Vec::new();
    request(&mut out, &head, rewrite);
    let out = String::from_utf8(out).expect("text");
    assert!(out.ends_with("\r\n\r\n"));
    out.trim_end().replace("\r\n", "|")
}

const FORWARDED: &str =
    "|x-forwarded-for: 192.0.2.7|x-forwarded-proto: http|x-forwarded-host: a.test|x-request-id: id";

#[test]
fn actions() {
    let plain = format!("GET /a/b?c HTTP/1.1|host: a.test|X: y{FORWARDED}");
    assert_eq!(written("X: y\r\n", &rewrite()), plain);
    let replaced = RequestRewrite { path: PathRewrite::Replace(b"/z"), ..rewrite() };
    assert_eq!(written("X: y\r\n", &replaced), plain.replace("/a/b", "/z"));
    let wrong = RequestRewrite { path: PathRewrite::Replace(b"z z"), ..rewrite() };
    assert_eq!(written("X: y\r\n", &wrong), plain);
    let host = RequestRewrite { host: Some(b"b:1"), ..rewrite() };
    assert_eq!(written("X: y\r\n", &host), plain.replace("|host: a.test", "|host: b:1"));
    let removed = RequestRewrite { remove: &["x", "x-Forwarded-for", "X-Request-Id", "host"], ..rewrite() };
    let expected = "GET /a/b?c HTTP/1.1|host: a.test|x-forwarded-proto: http|x-forwarded-host: a.test";
    assert_eq!(written("X: y\r\nX: z\r\n", &removed), expected);
    let set =
        RequestRewrite { set: &[("x", "1"), ("Y", " 2 "), ("x-forwarded-proto", "https")], ..rewrite() };
    let expected = format!("GET /a/b?c HTTP/1.1|host: a.test{FORWARDED}|x: 1|Y: 2|x-forwarded-proto: https")
        .replace("|x-forwarded-proto: http|", "|");
    assert_eq!(written("X: y\r\nX: z\r\ny: 3\r\n", &set), expected);
}

#[test]
fn sets_that_would_frame_are_left_out() {
    for (name, value) in [
        ("content-length", "1"),
        ("Transfer_Encoding", "chunked"),
        ("connection", "close"),
        ("host", "b"),
        ("x y", "z"),
        ("x", "a\r\nb: c"),
        ("", "z"),
    ] {
        let set = RequestRewrite { set: &[(name, value)], ..rewrite() };
        let expected = format!("GET /a/b?c HTTP/1.1|host: a.test{FORWARDED}");
        assert_eq!(written("", &set), expected, "{name}: {value}");
    }
}

#[test]
fn trusted_peers_are_believed() {
    let trusted = RequestRewrite {
        forwarded: Forwarded { trusted: true, secure: true, ..rewrite().forwarded },
        ..rewrite()
    };
    let fields = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: c\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nForwarded: x\r\n";
    assert_eq!(
        written(fields, &trusted),
        "GET /a/b?c HTTP/1.1|host: a.test|X-Forwarded-Host: c|Forwarded: x\
         |x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7|x-forwarded-proto: https|x-request-id: id"
    );
    for peer in ["255.0.10.1", "2001:db8::1"] {
        let from = Forwarded { peer: peer.parse().expect("an address"), ..rewrite().forwarded };
        let written = written("", &RequestRewrite { forwarded: from, ..rewrite() });
        assert!(written.contains(&format!("x-forwarded-for: {peer}|")), "{written}");
    }
    let mapped = Forwarded { peer: "::ffff:192.0.2.9".parse().expect("an address"), ..rewrite().forwarded };
    let written = written("", &RequestRewrite { forwarded: mapped, ..rewrite() });
    assert!(written.contains("x-forwarded-for: 192.0.2.9|"), "{written}");
}

#[test]
fn cookies() {
    let strip = RequestRewrite { strip_cookies: &[b"lb", b"mark"], ..rewrite() };
    for (value, expected) in [
        ("a=b", "|Cookie: a=b"),
        ("a=b;  c", "|Cookie: a=b;  c"),
        ("lb=1", ""),
        ("lb=1; mark=2;", ""),
        ("lb", ""),
        ("a=b; lb=1; c=d", "|Cookie: a=b; c=d"),
        ("lb=1;a=lb;;LB=2", "|Cookie: a=lb; LB=2"),
        (" lb =1;x\"lb=2", "|Cookie: x\"lb=2"),
    ] {
        let expected = format!("GET /a/b?c HTTP/1.1|host: a.test{expected}{FORWARDED}");
        assert_eq!(written(&format!("Cookie: {value}\r\n"), &strip), expected, "{value}");
    }
}

#[test]
fn a_trace_goes_on_as_ours() {
    let fields = "TraceParent: theirs\r\ntracestate: a=1\r\nX: y\r\ntracestate: b=2\r\n";
    let passed = written(fields, &rewrite());
    assert!(passed.contains("|TraceParent: theirs|tracestate: a=1|X: y|tracestate: b=2|"), "{passed}");
    for (goes_on, state) in [(true, "|tracestate: a=1|X: y|tracestate: b=2"), (false, "|X: y")] {
        let trace = Some(Traced { parent: b"ours", goes_on });
        let expected = format!("GET /a/b?c HTTP/1.1|host: a.test{state}{FORWARDED}|traceparent: ours");
        assert_eq!(written(fields, &RequestRewrite { trace, ..rewrite() }), expected);
        let removed = RequestRewrite { trace, remove: &["traceparent"], ..rewrite() };
        assert!(!written(fields, &removed).contains("traceparent"));
    }
}
