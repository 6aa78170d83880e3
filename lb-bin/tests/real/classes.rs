//! Classes: who is served first where a worker has more to do than it can.
//!
//! A worker is made to have more to do than it can by stopping its process while requests come. In which order it then
//! serves them is what the access log tells, for one worker answers by itself and writes a line for each.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::client::get;
use crate::harness::lb::{backend, one_server};
use crate::harness::origin::ok;
use crate::harness::*;

on_both_drivers! {
    a_request_of_a_higher_class_is_served_before_those_that_wait,
    a_lower_class_goes_on_beside_a_flood_of_a_higher_one,
    too_many_of_a_class_are_refused_and_others_are_not,
    one_connection_may_carry_all_classes,
    a_reload_makes_and_drops_classes_under_way,
}

const WEB: &str = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n";

/// A route that answers by itself.
fn answering(class: &str) -> String {
    format!(
        "[[route]]\nname = \"{class}\"\npath_prefix = \"/{class}\"\nclass = \"{class}\"\n\
         reply = {{ body = \"{class}\" }}\n"
    )
}

fn both(more: &str) -> String {
    [WEB, &answering("platinum"), &answering("silver"), more].concat()
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Clients whose connections have had a request of a class.
fn regulars(lb: &Lb, class: &str, count: usize) -> Vec<Client> {
    let regular = |_| {
        let mut client = Client::connect(lb.web());
        assert_eq!(client.exchange(request(&format!("/{class}/first"))).text(), class);
        client
    };
    (0..count).map(regular).collect()
}

/// Stops the process while `act` is done, so that all of it waits when the process goes on.
fn while_stopped(lb: &Lb, act: impl FnOnce()) {
    lb.signal("STOP");
    let status = format!("/proc/{}/status", lb.pid());
    until("the process to stop", || fs::read_to_string(&status).unwrap().contains("State:\tT"));
    act();
    lb.signal("CONT");
}

fn ask_all(clients: &mut [Client], target: &str) {
    for client in clients {
        client.send(request(target));
    }
}

/// Which of the targets that `wanted` says were served, in order.
fn served(lb: &Lb, wanted: &str, count: usize) -> Vec<String> {
    let targets = || -> Vec<String> {
        let log = lb.access_log();
        let complete = log.rsplit_once('\n').map_or("", |(complete, _)| complete);
        let lines = complete.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let targets = lines.map(|line| line["target"].as_str().unwrap().to_owned());
        targets.filter(|target| target.ends_with(wanted)).collect()
    };
    until("all lines", || targets().len() >= count);
    targets()
}

/// Requests of a flood: many more than a worker serves between two looks for what has come.
const FLOOD: usize = 350;

fn flood_setup(driver: Driver) -> Lb {
    Setup::new(driver, both("")).workers(1).log("format = \"json\"").start()
}

fn a_request_of_a_higher_class_is_served_before_those_that_wait(driver: Driver) {
    let lb = flood_setup(driver);
    let (mut silver, mut platinum) = (regulars(&lb, "silver", FLOOD), regulars(&lb, "platinum", 1));
    while_stopped(&lb, || {
        ask_all(&mut silver, "/silver/second");
        ask_all(&mut platinum, "/platinum/second");
    });
    let order = served(&lb, "second", FLOOD + 1);
    let place = order.iter().position(|target| target == "/platinum/second").unwrap();
    assert!(place < FLOOD - 50, "it came last and was served after {place} of {FLOOD}");
    for client in silver.iter_mut().chain(&mut platinum) {
        assert_eq!(client.response().status(), 200);
    }
    let waited =
        |class: &str| lb.metric("lb_class_waited_microseconds_total", &[&format!("class=\"{class}\"")]);
    assert!(waited("silver") > waited("platinum"));
    assert!(lb.metric("lb_class_busy_microseconds_total", &["class=\"silver\""]) > 0.0);
    assert_eq!(lb.metric("lb_class_waiting", &[]), 0.0);
}

fn a_lower_class_goes_on_beside_a_flood_of_a_higher_one(driver: Driver) {
    // With equal shares: what a first request took, a pause of the machine included, is made up for in the flood's time.
    let config = both("[classes]\nplatinum = 60\ngold = 60\nsilver = 60\n");
    let lb = Setup::new(driver, config).workers(1).log("format = \"json\"").start();
    let (mut platinum, mut silver) = (regulars(&lb, "platinum", FLOOD), regulars(&lb, "silver", 1));
    while_stopped(&lb, || {
        ask_all(&mut platinum, "/platinum/second");
        ask_all(&mut silver, "/silver/second");
    });
    let order = served(&lb, "second", FLOOD + 1);
    let first = order.iter().position(|target| target == "/silver/second").unwrap();
    let last = order.iter().rposition(|target| target == "/platinum/second").unwrap();
    assert!(first < last, "silver was served when nothing else was left to do: {first} after {last}");
}

fn too_many_of_a_class_are_refused_and_others_are_not(driver: Driver) {
    let config = both("[classes]\nwaiting = 10\n");
    let lb = Setup::new(driver, config).workers(1).log("format = \"json\"").start();
    let (mut silver, mut platinum) = (regulars(&lb, "silver", FLOOD), regulars(&lb, "platinum", 5));
    // Strangers are of the class that their request has, too.
    let mut strangers: Vec<Client> = (0..20).map(|_| Client::connect(lb.web())).collect();
    while_stopped(&lb, || {
        ask_all(&mut silver, "/silver/second");
        ask_all(&mut strangers, "/silver/second");
        ask_all(&mut platinum, "/platinum/second");
    });
    silver.append(&mut strangers);
    // Nobody asks again before all are answered.
    let answers: Vec<Message> = silver.iter_mut().map(Client::response).collect();
    let mut refused = 0;
    for (client, answer) in silver.iter_mut().zip(&answers).filter(|(_, answer)| answer.status() != 200) {
        assert_eq!((answer.status(), answer.field("x-lb-reason")), (503, Some("class_full")));
        refused += 1;
        // Its connection goes on.
        assert_eq!(client.exchange(request("/silver/third")).status(), 200);
    }
    let served = answers.len() - refused;
    assert!(refused > 0 && served >= 10, "{refused} refused, {served} served");
    for client in &mut platinum {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(lb.metric("lb_class_refused_total", &["class=\"silver\""]), refused as f64);
    assert_eq!(lb.metric("lb_class_refused_total", &[]), refused as f64);
    assert_eq!(lb.metric("lb_local_replies_total", &["reason=\"class_full\""]), refused as f64);
    lb.access_line(&[
        "\"status\":503",
        "\"reason\":\"class_full\"",
        "\"ending\":\"overloaded\"",
        "\"step\":\"request\"",
        "\"termination\":\"RR--\"",
    ]);
}

fn one_connection_may_carry_all_classes(driver: Driver) {
    let origin = Origin::answering(|request| ok(request.target()));
    let silver =
        "[[route]]\nname = \"silver\"\npath_prefix = \"/silver\"\nclass = \"silver\"\nbackend = \"app\"\n";
    let config = [WEB, &answering("platinum"), silver, &backend("app", &[("a", origin.address)])].concat();
    let lb = Setup::new(driver, config).workers(1).start();
    let mut client = Client::connect(lb.web());
    for round in 0..20 {
        // All at once, and one after the other.
        let together = ["/silver/a", "/platinum", "/silver/b"].map(request).concat();
        client.send(together);
        let answers: Vec<String> = (0..3).map(|_| client.response().text()).collect();
        assert_eq!(answers, ["/silver/a", "platinum", "/silver/b"], "round {round}");
        assert_eq!(client.exchange(request("/platinum")).text(), "platinum");
        let body = "x".repeat(10_000);
        let post = format!("POST /silver/c HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n{body}");
        assert_eq!(client.exchange(post).text(), "/silver/c");
    }
    let page = lb.admin_get("/explain?url=http://a/silver").text();
    assert!(page.contains("class silver"), "{page}");
}

fn a_reload_makes_and_drops_classes_under_way(driver: Driver) {
    let origin = Origin::answering(|_| ok("here"));
    let plain = one_server(&origin);
    let silver = plain.replace("backend = \"app\"\n[[", "backend = \"app\"\nclass = \"silver\"\n[[");
    assert_ne!(plain, silver);
    let shared = [&silver, answering("platinum").as_str()].concat();
    let lb = Lb::start(driver, plain.clone());
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (web, done) = (lb.web(), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut client = Client::connect(web);
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.exchange(request("/some")).status(), 200);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        lb.reload(&shared);
        until("the workers to take it up", || get(lb.web(), "a", "/platinum").text() == "platinum");
        assert!(lb.admin_get("/metrics").text().contains("lb_class_waiting{class=\"silver\"}"));
        lb.reload(&plain);
        assert!(!lb.admin_get("/metrics").text().contains("lb_class_waiting"));
    }
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
