//! Bounds and patience towards clients, and the status and reason word that each gives.

use crate::harness::client::{get, once};
use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::*;

/// The reason word of a local reply, which must be a word.
#[track_caller]
fn reason(response: &Message) -> String {
    let word =
        response.field("x-lb-reason").unwrap_or_else(|| panic!("no reason in {response:?}")).to_owned();
    assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{word:?}");
    word
}

fn plain() -> Origin {
    Origin::answering(|_| ok("ok"))
}

on_both_drivers! {
    heads_have_a_bound,
    an_endless_head_is_cut_off,
    a_slow_head_is_408,
    an_idle_client_is_let_go,
    an_idle_server_connection_is_let_go,
    a_servers_own_idle_time_is_honoured,
    malformed_requests_are_400,
    a_bad_chunk_ends_both_sides,
    silence_on_many_connections_costs_little,
}

fn heads_have_a_bound(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, one_server(&origin));
    let head = |field: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(field));
    assert_eq!(once(lb.web(), head(60_000)).status(), 200);
    let mut client = Client::connect(lb.web());
    let _ = client.try_send(head(70_000));
    let refused = client.response();
    assert_eq!(refused.status(), 431);
    reason(&refused);

    let many = |count: usize| {
        let fields: String = (0..count).map(|number| format!("X-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    assert_eq!(once(lb.web(), many(190)).status(), 200);
    let refused = once(lb.web(), many(210));
    assert_eq!(refused.status(), 431);
    let word = reason(&refused);
    until("the refusal to be counted", || lb.metric("lb_local_replies_total", &[&word]) >= 1.0);
    lb.access_line(&[" 431 ", &word]);

    let mut client = Client::connect(lb.web());
    let _ = client.try_send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)));
    let refused = client.response();
    assert_eq!(refused.status(), 414);
    reason(&refused);
}

fn an_endless_head_is_cut_off(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, one_server(&origin));
    let before = lb.resident_bytes();
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: a\r\nX: ", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = Client::connect(lb.web());
        let _ = client.try_send(start);
        let piece = if start.ends_with("a\r\n") { "X: y\r\n".repeat(1000) } else { "x".repeat(6000) };
        for _ in 0..2000 {
            if client.try_send(&piece).is_err() {
                break;
            }
        }
        if let Ok(Some(refused)) = client.try_response("GET") {
            assert!([414, 431].contains(&refused.status()), "{refused:?}");
        }
    }
    assert!(lb.resident_bytes().saturating_sub(before) < 8 << 20);
}

fn a_slow_head_is_408(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, format!("[timeouts]\nrequest_head = \"300ms\"\n{}", one_server(&origin)));
    let mut client = Client::connect(lb.web());
    client.send("GET / HTTP/1.1\r\nHos");
    let slow = client.response();
    assert_eq!(slow.status(), 408);
    let word = reason(&slow);
    client.assert_closed();
    lb.access_line(&[" 408 ", &word]);
    assert_eq!(origin.connections(), 0);
    // Also when bytes keep trickling, and on a connection that served before.
    let mut client = Client::connect(lb.web());
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    client.send("GET / HTTP/1.1\r\nX: ");
    client.wire().set_patience(std::time::Duration::from_millis(20));
    let mut answered = None;
    until("the trickle to be cut", || {
        let _ = client.try_send("x");
        match client.try_response("GET") {
            Ok(response) => {
                answered = response;
                true
            }
            Err(error) => error.kind() != std::io::ErrorKind::TimedOut,
        }
    });
    if let Some(slow) = answered {
        assert_eq!(slow.status(), 408);
    }
}

fn an_idle_client_is_let_go(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, format!("[timeouts]\nidle_down = \"300ms\"\n{}", one_server(&origin)));
    let mut client = Client::connect(lb.web());
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    client.assert_closed();
    assert_eq!(lb.access_log().lines().count(), 1, "an idle end is no exchange");
}

fn an_idle_server_connection_is_let_go(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, format!("[timeouts]\nidle_up = \"300ms\"\n{}", one_server(&origin)));
    let mut client = Client::connect(lb.web());
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    origin.wait_for("the idle end", |records| {
        records.iter().all(|(_, ended)| *ended == Some(origin::Ended::Eof))
    });
    assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert_eq!(origin.connections(), 2);
}

fn a_servers_own_idle_time_is_honoured(driver: Driver) {
    let origin =
        Origin::answering(|_| origin::response(200, "OK", &[("Keep-Alive", "timeout=2, max=100")], "ok"));
    let lb = Lb::start(driver, format!("[timeouts]\nidle_up = \"10m\"\n{}", one_server(&origin)));
    assert_eq!(get(lb.web(), "a", "/").status(), 200);
    // A second before the server would, so that no request meets its end.
    origin.wait_for("our end", |records| records.iter().all(|(_, ended)| *ended == Some(origin::Ended::Eof)));
}

fn malformed_requests_are_400(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, one_server(&origin));
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: a b\r\n\r\n",
    ] {
        let mut client = Client::connect(lb.web());
        client.send(request);
        let refused = client.response();
        assert_eq!(refused.status(), 400, "{request:?}: {refused:?}");
        reason(&refused);
        // What follows cannot be trusted to be a request.
        client.assert_closed();
    }
    assert_eq!(origin.connections(), 0);
    let version = once(lb.web(), "GET / HTTP/3.0\r\nHost: a\r\n\r\n");
    assert!([400, 505].contains(&version.status()), "{version:?}");
}

fn a_bad_chunk_ends_both_sides(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        if conversation.request().is_some() {
            let _ = conversation.write(ok("whole"));
        }
    });
    let lb = Lb::start(driver, one_server(&origin));
    for bad in [
        "zz\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "-1\r\n",
        "0x3\r\nabc\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\n",
    ] {
        let mut client = Client::connect(lb.web());
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n{bad}"
        ));
        let refused = client.response_to("POST");
        assert_eq!(refused.status(), 400, "{bad:?}: {refused:?}");
        client.assert_closed();
    }
    origin.wait_for("every half request to end", |records| records.iter().all(|(_, ended)| ended.is_some()));
}

fn silence_on_many_connections_costs_little(driver: Driver) {
    let origin = plain();
    let lb = Lb::start(driver, one_server(&origin));
    assert_eq!(get(lb.web(), "a", "/").status(), 200);
    let before = lb.resident_bytes();
    let mut idle: Vec<_> = (0..500).map(|_| Client::connect(lb.web())).collect();
    until("all to be accepted", || lb.descriptors() > 500);
    let each = lb.resident_bytes().saturating_sub(before) / idle.len();
    assert!(each < 16 * 1024, "{each} bytes for each idle connection");
    for client in &mut idle {
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
}
