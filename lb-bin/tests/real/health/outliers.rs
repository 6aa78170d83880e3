//! Servers that traffic itself finds out, among others that are well: who fails more often, who is slower, how long they
//! are out, and how many may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::server;
use crate::harness::client::get;
use crate::harness::crowd::Crowd;
use crate::harness::lb::{backend, servers};
use crate::harness::origin::{ok, response};
use crate::harness::*;

on_both_drivers! {
    who_fails_more_often_than_the_others_is_out_longer_each_time,
    who_is_ten_times_slower_than_the_others_is_out,
    no_more_are_out_than_may_be,
}

/// How long a slow server takes: far beyond ten times what the others take on a busy machine.
const SLOW: Duration = Duration::from_millis(600);

/// An origin that, while it is told so, answers every second request with 500.
fn half(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let (told, count) = (Arc::clone(&bad), AtomicUsize::new(0));
    let origin = Origin::answering(move |_| {
        let is_second = count.fetch_add(1, Ordering::SeqCst) % 2 == 1;
        if told.load(Ordering::SeqCst) && is_second { response(500, "Bad", &[], "") } else { ok(name) }
    });
    (origin, bad)
}

fn broken() -> Origin {
    Origin::answering(|_| response(500, "Bad", &[], ""))
}

fn picks(lb: &Lb, name: &str) -> f64 {
    lb.metric("lb_server_picks_total", &[&format!("server=\"{name}\"")])
}

/// Waits until a server is ejected, for the `times`th time, and was looked at while nobody was sent to it.
#[track_caller]
fn until_ejected(lb: &Lb, crowd: &Crowd, name: &str, times: u64) -> Value {
    let is_out = |shown: &Value| shown["ejections"] == times && !shown["ejection"].is_null();
    let mut found = Value::Null;
    until(&format!("{name} to be ejected and left alone"), || {
        let shown = server(lb, name);
        if !is_out(&shown) {
            return false;
        }
        // What had been decided before it was out has been sent meanwhile.
        crowd.pass(16);
        let before = picks(lb, name);
        crowd.pass(100);
        let after = picks(lb, name);
        let stayed_out = is_out(&server(lb, name));
        assert!(!stayed_out || after == before, "{} were sent to it: {shown}", after - before);
        found = shown;
        stayed_out
    });
    found
}

fn who_fails_more_often_than_the_others_is_out_longer_each_time(driver: Driver) {
    let ((a, bad), [b, c]) = (half("a"), ["b", "c"].map(Origin::named));
    let list = [("a", a.address), ("b", b.address), ("c", c.address)];
    // Never five in a row: that is asked, too, and finds nothing.
    let outliers = "outliers = { failures = 5, ratio_attempts = 20, latency = false, ejection = \"1s\" }\n";
    let config = servers(&list) + "balance = \"round_robin\"\n" + outliers;
    let lb = Lb::start(driver, config);
    Crowd::around(lb.web(), 4, |crowd| {
        for (times, lasts) in [(1, "1 s"), (2, "2 s"), (3, "4 s")] {
            until("it to be ejected", || lb.log().contains(&format!("ejected for {lasts}: ")));
            assert!(server(&lb, "a")["ejections"].as_u64() >= Some(times));
        }
        let shown = until_ejected(&lb, crowd, "a", 3);
        assert_eq!(shown["health"], "down (ejected: more failures than the others)");
        let why = shown["ejection"]["why"].as_str().expect("why").to_owned();
        assert!(why.ends_with(" % of its attempts failed, 0 % of the others'"), "{why}");
        let page = lb.admin_get("/servers").text();
        assert!(page.contains("more failures than the others") && page.contains(&why), "{page}");
        let explained = lb.admin_get("/explain?url=http://x/").text();
        assert!(explained.contains("ejected: more failures than the others"), "{explained}");
        // Well again, it is back by itself, and stays.
        bad.store(false, Ordering::SeqCst);
        until("it to be back", || server(&lb, "a")["up"] == true);
        let (before, failed) = (picks(&lb, "a"), crowd.failed());
        until("it to take its part", || picks(&lb, "a") > before + 100.0);
        assert_eq!(crowd.failed(), failed);
        assert_eq!(server(&lb, "a")["ejections"], 3);
        for name in ["b", "c"] {
            assert_eq!(server(&lb, name)["ejections"], 0, "{name} was well");
        }
    });
    assert_eq!(lb.log().matches("up: its ejection is over").count(), 3, "{}", lb.log());
}

