//! Names that stand for nothing yet, and names that come to stand for more than there was room for.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::name_server::{NXDOMAIN, NameServer};
use super::{NAME, all_of, config, origins, who};
use crate::harness::client::get;
use crate::harness::lb::BINARY;
use crate::harness::tools::run_ok;
use crate::harness::*;

on_both_drivers! {
    a_name_without_an_address_is_seen,
    more_servers_than_series_are_counted_together,
}

fn a_name_without_an_address_is_seen(driver: Driver) {
    let (port, _origins) = origins(1..=1);
    let name_server = NameServer::start();
    name_server.set_mode(NXDOMAIN);
    let lb = Lb::start(driver, config(&[name_server.address], "", &all_of(port), "sticky = true"));
    let page = lb.admin_get("/servers").text();
    let row = page.lines().find(|line| line.starts_with("app/a ")).unwrap_or_else(|| panic!("{page}"));
    assert!(row.contains(&format!("{NAME}:{port}")) && row.contains("no address"), "{page}");
    let json: Value = serde_json::from_str(&lb.admin_get("/servers?format=json").text()).expect("JSON");
    let server = &json["servers"][0];
    assert_eq!((&server["address"], &server["up"]), (&Value::Null, &false.into()), "{json}");
    let why = server["unresolved"]["why"].as_str().expect("a reason");
    assert!(!why.is_empty() && row.ends_with(why), "{json}\n{page}");
    let stats: Value = serde_json::from_str(&lb.admin_get("/stats").text()).expect("JSON");
    let shown = &stats["backends"][0]["servers"][0];
    assert_eq!(shown["health"], format!("no address ({why})"), "{stats}");
    let top = |lb: &Lb| run_ok(Command::new(BINARY).args(["top", "--once", "--at", &lb.admin.to_string()]));
    let screen = top(&lb);
    assert!(
        screen.lines().any(|line| line.starts_with("! app/a") && line.contains("no address")),
        "{screen}"
    );
    // Once there is one it is a server like all others.
    name_server.set(NAME, &[1]);
    until("its address to be taken up", || {
        lb.admin_get("/servers").text().contains(&format!("127.0.0.1:{port}"))
    });
    let page = lb.admin_get("/servers").text();
    assert!(!page.contains("no address"), "{page}");
    // The workers take it up between two batches of events.
    until("its address to serve", || get(lb.web(), "a", "/x").status() == 200);
}

fn more_servers_than_series_are_counted_together(driver: Driver) {
    let (port, _origins) = origins(1..=20);
    let name_server = NameServer::start();
    name_server.set(NAME, &[1]);
    let text = |most: u64| {
        let metrics = format!("[metrics]\nseries_max = {most}");
        config(&[name_server.address], &metrics, &all_of(port), "")
    };
    // What is counted for one address, and room for two or three more.
    let refused = Setup::new(driver, text(1)).command(&["check"]);
    let told = String::from_utf8([refused.stdout, refused.stderr].concat()).unwrap();
    let counted = told.split("there could be ").nth(1).and_then(|rest| rest.split(' ').next());
    let counted: u64 = counted.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{told}"));
    let most = counted + 300;
    let lb = Lb::start(driver, text(most));
    name_server.set(NAME, &(1..=20).collect::<Vec<u8>>());
    until("all addresses to be up", || lb.metric("lb_backend_servers", &["state=\"up\""]) == 20.0);
    let mut seen = BTreeSet::new();
    until("all servers to have answered", || {
        seen.insert(who(lb.web()));
        seen.len() == 20
    });
    let page = lb.admin_get("/metrics").text();
    let lines = || page.lines().filter(|line| !line.starts_with('#'));
    assert!(lines().count() as u64 <= most, "{} series, {most} at most", lines().count());
    let apart = lines().filter(|line| line.starts_with("lb_server_up{")).count();
    assert!((2..=4).contains(&apart), "{apart} servers are told apart:\n{page}");
    let first = format!("lb_server_up{{backend=\"app\",server=\"a\",address=\"127.0.0.1:{port}\"}} 1");
    assert!(lines().any(|line| line == first), "who was there first stays:\n{page}");
    let together = lb.metric("lb_server_requests_total", &["server=\"\"", "address=\"\""]);
    let all = lb.metric("lb_server_requests_total", &[]);
    assert!(together >= 16.0 && all > together, "{together} of {all}");
    let is_told = |line: &&str| line.contains("`series_max` leaves room for");
    assert_eq!(lb.log().lines().filter(is_told).count(), 1, "it is said once");
}
