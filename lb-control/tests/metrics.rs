//! `/metrics` over made-up numbers: both formats, the bound on series, HAProxy's families.

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use lb_control::config::address::AdminAddress;
use lb_control::metrics::budget::{
    ALL_REASONS_MAX, ALL_STATUSES_MAX, Budget, Counts, REASONS_MAX, STATUSES_MAX,
};
use lb_control::{
    ArmReading, AttemptNumbers, BackendReading, ByReason, ByStatus, ExchangeNumbers, ListenerReading,
    QueueNumbers, Reading, ServerReading, WorkerReading,
};
use lb_core::histogram::Histogram;
use lb_core::{Outcome, Table};
use support::Running;

const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"

[metrics]
METRICS

[[listener]]
name = "web"
bind = "127.0.0.1:0"

[[route]]
name = "shop"
path_prefix = "/shop"
backend = "old"
canary = { backend = "new", share = "2.5%", release = "1" }

[[route]]
name = "hello"
reply = { body = "hello" }
rate = { requests = 1, per = "1s" }

[[backend]]
name = "old"
health = { kind = "tcp", address = "127.0.0.1", port = 9, initial = "up", interval = "1h", fast_interval = "1h" }
server = [{ name = "a", address = "10.0.0.1:80" }, { name = "b", address = "10.0.0.2:80", backup = true }]

[[backend]]
name = "new"
server = [{ name = "a", address = "localhost:80" }]
"#;

fn start(metrics: &str) -> (tempfile::TempDir, Running) {
    start_with(metrics, "")
}

/// With further tables.
fn start_with(metrics: &str, tables: &str) -> (tempfile::TempDir, Running) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("lb.toml");
    std::fs::write(&file, CONFIG.replace("METRICS", metrics) + tables).expect("write");
    let running = Running::start(Path::new(&file));
    // One check of each server, and the next in an hour: from now on all stands still.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while running.get("/servers").1.contains("under way") {
        assert!(std::time::Instant::now() < deadline, "the first checks do not end");
        std::thread::yield_now();
    }
    (dir, running)
}

