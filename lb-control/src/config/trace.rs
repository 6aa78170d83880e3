//! The `[trace]` table: what is done about traces, and which collector is told of those that are sampled.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::address;
use super::health::{Own, between, headers};
use super::reader::{Located, Reader, Scope};
use super::tree::Value;
use super::value::Refused;
use super::{codes, shapes};
use crate::report::Diagnostic;

/// What is done about traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceSettings {
    /// Received traces end here.
    pub restart: bool,
    /// The share of traces beginning here that is marked as sampled, in hundredths of a percent.
    pub sample: u16,
    /// The collector that is told of exchanges in sampled traces; none: nobody is.
    pub otlp: Option<OtlpSettings>,
}

/// Which collector is told by OTLP, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Further fields of each request: names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// What we are called.
    pub service_name: String,
    /// What else is said of us: names and values.
    pub attributes: Vec<(String, String)>,
    /// How long one request may take, the connection included.
    pub timeout: Duration,
    /// How long a span waits for others at most.
    pub interval: Duration,
    /// Spans that may wait; further ones are dropped.
    pub queue: usize,
}

impl OtlpSettings {
    /// A collector with everything else as it usually is.
    pub fn new(endpoint: Endpoint) -> OtlpSettings {
        OtlpSettings {
            endpoint,
            headers: Vec::new(),
            service_name: "lb".to_owned(),
            attributes: Vec::new(),
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(5),
            queue: 8_192,
        }
    }
}

/// A collector's address over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port. A name is looked up whenever a connection is made.
    pub authority: String,
    /// The path that traces are sent to.
    pub path: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// What is added to the path of an endpoint (OTLP 1.x, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";

/// Where collectors usually listen for OTLP over HTTP, and for OTLP over gRPC.
const PORTS: [u16; 2] = [4318, 4317];

/// Bytes of an endpoint's path at most.
const PATH_LEN_MAX: usize = 512;

/// Attributes of ours at most.
const ATTRIBUTES_MAX: usize = 32;

/// Bytes of the name of a service or an attribute, and of an attribute's value, at most.
const TEXT_LEN_MAX: usize = 1024;

/// How long one request may take: from, to.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// How long a span waits for others: from, to.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Spans that may wait: from as many as are sent together, to what takes about a gigabyte.
const QUEUE: RangeInclusive<i64> = 512..=1_000_000;

/// What a request to a collector says itself.
const OWN: Own = Own {
    who: "a request to the collector",
    names: &[
        "connection",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "upgrade",
        "expect",
        "te",
        "user-agent",
    ],
    host: "the host of `endpoint`",
};

/// The `[trace]` table; none: traces are not looked at. `has_otlp` tells whether the program can speak OTLP.
pub(super) fn trace(reader: &mut Reader<'_>, root: Scope<'_>, has_otlp: bool) -> Option<TraceSettings> {
    let scope = reader.table(root, "trace", &shapes::TRACE)?;
    let contexts = [("continue", false), ("restart", true)];
    let restart = reader.choice(scope, "context", &contexts, &["pass", "b3"]);
    let sample = reader.share(scope, "sample");
    let otlp = otlp(reader, scope);
    let settings = TraceSettings {
        restart: restart.is_some_and(|found| found.value),
        sample: sample.map_or(0, |found| found.value),
        otlp: otlp.filter(|_| has_otlp),
    };
    if let Some(entry) = scope.table.entry("otlp").filter(|_| !has_otlp) {
        let message = "this program was built without OTLP".to_owned();
        reader.report.add(
            Diagnostic::error(codes::NOT_BUILT_IN, message)
                .at(entry.key_span)
                .note("it is a feature of the build: `cargo build --release -p lb-bin --features otlp`"),
        );
    }
    if settings.restart && settings.sample == 0 && !reader.is_broken(scope, "sample") {
        reader.no_effect(scope, "otlp", "every trace begins here, and `sample` has none of them sampled");
    }
    Some(settings)
}

/// The table, or the endpoint alone.
fn otlp(reader: &mut Reader<'_>, parent: Scope<'_>) -> Option<OtlpSettings> {
    if matches!(parent.table.get("otlp")?.value, Value::String(_)) {
        return endpoint(reader, parent, "otlp").map(OtlpSettings::new);
    }
    let scope = reader.table(parent, "otlp", &shapes::OTLP)?;
    if scope.table.get("endpoint").is_none() {
        reader.missing(scope, "endpoint", ENDPOINT);
    }
    let found = endpoint(reader, scope, "endpoint");
    // The others' mistakes are told, too, where there is none.
    let fallback = Endpoint { authority: String::new(), path: String::new() };
    let usual = OtlpSettings::new(found.clone().unwrap_or(fallback));
    let time = |reader: &mut Reader<'_>, key, bounds, usual| {
        between(reader, scope, key, bounds).map_or(usual, |found| found.value)
    };
    let settings = OtlpSettings {
        headers: headers(reader, scope, &OWN),
        attributes: attributes(reader, scope),
        timeout: time(reader, "timeout", TIMEOUT, usual.timeout),
        interval: time(reader, "interval", INTERVAL, usual.interval),
        queue: reader.integer(scope, "queue", QUEUE).map_or(usual.queue, |found| found.value as usize),
        service_name: match reader.parsed(scope, "service_name", text) {
            Some(name) => name.value,
            None => usual.service_name,
        },
        endpoint: usual.endpoint,
    };
    found.map(|_| settings)
}

const ENDPOINT: &str = "a collector's address such as \"http://127.0.0.1:4318\"";

