//! The document's types. Times are in seconds, shares between 0 and 1, moments in seconds of Unix time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::watch::evidence::Verdict;
use crate::watch::{self, Of};

/// What a reader must know; raised when something is renamed or goes. Further keys may come without that.
pub const VERSION: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// [`VERSION`].
    pub version: u32,
    /// When it was made.
    pub at: f64,
    /// The process.
    pub process: Process,
    /// The table in use.
    pub snapshot: Snapshot,
    /// The workers, in their order.
    pub workers: Vec<Worker>,
    /// The listeners, in the order of the file.
    pub listeners: Vec<Listener>,
    /// The routes in the order of the file; first one without a name, for what was refused before it had a route.
    pub routes: Vec<Route>,
    /// The backends, in the order of the file.
    pub backends: Vec<Backend>,
    /// The latest changes, the newest first.
    pub changes: Vec<Change>,
    /// What there was no room for.
    pub omitted: Omitted,
}

/// The process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its version.
    pub version: String,
    /// `io_uring` or `epoll`.
    pub driver: String,
    /// `starting`, `ready` or `draining`.
    pub state: String,
    /// When it started.
    pub started: f64,
}

/// The table in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The hash of its content.
    pub hash: String,
    /// Tables published since the start.
    pub generation: u64,
}

/// A worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Client connections open.
    pub connections: u64,
    /// Client connections that wait for room.
    pub held: u64,
    /// Connections to servers open.
    pub upstream_connections: u64,
    /// Of those, idle.
    pub upstream_idle: u64,
    /// Bytes of buffers in use.
    pub buffer_bytes: u64,
    /// Its exchanges.
    pub lately: Option<Lately>,
}

/// A listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Client connections open.
    pub connections: u64,
    /// Exchanges under way.
    pub exchanges_active: u64,
    /// Connections turned away since the start.
    pub turned_away: u64,
    /// Its exchanges.
    pub lately: Option<Lately>,
}

/// What came within the last seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lately {
    /// How many seconds these are: up to ten.
    pub seconds: f64,
    /// Exchanges or attempts that ended.
    pub count: u64,
    /// The same for each second.
    pub rate: f64,
    /// The share of failures: statuses of 500 and above, and attempts without an answer. None if nothing came.
    pub failures: Option<f64>,
    /// Counts by hundreds of the status, those that came; `0` for none.
    pub statuses: BTreeMap<String, u64>,
    /// Attempts that got no whole answer.
    pub unanswered: u64,
    /// Times as clients saw them, if any are known.
    pub client: Option<Quantiles>,
    /// Times that servers took to the response head, if any are known.
    pub server: Option<Quantiles>,
}

/// Times in seconds, each within 1/17 of what it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// What one in ten exceeds.
    pub p90: f64,
    /// What one in a hundred exceeds.
    pub p99: f64,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Its name; empty for what had no route, and where routes are not told apart.
    pub name: String,
    /// Its arms, the stable one first.
    pub arms: Vec<Arm>,
}

/// An arm of a route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// `stable` or `canary`; empty for a route that answers by itself.
    pub arm: String,
    /// The backend that it leads to; empty if none.
    pub backend: String,
    /// The share of sessions that it is to have; none where there is no other arm.
    pub share_target: Option<f64>,
    /// Since when share and release are what they are, as far as this process knows.
    pub share_since: Option<f64>,
    /// The release of a canary.
    pub release: Option<String>,
    /// The share of the route's exchanges that it has served within the last ten seconds; none if there were none.
    pub share_served: Option<f64>,
    /// The same of the last minute.
    pub share_served_minute: Option<f64>,
    /// Exchanges under way.
    pub exchanges_active: u64,
    /// Its exchanges.
    pub lately: Option<Lately>,
    /// How it compares with its past and with the stable arm, as at `/jumps`.
    pub comparisons: Vec<Comparison>,
}

/// A comparison of an arm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `exchange`, `wait` or `failures`.
    pub of: String,
    /// `before` or `stable`.
    pub against: String,
    /// `unknown`, `calm` or `jumped`.
    pub state: String,
    /// `seconds` or `share`: of the two numbers, which are there unless it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<f64>,
    /// What it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<f64>,
    /// Exchanges that `now` is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchanges: Option<u64>,
    /// Exchanges that `usual` is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_exchanges: Option<u64>,
    /// The quantile that is compared, if times are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// Seconds since it jumped, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_s: Option<u32>,
}

