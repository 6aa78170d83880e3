//! Servers that are to leave: drains with an end, maintenance, and that nothing is left on them.

use serde_json::Value;

use crate::harness::client;
use crate::harness::lb::{backend, servers};
use crate::harness::origin::ok;
use crate::harness::*;

on_both_drivers! {
    sessions_stay_until_the_drain_ends,
    what_is_under_way_ends_in_its_own_time,
    maintenance_closes_idle_connections_and_says_when_it_is_empty,
    a_moment_that_has_passed_moves_sessions_at_once,
}

/// Two servers with sticky sessions, of which the first is wanted so.
fn sticky(a: &Origin, b: &Origin, admin: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nbackend = \"app\"\n\
         [[backend]]\nname = \"app\"\nsticky = true\nserver = [\
         {{ name = \"a\", address = \"{}\", admin = {admin} }}, {{ name = \"b\", address = \"{}\" }}]\n",
        a.address, b.address
    )
}

/// The cookie of a session at `a`.
fn session_at_a(lb: &Lb) -> String {
    let mut cookie = None;
    until("a session at a", || {
        let answer = client::get(lb.web(), "shop.example", "/");
        let line = answer.field("set-cookie").expect("a sticky cookie");
        cookie = (answer.text() == "a").then(|| line.split(';').next().unwrap().to_owned());
        cookie.is_some()
    });
    cookie.unwrap()
}

fn ask(client: &mut Client, target: &str, cookie: &str) -> Message {
    client.exchange(format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nCookie: {cookie}\r\n\r\n"))
}

fn server(lb: &Lb, name: &str) -> Value {
    let page: Value = serde_json::from_str(&lb.admin_get("/servers?format=json").text()).expect("JSON");
    let servers = page["servers"].as_array().expect("servers");
    servers.iter().find(|it| it["server"] == name).expect("it is there").clone()
}

/// What the latest changes say of servers, the newest first.
fn changes(lb: &Lb) -> Vec<String> {
    let stats: Value = serde_json::from_str(&lb.admin_get("/stats").text()).expect("JSON");
    let of_admin = stats["changes"].as_array().expect("changes").iter().filter(|it| it["kind"] == "admin");
    let words =
        of_admin.map(|it| format!("{} {}", it["subject"].as_str().unwrap(), it["words"].as_str().unwrap()));
    words.collect()
}

#[track_caller]
fn await_change(lb: &Lb, parts: &[&str]) {
    until(&format!("a change with {parts:?}"), || {
        changes(lb).iter().any(|change| parts.iter().all(|part| change.contains(part)))
    });
}

fn sessions_stay_until_the_drain_ends(driver: Driver) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let lb = Lb::start(driver, sticky(&a, &b, "\"ready\""));
    let cookie = session_at_a(&lb);
    lb.reload(&sticky(&a, &b, "{ drain = \"1h\" }"));
    let mut client = Client::connect(lb.web());
    let kept = ask(&mut client, "/kept", &cookie);
    assert_eq!((kept.text().as_str(), kept.field("set-cookie")), ("a", None));
    for _ in 0..10 {
        assert_eq!(client::get(lb.web(), "shop.example", "/new").text(), "b", "strangers go elsewhere");
    }
    await_change(&lb, &["app/a drains until ", " UTC with "]);
    let left = server(&lb, "a")["leaving"]["until_in_s"].as_f64().expect("an end");
    assert!((3500.0..=3600.0).contains(&left), "{left}");
    let page = lb.admin_get("/servers").text();
    assert!(page.contains("drain, ") && page.contains(", until "), "{page}");
    let explained = lb.admin_get("/explain?url=http://shop.example/").text();
    assert!(explained.contains("a drains for 59 min yet"), "{explained}");
    // A reload that keeps the drain does not restart its clock.
    lb.reload(&format!("{}slow_start = \"1s\"\n", sticky(&a, &b, "{ drain = \"1h\" }")));
    let later = server(&lb, "a")["leaving"]["until_in_s"].as_f64().expect("an end");
    assert!(later <= left, "{later} {left}");
    // Half a second from the beginning is over by now or soon; the session moves for good.
    lb.reload(&sticky(&a, &b, "{ drain = \"500ms\" }"));
    let mut moved = None;
    until("the session to move", || {
        let answer = ask(&mut client, "/moved", &cookie);
        let text = answer.text();
        moved = Some(answer);
        text == "b"
    });
    assert!(moved.unwrap().field("set-cookie").is_some_and(|line| line.starts_with("lb_app=")));
    await_change(&lb, &["app/a its drain is over: its sessions move"]);
    await_change(&lb, &["app/a empty ", "nothing is under way, and nobody comes any more"]);
    assert_eq!(lb.metric("lb_server_empty", &["server=\"a\""]), 1.0);
    assert!(lb.metric("lb_server_drain_until_seconds", &["server=\"a\""]) > 1.7e9);
    let (page, explained) =
        (lb.admin_get("/servers").text(), lb.admin_get("/explain?url=http://shop.example/").text());
    assert!(page.contains("drain, over, empty since "), "{page}");
    assert!(explained.contains("a has drained: its time is over"), "{explained}");
    until("the log to say so", || lb.log().contains("its drain is over"));
    // Whoever is ready again takes clients, and is no more to leave.
    lb.reload(&sticky(&a, &b, "\"ready\""));
    assert_eq!(ask(&mut client, "/back", &cookie).text(), "a");
    assert_eq!(server(&lb, "a")["leaving"], Value::Null);
    await_change(&lb, &["app/a ready again"]);
}

