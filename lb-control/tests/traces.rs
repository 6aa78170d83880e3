//! Spans on their way to a collector that takes them, does not, hangs, talks nonsense, or is not there.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use support::Running;
use support::collector::{Collector, Reply, attributes, spans_of};

const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A control thread whose collector is at `url`, with further lines of `[trace.otlp]`.
fn start(url: &str, lines: &str) -> Running {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("lb.toml");
    let config = format!(
        "[engine]\nzone = \"eu-1a\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [trace.otlp]\nendpoint = \"{url}\"\ninterval = \"100ms\"\n{lines}\n\
         [[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"all\"\nreply = {{ status = 200 }}\n"
    );
    std::fs::write(&file, config).expect("write");
    Running::start(&file)
}

/// Spans by what became of them: sent, failed, dropped.
fn counts(running: &Running) -> [u64; 3] {
    let (_, page) = running.get("/metrics");
    ["sent", "failed", "dropped"].map(|result| {
        let name = format!("lb_trace_spans_total{{result=\"{result}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
    })
}

/// The last byte of each span's id, in order.
fn ids(collector: &Collector) -> Vec<u64> {
    let id = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    collector.spans().iter().map(|span| id(&span.span_id)).collect()
}

fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

#[test]
fn a_batch_says_who_tells_and_goes_where_it_should() {
    let collector = Collector::start([]);
    let lines = "headers = { x-tenant = \"a b\" }\nservice_name = \"edge\"\n\
                 attributes = { team = \"net\", \"host.name\" = \"mine\" }";
    let running = start(&format!("{}/otlp", collector.url()), lines);
    running.workers.record(1..=3);
    until("three spans", || collector.spans().len() == 3);
    let received = collector.received().remove(0);
    let head = received.head.to_ascii_lowercase();
    for line in [
        "post /otlp/v1/traces http/1.1",
        &format!("host: {}", collector.address),
        "content-type: application/x-protobuf",
        "x-tenant: a b",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    let [resource_spans] = &received.request.resource_spans[..] else { panic!("one resource") };
    let resource = attributes(&resource_spans.resource.as_ref().expect("a resource").attributes);
    for (key, value) in [
        ("service.name", "edge"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("cloud.availability_zone", "eu-1a"),
        ("team", "net"),
        ("host.name", "mine"),
    ] {
        assert_eq!(resource.get(key).map(String::as_str), Some(value), "{resource:?}");
    }
    assert_eq!(resource["service.instance.id"].len(), 36);
    assert_eq!(resource_spans.scope_spans[0].scope.as_ref().expect("a scope").name, "lb");
    assert_eq!(spans_of(&received.request)[0].name, "GET shop");
    // The next batch goes by the same connection.
    running.workers.record(4..=4);
    until("a fourth", || ids(&collector) == [1, 2, 3, 4]);
    assert_eq!(collector.connections(), 1);
    until("all to be counted", || counts(&running) == [4, 0, 0]);
}

#[test]
fn one_that_is_busy_is_asked_again() {
    let busy = |status| Reply::Status(status, "retry-after: 0\r\n".to_owned());
    let collector = Collector::start([busy(429), busy(503), Reply::Status(502, String::new())]);
    let running = start(&collector.url(), "");
    running.workers.record(1..=7);
    until("the spans to be taken", || collector.spans().len() == 7);
    let received = collector.received();
    assert_eq!(received.len(), 4, "three times in vain");
    assert!(received.iter().all(|it| it.request == received[0].request), "and always the same");
    until("each to be counted once", || counts(&running) == [7, 0, 0]);
}

#[test]
fn what_is_refused_has_failed_and_nobody_is_followed() {
    let other = Collector::start([]);
    let elsewhere = Reply::Status(307, format!("location: {}/v1/traces\r\n", other.url()));
    let collector = Collector::start([Reply::Status(400, String::new()), elsewhere]);
    let running = start(&collector.url(), "");
    running.workers.record(1..=2);
    until("a first failure", || counts(&running) == [0, 2, 0]);
    running.workers.record(3..=5);
    until("a second", || counts(&running) == [0, 5, 0]);
    running.workers.record(6..=6);
    until("a success", || counts(&running) == [1, 5, 0]);
    assert_eq!((ids(&collector), collector.received().len()), (vec![6], 3));
    assert_eq!(other.connections(), 0);
}

#[test]
fn what_a_collector_rejects_of_a_batch_has_failed() {
    let collector = Collector::start([Reply::Partial(2, "too old"), Reply::Partial(i64::MAX, "none")]);
    let running = start(&collector.url(), "");
    running.workers.record(1..=5);
    until("a part to be counted", || counts(&running) == [3, 2, 0]);
    running.workers.record(6..=6);
    until("no more than there were", || counts(&running) == [3, 3, 0]);
}

#[test]
fn one_that_hangs_or_talks_nonsense_is_asked_again() {
    let collector = Collector::start([Reply::Hang, Reply::Bytes(b"what?\r\n\r\n")]);
    let running = start(&collector.url(), "timeout = \"200ms\"");
    running.workers.record(1..=4);
    until("the spans to be taken", || ids(&collector) == [1, 2, 3, 4]);
    assert_eq!(collector.received().len(), 3);
    until("each to be counted once", || counts(&running) == [4, 0, 0]);
}

#[test]
fn one_that_comes_back_is_found_by_itself() {
    let address = unused_address();
    let running = start(&format!("http://{address}"), "");
    running.workers.record(1..=3);
    until("the spans to be seen to", || running.workers.recorded.lock().expect("not poisoned").is_empty());
    assert_eq!(counts(&running), [0, 0, 0]);
    let collector = Collector::at(address, []);
    until("the spans to be taken", || ids(&collector) == [1, 2, 3]);
    until("each to be counted once", || counts(&running) == [3, 0, 0]);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted() {
    let collector = Collector::start([Reply::Hang]);
    let running = start(&collector.url(), "queue = 600\ntimeout = \"60s\"");
    running.workers.record(1..=2_000);
    until("the rest to be dropped", || counts(&running) == [0, 0, 1_400]);
    // A batch is under way for ever, so there is room for as many as it has, and no more.
    until("a batch to be under way", || !collector.received().is_empty());
    running.workers.record(3_000..=5_999);
    until("the others, too", || counts(&running) == [0, 0, 1_400 + 3_000 - 512]);
    assert_eq!(spans_of(&collector.received()[0].request).len(), 512);
}

#[test]
fn the_last_spans_are_told_at_the_end() {
    let collector = Collector::start([]);
    let running = start(&collector.url(), "");
    running.workers.record(1..=1_300);
    drop(running);
    assert_eq!(ids(&collector), (1..=1_300).collect::<Vec<_>>());
    // What is under way then is not sent once more.
    let collector = Collector::start([]);
    let running = start(&collector.url(), "");
    running.workers.record(1..=1);
    until("the first to be on its way", || !collector.received().is_empty());
    drop(running);
    assert_eq!(ids(&collector), [1]);
}

#[test]
fn one_that_hangs_at_the_end_does_not_keep_us() {
    let collector = Collector::start([Reply::Hang, Reply::Hang, Reply::Hang]);
    let running = start(&collector.url(), "timeout = \"60s\"");
    running.workers.record(1..=1);
    until("the first to be on its way", || !collector.received().is_empty());
    // It comes back, though nothing ever answers.
    drop(running);
    assert_eq!(collector.received().len(), 1);
}
