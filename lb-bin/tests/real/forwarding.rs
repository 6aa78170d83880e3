//! What of a request and a response goes on, what stays here, and what is added.

use crate::harness::client::{get, once};
use crate::harness::lb::one_server;
use crate::harness::origin::{ok, response};
use crate::harness::*;

/// An origin that answers with the head it received.
fn mirror() -> Origin {
    Origin::answering(|request| ok(&request.raw_head))
}

/// The head that reached the origin, parsed from the body of `response`.
fn mirrored(response: &Message) -> Message {
    assert_eq!(response.status(), 200, "{response:?}");
    let text = response.text();
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap().to_owned();
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Message { start, fields, ..Message::default() }
}

fn with(config: &str, listener: &str) -> String {
    config.replace("name = \"web\"\n", &format!("name = \"web\"\n{listener}\n"))
}

on_both_drivers! {
    end_to_end_fields_pass_as_they_are,
    hop_by_hop_fields_stay_here,
    forwarded_fields_of_strangers_are_replaced,
    forwarded_fields_of_trusted_peers_are_continued,
    request_ids_are_unique_and_logged,
    absolute_form_must_agree_with_host,
    the_source_behind_trusted_peers_is_matched,
    our_cookies_can_be_kept_from_servers,
    connect_is_refused,
    options_asterisk_is_answered_or_forwarded_whole,
    status_and_reason_phrase_pass,
}

fn end_to_end_fields_pass_as_they_are(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let seen = mirrored(&once(
        lb.web(),
        "GET /a/../%41?q=1&q=%20 HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n".replace("/a/../%41", "/a//%41"),
    ));
    assert_eq!(seen.start, "GET /a//%41?q=1&q=%20 HTTP/1.1");
    assert_eq!(seen.field("host"), Some("Shop.Example:8080"));

    let seen = mirrored(&once(
        lb.web(),
        "DELETE / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-two:\ttab\tand space \r\nAccept: */*\r\n\
         Cookie: a=b; c=d\r\nX-One: again\r\nX-Empty:\r\n\r\n",
    ));
    assert_eq!(seen.method(), "DELETE");
    assert_eq!(seen.all("x-one"), ["1", "again"]);
    assert_eq!(seen.field("x-two"), Some("tab\tand space"));
    assert_eq!(seen.field("cookie"), Some("a=b; c=d"));
    assert_eq!(seen.field("x-empty"), Some(""));
}

fn hop_by_hop_fields_stay_here(driver: Driver) {
    let origin = Origin::answering(|request| {
        let fields = [
            ("Connection", "keep-alive, X-Server-Hop"),
            ("Keep-Alive", "timeout=5"),
            ("X-Server-Hop", "1"),
            ("Proxy-Connection", "keep-alive"),
            ("X-End", "stays"),
        ];
        response(200, "OK", &fields, &request.raw_head)
    });
    let lb = Lb::start(driver, one_server(&origin));
    let got = once(
        lb.web(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\n\
         Proxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nX-End: to-end\r\n\r\n",
    );
    let seen = mirrored(&got);
    for name in ["x-hop", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(seen.field(name), None, "{name} is for this hop: {seen:?}");
    }
    assert!(!seen.field("connection").unwrap_or("").to_ascii_lowercase().contains("x-hop"));
    assert_eq!(seen.field("x-end"), Some("to-end"));
    for name in ["x-server-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(got.field(name), None, "{name} is for the other hop: {got:?}");
    }
    assert_eq!(got.field("x-end"), Some("stays"));
}

fn forwarded_fields_of_strangers_are_replaced(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let seen = mirrored(&once(
        lb.web(),
        "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil.example\r\nX-Forwarded-For: 8.8.8.8\r\nX-Request-Id: mine\r\n\r\n",
    ));
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.all("x-forwarded-host"), ["shop.example"]);
    let id = seen.all("x-request-id");
    assert_eq!(id.len(), 1);
    assert!(id[0] != "mine" && id[0].len() >= 16, "{id:?}");
}

fn forwarded_fields_of_trusted_peers_are_continued(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, with(&one_server(&origin), "trusted = [\"127.0.0.0/8\"]"));
    let seen = mirrored(&once(
        lb.web(),
        "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: front.example\r\nX-Request-Id: from-the-front-1\r\n\r\n",
    ));
    let hops = seen.all("x-forwarded-for").join(", ");
    assert_eq!(hops, "9.9.9.9, 127.0.0.1");
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["front.example"]);
    assert_eq!(seen.all("x-request-id"), ["from-the-front-1"]);
    lb.access_line(&["from-the-front-1"]);
}

