//! Not everybody who waits can use every server: who cannot stands in nobody's way, and nobody gets to another one's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

on_both_drivers! {
    who_waits_for_a_server_that_is_gone_gets_to_no_other,
    who_has_tried_a_server_leaves_it_to_others,
    who_does_not_know_a_server_leaves_it_to_others,
    a_session_whose_server_goes_takes_its_turn_elsewhere,
    waiting_is_not_the_slowness_of_a_client,
    another_arm_serves_those_who_wait_only_when_theirs_is_down,
}

const PATIENT: &str = "queue = { timeout = \"1m\" }\n";

/// The place of a server in a worker's pools is another one's after a while. Connections there are not for those who
/// were to have the first.
fn who_waits_for_a_server_that_is_gone_gets_to_no_other(driver: Driver) {
    let (desk, a) = Desk::start("a");
    let (b, c) = (Origin::named("b"), Origin::named("c"));
    let old = limited(1, &format!("{}{PATIENT}", servers(&[("a", a.address)])));
    let lb = Setup::new(driver, old).workers(1).start();
    let mut clients = one_by_one(&lb, &desk, 2);
    let new = servers(&[("c", c.address)]);
    lb.reload(&new);
    let route = "[[route]]\nname = \"other\"\npath_prefix = \"/other\"\nbackend = \"other\"\n";
    lb.reload(&format!("{new}{route}{}", backend("other", &[("b", b.address)])));
    assert_eq!(get(lb.web(), "shop.example", "/other").text(), "b");
    desk.answer();
    assert_eq!(clients[0].response().text(), "a");
    desk.await_came(2);
    desk.answer();
    assert_eq!(clients[1].response().text(), "a");
    assert_eq!((b.received().len(), c.connections()), (1, 0), "nobody else's request");
}

/// A server that keeps what asks for `/held`, and hangs up on the first that asks for `/closed`.
fn fickle(name: &'static str, held: &Gate, has_closed: &Arc<AtomicBool>) -> Origin {
    let (held, has_closed) = (held.clone(), Arc::clone(has_closed));
    Origin::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            match request.target() {
                "/held" => held.wait(),
                "/closed" if !has_closed.swap(true, Ordering::SeqCst) => return,
                _ => {}
            }
            let _ = conversation.write(ok(name));
        }
    })
}

fn who_has_tried_a_server_leaves_it_to_others(driver: Driver) {
    let (gate, has_closed) = (Gate::new(), Arc::default());
    let [a, b] = ["a", "b"].map(|name| fickle(name, &gate, &has_closed));
    let config = limited(1, &format!("{}{PATIENT}", servers(&[("a", a.address), ("b", b.address)])));
    let lb = Setup::new(driver, config).workers(1).start();
    let mut held = ask(lb.web(), "/held");
    until("a server to have it", || a.connections() + b.connections() == 1);
    let mut tries = ask(lb.web(), "/closed");
    await_queue(&lb, 1);
    // The server that closed is free, and not for the one who was there.
    let next = get(lb.web(), "shop.example", "/next");
    assert_eq!(next.status(), 200);
    gate.open();
    let (held, tried) = (held.response(), tries.response());
    assert_eq!((held.status(), tried.status()), (200, 200));
    assert_eq!(held.text(), tried.text());
    assert_ne!(held.text(), next.text());
}

fn who_does_not_know_a_server_leaves_it_to_others(driver: Driver) {
    let (desk, a) = Desk::start("a");
    let b = Origin::named("b");
    let one = limited(1, &format!("{}{PATIENT}", servers(&[("a", a.address)])));
    let two = limited(1, &format!("{}{PATIENT}", servers(&[("a", a.address), ("b", b.address)])));
    let lb = Setup::new(driver, one).workers(1).start();
    let mut clients = one_by_one(&lb, &desk, 3);
    lb.reload(&two);
    for _ in 0..3 {
        assert_eq!(get(lb.web(), "shop.example", "/new").text(), "b");
    }
    desk.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "a"));
    assert_eq!(desk.came(), ["/0", "/1", "/2"]);
}

