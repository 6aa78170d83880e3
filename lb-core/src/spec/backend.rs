//! Backends and servers as they are wanted.

use super::{RetrySpec, Share, TimeoutsSpec};
use crate::defaults::{QUEUE_REQUESTS, QUEUE_TIMEOUT};
use crate::text::nearest;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// A named group of servers with one balancing policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendSpec {
    /// Its name; unique.
    pub name: String,
    /// How a server is chosen.
    pub balance: Policy,
    /// What [`Policy::Rendezvous`] and [`Policy::Maglev`] hash.
    pub hash_key: HashKey,
    /// A cookie that brings a session back to its server.
    pub sticky: Option<StickySpec>,
    /// The servers.
    pub servers: Vec<ServerSpec>,
    /// Timeouts of exchanges with these servers.
    pub timeouts: TimeoutsSpec,
    /// Retries of exchanges with these servers, and their budget.
    pub retry: RetrySpec,
    /// Whether old-fashioned response heads pass, normalised: folded lines, a space before a colon, a repeated
    /// equal Content-Length. Otherwise they are 502.
    pub accept_legacy_responses: bool,
    /// How much a primary may have in flight under a hashing policy, in percent of its part of all by weight; what
    /// is beyond goes to the next server of its key. Absent: as much as comes. See
    /// [`defaults::MAX_LOAD_PERCENT`](crate::defaults::MAX_LOAD_PERCENT) for what may be asked for.
    pub max_load_percent: Option<u32>,
    /// How long a server that came up takes to its full weight; absent: no time.
    pub slow_start: Option<Duration>,
    /// Below this share of ready primaries that are up, health is ignored: whatever made so many look bad is likelier
    /// to be wrong than they. Absent: never.
    pub fail_open_below: Option<Share>,
    /// Below this share of its weight that is up, the node's own zone spills over to the others. Absent:
    /// [`defaults::SPILL_BELOW`](crate::defaults::SPILL_BELOW).
    pub spill_below: Option<Share>,
    /// Where requests wait when all servers that could serve them have as much as they may
    /// ([`ServerSpec::max_requests`], [`ServerSpec::max_connections`]). Absent: as [`QueueSpec::default`] says. Who waits is the caller's to keep: see
    /// ["When servers are full"](crate::guide::policies#when-servers-are-full).
    pub queue: Option<QueueSpec>,
    /// What else is wanted of this backend that the core does not read, such as what its servers are asked to see
    /// whether they are well: in any form, as a part of the content hash, so that snapshots that differ in it differ.
    pub annex: String,
}

/// Where requests wait for a server to have room: bounds for whoever keeps them. The core keeps no queue and no time;
/// see ["When servers are full"](crate::guide::policies#when-servers-are-full).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// How many may wait at a time, in this process: [`QUEUE_REQUESTS`] by default; 0: none waits.
    pub requests: u32,
    /// How long one waits at most: [`QUEUE_TIMEOUT`] by default.
    pub timeout: Duration,
}

impl Default for QueueSpec {
    fn default() -> QueueSpec {
        QueueSpec { requests: QUEUE_REQUESTS, timeout: QUEUE_TIMEOUT }
    }
}

impl BackendSpec {
    /// A backend with these servers, in turn by weight, and all else as by default.
    ///
    /// ```
    /// use lb_core::spec::{BackendSpec, Policy, ServerSpec};
    ///
    /// let backend = BackendSpec {
    ///     balance: Policy::LeastRequest,
    ///     ..BackendSpec::new("app", [ServerSpec::new("a", ([10, 0, 1, 10], 8000).into())])
    /// };
    /// assert_eq!((backend.name.as_str(), backend.servers.len()), ("app", 1));
    /// ```
    pub fn new(name: impl Into<String>, servers: impl IntoIterator<Item = ServerSpec>) -> BackendSpec {
        BackendSpec { name: name.into(), servers: servers.into_iter().collect(), ..BackendSpec::default() }
    }
}

/// How a backend chooses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// In turn, smoothly, by weight (the default).
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight, by weight.
    LeastRequest,
    /// The one with the least latency times requests in flight, by weight.
    PeakEwma,
    /// Any, by weight.
    Random,
    /// Consistent hashing by a table: the same cost however many servers there are, 128 KiB for each backend.
    Maglev,
    /// Consistent hashing by the highest score: the least that can be moves, at some nanoseconds for each server.
    Rendezvous,
}

impl Policy {
    /// All of them, in the order of the documentation.
    pub const ALL: &[Policy] = &[
        Policy::RoundRobin,
        Policy::LeastRequest,
        Policy::PeakEwma,
        Policy::Random,
        Policy::Maglev,
        Policy::Rendezvous,
    ];

