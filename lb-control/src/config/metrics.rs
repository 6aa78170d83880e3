//! The `[metrics]` table: what is told apart, and who else is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lb_core::Snapshot;

use super::address::{self, HostPort};
use super::reader::{Located, Reader, Scope};
use super::source::Span;
use super::value::Refused;
use super::{codes, shapes};
use crate::metrics::budget::{Budget, Counts, ways_out};
use crate::report::{Diagnostic, Report};

/// Series that a configuration may have, unless it says otherwise: what 100 backends of 20 servers need twice over.
pub const SERIES_MAX: u64 = 500_000;

/// How often StatsD is told, unless the configuration says otherwise.
pub const STATSD_INTERVAL: Duration = Duration::from_secs(10);

/// What StatsD's names begin with, unless the configuration says otherwise.
pub const STATSD_PREFIX: &str = "";

/// Tags of a configuration at most.
const TAGS_MAX: usize = 16;

/// Bytes of a prefix, of a tag's name and of its value at most.
const WORD_LEN_MAX: usize = 64;

/// What is counted apart, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Series that there may be at most.
    pub series_max: u64,
    /// Whether routes and arms are told apart.
    pub routes: bool,
    /// Whether servers are told apart.
    pub servers: bool,
    /// How statuses are told apart.
    pub statuses: StatusDetail,
    /// Whether the families of HAProxy's exporter are shown, too.
    pub haproxy: bool,
    /// Whom to send numbers to.
    pub statsd: Option<StatsdSettings>,
}

impl Default for MetricsSettings {
    fn default() -> MetricsSettings {
        MetricsSettings {
            series_max: SERIES_MAX,
            routes: true,
            servers: true,
            statuses: StatusDetail::Exact,
            haproxy: false,
            statsd: None,
        }
    }
}

/// How statuses are told apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StatusDetail {
    /// Each for itself.
    #[default]
    Exact,
    /// By hundred.
    Hundreds,
}

/// Whom to send numbers to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdSettings {
    /// Where it listens.
    pub sink: SinkAddress,
    /// What all names begin with.
    pub prefix: String,
    /// How often it is told.
    pub interval: Duration,
    /// Tags that everything has, as `name:value`.
    pub tags: Vec<String>,
}

/// Where a StatsD listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkAddress {
    /// UDP: a host and a port, looked up whenever a connection is made.
    Udp(String),
    /// A Unix datagram socket.
    Unix(PathBuf),
}

impl fmt::Display for SinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkAddress::Udp(address) => f.write_str(address),
            SinkAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What was read.
pub(super) struct Found {
    pub(super) settings: MetricsSettings,
    /// The place of the bound; none where the file says nothing of metrics.
    pub(super) bound: Option<Span>,
}

pub(super) fn metrics(reader: &mut Reader<'_>, root: Scope<'_>) -> Found {
    let mut settings = MetricsSettings::default();
    let Some(scope) = reader.table(root, "metrics", &shapes::METRICS) else {
        return Found { settings, bound: None };
    };
    let bound = reader.integer(scope, "series_max", 1..=100_000_000);
    if let Some(Located { value, .. }) = bound {
        settings.series_max = value as u64;
    }
    settings.routes = reader.boolean(scope, "routes").unwrap_or(true);
    settings.servers = reader.boolean(scope, "servers").unwrap_or(true);
    let details = [("exact", StatusDetail::Exact), ("hundreds", StatusDetail::Hundreds)];
    let statuses = reader.choice(scope, "statuses", &details, &[]);
    settings.statuses = statuses.map(|found| found.value).unwrap_or_default();
    settings.haproxy = reader.choice(scope, "compat", &[("haproxy", true)], &["nginx", "envoy"]).is_some();
    settings.statsd = statsd(reader, scope);
    Found { settings, bound: Some(bound.map_or(scope.span, |found| found.span)) }
}

fn statsd(reader: &mut Reader<'_>, parent: Scope<'_>) -> Option<StatsdSettings> {
    let scope = reader.table(parent, "statsd", &shapes::STATSD)?;
    let expected = "an address such as \"127.0.0.1:8125\" or \"unix:/run/datadog/dsd.socket\"";
    if scope.table.get("address").is_none() {
        reader.missing(scope, "address", expected);
    }
    let sink = reader.parsed(scope, "address", |text| sink(text, 8125));
    let prefix = reader.parsed(scope, "prefix", |text| match word(text) {
        true => Ok(text.to_owned()),
        false => Err(Refused { expected: WORD.to_owned(), meant: None }),
    });
    let interval = reader.duration(scope, "interval").filter(|interval| {
        let usable = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&interval.value);
        if !usable {
            let expected = "from \"1s\" to \"1h\"".to_owned();
            reader.refuse(interval.span, "`interval` is out of range", Refused { expected, meant: None });
        }
        usable
    });
    let tags = tags(reader, scope);
    Some(StatsdSettings {
        sink: sink?.value,
        prefix: prefix.map_or_else(|| STATSD_PREFIX.to_owned(), |found| found.value),
        interval: interval.map_or(STATSD_INTERVAL, |found| found.value),
        tags,
    })
}

