//! How names are asked for: `[resolver]`, and what is wrong with names.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::reader::{Located, Reader, Scope, shortened};
use super::value::Refused;
use super::{Config, NamedServer, address, codes, shapes};
use crate::report::{Diagnostic, Report};
use crate::resolve::NAMES_MAX;
use crate::resolve::name::Ttl;
use crate::resolve::names::Names;

/// Name servers at most.
const SERVERS_MAX: usize = 8;

/// Between what `timeout` may be.
const TIMEOUT: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(60)];

/// Between what TTLs may be kept: often enough to follow, and not so often that it harms name servers.
const TTL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(24 * 3600)];

/// How long an address that left the answer may serve on at most, and how long the first answers are waited for.
const REMOVE_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// How names are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverSettings {
    /// The name servers; empty: the system's, and its hosts file.
    pub servers: Vec<SocketAddr>,
    /// Which addresses are wanted.
    pub family: Family,
    /// How long a name server may take for one query.
    pub timeout: Duration,
    /// How often name servers that stayed silent are asked again.
    pub retries: u32,
    /// Between what the TTLs of answers are kept.
    pub(crate) ttl: Ttl,
    /// How long an address that left the answer serves on at most.
    pub remove_after: Duration,
    /// Whether a configuration with a name that stands for no address is refused.
    pub required: bool,
    /// How long the first answers are waited for.
    pub start_wait: Duration,
}

impl Default for ResolverSettings {
    fn default() -> ResolverSettings {
        ResolverSettings {
            servers: Vec::new(),
            family: Family::Any,
            timeout: Duration::from_secs(2),
            retries: 2,
            ttl: Ttl { min: Duration::from_secs(1), max: Duration::from_secs(60) },
            remove_after: Duration::from_secs(30),
            required: false,
            start_wait: Duration::from_secs(5),
        }
    }
}

/// Which addresses of a name are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    /// All.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// IPv4, or IPv6 where there is no IPv4 address.
    PreferIpv4,
    /// IPv6, or IPv4 where there is no IPv6 address.
    PreferIpv6,
}

/// The words for them in the file.
const FAMILIES: [(&str, Family); 5] = [
    ("any", Family::Any),
    ("ipv4", Family::Ipv4),
    ("ipv6", Family::Ipv6),
    ("prefer_ipv4", Family::PreferIpv4),
    ("prefer_ipv6", Family::PreferIpv6),
];

pub(super) fn resolver(reader: &mut Reader<'_>, root: Scope<'_>) -> ResolverSettings {
    let mut settings = ResolverSettings::default();
    let Some(scope) = reader.table(root, "resolver", &shapes::RESOLVER) else { return settings };
    settings.servers = servers(reader, scope);
    settings.family = reader.choice(scope, "family", &FAMILIES, &[]).map(|it| it.value).unwrap_or_default();
    let within = |reader: &mut Reader<'_>, key, [least, most]: [Duration; 2], usual: Duration| {
        let found = reader.duration(scope, key)?;
        if (least..=most).contains(&found.value) {
            return Some(found);
        }
        let expected = format!("{} to {}, usually {}", plain(least), plain(most), plain(usual));
        let message = format!("`{key}` cannot be {}", plain(found.value));
        reader.refuse(found.span, message, Refused { expected, meant: None });
        None
    };
    let value = |found: Option<Located<Duration>>, default: Duration| found.map_or(default, |it| it.value);
    settings.timeout = value(within(reader, "timeout", TIMEOUT, settings.timeout), settings.timeout);
    if let Some(retries) = reader.integer(scope, "retries", 0..=10) {
        settings.retries = retries.value as u32;
    }
    let min = within(reader, "ttl_min", TTL, settings.ttl.min);
    let max = within(reader, "ttl_max", TTL, settings.ttl.max);
    let span = max.as_ref().or(min.as_ref()).map(|found| found.span);
    let ttl_is_broken = reader.is_broken(scope, "ttl_min") || reader.is_broken(scope, "ttl_max");
    let ttl = Ttl { min: value(min, settings.ttl.min), max: value(max, settings.ttl.max) };
    match span {
        Some(span) if ttl.min > ttl.max && !ttl_is_broken => {
            let message = format!(
                "no TTL is at least {} (`ttl_min`) and at most {} (`ttl_max`)",
                plain(ttl.min),
                plain(ttl.max)
            );
            let expected = "`ttl_min` no longer than `ttl_max`".to_owned();
            reader.refuse(span, message, Refused { expected, meant: None });
        }
        _ if ttl_is_broken => {}
        _ => settings.ttl = ttl,
    }
    let (wait, usual) = ([Duration::ZERO, START_WAIT_MAX], settings.start_wait);
    settings.start_wait = value(within(reader, "start_wait", wait, usual), usual);
    let (remove, usual) = ([Duration::ZERO, REMOVE_AFTER_MAX], settings.remove_after);
    settings.remove_after = value(within(reader, "remove_after", remove, usual), usual);
    settings.required = reader.boolean(scope, "required").unwrap_or(false);
    settings
}

fn servers(reader: &mut Reader<'_>, scope: Scope<'_>) -> Vec<SocketAddr> {
    let mut servers: Vec<SocketAddr> = Vec::new();
    let texts = reader.strings(scope, "servers");
    if let Some(node) = scope.table.get("servers").filter(|_| texts.is_empty())
        && !reader.is_broken(scope, "servers")
    {
        let expected = "at least one, or no such key: then the system's are asked".to_owned();
        reader.refuse(node.span, "there are no name servers", Refused { expected, meant: None });
    }
    for text in texts {
        let refusal = match address::name_server(&text.value) {
            Ok(address) if servers.contains(&address) => {
                Refused { expected: "each name server once".to_owned(), meant: None }
            }
            Ok(_) if servers.len() >= SERVERS_MAX => {
                Refused { expected: format!("at most {SERVERS_MAX} name servers"), meant: None }
            }
            Ok(address) => {
                servers.push(address);
                continue;
            }
            Err(why) => why,
        };
        let message = format!("`servers` cannot have `{}`", shortened(&text.value));
        reader.refuse(text.span, message, refusal);
    }
    servers
}

/// A duration in the largest unit that it is a whole number of.
fn plain(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Refuses more names than can be asked for.
pub(super) fn check_bounds(reader: &mut Reader<'_>, named: &[NamedServer]) {
    let mut names = BTreeSet::new();
    for server in named {
        names.insert(&server.question);
        if names.len() > NAMES_MAX {
            let message = format!("there are more than {NAMES_MAX} names to be asked for");
            let finding = Diagnostic::error(codes::TOO_MUCH, message);
            reader.report.add(finding.at(server.span).expected(format!("at most {NAMES_MAX}")));
            return;
        }
    }
}

/// Tells which names stand for no address: an error where all must.
pub(super) fn report_unresolved(config: &Config, names: &Names, report: &mut Report) {
    for server in &config.named {
        let Some(why) = names.why_none(server) else { continue };
        let message = format!("`{}` stands for no address: {why}", server.question.name);
        let finding = match config.resolver.required {
            true => Diagnostic::error(codes::UNRESOLVED, message)
                .note("`required` in [resolver] says that every name must stand for one"),
            false => Diagnostic::warning(codes::UNRESOLVED_HERE, message).note(
                "it is asked for again and again; until there is an answer it gives its backend no servers",
            ),
        };
        report.add(finding.at(server.span));
    }
}
