//! What was rewritten has one reading, also for readers that are less strict than we are.

use lb_io::http1::request::{self, FieldStorage, RequestHead};
use lb_io::http1::response::{self, RequestKind};
use lb_io::http1::rewrite::{self, Forwarded, PathRewrite, RequestRewrite, ResponseRewrite};
use lb_io::http1::{Framing, Limits, Version, scan};
use proptest::prelude::*;
use proptest::sample::select;

use crate::generate::{request, response};
use crate::relay::{Requests, plain_request};

/// Field lines as a careless reader finds them: any line end, `_` for `-`, whitespace anywhere.
fn careless(head: &[u8]) -> Vec<(String, String)> {
    head.split(|byte| matches!(byte, b'\r' | b'\n'))
        .skip(1)
        .filter_map(|line| {
            let line = String::from_utf8_lossy(line).replace('_', "-").to_lowercase();
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// What a careless reader takes for the framing.
fn careless_framing(head: &[u8]) -> (Vec<String>, Vec<String>) {
    let values = |wanted: &str| {
        careless(head).into_iter().filter(|(name, _)| name == wanted).map(|(_, value)| value).collect()
    };
    (values("content-length"), values("transfer-encoding"))
}

fn assert_one_reading(head: &[u8], framing: Framing) {
    let expected = match framing {
        Framing::None | Framing::UntilClose => (vec![], vec![]),
        Framing::Length(length) => (vec![length.to_string()], vec![]),
        Framing::Chunked => (vec![], vec!["chunked".to_owned()]),
    };
    assert_eq!(careless_framing(head), expected, "{}", head.escape_ascii());
    assert!(head.ends_with(b"\r\n\r\n"));
    // One empty line, at the end; no control bytes but the line ends.
    assert_eq!(scan::head_end(head, 0), Some(head.len()));
    assert!(head.split(|byte| *byte == b'\n').all(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
    }));
}

fn parse<'h>(head: &'h [u8], storage: &'h mut FieldStorage<'h>) -> Option<RequestHead<'h>> {
    request::parse(head, storage, &Limits::default()).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is forwarded, read again as a client's bytes, is the same messages.
    #[test]
    fn forwarded_bytes_read_the_same(bytes in request()) {
        let first = Requests::of([&bytes[..]]);
        for (message, asked) in first.messages.iter().take(first.complete).zip(&first.asked) {
            // What HTTP/1.0 may leave out of a head, HTTP/1.1 may not.
            if asked.kind.version == Version::Http10 {
                continue;
            }
            let again = Requests::of([&message[..]]);
            prop_assert_eq!(again.refused, None);
            prop_assert_eq!(again.complete, 1, "{}", message.escape_ascii());
            prop_assert_eq!(&again.messages[0], message);
            prop_assert_eq!(again.asked[0].kind, asked.kind);
        }
    }

    #[test]
    fn requests_have_one_reading(
        bytes in request(),
        trusted: bool,
        upgrade: bool,
        path in select(vec![PathRewrite::Keep, PathRewrite::Replace(b"/new")]),
        host in select(vec![None, Some(&b"b.test:81"[..])]),
        remove in select(vec![vec![], vec!["content-length", "x-a"], vec!["Host", "Transfer-Encoding"]]),
        set in select(vec![
            vec![],
            vec![("x-a", "b")],
            vec![("content-length", "7"), ("Transfer-Encoding", "chunked")],
            vec![("x", "a\r\ncontent-length: 7"), ("x\r\ny", "z"), ("transfer_encoding", "chunked")],
        ]),
    ) {
        let skip = scan::skip_empty_line(&bytes);
        let Some(end) = scan::head_end(&bytes[skip..], 0) else { return Ok(()) };
        let mut storage = FieldStorage::new();
        let Some(head) = parse(&bytes[skip..][..end], &mut storage) else { return Ok(()) };
        let rewrite = RequestRewrite {
            path,
            host,
            remove: &remove,
            set: &set,
            forwarded: Forwarded { trusted, ..plain_request().forwarded },
            strip_cookies: &[b"lb"],
            upgrade,
            ..plain_request()
        };
        let mut out = Vec::new();
        rewrite::request(&mut out, &head, &rewrite);
        assert_one_reading(&out, head.body);
        let fields = careless(&out);
        let count = |wanted: &str| fields.iter().filter(|(name, _)| name == wanted).count();
        prop_assert_eq!(count("host"), 1);
        prop_assert!(count("x-forwarded-for") == 1 && count("x-request-id") == 1 && count("connection") <= 1);
        let stripped = |cookies: &str| !cookies.split(';').any(|cookie| cookie.trim().starts_with("lb="));
        prop_assert!(fields.iter().all(|(name, value)| name != "cookie" || stripped(value)));
        // The same body for a reader as strict as we are.
        if host.or(head.host).is_some() {
            let mut storage = FieldStorage::new();
            let again = parse(&out, &mut storage);
            prop_assert_eq!(again.map(|again| again.body), Some(head.body), "{}", out.escape_ascii());
        }
    }

    #[test]
    fn responses_have_one_reading(bytes in response(), head: bool, old: bool, legacy: bool, private: bool, keep_alive: bool) {
        let version = if old { Version::Http10 } else { Version::Http11 };
        let kind = RequestKind { head, upgrade_sent: true, version };
        let Some(end) = scan::head_end(&bytes, 0) else { return Ok(()) };
        let mut storage = FieldStorage::new();
        let Ok(parsed) = response::parse(&bytes[..end], &mut storage, kind, legacy) else { return Ok(()) };
        let framing = parsed.framing_for(version);
        let rewrite = ResponseRewrite {
            client: version,
            keep_alive,
            framing,
            remove: &["content-length"],
            set: &[("transfer-encoding", "chunked"), ("x", "a\nb")],
            lines: b"set-cookie: a=b\r\n",
            private,
        };
        let mut out = Vec::new();
        rewrite::response(&mut out, &parsed, &rewrite);
        if !head && parsed.status != 304 {
            assert_one_reading(&out, framing);
        }
        // A client that reads it as strictly as we do ends the body at the same place.
        let mut storage = FieldStorage::new();
        let again = response::parse(&out, &mut storage, kind, false);
        let again = again.map(|again| (again.status, again.framing, again.keep_alive));
        let stays = match parsed.status {
            101 => false,
            100..200 => true,
            _ => keep_alive && framing != Framing::UntilClose,
        };
        prop_assert_eq!(again, Ok((parsed.status, framing, stays)), "{}", out.escape_ascii());
        if private {
            let controls: Vec<_> = careless(&out).into_iter().filter(|(name, _)| name == "cache-control").collect();
            prop_assert!(controls.iter().any(|(_, value)| value.contains("private")));
            prop_assert!(!controls.iter().any(|(_, value)| value.split(',').any(|word| word.trim() == "public")));
        }
    }
}