/// A request and a tunnel that began before the end go on behind it.
fn what_is_under_way_ends_in_its_own_time(driver: Driver) {
    let gate = Gate::new();
    let held = gate.clone();
    let a = Origin::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/tunnel" {
                let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                let _ = conversation.write(head);
                conversation.until_closed();
                return;
            }
            if request.target() == "/slow" {
                held.wait();
            }
            if conversation.write(ok("a")).is_err() {
                return;
            }
        }
    });
    let b = Origin::named("b");
    let lb = Lb::start(driver, sticky(&a, &b, "\"ready\""));
    let cookie = session_at_a(&lb);
    let mut slow = Client::connect(lb.web());
    slow.send(format!("GET /slow HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    let mut tunnel = Client::connect(lb.web());
    tunnel.send(format!(
        "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nCookie: {cookie}\r\n\r\n"
    ));
    assert_eq!(tunnel.response_head().status(), 101);
    until("both to be under way", || lb.metric("lb_server_in_flight", &["server=\"a\""]) == 2.0);
    lb.reload(&sticky(&a, &b, "{ drain = \"1ms\" }"));
    await_change(&lb, &["app/a its drain is over: its sessions move, with 2 in flight"]);
    let page = lb.admin_get("/servers").text();
    assert!(page.contains("drain, over, 2 in flight"), "{page}");
    assert_eq!(lb.metric("lb_server_empty", &["server=\"a\""]), 0.0);
    gate.open();
    assert_eq!(slow.response().text(), "a");
    until("the tunnel alone to be left", || server(&lb, "a")["in_flight"] == 1);
    assert_eq!(lb.metric("lb_server_empty", &["server=\"a\""]), 0.0);
    drop(tunnel);
    await_change(&lb, &["app/a empty after "]);
    assert_eq!(lb.metric("lb_server_empty", &["server=\"a\""]), 1.0);
    assert!(lb.metric("lb_server_empty_after_seconds", &["server=\"a\""]) > 0.0);
}

fn maintenance_closes_idle_connections_and_says_when_it_is_empty(driver: Driver) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let text = |admin: &str| format!("{}timeouts = {{ idle_up = \"1h\" }}\n", sticky(&a, &b, admin));
    let lb = Setup::new(driver, text("\"ready\"")).workers(1).start();
    let cookie = session_at_a(&lb);
    let mut client = Client::connect(lb.web());
    assert_eq!(ask(&mut client, "/", &cookie).text(), "a");
    until("idle connections", || lb.metric("lb_upstream_connections_idle", &[]) >= 1.0);
    // A drain keeps them for its sessions, as long as it lasts.
    lb.reload(&text("\"drain\""));
    assert_eq!(ask(&mut client, "/", &cookie).text(), "a");
    a.wait_for("a connection in the pool", |records| records.iter().any(|(_, end)| end.is_none()));
    lb.reload(&text("\"maintenance\""));
    a.wait_for("the idle connections to be closed", |records| records.iter().all(|(_, end)| end.is_some()));
    await_change(&lb, &["app/a in maintenance with 0 in flight"]);
    await_change(&lb, &["app/a empty from the start"]);
    let page = lb.admin_get("/servers").text();
    assert!(page.contains("maintenance, empty since "), "{page}");
    assert_eq!(ask(&mut client, "/", &cookie).text(), "b");
}

