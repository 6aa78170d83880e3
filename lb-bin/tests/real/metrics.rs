//! What `/metrics` says after exchanges of which everything is known.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use crate::harness::client::{get, once};
use crate::harness::lb::{BINARY, backend, one_server};
use crate::harness::origin::{ok, response};
use crate::harness::tools::{run, run_ok, text, unused_address};
use crate::harness::*;

on_both_drivers! {
    counts_belong_to_route_arm_backend_and_server,
    a_refusal_belongs_to_the_arm_that_cannot_serve,
    a_fallback_is_counted_where_the_session_belongs,
    times_are_measured_on_both_sides,
    counts_survive_reloads_and_leave_with_their_last_exchange,
    scrapers_that_never_read_hurt_nobody,
    scrapes_of_many_servers_wake_no_worker,
}

const SECRETS: &str = "one:00112233445566778899aabbccddeeff\nshare:ffeeddccbbaa99887766554433221100\n";

/// Route `shop` with a canary that only testers get (`canary` continues its table), and a redirect.
fn shop(old: &str, new: &str, canary: &str) -> String {
    format!(
        "[session]\nsecret_file = \"@DIR@/secret\"\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"shop\"\npath_prefix = \"/shop\"\nbackend = \"old\"\n\
         canary = {{ backend = \"new\", cookie = \"canary\", share = \"0%\", release = \"1\"{canary} }}\n\
         [[route]]\nname = \"away\"\npath = \"/away\"\nredirect = {{ host = \"elsewhere.test\" }}\n{old}{new}"
    )
}

fn start(driver: Driver, config: String) -> Lb {
    Setup::new(driver, config).file("secret", SECRETS).start()
}

fn request(target: &str, cookie: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nCookie: canary={cookie}\r\n\r\n")
}

/// Answers with the status that stands at the end of the path.
fn obedient() -> Origin {
    Origin::answering(|request| {
        let status = request.target().rsplit('/').next().and_then(|word| word.parse().ok());
        response(status.unwrap_or(200), "Said", &[], "12345")
    })
}

const STABLE: [&str; 3] = ["route=\"shop\"", "arm=\"stable\"", "backend=\"old\""];
const CANARY: [&str; 3] = ["route=\"shop\"", "arm=\"canary\"", "backend=\"new\""];

fn with<'a>(labels: &[&'a str], more: &'a str) -> Vec<&'a str> {
    labels.iter().copied().chain([more]).collect()
}