fn endpoint(reader: &mut Reader<'_>, scope: Scope<'_>, key: &'static str) -> Option<Endpoint> {
    let Located { value, span } = reader.string(scope, key)?;
    if value.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        reader.broken.insert(span);
        reader.later(span, "TLS towards a collector (`https`)");
        return None;
    }
    let (endpoint, port) = reader.parsed(scope, key, read_endpoint)?.value;
    if port == PORTS[1] {
        let message = format!("collectors usually speak gRPC at {port}, and this is OTLP over HTTP");
        reader.report.add(
            Diagnostic::warning(codes::GRPC_PORT, message)
                .at(span)
                .expected(format!("port {}, unless yours is another", PORTS[0])),
        );
    }
    Some(endpoint)
}

/// An endpoint, and its port.
fn read_endpoint(text: &str) -> Result<(Endpoint, u16), Refused> {
    let refused =
        |expected: &str, meant: Option<String>| Err(Refused { expected: expected.to_owned(), meant });
    let scheme = text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let Some(rest) = scheme.and_then(|scheme| text.get(scheme.len()..)) else {
        let meant = format!("http://{text}");
        return refused(ENDPOINT, read_endpoint(&meant).is_ok().then_some(meant));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let base = path.trim_end_matches('/');
    if authority.contains('@') {
        return refused("no credentials in it: `headers` is for those", None);
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if !path.bytes().all(is_plain) || path.len() > PATH_LEN_MAX {
        return refused("a path of visible ASCII, without a query", None);
    }
    let server = match address::server(authority) {
        Ok(server) => server,
        Err(_) => {
            let with_port = format!("{authority}:{}", PORTS[0]);
            let base = base.strip_suffix(TRACES).unwrap_or(base);
            let meant = address::server(&with_port).is_ok().then(|| format!("http://{with_port}{base}"));
            return refused(ENDPOINT, meant);
        }
    };
    if let Some(base) = base.strip_suffix(TRACES) {
        let meant = Some(format!("http://{authority}{base}"));
        return refused("the address without `/v1/traces`, which is added", meant);
    }
    let (authority, port) = match server {
        address::HostPort::Literal(address) => (address.to_string(), address.port()),
        address::HostPort::Name(name, port) => (format!("{name}:{port}"), port),
    };
    Ok((Endpoint { authority, path: format!("{base}{TRACES}") }, port))
}

fn text(text: &str) -> Result<String, Refused> {
    if (1..=TEXT_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let expected = format!("1 to {TEXT_LEN_MAX} bytes without control characters");
    Err(Refused { expected, meant: None })
}

fn attributes(reader: &mut Reader<'_>, scope: Scope<'_>) -> Vec<(String, String)> {
    let pairs = reader.pairs(scope, "attributes");
    if let Some((name, _)) = pairs.get(ATTRIBUTES_MAX) {
        let expected = format!("at most {ATTRIBUTES_MAX} attributes");
        reader.refuse(name.span, "there are too many attributes", Refused { expected, meant: None });
    }
    for part in pairs.iter().flat_map(|(name, value)| [name, value]) {
        if let Err(why) = text(&part.value) {
            reader.refuse(part.span, "an attribute cannot be written like that", why);
        }
    }
    pairs.into_iter().map(|(name, value)| (name.value, value.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::Span;
    use crate::config::tree;
    use crate::report::Report;

    #[test]
    fn endpoints() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("HTTP://Collector.Internal:4318/", "http://collector.internal:4318/v1/traces"),
            ("http://[::1]:80/otlp//", "http://[::1]:80/otlp/v1/traces"),
        ] {
            assert_eq!(read_endpoint(text).expect("good").0.to_string(), url);
        }
        for (text, meant) in [
            ("127.0.0.1:4318", Some("http://127.0.0.1:4318")),
            ("http://collector", Some("http://collector:4318")),
            ("http://collector/otlp", Some("http://collector:4318/otlp")),
            ("http://collector/v1/traces", Some("http://collector:4318")),
            ("http://collector:4318/v1/traces/", Some("http://collector:4318")),
            ("http://collector:4318/a/v1/traces", Some("http://collector:4318/a")),
            ("grpc://collector:4317", None),
            ("http://user:pass@collector:4318", None),
            ("http://collector:4318?a=b", None),
            ("http://collector:4318/a b", None),
            ("http://collector:0", None),
            ("http://", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(read_endpoint(text).expect_err(text).meant.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn without_the_feature_the_key_is_refused_and_says_what_to_do() {
        for (text, errors) in [
            ("[trace]\notlp = \"http://127.0.0.1:4318\"\n", 1),
            ("[trace.otlp]\nendpoint = \"http://127.0.0.1:4318\"\n", 1),
            ("[trace]\nsample = \"1%\"\n", 0),
        ] {
            let (table, malformed) = tree::parse(0, text);
            assert!(malformed.is_empty());
            let mut report = Report::new();
            let span = Span { file: 0, start: 0, end: 0 };
            let mut reader = Reader::new(&mut report);
            let root = reader.enter(&table, span, &shapes::ROOT);
            let settings = trace(&mut reader, root, false).expect("there is a table");
            assert_eq!(settings.otlp, None);
            let findings = report.diagnostics();
            assert_eq!(findings.len(), errors, "{text}");
            for finding in findings {
                assert_eq!(finding.code, codes::NOT_BUILT_IN);
                assert!(finding.note.as_ref().is_some_and(|note| note.contains("--features otlp")));
            }
        }
    }
}
