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
use crate::session::{Address, Session, with_address};
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
    pub(crate) hashing: Hashing,
    pub(crate) sticky: Option<Sticky>,
    primaries: Group,
    backups: Group,
}

/// How a backend hashes requests.
#[derive(Debug)]
pub(crate) struct Hashing {
    /// What its policy hashes; `None` if it does not hash. Sessions that must move are hashed all the same.
    pub(crate) key: Option<HashKey>,
    /// Half-made.
    session: Keyed,
    /// Half-made.
    source: Keyed,
}

/// What is known of a request that it can be hashed by. It is hashed only where that is asked for: most requests
/// need none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affinity {
    pub(crate) session: Option<Session>,
    pub(crate) source: Address,
    /// The hash of what else the backend's policy hashes: a header, the path, a query parameter.
    pub(crate) value: u64,
}

impl Hashing {
    /// What a policy without a hash key of its own can be asked for, `key` being what a hashing one hashes.
    pub(crate) fn new(share_key: &SecretKey, key: Option<HashKey>) -> Hashing {
        let hash = |kind: &[u8]| Keyed::new(share_key, Purpose::Affinity).part(kind);
        Hashing { key, session: hash(b"session"), source: hash(b"source") }
    }

    /// The hash of a client's address.
    pub(crate) fn of_source(&self, source: IpAddr) -> u64 {
        with_address(self.source, source).finish() as u64
    }

    /// The hash that picks a server.
    fn of(&self, affinity: &Affinity) -> u64 {
        match (&self.key, affinity.session) {
            (Some(HashKey::Header(_) | HashKey::Path | HashKey::Query(_)), _) => affinity.value,
            // Without a session nothing but the address tells those of one server apart when they must move.
            (Some(HashKey::Source), _) | (_, None) => self.of_source(affinity.source.into()),
            (None | Some(HashKey::Session), Some(session)) => {
                self.session.part(&session.id().to_le_bytes()).finish() as u64
            }
        }
    }
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
    pub(crate) affinity: &'a Affinity,
    pub(crate) sticky: StickySeen,
    /// Where the backend's cursor stands.
    pub(crate) cursor: u32,
    /// Random bits.
    pub(crate) draw: Draw,
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
        hashing: Hashing,
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
        Pool { policy, hashing, sticky, primaries: group(primaries), backups: group(backups) }
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
        let primary = self.pick_of(&self.primaries, reason, asked);
        let (backup, found) = match primary {
            Some(found) => (false, found),
            None => (true, self.pick_of(&self.backups, reason, asked)?),
        };
        Some(Picked { server: found.0, reason, backup, cursor: found.1 })
    }

    /// A server of a group, and where the cursor is to stand afterwards.
    fn pick_of(
        &self,
        group: &Group,
        reason: PickReason,
        asked: &Asked<'_>,
    ) -> Option<(ServerIndex, Option<u32>)> {
        let by_hash = || {
            let server = group.tiers.pick(self.hashing.of(asked.affinity), asked)?;
            Some((server, None))
        };
        match self.policy {
            _ if group.members.is_empty() => None,
            _ if reason == PickReason::Moved => by_hash(),
            Policy::RoundRobin => round_robin::pick(group, asked).map(|(server, next)| (server, Some(next))),
            Policy::LeastRequest => least_request::pick(group, asked).map(|server| (server, None)),
            Policy::Rendezvous => by_hash(),
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