fn counts_belong_to_route_arm_backend_and_server(driver: Driver) {
    let (old, new) = (obedient(), obedient());
    let lb = start(
        driver,
        shop(&backend("old", &[("o", old.address)]), &backend("new", &[("n", new.address)]), ""),
    );
    let mut client = Client::connect(lb.web());
    for status in [200, 200, 200, 404, 299] {
        assert_eq!(client.exchange(request(&format!("/shop/{status}"), "never")).status(), status);
    }
    assert_eq!(client.exchange(request("/shop/503", "always")).status(), 503);
    assert_eq!(client.exchange(request("/away", "never")).status(), 302);
    assert_eq!(client.exchange(request("/nowhere", "never")).status(), 404);
    until("all exchanges to be counted", || lb.metric("lb_requests_total", &[]) == 8.0);

    let of = |name: &str, labels: &[&str]| lb.metric(name, labels);
    let requests = "lb_route_requests_total";
    assert_eq!(of(requests, &with(&STABLE, "code=\"200\"")), 3.0);
    assert_eq!(of(requests, &with(&STABLE, "code=\"404\"")), 1.0);
    assert_eq!(of(requests, &with(&STABLE, "code=\"2xx\"")), 1.0, "299 is not told apart here");
    assert_eq!(of(requests, &with(&CANARY, "code=\"503\"")), 1.0);
    assert_eq!(of(requests, &["route=\"away\"", "arm=\"\"", "code=\"302\""]), 1.0);
    assert_eq!(of(requests, &["route=\"\"", "code=\"404\""]), 1.0);
    assert_eq!(of("lb_requests_total", &["code=\"299\""]), 1.0, "and is told apart of the whole");
    assert_eq!(of("lb_listener_requests_total", &["listener=\"web\"", "code=\"200\""]), 3.0);
    assert_eq!(of("lb_worker_requests_total", &["code=\"200\""]), 3.0);
    assert_eq!(of("lb_backend_requests_total", &["backend=\"new\"", "code=\"503\""]), 1.0);
    assert_eq!(of("lb_server_requests_total", &["server=\"o\"", "code=\"200\""]), 3.0);
    assert_eq!(of("lb_route_local_replies_total", &["route=\"\"", "reason=\"no_route\""]), 1.0);
    assert_eq!(of("lb_route_local_replies_total", &CANARY), 0.0, "a server's 503 is not ours");
    assert_eq!(of("lb_route_attempts_total", &STABLE), 5.0);
    assert_eq!(of("lb_server_upstream_connects_total", &["server=\"o\""]), 1.0);
    assert_eq!(of("lb_server_upstream_reuses_total", &["server=\"o\""]), 4.0);
    assert_eq!(of("lb_route_exchange_seconds_count", &STABLE), 5.0);
    assert_eq!(of("lb_route_connect_seconds_count", &STABLE), 1.0);
    assert_eq!(of("lb_route_wait_seconds_count", &STABLE), 5.0);
    assert_eq!(of("lb_route_transfer_seconds_count", &STABLE), 5.0);
    assert_eq!(of("lb_server_attempt_seconds_count", &["server=\"o\""]), 5.0);
    assert_eq!(of("lb_route_exchange_seconds_count", &["route=\"away\""]), 1.0);
    assert_eq!(of("lb_route_wait_seconds_count", &["route=\"away\""]), 0.0);

    // Bytes are those on the wires.
    let sent = of("lb_server_bytes_sent_total", &["server=\"o\""]);
    assert_eq!(sent, old.all_received().len() as f64);
    let answers: usize =
        [200, 200, 200, 404, 299].map(|status| response(status, "Said", &[], "12345").len()).iter().sum();
    assert_eq!(of("lb_server_bytes_received_total", &["server=\"o\""]), answers as f64);
    let received: f64 = ["route=\"shop\"", "route=\"away\"", "route=\"\""]
        .map(|route| of("lb_route_bytes_received_total", &[route]))
        .iter()
        .sum();
    assert_eq!(received, of("lb_bytes_received_total", &[]));
    assert_eq!(of("lb_listener_bytes_received_total", &[]), received);

    // Nothing is under way any more.
    for gauge in ["lb_route_exchanges_active", "lb_listener_exchanges_active", "lb_backend_in_flight"] {
        assert_eq!(of(gauge, &[]), 0.0, "{gauge}");
    }
    assert_eq!(of("lb_listener_connections_active", &["listener=\"web\""]), 1.0);
    assert_eq!(of("lb_route_share_target", &CANARY), 0.0);
    assert_eq!(of("lb_route_share_served", &STABLE), 5.0 / 6.0);
}

fn a_refusal_belongs_to_the_arm_that_cannot_serve(driver: Driver) {
    let old = Origin::named("old");
    let new = backend("new", &[("n", old.address)]).replace("\" }]", "\", admin = \"maintenance\" }]");
    let lb = start(driver, shop(&backend("old", &[("o", old.address)]), &new, ""));
    // Whoever is forced to the canary is not served by the other arm.
    assert_eq!(once(lb.web(), request("/shop", "always")).status(), 503);
    let refused = with(&CANARY, "reason=\"arm_down\"");
    until("the refusal to be counted", || lb.metric("lb_route_local_replies_total", &refused) == 1.0);
    assert_eq!(lb.metric("lb_route_requests_total", &with(&CANARY, "code=\"503\"")), 1.0);
    assert_eq!(lb.metric("lb_backend_local_replies_total", &["backend=\"new\"", "arm_down"]), 1.0);
    assert_eq!(lb.metric("lb_backend_servers", &["backend=\"new\"", "state=\"maintenance\""]), 1.0);
    assert_eq!(lb.metric("lb_backend_servers", &["backend=\"old\"", "state=\"up\""]), 1.0);
    assert_eq!(lb.metric("lb_route_requests_total", &STABLE), 0.0);
}

