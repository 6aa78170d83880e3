//! An exchange as a span: the names of OpenTelemetry's semantic conventions for HTTP (1.x, stable) where they have one,
//! and ours, which are those of the access log, behind `lb.`.

use std::borrow::Cow;

use super::message::{
    FLAG_KNOWS_REMOTE, FLAG_REMOTE, KIND_SERVER, KeyValue, STATUS_ERROR, Span, Status, Value,
};
use crate::workers::SpanReading;

/// Methods that are told as they are; others are `_OTHER`, or clients could make as many names as they like.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The span of an exchange.
pub(super) fn span(reading: &SpanReading<'_>) -> Span {
    let method = text(reading.method);
    let known = METHODS.contains(&&*method);
    let named = if known { &*method } else { "HTTP" };
    let mut flags = u32::from(reading.flags) | FLAG_KNOWS_REMOTE;
    if reading.parent.is_some() {
        flags |= FLAG_REMOTE;
    }
    Span {
        trace_id: reading.trace.to_be_bytes().to_vec(),
        span_id: reading.id.to_be_bytes().to_vec(),
        parent_span_id: reading.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        // Of few different names: the method, and the route's name.
        name: if reading.route.is_empty() { named.to_owned() } else { format!("{named} {}", reading.route) },
        kind: KIND_SERVER,
        start_time_unix_nano: reading.started_ns,
        end_time_unix_nano: reading.ended_ns,
        attributes: attributes(reading, if known { &method } else { "_OTHER" }, &method),
        status: reading.failed.then(|| Status { message: reading.reason.to_owned(), code: STATUS_ERROR }),
        flags,
    }
}

fn attributes(reading: &SpanReading<'_>, method: &str, original: &str) -> Vec<KeyValue> {
    let mut all = Attributes(Vec::with_capacity(32));
    let status = sent_status(reading);
    all.text("http.request.method", method);
    if method != original {
        all.text("http.request.method_original", original);
    }
    all.text("url.scheme", "http");
    all.text("url.path", &text(reading.path));
    all.text("http.route", reading.route);
    let host = text(reading.host);
    let (host, port) = host_and_port(&host);
    all.text("server.address", host);
    all.number("server.port", port);
    all.number("http.response.status_code", status.map(u64::from));
    all.text("client.address", &written(reading.client));
    all.text("network.protocol.version", if reading.is_old { "1.0" } else { "1.1" });
    all.text("user_agent.original", &text(reading.agent));
    if reading.failed {
        let status = written(status);
        all.text("error.type", if reading.reason.is_empty() { &status } else { reading.reason });
    }
    all.text("lb.request_id", reading.request_id);
    all.text("lb.listener", reading.listener);
    all.text("lb.arm", reading.arm);
    all.text("lb.choose", reading.choose);
    all.text("lb.backend", reading.backend);
    all.text("lb.server", reading.server);
    all.text("lb.server_address", &written(reading.server_address));
    if !reading.backend.is_empty() {
        all.0.push(KeyValue::new("lb.fallback", Value::Flag(reading.fallback)));
    }
    all.number("lb.attempts", Some(reading.attempts.into()));
    all.text("lb.ending", reading.ending);
    all.text("lb.reason", reading.reason);
    all.number("lb.bytes_received", Some(reading.bytes_received));
    all.number("lb.bytes_sent", Some(reading.bytes_sent));
    all.number("lb.before_us", reading.before_us);
    all.number("lb.connect_us", reading.connect_us);
    all.number("lb.wait_us", reading.wait_us);
    all.number("lb.transfer_us", reading.transfer_us);
    all.0
}

/// Attributes, those that say nothing left out.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(KeyValue::new(key, value.into()));
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        self.0.extend(value.map(|value| KeyValue::new(key, value.into())));
    }
}

/// The status that the client was sent: 499 is what the log has where it left before.
fn sent_status(reading: &SpanReading<'_>) -> Option<u16> {
    let is_made_up = reading.status == 499 && !reading.reason.is_empty();
    (reading.status != 0 && !is_made_up).then_some(reading.status)
}

