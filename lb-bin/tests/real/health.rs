//! Active checks: who is used before the first one, what they see, and what they keep from traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::client::get;
use crate::harness::lb::servers;
use crate::harness::origin::ok;
use crate::harness::*;

mod backups;
mod load;
mod outliers;
mod protocols;
mod relay;

/// Checks that find out soon, and take their time where a busy machine needs it: the timeout is the interval.
pub const FAST: &str = "interval = \"1s\", fast_interval = \"100ms\"";

/// An origin that answers `/healthz` with the status it was told last, everything else with 200, and both with its name.
pub fn checked(name: &'static str) -> (Origin, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let origin = Origin::answering(move |request| match request.target() {
        "/healthz" => {
            let status = told.load(Ordering::SeqCst);
            format!("HTTP/1.1 {status} So\r\nContent-Length: 5\r\n\r\nready").into_bytes()
        }
        _ => ok(name),
    });
    (origin, status)
}

/// The state of a server as `/servers` shows it.
#[track_caller]
pub fn server(lb: &Lb, name: &str) -> serde_json::Value {
    let answer = lb.admin_get("/servers?format=json").text();
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let servers = answer["servers"].as_array().expect("servers");
    servers.iter().find(|it| it["server"] == name).unwrap_or_else(|| panic!("no {name} in {answer}")).clone()
}

/// Waits until a server is up, or is not.
#[track_caller]
pub fn until_up(lb: &Lb, name: &str, up: bool) {
    until(&format!("{name} to be up: {up}"), || server(lb, name)["up"] == up);
}

/// Waits until every first verdict is there.
#[track_caller]
pub fn until_ready(lb: &Lb) {
    until("/readyz to say 200", || lb.admin_get("/readyz").status() == 200);
}

on_both_drivers! {
    a_server_that_says_no_gets_nothing_until_it_says_yes,
    nobody_is_used_before_a_first_good_check,
    a_reload_keeps_health,
}

fn a_server_that_says_no_gets_nothing_until_it_says_yes(driver: Driver) {
    let ((a, status), (b, _)) = (checked("a"), checked("b"));
    let config = format!(
        "{}health = {{ path = \"/healthz\", host = \"probe\", body = \"ready\", {FAST} }}\n",
        servers(&[("a", a.address), ("b", b.address)])
    );
    let lb = Lb::start(driver, config);
    until_ready(&lb);
    let names =
        |count: usize| -> Vec<String> { (0..count).map(|_| get(lb.web(), "x", "/").text()).collect() };
    assert!(["a", "b"].iter().all(|name| names(8).iter().any(|it| it == name)), "both serve");

    status.store(503, Ordering::SeqCst);
    until_up(&lb, "a", false);
    assert_eq!(names(10), ["b"; 10]);
    let shown = server(&lb, "a");
    assert_eq!(shown["health"], "down (answer)");
    assert_eq!(shown["check"]["last"]["words"], "status 503, expected 200-399");
    assert_eq!(shown["check"]["last"]["status"], 503);
    let page = lb.admin_get("/servers").text();
    assert!(page.contains("app/a") && page.contains("status 503, expected 200-399 in "), "{page}");
    let explained = lb.admin_get("/explain?url=http://x/").text();
    assert!(explained.contains("down (answer)"), "{explained}");
    assert_eq!(lb.metric("lb_server_up", &["server=\"a\""]), 0.0);
    assert!(lb.metric("lb_server_checks_total", &["server=\"a\"", "result=\"bad\""]) >= 3.0);
    // Ready stays ready: that one is down is no news about us.
    assert_eq!(lb.admin_get("/readyz").status(), 200);

    status.store(204, Ordering::SeqCst);
    // A 204 has no body, so it has no `ready` in it either.
    until("its checks to say so", || server(&lb, "a")["check"]["last"]["status"] == 204);
    assert_eq!(server(&lb, "a")["check"]["last"]["words"], "no `ready` in its body");
    status.store(200, Ordering::SeqCst);
    until_up(&lb, "a", true);
    assert!(names(8).iter().any(|name| name == "a"), "it is back by itself");
    until("the log to say both", || {
        let log = lb.log();
        log.contains("down: status 503, expected 200-399") && log.contains("up again: status 200")
    });
    let request = String::from_utf8_lossy(&a.received()[0]).into_owned();
    assert!(request.starts_with("GET /healthz HTTP/1.1\r\nhost: probe\r\n"), "{request}");
}