    /// The word for it in files and logs.
    pub fn word(self) -> &'static str {
        match self {
            Policy::RoundRobin => "round_robin",
            Policy::LeastRequest => "least_request",
            Policy::PeakEwma => "peak_ewma",
            Policy::Random => "random",
            Policy::Maglev => "maglev",
            Policy::Rendezvous => "rendezvous",
        }
    }

    /// Whether it sends equal keys to the same server.
    pub fn hashes(self) -> bool {
        matches!(self, Policy::Maglev | Policy::Rendezvous)
    }
}

impl fmt::Display for Policy {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyError {
    /// The policy that was probably meant.
    pub meant: Option<&'static str>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of")?;
        for (place, policy) in Policy::ALL.iter().enumerate() {
            write!(f, "{} `{}`", if place == 0 { "" } else { "," }, policy.word())?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyError {}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(word: &str) -> Result<Policy, PolicyError> {
        let mut all = Policy::ALL.iter().copied();
        all.find(|policy| policy.word() == word)
            .ok_or_else(|| PolicyError { meant: nearest(word, Policy::ALL.iter().map(|it| it.word())) })
    }
}

/// What a hashing policy hashes, so that equal ones meet the same server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashKey {
    /// The session (the default): our session cookie, which is set where this is asked for.
    #[default]
    Session,
    /// The client's address.
    Source,
    /// A request header's value; the client's address where it is missing.
    Header(String),
    /// The path, as it is matched.
    Path,
    /// A query parameter's value as received; the client's address where it is missing.
    Query(String),
}

/// Stickiness by a cookie of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StickySpec {
    /// The cookie's name; absent: `lb_` and the backend's name.
    pub cookie: Option<String>,
}

/// One server of a backend: one entry of the list, which may stand for several addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its name; unique in its backend.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// 0 to 256; absent: 1 ([`WEIGHT`](crate::defaults::WEIGHT)). With 0 it serves only its own sticky sessions. Each
    /// address has the whole weight.
    pub weight: Option<u32>,
    /// Used only when no other server of the backend can serve.
    pub backup: bool,
    /// What people have said about it.
    pub admin: Admin,
    /// Where it stands; means something to nodes that know where they stand ([`Spec::zone`](crate::Spec::zone)).
    pub zone: Option<String>,
    /// What else is to be told of it in logs, such as the node and the pod that it is: names and values, at most
    /// [`LABELS_MAX`](crate::defaults::LABELS_MAX).
    pub labels: Vec<(String, String)>,
    /// Requests that it may have in flight at a time, from this process; of an entry that stands for several addresses,
    /// each of them. Absent: as many as come. See
    /// ["When servers are full"](crate::guide::policies#when-servers-are-full).
    pub max_requests: Option<u32>,
    /// Connections that may be open to it at a time, from this process, idle ones included; of an entry that stands for
    /// several addresses, to each of them. Absent: as many as are made. An attempt holds a connection of its own, so it
    /// bounds requests in flight, too; where many share one connection, leave it absent. Making connections is the
    /// caller's: see [`ServerLive::connect`](crate::ServerLive::connect).
    pub max_connections: Option<u32>,
}

impl ServerSpec {
    /// A server at a literal address, and all else as by default.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> ServerSpec {
        ServerSpec { name: name.into(), address: address.into(), ..ServerSpec::default() }
    }
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address that was written down: the server stays the same (to sticky sessions) if it moves.
    Literal(SocketAddr),
    /// The addresses that a name stands for just now: each is a server of its own. May be empty.
    Resolved(Vec<SocketAddr>),
    /// The addresses that a service stands for just now, with what it says about each. Its weights count, not that of the
    /// entry; a backup's targets are all backups. May be empty.
    Service(Vec<Target>),
}

/// One address of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: SocketAddr,
    /// 0 to 256.
    pub weight: u32,
    /// Used only when no other server of the backend can serve.
    pub backup: bool,
}

impl Default for Address {
    /// No address at all.
    fn default() -> Address {
        Address::Resolved(Vec::new())
    }
}

impl From<SocketAddr> for Address {
    /// An address that was written down.
    fn from(address: SocketAddr) -> Address {
        Address::Literal(address)
    }
}

impl Address {
    /// All of them.
    pub fn all(&self) -> impl ExactSizeIterator<Item = SocketAddr> {
        let (addresses, targets) = match self {
            Address::Literal(address) => (std::slice::from_ref(address), &[][..]),
            Address::Resolved(addresses) => (&addresses[..], &[][..]),
            Address::Service(targets) => (&[][..], &targets[..]),
        };
        let count = addresses.len() + targets.len();
        (0..count).map(|at| addresses.get(at).copied().unwrap_or_else(|| targets[at].address))
    }
}

/// The one axis of a server's state that people set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Takes requests (the default).
    #[default]
    Ready,
    /// Takes only its own sticky sessions.
    Drain,
    /// Takes nobody.
    Maintenance,
}

impl Admin {
    /// The word for it in files and logs.
    pub fn word(self) -> &'static str {
        match self {
            Admin::Ready => "ready",
            Admin::Drain => "drain",
            Admin::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Admin {
    /// Writes its word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
