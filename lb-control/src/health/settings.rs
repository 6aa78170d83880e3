//! How servers are checked and watched, as a configuration says it.
//!
//! It is kept beside the core's spec, not in it: the core judges results and sends nothing, so what is sent would be
//! dead weight to whoever embeds it. That it is part of a snapshot's content hash is what
//! [`BackendSpec::annex`](lb_core::spec::BackendSpec::annex) is for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_core::Identity;
use lb_core::health::{CheckSettings, Watching};
use lb_core::outlier::OutlierSettings;

/// How long a check may take, unless the configuration says otherwise or checks come faster.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whom a PostgreSQL server is told that it is, unless the configuration says otherwise. It need not exist.
pub const POSTGRES_USER: &str = "lb";

/// What is watched of every backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HealthSettings {
    backends: HashMap<Arc<str>, BackendHealth>,
}

/// What is watched of one backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackendHealth {
    /// Its checks; none: its servers are taken to be up.
    pub checks: Option<Checks>,
    /// What makes an outlier; none: nobody is ejected.
    pub outliers: Option<OutlierSettings>,
    /// By the name of a server's entry: where it is checked, if not where the backend says.
    pub targets: HashMap<String, Target>,
}

/// How a backend's servers are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Checks {
    /// How often, and what follows.
    pub settings: CheckSettings,
    /// How long one may take in all.
    pub timeout: Duration,
    /// What is asked, and what answer is good.
    pub probe: Probe,
    /// Where, if not where traffic goes.
    pub target: Target,
}

/// Where a server is checked: the parts that are not those of its address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target {
    /// Another IP address.
    pub ip: Option<IpAddr>,
    /// Another port.
    pub port: Option<u16>,
}

/// What is asked of a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// That a connection comes about.
    Connect,
    /// That something comes back, perhaps to something that was sent.
    Exchange {
        /// What is sent; may be empty.
        send: Vec<u8>,
        /// What must be in the answer.
        expect: Vec<u8>,
    },
    /// A Redis `PING`.
    Redis,
    /// The beginning of a PostgreSQL session.
    Postgres {
        /// Whose.
        user: String,
    },
}

/// An HTTP request and what is a good response.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The Host field; none: the address that is checked.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Good statuses.
    pub statuses: Statuses,
    /// What the body must have in it.
    pub body: Option<String>,
}

/// A set of statuses: ranges, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl Default for Statuses {
    /// 200 to 399, as others have it.
    fn default() -> Statuses {
        Statuses(vec![(200, 399)])
    }
}

impl Statuses {
    /// Whether a status is among them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl std::fmt::Display for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Target {
    /// Where a server of this address is checked, the parts that are missing taken from `other` first.
    pub fn or(self, other: Target, address: SocketAddr) -> SocketAddr {
        let ip = self.ip.or(other.ip).unwrap_or(address.ip());
        SocketAddr::new(ip, self.port.or(other.port).unwrap_or(address.port()))
    }
}

impl HealthSettings {
    /// Adds a backend.
    pub fn insert(&mut self, backend: &str, health: BackendHealth) {
        if health != BackendHealth::default() {
            self.backends.insert(backend.into(), health);
        }
    }

    /// What is watched of a backend.
    pub fn of(&self, backend: &str) -> Option<&BackendHealth> {
        self.backends.get(backend)
    }

    /// The same as the core's monitor wants it.
    pub fn watching(&self, backend: &str) -> Watching {
        self.of(backend).map_or_else(Watching::default, |health| Watching {
            checks: health.checks.as_ref().map(|checks| checks.settings),
            outliers: health.outliers,
        })
    }

    /// How and where a server is checked, if it is.
    pub fn checks(&self, server: &Identity) -> Option<(&Checks, SocketAddr)> {
        let health = self.of(&server.backend)?;
        let checks = health.checks.as_ref()?;
        let own = health.targets.get(&*server.name).copied().unwrap_or_default();
        Some((checks, own.or(checks.target, server.address)))
    }
}

impl BackendHealth {
    /// All of it as text, for content hashes: equal settings give equal texts, on every machine, and what has its
    /// default is left out.
    pub fn content(&self) -> String {
        let mut out = String::new();
        if let Some(checks) = &self.checks {
            out.push_str("checks;");
            write_checks(&mut out, checks);
        }
        if let Some(outliers) = &self.outliers {
            out.push_str("outliers;");
            write_outliers(&mut out, outliers);
        }
        let mut targets: Vec<_> = self.targets.iter().collect();
        targets.sort_by_key(|(name, _)| *name);
        for (name, target) in targets {
            write!(out, "target {name:?} ").expect("writing to a string");
            write_target(&mut out, *target);
        }
        out
    }
}

/// Writes a field unless it has its default.
fn field<T: std::fmt::Debug + PartialEq>(out: &mut String, name: &str, value: &T, default: &T) {
    if value != default {
        write!(out, "{name}={value:?};").expect("writing to a string");
    }
}

fn write_target(out: &mut String, target: Target) {
    let Target { ip, port } = target;
    field(out, "ip", &ip, &None);
    field(out, "port", &port, &None);
}

fn write_checks(out: &mut String, checks: &Checks) {
    let Checks { settings, timeout, probe, target } = checks;
    let CheckSettings { interval, fast_interval, rise, fall, initial } = *settings;
    let default = CheckSettings::default();
    field(out, "interval", &interval, &default.interval);
    field(out, "fast", &fast_interval, &default.fast_interval);
    field(out, "rise", &rise, &default.rise);
    field(out, "fall", &fall, &default.fall);
    field(out, "initial", &initial, &default.initial);
    field(out, "timeout", timeout, &CHECK_TIMEOUT);
    write_target(out, *target);
    match probe {
        Probe::Http(HttpProbe { method, path, host, headers, statuses, body }) => {
            field(out, "method", &method.as_str(), &"GET");
            field(out, "path", &path.as_str(), &"/");
            field(out, "host", host, &None);
            field(out, "headers", headers, &Vec::new());
            field(out, "statuses", &statuses.0, &Statuses::default().0);
            field(out, "body", body, &None);
        }
        Probe::Connect => out.push_str("connect;"),
        Probe::Redis => out.push_str("redis;"),
        Probe::Exchange { send, expect } => {
            field(out, "send", send, &Vec::new());
            field(out, "expect", expect, &Vec::new());
        }
        Probe::Postgres { user } => {
            out.push_str("postgres;");
            field(out, "user", &user.as_str(), &POSTGRES_USER);
        }
    }
}

fn write_outliers(out: &mut String, outliers: &OutlierSettings) {
    let OutlierSettings {
        failures_in_row,
        ratio,
        latency,
        server_errors,
        window,
        ejection_first,
        ejection_max,
        forgive_after,
        ejected_max_percent,
    } = outliers;
    let default = OutlierSettings::default();
    field(out, "failures", failures_in_row, &default.failures_in_row);
    field(out, "ratio", ratio, &default.ratio);
    field(out, "latency", latency, &default.latency);
    field(out, "server_errors", server_errors, &default.server_errors);
    field(out, "window", window, &default.window);
    field(out, "ejection", ejection_first, &default.ejection_first);
    field(out, "ejection_max", ejection_max, &default.ejection_max);
    field(out, "forgive_after", forgive_after, &default.forgive_after);
    field(out, "max_ejected", ejected_max_percent, &default.ejected_max_percent);
}
