//! Servers with a bound on their requests, and requests that wait for room.

mod able;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::harness::client::get;
use crate::harness::lb::{backend, servers};
use crate::harness::origin::ok;
use crate::harness::*;

const JSON: &str = "format = \"json\"";

on_both_drivers! {
    a_bound_is_kept_over_all_workers,
    who_came_first_is_served_first,
    full_and_timed_out_are_told_apart,
    without_a_queue_nobody_waits,
    who_leaves_gives_up_its_place,
    a_session_waits_for_its_server_and_then_moves,
    a_full_server_is_not_a_dead_one,
    a_raised_bound_lets_those_in_who_wait,
    what_waits_is_not_lost_on_a_reload,
    who_waits_is_seen_everywhere,
}

/// A server that answers when it is told to, and remembers what it has at once.
#[derive(Clone)]
struct Desk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Targets, in the order in which they came.
    came: Vec<String>,
    waiting: VecDeque<(String, Gate)>,
    inside: usize,
    most: usize,
    open: bool,
}

impl Desk {
    fn start(name: &'static str) -> (Desk, Origin) {
        let desk = Desk(Arc::default());
        let inner = desk.clone();
        let origin = Origin::answering(move |request| {
            let gate = inner.enter(request.target());
            gate.wait();
            inner.0.lock().unwrap().inside -= 1;
            ok(name)
        });
        (desk, origin)
    }

    fn enter(&self, target: &str) -> Gate {
        let mut state = self.0.lock().unwrap();
        state.inside += 1;
        state.most = state.most.max(state.inside);
        state.came.push(target.to_owned());
        let gate = Gate::new();
        if state.open {
            gate.open();
        }
        state.waiting.push_back((target.to_owned(), gate.clone()));
        gate
    }

    /// Waits until so many requests have come.
    fn await_came(&self, count: usize) {
        until("requests to come", || self.came().len() >= count);
    }

    fn came(&self) -> Vec<String> {
        self.0.lock().unwrap().came.clone()
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().most
    }

    /// Answers the first that waits.
    fn answer(&self) {
        let (_, gate) = self.0.lock().unwrap().waiting.pop_front().expect("somebody waits");
        gate.open();
    }

    /// Answers all from now on.
    fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.open = true;
        state.waiting.iter().for_each(|(_, gate)| gate.open());
    }
}

/// The file of these servers, each with this bound.
fn limited(most: u32, rest: &str) -> String {
    format!("[defaults.server]\nmax_requests = {most}\n{rest}")
}

pub fn ask(address: SocketAddr, target: &str) -> Client {
    let mut client = Client::connect(address);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n"));
    client
}

pub fn await_queue(lb: &Lb, length: u32) {
    until("the queue to have a length", || {
        lb.metric("lb_backend_queue", &["backend=\"app\""]) == f64::from(length)
    });
}

/// Clients that ask for /0, /1 and so on, each when the one before it is served or waits.
fn one_by_one(lb: &Lb, desk: &Desk, count: u32) -> Vec<Client> {
    let one = |number| {
        let client = ask(lb.web(), &format!("/{number}"));
        match number {
            0 => desk.await_came(1),
            waiting => await_queue(lb, waiting),
        }
        client
    };
    (0..count).map(one).collect()
}

