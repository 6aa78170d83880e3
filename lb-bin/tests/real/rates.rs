//! Rates: of requests by source, and of the bodies that they bring.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::client::get;
use crate::harness::lb::{backend, one_server};
use crate::harness::origin::ok;
use crate::harness::*;

on_both_drivers! {
    a_burst_is_counted_over_all_workers,
    who_waits_as_long_as_told_is_taken,
    one_source_is_not_another_however_many_come,
    a_reload_forgives_nothing,
    a_dribbled_body_is_ended,
    a_body_that_its_server_holds_up_is_not,
}

/// A listener that believes us about the client, `/login` with this rate and all else without, and one server.
fn login(origin: &Origin, rate: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         trusted = [\"127.0.0.1\"]\nclient_address = \"x-forwarded-for\"\n\
         [[route]]\nname = \"login\"\npath_prefix = \"/login\"\nbackend = \"app\"\nrate = {rate}\n\
         [[route]]\nname = \"rest\"\nbackend = \"app\"\n{}",
        backend("app", &[("a", origin.address)])
    )
}

fn ask(client: &mut Client, target: &str, from: &str) -> Message {
    client.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n"))
}

fn ask_once(web: SocketAddr, target: &str, from: &str) -> Message {
    ask(&mut Client::connect(web), target, from)
}

#[track_caller]
fn assert_limited(response: &Message) -> u64 {
    assert_eq!(response.status(), 429, "{response:?}");
    assert_eq!(response.field("x-lb-reason"), Some("rate_limited"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
    response.field("retry-after").expect("how long to wait").parse().expect("whole seconds")
}

fn a_burst_is_counted_over_all_workers(driver: Driver) {
    let origin = Origin::named("a");
    let config = login(&origin, "{ requests = 1, per = \"1h\", burst = 20 }");
    let lb = Setup::new(driver, config).workers(4).start();
    let count = |status: u16| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let web = lb.web();
                thread::spawn(move || {
                    let mut client = Client::connect(web);
                    let statuses = (0..10).map(|_| ask(&mut client, "/login", "192.0.2.1").status());
                    statuses.collect::<Vec<_>>()
                })
            })
            .collect();
        let statuses = clients.into_iter().flat_map(|client| client.join().expect("it is answered"));
        statuses.filter(|it| *it == status).count()
    };
    assert_eq!(count(200), 20, "so many of 80, whichever worker they came to");
    assert_eq!(count(429), 80);
    let seconds = assert_limited(&ask_once(lb.web(), "/login", "192.0.2.1"));
    assert!((1..=3600).contains(&seconds), "{seconds}");

    // Connections stay, other sources and routes do not notice, and the server has seen none of it.
    let mut client = Client::connect(lb.web());
    assert_limited(&ask(&mut client, "/login", "192.0.2.1"));
    assert_eq!(ask(&mut client, "/login", "192.0.2.2").status(), 200);
    assert_eq!(ask(&mut client, "/", "192.0.2.1").status(), 200);
    let seen = origin.received().concat();
    assert_eq!(seen.windows(4).filter(|it| it == b"GET ").count(), 22);

    lb.access_line(&[" login ", " 429 ", " rate_limited "]);
    assert_eq!(lb.metric("lb_route_local_replies_total", &["route=\"login\"", "\"rate_limited\""]), 142.0);
    assert_eq!(lb.metric("lb_rate_clients", &[]), 2.0);
    let told =
        lb.admin_get("/explain?url=http://a/login&from=127.0.0.1&header=X-Forwarded-For:192.0.2.1").text();
    assert!(told.contains("source 192.0.2.1 has used up its 20 and has to wait"), "{told}");
    assert!(told.contains("refuse   429 rate_limited"), "{told}");
    let told = lb.admin_get("/explain?url=http://a/login&from=127.0.0.1&format=json").text();
    assert!(told.contains("\"left\":20") && told.contains("\"client\":\"source 127.0.0.1\""), "{told}");
}

fn who_waits_as_long_as_told_is_taken(driver: Driver) {
    let origin = Origin::named("a");
    let lb = Setup::new(driver, login(&origin, "{ requests = 2, per = \"1s\", burst = 1 }")).start();
    let mut client = Client::connect(lb.web());
    let mut refused = None;
    until("to be too quick", || {
        let response = ask(&mut client, "/login", "192.0.2.1");
        if response.status() == 429 {
            refused = Some((assert_limited(&response), Instant::now()));
        }
        refused.is_some()
    });
    let (seconds, at) = refused.expect("it was refused");
    assert_eq!(seconds, 1, "half a second, rounded up");
    until("the time to pass", || at.elapsed() >= Duration::from_secs(seconds));
    assert_eq!(ask(&mut client, "/login", "192.0.2.1").status(), 200);
}