fn a_moment_that_has_passed_moves_sessions_at_once(driver: Driver) {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    // Two processes read each other's cookies.
    let keys = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";
    let text = |admin: &str| format!("[session]\nsecret_file = \"@DIR@/secret\"\n{}", sticky(&a, &b, admin));
    let start = |admin: &str| Setup::new(driver, text(admin)).file("secret", keys).start();
    let lb = start("\"ready\"");
    let cookie = session_at_a(&lb);
    assert_eq!(ask(&mut Client::connect(start("\"drain\"").web()), "/", &cookie).text(), "a");
    lb.reload(&text("{ drain_until = 2099-01-01T00:00:00Z }"));
    let mut client = Client::connect(lb.web());
    assert_eq!(ask(&mut client, "/", &cookie).text(), "a");
    let until_when = server(&lb, "a")["leaving"]["until"].clone();
    assert_eq!(until_when, "2099-01-01T00:00:00Z");
    lb.reload(&text("{ drain_until = 2020-01-01T00:00:00Z }"));
    assert_eq!(ask(&mut client, "/", &cookie).text(), "b");
    // And a start knows it before the first request.
    let lb = start("{ drain_until = 2020-01-01T00:00:00Z }");
    assert_eq!(ask(&mut Client::connect(lb.web()), "/", &cookie).text(), "b");
    assert_eq!(
        changes(&lb).iter().filter(|it| it.contains("empty")).count(),
        0,
        "nobody was ever sent there"
    );
}

/// The same question to a file: it has the clock, too.
#[test]
fn a_file_explains_its_drains() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    for (admin, words) in [
        ("{ drain = \"2h\" }", "a drains for 2 h yet"),
        ("{ drain_until = 2020-01-01T00:00:00Z }", "a has drained: its time is over"),
        ("\"drain\"", "a drains;"),
    ] {
        let setup = Setup::new(Driver::Auto, sticky(&a, &b, admin));
        let output = setup.command(&["explain", "GET", "http://shop.example/"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(words), "{words}: {text}");
    }
}

/// Where nobody stays it is not asked for long whether anybody comes.
#[test]
fn without_sticky_sessions_a_drain_is_empty_soon() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let ready = servers(&[("a", a.address), ("b", b.address)]);
    let lb = Lb::start(Driver::Auto, ready.clone());
    assert_eq!(client::get(lb.web(), "shop.example", "/").status(), 200);
    let drained = format!("name = \"a\", admin = \"drain\", address = \"{}\"", a.address);
    lb.reload(&ready.replace(&format!("name = \"a\", address = \"{}\"", a.address), &drained));
    await_change(&lb, &["app/a empty ", "nobody comes any more"]);
    let other = backend("other", &[("o", b.address)]);
    lb.reload(&format!(
        "{}{other}",
        ready.replace(&format!("name = \"a\", address = \"{}\"", a.address), &drained)
    ));
    assert_eq!(changes(&lb).iter().filter(|it| it.contains("empty")).count(), 1, "it is told once");
}