fn nobody_is_used_before_a_first_good_check(driver: Driver) {
    let (gate, first) = (Gate::new(), Gate::new());
    let (opened, asked) = (gate.clone(), first.clone());
    let origin = Origin::answering(move |request| {
        if request.target() == "/healthz" {
            asked.open();
            opened.wait();
        }
        ok("late")
    });
    let health = "interval = \"20s\", timeout = \"20s\"";
    let config =
        format!("{}health = {{ path = \"/healthz\", {health} }}\n", servers(&[("a", origin.address)]));
    let lb = Lb::start(driver, config.clone());
    first.wait();
    let ready = lb.admin_get("/readyz");
    assert_eq!((ready.status(), ready.text().as_str()), (503, "not checked yet: app/a\n"));
    assert_eq!(server(&lb, "a")["health"], "down (not checked yet)");
    let refused = get(lb.web(), "x", "/");
    assert_eq!((refused.status(), refused.field("x-lb-reason")), (503, Some("no_server")));
    gate.open();
    until_ready(&lb);
    assert_eq!(get(lb.web(), "x", "/").text(), "late");

    // `initial = "up"` uses it before.
    let gate = Gate::new();
    let waiting = gate.clone();
    let origin = Origin::answering(move |request| {
        if request.target() == "/healthz" {
            waiting.wait();
        }
        ok("early")
    });
    let config = format!(
        "{}health = {{ path = \"/healthz\", initial = \"up\", {health} }}\n",
        servers(&[("a", origin.address)])
    );
    let lb = Lb::start(driver, config);
    assert_eq!(get(lb.web(), "x", "/").text(), "early");
    assert_eq!(lb.admin_get("/readyz").status(), 503, "nobody knows yet whether it is well");
    gate.open();
    until_ready(&lb);
}

fn a_reload_keeps_health(driver: Driver) {
    let ((a, status), (b, _)) = (checked("a"), checked("b"));
    let config = |health: &str| {
        let list = servers(&[("a", a.address), ("b", b.address)]);
        format!("{list}health = {{ path = \"/healthz\", {health} }}\n")
    };
    status.store(500, Ordering::SeqCst);
    let lb = Lb::start(driver, config(FAST));
    until_ready(&lb);
    assert_eq!(server(&lb, "a")["up"], false);
    let changes = lb.metric("lb_server_health_changes_total", &[]);
    // Slow checks: what is known now cannot have been found out anew.
    lb.reload(&config("interval = \"1h\", fast_interval = \"1h\", timeout = \"5s\", fall = 4"));
    assert_eq!((server(&lb, "a")["up"].clone(), server(&lb, "b")["up"].clone()), (false.into(), true.into()));
    assert_eq!(lb.metric("lb_server_health_changes_total", &[]), changes, "nothing turned");
    assert_eq!(lb.admin_get("/readyz").status(), 200);
    // Another setting applies at once: where there is nothing to find both say no, after `fall` checks.
    let nothing =
        |fall| format!("expect = 201, interval = \"100ms\", fast_interval = \"100ms\", fall = {fall}");
    lb.reload(&config(&nothing(2)));
    until_up(&lb, "b", false);
    assert_eq!(server(&lb, "b")["check"]["last"]["words"], "status 200, expected 201");
    // Without checks all are up.
    lb.reload(&servers(&[("a", a.address), ("b", b.address)]));
    assert_eq!((server(&lb, "a")["up"].clone(), server(&lb, "b")["up"].clone()), (true.into(), true.into()));
}