fn a_fallback_is_counted_where_the_session_belongs(driver: Driver) {
    let old = Origin::named("old");
    let (old, new) = (backend("old", &[("o", old.address)]), backend("new", &[("n", unused_address())]));
    let lb = start(driver, shop(&old, &new, ", forced_fallback = \"other\""));
    assert_eq!(once(lb.web(), request("/shop", "always")).status(), 200);
    until("the fallback to be counted", || lb.metric("lb_route_fallbacks_total", &CANARY) == 1.0);
    assert_eq!(lb.metric("lb_route_requests_total", &with(&STABLE, "code=\"200\"")), 1.0, "who served");
    assert_eq!(lb.metric("lb_route_requests_total", &CANARY), 0.0);
    assert_eq!(lb.metric("lb_route_attempts_total", &CANARY), 1.0);
    assert_eq!(lb.metric("lb_route_retries_total", &STABLE), 1.0);
    assert_eq!(lb.metric("lb_server_failures_total", &["server=\"n\"", "kind=\"connect\""]), 1.0);
    assert_eq!(lb.metric("lb_server_removals_total", &["server=\"n\""]), 1.0);
    assert_eq!(lb.metric("lb_server_health_changes_total", &[]), 0.0);
    assert_eq!(lb.metric("lb_fallbacks_total", &[]), 1.0);
}

fn times_are_measured_on_both_sides(driver: Driver) {
    let (head, body) = (Gate::new(), Gate::new());
    let origin = {
        let (head, body) = (head.clone(), body.clone());
        Origin::scripted(move |conversation| {
            while conversation.request().is_some() {
                head.wait();
                conversation.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n12").unwrap();
                body.wait();
                conversation.write("34").unwrap();
            }
        })
    };
    let lb = Lb::start(driver, one_server(&origin));
    let begun = Instant::now();
    let mut client = Client::connect(lb.web());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_for("the request", |connections| connections.iter().any(|(bytes, _)| !bytes.is_empty()));
    let waiting = Instant::now();
    until("the exchange to be under way", || lb.metric("lb_route_exchanges_active", &["\"all\""]) == 1.0);
    assert_eq!(lb.metric("lb_server_in_flight", &[]), 1.0);
    let waited = waiting.elapsed();
    head.open();
    client.response_head();
    let transferring = Instant::now();
    until("the attempt to be timed", || lb.metric("lb_server_attempt_seconds_count", &[]) == 1.0);
    assert_eq!(lb.metric("lb_route_exchange_seconds_count", &["\"all\""]), 0.0, "it goes on");
    let transferred = transferring.elapsed();
    body.open();
    assert_eq!(client.take(4), b"1234");
    until("the end", || lb.metric("lb_route_exchange_seconds_count", &["\"all\""]) == 1.0);
    let all = begun.elapsed().as_secs_f64();

    let sum = |name: &str| lb.metric(&format!("{name}_seconds_sum"), &[]);
    let (wait, transfer) = (sum("lb_route_wait"), sum("lb_route_transfer"));
    let (connect, exchange) = (sum("lb_route_connect"), sum("lb_route_exchange"));
    assert!(wait >= waited.as_secs_f64(), "{wait} s, and {waited:?} passed");
    assert!(transfer >= transferred.as_secs_f64(), "{transfer} s, and {transferred:?} passed");
    // To the microsecond, by three roundings.
    assert!(connect + wait + transfer <= exchange + 3e-6, "{connect} + {wait} + {transfer} > {exchange}");
    assert!(exchange <= all, "{exchange} of {all}");
    let attempt = sum("lb_server_attempt");
    assert!((attempt - connect - wait).abs() <= 3e-6, "{attempt} is not {connect} + {wait}");
    assert_eq!(sum("lb_backend_attempt"), attempt);
    assert_eq!(sum("lb_backend_exchange"), exchange);
}

