//! Names as addresses, at run time: asked again and again, and what that means for the servers of a table.
//!
//! ```text
//!             due                   answered
//! Names ────────────► Asker ─────────────────────► Names ── changed ──► a new table
//!  └ Name: what the answers say, when to ask next
//!  └ Members: who serves for it: those in the answer, and those that left it and go only when others can
//! ```
//!
//! [`name`], [`members`], [`names`] and [`pace`] are tables of states without clock and sockets; [`ask`] is the only
//! part that waits for the world.

pub(crate) mod ask;
pub(crate) mod members;
pub(crate) mod name;
pub(crate) mod names;
pub(crate) mod pace;
pub(crate) mod service;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Names that may be asked for at most. More is an error of the configuration.
pub const NAMES_MAX: usize = 4_096;

/// Addresses taken of one answer at most; the rest is left out.
pub const ADDRESSES_MAX: usize = 256;

/// Hosts that a service's records may name at most; the rest is left out, that of the highest priority number first.
pub const SERVICE_HOSTS_MAX: usize = 64;

/// Random bits that spread questions over time.
pub(crate) fn random() -> u64 {
    // Without any, all are asked a little more together.
    getrandom::u64().unwrap_or_default()
}

/// What a name is asked for. Entries that ask the same share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Question {
    /// The name, in lower case.
    pub name: String,
    /// What is wanted of it.
    pub kind: Kind,
}

/// What is wanted of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Its addresses: A and AAAA records.
    Addresses,
    /// The servers of a service (RFC 2782): SRV records, and the addresses of the hosts in them.
    Service,
}

impl Kind {
    /// Its word where names are shown.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Addresses => "addresses",
            Kind::Service => "service",
        }
    }
}

/// One of the addresses that a name stands for. Its address tells it from others; port 0 where the name has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The address.
    pub address: SocketAddr,
    /// Of a service's record: lower ones are used first.
    pub priority: u16,
    /// Of a service's record: the part of the load among those of its priority.
    pub weight: u16,
}

impl Target {
    /// An address without a record of a service.
    pub(crate) fn plain(address: IpAddr) -> Target {
        Target { address: SocketAddr::new(address, 0), priority: 0, weight: 0 }
    }
}

/// A good answer: it names at least one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The addresses, in the order of the records.
    pub targets: Vec<Target>,
    /// How long it may be relied on, as the records say.
    pub ttl: Duration,
    /// What could not be found out, though the rest could.
    pub gap: Option<Gap>,
}

/// A part of the question that has no answer: known addresses of that part are not seen as gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Which part.
    pub part: Part,
    /// Why.
    pub failure: Failure,
}

/// A part of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Some of a service's hosts: nobody can tell which addresses they had.
    Hosts,
}

impl Part {
    /// Whether this address may be of that part.
    pub(crate) fn covers(self, target: &Target) -> bool {
        match self {
            Part::Ipv4 => target.address.is_ipv4(),
            Part::Ipv6 => target.address.is_ipv6(),
            Part::Hosts => true,
        }
    }
}

/// Why there is no answer that says anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The name does not exist.
    NoName,
    /// The name exists, and has no addresses that can be used.
    Empty,
    /// The name server refuses to answer.
    Refused,
    /// The name server could not find out.
    ServerFailed,
    /// The name server says something else is wrong.
    Code(String),
    /// No answer in time.
    Timeout,
    /// What came cannot be read.
    Malformed,
    /// The name server cannot be reached, or there is none.
    Unreachable(String),
}

impl Failure {
    /// Labels of the results of asking, a good one first.
    pub(crate) const RESULTS: [&'static str; 9] = [
        "answer",
        "no_name",
        "empty",
        "refused",
        "server_failed",
        "code",
        "timeout",
        "malformed",
        "unreachable",
    ];

    /// Its place in [`Failure::RESULTS`].
    pub(crate) fn place(&self) -> usize {
        match self {
            Failure::NoName => 1,
            Failure::Empty => 2,
            Failure::Refused => 3,
            Failure::ServerFailed => 4,
            Failure::Code(_) => 5,
            Failure::Timeout => 6,
            Failure::Malformed => 7,
            Failure::Unreachable(_) => 8,
        }
    }

    /// Its word for metrics and scripts.
    pub(crate) fn word(&self) -> &'static str {
        Failure::RESULTS[self.place()]
    }

    /// Whether the name server knows that there is nothing, rather than failing to tell.
    pub(crate) fn says_there_is_nothing(&self) -> bool {
        matches!(self, Failure::NoName | Failure::Empty)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoName => f.write_str("there is no such name (NXDOMAIN)"),
            Failure::Empty => f.write_str("the answer has no addresses"),
            Failure::Refused => f.write_str("the name server refused to answer (REFUSED)"),
            Failure::ServerFailed => f.write_str("the name server failed (SERVFAIL)"),
            Failure::Code(code) => write!(f, "the name server answered: {code}"),
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::Malformed => f.write_str("the answer cannot be read"),
            Failure::Unreachable(why) => write!(f, "no name server can be asked: {why}"),
        }
    }
}
