//! Servers that are checked and whose addresses come and go: nobody is sent to a new one before its first good check, and
//! those that were there serve until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize};

use super::*;
use crate::health::FAST;

on_both_drivers! {
    a_name_that_comes_later_is_checked_first,
    addresses_rotate_under_load_and_are_checked_first,
}

/// What is known of one address.
#[derive(Default)]
struct Seen {
    /// The status of its answers to checks; with 0 it takes its time.
    says: AtomicU16,
    /// It has said yes, or is about to.
    is_well: AtomicBool,
    checks: AtomicUsize,
    /// Requests that came before it had said yes.
    early: AtomicUsize,
}

impl Seen {
    fn say(&self, status: u16) {
        self.is_well.store(status == 200, Ordering::SeqCst);
        self.says.store(status, Ordering::SeqCst);
    }

    fn until_asked(&self, count: usize) {
        let before = self.checks.load(Ordering::SeqCst);
        until("checks to come", || self.checks.load(Ordering::SeqCst) >= before + count);
    }
}

/// As [`origins`], with answers to checks as they are told.
fn checked_origins(lasts: impl Iterator<Item = u8> + Clone) -> (u16, Vec<(Origin, Arc<Seen>)>) {
    let port = common_port(lasts.clone());
    let origin = |last: u8| {
        let seen = Arc::new(Seen::default());
        let told = Arc::clone(&seen);
        let origin = Origin::scripted_on(at(last, port), move |conversation| {
            while let Some(request) = conversation.request() {
                let answer = if request.target() == "/healthz" {
                    told.checks.fetch_add(1, Ordering::SeqCst);
                    match told.says.load(Ordering::SeqCst) {
                        0 => return conversation.until_closed(),
                        status => origin::response(status, "So", &[], ""),
                    }
                } else {
                    let is_early = !told.is_well.load(Ordering::SeqCst);
                    told.early.fetch_add(usize::from(is_early), Ordering::SeqCst);
                    ok(format!("{last} {} {}", request.target(), request.text()))
                };
                if conversation.write(answer).is_err() {
                    break;
                }
            }
        });
        (origin, seen)
    };
    (port, lasts.map(origin).collect())
}

/// As [`config`], with checks, and with addresses that stay as long as it takes.
fn checked_config(server: &NameServer, port: u16) -> String {
    let health = format!("health = {{ path = \"/healthz\", {FAST} }}");
    config(&[server.address], "start_wait = \"300ms\"", &all_of(port), &health)
        .replace("remove_after = \"2s\"", "remove_after = \"5m\"")
}

/// How an address's server stands, as `/servers` shows it.
#[track_caller]
fn health_of(lb: &Lb, last: u8) -> String {
    let answer = lb.admin_get("/servers?format=json").text();
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let servers = answer["servers"].as_array().expect("servers");
    let address = format!("127.0.0.{last}:");
    let found = servers.iter().find(|it| it["address"].as_str().is_some_and(|it| it.starts_with(&address)));
    found.map_or("none", |server| server["health"].as_str().expect("health")).to_owned()
}

fn a_name_that_comes_later_is_checked_first(driver: Driver) {
    let (port, all) = checked_origins(101..102u8);
    let (server, seen) = (NameServer::start(), &all[0].1);
    server.set_mode(NXDOMAIN);
    let lb = Lb::start(driver, checked_config(&server, port));
    let refused = || {
        let response = get(lb.web(), "a", "/x");
        assert_eq!((response.status(), response.field("x-lb-reason")), (503, Some("no_server")));
    };
    refused();
    server.set(NAME, &[101]);
    seen.until_asked(1);
    (0..5).for_each(|_| refused());
    assert!(health_of(&lb, 101).starts_with("down ("), "{}", health_of(&lb, 101));
    seen.say(503);
    until("a whole answer", || health_of(&lb, 101) == "down (answer)");
    (0..5).for_each(|_| refused());
    seen.say(200);
    until("it to be up", || health_of(&lb, 101) == "up");
    assert_eq!(who(lb.web()), 101);
    assert_eq!(seen.early.load(Ordering::SeqCst), 0);
}

fn addresses_rotate_under_load_and_are_checked_first(driver: Driver) {
    let (port, all) = checked_origins(103..107u8);
    let seen = |last: u8| &*all[usize::from(last - 103)].1;
    let server = NameServer::start();
    server.set(NAME, &[103, 104]);
    [103, 104].iter().for_each(|last| seen(*last).say(200));
    let lb = Lb::start(driver, checked_config(&server, port));
    until("both to be up", || [103, 104].iter().all(|last| health_of(&lb, *last) == "up"));
    let served = under_load(lb.web(), |_, by_server| {
        until_serves(by_server, 103, 5);
        until_serves(by_server, 104, 5);
        // Two others in their place: one does not answer its checks, the other says no.
        seen(106).say(500);
        server.set(NAME, &[105, 106]);
        seen(105).until_asked(1);
        seen(106).until_asked(3);
        let two = |lasts: [u8; 2]| BTreeSet::from(lasts.map(|last| format!("127.0.0.{last}")));
        assert_eq!(addresses(&shown(&lb), "present"), two([105, 106]));
        assert_eq!(addresses(&shown(&lb), "leaving"), two([103, 104]));
        until_serves(by_server, 103, 20);
        until_serves(by_server, 104, 20);
        // One is well, and takes the place of one.
        seen(105).say(200);
        until_serves(by_server, 105, 20);
        until("one to go", || addresses(&shown(&lb), "leaving").len() == 1);
        assert_eq!(health_of(&lb, 106), "down (answer)");
        seen(106).say(200);
        until_serves(by_server, 106, 20);
        until("the other to go", || addresses(&shown(&lb), "leaving").is_empty());
        until("their servers to go", || [103, 104].iter().all(|last| health_of(&lb, *last) == "none"));
        // One of them comes back, and is asked like everybody else.
        seen(103).say(503);
        server.set(NAME, &[103, 106]);
        seen(103).until_asked(3);
        assert_eq!(health_of(&lb, 103), "down (answer)");
        until_serves(by_server, 105, 20);
        seen(103).say(200);
        until_serves(by_server, 103, 20);
        until("the last to go", || health_of(&lb, 105) == "none");
    });
    assert!(served > 100, "{served}");
    for last in 103..107 {
        assert_eq!(seen(last).early.load(Ordering::SeqCst), 0, "127.0.0.{last} got requests too early");
    }
}
