//! A canary that is slow: the metric, the admin API, the latest changes and the log say so, in seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::lb::backend;
use crate::harness::origin::ok;
use crate::harness::*;

on_both_drivers! {
    a_slow_canary_is_noticed,
}

const CANARY: [&str; 4] = ["route=\"shop\"", "arm=\"canary\"", "of=\"wait\"", "against=\"stable\""];

/// How long the canary takes. Its connections are answered one exchange at a time, so this also is how long it takes
/// until there is evidence: 20 exchanges of it, and 100 of the stable arm, within three seconds.
const SLOW: Duration = Duration::from_millis(30);

fn jumps(lb: &Lb) -> serde_json::Value {
    serde_json::from_str(&lb.admin_get("/jumps").text()).expect("JSON")
}

/// What has happened to the canary of late, the newest first.
fn changes(lb: &Lb) -> Vec<String> {
    let stats: serde_json::Value = serde_json::from_str(&lb.admin_get("/stats").text()).expect("JSON");
    let changes = stats["changes"].as_array().expect("changes").iter();
    changes
        .filter(|it| it["kind"] == "jump" && it["subject"] == "shop/canary")
        .map(|it| it["words"].as_str().expect("words").to_owned())
        .collect()
}

fn a_slow_canary_is_noticed(driver: Driver) {
    let fast = Origin::named("fast");
    let dragging = Arc::new(AtomicBool::new(true));
    let drags = Arc::clone(&dragging);
    let slow = Origin::answering(move |_| {
        // What is measured is time, so time is what must pass. Nobody waits for its end but the client.
        let end = Instant::now() + SLOW;
        while drags.load(Ordering::Relaxed)
            && let Some(left) = end.checked_duration_since(Instant::now())
        {
            std::thread::park_timeout(left);
        }
        ok("slow")
    });
    let config = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\nbackend = \"old\"\n\
         canary = {{ backend = \"new\", cookie = \"canary\", share = \"0%\", release = \"1\" }}\n{}{}",
        backend("old", &[("o", fast.address)]),
        backend("new", &[("n", slow.address)]),
    );
    let lb = Lb::start(driver, config);
    let mut client = Client::connect(lb.web());
    let mut traffic = || {
        for cookie in ["never", "never", "never", "never", "always"] {
            let request = format!("GET /shop HTTP/1.1\r\nHost: a\r\nCookie: canary={cookie}\r\n\r\n");
            assert_eq!(client.exchange(request).status(), 200);
        }
    };
    until("the jump to be noticed", || {
        traffic();
        lb.metric("lb_route_jump", &CANARY) == 1.0
    });
    let answer = jumps(&lb);
    let arms = answer["arms"].as_array().expect("arms");
    let canary = arms.iter().find(|it| it["arm"] == "canary").expect("the canary");
    assert_eq!((&answer["version"], &canary["route"]), (&1.into(), &"shop".into()), "{answer:#}");
    let comparisons = canary["comparisons"].as_array().unwrap();
    let found = |of: &str, against: &str| {
        let found = comparisons.iter().find(|it| it["of"] == of && it["against"] == against);
        found.unwrap_or_else(|| panic!("no {of} against {against}: {answer:#}"))
    };
    let wait = found("wait", "stable");
    assert_eq!((&wait["state"], &wait["unit"]), (&"jumped".into(), &"seconds".into()), "{answer:#}");
    // Within the error of a histogram's buckets.
    assert!(wait["now"].as_f64() > Some(SLOW.as_secs_f64() * 16.0 / 17.0), "{answer:#}");
    assert!(wait["exchanges"].as_u64() >= Some(20), "{answer:#}");
    assert_eq!(found("failures", "stable")["state"], "calm", "{answer:#}");
    assert_eq!(found("wait", "before")["state"], "unknown", "there was no minute before: {answer:#}");
    let log = lb.log();
    let told = log.lines().any(|line| {
        line.contains("WARN") && line.contains("a jump began") && line.contains("against=\"stable\"")
    });
    assert!(told, "{log}");
    let noted = changes(&lb);
    assert!(noted.iter().any(|words| words.starts_with("wait jumped against stable: ")), "{noted:?}");

    dragging.store(false, Ordering::Relaxed);
    until("the last minute to be as the stable arm's again, and ten calm seconds", || {
        (0..50).for_each(|_| traffic());
        lb.metric("lb_route_jump", &CANARY) == 0.0
    });
    assert!(lb.log().contains("a jump is over"), "{}", lb.log());
    let noted = changes(&lb);
    assert!(noted.contains(&"wait no longer jumps against stable".to_owned()), "{noted:?}");
}
