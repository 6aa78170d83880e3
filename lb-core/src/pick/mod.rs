//! Pick: from a backend to a server.
//!
//! Order, always: maintenance and down take nobody; drain and weight 0 take only their own sticky sessions; then
//! stickiness; then the policy, among the primaries of the node's own zone and those of the others as `zones.rs` says;
//! then backups, when no primary can. A server that connections failed to is out for a while, unless the last resort
//! is asked for. Where a backend has failed open (`outlook.rs`), "down" means nothing.

mod affinity;
mod asked;
mod bounded;
mod home;
mod least_request;
mod maglev;
mod outlook;
mod peak_ewma;
mod random;
mod rendezvous;
mod round_robin;
pub(crate) mod sticky;
mod two_choices;
mod zones;

pub(crate) use affinity::{Affinity, Hashing};
pub(crate) use asked::{Asked, Care, Draw};
pub(crate) use bounded::Bound;
pub(crate) use outlook::Lookout;

use crate::decide::PickReason;
use crate::permit::Wants;
use crate::share::Share;
use crate::snapshot::ServerIndex;
use crate::spec::Policy;
use home::Homes;
use round_robin::Order;
use std::time::Duration;
use sticky::{Sticky, StickySeen};

/// What a backend's picks need, compiled.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) policy: Policy,
    pub(crate) hashing: Hashing,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) lookout: Lookout,
    /// How long slow start takes; 0: there is none.
    pub(crate) slow_start_ns: u64,
    pub(crate) wants: Wants,
    /// Whether a server may be full: have as many requests in flight as it may.
    limited: bool,
    /// The primaries of the node's own zone; all primaries where zones do not count.
    near: Group,
    /// Those of other zones.
    far: Group,
    backups: Group,
    /// Where keys are at home: among all primaries, wherever they stand.
    homes: Homes,
    backup_homes: Homes,
}

/// Servers among which weights count. Those of weight 0 are not in it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Box<[Member]>,
    order: Order,
    /// At least 1.
    mean_weight: u32,
}

/// A server that a policy may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) server: ServerIndex,
    pub(crate) weight: u32,
}

/// A server with what compiling knows of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) member: Member,
    pub(crate) backup: bool,
    /// Whether it stands in the node's own zone.
    pub(crate) is_near: bool,
    /// What its name hashes to, for rendezvous hashing.
    pub(crate) seed: u64,
    /// The same, for Maglev's permutation.
    pub(crate) step: u128,
}

/// What a spec says about a backend's picks.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) policy: Policy,
    pub(crate) hashing: Hashing,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) slow_start: Duration,
    pub(crate) max_load_percent: u32,
    pub(crate) fail_open_below: Share,
    pub(crate) spill_below: Share,
    /// Whether a server may be full.
    pub(crate) limited: bool,
    pub(crate) candidates: Vec<Candidate>,
}

/// Which of a backend's groups a server is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    Near,
    Far,
    Backup,
}

impl Rank {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;
}

/// The answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Picked {
    pub(crate) server: ServerIndex,
    pub(crate) reason: PickReason,
    pub(crate) rank: Rank,
    /// What its backend wants to know of the attempt.
    pub(crate) wants: Wants,
    /// Where the cursor of this rank is to stand afterwards, if it moves.
    pub(crate) cursor: Option<u32>,
}

/// A server, and where the cursor is to stand afterwards, in one word, which is handed on in a register.
#[derive(Clone, Copy, Debug)]
struct Found(u64);

impl Found {
    /// No order is so long.
    const NO_CURSOR: u32 = u32::MAX;

    fn new(server: ServerIndex) -> Found {
        Found::in_turn(server, Found::NO_CURSOR)
    }

    fn in_turn(server: ServerIndex, cursor: u32) -> Found {
        Found(u64::from(cursor) << 32 | u64::from(server.0))
    }

    fn server(self) -> ServerIndex {
        ServerIndex(self.0 as u32)
    }

    fn cursor(self) -> Option<u32> {
        Some((self.0 >> 32) as u32).filter(|cursor| *cursor != Found::NO_CURSOR)
    }
}

impl Pool {
    pub(crate) fn new(wanted: Wanted) -> Pool {
        let (policy, candidates) = (wanted.policy, &wanted.candidates);
        // A key has one home, the same on every node: hashing knows no zones.
        let zoned = !policy.hashes() && candidates.iter().any(|it| it.is_near && !it.backup);
        let rank = |it: &Candidate| match (it.backup, zoned && !it.is_near) {
            (true, _) => Rank::Backup,
            (false, true) => Rank::Far,
            (false, false) => Rank::Near,
        };
        let group = |wanted: Rank| {
            let of_rank = candidates.iter().filter(|it| rank(it) == wanted);
            Group::new(of_rank.map(|it| it.member).collect(), policy)
        };
        // Sessions that must move are hashed, whatever the policy.
        let homes = |backup: bool| {
            let of_kind = || candidates.iter().filter(move |it| it.backup == backup);
            Homes::new(of_kind, policy, wanted.sticky.is_some())
        };
        let far = group(Rank::Far);
        let lookout = Lookout::new(&wanted, !far.members.is_empty());
        Pool {
            policy,
            slow_start_ns: wanted.slow_start.as_nanos() as u64,
            wants: Wants { latency: policy == Policy::PeakEwma, count: lookout.is_bounded() },
            limited: wanted.limited,
            lookout,
            near: group(Rank::Near),
            far,
            backups: group(Rank::Backup),
            homes: homes(false),
            backup_homes: homes(true),
            hashing: wanted.hashing,
            sticky: wanted.sticky,
        }
    }

