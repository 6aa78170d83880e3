//! The corpus, whole and byte by byte.

use std::collections::HashSet;

use crate::corpus::{self, Refusal, RequestCase, ResponseCase, Stage};
use crate::relay::{CLIENT, ID, Refused, Requests, Responses};

#[test]
fn requests() {
    let cases = corpus::requests();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    assert_distinct(cases.iter().map(|case| case.name.as_str()));
    for case in &cases {
        let sent = case.sent();
        check_request(case, &Requests::of([&sent[..]]), "whole");
        check_request(case, &Requests::of(sent.chunks(1)), "byte by byte");
        check_request(case, &Requests::of(sent.chunks(7)), "by sevens");
    }
}

#[test]
fn responses() {
    let cases = corpus::responses();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    assert_distinct(cases.iter().map(|case| case.name.as_str()));
    for case in &cases {
        let received = case.received();
        check_response(case, [&received[..]].into_iter(), "whole");
        check_response(case, received.chunks(1), "byte by byte");
        check_response(case, received.chunks(7), "by sevens");
    }
}

fn assert_distinct<'a>(names: impl Iterator<Item = &'a str>) {
    let mut seen = HashSet::new();
    for name in names {
        assert!(seen.insert(name), "two cases are named {name:?}");
    }
}

fn check_request(case: &RequestCase, got: &Requests, how: &str) {
    let context = format!("request {:?} ({}), {how}", case.name, case.class);
    let expected = case.forwarded(CLIENT, std::iter::repeat(ID));
    // What routing refuses, the codec takes.
    let by_route = case.refuse.as_ref().is_some_and(|refusal| refusal.at == Stage::Route);
    let complete = expected.len() + usize::from(by_route);
    assert_eq!(got.complete, complete, "{context}: messages; {:?}", got.refused);
    for (message, expected) in got.messages.iter().zip(&expected) {
        assert_eq!(text(message), text(expected), "{context}");
    }
    check_refusal(case.refuse.as_ref(), got.refused.as_ref(), &context);
}

fn check_response<'a>(case: &ResponseCase, pieces: impl Iterator<Item = &'a [u8]>, how: &str) {
    let context = format!("response {:?} ({}), {how}", case.name, case.class);
    let sent = case.sent();
    let requests = Requests::of([&sent[..]]);
    let mut got = Responses::new(requests.asked[0], case.legacy);
    for piece in pieces {
        got.feed(piece);
    }
    if case.ends {
        got.end();
    }
    check_refusal(case.refuse.as_ref(), got.refused.as_ref(), &context);
    if case.refuse.is_none() {
        assert_eq!(text(&got.client), text(&case.forwarded()), "{context}");
        assert!(got.done, "{context}: not done");
        assert_eq!(got.closes, case.closes, "{context}: closes");
        assert_eq!(got.reuse(), case.reuse, "{context}: reuse");
    }
}

fn check_refusal(expected: Option<&Refusal>, got: Option<&Refused>, context: &str) {
    let expected = expected.filter(|refusal| refusal.at != Stage::Route);
    let Some(expected) = expected else {
        assert_eq!(got, None, "{context}");
        return;
    };
    let got = got.unwrap_or_else(|| panic!("{context}: was not refused"));
    let word = expected.word.as_deref().unwrap_or(got.word);
    assert_eq!(
        (got.status, got.word, got.in_body),
        (expected.status, word, expected.at == Stage::Body),
        "{context}"
    );
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(r"\r\n", "\\r\\n\n")
}