fn request_ids_are_unique_and_logged(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let seen = mirrored(&client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        ids.insert(seen.field("x-request-id").expect("an id").to_owned());
    }
    assert_eq!(ids.len(), 20);
    for id in &ids {
        lb.access_line(&[id]);
    }
}

fn absolute_form_must_agree_with_host(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let seen =
        mirrored(&once(lb.web(), "GET http://shop.example/a?b HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
    assert_eq!(seen.start, "GET /a?b HTTP/1.1");
    assert_eq!(seen.field("host"), Some("shop.example"));
    let differs = once(lb.web(), "GET http://shop.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert_eq!(differs.status(), 421);
    assert!(differs.field("x-lb-reason").is_some());
    assert_eq!(origin.connections(), 1, "what is refused never leaves");
}

fn connect_is_refused(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let refused = once(lb.web(), "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n");
    assert_eq!(refused.status(), 501);
    assert!(refused.field("x-lb-reason").is_some());
    assert_eq!(origin.connections(), 0);
}

fn options_asterisk_is_answered_or_forwarded_whole(driver: Driver) {
    let origin = mirror();
    let lb = Lb::start(driver, one_server(&origin));
    let got = once(lb.web(), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    if got.status() == 200 {
        assert_eq!(mirrored(&got).start, "OPTIONS * HTTP/1.1");
    } else {
        assert!(got.field("x-lb-reason").is_some(), "{got:?}");
    }
}

fn status_and_reason_phrase_pass(driver: Driver) {
    let origin = Origin::answering(|request| {
        let status: u16 = request.target()[1..].parse().unwrap();
        response(status, "As I Say", &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], "x")
    });
    let lb = Lb::start(driver, one_server(&origin));
    for status in [200, 201, 299, 301, 404, 418, 500, 503, 599] {
        let got = get(lb.web(), "a", &format!("/{status}"));
        assert_eq!(got.start, format!("HTTP/1.1 {status} As I Say"));
        assert_eq!(got.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(got.field("x-lb-reason"), None, "that is for replies of our own");
    }
}

fn the_source_behind_trusted_peers_is_matched(driver: Driver) {
    let config = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\ntrusted = [\"127.0.0.0/8\", \"10.1.0.0/16\"]\n\
                  client_address = \"x-forwarded-for\"\n\
                  [[route]]\nname = \"office\"\nsource = [\"10.9.0.0/16\"]\nreply = { body = \"office\" }\n\
                  [[route]]\nname = \"others\"\nreply = { body = \"others\" }\n";
    let lb = Lb::start(driver, config);
    for (hops, wanted) in [
        ("10.9.8.7", "office"),
        ("1.1.1.1, 10.9.8.7", "office"),
        ("10.9.8.7, 1.1.1.1", "others"),
        ("10.9.8.7, 10.1.2.3", "office"),
        ("nonsense, 10.9.8.7", "office"),
        ("10.9.8.7, nonsense", "others"),
    ] {
        let got = once(lb.web(), format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {hops}\r\n\r\n"));
        assert_eq!(got.text(), wanted, "{hops}");
    }
    assert_eq!(get(lb.web(), "a", "/").text(), "others");
}

fn our_cookies_can_be_kept_from_servers(driver: Driver) {
    let origin = mirror();
    let config = format!(
        "[session]\nstrip = true\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nbackend = \"app\"\ncanary = {{ backend = \"new\", share = \"0%\", cookie = \"canary\" }}\n{}{}",
        lb::backend("app", &[("a", origin.address)]),
        lb::backend("new", &[("b", origin.address)]),
    );
    let lb = Lb::start(driver, config);
    let first = get(lb.web(), "a", "/");
    let session = first.field("set-cookie").expect("a session").split(';').next().unwrap().to_owned();
    assert!(session.starts_with("lb_session="), "{session}");
    let seen = mirrored(&once(
        lb.web(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; {session}; y=2\r\n\r\n"),
    ));
    assert_eq!(seen.all("cookie"), ["x=1; y=2"]);
}
