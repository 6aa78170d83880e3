//! W3C Trace Context: what servers get of it, and what the access log says.

use serde_json::Value;

use crate::access_log::{JSON, line_after, lines, validate};
use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::*;

on_both_drivers! {
    a_trace_goes_on,
    what_cannot_be_read_begins_anew,
    a_trace_ends_where_it_is_told_to,
    without_the_table_fields_pass,
    two_hops_are_parent_and_child,
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn start(driver: Driver, origin: &Origin, trace: &str) -> Lb {
    let config = format!("{trace}\n{}", one_server(origin));
    Setup::new(driver, config).workers(1).log(JSON).start()
}

/// Sends a request with these fields. Gives the fields of traces that the server got, and the line.
fn ask(lb: &Lb, origin: &Origin, fields: &str) -> (Vec<String>, Value) {
    let (before, known) = (lines(lb).len(), origin.all_received().len());
    let mut client = Client::connect(lb.web());
    client.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let received = origin.all_received();
    let received = String::from_utf8_lossy(&received[known..]).to_ascii_lowercase();
    let traced = received.lines().filter(|line| line.starts_with("trace")).map(str::to_owned).collect();
    (traced, line_after(lb, before))
}

fn ids(line: &Value) -> [Option<&str>; 3] {
    ["trace_id", "span_id", "parent_id"].map(|key| line[key].as_str())
}

fn a_trace_goes_on(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let lb = start(driver, &origin, "[trace]");
    for flags in ["00", "01"] {
        let fields = format!(
            "Traceparent: 00-{TRACE}-b7ad6b7169203331-{flags}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"
        );
        let (received, line) = ask(&lb, &origin, &fields);
        let [trace, span, parent] = ids(&line);
        assert_eq!((trace, parent), (Some(TRACE), Some("b7ad6b7169203331")));
        let ours = format!("traceparent: 00-{TRACE}-{}-{flags}", span.unwrap());
        assert_eq!(received, ["tracestate: a=1", "tracestate: b=2", ours.as_str()]);
    }
    validate(&lb);
}

fn what_cannot_be_read_begins_anew(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let lb = start(driver, &origin, "[trace]\nsample = \"100%\"");
    let good = format!("00-{TRACE}-b7ad6b7169203331-01");
    let mut seen = Vec::new();
    for fields in [
        String::new(),
        format!("Traceparent: {good}x\r\n"),
        format!("Traceparent: {}\r\n", good.to_uppercase()),
        format!("Traceparent: {good}\r\nTraceparent: {good}\r\n"),
        format!("Connection: traceparent\r\nTraceparent: {good}\r\n"),
    ] {
        let (received, line) = ask(&lb, &origin, &format!("{fields}Tracestate: a=1\r\n"));
        let [trace, span, parent] = ids(&line);
        let (trace, span) = (trace.unwrap(), span.unwrap());
        assert_eq!(received, [format!("traceparent: 00-{trace}-{span}-03")], "{fields}");
        assert!(parent.is_none() && trace != TRACE, "{line}");
        seen.push(trace.to_owned());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5, "each trace is another");
    validate(&lb);
}

fn a_trace_ends_where_it_is_told_to(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let lb = start(driver, &origin, "[trace]\ncontext = \"restart\"");
    let fields = format!("Traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\ntracestate: a=1\r\n");
    let (received, line) = ask(&lb, &origin, &fields);
    let [trace, span, parent] = ids(&line);
    assert_eq!(received, [format!("traceparent: 00-{}-{}-02", trace.unwrap(), span.unwrap())]);
    assert!(parent.is_none() && trace != Some(TRACE), "{line}");
}

fn without_the_table_fields_pass(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let lb = start(driver, &origin, "");
    let (received, line) = ask(&lb, &origin, "traceparent: nonsense\r\ntracestate: a=1\r\n");
    assert_eq!(received, ["traceparent: nonsense", "tracestate: a=1"]);
    assert_eq!(ids(&line), [None; 3]);
    validate(&lb);
}

fn two_hops_are_parent_and_child(driver: Driver) {
    let origin = Origin::answering(|_| ok("ok"));
    let inner = start(driver, &origin, "[trace]");
    let config = format!("[trace]\n{}", lb::servers(&[("inner", inner.web())]));
    let outer = Setup::new(driver, config).workers(1).log(JSON).start();
    Client::connect(outer.web()).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let (above, below) = (line_after(&outer, 0), line_after(&inner, 0));
    assert_eq!(above["trace_id"], below["trace_id"]);
    assert_eq!(above["span_id"], below["parent_id"]);
    assert_ne!(above["span_id"], below["span_id"]);
}