    /// A server for one request; `None` if none of this backend can serve it.
    // Inlined for good, as `Round::ask` is.
    #[inline(always)]
    pub(crate) fn pick(&self, asked: &Asked<'_>) -> Option<Picked> {
        let (reason, (rank, found)) = match asked.sticky {
            StickySeen::Nothing if self.far.members.is_empty() => {
                (PickReason::Policy, self.by_policy(asked)?)
            }
            StickySeen::Nothing => (PickReason::Policy, self.by_zone(asked)?),
            StickySeen::Known { server, .. } if asked.can_keep(server) => {
                (PickReason::Sticky, (Rank::Near, Found::new(server)))
            }
            StickySeen::Known { .. } | StickySeen::Unknown => (PickReason::Moved, self.next_home(asked)?),
        };
        let picked =
            Picked { server: found.server(), reason, rank, wants: self.wants, cursor: found.cursor() };
        Some(if self.limited { self.with_room(asked, picked) } else { picked })
    }

    /// Another server if this one is full. Full is not down: neither backups nor another arm take over, and if all are
    /// full it is this one that is waited for. A sticky session waits for its own.
    #[inline(never)]
    fn with_room(&self, asked: &Asked<'_>, picked: Picked) -> Picked {
        if picked.reason == PickReason::Sticky || asked.live(picked.server).has_room() {
            return picked;
        }
        let asked = Asked { with_room: true, ..asked.clone() };
        let ranks: &[Rank] = match picked.rank {
            Rank::Backup => &[Rank::Backup],
            Rank::Near | Rank::Far => &[Rank::Near, Rank::Far],
        };
        let other = match picked.reason {
            PickReason::Policy => ranks.iter().find_map(|rank| Some((*rank, self.of(*rank, &asked)?))),
            PickReason::Moved | PickReason::Sticky => {
                self.next_home(&asked).filter(|(rank, _)| ranks.contains(rank))
            }
        };
        match other {
            None => picked,
            Some((rank, found)) => Picked { server: found.server(), rank, cursor: found.cursor(), ..picked },
        }
    }

    /// Where a session goes that must leave its server: neither load nor zone nor slow start have a say, or nodes
    /// would not agree.
    fn next_home(&self, asked: &Asked<'_>) -> Option<(Rank, Found)> {
        let hash = self.hashing.of(asked.affinity);
        match self.homes.next(hash, asked) {
            Some(server) => Some((Rank::Near, Found::new(server))),
            None => Some((Rank::Backup, Found::new(self.backup_homes.next(hash, asked)?))),
        }
    }

    #[inline(always)]
    fn by_policy(&self, asked: &Asked<'_>) -> Option<(Rank, Found)> {
        match self.of(Rank::Near, asked) {
            Some(found) => Some((Rank::Near, found)),
            None => Some((Rank::Backup, self.of(Rank::Backup, asked)?)),
        }
    }

    fn by_zone(&self, asked: &Asked<'_>) -> Option<(Rank, Found)> {
        let ranks = if zones::stays(asked) { [Rank::Near, Rank::Far] } else { [Rank::Far, Rank::Near] };
        let ranks = ranks.into_iter().chain([Rank::Backup]);
        ranks.into_iter().find_map(|rank| Some((rank, self.of(rank, asked)?)))
    }

    fn of(&self, rank: Rank, asked: &Asked<'_>) -> Option<Found> {
        let (group, homes) = match rank {
            Rank::Near => (&self.near, &self.homes),
            Rank::Far => (&self.far, &self.homes),
            Rank::Backup => (&self.backups, &self.backup_homes),
        };
        match self.policy {
            _ if group.members.is_empty() => None,
            Policy::RoundRobin => round_robin::pick(group, rank, asked),
            Policy::LeastRequest => least_request::pick(group, asked).map(Found::new),
            Policy::PeakEwma => peak_ewma::pick(group, asked).map(Found::new),
            Policy::Random => random::pick(group, asked).map(Found::new),
            Policy::Maglev | Policy::Rendezvous => {
                // Backups are the last there are: they take what comes.
                let bound = match rank {
                    Rank::Backup => None,
                    Rank::Near | Rank::Far => self.lookout.bound(asked.live, asked.backend, asked.outlook),
                };
                homes.pick(self.hashing.of(asked.affinity), asked, bound).map(Found::new)
            }
        }
    }

    /// All servers that a policy may pick.
    fn members(&self) -> impl Iterator<Item = (Rank, &Member)> {
        let near = self.near.members.iter().map(|member| (Rank::Near, member));
        let far = self.far.members.iter().map(|member| (Rank::Far, member));
        near.chain(far).chain(self.backups.members.iter().map(|member| (Rank::Backup, member)))
    }
}

impl Group {
    fn new(members: Vec<Member>, policy: Policy) -> Group {
        let order = if policy.hashes() { Order::default() } else { Order::new(&members) };
        let weight: u32 = members.iter().map(|member| member.weight).sum();
        let mean_weight = weight.checked_div(members.len() as u32).unwrap_or_default().max(1);
        Group { members: members.into(), order, mean_weight }
    }
}