fn counts_survive_reloads_and_leave_with_their_last_exchange(driver: Driver) {
    let gate = Gate::new();
    let slow = {
        let gate = gate.clone();
        Origin::scripted(move |conversation| {
            while let Some(request) = conversation.request() {
                if request.target() == "/shop/slow" {
                    gate.wait();
                }
                conversation.write(ok("slow")).unwrap();
            }
        })
    };
    let fast = Origin::named("fast");
    let (old, new) = (backend("old", &[("o", fast.address)]), backend("new", &[("n", slow.address)]));
    let lb = start(driver, shop(&old, &new, ""));
    assert_eq!(once(lb.web(), request("/shop", "never")).status(), 200);
    assert_eq!(once(lb.web(), request("/shop", "always")).status(), 200);
    let mut client = Client::connect(lb.web());
    client.send(request("/shop/slow", "always"));
    until("the exchange to be under way", || lb.metric("lb_route_exchanges_active", &CANARY) == 1.0);

    // The canary ends; its backend stays, its server is another.
    let next = shop(&old, &backend("new", &[("m", fast.address)]), "").replace("canary = {", "# canary = {");
    lb.reload(&format!("{next}[[route]]\nname = \"new\"\npath = \"/new\"\nbackend = \"new\"\n"));
    assert_eq!(once(lb.web(), request("/shop", "never")).status(), 200);
    until("the count to go on", || {
        lb.metric("lb_route_requests_total", &with(&STABLE, "code=\"200\"")) == 2.0
    });
    assert_eq!(lb.metric("lb_route_exchanges_active", &CANARY), 1.0, "it is still under way");
    assert_eq!(lb.metric("lb_route_requests_total", &CANARY), 1.0);
    gate.open();
    assert_eq!(client.response().text(), "slow");
    until("the last exchange to take its arm along", || {
        !lb.admin_get("/metrics").text().contains("arm=\"canary\"")
    });
    let page = lb.admin_get("/metrics").text();
    assert!(!page.contains("server=\"n\""), "{page}");
    assert!(page.contains("server=\"m\""), "{page}");
    let total = lb.metric("lb_backend_requests_total", &["backend=\"new\""]);
    assert_eq!(total, 2.0, "the backend keeps what its former arm counted");
    assert_eq!(lb.metric("lb_backend_attempt_seconds_count", &["backend=\"new\""]), 2.0);
    assert_eq!(lb.metric("lb_requests_total", &["code=\"200\""]), 4.0);
}

fn scrapers_that_never_read_hurt_nobody(driver: Driver) {
    let origin = Origin::named("a");
    let lb = Lb::start(driver, one_server(&origin));
    let stuck: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(lb.admin).unwrap();
            // As many pages as fill every buffer in between.
            let request = "GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n".repeat(100);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut client = Client::connect(lb.web());
    for _ in 0..200 {
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
    until("the exchanges to be counted", || lb.metric("lb_requests_total", &["200"]) == 200.0);
    assert!(lb.metric("lb_scrapes_total", &[]) > 20.0);
    drop(stuck);
    assert_eq!(get(lb.web(), "a", "/").status(), 200);
}

/// How often each worker's thread has gone to sleep.
fn sleeps(lb: &Lb) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let is_worker = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("lb-worker-"))
    };
    let mut workers: Vec<_> = tasks.filter(is_worker).collect();
    workers.sort();
    let count = |task: &std::path::PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    workers.iter().map(count).collect()
}

