//! What the head says beyond the verdict, which `tests/corpus/responses.toml` tables.

use super::*;

const GET: RequestKind = RequestKind { head: false, upgrade_sent: false, version: Version::Http11 };

fn parsed<R>(head: &str, request: RequestKind, look: impl FnOnce(ResponseHead<'_>) -> R) -> R {
    let mut storage = FieldStorage::new();
    look(parse(head.as_bytes(), &mut storage, request, false).expect(head))
}

#[test]
fn parts() {
    parsed("HTTP/1.1 404 Not  Found \r\nContent-Length: 3\r\nX: y\r\n\r\n", GET, |head| {
        assert_eq!(head.status, 404);
        assert_eq!(head.reason, b"Not  Found ");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.field("X"), Some(&b"y"[..]));
        assert!(head.keep_alive && !head.is_interim());
        assert_eq!(head.keep_alive_timeout_s, None);
        assert_eq!(head.framing_for(Version::Http10), Framing::Length(3));
    });
}

#[test]
fn keep_alive() {
    for (head, alive, timeout_s) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\n\r\n", true, Some(5)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: max=3, Timeout=60\r\n\r\n", true, Some(60)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=-1, x\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=99999999999\r\n\r\n", true, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, None),
        ("HTTP/1.1 200 OK\r\n\r\n", false, None),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, None),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true, None),
        ("HTTP/1.1 204 OK\r\nContent-Length: 1\r\n\r\n", false, None),
    ] {
        let got = parsed(head, GET, |head| (head.keep_alive, head.keep_alive_timeout_s));
        assert_eq!(got, (alive, timeout_s), "{head:?}");
    }
}

#[test]
fn switching() {
    let request = RequestKind { upgrade_sent: true, ..GET };
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    parsed(head, request, |head| {
        assert_eq!(head.upgrade, Some(&b"websocket"[..]));
        assert_eq!(head.framing, Framing::None);
        assert!(!head.is_interim() && !head.keep_alive);
    });
}

#[test]
fn chunks_to_old_clients() {
    parsed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GET, |head| {
        assert_eq!(head.framing_for(Version::Http11), Framing::Chunked);
        assert_eq!(head.framing_for(Version::Http10), Framing::UntilClose);
    });
}

#[test]
fn what_is_no_head() {
    for head in ["", "\r\n", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nX: y\r\n"] {
        let error = parse(head.as_bytes(), &mut FieldStorage::new(), GET, true).err();
        assert_eq!(error.map(ResponseError::status), Some(502), "{head:?}");
    }
}