impl Comparison {
    /// As the watch has it.
    pub fn of(it: &watch::Comparison) -> Comparison {
        let (state, numbers) = match it.verdict {
            Verdict::Unknown => ("unknown", None),
            Verdict::Calm(numbers) => ("calm", Some(numbers)),
            Verdict::Jumped(numbers) => ("jumped", Some(numbers)),
        };
        let is_time = it.of != Of::Failures;
        Comparison {
            of: it.of.word().to_owned(),
            against: it.against.word().to_owned(),
            state: state.to_owned(),
            unit: numbers.map(|_| if is_time { "seconds" } else { "share" }.to_owned()),
            now: numbers.map(|it| it.now),
            usual: numbers.map(|it| it.usual),
            exchanges: numbers.map(|it| it.exchanges),
            usual_exchanges: numbers.map(|it| it.usual_exchanges),
            quantile: numbers.filter(|_| is_time).map(|it| it.quantile),
            for_s: it.jumped().then_some(it.seconds),
        }
    }
}

/// A backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Its servers by state: `up`, `down`, `drain`, `maintenance`.
    pub states: BTreeMap<String, u64>,
    /// Attempts under way.
    pub in_flight: u64,
    /// Requests that wait until one of its servers has room.
    #[serde(default)]
    pub waiting: u64,
    /// How many may wait; none if its servers are never full.
    #[serde(default)]
    pub may_wait: Option<u64>,
    /// For how long those waited that have ended waiting within the last seconds; none if there are none.
    #[serde(default)]
    pub waits: Option<Quantiles>,
    /// Exchanges of the arms that lead to it.
    pub exchanges: Option<Lately>,
    /// Attempts at its servers.
    pub attempts: Option<Lately>,
    /// Its servers, in the order of the file.
    pub servers: Vec<Server>,
}

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its address; of a name that stands for none, the name.
    pub address: String,
    /// `ready`, `drain` or `maintenance`, as people have said.
    pub admin: String,
    /// What becomes of it, if it is not `ready`.
    #[serde(default)]
    pub leaving: Option<Leaving>,
    /// `up`, or `down` with the reason, as checks and traffic have shown; `no address` with the reason.
    pub health: String,
    /// Seconds for which connect failures still keep it out of picks; none if they do not.
    pub removed_for_s: Option<f64>,
    /// Its weight in the file.
    pub weight: u32,
    /// Whether it is used only when no other can serve.
    pub backup: bool,
    /// Attempts under way.
    pub in_flight: u64,
    /// How many there may be by all bounds; none: as many as come.
    #[serde(default)]
    pub max_requests: Option<u64>,
    /// Its attempts; none where servers are not told apart.
    pub lately: Option<Lately>,
}

/// A server in drain or in maintenance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// For how many seconds it has been so.
    pub since_s: f64,
    /// When its sessions move; none: never.
    pub until: Option<f64>,
    /// Whether they have.
    pub over: bool,
    /// Seconds for which nothing has been under way; none while something is.
    pub idle_s: Option<f64>,
    /// Seconds after which it was empty: nothing under way, and nobody likely to come; none if it is not.
    pub empty_after_s: Option<f64>,
    /// Requests that it got within the last minutes, `lately_s` seconds.
    pub requests: u64,
    /// See `requests`: up to 300.
    pub lately_s: f64,
}

/// A change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Counted from 1 since the start.
    pub number: u64,
    /// When.
    pub at: f64,
    /// `start`, `reload`, `share`, `health`, `admin`, `jump` or `addresses`.
    pub kind: String,
    /// Whether it is for the worse.
    pub worse: bool,
    /// What has changed.
    pub subject: String,
    /// How.
    pub words: String,
}

/// What there was no room for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omitted {
    /// Routes that are not shown.
    pub routes: u64,
    /// Backends that are not shown.
    pub backends: u64,
    /// Servers of the backends shown that are not.
    pub servers: u64,
    /// Arms that are not watched: of them no numbers of the last seconds are known.
    pub unwatched_arms: u64,
}
