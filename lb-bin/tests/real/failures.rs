//! Servers that fail, in every place of an exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::{get, once};
use crate::harness::lb::{one_server, servers};
use crate::harness::origin::ok;
use crate::harness::tools::unused_address;
use crate::harness::*;

#[track_caller]
fn refused_with(response: &Message, status: u16) -> String {
    assert_eq!(response.status(), status, "{response:?}");
    response.field("x-lb-reason").unwrap_or_else(|| panic!("no reason in {response:?}")).to_owned()
}

/// Reads one request on each connection and leaves without an answer; counts them.
fn hangs_up() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = Origin::scripted(move |conversation| {
        if conversation.request().is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (origin, count)
}

on_both_drivers! {
    a_dead_server_is_tried_around,
    only_dead_servers_are_502,
    a_backend_without_servers_in_service_is_503,
    a_repeatable_request_is_tried_once_more,
    a_post_that_was_sent_is_never_repeated,
    one_server_that_hangs_up_is_tried_at_most_twice,
    nonsense_is_502,
    a_huge_response_head_is_502,
    a_silent_server_is_504,
    a_server_that_falls_silent_cuts_the_response,
    an_unreachable_address_is_502_or_504_in_time,
    backups_serve_when_no_primary_can,
    weights_are_kept,
}

fn a_dead_server_is_tried_around(driver: Driver) {
    let alive = Origin::named("alive");
    let lb = Lb::start(driver, servers(&[("dead", unused_address()), ("alive", alive.address)]));
    for number in 0..40 {
        let body = if number % 2 == 0 { "" } else { "hello" };
        let method = if number % 2 == 0 { "GET" } else { "POST" };
        let got = once(
            lb.web(),
            format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        );
        // Nothing was sent to the dead one: also a POST may go elsewhere.
        assert_eq!((got.status(), got.text().as_str()), (200, "alive"));
    }
    lb.access_line(&["app/alive"]);
}

fn only_dead_servers_are_502(driver: Driver) {
    let lb = Lb::start(driver, servers(&[("a", unused_address()), ("b", unused_address())]));
    let mut client = Client::connect(lb.web());
    for _ in 0..3 {
        let got = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let word = got.field("x-lb-reason").expect("a reason").to_owned();
        assert!([502, 503].contains(&got.status()), "{got:?}");
        lb.access_line(&[&word]);
    }
}

fn a_backend_without_servers_in_service_is_503(driver: Driver) {
    let origin = Origin::named("a");
    let config = one_server(&origin).replace("\" }]", "\", admin = \"maintenance\" }]");
    let lb = Lb::start(driver, config);
    refused_with(&get(lb.web(), "a", "/"), 503);
    assert_eq!(origin.connections(), 0);
}

fn a_repeatable_request_is_tried_once_more(driver: Driver) {
    let (bad, count) = hangs_up();
    let good = Origin::named("good");
    let lb = Setup::new(driver, servers(&[("bad", bad.address), ("good", good.address)])).workers(1).start();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(lb.web(), "a", "/").status());
    }
    assert!(count.load(Ordering::SeqCst) >= 1, "round robin came by the bad one");
    assert_eq!(statuses[..2], [200, 200], "the first is retried whatever the budget");
}

