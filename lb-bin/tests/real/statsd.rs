//! Numbers for StatsD: what is sent, that a real listener takes every line, and sinks that are dead or stuck.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::client::{get, once};
use crate::harness::lb::one_server;
use crate::harness::tools::{program, run_ok, unused_address};
use crate::harness::*;

/// A line, taken apart by the grammar of DogStatsD: `name:value|type[|@rate][|#tag:value,…]`.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    value: f64,
    kind: String,
    rate: f64,
    tags: BTreeMap<String, String>,
}

/// Takes a line apart. Panics at whatever the grammar does not have.
#[track_caller]
fn parse(line: &str) -> Line {
    let (name, rest) = line.split_once(':').unwrap_or_else(|| panic!("no value in {line:?}"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
    assert!(!name.is_empty() && name.bytes().all(plain), "the name in {line:?}");
    let mut parts = rest.split('|');
    let value = parts.next().unwrap();
    let value = value.parse().unwrap_or_else(|_| panic!("the value in {line:?}"));
    let kind = parts.next().unwrap_or_else(|| panic!("no type in {line:?}")).to_owned();
    assert!(["c", "g", "ms"].contains(&kind.as_str()), "the type in {line:?}");
    let (mut rate, mut tags) = (1.0, BTreeMap::new());
    for part in parts {
        if let Some(text) = part.strip_prefix('@') {
            assert!(tags.is_empty(), "the rate comes before the tags: {line:?}");
            rate = text.parse().unwrap_or_else(|_| panic!("the rate in {line:?}"));
            assert!(rate > 0.0 && rate <= 1.0, "the rate in {line:?}");
        } else if let Some(text) = part.strip_prefix('#') {
            for tag in text.split(',') {
                let (name, value) = tag.split_once(':').unwrap_or_else(|| panic!("a tag in {line:?}"));
                assert!(!name.is_empty() && !value.is_empty(), "a tag in {line:?}");
                assert_eq!(tags.insert(name.to_owned(), value.to_owned()), None, "a tag twice in {line:?}");
            }
        } else {
            panic!("what is {part:?} in {line:?}?");
        }
    }
    Line { name: name.to_owned(), value, kind, rate, tags }
}

/// A sink of ours that keeps every packet.
struct Sink {
    socket: UdpSocket,
    lines: Vec<Line>,
    packets: Vec<Vec<u8>>,
}

impl Sink {
    fn new() -> Sink {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Sink { socket, lines: Vec::new(), packets: Vec::new() }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Takes what comes until `holds`.
    #[track_caller]
    fn take_until(&mut self, what: &str, mut holds: impl FnMut(&[Line]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut packet = [0; 65_536];
        while !holds(&self.lines) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}: {:#?}", self.lines);
            let Ok(len) = self.socket.recv(&mut packet) else { continue };
            assert!(len <= 1432, "a packet of {len} bytes");
            let text = std::str::from_utf8(&packet[..len]).expect("lines are text");
            self.lines.extend(text.split('\n').map(parse));
            self.packets.push(packet[..len].to_vec());
        }
    }

    /// The sum of a counter's lines with these tags.
    fn sum(lines: &[Line], name: &str, tags: &[(&str, &str)]) -> f64 {
        let wanted = |line: &&Line| {
            line.name == name
                && tags.iter().all(|(name, value)| line.tags.get(*name).is_some_and(|found| found == value))
        };
        lines.iter().filter(wanted).map(|line| line.value).sum()
    }
}

fn told(sink: &str, origin: &Origin) -> String {
    format!(
        "[metrics]\ncompat = \"haproxy\"\n[metrics.statsd]\naddress = \"{sink}\"\nprefix = \"prod.\"\n\
         interval = \"1s\"\ntags = {{ env = \"test\", team = \"edge\" }}\n{}",
        one_server(origin)
    )
}

fn exchanges(lb: &Lb, count: usize) {
    let mut client = Client::connect(lb.web());
    for _ in 0..count {
        assert_eq!(client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    }
}

on_both_drivers! {
    counters_gauges_and_times_arrive_with_tags,
    what_was_counted_last_is_told_before_the_end,
}

fn counters_gauges_and_times_arrive_with_tags(driver: Driver) {
    let origin = Origin::named("a");
    let mut sink = Sink::new();
    let lb = Lb::start(driver, told(&sink.address().to_string(), &origin));
    exchanges(&lb, 30);
    let route = [("route", "all"), ("arm", "stable"), ("backend", "app"), ("code", "200"), ("env", "test")];
    let requests = "prod.lb_route_requests";
    sink.take_until("thirty requests", |lines| Sink::sum(lines, requests, &route) >= 30.0);
    exchanges(&lb, 5);
    assert_eq!(once(lb.web(), "GET / HTTP/1.1\r\n\r\n").status(), 400);
    sink.take_until("five more, and a refusal", |lines| {
        Sink::sum(lines, requests, &route) >= 35.0
            && Sink::sum(lines, "prod.lb_requests", &[("code", "400")]) >= 1.0
    });
    assert_eq!(Sink::sum(&sink.lines, requests, &route), 35.0, "each is told once");
    for line in &sink.lines {
        assert!(line.name.starts_with("prod.lb_"), "{line:?}");
        assert_eq!(line.tags.get("team").map(String::as_str), Some("edge"), "{line:?}");
    }
    // Times: as many as there were, each weighted, none longer than all this took.
    let times: Vec<&Line> = sink.lines.iter().filter(|line| line.name == "prod.lb_route_exchange").collect();
    let of_all: Vec<&&Line> =
        times.iter().filter(|line| line.tags.get("route").is_some_and(|it| it == "all")).collect();
    let weight: f64 = of_all.iter().map(|line| (1.0 / line.rate).floor()).sum();
    assert_eq!(weight, 35.0, "{of_all:?}");
    assert!(of_all.iter().all(|line| line.kind == "ms" && line.value > 0.0 && line.value < 30_000.0));
    let ready = sink.lines.iter().find(|line| line.name == "prod.lb_ready").expect("gauges are told");
    assert_eq!((ready.kind.as_str(), ready.value), ("g", 1.0));
    until("the packets to be counted", || lb.metric("lb_statsd_packets_total", &["sent"]) >= 1.0);
    assert_eq!(lb.metric("lb_statsd_packets_total", &["lost"]), 0.0);
}

fn what_was_counted_last_is_told_before_the_end(driver: Driver) {
    let origin = Origin::named("a");
    let mut sink = Sink::new();
    let config = told(&sink.address().to_string(), &origin).replace("interval = \"1s\"", "interval = \"1h\"");
    let mut lb = Lb::start(driver, config);
    exchanges(&lb, 7);
    until("the exchanges to be counted", || lb.metric("lb_requests_total", &["200"]) == 7.0);
    lb.signal("TERM");
    assert!(lb.wait().success());
    sink.take_until("the last round", |lines| {
        Sink::sum(lines, "prod.lb_requests", &[("code", "200")]) >= 7.0
    });
}

#[test]
fn a_dead_sink_costs_nothing_but_its_packets_and_is_found_again() {
    let origin = Origin::named("a");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dsd.socket");
    let lb = Lb::start(Driver::Auto, told(&format!("unix:{}", path.display()), &origin));
    exchanges(&lb, 10);
    until("packets to be lost", || lb.metric("lb_statsd_packets_total", &["lost"]) >= 1.0);
    assert_eq!(lb.metric("lb_statsd_packets_total", &["sent"]), 0.0);
    assert!(lb.log().contains("StatsD does not take our packets"), "{}", lb.log());
    assert_eq!(lb.log().matches("StatsD does not take").count(), 1, "said once: {}", lb.log());

    let first = listening(&path);
    exchanges(&lb, 5);
    received_until(&first, "what was counted since", |line| line.name == "prod.lb_route_requests");
    until("packets to be sent", || lb.metric("lb_statsd_packets_total", &["sent"]) >= 1.0);
    assert!(lb.log().contains("StatsD takes our packets again"), "{}", lb.log());

    // It is started anew: another socket of the same name.
    drop(first);
    fs::remove_file(&path).unwrap();
    let second = listening(&path);
    exchanges(&lb, 5);
    received_until(&second, "the new one to be told", |line| line.name == "prod.lb_route_requests");
}

fn listening(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

#[track_caller]
fn received_until(socket: &UnixDatagram, what: &str, wanted: impl Fn(&Line) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut packet = [0; 65_536];
    loop {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        let Ok(len) = socket.recv(&mut packet) else { continue };
        assert!(len <= 8192, "a packet of {len} bytes");
        if std::str::from_utf8(&packet[..len]).unwrap().split('\n').map(parse).any(|line| wanted(&line)) {
            return;
        }
    }
}

#[test]
fn a_sink_that_never_reads_delays_nobody() {
    let origin = Origin::named("a");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dsd.socket");
    let stuck = UnixDatagram::bind(&path).unwrap();
    let lb = Lb::start(Driver::Auto, told(&format!("unix:{}", path.display()), &origin));
    // Its queue fills, and then each round is given up when the next begins.
    until("packets to be lost", || {
        exchanges(&lb, 20);
        lb.metric("lb_statsd_packets_total", &["lost"]) >= 1.0
    });
    exchanges(&lb, 20);
    assert_eq!(lb.admin_get("/readyz").status(), 200);
    stuck.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let sent = lb.metric("lb_statsd_packets_total", &["sent"]);
    let mut packet = [0; 65_536];
    until("packets to be taken again", || {
        while stuck.recv(&mut packet).is_ok() {}
        lb.metric("lb_statsd_packets_total", &["sent"]) > sent
    });
}

/// Netdata as a StatsD listener, and nothing else of it.
struct Netdata {
    child: Child,
    web: SocketAddr,
    statsd: SocketAddr,
    directory: TempDir,
}

impl Netdata {
    fn start() -> Netdata {
        let directory = tempfile::Builder::new().prefix("lb-netdata-").tempdir().unwrap();
        for name in ["etc", "cache", "lib", "log"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let (web, statsd) = (unused_address(), unused_address());
        let user = run_ok(Command::new("id").arg("-un"));
        let off = [
            "proc",
            "diskspace",
            "cgroups",
            "tc",
            "idlejitter",
            "apps",
            "python.d",
            "charts.d",
            "perf",
            "timex",
        ];
        let off: String = off.map(|plugin| format!("    {plugin} = no\n")).concat();
        let config = format!(
            "[global]\n    run as user = {user}\n[directories]\n    config = @DIR@/etc\n    cache = @DIR@/cache\n    \
             lib = @DIR@/lib\n    log = @DIR@/log\n    registry = @DIR@/lib/registry\n    lock = @DIR@/lib/lock\n    \
             home = @DIR@\n[db]\n    mode = ram\n[web]\n    bind to = {web}\n[statsd]\n    enabled = yes\n    \
             bind to = udp:{statsd}\n    update every (flushInterval) = 1\n    \
             create private charts for metrics matching = prod.lb_requests\n[health]\n    enabled = no\n\
             [ml]\n    enabled = no\n[logs]\n    error = @DIR@/log/error.log\n    access = none\n[plugins]\n{off}    \
             enable running new plugins = no\n",
            user = user.trim(),
        )
        .replace("@DIR@", &directory.path().display().to_string());
        let file = directory.path().join("netdata.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new(program("netdata"))
            .arg("-D")
            .arg("-c")
            .arg(&file)
            .arg("-P")
            .arg(directory.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("netdata starts (the script `test` at the top installs it)");
        let netdata = Netdata { child, web, statsd, directory };
        until("netdata to answer", || std::net::TcpStream::connect(web).is_ok());
        until("its StatsD to listen", || !netdata.events().is_empty());
        netdata
    }

    /// Lines that it has taken, by what it took them for.
    fn events(&self) -> BTreeMap<String, f64> {
        let page = get(self.web, "netdata", "/api/v1/allmetrics?format=prometheus&source=raw").text();
        let lines = page.lines().filter(|line| line.starts_with("netdata_netdata_statsd_events_total{"));
        let events = lines.filter_map(|line| {
            let dimension = line.split("dimension=\"").nth(1)?.split('"').next()?;
            Some((dimension.to_owned(), line.split_whitespace().rev().nth(1)?.parse().ok()?))
        });
        events.collect()
    }
}

impl Drop for Netdata {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.directory.path().join("log/error.log");
            eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
        }
        // It ends its own helper on TERM, and would leave it behind on KILL.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_listener_takes_every_line() {
    let netdata = Netdata::start();
    let origin = Origin::named("a");
    let mut sink = Sink::new();
    let lb = Lb::start(Driver::Auto, told(&sink.address().to_string(), &origin));
    exchanges(&lb, 50);
    assert_eq!(once(lb.web(), "GET / HTTP/1.1\r\n\r\n").status(), 400);
    sink.take_until("requests and times", |lines| {
        Sink::sum(lines, "prod.lb_requests", &[]) >= 51.0
            && lines.iter().any(|line| line.kind == "ms")
            && lines.iter().any(|line| line.kind == "g")
    });
    // Ours looked at every line; now the same packets go to Netdata, which says for what it took them.
    let forward = UdpSocket::bind("127.0.0.1:0").unwrap();
    let count = |kind: &str| sink.lines.iter().filter(|line| line.kind == kind).count() as f64;
    let expected = [("counters", count("c")), ("gauges", count("g")), ("timers", count("ms"))];
    let mut taken = 0;
    for packet in &sink.packets {
        forward.send_to(packet, netdata.statsd).unwrap();
        taken += packet.split(|byte| *byte == b'\n').count();
        until("the packet to be taken", || netdata.events().values().sum::<f64>() >= taken as f64);
    }
    let events = netdata.events();
    for (kind, count) in expected {
        assert_eq!(events.get(kind), Some(&count), "{events:?}");
    }
    assert_eq!(events.values().sum::<f64>(), taken as f64, "and nothing for something else: {events:?}");
}