fn a_session_whose_server_goes_takes_its_turn_elsewhere(driver: Driver) {
    let (desk_a, a) = Desk::start("a");
    let (desk_b, b) = Desk::start("b");
    let rest = format!("{}sticky = true\n{PATIENT}", servers(&[("a", a.address), ("b", b.address)]));
    let config = limited(1, &rest);
    let lb = Setup::new(driver, config.clone()).workers(1).start();
    let (is_a, cookie) = begin_session(&lb, &desk_a, &desk_b);
    let (own, other, address) = match is_a {
        true => (&desk_a, &desk_b, a.address),
        false => (&desk_b, &desk_a, b.address),
    };
    let with_cookie = |target: &str| ask_as(&lb, target, &cookie);
    let mut clients = vec![with_cookie("/held")];
    own.await_came(2);
    clients.push(with_cookie("/waits"));
    await_queue(&lb, 1);
    clients.push(ask(lb.web(), "/elsewhere"));
    other.await_came(1);
    for late in 0..6 {
        clients.push(ask(lb.web(), &format!("/{late}")));
        await_queue(&lb, 2 + late);
    }
    let away = format!("address = \"{address}\"");
    lb.reload(&config.replace(&away, &format!("{away}, admin = \"maintenance\"")));
    for count in 1..8 {
        other.answer();
        other.await_came(count + 1);
    }
    let came = other.came();
    let turn = came.iter().position(|target| target == "/waits");
    assert!(turn.is_some_and(|turn| turn < 5), "before those that came long after: {came:?}");
    own.open();
    other.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
}

/// All that came of a body was passed on, to a server that closed then. The time for which the next one is waited for is not
/// its client's.
fn waiting_is_not_the_slowness_of_a_client(driver: Driver) {
    let (held, has_closed, has_come) = (Gate::new(), Arc::new(AtomicBool::new(false)), Gate::new());
    let server = || {
        let (held, has_closed, has_come) = (held.clone(), Arc::clone(&has_closed), has_come.clone());
        Origin::scripted(move |conversation| {
            while let Some(request) = conversation.head() {
                if request.target() == "/held" {
                    held.wait();
                } else if conversation.take(4).is_err() || !has_closed.swap(true, Ordering::SeqCst) {
                    return;
                } else {
                    has_come.open();
                    let _ = conversation.take(4);
                }
                let _ = conversation.write(ok("ok"));
            }
        })
    };
    let (a, b) = (server(), server());
    let rate = "body_rate = \"1KiB\"\nbody_grace = \"1s\"";
    let config = format!("[defaults.route]\n{rate}\n{}", servers(&[("a", a.address), ("b", b.address)]));
    let lb = Setup::new(driver, limited(1, &format!("{config}{PATIENT}"))).workers(1).start();
    let mut first = ask(lb.web(), "/held");
    until("a server to have it", || a.connections() + b.connections() == 1);
    let mut client = Client::connect(lb.web());
    client.send("PUT / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 8\r\n\r\nfour");
    await_queue(&lb, 1);
    let since = Instant::now();
    until("more time to pass than a client has", || since.elapsed().as_millis() > 1_300);
    held.open();
    has_come.wait();
    client.send("more");
    assert_eq!((client.response().status(), first.response().status()), (200, 200));
}

fn another_arm_serves_those_who_wait_only_when_theirs_is_down(driver: Driver) {
    let (desk, a) = Desk::start("a");
    let other = Origin::named("other");
    let arms = "backend = \"app\"\ncanary = { backend = \"other\", share = \"0%\" }";
    let config = servers(&[("a", a.address)]).replacen("backend = \"app\"", arms, 1);
    let config = format!("{config}{PATIENT}{}", backend("other", &[("o", other.address)]));
    let lb = Setup::new(driver, limited(1, &config)).workers(2).start();
    let mut clients = one_by_one(&lb, &desk, 12);
    assert_eq!(other.connections(), 0, "its server is full, and that is all");
    a.kill();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "other"));
    assert_eq!(lb.metric("lb_backend_queue", &["backend=\"app\""]), 0.0);
    desk.open();
}