const WORD: &str = "letters, digits and . _ - / only, at most 64 of them";

/// Whether a text can stand in a StatsD line, where `:`, `|`, `#`, `@`, `,` and line ends mean something.
fn word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    text.len() <= WORD_LEN_MAX && text.bytes().all(plain)
}

fn tags(reader: &mut Reader<'_>, scope: Scope<'_>) -> Vec<String> {
    let mut tags = Vec::new();
    for (name, value) in reader.pairs(scope, "tags") {
        for part in [&name, &value] {
            if part.value.is_empty() || !word(&part.value) {
                let message = "a tag cannot be written like that".to_owned();
                reader.refuse(part.span, message, Refused { expected: WORD.to_owned(), meant: None });
            }
        }
        if tags.len() == TAGS_MAX {
            let expected = format!("at most {TAGS_MAX} tags");
            reader.refuse(name.span, "there are too many tags", Refused { expected, meant: None });
        }
        tags.push(format!("{}:{}", name.value, value.value));
    }
    tags
}

/// A sink of datagrams, whose usual port is `port`.
pub(super) fn sink(text: &str, port: u16) -> Result<SinkAddress, Refused> {
    if text.starts_with("unix:") || text.starts_with('/') {
        return match address::admin(text)? {
            address::AdminAddress::Unix(path) => Ok(SinkAddress::Unix(path)),
            address::AdminAddress::Tcp(address) => Ok(SinkAddress::Udp(address.to_string())),
        };
    }
    let bare = text.strip_prefix("udp://").or_else(|| text.strip_prefix("udp:"));
    let refused = |meant: Option<String>| {
        let expected = format!("a host and a port such as \"127.0.0.1:{port}\", or \"unix:\" and a path");
        Refused { expected, meant }
    };
    if let Some(bare) = bare {
        return Err(refused(address::server(bare).is_ok().then(|| bare.to_owned())));
    }
    match address::server(text) {
        Ok(HostPort::Literal(address)) => Ok(SinkAddress::Udp(address.to_string())),
        Ok(HostPort::Name(name, port)) => Ok(SinkAddress::Udp(format!("{name}:{port}"))),
        Err(why) => Err(refused(why.meant.map(|meant| meant.replace(":80", &format!(":{port}"))))),
    }
}

/// Refuses a configuration that could have more series than it may. One that says nothing of metrics has its routes
/// not told apart instead, if that is enough: many routes are no mistake. Returns how many servers may be told apart.
pub(super) fn check(
    bound: Option<Span>,
    settings: &mut MetricsSettings,
    snapshot: &Snapshot,
    workers: Option<usize>,
    names: usize,
    report: &mut Report,
) -> usize {
    let workers = workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let of = Counts { workers, names };
    let budget = Budget::of(snapshot, &*settings, of);
    let servers_max = |budget: Budget| budget.servers_max(settings.series_max);
    if budget.total() <= settings.series_max {
        return servers_max(budget);
    }
    let coarser = MetricsSettings { routes: false, ..settings.clone() };
    let coarse = Budget::of(snapshot, &coarser, of);
    if bound.is_none() && coarse.total() <= settings.series_max {
        let servers_max = servers_max(coarse);
        let message =
            format!("routes are not told apart in metrics: there could be {} series", budget.total());
        let way = format!("`series_max = {}` in [metrics] tells them apart", budget.total());
        report.add(Diagnostic::warning(codes::NOT_TOLD_APART, message).note(way));
        *settings = coarser;
        return servers_max;
    }
    let message = format!(
        "there could be {} series of metrics ({budget}), and `series_max` is {}",
        budget.total(),
        settings.series_max
    );
    let mut finding = Diagnostic::error(codes::SERIES, message);
    if let Some(span) = bound {
        finding = finding.at(span).expected(format!("at least {}", budget.total()));
    }
    let ways = ways_out(snapshot, settings, of);
    let ways: Vec<String> = ways.iter().map(|(way, left)| format!("{left} with `{way}`")).collect();
    if !ways.is_empty() {
        finding = finding.note(format!("in [metrics], there could be {}", ways.join(", ")));
    }
    report.add(finding);
    snapshot.servers().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink8125(text: &str) -> Result<SinkAddress, Refused> {
        sink(text, 8125)
    }

    #[test]
    fn sinks() {
        assert_eq!(sink8125("127.0.0.1:8125"), Ok(SinkAddress::Udp("127.0.0.1:8125".into())));
        assert_eq!(sink8125("Agent.internal:8125"), Ok(SinkAddress::Udp("agent.internal:8125".into())));
        assert_eq!(sink8125("unix:/run/dsd.socket"), Ok(SinkAddress::Unix("/run/dsd.socket".into())));
        for (text, meant) in [
            ("udp://127.0.0.1:8125", "127.0.0.1:8125"),
            ("localhost", "localhost:8125"),
            ("/run/dsd.socket", "unix:/run/dsd.socket"),
        ] {
            assert_eq!(sink8125(text).expect_err("refused").meant.as_deref(), Some(meant));
        }
        assert!(sink8125("").is_err() && sink8125("unix:dsd.socket").is_err());
    }
}
