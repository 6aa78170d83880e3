//! TERM, INT, QUIT: finish what is under way, take nothing new, end.

use std::net::TcpStream;

use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::*;

/// An origin that answers `/slow` when the gate opens, everything else at once.
fn gated(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/slow" {
                gate.wait();
            }
            if conversation.write(ok(request.target())).is_err() {
                break;
            }
        }
    })
}

on_both_drivers! {
    term_finishes_what_is_under_way,
    a_second_signal_ends_at_once,
    a_deadline_bounds_the_drain,
    who_has_had_nothing_of_its_answer_is_told,
    who_does_not_read_holds_up_no_end,
}

fn term_finishes_what_is_under_way(driver: Driver) {
    for name in ["TERM", "INT", "QUIT"] {
        let gate = Gate::new();
        let origin = gated(&gate);
        let mut lb = Lb::start(driver, one_server(&origin));
        let mut idle = Client::connect(lb.web());
        assert_eq!(idle.exchange("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        let mut busy = Client::connect(lb.web());
        busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.wait_for("the slow request", |records| {
            records.iter().any(|(bytes, _)| bytes.windows(5).any(|window| window == b"/slow"))
        });
        lb.signal(name);
        idle.assert_closed();
        until("new connections to be refused", || TcpStream::connect(lb.web()).is_err());
        assert!(lb.is_running(), "it waits for the slow one");
        gate.open();
        let last = busy.response();
        assert_eq!((last.status(), last.text().as_str()), (200, "/slow"));
        assert!(last.field("connection").unwrap_or("").eq_ignore_ascii_case("close"), "{name}: {last:?}");
        let status = lb.wait();
        assert!(status.success(), "{name}: {status:?}");
        assert!(lb.access_log().contains("/slow"), "the last exchange is logged before the end");
    }
}

fn a_second_signal_ends_at_once(driver: Driver) {
    let gate = Gate::new();
    let origin = gated(&gate);
    let mut lb = Lb::start(driver, one_server(&origin));
    let mut busy = Client::connect(lb.web());
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("the slow request", |records| !records.is_empty() && !records[0].0.is_empty());
    lb.signal("TERM");
    until("new connections to be refused", || TcpStream::connect(lb.web()).is_err());
    lb.signal("TERM");
    lb.wait();
    gate.open();
    assert_eq!(busy.response().status(), 503);
    let line = lb.access_line(&["GET /slow"]);
    assert!(line.contains(" 503 stopped "), "what was cut off has its record: {line}");
}

fn a_deadline_bounds_the_drain(driver: Driver) {
    let gate = Gate::new();
    let origin = gated(&gate);
    let mut lb = Lb::start(driver, format!("[timeouts]\ndrain = \"300ms\"\n{}", one_server(&origin)));
    let mut busy = Client::connect(lb.web());
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("the slow request", |records| !records.is_empty() && !records[0].0.is_empty());
    lb.signal("TERM");
    lb.wait();
    gate.open();
}

/// Those who wait for a full server, and one whose answer is waited for.
fn who_has_had_nothing_of_its_answer_is_told(driver: Driver) {
    let gate = Gate::new();
    let origin = gated(&gate);
    let config = format!(
        "[timeouts]\ndrain = \"300ms\"\n[defaults.server]\nmax_requests = 1\n{}\
         queue = {{ timeout = \"1h\" }}\n",
        one_server(&origin)
    );
    let mut lb = Setup::new(driver, config).log("format = \"json\"").workers(1).start();
    let mut busy = Client::connect(lb.web());
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("the slow request", |records| !records.is_empty() && !records[0].0.is_empty());
    // The second of them has a body that nobody reads, the last closes by itself.
    let requests = [
        "GET /waits HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        format!("POST /waits HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(2_000)),
        "GET /waits HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
    ];
    let mut waiting: Vec<Client> = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let mut client = Client::connect(lb.web());
        client.send(request);
        until("it to wait", || lb.metric("lb_backend_queue", &[]) == (number + 1) as f64);
        waiting.push(client);
    }
    lb.signal("TERM");
    let status = lb.wait();
    assert!(status.success(), "{status:?}");
    for mut client in waiting.into_iter().chain([busy]) {
        let told = client.response();
        assert_eq!((told.status(), told.field("x-lb-reason")), (503, Some("stopped")), "{told:?}");
        assert!(told.field("connection").unwrap_or("").eq_ignore_ascii_case("close"), "{told:?}");
        client.assert_closed();
    }
    let log = lb.access_log();
    let ended = |step: &str| {
        let step = format!("\"step\":\"{step}\"");
        log.lines().filter(|line| line.contains("\"reason\":\"stopped\"") && line.contains(&step)).count()
    };
    assert_eq!((ended("queue"), ended("wait")), (3, 1), "{log}");
    gate.open();
}

/// A client that takes nothing has an error page coming that is larger than what its connection takes.
fn who_does_not_read_holds_up_no_end(driver: Driver) {
    let gate = Gate::new();
    let origin = gated(&gate);
    let page = "x".repeat(6 << 20);
    let config = format!(
        "[timeouts]\ndrain = \"300ms\"\n[defaults.route]\nerror_pages = {{ 503 = \"{page}\" }}\n{}",
        one_server(&origin)
    );
    let mut lb = Lb::start(driver, config);
    let mut busy = Client::connect(lb.web());
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("the slow request", |records| !records.is_empty() && !records[0].0.is_empty());
    lb.signal("TERM");
    let status = lb.wait();
    assert!(status.success(), "{status:?}");
    lb.access_line(&["GET /slow", " 503 stopped "]);
    gate.open();
}