fn a_post_that_was_sent_is_never_repeated(driver: Driver) {
    let (bad, count) = hangs_up();
    let lb = Lb::start(driver, one_server(&bad));
    for number in 1..=10 {
        let got = once(lb.web(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nonce");
        refused_with(&got, 502);
        assert_eq!(count.load(Ordering::SeqCst), number);
    }
}

fn one_server_that_hangs_up_is_tried_at_most_twice(driver: Driver) {
    let (bad, count) = hangs_up();
    let lb = Lb::start(driver, one_server(&bad));
    refused_with(&get(lb.web(), "a", "/"), 502);
    assert!(count.load(Ordering::SeqCst) <= 2);
    let line = lb.access_line(&["GET /", " 502 "]);
    assert!(line.contains("app/a"), "{line}");
}

fn nonsense_is_502(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        let Some(request) = conversation.request() else { return };
        let _ = conversation.write(match request.target() {
            "/text" => "hello, I am no HTTP server\r\n\r\n",
            "/both" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "/lengths" => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            "/bare-lf" => "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "/fold" => "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            "/status" => "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
            "/interim" => "HTTP/1.1 102 P\r\n\r\n",
            other => panic!("{other}"),
        });
        if request.target() == "/interim" {
            for _ in 0..20 {
                let _ = conversation.write("HTTP/1.1 102 P\r\n\r\n");
            }
            let _ = conversation.write(ok("too late"));
        }
        conversation.until_closed();
    });
    let lb = Lb::start(driver, one_server(&origin));
    for target in ["/text", "/both", "/lengths", "/bare-lf", "/fold", "/status"] {
        // A POST, so that no second attempt blurs what is counted.
        let got = once(lb.web(), format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        refused_with(&got, 502);
    }
    let mut client = Client::connect(lb.web());
    client.send("POST /interim HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let mut interim = 0;
    loop {
        match client.try_response("GET") {
            Ok(Some(response)) if response.status() == 102 => interim += 1,
            Ok(Some(response)) => {
                refused_with(&response, 502);
                break;
            }
            _ => break,
        }
    }
    assert!(interim <= 8, "{interim} interim responses");
    origin.wait_for("each to be closed", |records| records.iter().all(|(_, ended)| ended.is_some()));
}

fn a_huge_response_head_is_502(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write("HTTP/1.1 200 OK\r\nX-Long: ");
        while conversation.write([b'x'; 10_000]).is_ok() {}
    });
    let lb = Lb::start(driver, one_server(&origin));
    refused_with(&once(lb.web(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), 502);
}

fn a_silent_server_is_504(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        conversation.until_closed();
    });
    let lb = Lb::start(driver, format!("[timeouts]\nresponse = \"300ms\"\n{}", one_server(&origin)));
    let word =
        refused_with(&once(lb.web(), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"), 504);
    lb.access_line(&[" 504 ", &word]);
    origin.wait_for("the silent one to be left", |records| records.iter().all(|(_, ended)| ended.is_some()));
}

fn a_server_that_falls_silent_cuts_the_response(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!");
        conversation.until_closed();
    });
    let lb = Lb::start(driver, format!("[timeouts]\nresponse = \"300ms\"\n{}", one_server(&origin)));
    let mut client = Client::connect(lb.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response("GET").is_err(), "a half response is not a whole one");
    origin.wait_for("the silent one to be left", |records| records.iter().all(|(_, ended)| ended.is_some()));
}

fn an_unreachable_address_is_502_or_504_in_time(driver: Driver) {
    // A listener with a full queue answers nobody: what a firewall that drops looks like.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    for _ in 0..8 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address.into());
        filling.push(socket);
    }
    let lb = Lb::start(driver, format!("[timeouts]\nconnect = \"300ms\"\n{}", servers(&[("a", address)])));
    let got = get(lb.web(), "a", "/");
    assert!([502, 504].contains(&got.status()), "{got:?}");
    assert!(got.field("x-lb-reason").is_some());
}

fn backups_serve_when_no_primary_can(driver: Driver) {
    let spare = Origin::named("spare");
    let primary_address = unused_address();
    let config = servers(&[("main", primary_address), ("spare", spare.address)])
        .replace(&format!("\"{}\" }}]", spare.address), &format!("\"{}\", backup = true }}]", spare.address));
    let lb = Lb::start(driver, config);
    for _ in 0..10 {
        assert_eq!(get(lb.web(), "a", "/").text(), "spare");
    }
    // The primary comes back and is used again.
    let primary = Origin::scripted_on(primary_address, |conversation| {
        while conversation.request().is_some() {
            let _ = conversation.write(ok("main"));
        }
    });
    until("the primary to be used again", || get(lb.web(), "a", "/").text() == "main");
    drop(primary);
}

fn weights_are_kept(driver: Driver) {
    let origins: Vec<_> = ["a", "b", "c"].map(Origin::named).into();
    let list = origins.iter().zip(["a", "b", "c"]).zip([1, 3, 0]).map(|((origin, name), weight)| {
        format!("{{ name = \"{name}\", address = \"{}\", weight = {weight} }}", origin.address)
    });
    let config = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\nbackend = \"app\"\n\
         [[backend]]\nname = \"app\"\nbalance = \"round_robin\"\nserver = [{}]\n",
        list.collect::<Vec<_>>().join(", ")
    );
    let lb = Setup::new(driver, config).workers(1).start();
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..80 {
        *counts.entry(get(lb.web(), "a", "/").text()).or_insert(0) += 1;
    }
    assert_eq!(counts, [("a".to_owned(), 20), ("b".to_owned(), 60)].into());
}
