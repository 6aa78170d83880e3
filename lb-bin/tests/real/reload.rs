//! HUP: another configuration without closing anything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::client::get;
use crate::harness::lb::{one_server, servers};
use crate::harness::*;

on_both_drivers! {
    no_request_fails_while_reloading,
    a_bad_file_changes_nothing,
    a_reload_takes_effect_on_kept_connections,
    an_exchange_under_way_ends_where_it_began,
}

fn no_request_fails_while_reloading(driver: Driver) {
    let origins = ["a", "b", "c"].map(Origin::named);
    let all: Vec<_> =
        ["a", "b", "c"].into_iter().zip(&origins).map(|(name, it)| (name, it.address)).collect();
    let lb = Lb::start(driver, servers(&all));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (web, stop, served) = (lb.web(), &stop, &served);
            scope.spawn(move || {
                let mut kept = Client::connect(web);
                while !stop.load(Ordering::Relaxed) {
                    let response = if number % 2 == 0 {
                        kept.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
                    } else {
                        get(web, "a", "/")
                    };
                    assert_eq!(response.status(), 200, "{response:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let watch = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..20 {
                let before = served.load(Ordering::Relaxed);
                lb.reload(&servers(&all[round % 3..]));
                until("some requests to pass", || served.load(Ordering::Relaxed) > before + 50);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = watch {
            std::panic::resume_unwind(panic);
        }
    });
}

fn a_bad_file_changes_nothing(driver: Driver) {
    let origin = Origin::named("a");
    let lb = Lb::start(driver, one_server(&origin));
    let mut kept = Client::connect(lb.web());
    assert_eq!(kept.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    for bad in ["[[route]]\nname = \"x\"\nbackend = \"nobody\"\n", "this is no TOML", "[unknown]\nkey = 1\n"]
    {
        let before = lb.metric("lb_reloads_total", &["result=\"refused\""]);
        lb.write_config(&format!("{}{bad}", one_server(&origin)));
        lb.signal("HUP");
        until("the refusal to be counted", || {
            lb.metric("lb_reloads_total", &["result=\"refused\""]) > before
        });
        assert_eq!(kept.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "a");
    }
    assert!(lb.log().contains("nobody"), "the log says why: {}", lb.log());
}

fn a_reload_takes_effect_on_kept_connections(driver: Driver) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Lb::start(driver, one_server(&a));
    let mut kept = Client::connect(lb.web());
    assert_eq!(kept.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "a");
    lb.reload(&one_server(&b));
    until("the new server to be used on the same connection", || {
        kept.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text() == "b"
    });
}

fn an_exchange_under_way_ends_where_it_began(driver: Driver) {
    let gate = Gate::new();
    let opened = gate.clone();
    let slow = Origin::scripted(move |conversation| {
        if conversation.request().is_some() {
            opened.wait();
            let _ = conversation.write(origin::ok("slow"));
        }
    });
    let other = Origin::named("other");
    let lb = Lb::start(driver, one_server(&slow));
    let mut client = Client::connect(lb.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    slow.wait_for("the request to arrive", |records| records.len() == 1 && !records[0].0.is_empty());
    lb.reload(&one_server(&other));
    until("new requests to go elsewhere", || get(lb.web(), "a", "/").text() == "other");
    gate.open();
    assert_eq!(client.response().text(), "slow");
}
