//! What a collector of traces is told: the same ids, numbers and words as the access log and the server, of sampled
//! exchanges and of no others; and what a collector that hangs costs.

#[path = "../../../lb-control/tests/support/collector.rs"]
mod collector;

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;

use self::collector::{Collector, Reply, attributes};
use crate::access_log::{JSON, line_after, lines};
use crate::harness::lb::{backend, one_server};
use crate::harness::origin::{ok, response};
use crate::harness::tools::unused_address;
use crate::harness::*;

on_both_drivers! {
    a_sampled_exchange_is_told_as_the_log_and_the_server_have_it,
    only_sampled_exchanges_are_told,
    failures_are_errors,
    a_reload_changes_names_and_the_last_spans_come_before_the_end,
    a_collector_that_hangs_costs_nobody_a_request,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn told(collector: &Collector, more: &str) -> String {
    format!("{more}\n[trace.otlp]\nendpoint = \"{}\"\ninterval = \"100ms\"\n", collector.url())
}

fn ask(client: &mut Client, target: &str, fields: &str) -> Message {
    client.exchange(format!("GET {target} HTTP/1.1\r\nHost: shop.test:8080\r\n{fields}\r\n"))
}

/// A `traceparent` of this trace, sampled or not.
fn parent(sampled: bool) -> String {
    format!("traceparent: 00-{TRACE}-b7ad6b7169203331-0{}\r\n", u8::from(sampled))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for so many spans.
#[track_caller]
fn spans(collector: &Collector, count: usize) -> Vec<Span> {
    until("spans to come", || collector.spans().len() >= count);
    let spans = collector.spans();
    assert_eq!(spans.len(), count, "{spans:#?}");
    spans
}

/// What a member of a line is as text; nothing where it is left out.
fn member(line: &Value, key: &str) -> Option<String> {
    match &line[key] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Compares a span with its line.
#[track_caller]
fn assert_same(span: &Span, line: &Value) -> BTreeMap<String, String> {
    assert_eq!(Some(hex(&span.trace_id)), member(line, "trace_id"));
    assert_eq!(Some(hex(&span.span_id)), member(line, "span_id"));
    assert_eq!(hex(&span.parent_span_id), member(line, "parent_id").unwrap_or_default());
    assert_eq!(span.kind, 2, "a server's");
    let attributes = attributes(&span.attributes);
    for (key, name) in [
        ("http.request.method", "method"),
        ("http.route", "route"),
        ("client.address", "client"),
        ("lb.request_id", "id"),
        ("lb.listener", "listener"),
        ("lb.arm", "arm"),
        ("lb.choose", "choose"),
        ("lb.backend", "backend"),
        ("lb.server", "server"),
        ("lb.attempts", "attempts"),
        ("lb.ending", "ending"),
        ("lb.reason", "reason"),
        ("lb.bytes_received", "bytes_received"),
        ("lb.bytes_sent", "bytes_sent"),
        ("lb.before_us", "before_us"),
        ("lb.connect_us", "connect_us"),
        ("lb.wait_us", "wait_us"),
        ("lb.transfer_us", "transfer_us"),
    ] {
        assert_eq!(attributes.get(key), member(line, name).as_ref(), "{key} and {name} in {line}");
    }
    assert_eq!(attributes["server.port"], "8080");
    let duration_ns = span.end_time_unix_nano - span.start_time_unix_nano;
    assert_eq!(Some(duration_ns / 1_000), line["total_us"].as_u64(), "{line}");
    attributes
}

fn a_sampled_exchange_is_told_as_the_log_and_the_server_have_it(driver: Driver) {
    let (origin, collector) = (Origin::answering(|_| ok("ok")), Collector::start([]));
    let config = told(&collector, "") + &one_server(&origin);
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    let mut client = Client::connect(lb.web());
    let fields = format!("{}user-agent: a test\r\n", parent(true));
    assert_eq!(ask(&mut client, "/cart/7?secret=1", &fields).status(), 200);
    let span = spans(&collector, 1).remove(0);
    let line = line_after(&lb, 0);
    let attributes = assert_same(&span, &line);
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!((span.name.as_str(), span.flags, &span.status), ("GET all", 0x301, &None));
    for (key, value) in [
        ("url.scheme", "http"),
        ("url.path", "/cart/7"),
        ("server.address", "shop.test"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "a test"),
        ("lb.server_address", &origin.address.to_string()),
        ("lb.fallback", "false"),
    ] {
        assert_eq!(attributes.get(key).map(String::as_str), Some(value), "{attributes:#?}");
    }
    // The server was told the same span as the one that caused its work.
    let received = String::from_utf8_lossy(&origin.all_received()).into_owned();
    let ours = format!("traceparent: 00-{TRACE}-{}-01", hex(&span.span_id));
    assert!(received.to_ascii_lowercase().lines().any(|found| found == ours), "{ours} in {received}");
    // It happened while the test ran.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let since = now.saturating_sub(Duration::from_nanos(span.start_time_unix_nano));
    assert!(since < PATIENCE, "{since:?}");
    until("it to be counted", || lb.metric("lb_trace_spans_total", &["sent"]) == 1.0);
    assert_eq!(lb.metric("lb_trace_spans_total", &["failed"]), 0.0);
    assert_eq!(lb.metric("lb_trace_spans_total", &["dropped"]), 0.0);
}

fn only_sampled_exchanges_are_told(driver: Driver) {
    let (origin, collector) = (Origin::answering(|_| ok("ok")), Collector::start([]));
    let config = told(&collector, "") + &one_server(&origin);
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    let mut client = Client::connect(lb.web());
    // Spans come in the order in which exchanges ended.
    for fields in [parent(false), String::new(), parent(true), parent(false)] {
        assert_eq!(ask(&mut client, "/", &fields).status(), 200);
    }
    assert_same(&spans(&collector, 1)[0], &line_after(&lb, 2));
    // Without an access log, and of traces that begin here.
    let collector = Collector::start([]);
    let config = told(&collector, "[trace]\nsample = \"100%\"") + &one_server(&origin);
    let lb = Setup::new(driver, config).workers(1).log_to("off").start();
    assert_eq!(ask(&mut Client::connect(lb.web()), "/begun", "").status(), 200);
    let span = spans(&collector, 1).remove(0);
    assert_eq!((span.parent_span_id.len(), span.flags), (0, 0x103));
    let attributes = attributes(&span.attributes);
    assert_eq!((&*attributes["url.path"], &*attributes["lb.server"]), ("/begun", "a"));
}

fn failures_are_errors(driver: Driver) {
    let origin = Origin::answering(|request| match request.target() {
        "/500" => response(500, "No", &[], ""),
        "/bad" => b"nonsense\r\n\r\n".to_vec(),
        _ => ok("ok"),
    });
    let collector = Collector::start([]);
    let config = told(&collector, "")
        + "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
           [[route]]\nname = \"all\"\nhost = \"shop.test\"\nbackend = \"app\"\n\
           [[route]]\nname = \"gone\"\nhost = \"shop.test\"\npath = \"/gone\"\nbackend = \"dead\"\n\
           [[route]]\nname = \"here\"\nhost = \"shop.test\"\npath = \"/here\"\nreply = { status = 410 }\n"
        + &backend("app", &[("a", origin.address)])
        + &backend("dead", &[("d", unused_address())]);
    let lb = Setup::new(driver, config).workers(1).log(JSON).start();
    let cases = [
        ("/500", "GET all", "500", Some(("500", ""))),
        ("/bad", "GET all", "502", Some(("response_bad_status_line", "response_bad_status_line"))),
        ("/gone", "GET gone", "502", Some(("connect_failed", "connect_failed"))),
        ("/here", "GET here", "410", None),
    ];
    for (number, (target, name, status, error)) in cases.into_iter().enumerate() {
        assert_eq!(ask(&mut Client::connect(lb.web()), target, &parent(true)).status().to_string(), status);
        let span = spans(&collector, number + 1).remove(number);
        let attributes = assert_same(&span, &line_after(&lb, number));
        assert_eq!((&*span.name, &*attributes["http.response.status_code"]), (name, status));
        assert_eq!(attributes.get("error.type").map(String::as_str), error.map(|(kind, _)| kind), "{target}");
        let status = span.status.map(|status| (status.code, status.message));
        assert_eq!(status, error.map(|(_, message)| (2, message.to_owned())), "{target}");
    }
    // No route, and so no name of one.
    let mut client = Client::connect(lb.web());
    client.send(format!("GET / HTTP/1.1\r\nHost: other.test:8080\r\n{}\r\n", parent(true)));
    assert_eq!(client.response().status(), 404);
    let span = spans(&collector, cases.len() + 1).remove(cases.len());
    let attributes = assert_same(&span, &line_after(&lb, cases.len()));
    assert_eq!((&*span.name, attributes.get("error.type"), span.status), ("GET", None, None));
    assert_eq!(attributes["lb.reason"], "no_route");
}

fn a_reload_changes_names_and_the_last_spans_come_before_the_end(driver: Driver) {
    let (origin, collector) = (Origin::answering(|_| ok("ok")), Collector::start([]));
    let config = told(&collector, "") + &one_server(&origin);
    let config = config.replace("\"100ms\"", "\"1m\"");
    let mut lb = Setup::new(driver, config.clone()).workers(1).log(JSON).start();
    let mut client = Client::connect(lb.web());
    assert_eq!(ask(&mut client, "/", &parent(true)).status(), 200);
    lb.reload(&config.replace("name = \"all\"", "name = \"every\""));
    assert_eq!(ask(&mut client, "/", &parent(true)).status(), 200);
    // Another collector needs a restart, and that is said each time.
    for _ in 0..2 {
        let before = lb.log().matches("what [trace] says is applied at the next start").count();
        lb.reload(&config.replace(&collector.url(), "http://127.0.0.1:1"));
        let said = || lb.log().matches("what [trace] says is applied at the next start").count();
        until("a warning", || said() == before + 1);
    }
    assert_eq!(ask(&mut client, "/", &parent(true)).status(), 200);
    until("three lines", || lines(&lb).len() == 3);
    assert!(collector.spans().is_empty(), "they wait for others");
    drop(client);
    lb.signal("TERM");
    assert!(lb.wait().success());
    let names: Vec<String> = spans(&collector, 3).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["GET all", "GET every", "GET all"]);
}

fn a_collector_that_hangs_costs_nobody_a_request(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let collector = Collector::start([Reply::Hang]);
    let config = told(&collector, "[trace]\nsample = \"100%\"") + "queue = 512\ntimeout = \"60s\"\n";
    let lb = Setup::new(driver, config + &one_server(&origin)).start();
    let mut client = Client::connect(lb.web());
    until("spans to find no room", || {
        (0..100).for_each(|_| assert_eq!(ask(&mut client, "/", "").status(), 200));
        lb.metric("lb_trace_spans_total", &["dropped"]) > 0.0
    });
    assert_eq!(ask(&mut client, "/", "").status(), 200);
    assert_eq!(lb.metric("lb_trace_spans_total", &["sent"]), 0.0);
    assert_eq!(lb.admin_get("/readyz").status(), 200);
}
