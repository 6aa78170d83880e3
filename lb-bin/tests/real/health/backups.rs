//! When no primary can: backups, and back.

use std::sync::atomic::Ordering;

use super::{FAST, checked, until_ready, until_up};
use crate::harness::client::{get, once};
use crate::harness::origin::ok;
use crate::harness::tools::{Nginx, signal, unused_address};
use crate::harness::*;

on_both_drivers! {
    backups_serve_from_the_first_bad_check_and_hand_back,
    backups_serve_from_the_first_failed_connect,
    an_outlier_is_ejected_and_comes_back,
}

fn config(a: std::net::SocketAddr, b: std::net::SocketAddr, health: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nbackend = \"app\"\n\
         [[backend]]\nname = \"app\"\nsticky = true\n{health}\nserver = [\n\
         {{ name = \"a\", address = \"{a}\" }},\n{{ name = \"backup\", address = \"{b}\", backup = true }}]\n"
    )
}

/// The cookie that a response sets.
fn cookie(response: &Message) -> Option<String> {
    Some(response.field("set-cookie")?.split(';').next()?.to_owned())
}

fn with(lb: &Lb, cookie: &str) -> Message {
    once(lb.web(), format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n"))
}

fn backups_serve_from_the_first_bad_check_and_hand_back(driver: Driver) {
    let ((a, status), (b, _)) = (checked("a"), checked("backup"));
    let health = format!("health = {{ path = \"/healthz\", {FAST}, fall = 1 }}");
    let lb = Lb::start(driver, config(a.address, b.address, &health));
    until_ready(&lb);
    let first = get(lb.web(), "x", "/");
    let mine = cookie(&first).expect("a sticky cookie");
    assert_eq!(with(&lb, &mine).text(), "a");
    status.store(503, Ordering::SeqCst);
    until_up(&lb, "a", false);
    for _ in 0..3 {
        let served = with(&lb, &mine);
        assert_eq!(
            (served.text().as_str(), cookie(&served)),
            ("backup", None),
            "no backup is named in a cookie"
        );
    }
    status.store(200, Ordering::SeqCst);
    until_up(&lb, "a", true);
    let back = with(&lb, &mine);
    assert_eq!(
        (back.text().as_str(), cookie(&back)),
        ("a", None),
        "the session returns with the cookie it has"
    );
    assert_eq!(get(lb.web(), "x", "/").text(), "a");
}

fn backups_serve_from_the_first_failed_connect(driver: Driver) {
    let (b, _) = checked("backup");
    // Slow checks: traffic alone finds out.
    let health = "health = { path = \"/healthz\", interval = \"1s\", timeout = \"1s\", fast_interval = \"100ms\", fall = 100 }";
    let address = unused_address();
    let start = || Nginx::start_at(address, "location / { return 200 \"a\"; }");
    let a = start();
    let lb = Lb::start(driver, config(address, b.address, health));
    until_ready(&lb);
    let mine = cookie(&get(lb.web(), "x", "/")).expect("a sticky cookie");
    a.pids().into_iter().for_each(|pid| signal(pid, "KILL"));
    drop(a);
    // Not one request is lost, from the first on.
    for _ in 0..20 {
        let served = with(&lb, &mine);
        assert_eq!((served.status(), served.text().as_str()), (200, "backup"), "{served:?}");
    }
    let _a = start();
    // Nobody asks for it: its removal ends, and whoever comes next finds it.
    until("the session to be back", || with(&lb, &mine).text() == "a");
}

fn an_outlier_is_ejected_and_comes_back(driver: Driver) {
    let bad = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let told = std::sync::Arc::clone(&bad);
    let a = Origin::answering(move |_| match told.load(Ordering::SeqCst) {
        true => b"HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => ok("a"),
    });
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let list = [("a", a.address), ("b", b.address), ("c", c.address)];
    let outliers = "outliers = { failures = 3, ratio = false, latency = false, ejection = \"1s\" }\n";
    let lb = Lb::start(driver, crate::harness::lb::servers(&list) + outliers);
    assert_eq!(lb.admin_get("/readyz").status(), 200, "nobody waits where nobody checks");
    let ejected = || lb.metric("lb_server_ejected", &["server=\"a\""]) == 1.0;
    until("it to be ejected", || {
        let _ = get(lb.web(), "x", "/");
        ejected()
    });
    let shown = super::server(&lb, "a");
    assert_eq!(shown["health"], "down (ejected: failures in a row)");
    assert!(shown["ejection"]["why"].as_str().expect("why").ends_with("attempts failed in a row"), "{shown}");
    bad.store(false, Ordering::SeqCst);
    until("it to be back", || !ejected());
    let names: Vec<String> = (0..9).map(|_| get(lb.web(), "x", "/").text()).collect();
    assert!(names.iter().any(|name| name == "a") && names.iter().all(|name| name.len() == 1), "{names:?}");
    assert_eq!(lb.metric("lb_server_ejections_total", &["server=\"a\""]), 1.0);
    until("the log to say both", || {
        let log = lb.log();
        log.contains("ejected for 1 s: ") && log.contains("up: its ejection is over")
    });
}