/// What the admin listener answers to somebody who accepts this.
fn page(running: &Running, accept: &str) -> (String, String) {
    let Some(AdminAddress::Tcp(address)) = running.control.admin_address().cloned() else { panic!("TCP") };
    let mut stream = TcpStream::connect(address).expect("connect");
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: admin\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("receive");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

fn times(us: &[u64]) -> Histogram {
    let mut times = Histogram::default();
    us.iter().for_each(|us| times.record(std::time::Duration::from_micros(*us)));
    times
}

/// Numbers in which everything was seen that can be told apart.
fn fill(running: &Running, workers: usize) {
    let all: ByStatus = (0..ALL_STATUSES_MAX as u16).map(|status| (status, 1)).collect();
    let some: ByStatus =
        (1..=5).chain(200..200 + STATUSES_MAX as u16 - 5).map(|status| (status, 1)).collect();
    let reasons = |count: u64| -> ByReason {
        (0..count).map(|number| (&*format!("reason_{number}").leak(), 1)).collect()
    };
    let times = times(&[100, 5_000, 90_000_000]);
    let waits = times.clone();
    let exchanges = ExchangeNumbers {
        requests: some.clone(),
        local_replies: reasons(REASONS_MAX),
        exchange: times.clone(),
        wait: times.clone(),
        ..ExchangeNumbers::default()
    };
    let attempts = AttemptNumbers { responses: some, attempt: times, ..AttemptNumbers::default() };
    let worker = WorkerReading {
        requests: all.clone(),
        local_replies: reasons(ALL_REASONS_MAX),
        ..WorkerReading::default()
    };
    let listener = ListenerReading {
        name: "web".into(),
        requests: all,
        local_replies: reasons(ALL_REASONS_MAX),
        ..ListenerReading::default()
    };
    let told = &running.workers;
    *told.reading.lock().unwrap() =
        Reading { driver: "epoll".to_owned(), workers: vec![worker; workers], listeners: vec![listener] };
    let arm = |(route, arm, backend): (&str, &'static str, &str)| ArmReading {
        route: route.into(),
        arm,
        backend: backend.into(),
        exchanges: exchanges.clone(),
    };
    let arms = [("", "", ""), ("shop", "stable", "old"), ("shop", "canary", "new"), ("hello", "", "")];
    *told.arms.lock().unwrap() = arms.map(arm).to_vec();
    let (table, _) = running.control.table();
    let server = |server: &lb_core::snapshot::Server| ServerReading {
        backend: server.identity.backend.clone(),
        name: server.identity.name.clone(),
        address: Some(server.address()),
        attempts: attempts.clone(),
    };
    *told.servers.lock().unwrap() = table.snapshot.servers().iter().map(server).collect();
    let backend = |name: &str| BackendReading {
        queue: QueueNumbers { waiting: 2, entered: 7, waits: Some(waits.clone()) },
        name: name.into(),
        exchanges: exchanges.clone(),
        attempts: attempts.clone(),
    };
    *told.backends.lock().unwrap() = ["old", "new"].map(backend).to_vec();
    answer_once_with_each_class(&table);
}

/// Has every server answered with every class.
fn answer_once_with_each_class(table: &Table) {
    let mut cursors = lb_core::Cursors::default();
    cursors.fit(table);
    for (share, statuses) in [(0_u128, [0, 100, 200]), (u128::MAX, [300, 400, 500])] {
        for status in statuses {
            let fields: [(&str, &str); 0] = [];
            let view = lb_core::RequestView {
                listener: 0,
                method: b"GET",
                host: b"a",
                path: b"/shop",
                query: None,
                fields: &fields,
                source: [127, 0, 0, 1].into(),
                secure: false,
            };
            let now = std::time::Duration::from_secs(1);
            let lb_core::Verdict::Forward(decision) = lb_core::decide(table, &cursors, &view, now, share)
            else {
                panic!("no server")
            };
            decision
                .take(table, &mut cursors, now)
                .expect("no bound")
                .finish(Outcome::Responded { status }, now);
        }
    }
}

fn series(page: &str) -> u64 {
    let lines: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    let unique: BTreeSet<&str> =
        lines.iter().filter_map(|line| line.rsplit_once(' ')).map(|(it, _)| it).collect();
    assert_eq!(unique.len(), lines.len(), "a series stands there twice");
    lines.len() as u64
}

#[test]
fn no_page_has_more_series_than_were_counted_before() {
    let workers = 3;
    for metrics in [
        "",
        "compat = \"haproxy\"",
        "servers = false\ncompat = \"haproxy\"",
        "statuses = \"hundreds\"\nstatsd = { address = \"127.0.0.1:9\", interval = \"1h\" }",
    ] {
        let (dir, running) = start(metrics);
        fill(&running, workers);
        let (head, text) = page(&running, "*/*");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let loaded = lb_control::config::load_blocking(
            &lb_control::config::Origin::File(dir.path().join("lb.toml")),
            lb_control::config::Purpose::Run,
            None,
        );
        let settings = loaded.expect("a runtime").plan.expect("a plan").config.metrics;
        let budget = Budget::of(&running.control.table().0.snapshot, &settings, Counts { workers, names: 1 });
        let (found, bound) = (series(&text), budget.total());
        assert!(found <= bound, "{metrics}: {found} series, {bound} counted before ({budget})");
        // What was counted before is not far off either: here everything has been seen.
        assert!(found * 10 >= bound * 9, "{metrics}: {found} series, {bound} counted before ({budget})");
    }
}

#[test]
fn both_formats_say_the_same() {
    let (_dir, running) = start("");
    fill(&running, 1);
    let (head, open) =
        page(&running, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(open.ends_with("\n# EOF\n"));
    assert!(open.contains("# TYPE lb_route_requests counter\nlb_route_requests_total{"), "{open}");
    let (head, plain) = page(&running, "*/*");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(plain.contains(
        "# HELP lb_route_requests_total Exchanges by arm and status\n# TYPE lb_route_requests_total counter\nlb_route_requests_total{"
    ), "{plain}");
    let samples = |page: &str| -> Vec<String> {
        let samples = page.lines().filter(|line| !line.starts_with('#') && !line.starts_with("lb_scrapes"));
        samples.map(str::to_owned).collect()
    };
    assert_eq!(samples(&open), samples(&plain));
}

#[test]
fn times_shares_and_states_are_what_they_are() {
    let (_dir, running) = start("");
    fill(&running, 1);
    let (_, text) = page(&running, "*/*");
    let arm = "route=\"shop\",arm=\"stable\",backend=\"old\"";
    for line in [
        format!("lb_route_exchange_seconds_bucket{{le=\"0.000256\",{arm}}} 1"),
        format!("lb_route_exchange_seconds_bucket{{le=\"0.004096\",{arm}}} 1"),
        format!("lb_route_exchange_seconds_bucket{{le=\"0.008192\",{arm}}} 2"),
        format!("lb_route_exchange_seconds_bucket{{le=\"67.108864\",{arm}}} 2"),
        format!("lb_route_exchange_seconds_bucket{{le=\"+Inf\",{arm}}} 3"),
        format!("lb_route_exchange_seconds_count{{{arm}}} 3"),
        format!("lb_route_exchange_seconds_sum{{{arm}}} 90.0051"),
        format!("lb_route_connect_seconds_count{{{arm}}} 0"),
        format!("lb_route_share_target{{{arm}}} 0.975"),
        "lb_route_share_target{route=\"shop\",arm=\"canary\",backend=\"new\"} 0.025".to_owned(),
        format!("lb_route_share_served{{{arm}}} 0.5"),
        format!("lb_route_requests_total{{{arm},code=\"4xx\"}} 1"),
        "lb_backend_servers{backend=\"old\",state=\"up\"} 2".to_owned(),
        "lb_backend_servers{backend=\"old\",state=\"maintenance\"} 0".to_owned(),
        "lb_requests_total{code=\"599\"} 1".to_owned(),
        "lb_backend_queue_seconds_count{backend=\"old\"} 3".to_owned(),
        "lb_backend_queue{backend=\"old\"} 2".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("haproxy_"));
}

/// A name that HAProxy's exporter does not have would be one that no dashboard asks for.
#[test]
fn haproxys_families_are_named_as_there() {
    let (_dir, running) = start("compat = \"haproxy\"");
    fill(&running, 1);
    let (_, text) = page(&running, "*/*");
    let known = include_str!("haproxy-2.6.families");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE haproxy_")).collect();
    assert!(types.len() > 40);
    for found in types {
        assert!(known.lines().any(|line| line == found), "HAProxy has no `{found}`");
    }
    for line in [
        "haproxy_frontend_status{proxy=\"web\",state=\"UP\"} 1",
        "haproxy_backend_active_servers{proxy=\"old\"} 1",
        "haproxy_backend_backup_servers{proxy=\"old\"} 1",
        "haproxy_server_status{proxy=\"old\",server=\"a\",state=\"UP\"} 1",
        "haproxy_server_status{proxy=\"old\",server=\"a\",state=\"DOWN\"} 0",
        "haproxy_server_check_status{proxy=\"old\",server=\"a\",state=\"L4CON\"} 1",
        "haproxy_server_check_status{proxy=\"old\",server=\"a\",state=\"L7OK\"} 0",
        "haproxy_server_check_failures_total{proxy=\"old\",server=\"a\"} 1",
        "haproxy_backend_http_responses_total{proxy=\"old\",code=\"1xx\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
}

/// What is shown is documented, and what is documented is shown.
#[test]
fn every_family_is_listed() {
    let leaving = "[[backend]]\nname = \"leaving\"\nsticky = true\nserver = [\
        { name = \"m\", address = \"10.0.0.3:80\", admin = \"maintenance\", max_connections = 9 },\
        { name = \"d\", address = \"10.0.0.4:80\", admin = { drain_until = 9000-01-01T00:00:00Z } }]\n\
        [[route]]\nname = \"late\"\npath_prefix = \"/late\"\nclass = \"silver\"\nbackend = \"leaving\"\n";
    let (_dir, running) = start_with(
        "statsd = { address = \"127.0.0.1:9\", interval = \"1h\" }\n[trace]\notlp = \"http://127.0.0.1:9\"",
        leaving,
    );
    fill(&running, 1);
    let (_, text) = page(&running, "*/*");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let shown: BTreeSet<&str> = types.collect();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating/metrics.md");
    let page = std::fs::read_to_string(page).expect("the documentation");
    let names = page.lines().filter(|line| line.starts_with("| `lb_")).flat_map(|line| {
        let first = line.split('|').nth(1).unwrap_or_default();
        first.split('`').filter(|name| name.starts_with("lb_")).collect::<Vec<_>>()
    });
    assert_eq!(names.collect::<BTreeSet<&str>>(), shown);
}