fn scrapes_of_many_servers_wake_no_worker(driver: Driver) {
    const SCRAPES: usize = 40;
    let mut config = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n".to_owned();
    for number in 0..100 {
        let servers: Vec<_> = (0..20).map(|it| (format!("s{it}"), unused_port(number, it))).collect();
        let servers: Vec<_> = servers.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        config +=
            &format!("[[route]]\nname = \"r{number}\"\npath = \"/{number}\"\nbackend = \"b{number}\"\n");
        config += &backend(&format!("b{number}"), &servers);
    }
    let lb = Lb::start(driver, config);
    assert_eq!(lb.metric("lb_server_up", &[]), 2000.0);
    let (begun, before) = (Instant::now(), sleeps(&lb));
    assert_eq!(before.len(), 2);
    for _ in 0..SCRAPES {
        assert_eq!(lb.admin_get("/metrics").status(), 200);
    }
    // An idle worker looks up once a second, and that is all.
    let seconds = begun.elapsed().as_secs() + 2;
    for (before, after) in before.iter().zip(sleeps(&lb)) {
        assert!(after - before <= seconds, "{} turns in {seconds} s of {SCRAPES} scrapes", after - before);
    }
}

/// Addresses where nobody is ever asked.
fn unused_port(backend: u16, server: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], 10_000 + backend * 20 + server).into()
}

#[test]
fn check_refuses_what_could_be_too_many_series() {
    let config = Setup::new(Driver::Epoll, one_server(&Origin::named("a"))).start().config_file();
    let check = |lines: &str| {
        let text = std::fs::read_to_string(&config).unwrap_or_default();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lb.toml");
        std::fs::write(&file, format!("[metrics]\n{lines}\n{text}")).unwrap();
        run(Command::new(BINARY).args(["check", "-c"]).arg(&file))
    };
    let refused = check("series_max = 1000");
    assert_eq!(refused.status.code(), Some(3));
    let said = text(&refused.stdout) + &text(&refused.stderr);
    assert!(said.contains("error[LB065]") && said.contains("statuses = \"hundreds\""), "{said}");
    assert!(check("series_max = 1000\nstatuses = \"hundreds\"").status.success());
}

/// Many routes are no mistake: a file that says nothing of metrics is taken, and its routes are not told apart.
#[test]
fn ten_thousand_routes_are_served_and_not_told_apart() {
    let origin = Origin::named("a");
    let mut config = one_server(&origin);
    for number in 0..10_000 {
        config +=
            &format!("[[route]]\nname = \"r{number}\"\npath = \"/r{number}\"\nreply = {{ status = 204 }}\n");
    }
    let lb = Setup::new(Driver::Epoll, config).start();
    assert_eq!(Client::connect(lb.web()).exchange("GET /r77 HTTP/1.1\r\nHost: a\r\n\r\n").status(), 204);
    let page = lb.admin_get("/metrics").text();
    assert!(page.contains("lb_requests_total{") && !page.contains("route=\"r77\""), "{}", page.len());
    assert!(lb.log().contains("routes are not told apart in metrics"), "{}", lb.log());
}

/// The family of every line has a type and help, names end as they should: by the tool of Prometheus itself.
#[test]
fn promtool_finds_nothing_wrong() {
    let (old, new) = (obedient(), obedient());
    let config = shop(&backend("old", &[("o", old.address)]), &backend("new", &[("n", new.address)]), "");
    let lb = start(Driver::Auto, format!("[metrics]\ncompat = \"haproxy\"\n{config}"));
    for (target, cookie) in [("/shop/200", "never"), ("/shop/500", "always"), ("/away", ""), ("/none", "")] {
        once(lb.web(), request(target, cookie));
    }
    until("the exchanges to be counted", || lb.metric("lb_requests_total", &[]) == 4.0);
    let page = lb.directory().join("metrics.txt");
    std::fs::write(&page, lb.admin_get("/metrics").text()).unwrap();
    let said = run_ok(Command::new("sh").args(["-c", "promtool check metrics < \"$0\" 2>&1"]).arg(&page));
    assert_eq!(said, "");
}