fn who_is_ten_times_slower_than_the_others_is_out(driver: Driver) {
    let slow = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&slow);
    let a = Origin::answering(move |_| {
        if told.load(Ordering::SeqCst) {
            thread::park_timeout(SLOW);
        }
        ok("a")
    });
    let [b, c] = ["b", "c"].map(Origin::named);
    let list = [("a", a.address), ("b", b.address), ("c", c.address)];
    // As it comes, but for how long it takes.
    let config = servers(&list) + "balance = \"round_robin\"\noutliers = { ejection = \"2s\" }\n";
    let lb = Lb::start(driver, config);
    Crowd::around(lb.web(), 8, |crowd| {
        let shown = until_ejected(&lb, crowd, "a", 1);
        assert_eq!(shown["health"], "down (ejected: slower than the others)");
        let why = shown["ejection"]["why"].as_str().expect("why");
        assert!(why.starts_with("its answers took ") && why.contains(", the others' "), "{why}");
        slow.store(false, Ordering::SeqCst);
        until("it to be back", || server(&lb, "a")["up"] == true);
        let before = picks(&lb, "a");
        until("it to take its part", || picks(&lb, "a") > before + 100.0);
        assert_eq!(server(&lb, "a")["ejections"], 1);
        assert_eq!(crowd.failed(), 0, "late is not wrong");
    });
    let told = lb.log();
    assert!(
        told.contains("ejected for 2 s: its answers took ") && told.contains("its ejection is over"),
        "{told}"
    );
}

fn no_more_are_out_than_may_be(driver: Driver) {
    let (broken, well): (Vec<Origin>, Origin) = ((0..6).map(|_| broken()).collect(), Origin::named("d"));
    let at = |place: usize| broken[place].address;
    let outliers = |max: &str| {
        format!(
            "balance = \"round_robin\"\noutliers = {{ failures = 3, ejection = \"5m\", max_ejected = \"{max}\" }}\n"
        )
    };
    let route = |name: &str| {
        format!("[[route]]\nname = \"{name}\"\npath_prefix = \"/{name}\"\nbackend = \"{name}\"\n")
    };
    // Half of four; all of two, of which the last one stays in; and one of those that are asked afterwards, to see that
    // traffic was looked at since.
    let config = [
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n",
        &["half", "all", "after"].map(route).concat(),
        &backend("half", &[("h0", at(0)), ("h1", at(1)), ("h2", at(2)), ("h3", well.address)]),
        &outliers("50%"),
        &backend("all", &[("a0", at(3)), ("a1", at(4))]),
        &outliers("100%"),
        &backend("after", &[("z0", at(5)), ("z1", well.address)]),
        &outliers("50%"),
    ];
    let lb = Lb::start(driver, config.concat());
    let out = |names: &[&str]| names.iter().filter(|name| server(&lb, name)["up"] == false).count();
    let (half, all) = (["h0", "h1", "h2", "h3"], ["a0", "a1"]);
    let ask = || (0..24).for_each(|_| ["/half", "/all"].iter().for_each(|to| drop(get(lb.web(), "x", to))));
    until("as many to be out as may be", || {
        ask();
        out(&half) == 2 && out(&all) == 1
    });
    ask();
    until("all that to be looked at", || {
        let _ = get(lb.web(), "x", "/after");
        out(&["z0"]) == 1
    });
    assert_eq!((out(&half), out(&all)), (2, 1));
    assert_eq!(server(&lb, "h3")["up"], true);
    // The bad one that had to stay in still takes its part.
    let statuses: Vec<u16> = (0..8).map(|_| get(lb.web(), "x", "/half").status()).collect();
    assert!(statuses.contains(&200) && statuses.contains(&500), "{statuses:?}");
    assert_eq!(get(lb.web(), "x", "/all").status(), 500, "somebody is there to say so");
}