fn written(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// What a client sent, as text: bytes that are none become U+FFFD.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// An authority without brackets, and its port.
fn host_and_port(authority: &str) -> (&str, Option<u64>) {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    (host, port.and_then(|port| port.parse::<u16>().ok()).map(u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(span: &Span, key: &str) -> Option<Value> {
        let all: Vec<_> = span.attributes.iter().filter(|it| it.key == key).collect();
        assert!(all.len() < 2, "{key} is there twice");
        all.first().and_then(|it| it.value.clone()).and_then(|it| it.value)
    }

    fn texts(span: &Span, keys: &[&str]) -> Vec<String> {
        let shown = |key: &&str| match found(span, key) {
            Some(Value::Text(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Flag(flag)) => flag.to_string(),
            None => "-".to_owned(),
        };
        keys.iter().map(shown).collect()
    }

    #[test]
    fn a_served_exchange() {
        let span = span(&SpanReading {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            id: 0x1f,
            parent: Some(0xb7ad_6b71_6920_3331),
            flags: 3,
            started_ns: 1_000,
            ended_ns: 5_000,
            status: 200,
            attempts: 1,
            bytes_received: 100,
            bytes_sent: 200,
            before_us: Some(1),
            connect_us: Some(0),
            wait_us: Some(2),
            transfer_us: Some(1),
            client: Some([192, 0, 2, 1].into()),
            method: b"GET",
            path: b"/cart/7",
            host: b"[2001:db8::1]:8080",
            route: "cart",
            arm: "stable",
            backend: "old",
            server: "a",
            server_address: Some(([10, 0, 0, 1], 80).into()),
            ending: "complete",
            ..SpanReading::default()
        });
        assert_eq!((span.name.as_str(), span.kind, span.flags), ("GET cart", KIND_SERVER, 0x303));
        assert_eq!((span.trace_id[0], span.trace_id.len()), (0x0a, 16));
        assert_eq!(span.span_id, [0, 0, 0, 0, 0, 0, 0, 0x1f]);
        assert_eq!(span.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano, &span.status), (1_000, 5_000, &None));
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.request.method_original", "-"),
            ("url.path", "/cart/7"),
            ("http.route", "cart"),
            ("server.address", "2001:db8::1"),
            ("server.port", "8080"),
            ("http.response.status_code", "200"),
            ("client.address", "192.0.2.1"),
            ("network.protocol.version", "1.1"),
            ("error.type", "-"),
            ("lb.server", "a"),
            ("lb.server_address", "10.0.0.1:80"),
            ("lb.fallback", "false"),
            ("lb.reason", "-"),
            ("lb.connect_us", "0"),
            ("lb.wait_us", "2"),
        ] {
            assert_eq!(texts(&span, &[key]), [value], "{key}");
        }
    }

    #[test]
    fn failures_are_errors_and_what_the_client_did_is_none() {
        let of = |status, reason, failed| {
            span(&SpanReading { status, reason, failed, method: b"GET", ..SpanReading::default() })
        };
        let keys = ["http.response.status_code", "error.type", "lb.reason"];
        let failed = of(504, "response_timeout", true);
        assert_eq!(texts(&failed, &keys), ["504", "response_timeout", "response_timeout"]);
        assert_eq!(failed.status, Some(Status { message: "response_timeout".into(), code: STATUS_ERROR }));
        let theirs = of(500, "", true);
        assert_eq!(texts(&theirs, &keys), ["500", "500", "-"]);
        let cut = of(200, "response_cut", true);
        assert_eq!(texts(&cut, &keys), ["200", "response_cut", "response_cut"]);
        let left = of(499, "client_left", false);
        assert_eq!(
            (texts(&left, &keys), &left.status),
            (vec!["-".into(), "-".into(), "client_left".into()], &None)
        );
        let not_found = of(404, "no_route", false);
        assert_eq!((texts(&not_found, &keys)[1].as_str(), &not_found.status), ("-", &None));
        assert_eq!(not_found.name, "GET");
    }

    #[test]
    fn clients_make_no_names() {
        let made =
            span(&SpanReading { method: b"X-\xff", path: b"/\xff", route: "all", ..SpanReading::default() });
        assert_eq!(made.name, "HTTP all");
        let keys = ["http.request.method", "http.request.method_original", "url.path", "lb.fallback"];
        assert_eq!(texts(&made, &keys), ["_OTHER", "X-\u{fffd}", "/\u{fffd}", "-"]);
        for (authority, host, port) in [
            ("shop.test", "shop.test", None),
            ("shop.test:81", "shop.test", Some(81)),
            ("[::1]", "::1", None),
            ("shop.test:", "shop.test", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(authority), (host, port));
        }
    }
}
