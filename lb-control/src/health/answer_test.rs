//! Answers of servers, whole and in pieces.

use super::*;
use crate::health::settings::HttpProbe;

fn http(method: &str, body: Option<&str>) -> Probe {
    Probe::Http(HttpProbe {
        method: method.to_owned(),
        path: "/healthz".to_owned(),
        host: None,
        headers: Vec::new(),
        statuses: Statuses::default(),
        body: body.map(str::to_owned),
    })
}

/// What is found in an answer, which must not depend on the pieces that it comes in.
#[track_caller]
fn found(probe: &Probe, answer: &[u8]) -> Found {
    let mut first = None;
    for len in 0..=answer.len() {
        if let Some(found) = judge(probe, &answer[..len], false) {
            first = Some(found);
            break;
        }
    }
    let at_end = judge(probe, answer, true).expect("a verdict at the end");
    let Some(first) = first else { return at_end };
    let whole = judge(probe, answer, false).expect("a verdict once is one for ever");
    assert_eq!((first.sort, first.status), (whole.sort, whole.status), "{} / {}", first.words, whole.words);
    whole
}

#[track_caller]
fn check(probe: &Probe, answer: &str, sort: Sort, words: &str) {
    let found = found(probe, answer.as_bytes());
    assert_eq!((found.sort, &*found.words), (sort, words), "to {answer:?}");
}

#[test]
fn http_answers() {
    use Sort::{Answered, WrongAnswer, WrongStatus};
    let plain = http("GET", None);
    for (answer, sort, words) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Answered, "status 200"),
        ("HTTP/1.1 204 No Content\r\n\r\n", Answered, "status 204"),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", Answered, "status 200"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Answered, "status 200"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n", Answered, "status 200"),
        ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n", Answered, "status 301"),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", WrongStatus, "status 503, expected 200-399"),
        ("HTTP/1.1 404 Gone\r\ncontent-len", WrongAnswer, "its answer broke off"),
        ("HTTP/1.1 101 Switching\r\n\r\n", WrongStatus, "status 101, expected 200-399"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", WrongAnswer, "its answer broke off"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
            WrongAnswer,
            "its answer broke off",
        ),
        ("", WrongAnswer, "it closed the connection without an answer"),
        ("SSH-2.0-x\r\n", WrongAnswer, "no HTTP response (invalid HTTP version): `S`"),
    ] {
        let found = found(&plain, answer.as_bytes());
        assert_eq!(found.sort, sort, "to {answer:?}: {}", found.words);
        if !words.starts_with("no HTTP") {
            assert_eq!(found.words, words, "to {answer:?}");
        }
    }
    for lengths in
        ["content-length: 1\r\ncontent-length: 2\r\n", "content-length: -1\r\n", "content-length: \r\n"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\nok");
        let words = "it says two lengths of its body, or none that is one";
        check(&plain, &answer, WrongAnswer, words);
    }
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokay\r\n";
    check(&plain, chunks, WrongAnswer, "the chunks of its body are none");
    check(&http("HEAD", None), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Answered, "status 200");
}

#[test]
fn bodies_are_looked_at_without_their_chunks() {
    let ready = http("GET", Some("ready"));
    let split = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n4\r\ndy \n\r\n0\r\n\r\n";
    check(&ready, split, Sort::Answered, "status 200");
    let without = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nread";
    check(&ready, without, Sort::WrongAnswer, "no `ready` in its body");
    // What is behind the body is not part of it.
    let behind = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreadready";
    assert_eq!(judge(&ready, behind.as_bytes(), false).expect("whole").sort, Sort::WrongAnswer);
}

#[test]
fn endless_answers_end() {
    let plain = http("GET", None);
    let endless = |head: &str, fill: &str, len: usize| [head, &fill.repeat(len / fill.len())].concat();
    let head = endless("HTTP/1.1 200 OK\r\n", "x-fill: 0123456789\r\n", HEAD_LEN_MAX);
    assert_eq!(judge(&plain, head.as_bytes(), false).expect("bounded").sort, Sort::WrongAnswer);
    let interim = endless("", "HTTP/1.1 102 Wait\r\n\r\n", 4096);
    check(&plain, &interim, Sort::WrongAnswer, "too many interim responses");
    for head in ["", "content-length: 99999999999999999999999999\r\n", "transfer-encoding: chunked\r\n"] {
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n");
        let body = endless(&head, "3\r\nabc\r\n", BODY_LEN_MAX + 100);
        assert_eq!(judge(&plain, body.as_bytes(), false).expect("bounded").sort, Sort::Answered, "{head}");
    }
    let redis = "x".repeat(REPLY_LEN_MAX);
    assert_eq!(judge(&Probe::Redis, redis.as_bytes(), false).expect("bounded").sort, Sort::WrongAnswer);
    let banner = Probe::Exchange { send: Vec::new(), expect: b"220".to_vec() };
    assert_eq!(judge(&banner, redis.as_bytes(), false).expect("bounded").sort, Sort::WrongAnswer);
    let postgres = Probe::Postgres { user: "lb".to_owned() };
    let long = [b"R".as_slice(), &u32::MAX.to_be_bytes()].concat();
    assert_eq!(judge(&postgres, &long, false).expect("bounded").sort, Sort::WrongAnswer);
}

