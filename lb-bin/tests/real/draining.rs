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
    if let Ok(Some(cut)) = busy.try_response("GET") {
        assert_eq!(cut.status(), 503, "{cut:?}");
    }
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
