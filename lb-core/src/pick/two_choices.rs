//! The server with the least load for its weight: of all if they are few, else of two. What a load is the policy says.

use super::random::{self, Lot};
use super::{Asked, Draw, Group, Member};
use crate::live::ServerLive;
use crate::snapshot::ServerIndex;
use std::cmp::Ordering;

/// Up to this many servers all are compared; above, two drawn by weight are (Mitzenmacher, "The power of two
/// choices in randomized load balancing", 2001): nearly as even, and reads two shared counters instead of all.
const SERVERS_COMPARED_MAX: usize = 4;

/// `load` is asked of a server's live state and its weight, in units of its strength.
pub(super) fn pick(
    group: &Group,
    asked: &Asked<'_>,
    load: impl Fn(&ServerLive, u32) -> Load,
) -> Option<ServerIndex> {
    let mut draw = asked.draw;
    if group.members.len() > SERVERS_COMPARED_MAX
        && let Some(server) = of_two(group, asked, &load, &mut draw)
    {
        return Some(server);
    }
    of_all(group, asked, &load, &mut draw)
}

/// The least loaded of two that were drawn by weight; an even match is the first one's. `None` if no draw met
/// a server that can serve.
fn of_two(
    group: &Group,
    asked: &Asked<'_>,
    load: impl Fn(&ServerLive, u32) -> Load,
    draw: &mut Draw,
) -> Option<ServerIndex> {
    let first = random::one(group, asked, draw, None)?;
    let Some(second) = random::one(group, asked, draw, Some(first)) else { return Some(first.server) };
    let measure = |it: &Member| load(asked.live(it.server), it.weight * asked.strength(it.server));
    let second_is_less = measure(second).compare(&measure(first)) == Ordering::Less;
    Some(if second_is_less { second.server } else { first.server })
}

/// The least loaded of all. Among equally loaded ones weight decides by lot, so that an idle backend is used as
/// its weights say and not from its top.
fn of_all(
    group: &Group,
    asked: &Asked<'_>,
    load: impl Fn(&ServerLive, u32) -> Load,
    draw: &mut Draw,
) -> Option<ServerIndex> {
    let mut best: Option<(Load, ServerIndex)> = None;
    let mut lot = Lot::default();
    for member in &group.members {
        let weight = member.weight * asked.strength(member.server);
        if weight == 0 {
            continue;
        }
        let measured = load(asked.live(member.server), weight);
        match best.as_ref().map(|(best, _)| measured.compare(best)) {
            Some(Ordering::Greater) => continue,
            Some(Ordering::Equal) => {}
            None | Some(Ordering::Less) => lot = Lot::default(),
        }
        if lot.falls_on(weight, draw) {
            best = Some((measured, member.server));
        }
    }
    best.map(|(_, server)| server)
}

/// A load, and the weight that carries it.
pub(super) struct Load {
    /// Less than 2^104, so that it can be multiplied by a weight.
    pub(super) load: u128,
    /// In units of the server's strength.
    pub(super) weight: u32,
}

impl Load {
    fn compare(&self, other: &Load) -> Ordering {
        let cross = |one: &Load, other: &Load| one.load * u128::from(other.weight);
        cross(self, other).cmp(&cross(other, self))
    }
}
