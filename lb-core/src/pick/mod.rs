//! Pick: from a backend to a server.
//!
//! Order, always: maintenance and down take nobody; drain and weight 0 take only their own sticky sessions; then
//! stickiness; then the policy; then backups, when no primary can. A server that connections failed to is out for
//! a while, unless the last resort is asked for.

mod least_request;
pub(crate) mod rendezvous;
mod round_robin;
pub(crate) mod sticky;

use crate::decide::PickReason;
use crate::hash::{Keyed, Purpose, SecretKey};
use crate::live::{Live, Now};
use crate::session::with_address;
use crate::snapshot::ServerIndex;
use crate::spec::{HashKey, Policy};
use rendezvous::Tiers;
use round_robin::Order;
use std::net::IpAddr;
use sticky::{Sticky, StickySeen};

/// What a backend's picks need, compiled.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) policy: Policy,
    pub(crate) hash_key: HashKey,
    pub(crate) sticky: Option<Sticky>,
    primaries: Group,
    backups: Group,
}

/// Servers among which weights count. Those of weight 0 are not in it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) members: Box<[Member]>,
    pub(crate) order: Order,
    pub(crate) tiers: Tiers,
}

/// A server that a policy may pick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) server: ServerIndex,
    pub(crate) weight: u32,
    /// The server's part of rendezvous hashing.
    pub(crate) seed: u64,
}

/// How much a server must promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// No connection to it has failed just now.
    Careful,
    /// Whatever is ready and up: all others are out, too.
    LastResort,
}

/// One question for a server.
pub(crate) struct Asked<'a> {
    pub(crate) live: &'a Live,
    pub(crate) now: Now,
    pub(crate) care: Care,
    /// Servers that this exchange has tried.
    pub(crate) tried: &'a [ServerIndex],
    pub(crate) share_key: &'a SecretKey,
    /// What the hashing policies hash.
    pub(crate) affinity: Affinity,
    pub(crate) sticky: StickySeen,
    /// Where the backend's cursor stands.
    pub(crate) cursor: u32,
    /// Random bits.
    pub(crate) draw: Draw,
}

/// What a request is hashed by; hashed only when it is asked for, for most requests do not need it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Affinity {
    /// A value that is hashed already.
    Hash(u64),
    /// A session.
    Session(u128),
    /// A client's address.
    Source(IpAddr),
}

impl Affinity {
    fn hash(self, share_key: &SecretKey) -> u64 {
        let hash = Keyed::new(share_key, Purpose::Affinity);
        let hash = match self {
            Affinity::Hash(hash) => return hash,
            Affinity::Session(id) => hash.part(b"session").part(&id.to_le_bytes()),
            Affinity::Source(address) => with_address(hash.part(b"source"), address),
        };
        hash.finish() as u64
    }
}

/// The answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    pub(crate) server: ServerIndex,
    pub(crate) reason: PickReason,
    pub(crate) backup: bool,
    /// Where the cursor is to stand afterwards, if it moves.
    pub(crate) cursor: Option<u32>,
}

impl Asked<'_> {
    /// Whether a policy may pick this server.
    fn can_serve(&self, server: ServerIndex) -> bool {
        let live = self.live.server(server);
        let serves = match self.care {
            Care::Careful => live.serves_anybody(self.now),
            Care::LastResort => live.is_ready_and_up(),
        };
        serves && !self.tried.contains(&server)
    }

    /// Whether a session may stay with this server.
    fn can_keep(&self, server: ServerIndex) -> bool {
        let live = self.live.server(server);
        let serves = match self.care {
            Care::Careful => live.serves_its_own(self.now),
            Care::LastResort => live.is_open_to_its_own(self.now),
        };
        serves && !self.tried.contains(&server)
    }

    fn in_flight(&self, server: ServerIndex) -> u32 {
        self.live.server(server).in_flight()
    }
}

impl Pool {
    pub(crate) fn new(
        policy: Policy,
        hash_key: HashKey,
        sticky: Option<Sticky>,
        primaries: Vec<Member>,
        backups: Vec<Member>,
    ) -> Pool {
        // Stickiness needs rendezvous hashing for sessions that must move.
        let hashes = sticky.is_some() || policy == Policy::Rendezvous;
        let group = |members: Vec<Member>| Group {
            order: match policy {
                Policy::RoundRobin | Policy::LeastRequest => Order::new(&members),
                _ => Order::default(),
            },
            tiers: if hashes { Tiers::new(&members) } else { Tiers::default() },
            members: members.into(),
        };
        Pool { policy, hash_key, sticky, primaries: group(primaries), backups: group(backups) }
    }

    /// A server for one request; `None` if none of this backend can serve it.
    #[inline]
    pub(crate) fn pick(&self, asked: &Asked<'_>) -> Option<Picked> {
        let reason = match asked.sticky {
            StickySeen::Nothing => PickReason::Policy,
            StickySeen::Known { server, .. } if asked.can_keep(server) => {
                return Some(Picked { server, reason: PickReason::Sticky, backup: false, cursor: None });
            }
            StickySeen::Known { .. } | StickySeen::Unknown => PickReason::Moved,
        };
        let primary = self.primaries.pick(self.policy, reason, asked);
        let (backup, found) = match primary {
            Some(found) => (false, found),
            None => (true, self.backups.pick(self.policy, reason, asked)?),
        };
        Some(Picked { server: found.0, reason, backup, cursor: found.1 })
    }
}

impl Group {
    /// A server, and where the cursor is to stand afterwards.
    fn pick(
        &self,
        policy: Policy,
        reason: PickReason,
        asked: &Asked<'_>,
    ) -> Option<(ServerIndex, Option<u32>)> {
        match policy {
            _ if self.members.is_empty() => None,
            _ if reason == PickReason::Moved => self.tiers.pick(asked).map(|server| (server, None)),
            Policy::RoundRobin => round_robin::pick(self, asked).map(|(server, next)| (server, Some(next))),
            Policy::LeastRequest => least_request::pick(self, asked).map(|server| (server, None)),
            Policy::Rendezvous => self.tiers.pick(asked).map(|server| (server, None)),
            // Compiling refuses the others.
            Policy::PeakEwma | Policy::Random | Policy::Maglev => None,
        }
    }
}

/// Random bits, made longer: splitmix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(random: u128) -> Draw {
        Draw(random as u64 ^ (random >> 64) as u64)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::hash::mix(self.0)
    }

    /// A number below `bound`, each as likely as the others but for one part in 2^32.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}