#[test]
fn redis_answers() {
    use Sort::{Answered, WrongAnswer, WrongStatus};
    for (answer, sort, words) in [
        ("+PONG\r\n", Answered, "answered +PONG"),
        ("-NOAUTH Authentication required.\r\n", Answered, "answered, and wants a password"),
        ("-LOADING the dataset\r\n", WrongStatus, "answered `-LOADING the dataset`"),
        ("HTTP/1.1 400\r\n", WrongAnswer, "no Redis reply: `HTTP/1.1 400`"),
        ("+PO", WrongAnswer, "its answer broke off"),
    ] {
        check(&Probe::Redis, answer, sort, words);
    }
}

#[test]
fn postgres_answers() {
    let probe = Probe::Postgres { user: "lb".to_owned() };
    let error = |code: &str, text: &str| {
        let body = format!("SFATAL\0C{code}\0M{text}\0\0");
        [b"E".as_slice(), &(body.len() as u32 + 4).to_be_bytes(), body.as_bytes()].concat()
    };
    for (answer, sort, words) in [
        (b"R\0\0\0\x08\0\0\0\0".to_vec(), Sort::Answered, "began a session"),
        (
            error("28000", "role \"lb\" does not exist"),
            Sort::Answered,
            "answered `role \\\"lb\\\" does not exist`",
        ),
        (error("57P03", "starting up"), Sort::WrongStatus, "answered `starting up`"),
        (error("53300", "too many clients"), Sort::WrongStatus, "answered `too many clients`"),
        (b"HTTP/1.1".to_vec(), Sort::WrongAnswer, "no PostgreSQL reply: `HTTP/1.1`"),
        (b"R\0\0\0\x08\0".to_vec(), Sort::WrongAnswer, "its answer broke off"),
        (b"E\0\0\0\x01".to_vec(), Sort::WrongAnswer, "no PostgreSQL reply: `E\\0\\0\\0\\u{1}`"),
    ] {
        let found = found(&probe, &answer);
        assert_eq!((found.sort, &*found.words), (sort, words));
    }
}

#[test]
fn anything_that_was_asked_for() {
    let smtp = Probe::Exchange { send: b"EHLO lb\r\n".to_vec(), expect: b"250".to_vec() };
    check(&smtp, "220 mail\r\n250 ok\r\n", Sort::Answered, "answered `250`");
    check(&smtp, "", Sort::WrongAnswer, "it closed the connection without `250`");
    check(&smtp, "554 no\u{1b}[2J", Sort::WrongAnswer, "answered `554 no\\u{1b}[2J` without `250`");
    assert_eq!(judge(&Probe::Connect, b"", false).expect("at once").sort, Sort::Connected);
}

proptest::proptest! {
    /// Whatever comes, in whatever pieces: no panic, and a verdict at the end.
    #[test]
    fn any_bytes_have_a_verdict(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        beginning in 0_usize..8,
        cut in 0_usize..200,
    ) {
        let beginnings: [&[u8]; 8] = [
            b"",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2",
            b"+PO",
            b"E\0\0\0",
            b"R\0\0\0\x08",
        ];
        let answer = [beginnings[beginning], &bytes].concat();
        let banner = Probe::Exchange { send: Vec::new(), expect: b"220".to_vec() };
        let postgres = Probe::Postgres { user: "lb".to_owned() };
        for probe in [http("GET", Some("ok")), http("HEAD", None), Probe::Redis, postgres, banner] {
            let _ = judge(&probe, &answer[..cut.min(answer.len())], false);
            proptest::prop_assert!(judge(&probe, &answer, true).is_some());
        }
    }
}

#[test]
fn requests() {
    let address = "10.0.0.1:80".parse().expect("an address");
    let sent = |probe: &Probe| String::from_utf8(request(probe, address)).expect("text");
    let plain = "GET /healthz HTTP/1.1\r\nhost: 10.0.0.1:80\r\nuser-agent: lb-health\r\naccept: */*\r\n\
                 connection: close\r\n\r\n";
    assert_eq!(sent(&http("GET", None)), plain);
    let Probe::Http(mut own) = http("HEAD", None) else { unreachable!("made above") };
    own.host = Some("app".to_owned());
    own.headers = vec![("user-agent".to_owned(), "mine".to_owned())];
    let with =
        "HEAD /healthz HTTP/1.1\r\nhost: app\r\naccept: */*\r\nuser-agent: mine\r\nconnection: close\r\n\r\n";
    assert_eq!(sent(&Probe::Http(own)), with);
    let startup = request(&Probe::Postgres { user: "lb".to_owned() }, address);
    assert_eq!(startup.len() as u32, u32::from_be_bytes(startup[..4].try_into().expect("four bytes")));
    assert!(startup[8..].starts_with(b"user\0lb\0database\0postgres\0") && startup.ends_with(b"\0\0"));
}
