use super::*;

#[test]
fn classes() {
    for (name, class) in [
        ("Host", Class::Host),
        ("CONTENT-LENGTH", Class::ContentLength),
        ("content_length", Class::ContentLength),
        ("Transfer-Encoding", Class::TransferEncoding),
        ("Connection", Class::Connection),
        ("Proxy-Connection", Class::Dropped),
        ("Proxy", Class::Dropped),
        ("TE", Class::Te),
        ("x-forwarded-for", Class::ForwardedFor),
        ("X-Forwarded-Proto", Class::ForwardedProto),
        ("X-Forwarded-Host", Class::ForwardedHost),
        ("X-Forwarded-Port", Class::Forwarded),
        ("X-Forwarded-", Class::EndToEnd),
        ("Forwarded", Class::Forwarded),
        ("X-Request-Id", Class::RequestId),
        ("Hosts", Class::EndToEnd),
        ("X-Host", Class::EndToEnd),
        ("Accept", Class::EndToEnd),
        ("", Class::EndToEnd),
    ] {
        assert_eq!(classify(name.as_bytes()), class, "{name}");
    }
}

#[test]
fn lengths() {
    for (value, expected) in [
        ("0", Some(0)),
        ("007", Some(7)),
        ("9223372036854775807", Some(i64::MAX as u64)),
        ("9223372036854775808", None),
        ("18446744073709551616", None),
        ("", None),
        ("+1", None),
        ("-1", None),
        ("1 ", None),
        ("1,1", None),
        ("0x1", None),
    ] {
        assert_eq!(length(value.as_bytes()), expected, "{value}");
    }
}

#[test]
fn lists() {
    let all = |value: &'static str| elements(value.as_bytes()).collect::<Vec<_>>();
    assert_eq!(all(" a ,\tb,,c"), [&b"a"[..], b"b", b"", b"c"]);
    assert_eq!(all(""), [b""]);
    let quoted: Vec<_> = quoted_elements(br#"a="x, \"y,", b, "c"#).collect();
    assert_eq!(quoted, [&br#"a="x, \"y,""#[..], b"b", b"\"c"]);
}

#[test]
fn codings() {
    let verdict = |values: &[&str]| {
        let mut codings = Codings::default();
        for value in values {
            codings.add(value.as_bytes());
        }
        codings.verdict()
    };
    assert_eq!(verdict(&[]), Coding::Absent);
    assert_eq!(verdict(&["chunked"]), Coding::Chunked);
    assert_eq!(verdict(&["Chunked"]), Coding::Chunked);
    assert_eq!(verdict(&["gzip, chunked"]), Coding::Unknown);
    assert_eq!(verdict(&["gzip", "chunked"]), Coding::Unknown);
    for malformed in
        [&[""][..], &["chunked", ""], &["chunked", "chunked"], &["chunked, x"], &["x"], &["chunked;a"]]
    {
        assert_eq!(verdict(malformed), Coding::Malformed, "{malformed:?}");
    }
}

#[test]
fn connection_options() {
    let mut connection = Connection::default();
    assert_eq!(connection.add(b"Close, ,keep-alive"), Ok(()));
    assert_eq!(connection.add(b"upgrade,x-a"), Ok(()));
    assert!(connection.close && connection.keep_alive && connection.upgrade);
    let headers = ["X-A", "Connection", "x-a", "X-B"].map(|name| Header { name, value: b"upgrade,x-a" });
    let mut classes = [Class::EndToEnd; 4];
    connection.mark(&headers, &mut classes);
    assert_eq!(classes, [Class::Dropped, Class::EndToEnd, Class::Dropped, Class::EndToEnd]);

    assert_eq!(Connection::default().add(b"a b"), Err(ConnectionFault::Malformed));
    assert_eq!(Connection::default().add(b"x, Host"), Err(ConnectionFault::Protected));
    let many = b"x,".repeat(MAX_NOMINATED);
    assert_eq!(Connection::default().add(&many), Ok(()));
    let more = b"x,".repeat(MAX_NOMINATED + 1);
    assert_eq!(Connection::default().add(&more), Err(ConnectionFault::Malformed));
    // Standard options and empty elements do not count.
    let standard = b"close,te,,".repeat(1000);
    assert_eq!(Connection::default().add(&standard), Ok(()));
}