fn a_bound_is_kept_over_all_workers(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let config = limited(2, &servers(&[("a", origin.address)]));
    let lb = Setup::new(driver, config).workers(4).start();
    let mut clients: Vec<Client> = (0..12).map(|n| ask(lb.web(), &format!("/{n}"))).collect();
    await_queue(&lb, 10);
    desk.await_came(2);
    assert_eq!(desk.came().len(), 2);
    desk.open();
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!((desk.most(), desk.came().len()), (2, 12));
    assert_eq!(lb.metric("lb_backend_queue", &["backend=\"app\""]), 0.0);
    assert_eq!(lb.metric("lb_backend_queued_total", &["backend=\"app\""]), 10.0);
    // Under load, too, where places change hands all the time.
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let web = lb.web();
            std::thread::spawn(move || {
                let mut client = Client::connect(web);
                for _ in 0..200 {
                    let answer = client.exchange("GET /load HTTP/1.1\r\nHost: shop.example\r\n\r\n");
                    assert_eq!((answer.status(), answer.text()), (200, "a".to_owned()));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(desk.most(), 2);
    assert_eq!(lb.metric("lb_server_in_flight", &[]), 0.0);
}

fn who_came_first_is_served_first(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let config = limited(1, &servers(&[("a", origin.address)]));
    let lb = Setup::new(driver, config).workers(3).start();
    let mut clients = one_by_one(&lb, &desk, 8);
    for (number, client) in clients.iter_mut().enumerate() {
        desk.await_came(number + 1);
        desk.answer();
        assert_eq!(client.response().status(), 200);
    }
    let order: Vec<String> = (0..8).map(|number| format!("/{number}")).collect();
    assert_eq!(desk.came(), order);
}

fn full_and_timed_out_are_told_apart(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let queue = "queue = { requests = 1, timeout = \"400ms\" }\n";
    let config = limited(1, &format!("{}{queue}", servers(&[("a", origin.address)])));
    let lb = Setup::new(driver, config).log(JSON).start();
    let mut served = ask(lb.web(), "/served");
    desk.await_came(1);
    let mut waits = ask(lb.web(), "/waits");
    await_queue(&lb, 1);
    let refused = get(lb.web(), "shop.example", "/refused");
    assert_eq!((refused.status(), refused.field("x-lb-reason")), (503, Some("queue_full")));
    let late = waits.response();
    assert_eq!((late.status(), late.field("x-lb-reason")), (503, Some("queue_timeout")));
    desk.open();
    assert_eq!(served.response().status(), 200);
    // Its connection goes on, and its place is free.
    assert_eq!(waits.exchange("GET /after HTTP/1.1\r\nHost: shop.example\r\n\r\n").status(), 200);
    assert_eq!(desk.came(), ["/served", "/after"]);
    lb.access_line(&[
        "/waits",
        "\"termination\":\"sQ--\"",
        "\"step\":\"queue\"",
        "\"ending\":\"queue_timeout\"",
    ]);
    lb.access_line(&[
        "/refused",
        "\"termination\":\"SQ--\"",
        "\"step\":\"queue\"",
        "\"ending\":\"queue_full\"",
    ]);
    for reason in ["queue_full", "queue_timeout"] {
        let reason = format!("reason=\"{reason}\"");
        assert_eq!(lb.metric("lb_backend_local_replies_total", &["backend=\"app\"", &reason]), 1.0);
    }
}

fn without_a_queue_nobody_waits(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let lb = Lb::start(driver, limited(1, &format!("{}queue = false\n", servers(&[("a", origin.address)]))));
    let mut served = ask(lb.web(), "/served");
    desk.await_came(1);
    let refused = get(lb.web(), "shop.example", "/refused");
    assert_eq!((refused.status(), refused.field("x-lb-reason")), (503, Some("queue_full")));
    let page = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(page.contains("nobody waits here: the request is refused"), "{page}");
    desk.open();
    assert_eq!(served.response().status(), 200);
}

fn who_leaves_gives_up_its_place(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let lb = Setup::new(driver, limited(1, &servers(&[("a", origin.address)]))).log(JSON).start();
    let mut served = ask(lb.web(), "/served");
    desk.await_came(1);
    let leaves = ask(lb.web(), "/leaves");
    await_queue(&lb, 1);
    let mut stays = ask(lb.web(), "/stays");
    await_queue(&lb, 2);
    leaves.reset();
    await_queue(&lb, 1);
    lb.access_line(&["/leaves", "\"termination\":\"CQ--\"", "\"reason\":\"client_left\""]);
    desk.open();
    assert_eq!((served.response().status(), stays.response().status()), (200, 200));
    assert_eq!(desk.came(), ["/served", "/stays"]);
}

/// Whichever serves the first request is the session's own: whether that is `a`, and the session's cookie.
fn begin_session(lb: &Lb, a: &Desk, b: &Desk) -> (bool, String) {
    let mut first = ask(lb.web(), "/first");
    until("somebody to get it", || a.came().len() + b.came().len() == 1);
    let is_a = a.came().len() == 1;
    if is_a {
        a.answer()
    } else {
        b.answer()
    }
    let answer = first.response();
    let cookie = answer.field("set-cookie").expect("a sticky cookie").split(';').next().unwrap();
    (is_a, cookie.to_owned())
}

fn ask_as(lb: &Lb, target: &str, cookie: &str) -> Client {
    let mut client = Client::connect(lb.web());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nCookie: {cookie}\r\n\r\n"));
    client
}

fn a_session_waits_for_its_server_and_then_moves(driver: Driver) {
    let (desk_a, a) = Desk::start("a");
    let (desk_b, b) = Desk::start("b");
    let keys = "sticky = true\nqueue = { timeout = \"500ms\" }\n";
    let config = limited(1, &format!("{}{keys}", servers(&[("a", a.address), ("b", b.address)])));
    let lb = Lb::start(driver, config);
    let (is_a, cookie) = begin_session(&lb, &desk_a, &desk_b);
    let (desk_own, desk_other, other) = match is_a {
        true => (&desk_a, &desk_b, "b"),
        false => (&desk_b, &desk_a, "a"),
    };
    let with_cookie = |target: &str| ask_as(&lb, target, &cookie);
    let mut held = with_cookie("/held");
    desk_own.await_came(2);
    // There is room at the other server, and the session waits for its own.
    let mut waits = with_cookie("/waits");
    await_queue(&lb, 1);
    assert_eq!(desk_other.came().len(), 0);
    // Who has no server of its own does not stand behind it.
    let mut anybody = ask(lb.web(), "/anybody");
    desk_other.await_came(1);
    desk_other.answer();
    assert_eq!(anybody.response().text(), other);
    desk_own.answer();
    assert_eq!(held.response().status(), 200);
    desk_own.await_came(3);
    desk_own.answer();
    let stayed = waits.response();
    assert!(stayed.field("set-cookie").is_none(), "it stayed: {stayed:?}");
    // When its own has no room for too long, it moves for good.
    let mut held = with_cookie("/held");
    desk_own.await_came(4);
    let mut moves = with_cookie("/moves");
    desk_other.await_came(2);
    desk_other.answer();
    let moved = moves.response();
    assert_eq!((moved.status(), moved.text()), (200, other.to_owned()));
    assert!(moved.field("set-cookie").is_some_and(|line| line.starts_with("lb_app=")), "{moved:?}");
    desk_own.answer();
    assert_eq!(held.response().status(), 200);
}

fn a_full_server_is_not_a_dead_one(driver: Driver) {
    let (desk, primary) = Desk::start("primary");
    let spare = Origin::named("spare");
    let config = limited(
        1,
        &format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             [[route]]\nname = \"all\"\nbackend = \"app\"\n\
             [[backend]]\nname = \"app\"\nserver = [{{ name = \"a\", address = \"{}\" }}, \
             {{ name = \"spare\", address = \"{}\", backup = true }}]\n",
            primary.address, spare.address
        ),
    );
    let lb = Lb::start(driver, config);
    let mut served = ask(lb.web(), "/served");
    desk.await_came(1);
    let mut waits = ask(lb.web(), "/waits");
    await_queue(&lb, 1);
    let page = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(page.contains("a is full with 1 of 1 in flight") && page.contains("the request waits"), "{page}");
    // Nor is it for those that come while others wait.
    let mut too = ask(lb.web(), "/too");
    await_queue(&lb, 2);
    assert_eq!(spare.connections(), 0);
    // Once it is dead, those who wait go to the backup.
    primary.kill();
    for client in [&mut waits, &mut served, &mut too] {
        assert_eq!(client.response().text(), "spare");
    }
    desk.open();
}

fn a_raised_bound_lets_those_in_who_wait(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let config = servers(&[("a", origin.address)]);
    let lb = Setup::new(driver, limited(1, &config)).workers(2).start();
    let mut clients: Vec<Client> = (0..6).map(|n| ask(lb.web(), &format!("/{n}"))).collect();
    await_queue(&lb, 5);
    lb.reload(&limited(4, &config));
    desk.await_came(4);
    await_queue(&lb, 2);
    lb.reload(&config);
    desk.await_came(6);
    desk.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(desk.most(), 6);
}

fn what_waits_is_not_lost_on_a_reload(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let config = limited(1, &servers(&[("a", origin.address)]));
    let lb = Setup::new(driver, config.clone()).workers(2).start();
    let mut clients = one_by_one(&lb, &desk, 4);
    let another = Origin::named("another");
    lb.reload(&format!("{config}{}", backend("other", &[("o", another.address)])));
    // Newcomers stand behind those who waited by the old table.
    let mut newcomer = ask(lb.web(), "/new");
    await_queue(&lb, 4);
    for (number, client) in clients.iter_mut().chain([&mut newcomer]).enumerate() {
        desk.await_came(number + 1);
        desk.answer();
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(desk.came().last().map(String::as_str), Some("/new"));
    assert_eq!(desk.most(), 1);
}

fn who_waits_is_seen_everywhere(driver: Driver) {
    let (desk, origin) = Desk::start("a");
    let config = limited(1, &servers(&[("a", origin.address)]));
    let lb = Setup::new(driver, config).log(JSON).start();
    let mut clients = one_by_one(&lb, &desk, 4);
    let page = lb.admin_get("/servers").text();
    let line = page.lines().find(|line| line.starts_with("app  ")).unwrap_or_else(|| panic!("{page}"));
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["app", "1", "3", "1000", "3"], "{page}");
    assert!(page.contains("1 of 1, full"), "{page}");
    let json: serde_json::Value =
        serde_json::from_str(&lb.admin_get("/servers?format=json").text()).expect("JSON");
    assert_eq!(json["queues"][0]["waiting"], 3, "{json}");
    let stats =
        || -> serde_json::Value { serde_json::from_str(&lb.admin_get("/stats").text()).expect("JSON") };
    let app = &stats()["backends"][0];
    assert_eq!((&app["waiting"], &app["may_wait"]), (&3.into(), &1000.into()), "{app}");
    assert_eq!(app["servers"][0]["max_requests"], 1, "{app}");
    let screen = std::process::Command::new(crate::harness::lb::BINARY)
        .args(["top", "--once", "--at", &lb.admin.to_string()])
        .output()
        .unwrap();
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains(" wait ") && screen.contains("up: full"), "{screen}");
    assert_eq!(lb.metric("lb_backend_queue_seconds_count", &["backend=\"app\""]), 0.0, "they wait yet");
    desk.open();
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(lb.metric("lb_backend_queue_seconds_count", &["backend=\"app\""]), 3.0);
    assert!(lb.metric("lb_backend_queue_seconds_sum", &["backend=\"app\""]) > 0.0);
    until("the times of those who waited", || stats()["backends"][0]["waits"]["p50"].as_f64() > Some(0.0));
    // Each line says for how long; who did not wait has none.
    let line = |target: &str| -> serde_json::Value {
        serde_json::from_str(&lb.access_line(&[&format!("\"target\":\"{target}\"")])).expect("JSON")
    };
    assert_eq!(line("/0")["queue_us"], serde_json::Value::Null);
    for target in ["/1", "/2", "/3"] {
        let line = line(target);
        let (queue_us, before_us) = (line["queue_us"].as_u64(), line["before_us"].as_u64());
        assert!(queue_us > Some(0) && queue_us <= before_us, "{line}");
    }
}
