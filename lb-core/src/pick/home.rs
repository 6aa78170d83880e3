//! Where keys are at home: consistent hashing over the servers of one kind.

use super::maglev::Table;
use super::rendezvous::Tiers;
use super::{Asked, Bound, Candidate, Member};
use crate::live::STRENGTH_FULL;
use crate::snapshot::ServerIndex;
use crate::spec::Policy;

/// What finds a key's home.
#[derive(Debug, Default)]
pub(super) struct Homes {
    tiers: Tiers,
    /// Only for the policy of this name.
    table: Option<Table>,
}

impl Homes {
    /// Nothing is made where nobody will ask.
    pub(super) fn new<'a, I: Iterator<Item = &'a Candidate>>(
        candidates: impl Fn() -> I,
        policy: Policy,
        is_sticky: bool,
    ) -> Homes {
        Homes {
            tiers: if is_sticky || policy.hashes() { Tiers::new(candidates()) } else { Tiers::default() },
            table: if policy == Policy::Maglev { Table::new(candidates()) } else { None },
        }
    }

    /// The next home of a session that must move.
    pub(super) fn next(&self, hash: u64, asked: &Asked<'_>) -> Option<ServerIndex> {
        let strength = |member: Member| if asked.can_serve(member.server) { STRENGTH_FULL } else { 0 };
        self.tiers.highest(hash, strength)
    }

    /// The server of a key, or its next one with room. If nobody has room (in-flight requests are counted, but not
    /// all at one instant), its own server takes it.
    pub(super) fn pick(&self, hash: u64, asked: &Asked<'_>, bound: Option<Bound>) -> Option<ServerIndex> {
        let strength = |member: Member| asked.strength(member.server);
        let Some(bound) = bound else { return self.find(hash, strength) };
        let if_room = |member: Member| match asked.strength(member.server) {
            0 => 0,
            strength if bound.has_room(asked.live(member.server), member.weight) => strength,
            _ => 0,
        };
        self.find(hash, if_room).or_else(|| self.find(hash, strength))
    }

    fn find(&self, hash: u64, strength: impl Fn(Member) -> u32) -> Option<ServerIndex> {
        let by_table = self.table.as_ref().and_then(|table| table.pick(hash, &strength));
        by_table.or_else(|| self.tiers.highest(hash, strength))
    }
}
