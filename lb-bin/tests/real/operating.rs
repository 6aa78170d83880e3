//! The admin listener and the commands, against what is really served.

use std::process::Command;

use crate::harness::client::{get, once};
use crate::harness::lb::{BINARY, backend, one_server, servers};
use crate::harness::tools::{run, run_ok, text};
use crate::harness::*;

on_both_drivers! {
    the_admin_listener_tells,
    usr1_opens_the_log_anew,
    explain_tells_what_is_served,
}

fn the_admin_listener_tells(driver: Driver) {
    let origin = Origin::named("a");
    let lb = Lb::start(driver, one_server(&origin));
    assert_eq!(lb.driver, driver.name());
    assert_eq!(lb.admin_get("/livez").status(), 200);
    assert_eq!(lb.admin_get("/readyz").status(), 200);
    let mut client = Client::connect(lb.web());
    for _ in 0..10 {
        client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert_eq!(once(lb.web(), "GET / HTTP/1.1\r\n\r\n").status(), 400);
    until("the exchanges to be counted", || lb.metric("lb_requests_total", &["200"]) >= 10.0);
    until("the refusal to be counted", || lb.metric("lb_requests_total", &["400"]) >= 1.0);
    assert!(lb.metric("lb_local_replies_total", &[]) >= 1.0);
    let page = lb.admin_get("/metrics");
    assert!(page.field("content-type").unwrap_or("").contains("text"), "{page:?}");
    for line in page.text().lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("lb_"), "every metric begins with lb_: {line}");
    }
    // Every exchange ends in exactly one count and one line.
    let counted = lb.metric("lb_requests_total", &[]);
    until("every exchange to be logged", || lb.access_log().lines().count() as f64 >= counted);
    assert_eq!(lb.access_log().lines().count() as f64, counted);
}

fn usr1_opens_the_log_anew(driver: Driver) {
    let origin = Origin::named("a");
    let lb = Lb::start(driver, one_server(&origin));
    get(lb.web(), "a", "/before");
    lb.access_line(&["/before"]);
    let log = lb.directory().join("access.log");
    let rotated = lb.directory().join("access.log.1");
    std::fs::rename(&log, &rotated).unwrap();
    lb.signal("USR1");
    until("the new file", || log.exists() || get(lb.web(), "a", "/between").status() != 200);
    get(lb.web(), "a", "/after");
    lb.access_line(&["/after"]);
    let old = std::fs::read_to_string(rotated).unwrap();
    assert!(old.contains("/before") && !old.contains("/after"));
}

fn explain_tells_what_is_served(driver: Driver) {
    let names = ["a", "b", "c"];
    let origins = names.map(Origin::named);
    let list: Vec<_> = names.into_iter().zip(&origins).map(|(name, it)| (name, it.address)).collect();
    let config = format!(
        "[session]\nsecret_file = \"@DIR@/secret\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\nhost = \"shop.example\"\nbackend = \"old\"\n\
         canary = {{ backend = \"new\", share = \"50%\", cookie = \"canary\", release = \"1\" }}\n\
         [[route]]\nname = \"hashed\"\npath_prefix = \"/hashed\"\nbackend = \"hashed\"\n{}{}{}\
         balance = \"rendezvous\"\nhash_key = {{ query = \"user\" }}\n",
        backend("old", &list[..1]),
        backend("new", &list[1..2]),
        backend("hashed", &list),
    );
    let secrets = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";
    let lb = Setup::new(driver, config).file("secret", secrets).start();
    let explain = |words: &[&str]| {
        run_ok(Command::new(BINARY).arg("explain").arg("-c").arg(lb.config_file()).args(words))
    };
    for user in 0..20 {
        let target = format!("/hashed?user={user}");
        let served = get(lb.web(), "x.example", &target).text();
        let told = explain(&["GET", &format!("http://x.example{target}")]);
        assert!(told.contains(&format!("hashed/{served}")), "{target} is served by {served}:\n{told}");
        assert!(told.contains("route hashed"), "{told}");
        // The running process says the same of itself.
        let at = lb.admin.to_string();
        let live = run_ok(Command::new(BINARY).args([
            "explain",
            "--at",
            &at,
            "GET",
            &format!("http://x.example{target}"),
        ]));
        assert!(live.contains(&format!("hashed/{served}")), "{target} is served by {served}:\n{live}");
    }
    for (cookie, served) in [("canary=always", "new/b"), ("canary=never", "old/a")] {
        let told = explain(&["GET", "http://shop.example/x", "-H", &format!("Cookie: {cookie}")]);
        assert!(told.contains(served), "{cookie}:\n{told}");
    }
    for _ in 0..10 {
        // A session as the running process made it.
        let first = get(lb.web(), "shop.example", "/");
        let cookies: Vec<_> =
            first.all("set-cookie").iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
        let cookies = cookies.iter().filter(|it| it.starts_with("lb_session=")).copied().collect::<String>();
        let told = explain(&["GET", "http://shop.example/", "-H", &format!("Cookie: {cookies}")]);
        let arm = if first.text() == "a" { "old/a" } else { "new/b" };
        assert!(told.contains(arm), "{cookies} is served by {arm}:\n{told}");
    }
    let nothing = run(Command::new(BINARY)
        .args(["explain", "-c"])
        .arg(lb.config_file())
        .args(["GET", "http://none.example/"]));
    assert!(text(&nothing.stdout).contains("404"), "{nothing:?}");
}

#[test]
fn check_tells_everything_at_once() {
    let origin = Origin::named("a");
    let good = Setup::new(Driver::Auto, one_server(&origin)).command(&["check"]);
    assert!(good.status.success(), "{good:?}");
    let bad = servers(&[("a", origin.address)]).replace("backend = \"app\"", "backend = \"ap\"")
        + "balance = \"round_robbin\"\n[[route]]\nname = \"all\"\nunknown_key = 1\n";
    let bad = Setup::new(Driver::Auto, bad).command(&["check"]);
    assert_eq!(bad.status.code(), Some(3), "{bad:?}");
    let told = text(&bad.stdout) + &text(&bad.stderr);
    for part in ["error[LB", "lb.toml:", "`ap`", "did you mean", "round_robin", "unknown_key", "^"] {
        assert!(told.contains(part), "{part:?} is missing in\n{told}");
    }
    let usage = run(Command::new(BINARY).arg("chekc"));
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");
}

#[test]
fn check_speaks_json() {
    let origin = Origin::named("a");
    let bad = one_server(&origin).replace("backend = \"app\"", "backend = \"ap\"");
    let bad = Setup::new(Driver::Auto, bad).command(&["check", "--format", "json"]);
    assert_eq!(bad.status.code(), Some(3));
    let told: serde_json::Value = serde_json::from_slice(&bad.stdout).expect("one JSON document on stdout");
    assert!(told.to_string().contains("\"LB0"), "{told}");
}

#[test]
fn a_wrong_file_or_address_does_not_start() {
    let origin = Origin::named("a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = one_server(&origin).replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let failure = Setup::new(Driver::Auto, config).try_start().err().expect("the address is taken");
    assert!(failure.contains("cannot listen on"), "{failure}");
    let failure = Setup::new(Driver::Auto, "[[route]]\n").try_start().err().expect("the file is wrong");
    assert!(failure.contains("LB0"), "{failure}");
}