/// Whoever comes through a trusted proxy can have as many addresses as it likes.
fn one_source_is_not_another_however_many_come(driver: Driver) {
    const SOURCES: u32 = 3_000;
    let origin = Origin::named("a");
    let lb = Setup::new(driver, login(&origin, "{ requests = 1, per = \"1h\", burst = 2 }")).start();
    let mut client = Client::connect(lb.web());
    for _ in 0..2 {
        assert_eq!(ask(&mut client, "/login", "192.0.2.1").status(), 200);
    }
    let before = lb.resident_bytes();
    for source in 0..SOURCES {
        let from = std::net::Ipv4Addr::from(0x0a00_0000 | source);
        assert_eq!(ask(&mut client, "/login", &from.to_string()).status(), 200, "{from}");
        if source % 100 == 0 {
            assert_limited(&ask(&mut client, "/login", "192.0.2.1"));
        }
    }
    assert!(lb.resident_bytes().saturating_sub(before) < 2 << 20, "the table was there before");
    assert_eq!(lb.metric("lb_rate_clients", &[]), f64::from(SOURCES + 1));
    assert_eq!(lb.metric("lb_rate_clients_forgotten_total", &[]), 0.0);
    // Of IPv6 a network is one source.
    for last in 0..4 {
        let status = ask(&mut client, "/login", &format!("2001:db8::{last}")).status();
        assert_eq!(status, if last < 2 { 200 } else { 429 });
    }
}

fn a_reload_forgives_nothing(driver: Driver) {
    let (origin, other) = (Origin::named("a"), Origin::named("b"));
    let slow = "{ requests = 1, per = \"1h\", burst = 2 }";
    let lb = Setup::new(driver, login(&origin, slow)).start();
    for _ in 0..2 {
        assert_eq!(ask_once(lb.web(), "/login", "192.0.2.1").status(), 200);
    }
    lb.reload(&login(&other, slow));
    until("the other server to be used", || get(lb.web(), "a", "/").text() == "b");
    assert_limited(&ask_once(lb.web(), "/login", "192.0.2.1"));
    // Two hours of debt are a moment's at the new rate.
    lb.reload(&login(&other, "{ requests = 1000, per = \"1s\", burst = 1 }"));
    until("to be taken", || ask_once(lb.web(), "/login", "192.0.2.1").status() == 200);
}

fn paced(origin: &Origin, rate: &str) -> String {
    format!("[defaults.route]\n{rate}\ntimeouts = {{ response = \"20s\" }}\n{}", one_server(origin))
}

fn a_dribbled_body_is_ended(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let config = paced(&origin, "body_rate = \"1KiB\"\nbody_grace = \"1s\"");
    let lb = Setup::new(driver, config).log("format = \"json\"").start();
    for head in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(lb.web());
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n"));
        client.wire().set_patience(Duration::from_millis(20));
        let mut answer = None;
        until("it to be ended", || {
            // A byte of a body, or a chunk of one.
            let _ = client.try_send(if head.ends_with("chunked") { "1\r\nx\r\n" } else { "x" });
            answer = client.try_response("POST").ok().flatten();
            answer.is_some()
        });
        let answer = answer.expect("it was ended");
        assert_eq!((answer.status(), answer.field("x-lb-reason")), (408, Some("request_body_slow")));
    }
    origin.wait_for("the servers' half requests to end", |records| {
        records.len() == 2 && records.iter().all(|(_, ended)| ended.is_some())
    });
    lb.access_line(&["\"request_body_slow\"", "\"client_timeout\""]);
    let failures = |kind: &str| lb.metric("lb_server_failures_total", &[&format!("kind=\"{kind}\"")]);
    assert_eq!(
        ["connect", "exchange", "abandoned"].map(failures),
        [0.0, 0.0, 2.0],
        "the server is not to blame"
    );
    // Whoever sends at once, or nothing, is not asked for more.
    assert_eq!(get(lb.web(), "a", "/").status(), 200);
    let request =
        format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n{}", "x".repeat(3_000));
    assert_eq!(Client::connect(lb.web()).exchange(request).status(), 200);
}

fn a_body_that_its_server_holds_up_is_not(driver: Driver) {
    const HELD_UP: Duration = Duration::from_secs(4);
    let origin = Origin::scripted(|conversation| {
        let Some(mut request) = conversation.head() else { return };
        let begun = Instant::now();
        until("the grace to be over", || begun.elapsed() > HELD_UP);
        if conversation.body(&mut request).is_ok() {
            let _ = conversation.write(ok("all of it"));
        }
    });
    // What the sockets' buffers take buys less than a tenth of a second.
    let lb = Setup::new(driver, paced(&origin, "body_rate = \"100MiB\"\nbody_grace = \"2s\"")).start();
    let body = pattern(7, 8 << 20);
    let mut client = Client::connect(lb.web());
    client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    let answer = client.response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "all of it"));
}
